"""Greedy k-means++: which of several candidates a step takes."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from skimprint._arrays.threads import PausableLock
from skimprint.cluster import GroupedKMeans
from skimprint.cluster._kmeans.seeding import seed_batch, seed_rows


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_does_not_choose_between_equal_candidates(dtype):
    """Pairs of rows that are each other's nearest: either one is as good a seed."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(15, 8)), 2, axis=0)
    X[::2] += 0.01 * rng.normal(size=(15, 8))
    exact = ((X[:, None] - X) ** 2).sum(axis=2)
    weights = np.ones((1, len(X)), dtype)

    def seeds(noise):
        found = (exact * (1 + noise * rng.normal(size=exact.shape))).astype(dtype)
        draws = np.random.default_rng(3)
        return seed_batch(lambda rows: found[rows], weights, 15, draws, 16)[0]

    expected = seeds(0)
    for _ in range(20):
        np.testing.assert_array_equal(seeds(1e-7), expected)


@pytest.mark.parametrize("decades", [2, 4])
@pytest.mark.parametrize("share", [0.002, 0.01, 1.0])
def test_rows_of_much_weight_are_seeds_of_large_groups(digits, decades, share):
    """The sample that seeds are chosen in has them, however few they are."""
    rng = np.random.default_rng(0)
    X = np.tile(digits[0][:, ::8], (4, 1)).astype(np.float64)
    X += 0.1 * rng.normal(size=X.shape)
    weights = 10 ** (decades * rng.random(len(X)))
    weights[rng.random(len(X)) > share] = 1
    found, expected = [], []
    for seed in range(5):
        ours = GroupedKMeans(n_clusters=10, random_state=seed)
        ours.fit(X, np.zeros(len(X)), sample_weight=weights)
        found.append(ours.inertia_[0])
        theirs = KMeans(10, n_init=1, random_state=seed)
        expected.append(theirs.fit(X, sample_weight=weights).inertia_)
    assert np.mean(found) < 1.05 * np.mean(expected)


def test_seeds_follow_the_weights_and_what_is_far():
    """A sample of the rows shows clusters that few rows, or few of weight, make up."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 30), dtype=np.float32)
    X[:1000, 0] += 200  # has no weight to speak of
    X[1000:1003, 1] += 500
    weights = np.where(np.arange(2000) < 1000, 1e-6, 1).astype(np.float32)
    X -= X.mean(axis=0)
    sq_norms = np.square(X).sum(axis=1)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        lock = PausableLock()
        with lock:
            seeds = seed_rows(X, sq_norms, weights, 2, rng, lock)
        assert seeds.min() >= 1000
        assert seeds.min() < 1003 <= seeds.max()
