"""The head: whitened proxies that lean to the mean of their class."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from settings import PLAIN, plain_classifier
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from states import learnt

from skimprint import ImprintClassifier
from skimprint._plan import Plan
from skimprint._space.space import Space
from skimprint.aggregation import Votes
from skimprint.classifier import _head
from skimprint.normalization import l2_normalize

AS_THEY_ARE = {"support_norm": None, "query_norm": None, "proxy_norm": None}


def blobs(n, d, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    y[:8] = np.arange(8) % 4
    scale = rng.uniform(0.2, 3, d)
    return (rng.normal(size=(4, d))[y] + rng.normal(size=(n, d)) * scale), y


def test_the_nearest_whitened_mean_is_lda_without_priors():
    X, y = blobs(200, 6)
    residuals = X - np.array([X[y == c].mean(axis=0) for c in range(4)])[y]
    X = X / residuals.std(axis=0)  # scikit-learn scales before it shrinks
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(X, y)
    clf = plain_classifier("mean", metric="euclidean", whitening=0.3, **AS_THEY_ARE)
    expected = (lda.decision_function(X) - np.log(lda.priors_)).argmax(axis=1)
    np.testing.assert_array_equal(clf.fit(X, y).predict(X), expected)
    assert clf.whitening_ == 0.3


@pytest.mark.parametrize("whitening", [None, 0.3, 1.0])
def test_mahalanobis_distances_to_means_are_lda_without_priors(whitening):
    X, y = blobs(200, 6)
    clf = plain_classifier(
        "mean", metric="mahalanobis", whitening=whitening, **AS_THEY_ARE
    )
    clf.fit(X, y)

    class OfTheClassifier(BaseEstimator):
        def fit(self, X):
            self.covariance_ = clf.covariance_
            return self

    lda = LinearDiscriminantAnalysis("lsqr", covariance_estimator=OfTheClassifier())
    scores = lda.fit(X, y).decision_function(X) - np.log(lda.priors_)
    np.testing.assert_array_equal(clf.predict(X), scores.argmax(axis=1))
    # Both are the same but for what depends on the query only.
    halves = -(clf.decision_function(X) ** 2) / 2
    apart = scores - halves
    np.testing.assert_allclose(apart, np.tile(apart[:, :1], 4), atol=1e-8)


@pytest.mark.parametrize("n, d", [(200, 6), (12, 40)])
def test_with_all_whitening_only_centres_and_scales(n, d):
    X, y = blobs(n, d)
    origin = np.mean([X[y == c].mean(axis=0) for c in range(4)], axis=0)
    norms = {"support_norm": None, "query_norm": None}
    whitened = plain_classifier("mean", whitening=1.0, **norms).fit(X, y)
    plain = plain_classifier("mean", **norms).fit(X - origin, y)
    np.testing.assert_allclose(whitened.proxies_, plain.proxies_, atol=1e-9)
    np.testing.assert_array_equal(whitened.predict(X), plain.predict(X - origin))


@pytest.mark.parametrize("whitening", [0.01, 0.7, "auto"])
def test_mahalanobis_distances_do_not_see_the_whitening(whitening):
    X, y = blobs(200, 6)
    clf = plain_classifier("kmeans", n_proxies=3, metric="mahalanobis", **AS_THEY_ARE)
    clf.set_params(random_state=0).fit(X, y)
    scores = clf.decision_function(X)
    whitened = clf.set_params(whitening=whitening).fit(X, y)
    np.testing.assert_allclose(whitened.decision_function(X), scores, rtol=1e-6)


@pytest.mark.parametrize("d", [6, 300])
@pytest.mark.parametrize("whitening", [0.2, "auto"])
@pytest.mark.parametrize("n_proxies", [1, 3])
def test_any_chunks_and_any_order_give_the_same(d, whitening, n_proxies):
    X, y = blobs(120, d)
    generator = "mean" if n_proxies == 1 else "all"
    clf = plain_classifier(generator, whitening=whitening)
    whole = clf.fit(X, y)
    chunked = plain_classifier(generator, whitening=whitening)
    order = np.random.default_rng(1).permutation(len(X))
    for part in np.array_split(order, 4):  # doubled by the last
        chunked.partial_fit(X[part], y[part])
    assert chunked.whitening_ == whole.whitening_
    np.testing.assert_allclose(
        chunked.decision_function(X), whole.decision_function(X), atol=1e-8
    )


def test_forgetting_forgets_the_covariance_too():
    X, y = blobs(120, 6)
    clf = plain_classifier("mean", whitening="auto").fit(X, y).forget(3)
    fresh = plain_classifier("mean", whitening="auto").fit(X[y != 3], y[y != 3])
    np.testing.assert_allclose(
        clf.decision_function(X), fresh.decision_function(X), atol=1e-9
    )
    assert clf.whitening_ == fresh.whitening_


@pytest.mark.parametrize("n_classes, d", [(2, 8), (5, 8), (5, 900)])
def test_one_sample_per_class_is_whitened_by_all_of_them(n_classes, d):
    X, y = np.random.default_rng(0).normal(size=(n_classes, d)), np.arange(n_classes)
    clf = plain_classifier("kmeans", whitening="auto").fit(X, y)
    assert clf.whitening_ == max(1 / (1 + 2 * (n_classes - 1) / d), 0.97)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    covariance = centred.T @ centred / n_classes
    shrunk = np.eye(d) * clf.whitening_ * np.trace(covariance) / d
    precision = np.linalg.inv(shrunk + (1 - clf.whitening_) * covariance)
    queries = np.random.default_rng(1).normal(size=(20, d))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    queries -= unit.mean(axis=0)
    lengths = [
        np.sqrt(np.einsum("ij,jk,ik->i", Z, precision, Z)) for Z in (queries, centred)
    ]
    expected = queries @ precision @ centred.T / np.outer(*lengths)
    scores = clf.decision_function(queries + unit.mean(axis=0))
    raw = clf.set_params(temperature=1.0).predict_proba(queries + unit.mean(axis=0))
    np.testing.assert_allclose(
        np.log(raw[:, 1:] / raw[:, :1]), expected[:, 1:] - expected[:, :1], atol=1e-6
    )
    if n_classes > 2:
        np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_a_second_sample_has_the_shrinkage_chosen_again():
    X, y = blobs(8, 6)
    first = np.array([np.flatnonzero(y == c)[0] for c in range(4)])
    clf = plain_classifier("mean", whitening="auto").fit(X[first], y[first])
    assert clf.whitening_ >= 0.97
    rest = np.setdiff1d(np.arange(len(X)), first)
    for some in np.array_split(rest, 2):  # the samples have not doubled
        clf.partial_fit(X[some], y[some])
    fresh = plain_classifier("mean", whitening="auto").fit(X, y)
    assert clf.whitening_ == fresh.whitening_


def test_whitens_beside_the_classes_of_a_head():
    X, y = blobs(60, 6)
    clf = ImprintClassifier.from_head(
        np.eye(6), list("abcdef"), **PLAIN | {"whitening": "auto"}
    )
    scores = clf.decision_function(X)
    with pytest.raises(AttributeError, match="after support embeddings"):
        clf.whitening_  # noqa: B018
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(scores, unit)
    clf.partial_fit(X, np.array(list("wxyz"))[y])
    assert 0 < clf.whitening_ <= 1
    assert clf.classes_.tolist() == list("abcdefwxyz")


@pytest.mark.parametrize("generator", ["cov_max", "fps", "kmedoids", "least_squares"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "manhattan"])
def test_float32_stays_float32_and_is_safe_in_threads(generator, metric):
    X, y = blobs(100, 12)
    X = X.astype(np.float32)
    clf = plain_classifier(generator, metric=metric, whitening="auto", n_proxies=2)
    clf.fit(X, y)
    assert clf.proxies_.dtype == clf.decision_function(X).dtype == np.float32
    copy = pickle.loads(pickle.dumps(clf))
    copy.partial_fit(X[:1], y[:1])  # its head has to be made again
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(copy.predict, [X] * 8))
    for answer in answers:
        np.testing.assert_array_equal(answer, answers[0])


def test_whitening_helps_on_digits(digits):
    X, y = digits
    plain = plain_classifier("mean").fit(X[:300], y[:300])
    whitened = plain_classifier("mean", whitening="auto").fit(X[:300], y[:300])
    gain = whitened.score(X[300:], y[300:]) - plain.score(X[300:], y[300:])
    assert gain > 0.03


@pytest.mark.parametrize("whitening", [None, 0.2])
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_power_is_l2_of_roots_taken_before(digits, whitening, metric):
    X, y = digits[0][:300].astype(float), digits[1][:300]
    roots = np.sign(X) * np.sqrt(np.abs(X))
    clf = plain_classifier("mean", whitening=whitening, metric=metric)
    expected = clf.fit(roots, y).decision_function(roots)
    clf.set_params(support_norm="power", query_norm="power").fit(X, y)
    np.testing.assert_allclose(clf.decision_function(X), expected, atol=1e-7)


@pytest.mark.parametrize("metric", ["dot", "cosine"])
@pytest.mark.parametrize("n, d", [(200, 6), (12, 40)])
@pytest.mark.parametrize("norms", [{}, AS_THEY_ARE], ids=["unit length", "as they are"])
@pytest.mark.parametrize("are_many", [False, True])
def test_proxies_are_whitened_twice_or_queries_once(
    metric, n, d, norms, are_many, monkeypatch
):
    if are_many:
        monkeypatch.setattr(_head, "_MANY", 0)
    X, y = blobs(n, d)
    clf = plain_classifier("mean", metric=metric, whitening=0.1, **norms).fit(X, y)
    head = clf._fitted.scorer.head
    assert (head.twice_whitened is None) == are_many
    unit = (lambda rows: rows) if norms else l2_normalize
    queries = unit(head.whitening(unit(X)))
    if metric == "cosine":
        queries = l2_normalize(queries)
        expected = queries @ l2_normalize(head.proxies).T
    else:
        expected = queries @ head.proxies.T
    np.testing.assert_allclose(clf.decision_function(X), expected, atol=1e-9)
    np.testing.assert_array_equal(clf.predict(X), expected.argmax(axis=1))


@pytest.fixture(scope="module")
def some(digits):
    X, y = digits
    return X[:300].astype(np.float64), y[:300]


class TestMeanWeight:
    @pytest.mark.parametrize("whitening", [None, 0.3])
    @pytest.mark.parametrize("proxy_norm", ["l2", None])
    @pytest.mark.parametrize("generator", ["kmeans", "random"])
    def test_is_the_share_of_the_mean(self, some, whitening, proxy_norm, generator):
        params = {"whitening": whitening, "proxy_norm": proxy_norm, "random_state": 0}
        plain = plain_classifier(generator, 3, **params).fit(*some)
        mean = plain_classifier("mean", **params).fit(*some)
        codes = np.searchsorted(plain.classes_, plain.proxy_labels_)
        blended = plain_classifier(generator, 3, mean_weight=0.3, **params).fit(*some)
        expected = 0.7 * plain.proxies_ + 0.3 * mean.proxies_[codes]
        np.testing.assert_allclose(blended.proxies_, expected, atol=1e-9)

    @pytest.mark.parametrize("aggregation", ["max", Votes(4)], ids=str)
    @pytest.mark.parametrize("whitening", [None, "auto"])
    def test_all_of_it_is_the_mean(self, some, aggregation, whitening):
        X, y = some
        mean = plain_classifier("mean", whitening=whitening).fit(X, y)
        clf = plain_classifier(
            "kmeans", 4, mean_weight=1.0, whitening=whitening, random_state=0
        )
        clf.set_params(aggregation=aggregation).fit(X, y)
        np.testing.assert_array_equal(clf.predict(X), mean.predict(X))

    def test_of_one_proxy_changes_nothing(self, some):
        plain = plain_classifier("mean", whitening="auto").fit(*some)
        clf = plain_classifier("mean", whitening="auto", mean_weight=0.5).fit(*some)
        np.testing.assert_allclose(clf.proxies_, plain.proxies_, atol=1e-12)

    def test_keeps_the_mean_of_a_head(self):
        clf = ImprintClassifier.from_head(np.eye(3), mean_weight=0.5)
        np.testing.assert_array_equal(clf.proxies_, np.eye(3))

    @pytest.mark.parametrize(
        "params", [{"proxy_norm": "quantile"}, {"generator": "least_squares"}]
    )
    def test_is_refused_where_proxies_are_no_points(self, some, params):
        clf = plain_classifier(mean_weight=0.5, **params)
        with pytest.raises(ValueError, match="mean_weight needs proxies"):
            clf.fit(*some)

    @pytest.mark.parametrize(
        "params, mean_weight",
        [
            ({}, 2 / 3),
            ({"generator": "fps"}, 2 / 3),
            ({"proxy_norm": "quantile"}, 0.0),
            ({"generator": "least_squares", "n_proxies": 1}, 0.0),
        ],
    )
    def test_auto_is_two_thirds_for_points(self, some, params, mean_weight):
        X, y = some
        clf = plain_classifier(mean_weight="auto", random_state=0, **params)
        given = plain_classifier(mean_weight=mean_weight, random_state=0, **params)
        np.testing.assert_array_equal(
            clf.fit(X, y).decision_function(X), given.fit(X, y).decision_function(X)
        )

    @pytest.mark.parametrize("mean_weight", [-0.1, 1.1, "half"])
    def test_is_a_share(self, some, mean_weight):
        with pytest.raises(ValueError, match="mean_weight"):
            plain_classifier(mean_weight=mean_weight).fit(*some)


def test_what_a_norm_returns_stays_as_it_is():
    table = np.eye(3, 4)
    table.setflags(write=False)
    X, y = np.random.default_rng(0).normal(size=(30, 4)), np.repeat([0, 1, 2], 10)
    clf = plain_classifier("mean", proxy_norm=lambda _: table, mean_weight=0.3)
    assert clf.fit(X, y).predict(X[:2]).shape == (2,)


def test_classes_that_cannot_be_predicted_get_a_value_of_their_own():
    clf = plain_classifier("mean").fit(np.eye(4), list("abcd"), [1, 0, 1, 0])
    head = clf._fitted.scorer.head
    assert head.classes.tolist() == ["a", "c"]
    assert head.all_classes.tolist() == list("abcd")
    found = head.widened(np.array([[1.0, 2], [3, 4]]), -7)
    np.testing.assert_array_equal(found, [[1, -7, 2, -7], [3, -7, 4, -7]])
    whole = plain_classifier("mean").fit(np.eye(2), list("ab"))._fitted.scorer.head
    values = np.ones((3, 2))
    assert whole.widened(values, 0) is values


@pytest.mark.parametrize("mean_weight", [0.0, 0.5])
@pytest.mark.parametrize("proxy_norm", [None, "l2", "quantile", lambda rows: rows])
@pytest.mark.parametrize("generator", ["mean", "all", "kmeans"])
def test_what_is_remembered_stays_as_it_is(generator, proxy_norm, mean_weight):
    """Proxies are normalised and blended in place, but not in that one."""
    X, y = np.random.default_rng(0).normal(size=(30, 6)), np.arange(30) % 3
    if proxy_norm == "quantile":
        mean_weight = 0
    params = {"support_norm": None, "mean_weight": mean_weight, "random_state": 0}
    clf = plain_classifier(generator, 4, proxy_norm=proxy_norm, **params)
    state = learnt(Plan.of(clf, False), X, y)
    before = pickle.dumps(state)
    _head.Head(Plan.of(clf, False), Space(state))
    assert pickle.dumps(state) == before
