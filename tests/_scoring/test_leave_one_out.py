"""Support samples scored by what would be known without each of them.

That this is what refits say is tested where it is used: see the tests of calibration.
"""

import numpy as np
import pytest
from settings import plain_classifier, spelt
from sklearn.base import clone
from sklearn.metrics.pairwise import rbf_kernel

from skimprint import ImprintClassifier, Rejection
from skimprint._scoring import leave_one_out as module
from skimprint._scoring.leave_one_out import _changes, _chosen, leave_one_out
from skimprint._space.whitening import precision_cholesky
from skimprint.generation import KMeansProxies
from skimprint.normalization import IDENTITY, l2_normalize


def calibrated():
    """Parameters that are chosen by samples left out."""
    return {"temperature": "auto", "rejection": Rejection(-1)}


@pytest.mark.parametrize("support_norm", ["l2", None])
@pytest.mark.parametrize("spherical", [False, True])
def test_a_mean_is_taken_apart_where_the_sample_is_nearest(
    few, spherical, support_norm
):
    """K-means, against the means of the clusters without the sample."""
    X, y = few
    generator = KMeansProxies(spherical=spherical)
    norms = {"support_norm": support_norm, "query_norm": support_norm}
    clf = plain_classifier(generator, 3, random_state=0, **norms, **calibrated())
    clf.fit(X, y)
    scorer, state = clf._fitted.scorer, clf._fitted.state
    head, samples = scorer.head, _chosen(scorer)
    left_out, change, _ = _changes(scorer, samples)
    assert len(left_out.rows) == len(X)
    for row, own, gone, left in zip(
        left_out.rows, change.own, change.gone, change.becomes, strict=True
    ):
        known = state.gather([clf.classes_[head.codes[own]]])
        rows, vectors = known.samples.values.rows, known.proxies.values.vectors
        distances = np.linalg.norm(rows[:, None] - vectors, axis=2)
        members = distances.argmin(axis=1) == own - head.offsets[head.codes[own]]
        others = rows[members & (rows != row).any(axis=1)]
        assert gone == (len(others) == 0)
        if not gone:
            expected = (l2_normalize(others) if spherical else others).mean(axis=0)
            if spherical:
                expected = l2_normalize(expected[None])[0]
            np.testing.assert_allclose(left, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("proxy_norm", ["quantile", None, lambda rows: rows * 2])
def test_other_norms_of_proxies(few, proxy_norm):
    X, y = few
    clf = plain_classifier("all", proxy_norm=proxy_norm, **calibrated()).fit(X, y)
    assert np.isfinite(clf.rejection_threshold_)
    head = clf._fitted.scorer.head
    vectors = head.space.proxies.values.vectors
    same = head.normalized(head.whitened(vectors), np.arange(len(vectors)))
    np.testing.assert_allclose(same, head.proxies, rtol=1e-12)


def statistics(X, y, weights):
    """Class means, and the scatter within the classes."""
    means = [
        np.average(X[y == c], axis=0, weights=weights[y == c]) for c in np.unique(y)
    ]
    residuals = (X - np.stack(means)[y]) * np.sqrt(weights)[:, None]
    return np.stack(means), residuals.T @ residuals


def space_without(head, X, y, weights, i):
    """Find class means, covariance, origin and whitening without a sample.

    What is held is the amount of shrinkage, with the variance and the total weight that
    it is relative to. Of the matrices that whiten, the one nearest to the old one.
    """
    d, total = X.shape[1], weights.sum()
    variance = np.trace(statistics(X, y, weights)[1]) / d / total
    others = np.arange(len(X)) != i
    means, scatter = statistics(X[others], y[others], weights[others])

    def covariance(shrinkage):
        return (1 - shrinkage) * scatter / total + shrinkage * variance * np.eye(d)

    origin, W = np.zeros(d), np.eye(d)
    if head.whitening is not None:
        W = head.whitening.apply(np.eye(d))
        if len(means) > 1:
            origin = means.mean(axis=0)
        values, vectors = np.linalg.eigh(W.T @ covariance(head.shrinkage) @ W)
        W = W @ (vectors / np.sqrt(values)) @ vectors.T
    return means, covariance, origin, W


def scores_by_definition(head, X, y, weights, i, other=None):
    """Score a sample by a head that is made without it.

    Another sample, whitened without itself, may be all that is known of its class.
    """
    plan, total = head.plan, weights.sum()
    means, covariance, origin, W = space_without(head, X, y, weights, i)
    made, codes = means, range(len(means))
    if plan.generator.selects:
        left = np.sort(head.indices[head.indices != i])
        made, codes = X[left], y[left]
    proxies, means = (plan.proxy_norm((rows - origin) @ W) for rows in (made, means))
    proxies = head.blended(proxies, means[codes])
    if other is not None:
        *_, its_origin, its_W = space_without(head, X, y, weights, other)
        own = plan.proxy_norm((X[[other]] - its_origin) @ its_W)
        is_other = np.not_equal(codes, y[i])
        proxies = np.concatenate([proxies[is_other], own])
        codes = [*np.array(codes)[is_other], y[i]]
    query = X[[i]]
    if plan.support_norm == IDENTITY:
        query = plan.query_norm(query)
    query = (query - origin) @ W
    if plan.query_norm.unit_length:
        query = l2_normalize(query)
    factor = None
    if plan.metric.needs_covariance:
        left = covariance(head.covariance_shrinkage) * total / (total - weights[i])
        factor = precision_cholesky(W.T @ left @ W)
    compare = plan.metric(proxies, factor=factor)
    query = compare.prepare(query)
    similarities = compare.finish(compare.raw(query), query)[:, 0]
    return [similarities[np.equal(codes, c)].max() for c in range(len(means))]


@pytest.mark.parametrize("whitening", [None, 0.05])
@pytest.mark.parametrize("mean_weight", [0.0, 0.6])
@pytest.mark.parametrize(
    "norms",
    [("l2", "l2", "l2"), (None, None, None), ("l2", np.tanh, "l2"), (None, "l2", "l2")],
)
@pytest.mark.parametrize(
    "metric", ["dot", "cosine", "euclidean", "manhattan", "mahalanobis", rbf_kernel]
)
@pytest.mark.parametrize("generator", ["mean", "all"])
@pytest.mark.parametrize("d, weighted", [(6, True), (60, False)])
def test_scores_are_those_of_a_head_without_the_sample(
    d, weighted, generator, metric, norms, mean_weight, whitening
):
    rng = np.random.default_rng(d)
    y = np.repeat(np.arange(4), [2, 3, 5, 10])
    X = rng.normal(size=(20, d)) + rng.normal(size=(4, d))[y] + 1
    weights = rng.uniform(0.5, 2, 20) if weighted else np.ones(20)
    support_norm, proxy_norm, query_norm = norms
    params = {
        "metric": metric,
        "support_norm": support_norm,
        "proxy_norm": proxy_norm,
        "query_norm": query_norm,
        "mean_weight": mean_weight,
        "whitening": whitening,
    }
    clf = ImprintClassifier(generator, **params).fit(X, y, weights)
    assert_scores_are_those_without(clf, X, y, weights)


@pytest.mark.parametrize("whitening", [None, 0.05])
@pytest.mark.parametrize("mean_weight", [0.0, 0.6])
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_samples_need_not_be_proxies(metric, mean_weight, whitening):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), [3, 4, 5, 10])
    X = rng.normal(size=(22, 6)) + rng.normal(size=(4, 6))[y] + 1
    params = {"metric": metric, "mean_weight": mean_weight, "whitening": whitening}
    clf = ImprintClassifier("fps", 2, support_norm="l2", **params).fit(X, y)
    assert_scores_are_those_without(clf, X, y, np.ones(22))


@pytest.mark.parametrize("metric", ["dot", "euclidean", "mahalanobis"])
@pytest.mark.parametrize("generator", ["mean", "all"])
def test_a_single_class_has_its_origin_elsewhere(generator, metric):
    """Only its scores of its own samples can be compared: they are familiarities."""
    X = np.random.default_rng(0).normal(size=(12, 6)) + 1
    params = {"whitening": 0.05, "rejection": Rejection(-1), "mean_weight": 0.6}
    clf = ImprintClassifier(generator, metric=metric, support_norm="l2", **params)
    y, weights = np.zeros(12, int), np.ones(12)
    assert_scores_are_those_without(clf.fit(X, y), X, y, weights)


def assert_scores_are_those_without(clf, X, y, weights):
    """Compare each with those of a head that is made without the sample."""
    scorer = clf._fitted.scorer
    found = leave_one_out(scorer, "similarity").scores
    X = scorer.plan.support_norm(X)
    kept = scorer.head.space.state.column(lambda block: block.samples).values.rows
    expected = [
        scores_by_definition(
            scorer.head, X, y, weights, np.abs(X - row).sum(1).argmin()
        )
        for row in kept
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("whitening", [0.0, 1e-4, 0.03])
def test_float32_is_exact_enough_for_little_shrinkage(few, whitening):
    X, y = few
    temperatures = [
        ImprintClassifier(whitening=whitening).fit(X.astype(dtype), y).temperature_
        for dtype in (np.float32, np.float64)
    ]
    np.testing.assert_allclose(*temperatures, rtol=2e-3)


@pytest.mark.parametrize(
    "params",
    [
        {"metric": "euclidean"},
        {"metric": rbf_kernel},
        {"aggregation": lambda similarities, classes: similarities[:, ::3]},
        {"proxy_norm": lambda rows: rows * 2},
    ],
)
def test_blocks_by_threads_unless_a_function_is_the_users(few, params, monkeypatch):
    X, y = few
    is_safe = not any(map(callable, params.values()))
    params = params | {"whitening": 0.3, "random_state": 0, **calibrated()}
    scorer = plain_classifier("kmeans", 3, **params).fit(X, y)._fitted.scorer
    expected = leave_one_out(scorer, "similarity")
    thirds = [slice(0, 20), slice(20, 30), slice(30, len(X))]
    monkeypatch.setattr(scorer.plan.metric, "blocks", lambda compare, n: thirds)
    seen = []

    def in_turn(function, blocks):
        seen.extend(blocks)
        return list(map(function, blocks))

    monkeypatch.setattr("skimprint._scoring.similarity.run_blocks", in_turn)
    found = leave_one_out(scorer, "similarity")
    assert seen == (thirds if is_safe else [])
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-12)
    np.testing.assert_allclose(found.familiarities, expected.familiarities, atol=1e-12)


@pytest.mark.parametrize(
    "params, bound",
    [
        ({"whitening": 0.3}, "_MAX_MULTIPLIED"),
        ({"whitening": 0.3, "metric": "manhattan"}, "_MAX_MOVED"),
        ({"metric": "manhattan"}, "_MAX_MULTIPLIED"),
        ({"metric": "mahalanobis"}, "_MAX_MULTIPLIED"),
    ],
)
def test_fewer_samples_where_each_means_more_work(few, params, bound, monkeypatch):
    """The same scores as of all, for a part of the samples of each class."""
    X, y = few
    params = params | calibrated()
    scorer = plain_classifier("mean", **params).fit(X, y)._fitted.scorer
    everything = leave_one_out(scorer, "similarity")
    assert len(everything.scores) == len(X)
    monkeypatch.setattr(module, bound, 30 * scorer.head.proxies.size)
    monkeypatch.setattr(module, "_ENOUGH", 20)
    found = leave_one_out(scorer, "similarity")
    assert np.bincount(found.codes).tolist() == [3] * 10
    rows = np.abs(everything.scores[:, None] - found.scores).max(axis=2)
    np.testing.assert_allclose(rows.min(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(
        np.bincount(found.codes, found.weights), np.bincount(y.astype(int))
    )


def test_a_kernel_that_is_factored_already_is_not_again(few, monkeypatch):
    X, y = few
    clf = plain_classifier("mean", kernel_weight=0.5, temperature="auto").fit(X, y)
    scorer = clf._fitted.scorer
    expected = leave_one_out(scorer, "similarity")
    clf.explain(X[:1])
    monkeypatch.setattr("skimprint._space.kernel_ridge._factor", None)
    found = leave_one_out(scorer, "similarity")
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_the_samples_are_bounded_and_of_all_classes(few, monkeypatch):
    X, y = few
    scorer = plain_classifier("mean", **calibrated()).fit(X, y)._fitted.scorer
    everything = leave_one_out(scorer, "similarity")
    assert len(everything.codes) == len(X)
    monkeypatch.setattr(module, "MAX_ROWS", 30)
    some = leave_one_out(scorer, "similarity")
    assert np.bincount(some.codes).tolist() == [3] * 10
    # They stand for all samples of their class.
    np.testing.assert_allclose(
        np.bincount(some.codes, some.weights), np.bincount(y), rtol=1e-9
    )
    # Of very many classes, only some.
    monkeypatch.setattr(module, "MAX_ROWS", 4)
    fewer = leave_one_out(scorer, "similarity")
    assert np.unique(fewer.codes).tolist() == [0, 3, 6, 9]
    which = np.isin(everything.codes, fewer.codes)
    assert fewer.scores.shape[1] == everything.scores[which].shape[1] == 10


@pytest.mark.parametrize(
    "several", [[1, 3, 5, 7, 9], [4], [0, 2], range(1, 10)], ids=str
)
def test_of_very_many_classes_some_that_have_several_samples(few, several, monkeypatch):
    """Whichever these are: what is told is about as by all classes."""
    X, y = few
    n = {c: 10 if c in several else 1 for c in range(10)}
    rows = [row for c in range(10) for row in np.flatnonzero(y == c)[: n[c]]]
    X, y = X[rows], y[rows]

    def told():
        clf = plain_classifier("mean", temperature="auto", rejection=Rejection(-1))
        clf.fit(X, y)
        return clf.temperature_, clf.rejection_threshold_

    of_all = told()
    monkeypatch.setattr(module, "MAX_ROWS", 4)
    scorer = plain_classifier("mean", **calibrated()).fit(X, y)._fitted.scorer
    found = leave_one_out(scorer, "similarity")
    assert found.is_alone.nonzero()[0].tolist() == sorted({*range(10)} - {*several})
    step = -(-2 * len(several) // 4)  # two of each, for those of one sample
    assert np.unique(found.codes).tolist() == [*several][::step]
    temperature, threshold = told()
    assert temperature == pytest.approx(of_all[0], rel=0.6)
    assert threshold == pytest.approx(of_all[1], rel=0.05)


def test_a_class_of_one_sample_has_nothing_left(few):
    X, y = few
    X, y = np.concatenate([X, X[:1] + 1]), np.append(y, 77)
    scorer = plain_classifier("mean", **calibrated()).fit(X, y)._fitted.scorer
    assert 10 not in leave_one_out(scorer, "contrast").codes
    alone = plain_classifier("mean", whitening="auto").fit(np.eye(3), [0, 1, 2])
    assert leave_one_out(alone._fitted.scorer, "contrast") is None


class TestMoreOfTheClassesOfAHead:
    """A row of a head is one of the proxies' samples, but not of the class means'."""

    @pytest.mark.parametrize("generator", ["mean", "all"])
    def test_is_left_out_as_by_learning_without_it(self, generator):
        rng = np.random.default_rng(0)
        y = np.repeat([0, 1, 3], [3, 2, 4])
        X = rng.normal(size=(9, 8))
        head = rng.normal(size=(3, 8)), [0, 1, 2]

        def learnt(rows):
            params = {"mean_weight": 0.5, "head": head, **calibrated()}
            return plain_classifier(generator, **params).partial_fit(X[rows], y[rows])

        scorer = learnt(np.arange(9))._fitted.scorer
        found = leave_one_out(scorer, "similarity")
        kept = scorer.head.space.state.column(lambda block: block.samples)
        for row, scores in zip(kept.values.indices, found.scores, strict=True):
            without = learnt(np.arange(9) != row)
            expected = without.decision_function(X[[row]])[0]
            np.testing.assert_allclose(scores, expected, atol=1e-12)

    def test_is_as_familiar_as_queries(self, digits):
        X, y = digits
        weight = np.stack([X[300:][y[300:] == c].mean(axis=0) for c in range(10)])
        clf = ImprintClassifier(head=(weight, None), rejection=Rejection(-1))
        clf.partial_fit(X[:50], y[:50])
        found = leave_one_out(clf._fitted.scorer, "auto").familiarities
        queries = clf.score_samples(X[50:300])
        assert abs(np.median(found) - np.median(queries)) < 0.1
        assert np.mean(clf.predict(X[50:300]) == -1) < 0.15

    @pytest.mark.parametrize("mean_weight, n_left", [(0.0, 2), (0.5, 0)])
    def test_a_single_sample_leaves_no_mean(self, mean_weight, n_left):
        clf = plain_classifier("mean", mean_weight=mean_weight, **calibrated())
        clf.set_params(head=(np.eye(2, 3), None))
        clf.partial_fit([[1.0, 0.5, 1.0], [0.5, 1.0, -1.0]], [0, 1])
        found = leave_one_out(clf._fitted.scorer, "similarity")
        assert n_left == (0 if found is None else len(found.codes))
        assert clf.temperature_ > 0

    @pytest.mark.parametrize("generator", ["mean", "all"])
    def test_a_single_sample_leaves_no_covariance(self, generator):
        """Distances are Euclidean then, as of the head alone."""
        params = {"metric": "mahalanobis", "whitening": None, "mean_weight": 0}
        clf = ImprintClassifier.from_head(np.eye(3), generator=generator, **params)
        query = np.array([[1.0, 0.5, 1.0]])
        expected = clf.decision_function(query)
        clf.partial_fit(query, [0])
        found = leave_one_out(clf._fitted.scorer, "similarity").scores
        np.testing.assert_allclose(found, expected)


def shots(rng, sizes, d=6):
    """Samples of classes of some sizes, in any order."""
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return rng.normal(size=(len(y), d)) + rng.normal(size=(len(sizes), d))[y] + 1, y


def pairs_of(clf):
    """The training rows of samples that are left out, and of those beside them."""
    kept = clf._fitted.scorer.head.space.state.column(lambda block: block.samples)
    rows = [kept.one(c).indices for c in range(len(clf.classes_))]
    rows = [each for each in rows if len(each) > 1]
    return np.concatenate(rows), np.concatenate([np.roll(each, -1) for each in rows])


class TestOneShot:
    """As if one other sample were all that is known of the class of a sample."""

    @pytest.mark.parametrize("score", ["similarity", "contrast"])
    @pytest.mark.parametrize(
        "params",
        [
            {},
            {"metric": "cosine", "proxy_norm": None},
            {"metric": "euclidean", "support_norm": None, "proxy_norm": None},
            {"metric": "manhattan"},
            {"metric": "chebyshev"},
            {"metric": rbf_kernel},
            {"mean_weight": 0.6},
            {"proxy_norm": lambda rows: rows * 2},
            {"aggregation": "mnn"},
            {"kernel_weight": 0.5},
        ],
        ids=spelt,
    )
    @pytest.mark.parametrize("generator", ["mean", "all", "fps", "kmeans"])
    def test_is_what_a_model_of_the_other_sample_says(self, generator, params, score):
        X, y = shots(np.random.default_rng(0), [1, 2, 3, 1, 6])
        clf = plain_classifier(generator, n_proxies=2, random_state=0, **params)
        clf.set_params(rejection=Rejection(-1, score=score)).fit(X, y)
        expected = []
        for i, other in zip(*pairs_of(clf), strict=True):
            left = (y != y[i]) | (np.arange(len(y)) == other)
            model = clone(clf).set_params(rejection__threshold=0.0)
            expected.append(model.fit(X[left], y[left]).score_samples(X[[i]])[0])
        found = leave_one_out(clf._fitted.scorer, score)
        np.testing.assert_allclose(found.one_shot, expected, rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize("kernel_weight", [0, 0.5])
    @pytest.mark.parametrize("mean_weight", [0.0, 0.6])
    @pytest.mark.parametrize("metric", ["dot", "cosine", "euclidean", "manhattan"])
    @pytest.mark.parametrize("generator", ["mean", "all"])
    @pytest.mark.parametrize("d, weighted", [(6, True), (60, False)])
    def test_each_of_both_is_whitened_without_itself(
        self, d, weighted, generator, metric, mean_weight, kernel_weight
    ):
        rng = np.random.default_rng(d)
        X, y = shots(rng, [1, 2, 3, 1, 6], d)
        weights = rng.uniform(0.5, 2, len(y)) if weighted else np.ones(len(y))
        clf = ImprintClassifier(generator, metric=metric, whitening=0.05)
        clf.set_params(mean_weight=mean_weight, support_norm="l2", query_norm="l2")
        clf.set_params(kernel_weight=kernel_weight * (metric in ("dot", "cosine")))
        scorer = clf.fit(X, y, weights)._fitted.scorer
        score = "auto" if scorer.tells_by_means else "similarity"
        found, unit = leave_one_out(scorer, score), l2_normalize(X)
        expected = []
        for i, other, known in zip(*pairs_of(clf), found.scores, strict=True):
            scores = scores_by_definition(scorer.head, unit, y, weights, i, other)
            if score == "auto":
                own = (1 - clf.kernel_weight) * scores[y[i]]
                scores = known.copy()
                scores[y[i]] = own
                means = statistics(unit, y, weights)[0]
                means[y[i]] = unit[other]
                scores += (l2_normalize(means) @ unit[i]).max() / 2
            expected.append(max(scores))
        np.testing.assert_allclose(found.one_shot, expected, rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize("score", ["auto", "similarity"])
    def test_a_sample_that_has_no_other_has_none(self, score):
        """Of two samples, one may weigh nearly all: the other has nothing beside it."""
        X, y = shots(np.random.default_rng(0), [1, 2, 3])
        weights = np.ones(len(y))
        weights[np.flatnonzero(y == 1)[0]] = 1e12
        clf = ImprintClassifier("mean", rejection=Rejection(-1, score=score))
        scorer = clf.fit(X, y, weights)._fitted.scorer
        found = leave_one_out(scorer, score)
        assert found.codes.tolist() == [1, 2, 2, 2]
        assert np.isnan(found.one_shot).tolist() == [True, False, False, False]
        assert np.isfinite(clf.rejection_threshold_)

    @pytest.mark.parametrize("bound", ["MAX_ROWS", "_MAX_SCORES", "_MAX_MOVED"])
    @pytest.mark.parametrize("n_classes", [5, 12, 40])
    @pytest.mark.parametrize("mean_weight", [0.0, 0.6])
    def test_pairs_of_some_of_very_many_classes(
        self, mean_weight, n_classes, bound, monkeypatch
    ):
        X, y = shots(np.random.default_rng(0), np.resize([1, 6, 4], n_classes))
        clf = ImprintClassifier("mean", metric="manhattan", whitening=0.3)
        scorer = clf.set_params(mean_weight=mean_weight).fit(X, y)._fitted.scorer
        everything = leave_one_out(scorer, "similarity")
        per_row = {"_MAX_SCORES": n_classes, "_MAX_MOVED": scorer.head.proxies.size}
        budget = max(2, n_classes // 2)
        monkeypatch.setattr(module, bound, budget * per_row.get(bound, 1))
        found = leave_one_out(scorer, "similarity")
        assert 2 <= len(found.codes) <= budget
        assert set(np.bincount(found.codes)) == {0, 2}
        assert set(found.is_alone.nonzero()[0]) == {*range(0, n_classes, 3)}
        assert np.isfinite(found.one_shot).all()
        rows = np.abs(everything.scores[:, None] - found.scores).max(axis=2)
        np.testing.assert_allclose(rows.min(axis=0), 0, atol=1e-12)

    @pytest.mark.parametrize(
        "sizes, params, weight",
        [
            ([2, 3, 6], {}, 1),
            ([1, 2, 3, 6], {"metric": "mahalanobis"}, 1),
            ([1, 2], {}, 1e12),
        ],
        ids=str,
    )
    def test_nothing_asks_for_it(self, sizes, params, weight):
        """No class of one sample, a covariance, or one sample left out of each."""
        X, y = shots(np.random.default_rng(0), sizes)
        weights = np.ones(len(y))
        weights[np.flatnonzero(y == 1)[0]] = weight
        clf = ImprintClassifier("mean", rejection=Rejection(-1, rate=0.4), **params)
        found = leave_one_out(clf.fit(X, y, weights)._fitted.scorer, "similarity")
        assert np.isnan(found.one_shot).all()
        expected = np.quantile(
            found.familiarities,
            0.4,
            weights=1 / np.bincount(found.codes)[found.codes],
            method="inverted_cdf",
        )
        clf.set_params(rejection__score="similarity")
        assert clf.rejection_threshold_ == expected


def test_what_is_alone_in_its_class_is_not_left_out_in_vain(monkeypatch):
    seen = []
    without = KMeansProxies.without

    def counted(self, proxies, rows, weights):
        seen.append(len(rows))
        return without(self, proxies, rows, weights)

    monkeypatch.setattr(KMeansProxies, "without", counted)
    X = np.random.default_rng(0).normal(size=(12, 5))
    for y, expected in (
        (np.arange(12), []),
        (np.repeat(np.arange(9), [1] * 8 + [4]), [4]),
    ):
        seen.clear()
        assert ImprintClassifier().fit(X, y).temperature_ > 0
        assert seen == expected
