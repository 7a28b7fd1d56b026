from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

from skimprint import ImprintClassifier, aggregation
from skimprint._space.whitening import precision_cholesky
from skimprint.aggregation import (
    METRICS,
    ProxySimilarity,
    best_class,
    max_scores,
    vote_shares,
)
from skimprint.normalization import l2_normalize


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


@pytest.mark.parametrize("query_norm", [None, l2_normalize, np.tanh])
@pytest.mark.parametrize("metric", METRICS)
def test_similarities_are_their_definition(problem, metric, query_norm):
    X, proxies, covariance = problem.values()
    compare = ProxySimilarity(
        proxies, metric, query_norm=query_norm, factor=precision_cholesky(covariance)
    )
    expected = naive_similarity(
        X if query_norm is None else query_norm(X), proxies, metric, covariance
    )
    queries = compare.prepare(X)
    ranks = compare.ranks(queries)
    np.testing.assert_array_equal(ranks.argsort(axis=0).T, expected.argsort(axis=1))
    similarities = compare.finish(ranks, queries).T
    np.testing.assert_allclose(similarities, expected, rtol=1e-4, atol=1e-5)
    assert similarities.dtype == np.float32

    nearest, indices = compare.nearest(queries, 4)
    np.testing.assert_array_equal(indices, expected.argsort(axis=1)[:, :-5:-1])
    np.testing.assert_allclose(
        nearest, np.take_along_axis(expected, indices, 1), rtol=1e-5, atol=1e-6
    )


def test_the_distance_to_itself_is_zero():
    proxies = np.random.default_rng(0).normal(1000, 1, size=(20, 8)).astype(np.float32)
    compare = ProxySimilarity(proxies, "euclidean")
    similarities, indices = compare.nearest(compare.prepare(proxies), 1)
    np.testing.assert_array_equal(indices[:, 0], np.arange(20))
    np.testing.assert_array_equal(similarities, 0)


def test_equally_similar_proxies_come_in_their_order():
    compare = ProxySimilarity(np.ones((6, 2)), "dot")
    for n_neighbors in (1, 3, 6):
        _, indices = compare.nearest(np.ones((1, 2)), n_neighbors)
        np.testing.assert_array_equal(indices, [np.arange(n_neighbors)])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(1, 5))
def test_max_scores_is_the_maximum_of_each_class(counts, n_queries):
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    ranks = rng.normal(size=(offsets[-1], n_queries))
    expected = [ranks[a:b].max(axis=0) for a, b in pairwise(offsets)]
    np.testing.assert_array_equal(max_scores(ranks, offsets), expected)
    winners = np.argmax(expected, axis=0)
    for order in "CF":
        found = best_class(np.asarray(ranks, order=order), offsets)
        np.testing.assert_array_equal(found, winners)


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
        monkeypatch.setattr(aggregation, "_FEW", few)
        scores = clf.decision_function(X + 2)
        predicted = scores[np.arange(len(X)), clf.predict(X + 2)]
        np.testing.assert_array_equal(predicted, scores.max(axis=1))


def test_votes_of_one_by_distance_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 5)), rng.integers(0, 4, 60)
    queries = np.concatenate([rng.normal(size=(30, 5)), X[:5]])
    knn = KNeighborsClassifier(7, weights="distance", algorithm="brute").fit(X, y)
    distances, indices = knn.kneighbors(queries)
    distances[-5:, 0] = 0  # scikit-learn's own distances of a sample to itself: 1e-8
    knn_proba = KNeighborsClassifier(7, weights="distance", algorithm="kd_tree")
    shares = vote_shares(distances, y[indices], 4, "distance")
    np.testing.assert_allclose(shares, knn_proba.fit(X, y).predict_proba(queries))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_tied_vote_goes_to_the_class_with_the_nearest_voter(dtype):
    distances = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]], dtype=dtype)
    codes = np.array([[2, 0, 0, 2, 1]])
    shares = vote_shares(distances, codes, 3)
    assert shares.argmax() == 2
    np.testing.assert_allclose(shares, [[0.4, 0.2, 0.4]], rtol=1e-6)
    assert shares.dtype == dtype


def test_votes_at_distance_zero_outvote_all_others():
    shares = vote_shares(
        np.array([[0.0, 1e-9, 1e-9]]), np.array([[1, 0, 0]]), 2, "distance"
    )
    np.testing.assert_array_equal(shares, [[0, 1]])


def test_blocks_bound_what_predictions_need():
    few = ProxySimilarity(np.eye(2, 1024, dtype=np.float32), "dot")
    assert len(few.blocks(10_000)) == 1  # all that BLAS's threads are best at
    assert len(few.blocks(100_000)) > 20
    for metric in ("dot", "manhattan"):
        many = ProxySimilarity(np.eye(5000, 16, dtype=np.float32), metric)
        sizes = {block.stop - block.start for block in many.blocks(10_000)}
        assert max(sizes) * 5000 * 4 <= 2**24
    split = ProxySimilarity(np.eye(2, 16, dtype=np.float32), "manhattan")
    assert len(split.blocks(10_000)) > 1
