"""Greedy k-means++: which of several candidates a step takes."""

import numpy as np
import pytest

from skimprint.cluster._kmeans.seeding import seed_batch


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
