import numpy as np
import pytest

from skimprint.cluster._kmeans.sums import cluster_sums, inertia_of


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("some", [False, True])
def test_rows_move_from_one_cluster_to_another(dtype, some):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 5)).astype(dtype)
    rows = np.flatnonzero(rng.integers(2, size=30)) if some else np.arange(30)
    before, after = rng.integers(4, size=(2, len(rows))).astype(np.int32)
    weights = rng.uniform(0.5, 2, len(rows)).astype(dtype)
    given = rows if some else None
    moved = cluster_sums(X, [before, after], [-weights, weights], 4, given)
    assert moved.dtype == dtype
    for cluster in range(4):
        gain = weights * (after == cluster) - weights * (before == cluster)
        np.testing.assert_allclose(moved[cluster], gain @ X[rows], atol=1e-5)


@pytest.mark.parametrize("n", [1, 1024, 1025, 3000])
def test_inertia_of_any_number_of_rows(n):
    rng = np.random.default_rng(n)
    X, centers = rng.normal(size=(n, 3)), rng.normal(size=(4, 3))
    labels, weights = rng.integers(4, size=n), rng.uniform(size=n)
    expected = np.square(X - centers[labels]).sum(axis=1) @ weights
    np.testing.assert_allclose(inertia_of(X, labels, weights, centers), expected)
