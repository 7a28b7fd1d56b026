"""Unusual input gives the right result; bad input an error with the cure."""

import pickle
import re
import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn
from settings import plain_classifier
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import AgglomerativeClustering, Birch, KMeans
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.utils.fixes import parse_version

from skimprint import ImprintClassifier, Rejection
from skimprint.aggregation import Votes
from skimprint.generation import (
    GENERATORS,
    FarthestPointProxies,
    KMeansProxies,
    KMedoidsProxies,
    LeastSquaresProxies,
)
from skimprint.methods import METHODS

# Whose releases see the names in frames that have dropped the interchange protocol.
SEES_POLARS = parse_version("1.9")

every_generator = pytest.mark.parametrize("generator", sorted(GENERATORS))


METHODS_OF_QUERIES = [
    "predict",
    "predict_proba",
    "decision_function",
    "score_samples",
    "explain",
    "kproxies",
]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 10)
    return rng.normal(size=(30, 5)) + 3 * np.eye(5)[y], y


def fit(X, y, generator="kmeans", n_proxies=3, **params):
    clf = plain_classifier(generator, n_proxies, random_state=0, **params)
    return clf.fit(X, y)


class TestUnusualInput:
    @every_generator
    def test_one_class(self, generator):
        X = np.random.default_rng(0).normal(size=(6, 4))
        clf = fit(X, ["only"] * 6, generator)
        np.testing.assert_array_equal(clf.predict(X), ["only"] * 6)
        np.testing.assert_array_equal(clf.predict_proba(X), np.ones((6, 1)))

    @every_generator
    def test_one_sample(self, generator):
        clf = fit([[3.0, 4.0]], [1], generator)
        assert clf.proxies_.shape == (1, 2)
        np.testing.assert_array_equal(clf.predict([[1.0, 1.0]]), [1])

    @every_generator
    def test_a_class_of_one_sample_is_that_sample(self, data, generator):
        X, y = data
        X, y = np.concatenate([X, [[0.0, 0, 0, 0, 9]]]), np.append(y, 7)
        clf = fit(X, y, generator)
        assert clf.proxy_labels_[-1] == 7
        assert clf.proxy_indices_[-1] == 30
        if generator != "least_squares":
            np.testing.assert_array_equal(clf.proxies_[-1], [0, 0, 0, 0, 1])
        np.testing.assert_array_equal(clf.predict(X[-1:]), [7])

    @pytest.mark.parametrize(
        "generator", ["kmeans", "kmedoids", "fps", "cov_max", "random"]
    )
    def test_more_proxies_than_samples_keeps_the_samples(self, data, generator):
        X, y = data
        clf = fit(X, y, generator, n_proxies=10**20, support_norm=None, proxy_norm=None)
        np.testing.assert_array_equal(clf.proxies_, X)
        np.testing.assert_array_equal(clf.proxy_indices_, np.arange(30))

    @every_generator
    def test_fewer_distinct_points_than_proxies(self, generator):
        X = np.repeat([[1.0, 0, 0], [0.5, 0.5, 0], [0, 0, 1.0]], 8, axis=0)
        y = np.repeat([0, 0, 1], 8)
        clf = fit(X, y, generator, n_proxies=5)
        assert np.isfinite(clf.proxies_).all()
        np.testing.assert_array_equal(clf.predict(X), y)

    @every_generator
    def test_zero_vectors(self, data, generator):
        X, y = data
        X = X.copy()
        X[::5] = 0
        clf = fit(X, y, generator)
        assert np.isfinite(clf.proxies_).all()
        assert np.isfinite(clf.predict_proba(np.zeros((2, 5)))).all()

    @pytest.mark.parametrize(
        "metric", ["cosine", "euclidean", "mahalanobis", "manhattan"]
    )
    def test_zero_queries(self, data, metric):
        clf = fit(*data, metric=metric)
        assert np.isfinite(clf.decision_function(np.zeros((2, 5)))).all()

    @pytest.mark.parametrize("whitening", [None, 0.3])
    @every_generator
    def test_negative_zeros_are_zeros(self, data, generator, whitening):
        rng = np.random.default_rng(0)
        X, y = data
        X = (X * (rng.random(X.shape) < 0.5))[[*range(15)] * 2]  # each row twice
        y = y[[*range(15)] * 2]
        signed = np.where(X == 0, np.copysign(0.0, rng.normal(size=X.shape)), X)
        calibrates = {"temperature": "auto", "rejection": Rejection(-1, rate=0.3)}
        params = {} if generator == "least_squares" else calibrates
        clf, same = (
            fit(rows, y, generator, whitening=whitening, **params)
            for rows in (X, signed)
        )
        np.testing.assert_array_equal(same.proxies_, clf.proxies_)
        assert same.temperature_ == clf.temperature_
        if params:
            assert same.rejection_threshold_ == clf.rejection_threshold_

    @every_generator
    def test_constant_features(self, data, generator):
        X, y = data
        X = np.column_stack([X, np.ones(30), np.zeros(30)])
        clf = fit(X, y, generator, metric="mahalanobis")
        assert clf.score(X, y) > 0.8

    @every_generator
    @pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "float16", "bool"])
    def test_dtypes(self, data, generator, dtype):
        X, y = data
        X = np.clip(10 * X, 0, 100).astype(dtype)
        clf = fit(X, y, generator)
        expected = np.float32 if dtype == "float16" else np.float64
        assert clf.proxies_.dtype == clf.decision_function(X).dtype == expected
        exact = fit(X.astype(expected), y, generator)
        np.testing.assert_array_equal(clf.proxies_, exact.proxies_)
        np.testing.assert_array_equal(
            clf.decision_function(X), exact.decision_function(X.astype(expected))
        )

    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    @pytest.mark.parametrize("make", [np.array, list], ids=lambda make: make.__name__)
    def test_byte_orders(self, data, dtype, make):
        X, y = data
        X = X.astype(dtype)
        swapped = X.astype(X.dtype.newbyteorder())
        labels = y.astype(y.dtype.newbyteorder())
        clf, same = fit(X, y), fit(make(swapped), labels)
        assert clf.proxies_.dtype == same.proxies_.dtype
        assert clf.classes_.dtype == same.classes_.dtype
        expected, found = clf.predict_proba(X), same.predict_proba(make(swapped))
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)

    @every_generator
    def test_memory_layouts(self, data, generator, tmp_path):
        X, y = data
        expected = fit(X, y, generator).predict_proba(X)
        mapped = np.memmap(tmp_path / "X", dtype=X.dtype, mode="w+", shape=X.shape)
        mapped[:] = X
        mapped.flush()
        read_only = np.memmap(tmp_path / "X", dtype=X.dtype, mode="r", shape=X.shape)
        wide = np.zeros((60, 10))
        wide[::2, ::2] = X
        for same in [read_only, wide[::2, ::2], np.asfortranarray(X), X[::-1][::-1]]:
            np.testing.assert_allclose(
                fit(same, y, generator).predict_proba(same), expected, rtol=1e-12
            )

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_frames(self, data, library):
        frames = pytest.importorskip(library, reason=f"needs {library}")
        X, y = data
        columns = [f"x{i}" for i in range(5)]
        frame = frames.DataFrame({c: X[:, i] for i, c in enumerate(columns)})
        labels = frames.Series("label", y) if library == "polars" else frames.Series(y)
        clf = fit(frame, labels)
        if library == "pandas" or parse_version(sklearn.__version__) >= SEES_POLARS:
            np.testing.assert_array_equal(clf.feature_names_in_, columns)
        np.testing.assert_array_equal(clf.predict(frame), fit(X, y).predict(X))

    @pytest.mark.parametrize(
        "library, make",
        [
            ("polars", lambda pl, X: pl.Series(X, dtype=pl.Array(pl.Float64, 5))),
            ("polars", lambda pl, X: pl.Series(X, dtype=pl.List(pl.Float64))),
            ("pandas", lambda pd, X: pd.Series(X)),
            ("pandas", lambda pd, X: pd.Series(list(np.array(X)))),
            ("pyarrow", lambda pa, X: pa.array(X)),
            ("pyarrow", lambda pa, X: pa.chunked_array([X[:7], X[7:]])),
        ],
    )
    def test_a_series_of_rows(self, data, library, make):
        library = pytest.importorskip(library, reason=f"needs {library}")
        X, y = data
        series = make(library, X.tolist())
        clf = fit(series, y)
        assert clf.n_features_in_ == 5
        np.testing.assert_array_equal(clf.predict(series), fit(X, y).predict(X))
        clf.partial_fit(series, y)
        with pytest.raises(ValueError, match="X has 3 features, but"):
            clf.predict(X[:, :3])

    def test_a_series_of_rows_of_different_lengths(self, data):
        pandas = pytest.importorskip("pandas", reason="needs pandas")
        X, y = data
        with pytest.raises(ValueError, match="embeddings of the same length"):
            fit(X, y).predict(pandas.Series([*X.tolist(), *X[:, :3].tolist()]))

    @pytest.mark.parametrize(
        "labels",
        [
            ["cat", "dog", "mouse"],
            [-5, 0, 3],
            np.array(["a", "b", "c"], dtype=object),
            [0.0, 1.0, 2.0],
            [2**40, 2**41, 2**42],
        ],
    )
    def test_labels(self, data, labels):
        X, y = data
        labels = np.asarray(labels)
        clf = fit(X, labels[y])
        predicted = clf.predict(X)
        assert predicted.dtype == labels.dtype
        assert np.mean(predicted == labels[y]) > 0.8

    def test_one_shot_of_many_classes_warns_of_nothing(self):
        X = np.random.default_rng(0).normal(size=(40, 3))
        clf = fit(X, np.arange(40))
        np.testing.assert_array_equal(clf.predict(X), np.arange(40))

    def test_bool_labels(self, data):
        X, y = data
        clf = fit(X, y == 1)
        np.testing.assert_array_equal(clf.classes_, [False, True])
        assert clf.predict(X).dtype == bool

    def test_a_column_of_labels_warns_as_scikit_learn_does(self, data):
        X, y = data
        with pytest.warns(UserWarning, match="column-vector"):
            clf = fit(X, y[:, None])
        with pytest.warns(UserWarning, match="column-vector"):
            of_column = clf.assign_proxies(X, y[:, None])
        np.testing.assert_array_equal(of_column, clf.assign_proxies(X, y))
        with pytest.warns(UserWarning, match="column-vector"):
            assert clf.explain(X, y=y[:, None]).label.tolist() == y.tolist()
        with pytest.raises(ValueError, match=r"got an array of shape \(1, 30\)"):
            clf.assign_proxies(X, y[None])

    def test_more_neighbors_than_proxies(self, data):
        with pytest.warns(
            UserWarning, match="n_neighbors=50 is more than the 9 proxies"
        ):
            clf = fit(*data, aggregation=Votes(50))
        assert clf.score(*data) > 0.8, "ties go to the nearest, not to the first class"

    def test_empty_queries_are_refused(self, data):
        with pytest.raises(ValueError, match="0 sample"):
            fit(*data).predict(np.empty((0, 5)))


class TestBadInput:
    @pytest.mark.parametrize("value, name", [(np.nan, "NaN"), (np.inf, "infinity")])
    def test_errors_name_the_rows_that_are_not_finite(self, data, value, name):
        X, y = data[0].copy(), data[1]
        X[[3, 17], 2] = value
        clf = plain_classifier("mean").fit(*data)
        message = rf"^X contains {name}: rows \[3, 17\] have NaN or infinity\. Imprint"
        for method in (clf.predict, clf.score_samples, clf.kproxies, clf.explain):
            with pytest.raises(ValueError, match=message):
                method(X)
        for method in (clf.fit, clf.partial_fit):
            with pytest.raises(ValueError, match=message):
                method(X, y)
        weights = np.ones(30)
        weights[5] = value
        with pytest.raises(ValueError, match=r"sample_weight contains .*rows \[5\]"):
            clf.fit(*data, sample_weight=weights)
        labels = y.astype(float)
        labels[7] = value
        with pytest.raises(ValueError, match=r"y contains .*rows \[7\]"):
            clf.fit(data[0], labels)
        with pytest.raises(
            ValueError, match=r"rows \[0, .*, 9, \.\.\. \(30 in all\)\]"
        ):
            clf.predict(np.full((30, 5), value))

    @pytest.mark.parametrize("dtype", [object, "string", "category"])
    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    def test_errors_name_the_rows_without_a_label(self, data, dtype, method):
        pandas = pytest.importorskip("pandas", reason="needs pandas")
        names = np.array(["a", "b", "c"])[data[1]]
        y = pandas.Series(names).astype(dtype)
        y[[4, 29]] = np.nan
        clf = plain_classifier("mean").fit(data[0], names)
        with pytest.raises(
            ValueError, match=r"y contains NaN: rows \[4, 29\] have no v"
        ):
            getattr(clf, method)(data[0], y)

    @pytest.mark.parametrize(
        "labels, types",
        [
            ([None, "a"], "NoneType and str"),
            (["a", None], "NoneType and str"),
            ([1, "a"], "int and str"),
            (["a", 1], "int and str"),
            ([{}], "dict"),
        ],
    )
    def test_objects_that_are_no_labels(self, data, labels, types):
        y = np.empty(30, dtype=object)
        y[:] = (labels * 30)[:30]
        with pytest.raises(ValueError, match=f"objects of type {types}. Leave out"):
            fit(data[0], y)

    @pytest.mark.parametrize("label", ["a\0", "\0", "b\0\0"], ids=ascii)
    def test_labels_that_numpy_takes_for_others(self, data, label):
        """In an array of text they are the others; so would `forget` have them."""
        X, y = data[0], np.array(["a", "b", label] * 10, object)
        clf = fit(X, np.array(["a", "b"] * 15, object))
        for learn in (clf.fit, clf.partial_fit):
            with pytest.raises(ValueError, match="must not end with a NUL"):
                learn(X, y)
        with pytest.raises(ValueError, match="must not end with a NUL"):
            ImprintClassifier.from_head(X[:3], y[:3])
        assert clf.classes_.tolist() == ["a", "b"]
        assert fit(X, y.astype(str)).forget(label).predict(X).dtype.kind == "U"

    def test_text_in_place_of_embeddings(self, data):
        X, y = data
        table = X.astype(object)
        table[3, 2] = "three"
        clf = plain_classifier("mean").fit(X, y)
        message = "X must be embeddings, .*'{}'. Leave out .*FoundationEmbedder"
        for queries, word in ((table, "three"), (["one", "two"], "one")):
            labels = y[: len(queries)]
            with pytest.raises(ValueError, match=message.format(word)):
                clf.predict(queries)
            for method in (clf.fit, clf.partial_fit):
                with pytest.raises(ValueError, match=message.format(word)):
                    method(queries, labels)
        with pytest.raises(ValueError, match=r"^could not convert string"):
            clf.fit(X, y, sample_weight=["heavy"] * 30)

    def test_sequences_in_place_of_numbers(self, data):
        X, y = data
        column = np.empty(30, dtype=object)
        column[:] = list(X)
        clf = plain_classifier("mean").fit(np.stack(column), y)
        for queries in (column, column[:, None], [*X[:29], X[29, :2]]):
            for method in (lambda X, y: clf.predict(X), clf.fit):
                with pytest.raises(ValueError, match=r"of rows, pass np.stack\("):
                    method(queries, y)
        pd = pytest.importorskip("pandas", reason="needs pandas")
        frame = pd.DataFrame({"embedding": list(X), "label": y})
        assert clf.fit(frame["embedding"], y).n_features_in_ == X.shape[1]
        for of_frame in (frame, frame[["embedding"]]):
            with pytest.raises(ValueError, match=r"alone: frame\['embedding'\]"):
                clf.fit(of_frame, y)
        with pytest.raises(ValueError, match=r"^setting an array element"):
            clf.fit(X, [[label] for label in y[:29]] + [[0, 1]])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_not_finite(self, data, value):
        X, y = data
        broken = X.copy()
        broken[3, 2] = value
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            fit(broken, y)
        clf = fit(X, y)
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            clf.predict(broken)

    def test_sparse(self, data):
        X, y = data
        with pytest.raises(TypeError, match=r"[Ss]parse data was passed"):
            fit(scipy.sparse.csr_array(X), y)

    def test_wrong_number_of_features(self, data):
        clf = fit(*data)
        for method in ("predict", "predict_proba", "decision_function", "kproxies"):
            with pytest.raises(ValueError, match="expecting 5 features"):
                getattr(clf, method)(np.ones((2, 4)))

    def test_not_fitted(self):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            plain_classifier().predict([[1.0]])

    def test_continuous_labels(self, data):
        X, _ = data
        with pytest.raises(ValueError, match="Unknown label type"):
            fit(X, np.linspace(0, 1, 30))

    @pytest.mark.parametrize(
        "parameter, value",
        [
            ("n_proxies", 0),
            ("n_proxies", 2.5),
            ("n_proxies", "many"),
            ("support_norm", "l1"),
            ("proxy_norm", "none"),
            ("query_norm", "quantile"),
            ("aggregation", "mean"),
            ("metric", "euclid"),
            ("whitening", 1.1),
            ("whitening", "some"),
            ("mean_weight", -1),
            ("kernel_weight", "auto"),
            ("head", [[1.0]]),
            ("temperature", 0),
            ("rejection", -1),
            ("random_state", "seed"),
            ("n_jobs", 1.5),
            ("verbose", "loud"),
        ],
    )
    def test_parameters(self, data, parameter, value):
        message = rf"'{parameter}' parameter .*Got {re.escape(repr(value))}"
        with pytest.raises(ValueError, match=message):
            plain_classifier(**{parameter: value}).fit(*data)

    @pytest.mark.parametrize(
        "generator, message",
        [
            (KMeansProxies(n_init=0), "'n_init' parameter of KMeansProxies"),
            (KMeansProxies(tol=-1), "'tol' parameter of KMeansProxies"),
            (KMedoidsProxies(init="random"), "'init' parameter of KMedoidsProxies"),
            (LeastSquaresProxies(alpha=0), "'alpha' parameter of LeastSquaresProxies"),
            (
                LeastSquaresProxies(prior="n"),
                "'prior' parameter of LeastSquaresProxies",
            ),
            (FarthestPointProxies("mean"), "'start' parameter of FarthestPointProxies"),
        ],
    )
    def test_parameters_of_components(self, data, generator, message):
        with pytest.raises(ValueError, match=message):
            fit(*data, generator)

    @pytest.mark.parametrize(
        "votes, message",
        [
            (Votes(0), "'n_neighbors' parameter of Votes"),
            (Votes(1.5), "'n_neighbors' parameter of Votes"),
            (Votes(weights="inverse"), "'weights' parameter of Votes"),
        ],
        ids=str,
    )
    def test_parameters_of_votes(self, data, votes, message):
        with pytest.raises(ValueError, match=message):
            fit(*data, aggregation=votes)

    @pytest.mark.parametrize(
        "parameter, cls",
        [
            ("aggregation", Votes),
            ("metric", Birch),
            ("support_norm", Birch),
            ("proxy_norm", Birch),
            ("query_norm", Birch),
        ],
    )
    def test_a_class_in_place_of_an_instance(self, data, parameter, cls):
        name = cls.__name__
        message = rf"got the class {name}. Write {parameter}={name}\(\)"
        with pytest.raises(TypeError, match=message):
            fit(*data, **{parameter: cls})

    @pytest.mark.parametrize(
        "generator, error, message",
        [
            (
                "k-means",
                ValueError,
                r"generator must be one of \['all', .*got 'k-means'",
            ),
            (7, ValueError, "generator must be one of .*got 7"),
            (KMeans, TypeError, r"got the class KMeans. Write generator=KMeans\(\)"),
            (KMeansProxies, TypeError, r"Write generator=KMeansProxies\(\)"),
            (AgglomerativeClustering(), TypeError, "cluster_centers_.*has none"),
            (Birch(), TypeError, "cluster_centers_.*has none"),
            (plain_classifier(), TypeError, "parameter n_clusters.*Use a clusterer"),
            (
                lambda X_c, k, seed: X_c[0],
                ValueError,
                r"shape \(n_proxies, 5\).*\(5,\)",
            ),
            (lambda X_c, k, seed: X_c[:, :2], ValueError, r"shape .*got \(10, 2\)"),
            (lambda X_c, k, seed: X_c[:0], ValueError, r"shape .*got \(0, 5\)"),
            (
                lambda X_c, k, seed: X_c * np.nan,
                ValueError,
                "<lambda> must return finite",
            ),
            (lambda X_c, k, seed: (X_c, k), ValueError, "array of numbers .*tuple"),
        ],
    )
    def test_generators(self, data, generator, error, message):
        with pytest.raises(error, match=message):
            fit(*data, generator)

    def test_callables_of_the_wrong_shape(self, data):
        with pytest.raises(ValueError, match=r"support_norm must return .*\(30, 2\)"):
            fit(*data, support_norm=lambda X: X[:, :2])
        with pytest.raises(ValueError, match=r"proxy_norm must return .*\(2, 5\)"):
            fit(*data, proxy_norm=lambda X: X[:2])
        clf = fit(*data, aggregation=lambda similarities, proxy_classes: similarities)
        with pytest.raises(
            ValueError, match=r"aggregation must return .*\(30, 3\); got \(30, 9\)"
        ):
            clf.predict(data[0])
        clf = fit(*data, metric=lambda queries, proxies: queries)
        with pytest.raises(
            ValueError, match=r"metric must return .*\(30, 9\); got \(30, 5\)"
        ):
            clf.predict(data[0])

    def test_a_metric_cannot_write_on_proxies(self, data):
        def writes(queries, proxies):
            proxies *= 2
            return queries @ proxies.T

        clf = fit(*data, metric=writes)
        before = clf.proxies_.copy()
        with pytest.raises(ValueError, match="read-only"):
            clf.predict(data[0])
        np.testing.assert_array_equal(clf.proxies_, before)

    @pytest.mark.parametrize("writeable", [True, False])
    def test_what_a_metric_returns_stays_as_it_is(self, data, writeable):
        """Such as a cache of the user's, or a view of another library's array."""
        found = {}

        def products(queries, proxies):
            key = queries.tobytes(), proxies.tobytes()
            if key not in found:
                found[key] = queries @ proxies.T
                found[key].flags.writeable = writeable
            return found[key]

        clf = fit(*data, metric=products, temperature="auto")
        assert clf.temperature_ > 0
        for queries, proxies in found:
            rows = [np.frombuffer(each).reshape(-1, 5) for each in (queries, proxies)]
            expected = rows[0] @ rows[1].T
            np.testing.assert_array_equal(found[queries, proxies], expected)

    def test_a_metric_that_is_a_function_is_no_distance_and_no_product(self, data):
        def products(queries, proxies):
            return queries @ proxies.T

        with pytest.raises(ValueError, match=r"metric='products\(\)' is not"):
            fit(*data, metric=products, aggregation=Votes(3, "distance"))
        with pytest.raises(ValueError, match="kernel_weight needs similarities"):
            fit(*data, metric=products, kernel_weight=0.5)

    def test_callables_that_return_nan(self, data):
        def nan(X, *_):
            return X * np.nan

        for name in ("support_norm", "proxy_norm"):
            with pytest.raises(ValueError, match=f"{name} must return finite values"):
                fit(*data, **{name: nan})
        for name in ("query_norm", "aggregation"):
            clf = fit(*data, n_proxies=1, **{name: nan})
            with pytest.raises(ValueError, match=f"{name} must return finite values"):
                clf.predict(data[0])
        clf = fit(*data, n_proxies=1, metric=lambda X, P: X @ P.T * np.nan)
        with pytest.raises(ValueError, match="metric must return finite values"):
            clf.predict(data[0])

    def test_bad_parameters_of_a_clusterer_are_named(self, data):
        with pytest.raises(ValueError, match="'init' parameter of KMeans"):
            fit(*data, KMeans(init="foo"))

    @pytest.mark.parametrize(
        "parameter, value, method",
        [
            ("temperature", 0, "predict_proba"),
            ("rejection", "some", "predict"),
            ("rejection", Rejection, "score_samples"),
        ],
    )
    def test_parameters_set_after_fit(self, data, parameter, value, method):
        clf = fit(*data).set_params(**{parameter: value})
        with pytest.raises(ValueError, match=f"'{parameter}' parameter"):
            getattr(clf, method)(data[0])

    @pytest.mark.parametrize(
        "n_proxies, message",
        [
            ({0: 2, 1: 3}, r"it has none for \[2\] \(its keys are \[0, 1\]\)"),
            ({0: 2, 1: 3, 2: 0}, "at least 1; got 0 for 2"),
            ({0: 2, 1: 3, 2: 1.5}, "at least 1; got 1.5 for 2"),
        ],
    )
    def test_n_proxies_of_labels(self, data, n_proxies, message):
        with pytest.raises(ValueError, match=message):
            fit(*data, n_proxies=n_proxies)

    def test_weights_by_distance_need_a_distance(self, data):
        with pytest.raises(
            ValueError, match=r"metric='dot' is not. Use metric='cosine'"
        ):
            fit(*data, aggregation=Votes(weights="distance"))

    def test_the_covariance_exists_only_with_its_metric(self, data):
        X, y = data
        clf = fit(X, y, metric="mahalanobis")
        assert clf.covariance_.shape == (5, 5)
        with pytest.raises(AttributeError, match="and not in a compact classifier"):
            clf.compact().covariance_  # noqa: B018
        clf.set_params(metric="dot").fit(X, y)
        assert not hasattr(clf, "covariance_")
        clf.set_params(metric="mahalanobis")
        assert not hasattr(clf, "covariance_")

    def test_sample_weights(self, data):
        X, y = data
        clf = plain_classifier()
        with pytest.raises(ValueError, match=r"[Nn]egative values in"):
            clf.fit(X, y, sample_weight=-np.ones(30))
        with pytest.raises(
            ValueError, match=r"zero for all of them|one non-zero number"
        ):
            clf.fit(X, y, sample_weight=np.zeros(30))
        for weight in (1e-50, 1e20):
            with pytest.raises(ValueError, match="largest sample_weight must be betw"):
                clf.fit(X, y, sample_weight=np.full(30, weight))
        learnt = plain_classifier("mean").fit(X[:9], y[:9]).forget(np.unique(y[:9]))
        with pytest.raises(ValueError, match="largest sample_weight must be betw"):
            learnt.partial_fit(X, y, sample_weight=np.full(30, 1e-50))
        with pytest.raises(ValueError, match=r"sample_weight.shape"):
            clf.fit(X, y, sample_weight=np.ones(29))

    @pytest.mark.parametrize("n_neighbors", [0, 10, 1.5, "all"])
    def test_kproxies_n_neighbors(self, data, n_neighbors):
        with pytest.raises(ValueError, match="n_neighbors must be an int from 1 to 9"):
            fit(*data).kproxies(data[0], n_neighbors=n_neighbors)

    def test_a_failed_fit_loses_nothing(self, data):
        X, y = data
        clf = fit(X, y)
        expected = clf.predict_proba(X)
        with pytest.raises(ValueError, match="generator"):
            clf.set_params(generator=lambda X_c, k, seed: X_c[0]).fit(X[:, :4], y % 2)
        np.testing.assert_array_equal(clf.predict_proba(X), expected)

    def test_input_is_never_written(self, data):
        X, y = data[0].copy(), data[1].copy()
        before = X.copy()
        clf = fit(X, y)
        clf.predict_proba(X)
        clf.kproxies(X)
        clone(clf).fit(X, y)
        fit(X, y, query_norm=lambda X: np.multiply(X, 2, out=X)).predict(X)
        np.testing.assert_array_equal(X, before)


class TestAbsentClasses:
    """Of a class whose samples have no weight the label is known, and nothing else."""

    @pytest.fixture
    def some(self, data):
        """Samples of classes 0, 2 and 4, and others of class 3, without weight."""
        X, y = data
        X = np.concatenate([X, X[:5] + 5])
        y = np.concatenate([2 * y, [3] * 5])
        return X, y, (y != 3).astype(float)

    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"metric": "euclidean"},
            {"aggregation": "mnn"},
            {"kernel_weight": 0.5},
            {"whitening": "auto", "temperature": "auto"},
        ],
        ids=str,
    )
    def test_are_never_predicted(self, some, params):
        X, y, weights = some
        clf = fit(X[y != 3], y[y != 3], **params)
        found = clone(clf).fit(X, y, sample_weight=weights)
        assert found.classes_.tolist() == [0, 2, 3, 4]
        assert found.class_count_.tolist() == [10, 10, 0, 10]
        np.testing.assert_array_equal(found.proxies_, clf.proxies_)
        np.testing.assert_array_equal(found.proxy_labels_, clf.proxy_labels_)
        np.testing.assert_array_equal(found.predict(X), clf.predict(X))
        there = [0, 1, 3]
        scores = found.decision_function(X)
        np.testing.assert_array_equal(scores[:, there], clf.decision_function(X))
        assert (scores[:, 2] == np.finfo(scores.dtype).min / 2**16).all()
        probabilities = found.predict_proba(X)
        np.testing.assert_array_equal(probabilities[:, there], clf.predict_proba(X))
        assert (probabilities[:, 2] == 0).all()
        assert (found.predict_log_proba(X)[:, 2] == -np.inf).all()
        for name, values in clf.explain(X).items():
            np.testing.assert_array_equal(found.explain(X)[name], values)

    @pytest.mark.parametrize("absent", [0, 1])
    def test_one_of_two_classes(self, absent):
        clf = plain_classifier("mean")
        clf.fit(np.eye(2), [0, 1], sample_weight=[absent, 1 - absent])
        scores = clf.decision_function(np.eye(2))
        assert np.isfinite(scores).all()
        assert ((scores > 0) == (absent == 0)).all()
        assert set(clf.predict(np.eye(2))) == {1 - absent}

    @pytest.mark.skipif(
        parse_version(sklearn.__version__) < parse_version("1.8"),
        reason="needs scikit-learn 1.8",
    )
    @pytest.mark.parametrize("ensemble", [True, False])
    @pytest.mark.parametrize("n_classes", [2, 3, 4])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_scores_are_scaled_by_calibration(self, some, dtype, n_classes, ensemble):
        X, y, weights = some
        kept = np.isin(y, [3, 0, 2, 4][:n_classes])
        X, weights = X[kept].astype(dtype), weights[kept]
        y = np.unique(y[kept], return_inverse=True)[1]
        calibrated = CalibratedClassifierCV(
            plain_classifier("mean"), method="temperature", ensemble=ensemble, cv=3
        )
        found = calibrated.fit(X, y, sample_weight=weights).predict_proba(X)
        assert np.isfinite(found).all()
        assert (found[:, weights[np.unique(y, return_index=True)[1]] == 0] == 0).all()
        assert (found.argmax(axis=1) == y)[weights > 0].mean() > 0.9

    def test_scores_are_summed_by_bags(self, some):
        X, y, weights = some
        scores = plain_classifier("mean").fit(X, y, weights).decision_function(X)
        assert np.isfinite(sum([scores] * 1000)).all()

    @pytest.mark.parametrize("generator", ["mean", "kmeans"])
    def test_are_learnt_forgotten_merged_and_pickled(self, some, generator):
        X, y, weights = some
        clf = plain_classifier(generator, random_state=0).fit(X, y, weights)
        loaded = pickle.loads(pickle.dumps(clf))
        assert loaded.classes_.tolist() == [0, 2, 3, 4]
        assert loaded.forget(3).classes_.tolist() == [0, 2, 4]
        clf.partial_fit(X[-2:], [3, 7], sample_weight=[1, 0])
        assert clf.classes_.tolist() == [0, 2, 3, 4, 7]
        assert clf.predict(X[-2:-1]) == 3
        other = plain_classifier(generator, random_state=0)
        other.fit(X[:3], [7, 8, 9], [1, 0, 1])
        assert clf.merge(other).classes_.tolist() == [0, 2, 3, 4, 7, 8, 9]
        assert clf.class_count_.tolist() == [10, 10, 1, 10, 1, 0, 1]
        assert clf.partial_fit(X[:1], [8]).class_count_[-2] == 1

    def test_a_known_class_stays_where_more_has_no_weight(self, data):
        X, y = data
        clf = plain_classifier("mean").fit(X, y)
        expected = clf.proxies_
        clf.partial_fit(X[:12], [0] * 11 + [1], sample_weight=[0] * 11 + [1e-300])
        np.testing.assert_allclose(clf.proxies_, expected)
        assert clf.class_count_.tolist() == [10, 10, 10]

    @pytest.mark.filterwarnings("ignore:overflow")
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("tiny", [1e-30, 1e-100, 1e-300, 5e-324])
    def test_a_tiny_weight_is_nearly_none(self, data, method, dtype, tiny):
        X, y = data
        clf = ImprintClassifier.from_method(method, random_state=0)
        queries = X[::3].astype(dtype)
        is_tiny = np.arange(30) % 5 == 0
        weights = np.where(is_tiny, tiny, 1.0)
        probabilities = clf.fit(X.astype(dtype), y, weights).predict_proba(queries)
        assert np.isfinite(probabilities).all()
        if method not in ("westerhoff", "recommended"):  # each sample is a proxy
            clf.fit(X[~is_tiny].astype(dtype), y[~is_tiny])
            expected = clf.predict_proba(queries)
            np.testing.assert_allclose(probabilities, expected, atol=1e-5)
        of_a_class = np.where(y == 1, tiny, 1.0)
        clf.fit(X.astype(dtype), y, of_a_class)
        assert np.isfinite(clf.predict_proba(queries)).all()

    def test_in_a_bagging_ensemble(self, data):
        X, y = data
        rows = [0, 10, 20]  # one shot
        bagging = BaggingClassifier(
            plain_classifier("mean"), n_estimators=10, random_state=0
        ).fit(X[rows], y[rows])
        assert bagging.classes_.tolist() == [0, 1, 2]
        assert bagging.predict_proba(X).shape == (30, 3)


class TestLabelsKeepTheirDigits:
    big = 2**60 + 1

    @pytest.mark.parametrize(
        "first, then",
        [
            (np.array([big, 1]), np.array([2, 3], np.uint64)),
            (np.array([1, 2], np.uint64), np.array([big, 4])),
            (np.array([2**63 + 1, 2], np.uint64), np.array([5, 4])),
            (np.array([1, 2], np.int8), np.array([3.0, 4.0])),
            (np.array([True, False]), np.array([2, 3], np.uint64)),
        ],
    )
    def test_where_one_type_holds_all(self, first, then):
        clf = plain_classifier("mean").fit(np.eye(4)[:2], first)
        clf.partial_fit(np.eye(4)[2:], then)
        labels = [*first.tolist(), *then.tolist()]
        assert clf.predict(np.eye(4)).tolist() == labels
        assert clf.classes_.tolist() == sorted(labels)

    @pytest.mark.parametrize(
        "first, then",
        [
            (np.array([big, 1]), np.array([2.0, 3.0])),
            (np.array([2.0, 3.0]), np.array([big, 1])),
            (np.array([-1, 1]), np.array([2**63 + 1, 3], np.uint64)),
        ],
    )
    def test_else_learning_is_refused(self, first, then):
        clf = plain_classifier("mean").fit(np.eye(2), first)
        other = plain_classifier("mean").fit(np.eye(2), then)
        for learn in (
            lambda: clf.partial_fit(np.eye(2), then),
            lambda: clf.merge(other),
        ):
            with pytest.raises(ValueError, match="would lose digits"):
                learn()
        assert clf.predict(np.eye(2)).tolist() == first.tolist()

    def test_of_samples_that_wait_to_be_learnt(self):
        clf = plain_classifier("mean").fit(np.eye(3)[:1], [1])
        clf.partial_fit(np.eye(3)[1:2], [self.big])
        with pytest.raises(ValueError, match="would lose digits"):
            clf.partial_fit(np.eye(3)[2:], [2.0])
        assert clf.predict(np.eye(3)[:2]).tolist() == [1, self.big]

    @pytest.mark.parametrize(
        "label",
        [
            b"none",
            object(),
            1j,
            np.datetime64("2020-01-01"),
            [[5]],
            [0, 1],
            "text",
            0.5,
        ],
        ids=lambda label: type(label).__name__,
    )
    def test_of_rejections(self, label):
        rejection = Rejection(label, threshold=0.5)
        clf = plain_classifier("mean", rejection=rejection)
        with pytest.raises(ValueError, match="label of the rejection must be"):
            clf.fit(np.eye(2), [1, self.big])

    def test_bytes_are_refused(self):
        with pytest.raises(ValueError, match=r"got bytes. Decode them first"):
            plain_classifier("mean").fit(np.eye(2), np.array([b"a", b"b"]))

    def test_long_doubles_are_refused(self):
        with pytest.raises(ValueError, match=r"got np.longdouble. Shorten them first"):
            plain_classifier("mean").fit(np.eye(2), np.array([1, 2], np.longdouble))

    @pytest.mark.parametrize("unit", ["D", "ns"])
    def test_dates_are_refused(self, unit):
        for kind in ("datetime64", "timedelta64"):
            y = np.array([0, 1]).astype(f"{kind}[{unit}]")
            with pytest.raises(ValueError, match=r"text or booleans; got (date|time)"):
                plain_classifier("mean").fit(np.eye(2), y)


class TestScale:
    @pytest.mark.parametrize("scale", [1e-8, 1e5, 1e18, 1e20, 1e37])
    @pytest.mark.parametrize("generator", ["mean", "kmeans", "fps", "least_squares"])
    def test_unit_length_does_not_see_it(self, data, generator, scale):
        X, y = data
        X = X.astype(np.float32)
        expected = fit(X, y, generator)
        scaled = np.float32(scale) * X
        clf = fit(scaled, y, generator)
        np.testing.assert_allclose(clf.proxies_, expected.proxies_, atol=1e-5)
        np.testing.assert_array_equal(clf.predict(scaled), expected.predict(X))

    @pytest.mark.parametrize(
        "params", [{"metric": "mahalanobis"}, {"whitening": "auto"}], ids=str
    )
    def test_parts_of_large_values_are_as_one(self, params):
        rng = np.random.default_rng(0)
        y = np.arange(90) % 3
        X = (1e14 * (rng.normal(size=(90, 5)) + 2 * np.eye(5)[y])).astype(np.float32)
        norms = {"support_norm": None, "proxy_norm": None, "query_norm": None}
        whole = plain_classifier("mean", **norms, **params).fit(X, y)
        parts = clone(whole).fit(X[:45], y[:45]).partial_fit(X[45:], y[45:])
        np.testing.assert_array_equal(parts.predict(X), whole.predict(X))

    @pytest.mark.parametrize(
        "params", [{}, {"metric": "euclidean"}, {"whitening": "auto"}], ids=str
    )
    def test_what_is_too_large_is_refused_when_it_is_learnt(self, data, params):
        X, y = data
        norms = {"support_norm": None, "proxy_norm": None, "query_norm": None}
        clf = plain_classifier("mean", **norms, **params)
        with pytest.raises(ValueError, match="X is too large for float32"):
            clf.fit(np.float32(1e30) * X.astype(np.float32), y)
        clf.fit(X.astype(np.float32), y)
        with pytest.raises(ValueError, match="X is too large"):
            clf.predict(np.full((2, 5), 3e38, np.float32))

    @pytest.mark.filterwarnings("ignore:overflow")
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("scale", [3e19, 1e30, 1e37])
    def test_every_method_says_so_or_takes_it(self, data, method, scale):
        X, y = data
        X = X.astype(np.float32)
        norms = {"support_norm": None, "proxy_norm": None, "query_norm": None}
        norms |= {"kernel_weight": 0}  # that needs unit length
        clf = ImprintClassifier.from_method(method, **norms)
        try:
            clf.fit(np.float32(scale) * X, y)
        except ValueError as error:
            assert "X is too large for float32" in str(error)  # noqa: PT017
        else:
            expected = clone(clf).fit(X, y).predict(X)
            np.testing.assert_array_equal(clf.predict(np.float32(scale) * X), expected)

    @pytest.mark.parametrize("method", METHODS_OF_QUERIES)
    @pytest.mark.parametrize(
        "params",
        [
            {"whitening": "auto"},
            {"aggregation": Votes(3)},
            {"metric": "manhattan"},
            {"kernel_weight": 0.5},
        ],
        ids=str,
    )
    def test_queries_that_the_dtype_cannot_hold_are_refused(self, data, method, params):
        X, y = data
        clf = plain_classifier("mean", **params).fit(X.astype(np.float32), y)
        with pytest.raises(ValueError, match="X is too large for float32, which has"):
            getattr(clf, method)(1e40 * X)
        clf.fit(X, y)
        getattr(clf, method)(1e40 * X)

    @every_generator
    def test_samples_that_the_dtype_cannot_hold_are_refused(self, data, generator):
        X, y = data
        clf = plain_classifier(generator).fit(X.astype(np.float32), y)
        expected, message = clf.predict(X), "X is too large for float32, which has"
        with pytest.raises(ValueError, match=message):
            clf.partial_fit(1e40 * X, y)
        np.testing.assert_array_equal(clf.predict(X), expected)
        clf.forget([0, 1, 2])
        with pytest.raises(ValueError, match=message):
            clf.partial_fit(1e40 * X, y)
        clf.partial_fit(X, y)
        np.testing.assert_array_equal(clf.predict(X), expected)

    @pytest.mark.parametrize("method", ["fit", "partial_fit"])
    @pytest.mark.parametrize("generator", ["mean", "kmeans"])
    def test_so_are_those_beside_a_head(self, data, generator, method):
        X, y = data
        head = np.eye(3, 5, dtype=np.float32), None
        clf = plain_classifier(generator, head=head)
        with pytest.raises(ValueError, match="X is too large for float32, which has"):
            getattr(clf, method)(1e40 * X, y)

    @pytest.mark.parametrize("method", METHODS_OF_QUERIES)
    @pytest.mark.parametrize("metric", ["euclidean", "mahalanobis"])
    def test_distances_that_are_infinite_are_refused(self, data, method, metric):
        X, y = (values.astype(np.float32) for values in data)
        norms = {"support_norm": None, "proxy_norm": None, "query_norm": None}
        clf = plain_classifier("mean", metric=metric, **norms).fit(X, y)
        queries = np.float32(1e20) * X
        if method == "predict":  # the nearest may be known all the same
            assert set(clf.predict(queries)) <= set(y)
            return
        with pytest.raises(ValueError, match="X is too large: scores of queries"):
            getattr(clf, method)(queries)

    @pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-10, 1e10, 1e300])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_any_temperature_gives_probabilities(self, data, temperature, dtype):
        X, y = data
        clf = fit(X.astype(dtype), y, temperature=temperature)
        probabilities = clf.predict_proba(X)
        assert np.isfinite(probabilities).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        expected = clf.predict(X)
        np.testing.assert_array_equal(probabilities.argmax(axis=1), expected)
        found = clf.predict_log_proba(X).argmax(axis=1)
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_thresholds_are_finite(self, data, value):
        with pytest.raises(ValueError, match="'threshold' parameter of Rejection"):
            fit(*data, rejection=Rejection(-1, threshold=value))

    def test_nearly_parallel_embeddings_are_warned_of(self, digits):
        X, y = digits
        parallel = np.column_stack([X, np.full(len(X), 3e4, np.float32)])
        with pytest.warns(UserWarning, match=r"nearly parallel.*whitening='auto'"):
            plain_classifier("mean").fit(parallel, y)
        for cure in ({"whitening": "auto"}, {"metric": "euclidean"}):
            clf = plain_classifier("mean", **cure).fit(parallel[:300], y[:300])
            assert clf.score(parallel[300:], y[300:]) > 0.75
        clf = plain_classifier("mean").fit(parallel.astype(float)[:300], y[:300])
        assert clf.score(parallel.astype(float)[300:], y[300:]) > 0.75


@pytest.mark.parametrize("aggregation", ["max", Votes(3)], ids=str)
@pytest.mark.parametrize("metric", ["dot", "cosine", "euclidean", "mahalanobis"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_ranking_decides_all(aggregation, metric, scale, dtype):
    """Also where scores are equal up to rounding: rank-1 data, and copies."""
    rng = np.random.default_rng(0)
    line = rng.normal(size=(60, 1)) @ rng.normal(size=(1, 7))
    copies = np.repeat(rng.normal(size=(6, 7)), 10, axis=0)
    for rows in (line, copies, copies + 1e-7 * line):
        X, y = (scale * rows).astype(dtype), np.arange(60) % 6
        norms = {"support_norm": None, "proxy_norm": None}
        for params in ({}, norms, {**norms, "query_norm": None}):
            clf = plain_classifier(
                "all", metric=metric, aggregation=aggregation, **params
            )
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The embeddings are nearly parallel")
                clf.fit(X, y)
            labels = clf.predict(X)
            for scores in (
                clf.decision_function(X),
                clf.predict_proba(X),
                clf.predict_log_proba(X),
            ):
                np.testing.assert_array_equal(scores.argmax(axis=1), labels)
            np.testing.assert_array_equal(clf.explain(X).label, labels)
