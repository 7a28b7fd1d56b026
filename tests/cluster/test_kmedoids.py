"""K-medoids; its definition is tested beside those of others, in test_selection.py."""

import numpy as np

from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmedoids import grouped_kmedoids


def test_better_start_of_kmedoids():
    """Drawn seeds beat rows that lie close together, on average."""
    rng = np.random.default_rng(0)
    centers = 3 * rng.standard_normal((30, 5, 10))
    codes = np.repeat(np.arange(30), 40)
    X = centers[codes, rng.integers(5, size=len(codes))]
    X = (X + rng.standard_normal(X.shape)).astype(np.float32)
    groups = GroupedRows(X, codes, 30)
    totals = {}
    for init in ("k-medoids++", "heuristic"):
        indices = grouped_kmedoids(groups, 5, init=init).indices.reshape(30, 5)
        distances = np.linalg.norm(X[:, None] - X[indices[codes]], axis=2)
        totals[init] = distances.min(axis=1).sum()
    assert totals["k-medoids++"] < 0.95 * totals["heuristic"]
