"""What stands for the samples of a class while more is learnt."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from settings import plain_classifier
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import euclidean_distances
from states import known

import skimprint._memory.points
from skimprint._memory.columns import Points, Ragged, joined, take
from skimprint._memory.points import (
    _in_chunks,
    _merge_nearest,
    compressed,
    mean_of,
    sampled,
    weighed_by,
)


def points_of(vectors, counts=None):
    n = len(vectors)
    counts = np.ones(n) if counts is None else counts
    return Points(vectors, counts, np.arange(n), np.zeros(n))


def merge_nearest(vectors, weights, n_left):
    """Merge points of one class."""
    chunks = _in_chunks(vectors, np.array([0, len(vectors)]), np.arange(len(vectors)))
    clusters = _merge_nearest(chunks, weights, np.array([n_left]))
    return np.unique(clusters, return_inverse=True)[1]


def compressed_one(points, bound):
    """Compress points of one class."""
    column = Ragged(points, np.array([0, len(points.counts)]))
    return compressed(column, np.array([bound])).values


def inertia(vectors, labels, weights=None):
    """Sum of squared distances to the means of the clusters."""
    weights = np.ones(len(vectors)) if weights is None else weights
    total = 0
    for label in np.unique(labels):
        part, w = vectors[labels == label], weights[labels == label]
        total += w @ np.square(part - np.average(part, axis=0, weights=w)).sum(axis=1)
    return total


class TestMergeNearest:
    def test_finds_what_ward_finds_where_clusters_are_clear(self):
        rng = np.random.default_rng(0)
        truth = np.repeat(np.arange(12), 4)
        X = 20 * rng.normal(size=(12, 6))[truth] + rng.normal(size=(48, 6))
        labels = merge_nearest(X, np.ones(48), 12)
        ward = fcluster(linkage(X, "ward"), 12, "maxclust")
        assert adjusted_rand_score(labels, ward) == 1

    @pytest.mark.parametrize(
        "n, d, n_left, most",
        [
            (32, 10, 11, 1.02),  # one chunk: all are compared
            (300, 384, 150, 1.05),
            (300, 10, 150, 1.9),  # in a few dimensions, a chunk lacks the very nearest
        ],
    )
    def test_adds_as_little_as_ward_where_they_are_not(self, n, d, n_left, most):
        X = np.random.default_rng(0).normal(size=(n, d))
        labels = merge_nearest(X, np.ones(n), n_left)
        ward = fcluster(linkage(X, "ward"), n_left, "maxclust")
        assert sorted(set(labels)) == list(range(n_left))
        assert inertia(X, labels) < most * inertia(X, ward)

    def test_weights_are_copies(self):
        rng = np.random.default_rng(0)
        X, weights = rng.normal(size=(14, 5)), rng.integers(1, 4, 14)
        labels = merge_nearest(X, weights.astype(float), 6)
        copies = np.repeat(X, weights, axis=0)
        of_copies = merge_nearest(copies, np.ones(len(copies)), 6)
        np.testing.assert_allclose(
            inertia(X, labels, weights), inertia(copies, of_copies), rtol=0.01
        )

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_points_that_are_alike(self, dtype):
        X = np.ones((50, 3), dtype) / 3
        assert len(np.unique(merge_nearest(X, np.full(50, 1e-200), 7))) == 7

    @pytest.mark.parametrize("scale", [1e-200, 1e-40, 1e40, 1e200])
    def test_only_relative_weights_matter(self, scale):
        rng = np.random.default_rng(0)
        X, weights = rng.normal(size=(90, 5)).astype(np.float32), rng.uniform(1, 9, 90)
        labels, expected = (merge_nearest(X, c * weights, 30) for c in (scale, 1))
        np.testing.assert_array_equal(labels, expected)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_where_by_rounding_no_two_points_are_the_best_for_each_other(self, dtype):
        """All distances of orthogonal rows are the same."""
        for n in range(9, 33):
            X = np.linalg.qr(np.random.default_rng(n).normal(size=(n, n)))[0]
            labels = merge_nearest(X.astype(dtype), np.ones(n), n // 3)
            assert len(np.unique(labels)) == n // 3


class TestCompressed:
    @pytest.mark.parametrize("n", [20, 21, 47, 200])
    def test_keeps_weight_and_mean_and_is_bounded(self, n):
        rng = np.random.default_rng(n)
        X, counts = rng.normal(size=(n, 8)), rng.uniform(0.1, 5, n)
        found = compressed_one(points_of(X, counts), 10)
        assert len(found.counts) == n if n <= 20 else 10 <= len(found.counts) <= 20
        np.testing.assert_allclose(found.counts.sum(), counts.sum())
        np.testing.assert_allclose(
            found.counts @ found.vectors, counts @ X, rtol=1e-9, atol=1e-9
        )
        assert len(set(found.indices)) == len(found.indices)

    @pytest.mark.parametrize("scale", [1, 1e-15, 1e15])
    @pytest.mark.parametrize("shift", [0, 30])
    @pytest.mark.parametrize("dtype, rtol", [(np.float32, 2e-5), (np.float64, 1e-12)])
    def test_spreads_are_distances_from_training_rows(self, scale, shift, dtype, rtol):
        X = np.random.default_rng(0).normal(shift, size=(70, 4)).astype(dtype)
        found = compressed_one(points_of(X * dtype(scale)), 20)
        vectors = found.vectors.astype(float) / scale
        apart = np.square(X[found.indices] - vectors).sum(axis=1)
        is_alone = found.counts == 1
        assert is_alone.any()
        assert (found.spreads[is_alone] == 0).all()
        np.testing.assert_allclose(
            found.spreads / scale**2, apart, rtol=rtol, atol=4 * rtol
        )

    def test_spreads_of_means_are_added(self):
        """A merged point has the training row of that one which is nearest to one."""
        rng = np.random.default_rng(0)
        points = points_of(rng.normal(size=(70, 4)))._replace(spreads=rng.random(70))
        found = compressed_one(points, 20)
        apart = np.square(points.vectors[found.indices] - found.vectors).sum(axis=1)
        expected = apart + points.spreads[found.indices]
        np.testing.assert_allclose(found.spreads, expected, atol=1e-12)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_spreads_are_not_negative_by_rounding(self, dtype):
        X = np.repeat(np.random.default_rng(0).normal(3, size=(7, 5)), 12, axis=0)
        points = points_of(X.astype(dtype), np.random.default_rng(1).random(84))
        for found in (compressed_one(points, 9), mean_of(take(points, slice(12)))):
            assert (found.spreads >= 0).all()

    def test_points_that_stand_for_nothing(self):
        """Of equal proxies, the first stands for all samples."""
        X = 10.0 * np.repeat(np.eye(7), 3, axis=0)
        counts = np.repeat([1.0, 0.0], [12, 9])  # the last three are merged, all of 0
        found = compressed_one(points_of(X, counts), 5)
        assert np.isfinite(found.vectors).all()
        assert found.counts.sum() == 12
        np.testing.assert_allclose(found.vectors.max(axis=1), 10)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("batch_bytes", [1, 2**13, 2**30])
    def test_does_not_depend_on_other_classes(self, dtype, batch_bytes, monkeypatch):
        monkeypatch.setattr(skimprint._memory.points, "_BATCH_BYTES", batch_bytes)
        rng = np.random.default_rng(0)
        classes, bounds = [], np.array([10, 10, 3, 40, 0, 10])
        for n in (21, 200, 90, 79, 50, 64):
            X = 10.0 ** rng.integers(-6, 6) * rng.normal(size=(n, 7))
            classes.append(points_of(X.astype(dtype), rng.uniform(0.1, 5, n)))
        classes.append(points_of(np.ones((30, 7), dtype)))  # all are alike
        bounds = np.append(bounds, 5)
        found = compressed(Ragged.of(classes), bounds)
        for points, before, bound in zip(found, classes, bounds, strict=True):
            alone = compressed_one(before, bound)
            assert len(points.counts) == len(alone.counts)
            for array, other in zip(points, alone, strict=True):
                np.testing.assert_array_equal(array, other)


def test_weighed_by_keeps_the_weight_of_every_proxy():
    rng = np.random.default_rng(0)
    proxies = points_of(np.eye(3), np.array([5.0, 3.0, 2.0]))
    drawn = points_of(np.eye(3)[[0, 0, 1]] + 0.01 * rng.normal(size=(3, 3)))
    found = weighed_by(drawn, proxies)
    np.testing.assert_allclose(found.counts, [2.5, 2.5, 3, 2])
    np.testing.assert_array_equal(found.vectors[3], proxies.vectors[2])


class TestInTheClassifier:
    @pytest.fixture
    def class_of_many(self):
        rng = np.random.default_rng(0)
        centers = rng.normal(size=(30, 16))
        return centers[rng.integers(30, size=900)] + 0.5 * rng.normal(size=(900, 16))

    def test_parts_cluster_about_as_well_as_one_fit(self, class_of_many):
        """With nothing but proxies to go on, they are 8 % worse, both of them."""
        X, y = class_of_many, np.zeros(len(class_of_many), int)

        def cost(clf):
            proxies = known(clf).proxies.values.vectors
            return euclidean_distances(X, proxies, squared=True).min(axis=1).sum()

        streamed, merged = [], []
        for seed in range(5):
            clf = plain_classifier(n_proxies=20, support_norm=None, random_state=seed)
            whole = cost(clone(clf).fit(X, y))
            parts = clone(clf)
            for rows in np.array_split(np.arange(len(X)), 10):
                parts.partial_fit(X[rows], y[rows])
                assert 20 <= known(parts).memory.sizes <= 400
            streamed.append(cost(parts) / whole)
            one, other = (clone(clf).fit(X[i::2], y[i::2]) for i in range(2))
            merged.append(cost(one.merge(other)) / whole)
        assert np.mean(streamed) < 1.03
        assert np.mean(merged) < 1.07

    @pytest.mark.parametrize("n", [15, 300, 900])
    def test_one_chunk_is_a_fit(self, class_of_many, n):
        X, y = class_of_many[:n], np.zeros(n, int)
        clf = plain_classifier(n_proxies=20, random_state=0)
        expected = clone(clf).fit(X, y).proxies_
        other = clone(clf).fit(X[:5], np.ones(5, int)).partial_fit(X, y)
        np.testing.assert_array_equal(other.proxies_[: len(expected)], expected)

    @pytest.mark.parametrize("generator", ["mean", "all", "random", "least_squares"])
    def test_exact_generators_need_no_more_points_than_proxies(
        self, class_of_many, generator
    ):
        clf = plain_classifier(generator, n_proxies=1)
        clf.fit(class_of_many, np.zeros(900, int))
        assert known(clf).memory.sizes <= (1 if generator == "mean" else 0)


def test_a_mean_stands_for_all():
    rng = np.random.default_rng(0)
    points = Points(
        rng.normal(size=(20, 3)), rng.random(20), np.arange(20) + 5, rng.random(20)
    )
    found = mean_of(points)
    expected = np.average(points.vectors, axis=0, weights=points.counts)
    np.testing.assert_allclose(found.vectors, [expected])
    np.testing.assert_allclose(found.counts, [points.counts.sum()])
    distances = ((points.vectors - expected) ** 2).sum(axis=1) + points.spreads
    assert found.indices[0] == distances.argmin() + 5
    np.testing.assert_allclose(found.spreads, [distances.min()])


def test_a_sample_of_samples_of_parts_is_one_of_the_whole():
    X = np.random.default_rng(0).normal(size=(90, 3))
    whole = sampled(points_of(X), 10)
    assert len(whole.counts) == 10
    assert (np.diff(whole.indices) > 0).all()
    parts = [sampled(take(points_of(X), slice(i, None, 3)), 10) for i in range(3)]
    both = sampled(joined([parts[2], parts[0], parts[1]]), 10)
    assert set(both.indices) == set(whole.indices)
    few = points_of(X[:4])
    assert sampled(few, 4) is few
