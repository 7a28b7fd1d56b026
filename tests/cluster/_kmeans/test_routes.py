"""Which way a group goes, and what the short ways find."""

import numpy as np
import pytest
from clusters import RAGGED, assert_same_bits, blobs, of_group, squared_distances

from skimprint._arrays.blas import gram_each
from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import grouped_kmeans, grouped_kmeans_each, routes


def test_one_mean_of_many_rows():
    X = np.full((200_000, 2), 0.1, np.float32)
    result = grouped_kmeans(GroupedRows(X, np.zeros(len(X), int), 1), 1, seed=0)
    np.testing.assert_allclose(result.centers, 0.1, rtol=1e-5)


def test_equal_rows_that_are_kept_stand_for_themselves():
    X, weights = np.repeat(np.eye(3), 2, axis=0), np.arange(1.0, 7)
    groups = GroupedRows(X, np.zeros(6, int), 1, sample_weight=weights)
    result = grouped_kmeans(groups, 20, seed=0)
    np.testing.assert_array_equal(result.indices, np.arange(6))
    np.testing.assert_array_equal(result.counts, weights)
    np.testing.assert_array_equal(result.spreads, 0)


@pytest.mark.parametrize("spherical, n_init", [(False, 1), (True, 1), (False, 3)])
def test_several_numbers_at_once_are_the_same_bits(spherical, n_init):
    sizes = [*RAGGED, 240, 240, 1200, 1300, 1200]
    X, codes = blobs(sizes, 33, 6)
    weights = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    groups = GroupedRows(X, codes, len(sizes), sample_weight=weights)
    some = np.arange(len(sizes)) % 7 + 1
    numbers = [1, 2, some, 5, 5, 10, 20]
    options = {"seed": 3, "n_init": n_init, "spherical": spherical}
    expected = [grouped_kmeans(groups, number, **options) for number in numbers]
    results = grouped_kmeans_each(groups, numbers, n_jobs=2, **options)
    for result, other in zip(results, expected, strict=True):
        assert_same_bits(result, other)


def test_several_numbers_share_their_inner_products(monkeypatch):
    X, codes = blobs([150], 33, 6)
    calls = []

    def counted(*args, **kwargs):
        calls.append(gram_each)
        return gram_each(*args, **kwargs)

    monkeypatch.setattr(routes, "gram_each", counted)
    grouped_kmeans_each(GroupedRows(X, codes, 1), [2, 5, 10], seed=0)
    assert len(calls) == 1


def test_rows_are_the_centres_of_small_groups():
    X, codes = blobs([3, 5, 2], 4, 2)
    result = grouped_kmeans(GroupedRows(X, codes, 3), 5, seed=0)
    for group in range(3):
        centers, labels, inertia = of_group(result, codes, group)
        np.testing.assert_array_equal(centers, X[codes == group])
        np.testing.assert_array_equal(labels, np.arange(len(centers)))
        assert inertia == 0


def test_one_cluster_is_the_weighted_mean():
    X, codes = blobs([30, 1, 500], 8, 3)
    w = np.random.default_rng(0).integers(1, 5, size=len(X))
    weighted = GroupedRows(X, codes, 3, sample_weight=w.astype(float))
    repeated = GroupedRows(np.repeat(X, w, axis=0), np.repeat(codes, w), 3)
    a, b = (grouped_kmeans(g, 1, seed=0) for g in (weighted, repeated))
    np.testing.assert_allclose(a.centers, b.centers, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(a.inertia, b.inertia, rtol=1e-5)
    for group in range(3):
        mean = np.average(X[codes == group], axis=0, weights=w[codes == group])
        np.testing.assert_allclose(a.centers[group], mean, rtol=1e-5, atol=1e-6)


def test_rows_without_weight_are_as_good_as_absent(route):
    X, codes = blobs([60, 8, 40, 6, 5], 10, 4)
    w = np.random.default_rng(1).integers(0, 3, size=len(X)).astype(float)
    w[codes == 4] = 0
    lost = codes == 4
    with_zeros = grouped_kmeans(GroupedRows(X, codes, 5, sample_weight=w), 4, seed=0)
    kept = (w > 0) | lost
    without = grouped_kmeans(
        GroupedRows(X[kept], codes[kept], 5, sample_weight=np.where(lost, 1, w)[kept]),
        4,
        seed=0,
    )
    np.testing.assert_array_equal(with_zeros.centers, without.centers)
    np.testing.assert_array_equal(with_zeros.labels[kept], without.labels)
    for group in range(5):
        centers, labels, _ = of_group(with_zeros, codes, group)
        distances = squared_distances(X[codes == group], centers)
        own = distances[np.arange(len(labels)), labels]
        np.testing.assert_allclose(own, distances.min(axis=1), atol=1e-4)


def test_a_large_offset_does_not_hurt(route):
    """Float32 rows far from the origin: the reason for centring them."""
    X, codes = blobs([100], 16, 5, spread=0.1)
    near = grouped_kmeans(GroupedRows(X, codes, 1), 5, seed=0)
    far = grouped_kmeans(GroupedRows(X + np.float32(300), codes, 1), 5, seed=0)
    np.testing.assert_array_equal(near.labels, far.labels)
