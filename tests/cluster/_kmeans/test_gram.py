"""K-means on inner products: many groups share array operations."""

import numpy as np
import pytest
from clusters import assert_same_bits, blobs, of_group

from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import grouped_kmeans


@pytest.mark.parametrize("spread", [0.5, 5.0])
def test_same_bits_alone_and_in_a_batch(route, spread):
    """Groups that share array operations, and leave them one after the other.

    With as many rows as a sample, with fewer, and with more.
    """
    sizes = [90, 90, 61, 240, 90, 33, 200, 310, 270]
    X, codes = blobs(sizes, 40, 12, spread=spread)
    together = grouped_kmeans(GroupedRows(X, codes, 9), 6, seed=1, n_init=2)
    threaded = grouped_kmeans(GroupedRows(X, codes, 9), 6, seed=1, n_init=2, n_jobs=3)
    assert_same_bits(threaded, together)
    for group in range(9):
        own = codes == group
        groups = GroupedRows(X[own], np.zeros(own.sum(), int), 1)
        alone = grouped_kmeans(groups, 6, seed=1, n_init=2)
        left = of_group(together, codes, group)
        assert_same_bits(left[:2], (alone.centers, alone.labels))
        assert left[2] == alone.inertia[0]
        assert together.n_iter[group] == alone.n_iter[0]
