"""Several means per class."""

import numpy as np
import pytest

from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import grouped_kmeans
from skimprint.generation import KMeansProxies


@pytest.mark.parametrize(
    "params",
    [
        {"spherical": True},
        {"n_init": 3},
        {"max_iter": 1},
        {"tol": 1.0},
    ],
    ids=str,
)
def test_proxies_are_the_centres_of_the_engine(params):
    """With the parameters of the generator, each of which makes a difference."""
    X, codes = np.random.default_rng(0).normal(size=(120, 6)), np.arange(120) % 4
    support, n_proxies = GroupedRows(X, codes, 4), np.full(4, 5)
    expected = grouped_kmeans(support, 5, seed=0, **params)
    assert not np.array_equal(
        expected.centers, grouped_kmeans(support, 5, seed=0).centers
    )
    found = KMeansProxies(**params).generate(support, n_proxies, seed=0)
    np.testing.assert_array_equal(found.values.vectors, expected.centers)
    np.testing.assert_array_equal(found.values.indices, expected.indices)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
