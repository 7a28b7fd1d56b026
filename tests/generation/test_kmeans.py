"""K-means as a generator that others build upon."""

import numpy as np

from skimprint._arrays.groups import GroupedRows
from skimprint.generation import KMeansProxies


class NoisyProxies(KMeansProxies):
    """Has a parameter that the clustering knows nothing of."""

    def __init__(self, noise=0.0, n_init=1, max_iter=300, tol=1e-4, spherical=False):
        super().__init__(n_init, max_iter, tol, spherical)
        self.noise = noise


def test_a_subclass_may_have_parameters_of_its_own(digits):
    X, y = digits
    groups, numbers = GroupedRows(X, y, 10), [np.full(10, 2), np.full(10, 3)]
    found = NoisyProxies().generate_each(groups, numbers)
    expected = KMeansProxies().generate_each(groups, numbers)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.values.vectors, other.values.vectors)
