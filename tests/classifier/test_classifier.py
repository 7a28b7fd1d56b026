"""ImprintClassifier as a scikit-learn classifier, and its identities."""

import copy
import pickle
from contextlib import suppress

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from settings import plain_classifier
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler, normalize
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.fixes import parse_version

from skimprint import ImprintClassifier
from skimprint.aggregation import Votes
from skimprint.generation import (
    GENERATORS,
    KMeansProxies,
    MeanProxies,
)

NEW = parse_version("1.8")  # has temperature scaling

# scikit-learn's KMeans declares the same: clustering starts from random samples, and
# weights do not draw the same ones that repetition does.
NO_WEIGHT_EQUIVALENCE = {
    "check_sample_weight_equivalence_on_dense_data": "stochastic, or one vote a sample"
}
# A classifier fitted on a GPU is meant to predict on machines without one.
ANY_NAMESPACE = {"check_array_api_same_namespace": "queries of any namespace will do"}


def expected_failed_checks(clf):
    stochastic = clf.n_proxies == 2 and clf.generator in ("kmeans", "kmedoids")
    if stochastic or clf.generator == "all":
        return NO_WEIGHT_EQUIVALENCE | ANY_NAMESPACE
    return ANY_NAMESPACE


class TestScikitLearn:
    @parametrize_with_checks(
        [
            plain_classifier(),
            plain_classifier(n_proxies=2, n_jobs=2),
            plain_classifier(temperature="auto"),
            plain_classifier("mean"),
            plain_classifier("all", aggregation="mnn", metric="euclidean"),
            plain_classifier("fps"),
            plain_classifier("kmedoids"),
            plain_classifier("least_squares", n_proxies=1),
            plain_classifier("mean", metric="mahalanobis", aggregation=Votes(1)),
            plain_classifier("random"),
            plain_classifier(MeanProxies(), metric="manhattan", support_norm=None),
        ],
        expected_failed_checks=expected_failed_checks,
    )
    def test_common_checks(self, estimator, check, monkeypatch):
        monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else there are no array API checks
        check(estimator)

    def test_pipeline_grid_search_over_strings_and_objects(self, split):
        X, _, y, _ = split
        pipeline = Pipeline([("scale", StandardScaler()), ("clf", plain_classifier())])
        grid = [
            {
                "clf__generator": ["mean", MeanProxies()],
                "clf__query_norm": [None, "l2"],
            },
            {
                "clf__generator": [KMeansProxies(), KMeans()],
                "clf__generator__max_iter": [1, 300],
                "clf__n_proxies": [2, 3],
            },
        ]
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
        assert len(search.cv_results_["params"]) == 12
        scores = search.cv_results_["mean_test_score"]
        assert scores[0] == scores[2], "the string and the object mean the same"
        assert search.best_score_ > 0.5

    def test_cross_val_score(self, digits):
        scores = cross_val_score(plain_classifier(random_state=0), *digits, cv=3)
        assert scores.mean() > 0.8

    @pytest.mark.parametrize("method", ["temperature", "sigmoid"])
    def test_calibrated(self, split, method):
        X, X_query, y, y_query = split
        clf = plain_classifier("mean")
        if method == "temperature" and parse_version(sklearn.__version__) < NEW:
            pytest.skip("needs scikit-learn 1.8")
        calibrated = CalibratedClassifierCV(clf, method=method, cv=3).fit(X, y)
        assert calibrated.score(X_query, y_query) > 0.75
        raw = clf.fit(X, y).predict_proba(X_query)
        rows = np.arange(len(y_query))
        log_loss = {
            name: -np.log(proba[rows, y_query]).mean()
            for name, proba in [
                ("raw", raw),
                ("new", calibrated.predict_proba(X_query)),
            ]
        }
        assert log_loss["new"] < log_loss["raw"]

    def test_metadata_routing_of_sample_weight(self, digits):
        X, y = digits
        weights = np.where(np.arange(len(y)) % 2, 1.0, 0.0)
        with config_context(enable_metadata_routing=True):
            clf = plain_classifier("mean").set_fit_request(sample_weight=True)
            scaler = StandardScaler().set_fit_request(sample_weight=False)
            pipeline = make_pipeline(scaler, clf)
            pipeline.fit(X, y, sample_weight=weights)
        assert pipeline[-1].class_count_.sum() == weights.sum()

    def test_clone_and_nested_parameters(self):
        clf = plain_classifier(KMeansProxies(n_init=2))
        clf.set_params(generator__max_iter=7, n_proxies=3)
        copy = clone(clf)
        assert copy.generator is not clf.generator
        assert copy.get_params()["generator__max_iter"] == 7
        assert "KMeansProxies" in copy._repr_html_()
        assert "max_iter=7" in repr(copy)

    @pytest.mark.parametrize(
        "name, value, inner",
        [("generator", "kmeans", "n_init"), ("rejection", None, "rate")],
    )
    def test_parameters_of_components_that_are_none(self, name, value, inner):
        clf = plain_classifier(n_proxies=2)
        with pytest.raises(ValueError, match=f"{name}__{inner} .*{name} is {value!r}"):
            clf.set_params(n_proxies=3, **{f"{name}__{inner}": 1})
        assert clf.n_proxies == 2
        with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
            clf.set_params(nothing__there=1)

    def test_fit_leaves_its_parameters_alone(self, split):
        X, _, y, _ = split
        generator = KMeans(n_clusters=11)
        clf = plain_classifier(generator, n_proxies=2).fit(X, y)
        assert generator.n_clusters == 11
        assert not hasattr(generator, "cluster_centers_")
        assert clf.generator is generator

    @pytest.mark.parametrize("generator", [*GENERATORS, KMeans()])
    def test_pickle(self, split, generator):
        X, X_query, y, _ = split
        clf = plain_classifier(generator, n_proxies=3, random_state=0).fit(X, y)
        copy = pickle.loads(pickle.dumps(clf))
        np.testing.assert_array_equal(
            copy.predict_proba(X_query), clf.predict_proba(X_query)
        )


class TestIdentities:
    """What the framework has in common with scikit-learn."""

    @pytest.mark.parametrize("metric", ["cosine", "euclidean"])
    @pytest.mark.parametrize("generator", sorted(GENERATORS))
    def test_normalised_max_is_the_nearest_proxy(self, split, generator, metric):
        X, X_query, y, _ = split
        clf = plain_classifier(generator, n_proxies=3, random_state=0).fit(X, y)
        knn = KNeighborsClassifier(1, metric=metric, algorithm="brute")
        knn.fit(clf.proxies_, clf.proxy_labels_)
        expected = knn.predict(normalize(X_query))
        np.testing.assert_array_equal(clf.predict(X_query), expected)
        clf.set_params(metric=metric).fit(X, y)
        np.testing.assert_array_equal(clf.predict(X_query), expected)

    def test_the_query_norm_cannot_change_the_argmax_of_products(self, split):
        X, X_query, y, _ = split
        clf = plain_classifier("kmeans", n_proxies=3, random_state=0).fit(X, y)
        predicted = clf.predict(X_query)
        clf.set_params(query_norm=None).fit(X, y)
        np.testing.assert_array_equal(clf.predict(X_query), predicted)
        np.testing.assert_array_equal(
            clf.decision_function(X_query).argmax(axis=1), predicted
        )

    @pytest.mark.parametrize("weights", ["uniform", "distance"])
    @pytest.mark.parametrize(
        "metric", ["euclidean", "manhattan", "chebyshev", "cosine"]
    )
    def test_all_with_votes_is_k_nearest_neighbours(self, split, metric, weights):
        X, X_query, y, _ = split
        # Stored in one byte a value, the embeddings have equal Chebyshev distances.
        X = X + np.random.default_rng(0).uniform(0, 1e-3, X.shape).astype(np.float32)
        clf = plain_classifier(
            "all",
            support_norm=None,
            proxy_norm=None,
            query_norm=None,
            aggregation=Votes(weights=weights),
            metric=metric,
        ).fit(X, y)
        knn = KNeighborsClassifier(
            metric=metric, weights=weights, algorithm="brute"
        ).fit(X.astype(float), y)
        expected = knn.predict_proba(X_query.astype(float))
        np.testing.assert_allclose(
            clf.decision_function(X_query), expected, rtol=1e-3, atol=1e-4
        )
        untied = (expected == expected.max(axis=1, keepdims=True)).sum(axis=1) == 1
        assert untied.mean() > 0.8
        np.testing.assert_array_equal(
            clf.predict(X_query[untied]), expected[untied].argmax(axis=1)
        )

    def test_mahalanobis_is_that_of_the_shrunk_residuals(self, split):
        X, X_query, y, _ = split
        clf = plain_classifier(
            "mean", metric="mahalanobis", support_norm=None, proxy_norm=None,
            query_norm=None,
        ).fit(X, y)  # fmt: skip
        means = np.stack([X[y == c].mean(axis=0, dtype=float) for c in range(10)])
        covariance, _ = ledoit_wolf(X.astype(float) - means[y], assume_centered=True)
        differences = X_query[:, None].astype(float) - means
        expected = np.sqrt(
            np.einsum(
                "qci,qci->qc", differences @ np.linalg.inv(covariance), differences
            )
        )
        np.testing.assert_allclose(-clf.decision_function(X_query), expected, rtol=1e-3)

    def test_callables_stand_for_the_strings(self, split):
        X, X_query, y, _ = split

        def mean(X_c, n_proxies, random_state):
            return X_c.mean(axis=0, keepdims=True)

        def maximum(similarities, proxy_classes):
            return np.stack(
                [similarities[:, proxy_classes == c].max(axis=1) for c in range(10)],
                axis=1,
            )

        theirs = plain_classifier(
            mean, support_norm=normalize, proxy_norm=normalize, query_norm=normalize,
            aggregation=maximum,
        ).fit(X, y)  # fmt: skip
        ours = plain_classifier("mean").fit(X, y)
        np.testing.assert_allclose(
            theirs.decision_function(X_query),
            ours.decision_function(X_query),
            rtol=1e-5,
        )


class TestPredictions:
    @pytest.mark.parametrize("aggregation", ["max", "mnn"])
    @pytest.mark.parametrize("metric", ["dot", "cosine", "euclidean", "mahalanobis"])
    def test_all_ways_to_predict_agree(self, split, aggregation, metric):
        X, X_query, y, _ = split
        clf = plain_classifier(
            n_proxies=3, aggregation=aggregation, metric=metric, random_state=0
        ).fit(X, y)
        scores = clf.decision_function(X_query)
        assert scores.shape == (len(X_query), 10)
        np.testing.assert_array_equal(scores.argmax(axis=1), clf.predict(X_query))
        proba = clf.predict_proba(X_query)
        np.testing.assert_allclose(proba, softmax(scores, axis=1), rtol=1e-5)
        np.testing.assert_allclose(
            proba, np.exp(clf.predict_log_proba(X_query)), rtol=1e-5
        )

    @pytest.mark.parametrize("generator", sorted(GENERATORS))
    def test_scores_are_products_for_any_memory_layout(self, split, generator):
        X, X_query, y, _ = split
        # More samples than features, and products too large for a plain path.
        X, X_query = X[:, :100], np.repeat(X_query[:, :100], 10, axis=0)
        clf = plain_classifier(
            generator, 1, query_norm=lambda X: np.asfortranarray(X), random_state=0
        ).fit(X, y)
        best = np.maximum.reduceat(
            X_query @ np.ascontiguousarray(clf.proxies_).T,
            np.flatnonzero(np.diff(clf.proxy_labels_, prepend=-1)),
            axis=1,
        )
        np.testing.assert_allclose(clf.decision_function(X_query), best, rtol=1e-4)

    def test_two_classes_have_one_score_positive_for_the_second(self, split):
        X, X_query, y, _ = split
        clf = plain_classifier("mean").fit(X, np.where(y < 5, "small", "large"))
        scores = clf.decision_function(X_query)
        assert scores.shape == (len(X_query),)
        np.testing.assert_array_equal(clf.predict(X_query) == "small", scores > 0)
        np.testing.assert_array_equal(
            clf.predict_proba(X_query)[:, 1] > 0.5, scores > 0
        )

    def test_temperature_sharpens(self, split):
        X, X_query, y, _ = split
        clf = plain_classifier("mean").fit(X, y)
        warm = clf.predict_proba(X_query).max(axis=1)
        cold = clf.set_params(temperature=0.01).predict_proba(X_query)
        assert (cold.max(axis=1) > warm).all()
        log_proba = clf.predict_log_proba(X_query)
        np.testing.assert_allclose(np.exp(log_proba), cold, rtol=1e-4)

    @pytest.mark.parametrize("temperature", [1, 5, 100])
    @pytest.mark.parametrize("n_neighbors", [2, 4])
    def test_ties_of_votes_stay_decided_in_probabilities(
        self, split, n_neighbors, temperature
    ):
        X, X_query, y, _ = split
        clf = plain_classifier(
            "all",
            aggregation=Votes(n_neighbors),
            metric="euclidean",
            temperature=temperature,
        ).fit(X, y)
        predicted = clf.predict(X_query)
        for method in ("decision_function", "predict_proba", "predict_log_proba"):
            scores = getattr(clf, method)(X_query)
            np.testing.assert_array_equal(scores.argmax(axis=1), predicted)

    @pytest.mark.filterwarnings("ignore:The embeddings are nearly parallel")
    def test_votes_of_copies_and_of_what_is_in_the_same_direction(self):
        rng = np.random.default_rng(0)
        v = rng.normal(size=64).astype(np.float32)
        near = v + 1e-3 * rng.normal(size=64).astype(np.float32)
        X = np.stack([3 * v, 7 * v, near, 1.5 * near])
        clf = plain_classifier(
            "all", aggregation=Votes(4, weights="distance"), metric="cosine"
        ).fit(X, [0, 0, 1, 1])
        scores = clf.decision_function(np.stack([v, 2 * v, X[0]]))
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(clf.predict_proba(X).argmax(axis=1), [0, 0, 1, 1])

    @pytest.mark.parametrize("metric", ["euclidean", "mahalanobis"])
    @pytest.mark.parametrize("aggregation", ["max", Votes(1)], ids=str)
    def test_distances_far_from_the_origin(self, split, metric, aggregation):
        X, X_query, y, _ = split
        clf = plain_classifier(
            "mean", metric=metric, aggregation=aggregation, support_norm=None,
            proxy_norm=None, query_norm=None,
        )  # fmt: skip
        far = clone(clf).fit(X + 300, y).predict(X_query + 300)
        assert np.mean(far == clf.fit(X, y).predict(X_query)) > 0.99

    def test_a_tie_goes_to_the_first_class(self):
        clf = plain_classifier("mean").fit([[1.0, 0.0], [0.0, 1.0]], ["b", "a"])
        np.testing.assert_array_equal(clf.predict([[1.0, 1.0]]), ["a"])

    @pytest.mark.parametrize("metric", ["dot", "euclidean", "manhattan"])
    def test_kproxies(self, split, metric):
        X, X_query, y, _ = split
        clf = plain_classifier(n_proxies=3, metric=metric, random_state=0).fit(X, y)
        similarities, indices = clf.kproxies(X_query, n_neighbors=30)
        assert similarities.shape == indices.shape == (len(X_query), 30)
        assert (np.diff(similarities) <= 0).all()
        np.testing.assert_array_equal(
            clf.proxy_labels_[indices[:, 0]], clf.predict(X_query)
        )
        np.testing.assert_allclose(
            similarities[:, 0], clf.decision_function(X_query).max(axis=1), rtol=1e-4
        )
        assert clf.kproxies(X_query, return_similarity=False).shape == (len(X_query), 5)

    def test_blocks_change_nothing(self, split, monkeypatch):
        X, X_query, y, _ = split
        clf = plain_classifier(n_proxies=3, random_state=0).fit(X, y)
        scores = clf.decision_function(X_query)
        monkeypatch.setattr("skimprint._scoring.similarity._BLOCK_BYTES", 1)
        monkeypatch.setattr("skimprint._scoring.similarity._MIN_BLOCK", 7)
        monkeypatch.setattr("skimprint._scoring.similarity._MAX_BLOCK", 7)
        np.testing.assert_allclose(clf.decision_function(X_query), scores, rtol=1e-5)


class TestFit:
    @pytest.mark.parametrize("generator", sorted(GENERATORS))
    def test_attributes(self, split, generator):
        X, X_query, y, _ = split
        y = np.array(list("abcdefghij"))[y]
        clf = plain_classifier(generator, n_proxies=3, random_state=0).fit(X, y)
        assert clf.proxies_.dtype == np.float32
        assert clf.decision_function(X_query).dtype == np.float32
        assert clf.predict_proba(X_query).dtype == np.float32
        assert clf.proxies_.shape == (len(clf.proxy_labels_), 1024)
        assert list(clf.proxy_labels_) == sorted(clf.proxy_labels_)
        np.testing.assert_array_equal(y[clf.proxy_indices_], clf.proxy_labels_)
        np.testing.assert_array_equal(
            clf.class_count_, np.unique(y, return_counts=True)[1]
        )
        assert isinstance(clf.generator_, GENERATORS[generator])
        assert clf.n_features_in_ == 1024
        assert not hasattr(clf, "covariance_")

    def test_feature_names(self):
        pd = pytest.importorskip("pandas", reason="needs pandas")
        X = pd.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0]})
        clf = plain_classifier().fit(X, ["up", "right"])
        np.testing.assert_array_equal(clf.feature_names_in_, ["a", "b"])

    def test_n_proxies_per_label(self, split):
        X, _, y, _ = split
        counts = {label: 1 + label % 3 for label in range(10)}
        clf = plain_classifier(n_proxies=counts).fit(X, y)
        for label, count in counts.items():
            assert (clf.proxy_labels_ == label).sum() == count

    @pytest.mark.parametrize("generator", ["mean", "least_squares"])
    def test_integer_weights_are_repetitions(self, split, generator):
        X, X_query, y, _ = split
        weights = np.arange(len(y)) % 3
        clf = plain_classifier(generator, n_proxies=1)
        weighted = clone(clf).fit(X, y, sample_weight=weights)
        repeated = clone(clf).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights))
        np.testing.assert_allclose(
            weighted.decision_function(X_query),
            repeated.decision_function(X_query),
            rtol=1e-4,
            atol=1e-5,
        )
        np.testing.assert_array_equal(weighted.class_count_, repeated.class_count_)

    @pytest.mark.parametrize("generator", sorted(GENERATORS))
    def test_weight_zero_is_absence(self, split, generator):
        X, _, y, _ = split
        weights = np.where(np.arange(len(y)) % 3 == 0, 0.0, 1.0)
        clf = plain_classifier(generator, n_proxies=3, random_state=0)
        weighted = clone(clf).fit(X, y, sample_weight=weights)
        absent = clone(clf).fit(X[weights > 0], y[weights > 0])
        np.testing.assert_allclose(
            weighted.proxies_, absent.proxies_, rtol=1e-4, atol=1e-6
        )
        np.testing.assert_array_equal(
            weighted.proxy_indices_, np.flatnonzero(weights)[absent.proxy_indices_]
        )

    @pytest.mark.parametrize(
        "generator", [name for name in sorted(GENERATORS) if name != "least_squares"]
    )
    @settings(max_examples=10)
    @given(data=st.data())
    def test_same_bits_for_any_order_subset_layout_and_n_jobs(
        self, digits, generator, data
    ):
        X, y = digits
        X, y = X[:200, :64], y[:200]
        clf = plain_classifier(generator, n_proxies=4, random_state=3).fit(X, y)
        kept = data.draw(st.sets(st.integers(0, 9), min_size=1), label="classes")
        # Rows of one class keep their order; the classes come in any.
        order = np.argsort(
            np.array(data.draw(st.permutations(range(10)), label="class order"))[y],
            kind="stable",
        )
        order = order[np.isin(y[order], list(kept))]
        other = clone(clf).set_params(n_jobs=data.draw(st.sampled_from([1, 2])))
        other.fit(np.asfortranarray(X[order]), y[order])
        expected = np.isin(clf.proxy_labels_, list(kept))
        np.testing.assert_array_equal(other.proxies_, clf.proxies_[expected])
        np.testing.assert_array_equal(
            order[other.proxy_indices_], clf.proxy_indices_[expected]
        )

    def test_what_generators_pass_on(self, split):
        X, _, y, _ = split
        weights = np.where(np.arange(len(y)) % 2, 1.0, 100.0)
        params = {"n_proxies": 2, "support_norm": None, "proxy_norm": None}
        seeds = []

        def note_seed(X_c, n_proxies, random_state):
            seeds.append(random_state)
            return X_c[:n_proxies]

        plain_classifier(note_seed, **params, random_state=7).fit(X, y)
        assert seeds == [7] * 10

        kmeans = KMeans(n_init=1, random_state=3)
        clf = plain_classifier(kmeans, **params, random_state=7)
        clf.fit(X, y, sample_weight=weights)
        alone = clone(kmeans).set_params(n_clusters=2)
        alone.fit(X[y == 0], sample_weight=weights[y == 0])
        np.testing.assert_allclose(clf.proxies_[:2], alone.cluster_centers_, rtol=1e-5)

        def inertia(n_init):
            generator = KMeansProxies(n_init=n_init)
            clf = plain_classifier(generator, 8, random_state=0, proxy_norm=None)
            proxies = clf.fit(X, y).proxies_.reshape(10, 8, -1)
            rows = normalize(X)
            return (
                (np.linalg.norm(rows[:, None] - proxies[y], axis=2) ** 2).min(1).sum()
            )

        assert inertia(10) < inertia(1)


def test_arrays_of_what_was_learnt_cannot_be_written_to(digits):
    """Copies of the classifier share them."""
    X, y = digits[0][:, ::16], digits[1]
    clf = ImprintClassifier(metric="mahalanobis", random_state=0).fit(X, y)
    others = clone(clf).fit(X, y), clf.compact(), copy.copy(clf)
    for name in (name for name in dir(type(clf)) if name.endswith("_")):
        array = getattr(clf, name, None) if not name.startswith("_") else None
        if isinstance(array, np.ndarray):
            with suppress(ValueError, TypeError):  # read-only; one cannot add to text
                array[...] = array[::-1]
    for other in others:
        np.testing.assert_array_equal(clf.predict_proba(X), other.predict_proba(X))
        np.testing.assert_array_equal(clf.proxies_, others[0].proxies_)


def test_least_squares_predicts_as_ridge_with_more_samples_than_features():
    """The primal solution comes in Fortran order, as no other proxies do."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 600)
    X = rng.normal(size=(10, 300))[y] + 3 * rng.normal(size=(600, 300))
    clf = plain_classifier(
        "least_squares", 1, support_norm=None, proxy_norm=None, query_norm=None
    ).fit(X, y)
    ridge = Ridge(alpha=600 * 0.01, fit_intercept=False).fit(X, np.eye(10)[y])
    queries = rng.normal(size=(2000, 300))
    np.testing.assert_allclose(
        clf.decision_function(queries), ridge.predict(queries), atol=1e-8
    )
    np.testing.assert_array_equal(
        clf.predict(queries), ridge.predict(queries).argmax(axis=1)
    )
