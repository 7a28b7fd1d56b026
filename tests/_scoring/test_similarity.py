import pickle

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from skimprint import ImprintClassifier
from skimprint._arrays.device import DeviceArray, to_host
from skimprint._scoring import similarity
from skimprint._scoring.similarity import METRICS, Similarity
from skimprint._space.downdate import shift_without
from skimprint._space.whitening import precision_cholesky
from skimprint.normalization import IDENTITY, NORMS, make_norm


def naive_similarity(X, proxies, metric, covariance):
    """Similarities of shape (n_queries, n_proxies), by definition, in float64."""
    X, proxies = X.astype(float), proxies.astype(float)
    if metric == "dot":
        return X @ proxies.T
    if metric == "cosine":
        return 1 - cdist(X, proxies, "cosine")
    if metric == "mahalanobis":
        return -cdist(X, proxies, "mahalanobis", VI=np.linalg.inv(covariance))
    return -cdist(X, proxies, {"manhattan": "cityblock"}.get(metric, metric))


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    return {
        "X": rng.normal(size=(40, 6)).astype(np.float32),
        "proxies": rng.normal(size=(15, 6)).astype(np.float32),
        "covariance": root @ root.T + np.eye(6),
    }


@pytest.mark.parametrize("norm", [None, "l2", "power", np.tanh])
@pytest.mark.parametrize("metric", METRICS)
def test_similarities_are_their_definition(problem, metric, norm):
    X, proxies, covariance = problem.values()
    norm = make_norm(norm, "query_norm")
    compare = METRICS[metric](
        proxies, query_norm=norm, factor=precision_cholesky(covariance)
    )
    expected = naive_similarity(norm(X), proxies, metric, covariance)
    queries = compare.prepare(X)
    raw = compare.raw(queries)
    np.testing.assert_array_equal(raw.argsort(axis=0).T, expected.argsort(axis=1))
    similarities = compare.finish(raw, queries).T
    np.testing.assert_allclose(similarities, expected, rtol=1e-4, atol=1e-5)
    assert similarities.dtype == np.float32

    nearest, indices = compare.nearest(queries, 4)
    np.testing.assert_array_equal(indices, expected.argsort(axis=1)[:, :-5:-1])
    np.testing.assert_allclose(
        nearest, np.take_along_axis(expected, indices, 1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        compare.best(queries), expected.max(axis=1), rtol=1e-4, atol=1e-5
    )
    own = np.arange(len(X)) % len(proxies)
    np.testing.assert_allclose(
        compare.paired(queries, proxies[own]),
        expected[np.arange(len(X)), own],
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("norm", [None, "l2", "power", np.tanh])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
def test_on_a_device_as_on_the_host(problem, metric, norm, library):
    xp = pytest.importorskip(library, reason=f"needs {library}")
    X, proxies, covariance = problem.values()
    norm = make_norm(norm, "query_norm")
    compare = METRICS[metric](
        proxies, query_norm=norm, factor=precision_cholesky(covariance)
    )
    there = DeviceArray(xp.asarray(X))
    near = compare.to(there)
    has_form = compare.has_device_form and not norm.is_callable
    assert (near is not compare) == has_form
    assert near is compare.to(there)
    queries = near.prepare(there, slice(3, 20))
    found = near.finish(near.raw(queries), queries)
    assert isinstance(found, type(there.array)) == has_form
    host = compare.prepare(X, slice(3, 20))
    expected = compare.finish(compare.raw(host), host)
    np.testing.assert_allclose(to_host(found), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(near.best(queries), compare.best(host), rtol=1e-4)

    assert pickle.loads(pickle.dumps(compare)).to(X).xp is np
    assert library.encode() not in pickle.dumps(compare)


@pytest.mark.parametrize(
    "metric", [name for name, metric in METRICS.items() if metric.needs_covariance]
)
def test_a_metric_without_a_sample_is_that_of_the_others(metric):
    """Also for the weights: by the covariance that the others have."""
    rng = np.random.default_rng(0)
    X, codes = rng.normal(size=(30, 4)), np.repeat(np.arange(3), 10)
    weights = rng.integers(1, 4, 30).astype(float)
    proxies = rng.normal(size=(5, 4))

    def factor(weights):
        means = np.stack(
            [np.average(X[codes == c], 0, weights[codes == c]) for c in range(3)]
        )
        residuals = (X - means[codes]) * np.sqrt(weights)[:, None]
        covariance = residuals.T @ residuals / weights.sum()
        return precision_cholesky(covariance), means

    exact, means = factor(weights)
    compare = METRICS[metric](proxies, factor=exact)
    some = np.array([2, 14, 29])
    own_weights = np.bincount(codes, weights)[codes[some]]
    shift = shift_without(own_weights, weights[some])
    without = compare.without(
        residuals=X[some] - means[codes[some]],
        lost=own_weights * shift / weights.sum(),
        weight_left=1 - weights[some] / weights.sum(),
    )
    queries = compare.prepare(X[some])
    similarities = without.finish(without.raw(queries), queries)
    pairs = without.paired(queries, proxies[:3], np.arange(3))
    for column, sample in enumerate(some):
        others = weights.copy()
        others[sample] = 0
        expected = METRICS[metric](proxies, factor=factor(others)[0])
        query = expected.prepare(X[[sample]])
        found = expected.finish(expected.raw(query), query)[:, 0]
        np.testing.assert_allclose(similarities[:, column], found)
        np.testing.assert_allclose(pairs[column], found[column])


class Canberra(Similarity):
    """The least that a metric needs."""

    name = "canberra"

    def compare(self, queries, vectors):
        return -cdist(vectors, queries, "canberra")


@pytest.mark.parametrize("n", [1, 32, 70])
def test_pairs_of_a_metric_that_knows_no_pairs(n):
    rng = np.random.default_rng(0)
    X, vectors = rng.normal(size=(2, n, 6)).astype(np.float32)
    compare = Canberra(vectors)
    pairs = compare.paired(compare.prepare(X), vectors)
    assert pairs.dtype == np.float32
    expected = -cdist(X, vectors, "canberra").diagonal()
    np.testing.assert_allclose(pairs, expected, rtol=1e-6)


def test_the_distance_to_itself_is_zero():
    proxies = np.random.default_rng(0).normal(1000, 1, size=(20, 8)).astype(np.float32)
    compare = METRICS["euclidean"](proxies)
    similarities, indices = compare.nearest(compare.prepare(proxies), 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(20))
    np.testing.assert_array_equal(similarities, 0)


def test_equally_similar_proxies_come_in_their_order():
    compare = METRICS["dot"](np.ones((6, 2)))
    for n_neighbors in (1, 3, 6):
        _, indices = compare.nearest(np.ones((1, 2)), n_neighbors)
        np.testing.assert_array_equal(indices, [np.arange(n_neighbors)])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 3])
def test_predictions_have_the_best_score(metric, k, monkeypatch):
    """To the bit, however similarities lie in memory."""
    rng = np.random.default_rng(0)
    proxies = rng.integers(-1, 2, size=(8 * k, 5)).astype(np.float32)  # many ties
    X = rng.integers(-1, 2, size=(300, 5)).astype(np.float32)
    clf = ImprintClassifier("all", metric=metric).fit(
        proxies + 2, np.repeat(np.arange(8), k)
    )
    for few in (0, 1000):
        monkeypatch.setattr(similarity, "_FEW", few)
        scores = clf.decision_function(X + 2)
        predicted = scores[np.arange(len(X)), clf.predict(X + 2)]
        np.testing.assert_array_equal(predicted, scores.max(axis=1))


def test_blocks_bound_what_predictions_need():
    few = METRICS["dot"](np.eye(2, 1024, dtype=np.float32))
    assert len(few.blocks(10_000)) == 1  # all that BLAS's threads are best at
    assert len(few.blocks(100_000)) > 20
    for metric in ("dot", "manhattan"):
        many = METRICS[metric](np.eye(5000, 16, dtype=np.float32))
        sizes = {block.stop - block.start for block in many.blocks(10_000)}
        assert max(sizes) * 5000 * 4 <= 2**24
    split = METRICS["manhattan"](np.eye(2, 16, dtype=np.float32))
    assert len(split.blocks(10_000)) > 1


def test_the_length_of_queries_is_left_to_products():
    proxies = np.ones((2, 3))
    for metric, norm in (("dot", "l2"), ("cosine", "l2"), ("dot", None)):
        compare = METRICS[metric](proxies, query_norm=make_norm(norm, "query_norm"))
        assert compare.query_norm == compare.last_norm == IDENTITY
    compare = METRICS["dot"](proxies, query_norm=NORMS["power"])
    assert compare.query_norm == NORMS["power"]


@pytest.mark.parametrize("metric, norm", [("dot", "l2"), ("cosine", None)])
def test_queries_whose_squares_are_too_large(problem, metric, norm):
    X, proxies, _ = problem.values()
    compare = METRICS[metric](proxies, query_norm=make_norm(norm, "query_norm"))
    expected, found = (
        compare.finish(compare.raw(queries), queries)
        for queries in map(compare.prepare, (X, X * np.float32(1e30)))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
