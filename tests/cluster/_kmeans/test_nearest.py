"""Centres and rows, related by their distances."""

import numpy as np
import pytest

from skimprint.cluster._kmeans.nearest import nearest_of


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("has_spread", [False, True])
def test_by_definition(k, has_spread):
    rng = np.random.default_rng(0)
    distances, weights = rng.random((5, k, 7)), rng.random((5, 7))
    spread = rng.random((5, 7)) * has_spread
    found = nearest_of(distances.copy(), weights, spread)
    for group in range(5):
        owners = distances[group].argmin(axis=0)
        counts = [weights[group, owners == centre].sum() for centre in range(k)]
        np.testing.assert_allclose(found.counts[group], counts)
        apart = distances[group] + spread[group]
        np.testing.assert_array_equal(found.rows[group], apart.argmin(axis=1))
        np.testing.assert_array_equal(found.spreads[group], apart.min(axis=1))


def test_of_equals_the_first_counts():
    found = nearest_of(np.full((1, 3, 4), -1e-9), np.ones((1, 4)), np.zeros((1, 4)))
    np.testing.assert_array_equal(found.rows, [[0, 0, 0]])
    np.testing.assert_array_equal(found.counts, [[4, 0, 0]])
    np.testing.assert_array_equal(found.spreads, [[0, 0, 0]])  # no squares are negative
