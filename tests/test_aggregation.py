from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from skimprint._arrays.device import to_host
from skimprint._arrays.groups import offsets_of
from skimprint._scoring.similarity import METRICS
from skimprint.aggregation import (
    AGGREGATIONS,
    Votes,
    codes_of,
    make_aggregation,
    max_scores,
    vote_shares,
)


@pytest.mark.parametrize("library", ["numpy", "array_api_strict", "torch"])
@given(counts=st.lists(st.integers(1, 4), min_size=1, max_size=6), n=st.integers(1, 5))
def test_max_scores_is_the_maximum_of_each_class(library, counts, n):
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    similarities = rng.normal(size=(offsets[-1], n))
    expected = [similarities[a:b].max(axis=0) for a, b in pairwise(offsets)]
    xp = pytest.importorskip(library, reason=f"needs {library}")
    winners = np.argmax(expected, axis=0)
    for order in "CF":
        there = xp.asarray(np.asarray(similarities, order=order))
        xp = np if library == "numpy" else array_namespace(there)
        found = max_scores(there, offsets, xp)
        np.testing.assert_array_equal(to_host(found), expected)
        similarity = SimpleNamespace(xp=xp, raw=lambda queries: queries)
        found = AGGREGATIONS["max"].winners(similarity, there, offsets)
        np.testing.assert_array_equal(found, winners)


@pytest.mark.parametrize(
    "offsets",
    [[0], [0, 1, 1, 3], [0, 0, 3], [0, 3, 3], [0, 1, 2], [1, 2, 3], [0, 2, 4], [-1, 3]],
)
def test_each_class_has_a_proxy(offsets):
    with pytest.raises(ValueError, match="Each class must have a proxy"):
        max_scores(np.ones((3, 2)), np.array(offsets))


def test_values_and_places_may_be_lists():
    values, offsets = [[1.0], [3.0], [2.0]], [0, 2, 3]
    np.testing.assert_array_equal(max_scores(values, offsets), [[3.0], [2.0]])
    with pytest.raises(ValueError, match="offsets must rise from class to class"):
        max_scores(values, [offsets])
    expected = vote_shares(np.array([[0.1, 0.2]]), np.array([[1, 0]]), 2, "distance")
    found = vote_shares([[0.1, 0.2]], [[1, 0]], 2, "distance")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "distances, codes",
    [
        ([0.1, 0.2], [1, 0]),
        ([[0.1, 0.2]], [[1]]),
        ([[0.1, 0.2]], [[0.5, 1.0]]),
        ([[1, 0]], [[0.1, 0.2]]),  # the other way round
        ([[0.1, 0.2]], [["a", "b"]]),
    ],
    ids=str,
)
def test_each_neighbour_has_a_distance_and_a_code(distances, codes):
    with pytest.raises(ValueError, match="distances must be numbers and codes ints"):
        vote_shares(distances, codes, 2)
    for weights in ("Uniform", None, np.ones(2)):
        with pytest.raises(ValueError, match="weights must be 'uniform' or 'distance'"):
            vote_shares([[0.1, 0.2]], [[1, 0]], 2, weights)


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


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@given(st.lists(st.booleans(), min_size=4, max_size=4), st.sampled_from([0.0, 0.1]))
def test_only_voters_count(weights, is_voter, nearest):
    """Others change nothing, wherever they are among the neighbours."""
    is_voter = np.array(is_voter)
    distances = np.array([[nearest, 0.2, 0.2, 0.3]])
    codes = np.array([[0, 1, 0, 1]])
    shares = vote_shares(distances, codes, 3, weights, is_voter[None])
    alone = vote_shares(distances[:, is_voter], codes[:, is_voter], 3, weights)
    np.testing.assert_array_equal(shares, alone)
    assert shares.any() == is_voter.any()  # nobody's votes are no votes


def test_no_queries_no_votes():
    none = np.empty((0, 3))
    assert vote_shares(none, none.astype(int), 2).shape == (0, 2)


@pytest.mark.parametrize("code", [-1, 2])
def test_votes_are_for_classes_that_there_are(code):
    codes = np.array([[0, 1], [code, 0], [1, 1]])
    with pytest.raises(ValueError, match=rf"from 0 to n_classes - 1, 1; .*{code}"):
        vote_shares(np.ones((3, 2)), codes, 2)


def test_votes_at_distance_zero_outvote_all_others():
    shares = vote_shares(
        np.array([[0.0, 1e-9, 1e-9]]), np.array([[1, 0, 0]]), 2, "distance"
    )
    np.testing.assert_array_equal(shares, [[0, 1]])
    tiny = vote_shares(np.array([[1e-310, 2.0]]), np.array([[1, 0]]), 2, "distance")
    np.testing.assert_array_equal(tiny, [[0, 1]])


def test_votes_count_for_distances_of_any_kind():
    codes = np.array([[0, 1, 1]])
    found = vote_shares(np.array([[1, 2, 2]]), codes, 2)
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3]])
    with pytest.raises(ValueError, match="'uniform' or 'distance'; got 'unifrom'"):
        vote_shares(np.ones((1, 3)), codes, 2, "unifrom")


def mean_of_class(similarities, proxy_classes):
    """Mean similarity of each of four classes; minus one without proxies."""
    classes = [similarities[:, proxy_classes == c] for c in range(4)]
    means = [some.mean(axis=1) if some.shape[1] else -1 for some in classes]
    return np.stack(np.broadcast_arrays(*means), axis=1)


@pytest.fixture
def problem():
    """Similarities, proxies that are gone, offsets."""
    rng = np.random.default_rng(0)
    similarities = -rng.random((12, 20)).astype(np.float32)
    gone = rng.random((12, 20)) < 0.2
    gone[4, :3] = True  # all of a class
    gone[:, 5] = False
    return similarities, gone, np.array([0, 4, 5, 9, 12])


@pytest.mark.parametrize(
    "value, of_none",
    [("max", -np.inf), ("mnn", 0), (Votes(3, "distance"), 0), (Votes(50), 0)],
)
def test_without_proxies_is_with_those_that_are_left(problem, value, of_none):
    """As if each query were the only one, and the others were not there."""
    similarities, gone, offsets = problem
    aggregation, metric = make_aggregation(value), METRICS["euclidean"]
    found = aggregation.without(similarities, np.nonzero(gone), offsets, metric)
    assert found.dtype == np.float32
    codes = codes_of(offsets)
    for query, left in enumerate(~gone.T):
        there, counts = np.unique(codes[left], return_counts=True)
        expected = np.full(4, of_none, np.float32)
        expected[there] = aggregation.scores(
            similarities[left, query][:, None], offsets_of(counts), metric
        )[:, 0]
        np.testing.assert_allclose(found[:, query], expected, rtol=1e-6)


def test_a_function_sees_the_proxies_that_are_left(problem):
    similarities, gone, offsets = problem
    aggregation, metric = make_aggregation(mean_of_class), METRICS["euclidean"]
    found = aggregation.without(similarities, np.nonzero(gone), offsets, metric)
    codes = codes_of(offsets)
    for query, left in enumerate(~gone.T):
        expected = mean_of_class(similarities[left, query][None], codes[left])[0]
        np.testing.assert_allclose(found[:, query], expected, rtol=1e-6)


def test_nothing_gone_is_the_plain_way(problem):
    similarities, _, offsets = problem
    for value in (*AGGREGATIONS, mean_of_class):
        aggregation = make_aggregation(value)
        how = offsets, METRICS["cosine"]
        np.testing.assert_array_equal(
            aggregation.without(similarities, ([], []), *how),
            aggregation.scores(similarities, *how),
        )


def test_a_function_gets_no_proxy_that_is_gone():
    similarities = np.arange(8.0).reshape(4, 2)
    gone = np.array([[1, 0], [0, 0], [0, 1], [0, 1]], dtype=bool)
    seen = []

    def function(similarities, proxy_classes):
        seen.append((similarities.tolist(), proxy_classes.tolist()))
        return np.zeros((len(similarities), 2))

    how = np.array([0, 2, 4]), METRICS["dot"]
    make_aggregation(function).without(similarities, np.nonzero(gone), *how)
    assert seen == [([[2, 4, 6]], [0, 1, 1]), ([[1, 3]], [0, 0])]


def test_a_function_is_not_asked_about_no_query():
    none = np.empty((4, 0)), ([], [])
    function = make_aggregation(lambda similarities, classes: 1 / 0)
    scores = function.without(*none, np.array([0, 2, 4]), METRICS["dot"])
    assert scores.shape == (2, 0)


def test_votes_have_valid_parameters_and_a_distance():
    with pytest.raises(ValueError, match="'n_neighbors' parameter of Votes must be"):
        make_aggregation(Votes(0))
    with pytest.raises(ValueError, match="needs a distance, which metric='dot' is not"):
        Votes(weights="distance").check(METRICS["dot"])
    for metric in METRICS.values():
        Votes().check(metric)
        if metric.name != "dot":
            Votes(weights="distance").check(metric)
