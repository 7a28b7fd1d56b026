"""Scores of samples left out: against models that are fitted without them."""

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from settings import means_of_classes, plain_classifier, spelt
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from skimprint import ImprintClassifier, Rejection
from skimprint._scoring.leave_one_out import leave_one_out
from skimprint.aggregation import Votes
from skimprint.classifier._calibration import Calibration, calibrate, familiarity_kind
from skimprint.datasets import load_digits_embeddings
from skimprint.methods import RECOMMENDED


def scores_left_out(clf, X, y, **fit_params):
    """Scores and familiarity of each sample, by a refit without it: the definition."""
    scores, familiar = [], []
    for i in range(len(X)):
        left = np.arange(len(X)) != i
        params = {name: value[left] for name, value in fit_params.items()}
        refit = clone(clf).fit(X[left], y[left], **params)
        scores.append(refit.decision_function(X[i : i + 1])[0])
        familiar.append(refit.score_samples(X[i : i + 1])[0])
    return np.array(scores), np.array(familiar)


def best_threshold(familiar, codes, weights, rate):
    """Below it is this share of the samples, each class having the same say."""
    weights = weights / np.bincount(codes, weights)[codes]
    return np.quantile(familiar, rate, weights=weights, method="inverted_cdf")


def best_temperature(scores, codes, weights):
    """The most probable one, with a normal prior of its logarithm: the definition.

    Each class has the same say.
    """
    rows = np.arange(len(codes))
    weights = weights / np.bincount(codes, weights)[codes]
    n_equal = weights.sum() ** 2 / np.sum(weights**2)
    spread = (scores - scores[rows, codes][:, None]).std()

    def loss(log_t):
        of_class = log_softmax(scores / np.exp(log_t), axis=1)[rows, codes]
        apart = (np.log(spread) - log_t - 1) / 0.4
        return -weights @ of_class / weights.sum() + apart**2 / 2 / n_equal

    return np.exp(minimize_scalar(loss, bounds=(-12, 5), method="bounded").x)


def calibrated(label=-1, **changes):
    """Parameters that are chosen by samples left out."""
    return {"temperature": "auto", "rejection": Rejection(label, **changes)}


def best_of_each(similarities, proxy_classes):
    """What is built in, as a function that fails where there are no queries."""
    assert len(similarities)
    each = range(proxy_classes.max() + 1)
    return np.stack([similarities[:, proxy_classes == c].max(axis=1) for c in each], 1)


@pytest.mark.parametrize("score", ["similarity", "contrast"])
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
        {"generator": "all", "aggregation": Votes(3)},
        {
            "generator": "all",
            "aggregation": Votes(weights="distance"),
            "metric": "euclidean",
        },
        {"generator": "all", "aggregation": means_of_classes},
        {"generator": "kmeans", "n_proxies": 1000, "aggregation": means_of_classes},
        {"generator": "mean", "support_norm": None, "proxy_norm": None},
        {"generator": "mean", "support_norm": "power", "query_norm": "power"},
        {"generator": "all", "support_norm": "auto", "query_norm": "auto"},
        {"generator": "all", "mean_weight": 0.5},
        {"generator": "all", "mean_weight": 0.3, "metric": "euclidean"},
        {"generator": "kmeans", "n_proxies": 1000, "mean_weight": 0.8},
    ],
    ids=lambda params: str({k: getattr(v, "__name__", v) for k, v in params.items()}),
)
def test_as_if_each_sample_were_left_out(few, params, score):
    X, y = few
    rejection = Rejection(-1, threshold=-1e9, score=score)
    clf = plain_classifier(**params, rejection=rejection)
    scores, familiar = scores_left_out(clf, X, y)
    clf.set_params(**calibrated(rate=0.1, score=score)).fit(X, y)

    codes, ones = np.searchsorted(clf.classes_, y), np.ones(len(y))
    expected = best_threshold(familiar, codes, ones, 0.1)
    np.testing.assert_allclose(clf.rejection_threshold_, expected, rtol=1e-6)
    expected = best_temperature(scores, codes, ones)
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
    clf = plain_classifier(metric="mahalanobis", **params, **calibrated(rate=0.1))
    clf.fit(X, y)
    head, n = clf._fitted.scorer.head, len(y)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)

    familiar = []
    for i, row in enumerate(rows):
        residual = row - rows[y == y[i]].mean(axis=0)
        n_class = np.sum(y == y[i])
        share = (1 - head.covariance_shrinkage) * n_class / (n_class - 1) / n
        covariance = clf.covariance_ - share * np.outer(residual, residual)
        covariance *= n / (n - 1)
        left = np.arange(n) != i
        proxies = clone(clf).set_params(temperature=1.0, rejection=None)
        apart = row - proxies.fit(X[left], y[left]).proxies_
        squares = np.einsum("ij,ij->i", apart @ np.linalg.inv(covariance), apart)
        familiar.append(-np.sqrt(squares.min()))
    codes = np.searchsorted(clf.classes_, y)
    expected = best_threshold(np.array(familiar), codes, np.ones(n), 0.1)
    np.testing.assert_allclose(clf.rejection_threshold_, expected, rtol=1e-6)


def test_mahalanobis_rejects_about_the_share_asked_for(digits):
    X, y = digits
    X, queries, y, _ = train_test_split(X, y, test_size=0.5, random_state=0, stratify=y)
    clf = plain_classifier("mean", metric="mahalanobis", **calibrated(rate=0.1))
    rejected = np.mean(clf.fit(X, y).predict(queries) == -1)
    assert rejected == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("n", [100, 300])
@pytest.mark.parametrize(
    "params",
    [
        RECOMMENDED,
        RECOMMENDED | {"kernel_weight": 0, "rejection__score": "contrast"},
        {"generator": "mean", "whitening": "auto"},
        {"generator": "all", "whitening": 0.5},
        {"generator": "mean", "whitening": 0.3, "metric": "euclidean"},
        {"generator": "mean", "whitening": 0.5, "metric": "mahalanobis"},
        {"generator": "mean", "whitening": "auto", "proxy_norm": "quantile"},
    ],
    ids=str,
)
def test_whitening_does_not_know_the_sample(digits, params, n):
    """Else, of fewer samples than features most queries would be rejected."""
    X, queries, y, truth = train_test_split(
        *digits, train_size=n, random_state=0, stratify=digits[1]
    )
    clf = plain_classifier(**calibrated(rate=0.1), random_state=0)
    clf.set_params(**params)
    rejected = np.mean(clf.fit(X, y).predict(queries) == -1)
    assert rejected == pytest.approx(0.1, abs=0.07)
    scores = clf.decision_function(queries).astype(np.float64)
    ones = np.ones(len(truth))
    best = best_temperature(scores, np.searchsorted(clf.classes_, truth), ones)
    assert np.log(clf.temperature_) == pytest.approx(np.log(best), abs=0.5)


def test_labels_of_dtype_object(few):
    X, y = few
    names = np.array([f"digit {label}" for label in y], dtype=object)
    by_name = ImprintClassifier(**RECOMMENDED | calibrated(label="none"))
    by_name.fit(X, names)
    by_number = ImprintClassifier(**RECOMMENDED | calibrated()).fit(X, y)
    assert by_name.temperature_ == by_number.temperature_
    assert by_name.rejection_threshold_ == by_number.rejection_threshold_


def test_weights_count_as_copies_that_are_left_out_together(few):
    X, y = few
    weights = np.random.default_rng(0).integers(1, 4, len(y)).astype(float)
    clf = plain_classifier("mean", **calibrated(rate=0.2))
    plain = plain_classifier("mean")
    scores, familiar = scores_left_out(plain, X, y, sample_weight=weights)
    clf.fit(X, y, sample_weight=weights)
    codes = np.searchsorted(clf.classes_, y)
    expected = best_threshold(familiar, codes, weights, 0.2)
    np.testing.assert_allclose(clf.rejection_threshold_, expected, rtol=1e-6)
    expected = best_temperature(scores, codes, weights)
    np.testing.assert_allclose(clf.temperature_, expected, rtol=1e-2)


@pytest.mark.parametrize("method", ["default", "recommended", "qi"])
@pytest.mark.parametrize("n_shots", [2, 3, 10])
def test_few_samples_of_two_classes_give_moderate_probabilities(
    digits, n_shots, method
):
    """All right or mostly wrong when they are left out, they say little of any."""
    X, y = digits
    rng, losses = np.random.default_rng(n_shots), []
    clf = ImprintClassifier(random_state=0)
    if method != "default":
        clf = ImprintClassifier.from_method(method, temperature="auto", random_state=0)
    for _ in range(12):
        pair = rng.choice(10, 2, replace=False)
        rows = rng.permutation(np.flatnonzero(np.isin(y, pair)))
        support = np.concatenate([rows[y[rows] == c][:n_shots] for c in pair])
        queries = np.setdiff1d(rows, support)
        probabilities = clf.fit(X[support], y[support]).predict_proba(X[queries])
        of_class = probabilities[np.arange(len(queries)), 1 * (y[queries] == max(pair))]
        losses.append(-np.log(of_class).mean())
    assert np.mean(losses) < 0.5
    assert np.max(losses) < 1.2


@pytest.mark.parametrize("method", ["default", "recommended", "qi"])
@pytest.mark.parametrize("n_classes", [2, 5, 10])
def test_one_sample_of_each_class_gives_better_probabilities_than_one(
    digits, n_classes, method
):
    X, y = digits
    rng, losses = np.random.default_rng(0), []
    clf = ImprintClassifier()
    if method != "default":
        clf = ImprintClassifier.from_method(method)
    for _ in range(8):
        rows = rng.permutation(len(y))
        rows = rows[np.isin(y[rows], rng.choice(10, n_classes, replace=False))]
        support = np.unique(y[rows], return_index=True)[1]
        queries = np.delete(rows, support)
        clf.set_params(temperature="auto", random_state=0)
        clf.fit(X[rows[support]], y[rows[support]])
        losses.append([])
        for temperature in ("auto", 1.0):
            clf.set_params(temperature=temperature)
            losses[-1].append(log_loss(y[queries], clf.predict_proba(X[queries])))
    found, at_one = np.mean(losses, axis=0)
    assert found < 0.9 * at_one


@pytest.mark.parametrize("params", [{}, {"whitening": 0.3}, {"kernel_weight": 0.5}])
def test_classes_of_one_sample_have_their_say(digits, params):
    """The square is the mean of those of both kinds, by how many classes each has."""
    X, y = digits
    single = np.arange(10) % 3 == 0
    sizes = np.where(single, 1, 20)
    few = np.concatenate([np.flatnonzero(y == c)[: sizes[c]] for c in range(10)])
    X_few, y_few = X[few].astype(np.float64), y[few]
    clf = plain_classifier("mean", temperature="auto", **params).fit(X_few, y_few)
    scorer = clf._fitted.scorer
    found = leave_one_out(scorer, "similarity")
    np.testing.assert_array_equal(found.is_alone, single)
    of_large = best_temperature(found.scores, found.codes, found.weights)
    without_kernel = plain_classifier("mean", **(params | {"kernel_weight": 0}))
    scores = without_kernel.fit(X_few, y_few).decision_function(X_few)
    is_other = single[y_few][:, None] & (y_few[:, None] != np.arange(10))
    expected = np.sqrt(0.6 * of_large**2 + 0.4 * scores[is_other].var())
    assert clf.temperature_ == pytest.approx(expected, rel=1e-4)
    queries = np.setdiff1d(np.arange(len(X)), few)
    scores = clf.decision_function(X[queries])

    def loss(temperature):
        return log_loss(y[queries], softmax(scores / temperature, axis=1))

    if not clf.kernel_weight:  # which has no part in scores for other classes
        assert loss(clf.temperature_) < loss(of_large)


@pytest.mark.parametrize(
    "params",
    [{}, {"whitening": None}, {"generator": "all", "aggregation": "mnn"}, RECOMMENDED],
    ids=spelt,
)
def test_small_classes_are_rejected_no_more_than_asked_for(digits, params):
    X, y = digits
    X = X[:, ::8]
    sizes = np.where(np.arange(10) % 2, 3, 60)
    few = np.concatenate([np.flatnonzero(y == c)[: sizes[c]] for c in range(10)])
    clf = ImprintClassifier(rejection=Rejection(-1, rate=0.1), random_state=0)
    clf.set_params(**params).fit(X[few], y[few])
    queries = np.setdiff1d(np.arange(len(X)), few)
    rejected = clf.predict(X[queries]) == -1
    assert rejected[y[queries] % 2 == 1].mean() < 0.2
    assert rejected.mean() == pytest.approx(0.1, abs=0.07)


def cut(X, y, sizes):
    """The first samples of each class, and all others as queries."""
    rows = [np.flatnonzero(y == c)[:n] for c, n in enumerate(sizes)]
    chosen = np.concatenate(rows)
    return X[chosen], y[chosen], np.delete(X, chosen, axis=0), np.delete(y, chosen)


@pytest.mark.parametrize(
    "sizes", [[1, 60], [1, 1, 30, 30, 30], [1, 20, 1, 5, 1], [1, 1, 1, 1, 40]], ids=str
)
@pytest.mark.parametrize(
    "params",
    [
        {},
        RECOMMENDED,
        {"whitening": None},
        {"whitening": None, "rejection__score": "contrast"},
        {"metric": "euclidean"},
        {"generator": "all", "aggregation": "mnn"},
    ],
    ids=spelt,
)
def test_classes_of_one_sample_are_rejected_about_as_asked(params, sizes):
    """On average: by what samples of the others say of themselves, it is 24 to 68 %."""
    X, y = load_digits_embeddings(return_X_y=True)
    X = X[:, ::4]
    clf = ImprintClassifier(rejection=Rejection(-1, rate=0.1), random_state=0)
    clf.set_params(**params)
    rejected, by_others = [], []
    for draw in range(8):
        rng = np.random.default_rng(draw)
        order = rng.permutation(len(y))
        numbers = rng.permutation(np.resize(sizes, 10))
        few, labels, queries, truth = cut(X[order], y[order], numbers)
        scorer = clf.fit(few, labels)._fitted.scorer
        found = leave_one_out(scorer, familiarity_kind(clf, scorer))
        weights = 1 / np.bincount(found.codes)[found.codes]
        larger = Calibration(1.0, found.familiarities, weights).threshold(0.1)
        familiar = clf.score_samples(queries)
        of_class = [familiar[truth == c] for c in range(10)]
        rejected.append([np.mean(f < clf.rejection_threshold_) for f in of_class])
        by_others.append([np.mean(f < larger) for f in of_class])
    assert np.mean(by_others) > 0.2
    assert np.mean(rejected) == pytest.approx(0.1, abs=0.07)


@pytest.mark.parametrize(
    "params",
    [
        {"aggregation": best_of_each},
        {"aggregation": means_of_classes},
        {"metric": lambda queries, proxies: queries @ proxies.T},
        {"support_norm": np.tanh, "query_norm": "auto"},
        {"proxy_norm": lambda rows: rows * 2},
        {"generator": lambda X, n_proxies, random_state: X[:1]},
        {"aggregation": best_of_each, "metric": "mahalanobis"},
    ],
    ids=spelt,
)
@pytest.mark.parametrize("sizes", [[1, 3] * 5, [1, 2] * 5, [1] * 9 + [2]], ids=str)
@pytest.mark.parametrize("score", ["auto", "similarity", "contrast"])
def test_functions_of_users_and_classes_of_one_sample(digits, score, sizes, params):
    X, y, queries, _ = cut(*digits, sizes)
    clf = ImprintClassifier(rejection=Rejection(-1, score=score), random_state=0)
    clf.set_params(**params).fit(X[:, ::16], y)
    assert np.isfinite(clf.rejection_threshold_)
    assert set(clf.predict(queries[:50, ::16])) <= {-1, *range(10)}


@pytest.mark.parametrize("params", [{}, {"whitening": None}, RECOMMENDED], ids=spelt)
def test_neither_order_nor_threads_decide_on_classes_of_one_sample(digits, params):
    """Which other sample stands in for a class depends on their values alone."""
    X, y, *_ = cut(*digits, [1, 7] * 5)
    clf = ImprintClassifier(rejection=Rejection(-1, rate=0.3), random_state=0)
    expected = clf.set_params(**params).fit(X, y).rejection_threshold_
    assert clone(clf).set_params(n_jobs=2).fit(X, y).rejection_threshold_ == expected
    order = np.random.default_rng(0).permutation(len(y))
    for rows, labels in ((order, y), (np.arange(len(y)), 9 - y), (order, (y * 3) % 10)):
        found = clone(clf).fit(X[rows], labels[rows]).rejection_threshold_
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("n_alone", [0, 1, 3])
def test_probabilities_keep_their_bits_in_a_pickle(n_alone):
    """The type of a temperature decides to which precision scores are divided."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(9, 5)).astype(np.float32), np.repeat([0, 1, 2], 3)
    keep = (np.arange(9) % 3 == 0) | (y >= n_alone)
    clf = plain_classifier("mean", temperature="auto").fit(X[keep], y[keep])
    queries = rng.normal(size=(50, 5)).astype(np.float32)
    probabilities = clf.predict_proba(queries)
    assert type(clf.temperature_) is float
    twin = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(twin.predict_proba(queries), probabilities)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("whitening", ["auto", None])
def test_votes_of_all_proxies_say_nothing(digits, dtype, whitening):
    """All shares are equal, but for the last digit that lets the nearest win."""
    X, y = digits
    X, y = X[y < 3].astype(dtype), y[y < 3]
    clf = ImprintClassifier("mean", aggregation=Votes(3), whitening=whitening)
    clf.fit(X[:60], y[:60])
    assert clf.temperature_ == 1.0
    np.testing.assert_allclose(clf.predict_proba(X[60:]), 1 / 3, rtol=1e-6)


def test_one_sample_may_say_nothing():
    """Of equal samples, or of one class, there is no difference to go by."""
    for X, y in ([[1.0, 0]] * 3, [0, 1, 2]), ([[1.0, 0]], [0]):
        clf = ImprintClassifier(support_norm="l2").fit(X, y)
        assert clf.temperature_ == 1


@pytest.mark.parametrize("aggregation", ["max", Votes(2), best_of_each])
@pytest.mark.parametrize("metric", ["dot", "mahalanobis", "manhattan"])
def test_a_head_alone_says_nothing_of_a_temperature(metric, aggregation):
    clf = ImprintClassifier.from_head(
        np.eye(4), metric=metric, aggregation=aggregation, whitening=None
    )
    assert clf.temperature_ == 1
    assert clf.partial_fit([[0.0, 1, 1, 0]], [7]).temperature_ > 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-5])
def test_logarithms_are_finite_for_any_temperature(few, dtype, temperature):
    X, y = few
    X = X.astype(dtype)
    clf = plain_classifier("mean", temperature=temperature).fit(X, y)
    logarithms = clf.predict_log_proba(X)
    assert np.isfinite(logarithms).all()
    np.testing.assert_array_equal(clf.classes_[logarithms.argmax(1)], clf.predict(X))


@pytest.mark.parametrize("metric", ["dot", "mahalanobis"])
@pytest.mark.parametrize("whitening", ["auto", 0, 1, None])
def test_what_varies_no_more_without_a_sample(metric, whitening):
    # Two samples of a class, of which one weighs nearly all: without the other, what is
    # left of the covariance is rounding.
    X = np.array([[36.0, 48, 60, 72], [-157, -210, -262, -315], [1, 2, 3, 5]])
    clf = plain_classifier("all", metric=metric, whitening=whitening)
    clf.set_params(support_norm=None, query_norm=None, **calibrated())
    for dtype in (np.float32, np.float64):
        clf.fit(X.astype(dtype), [0, 0, 1], sample_weight=[77.0, 0.25, 1])
        assert np.isfinite(clf.predict_proba(X.astype(dtype))).all()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"generator": "mean"},
        {"kernel_weight": 0.25},
        {"whitening": 0.3},
        {"generator": "mean", "whitening": None},
        {"metric": "mahalanobis", "whitening": None},
        {"metric": "euclidean", "whitening": None},
    ],
)
@pytest.mark.parametrize("n_features", [8, 64, 384])
@pytest.mark.parametrize("longest", [1, 5])
@pytest.mark.filterwarnings("ignore:The embeddings are nearly parallel")
def test_embeddings_of_one_direction_say_nothing(params, n_features, longest):
    rng = np.random.default_rng(0)
    row, queries = rng.normal(size=n_features), rng.normal(size=(3, n_features))
    X = row * rng.uniform(1, longest, size=(100, 1))
    clf = ImprintClassifier(random_state=0, **params).fit(X, np.arange(100) % 3)
    found = clf.predict_proba(np.concatenate([X[:1], queries]))
    np.testing.assert_allclose(found, 1 / 3, atol=1e-6)


class TestIncrementally:
    @pytest.mark.parametrize("generator", ["mean", "all"])
    def test_any_chunks_and_order_give_the_same(self, digits, generator):
        X, y = digits
        whole = plain_classifier(generator, **calibrated()).fit(X, y)
        parts = plain_classifier(generator, **calibrated())
        for rows in np.array_split(np.random.default_rng(0).permutation(len(y)), 6):
            parts.partial_fit(X[rows], y[rows])
        parts.forget(3).merge(clone(parts).fit(X[y == 3], y[y == 3]))
        np.testing.assert_allclose(parts.temperature_, whole.temperature_, 1e-4)
        np.testing.assert_allclose(
            parts.rejection_threshold_, whole.rejection_threshold_, 1e-5
        )

    @pytest.mark.parametrize("params", [{}, {"whitening": 0.3}], ids=spelt)
    @pytest.mark.parametrize("generator", ["mean", "all"])
    @pytest.mark.filterwarnings("ignore:No class has proxies left")  # of one to merge
    def test_so_do_classes_of_one_sample(self, digits, generator, params):
        X, y, *_ = cut(*digits, [1, 5, 30, 1, 2] * 2)
        clf = plain_classifier(generator, **params, **calibrated(rate=0.3))
        whole = clone(clf).fit(X, y)
        parts = clone(clf)
        for rows in np.array_split(np.random.default_rng(0).permutation(len(y)), 6):
            parts.partial_fit(X[rows], y[rows])
        for label in (3, 4):
            part = y == label
            parts.forget(label).merge(clone(parts).fit(X[part], y[part]))
        for name in ("rejection_threshold_", "temperature_"):
            found, expected = getattr(parts, name), getattr(whole, name)
            np.testing.assert_allclose(found, expected, rtol=1e-3)
        for twin in (pickle.loads(pickle.dumps(parts)), deepcopy(parts)):
            assert twin.rejection_threshold_ == parts.rejection_threshold_
            twin.set_params(rejection__rate=0.5)
            assert twin.rejection_threshold_ > parts.rejection_threshold_

    @pytest.mark.parametrize("params", [{}, {"whitening": 0.3}], ids=spelt)
    def test_a_second_sample_or_none_and_they_are_as_the_others(self, digits, params):
        X, y, *_ = cut(*digits, [2, 5] * 5)
        is_second = np.append(False, y[1:] == y[:-1]) & (y % 2 == 0)
        clf = plain_classifier("mean", **params, **calibrated(rate=0.3))
        clf.fit(X[~is_second], y[~is_second])
        more = deepcopy(clf).partial_fit(X[is_second], y[is_second])
        without = clf.forget([0, 2, 4, 6, 8])
        for some, rows in ((more, y >= 0), (without, y % 2 == 1)):
            expected = clone(clf).fit(X[rows], y[rows]).rejection_threshold_
            np.testing.assert_allclose(some.rejection_threshold_, expected, rtol=1e-4)

    def test_samples_are_bounded_and_forgotten(self, digits):
        X, y = digits
        X, y = np.tile(X, (6, 1)), np.tile(y, 6)
        X += np.random.default_rng(0).normal(scale=0.01, size=X.shape).astype("f4")
        clf = plain_classifier("mean", **calibrated()).fit(X, y)
        known = clf._fitted.state.gather(range(10)).samples
        assert max(known.sizes) == 200
        row = known.one(4).rows[0]
        clf.forget(4)
        left = clf._fitted.state.column(lambda block: block.samples)
        assert not (left.values.rows == row).all(axis=1).any()

    def test_is_made_again_when_settings_change(self, few):
        X, y = few
        clf = plain_classifier("mean", **calibrated()).fit(X, y)
        at_5_percent = clf.rejection_threshold_
        assert clf.set_params(rejection__rate=0.5).rejection_threshold_ > at_5_percent
        of_contrast = clf.set_params(rejection__score="contrast").rejection_threshold_
        fresh = clone(clf).fit(X, y)
        assert of_contrast == fresh.rejection_threshold_
        clf.set_params(metric="euclidean").fit(X, y)
        assert clf.rejection_threshold_ < 0


@pytest.mark.parametrize("look", [dir, lambda clf: clf._repr_html_()])
@pytest.mark.parametrize("rejection", [None, Rejection("none")])
def test_a_look_at_a_classifier_leaves_no_samples_out(
    few, look, rejection, monkeypatch
):
    """That may take longer than the fit, in each cell of a notebook that ends in it."""
    X, y = few
    clf = ImprintClassifier(random_state=0).fit(X, y).set_params(rejection=rejection)
    with monkeypatch.context() as context:
        context.setattr(f"{calibrate.__module__}.leave_one_out", pytest.fail)
        look(clf)
    names = {"temperature_"} | ({"rejection_threshold_"} if rejection else set())
    assert names.isdisjoint(dir(clf))
    clf.predict_proba(X)
    assert names <= set(dir(clf))


@pytest.mark.parametrize(
    "params", [{"temperature": 2.0}, {"generator": "least_squares"}]
)
def test_a_temperature_that_takes_no_time_is_always_listed(few, params):
    assert "temperature_" in dir(ImprintClassifier(**params).fit(*few))


def test_threads_that_come_at_once_calibrate_once(few, monkeypatch):
    X, y = few
    clf = ImprintClassifier(random_state=0).fit(X, y)
    expected, calls = clone(clf).fit(X, y).predict_proba(X), []

    def noted(*args):
        calls.append(args)
        time.sleep(0.05)
        return leave_one_out(*args)

    monkeypatch.setattr("skimprint.classifier._calibration.leave_one_out", noted)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(clf.predict_proba, [X] * 4):
            np.testing.assert_array_equal(found, expected)
    assert len(calls) == 1


def test_one_sample_is_not_heavier_than_all():
    """Mahalanobis distances without it have no negative squares, by rounding either."""
    rng = np.random.default_rng(0)
    for weight in rng.uniform(1e-3, 1, 100):
        clf = plain_classifier(
            "all",
            metric="mahalanobis",
            support_norm=None,
            query_norm=None,
            head=(rng.normal(size=(2, 5)), [0, 1]),
            rejection=Rejection(-1, rate=0.5),
        ).fit(rng.normal(size=(1, 5)), [0], sample_weight=[weight])
        assert np.isfinite(clf.rejection_threshold_)


def twice(how, clf, X, y):
    """Learn each sample twice."""
    if how == "rows":
        return clf.fit(np.repeat(X, 2, axis=0), np.repeat(y, 2))
    if how == "weights":
        return clf.fit(X, y, np.full(len(y), 2.0))
    if how == "parts":
        return clf.fit(X, y).partial_fit(X, y)
    return clf.fit(X, y).merge(clone(clf).fit(X, y))


@pytest.mark.parametrize("n_shots", [3, 30])
@pytest.mark.parametrize(
    "params",
    [
        {"generator": "mean"},
        {"generator": "all"},
        {"generator": "kmeans", "n_proxies": 5},
        {"generator": "kmeans", "n_proxies": 5, "kernel_weight": 0.5},
        {"generator": "kmeans", "n_proxies": 5, "whitening": None},
    ],
    ids=spelt,
)
@pytest.mark.parametrize("how", ["rows", "weights", "parts", "merged"])
def test_a_sample_is_not_found_in_its_copy_when_it_is_left_out(
    how, params, n_shots, digits
):
    """What is chosen by leaving samples out is about the same if each comes twice."""
    X, y = digits
    X = X[:, ::8]
    chosen = np.concatenate([np.flatnonzero(y == c)[:n_shots] for c in range(10)])
    X, y, others = X[chosen], y[chosen], np.delete(X, chosen, axis=0)
    clf = ImprintClassifier(**params, rejection=Rejection(-1, rate=0.1), random_state=0)
    once = clone(clf).fit(X, y)
    again = twice(how, clone(clf), X, y)
    np.testing.assert_allclose(again.temperature_, once.temperature_, rtol=0.35)
    rejected, expected = ((c.predict(others) == -1).mean() for c in (again, once))
    assert abs(rejected - expected) < 0.06
