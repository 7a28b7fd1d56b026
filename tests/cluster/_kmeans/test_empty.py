import numpy as np
import pytest

from skimprint.cluster._kmeans.empty import refill


@pytest.mark.parametrize(
    "labels, distances, expected",
    [
        ([0, 0, 0], [0.0, 4.0, 1.0], [0, 1, 2]),  # the farthest first
        ([0, 0, 2], [0.0, 1.0, 9.0], [0, 1, 2]),  # not the only member of a cluster
        ([0, 1, 2], [5.0, 4.0, 1.0], [0, 1, 2]),  # none is empty
        ([0, 0, 0], [0.0, 0.0, 0.0], [0, 0, 0]),  # no row is off its centre
    ],
)
def test_empty_clusters_get_the_rows_farthest_from_their_centres(
    labels, distances, expected
):
    labels = np.array(labels, np.int32)
    refill(labels, np.array(distances), np.full(3, 10.0), 3)
    np.testing.assert_array_equal(labels, expected)
