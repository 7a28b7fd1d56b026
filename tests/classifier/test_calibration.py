"""Scores of samples left out: against models that are fitted without them."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split

from skimprint import ImprintClassifier
from skimprint.classifier._calibration import familiarities, fit_temperature, hold_out
from skimprint.methods import RECOMMENDED


@pytest.fixture(scope="module")
def few(digits):
    """Some 60 digits: (60, 1024) float64 and their labels."""
    X, y = digits
    order = np.argsort(y[:150], kind="stable")[::2]
    return X[order].astype(np.float64), y[order]


def scores_left_out(clf, X, y, **fit_params):
    """Scores and familiarity of each sample, by a refit without it: the definition."""
    scores, familiar = [], []
    for i in range(len(X)):
        left = np.arange(len(X)) != i
        params = {name: value[left] for name, value in fit_params.items()}
        refit = clone(clf).fit(X[left], y[left], **params)
        scores.append(refit._scores(X[i : i + 1])[1][0])
        familiar.append(refit.score_samples(X[i : i + 1])[0])
    return np.array(scores), np.array(familiar)


def best_temperature(scores, codes, weights):
    def loss(log_t):
        of_class = log_softmax(scores / np.exp(log_t), axis=1)
        return -weights @ of_class[np.arange(len(codes)), codes]

    return np.exp(minimize_scalar(loss, bounds=(-12, 5), method="bounded").x)


AUTO = {"temperature": "auto", "outlier_threshold": "auto", "outlier_label": -1}


@pytest.mark.parametrize("outlier_score", ["similarity", "contrast"])
@pytest.mark.parametrize(
    "params",
    [
        {"generator": "mean"},
        {"generator": "all"},
        {"generator": "kmeans", "n_proxies": 1000},
        {"generator": "mean", "metric": "cosine", "proxy_norm": None},
        {"generator": "mean", "metric": "euclidean"},
        {"generator": "mean", "metric": "manhattan"},
        {"generator": "all", "metric": "chebyshev"},
        {"generator": "all", "aggregation": "mnn", "n_neighbors": 3},
        {
            "generator": "all",
            "aggregation": "mnn",
            "metric": "euclidean",
            "weights": "distance",
        },
        {"generator": "mean", "support_norm": None, "proxy_norm": None},
        {"generator": "mean", "support_norm": "power", "query_norm": "power"},
        {"generator": "all", "support_norm": "auto", "query_norm": "auto"},
        {"generator": "all", "mean_weight": 0.5},
        {"generator": "all", "mean_weight": 0.3, "metric": "euclidean"},
        {"generator": "kmeans", "n_proxies": 1000, "mean_weight": 0.8},
    ],
    ids=str,
)
def test_as_if_each_sample_were_left_out(few, params, outlier_score):
    X, y = few
    clf = ImprintClassifier(**params, outlier_score=outlier_score)
    scores, familiar = scores_left_out(clf, X, y)
    clf.set_params(**AUTO, contamination=0.1).fit(X, y)

    expected = np.quantile(familiar, 0.1, method="inverted_cdf")
    np.testing.assert_allclose(clf.outlier_threshold_, expected, rtol=1e-6)
    codes = np.searchsorted(clf.classes_, y)
    expected = best_temperature(scores, codes, np.ones(len(y)))
    np.testing.assert_allclose(clf.temperature_, expected, rtol=1e-2)


@pytest.mark.parametrize(
    "params",
    [
        {"generator": "mean"},
        {"generator": "all"},
        {"generator": "all", "mean_weight": 0.5},
    ],
    ids=str,
)
def test_mahalanobis_distances_by_the_covariance_without_the_query(few, params):
    X, y = few[0][:, ::16], few[1]
    clf = ImprintClassifier(metric="mahalanobis", **params, **AUTO, contamination=0.1)
    clf.fit(X, y)
    head, n = clf._head(), len(y)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)

    familiar = []
    for i, row in enumerate(rows):
        residual = row - rows[y == y[i]].mean(axis=0)
        n_class = np.sum(y == y[i])
        share = (1 - head.covariance_shrinkage) * n_class / (n_class - 1) / n
        covariance = clf.covariance_ - share * np.outer(residual, residual)
        covariance *= n / (n - 1)
        left = np.arange(n) != i
        proxies = clone(clf).set_params(temperature=1.0, outlier_threshold=None)
        apart = row - proxies.fit(X[left], y[left]).proxies_
        squares = np.einsum("ij,ij->i", apart @ np.linalg.inv(covariance), apart)
        familiar.append(-np.sqrt(squares.min()))
    expected = np.quantile(familiar, 0.1, method="inverted_cdf")
    np.testing.assert_allclose(clf.outlier_threshold_, expected, rtol=1e-6)


def test_mahalanobis_rejects_about_the_share_asked_for(digits):
    X, y = digits
    X, queries, y, _ = train_test_split(X, y, test_size=0.5, random_state=0, stratify=y)
    clf = ImprintClassifier("mean", metric="mahalanobis", **AUTO, contamination=0.1)
    rejected = np.mean(clf.fit(X, y).predict(queries) == -1)
    assert rejected == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("n", [100, 300])
@pytest.mark.parametrize(
    "params",
    [
        RECOMMENDED,
        RECOMMENDED | {"kernel_weight": 0, "outlier_score": "contrast"},
        {"generator": "mean", "shrinkage": "auto"},
        {"generator": "all", "shrinkage": 0.5},
        {"generator": "mean", "shrinkage": 0.3, "metric": "euclidean"},
        {"generator": "mean", "shrinkage": 0.5, "metric": "mahalanobis"},
        {"generator": "mean", "shrinkage": "auto", "proxy_norm": "quantile"},
    ],
    ids=str,
)
def test_whitening_does_not_know_the_sample(digits, params, n):
    """Else, of fewer samples than features most queries would be rejected."""
    X, queries, y, truth = train_test_split(
        *digits, train_size=n, random_state=0, stratify=digits[1]
    )
    clf = ImprintClassifier(**params, **AUTO, contamination=0.1, random_state=0)
    rejected = np.mean(clf.fit(X, y).predict(queries) == -1)
    assert rejected == pytest.approx(0.1, abs=0.07)
    scores = clf._scores(queries)[1].astype(np.float64)
    ones = np.ones(len(truth))
    best = best_temperature(scores, np.searchsorted(clf.classes_, truth), ones)
    assert np.log(clf.temperature_) == pytest.approx(np.log(best), abs=0.5)


def test_labels_of_dtype_object(few):
    X, y = few
    names = np.array([f"digit {label}" for label in y], dtype=object)
    auto = AUTO | {"outlier_label": "none"}
    by_name = ImprintClassifier(**RECOMMENDED, **auto).fit(X, names)
    by_number = ImprintClassifier(**RECOMMENDED, **AUTO).fit(X, y)
    assert by_name.temperature_ == by_number.temperature_
    assert by_name.outlier_threshold_ == by_number.outlier_threshold_


def test_weights_count_as_copies_that_are_left_out_together(few):
    X, y = few
    weights = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    clf = ImprintClassifier("mean", **AUTO, contamination=0.2)
    plain = ImprintClassifier("mean")
    scores, familiar = scores_left_out(plain, X, y, sample_weight=weights)
    clf.fit(X, y, sample_weight=weights)
    expected = np.quantile(familiar, 0.2, weights=weights, method="inverted_cdf")
    np.testing.assert_allclose(clf.outlier_threshold_, expected, rtol=1e-6)
    codes = np.searchsorted(clf.classes_, y)
    expected = best_temperature(scores, codes, weights)
    np.testing.assert_allclose(clf.temperature_, expected, rtol=1e-2)


def test_a_mean_is_taken_apart_where_the_sample_is_nearest(few):
    """K-means, against the means of the clusters without the sample."""
    X, y = few
    clf = ImprintClassifier("kmeans", 3, random_state=0, **AUTO).fit(X, y)
    head = clf._head()
    parts = list(head.memory.values())
    held_out = hold_out(parts, head.offsets, selects=False)
    assert len(held_out.rows) == len(X)
    for row, own, gone, left in zip(
        held_out.rows, held_out.own, held_out.gone, held_out.left, strict=True
    ):
        part = parts[head.codes[own]]
        rows = part.sample.rows
        distances = np.linalg.norm(rows[:, None] - part.vectors, axis=2)
        members = distances.argmin(axis=1) == own - head.offsets[head.codes[own]]
        others = rows[members & (rows != row).any(axis=1)]
        assert gone == (len(others) == 0)
        if not gone:
            np.testing.assert_allclose(left, others.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("proxy_norm", ["quantile", None, lambda rows: rows * 2])
def test_other_norms_of_proxies(few, proxy_norm):
    X, y = few
    clf = ImprintClassifier("all", proxy_norm=proxy_norm, **AUTO).fit(X, y)
    assert np.isfinite(clf.outlier_threshold_)
    head = clf._head()
    vectors = np.concatenate([part.vectors for part in head.memory.values()])
    own = np.arange(len(vectors))
    same = head.renormalize(vectors, own, clf._proxy_norm())
    np.testing.assert_allclose(same, head.proxies, rtol=1e-12)


class TestIncrementally:
    @pytest.mark.parametrize("generator", ["mean", "all"])
    def test_any_chunks_and_order_give_the_same(self, digits, generator):
        X, y = digits
        whole = ImprintClassifier(generator, **AUTO).fit(X, y)
        parts = ImprintClassifier(generator, **AUTO)
        for rows in np.array_split(np.random.default_rng(0).permutation(len(y)), 6):
            parts.partial_fit(X[rows], y[rows])
        parts.forget(3).merge(clone(parts).fit(X[y == 3], y[y == 3]))
        np.testing.assert_allclose(parts.temperature_, whole.temperature_, 1e-4)
        np.testing.assert_allclose(
            parts.outlier_threshold_, whole.outlier_threshold_, 1e-5
        )

    def test_samples_are_bounded_and_forgotten(self, digits):
        X, y = digits
        X, y = np.tile(X, (6, 1)), np.tile(y, 6)
        X += np.random.default_rng(0).normal(scale=0.01, size=X.shape).astype("f4")
        clf = ImprintClassifier("mean", **AUTO).fit(X, y)
        sizes = [len(part.sample.rows) for part in clf._learnt.memory.values()]
        assert max(sizes) == 200
        row = clf._learnt.memory[4].sample.rows[0]
        clf.forget(4)
        for part in clf._learnt.memory.values():
            assert not (part.sample.rows == row).all(axis=1).any()

    def test_is_made_anew_when_settings_change(self, few):
        X, y = few
        clf = ImprintClassifier("mean", **AUTO).fit(X, y)
        at_5_percent = clf.outlier_threshold_
        assert clf.set_params(contamination=0.5).outlier_threshold_ > at_5_percent
        clf.set_params(metric="euclidean")
        assert clf.outlier_threshold_ < 0

    def test_set_after_fit(self, few):
        clf = ImprintClassifier("mean").fit(*few).set_params(temperature="auto")
        with pytest.raises(NotFittedError, match="call fit again"):
            clf.predict_proba(few[0])


class TestOutliers:
    def test_below_the_threshold(self, few):
        X, y = few
        clf = ImprintClassifier("mean", outlier_threshold=0.9, outlier_label=-1)
        predictions = clf.fit(X, y).predict(X)
        is_outlier = clf.score_samples(X) < 0.9
        assert is_outlier.any()
        assert not is_outlier.all()
        np.testing.assert_array_equal(predictions == -1, is_outlier)
        plain = ImprintClassifier("mean").fit(X, y).predict(X)
        np.testing.assert_array_equal(predictions[~is_outlier], plain[~is_outlier])
        assert clf.outlier_threshold_ == 0.9

    def test_rejects_about_the_share_asked_for(self, digits):
        X, X_test, y, _ = train_test_split(*digits, random_state=0)
        clf = ImprintClassifier("mean", **AUTO, contamination=0.1).fit(X, y)
        assert 0.03 < np.mean(clf.predict(X_test) == -1) < 0.2

    def test_longer_label_than_the_classes(self):
        clf = ImprintClassifier("mean", outlier_threshold=2, outlier_label="a" * 20)
        assert clf.fit(np.eye(2), ["b", "c"]).predict(np.eye(2))[0] == "a" * 20

    def test_score_is_that_of_the_nearest_proxy(self, few):
        X, y = few
        for metric in ("dot", "cosine", "euclidean", "mahalanobis", "manhattan"):
            clf = ImprintClassifier(
                "kmeans", 2, metric=metric, aggregation="mnn", n_neighbors=2
            ).fit(X, y)
            nearest = clf.kproxies(X, n_neighbors=1)[0][:, 0]
            np.testing.assert_allclose(clf.score_samples(X), nearest, atol=1e-5)

    def test_contrast_by_its_definition(self):
        similarities = np.array([[5.0, 1], [3, 2], [4, 0], [1, 9]])
        offsets = np.array([0, 2, 4])
        kinds = [(False, 1), (True, 1), (True, 2)]
        found = [
            familiarities(similarities, offsets, contrast=c, n_nearest=n)
            for c, n in kinds
        ]
        expected = [[5, 9], [5 - 4 / 3, 9 - 2 / 3], [4 - 2.5 / 3, 4.5 - 1.5 / 3]]
        np.testing.assert_allclose(found, expected)

    @pytest.mark.parametrize("outlier_score", ["similarity", "contrast"])
    def test_a_single_class(self, few, outlier_score):
        X, y = few
        clf = ImprintClassifier("all", outlier_score=outlier_score, **AUTO)
        clf.fit(X[y == 1], y[y == 1])
        assert np.isfinite(clf.outlier_threshold_)
        assert clf.temperature_ == 1

    def test_one_sample_a_class_tells_nothing(self):
        clf = ImprintClassifier("mean", **AUTO)
        with pytest.warns(UserWarning, match="Two samples of a class are needed"):
            clf.fit(np.eye(3), [0, 1, 2])
        assert (clf.temperature_, clf.outlier_threshold_) == (1, -np.inf)
        assert clf.predict([[-1.0, -1.0, -1.0]]) != -1

    def test_a_head_without_samples_competes(self, few):
        X, y = few
        clf = ImprintClassifier("mean", head=(X[:2], [100, 101]), **AUTO).fit(X, y)
        assert np.isfinite(clf.outlier_threshold_)

    @pytest.mark.parametrize(
        "params, message",
        [
            ({"outlier_threshold": 0.5}, "needs an outlier_label"),
            (
                {"outlier_threshold": 0.5, "outlier_label": "unknown"},
                "outlier_label must be of the type of the labels",
            ),
            ({**AUTO, "query_norm": None}, "query_norm must be the support_norm"),
            ({**AUTO, "generator": "least_squares"}, "those of LeastSquaresProxies"),
            ({"contamination": 1.0}, "contamination"),
            ({"temperature": "warm"}, "temperature"),
        ],
    )
    def test_not_valid(self, few, params, message):
        clf = ImprintClassifier(**params)
        with pytest.raises(ValueError, match=message):
            clf.fit(*few)
        assert not hasattr(clf, "classes_")


@pytest.mark.parametrize("inverse", [1e-3, 0.5, 30.0])
def test_temperature_of_scores_drawn_from_it(inverse):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 5))
    codes = (inverse * scores + rng.gumbel(size=scores.shape)).argmax(axis=1)
    temperature = fit_temperature(scores, codes, np.ones(len(codes)))
    assert 1 / temperature == pytest.approx(inverse, rel=0.05, abs=0.03)
    scaled = fit_temperature(1e-4 * scores, codes, np.ones(len(codes)))
    assert scaled == pytest.approx(1e-4 * temperature, rel=1e-3)


class TestExplain:
    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"aggregation": "mnn"},
            {"metric": "euclidean"},
            {"generator": "all", "aggregation": "mnn", "n_neighbors": 1},
            {
                "aggregation": lambda s, codes: np.stack(
                    [s[:, codes == c].mean(axis=1) for c in range(10)], axis=1
                )
            },
        ],
        ids=str,
    )
    def test_agrees_with_the_predictions(self, few, params):
        X, y = few
        clf = ImprintClassifier(**{"n_proxies": 3, "random_state": 0, **params})
        clf.fit(X, y)
        why = clf.explain(X)
        np.testing.assert_array_equal(why.label, clf.predict(X))
        np.testing.assert_array_equal(clf.proxy_labels_[why.proxy], why.label)
        np.testing.assert_array_equal(clf.proxy_indices_[why.proxy], why.training_row)
        np.testing.assert_array_equal(y[why.training_row], why.label)
        scores = np.sort(clf.decision_function(X), axis=1)
        np.testing.assert_allclose(why.margin, scores[:, -1] - scores[:, -2], atol=1e-6)
        assert (why.runner_up != why.label).all()
        np.testing.assert_allclose(why.familiarity, clf.score_samples(X), atol=1e-6)
        if not params:
            np.testing.assert_allclose(why.similarity, scores[:, -1], atol=1e-6)
        assert {len(values) for values in why.values()} == {len(X)}

    def test_a_single_class(self):
        why = ImprintClassifier("mean").fit(np.eye(2), ["a", "a"]).explain(np.eye(2))
        assert why.runner_up.tolist() == ["a", "a"]
        assert np.isinf(why.margin).all()
        assert why.n_samples.tolist() == [2, 2]
