"""K-means on rows."""

import numpy as np
import pytest
from clusters import blobs, squared_distances

from skimprint._arrays.threads import PausableLock
from skimprint.cluster._kmeans import lloyd


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [8, 200])
def test_bounds_hold(dtype, n_features, monkeypatch):
    """After each move of the centres, on both sides, and they rule something out."""
    X, _ = blobs([1500], n_features, 12, spread=2.0, dtype=dtype)
    X -= X.mean(axis=0)
    settled = []

    class Checked(lloyd._Bounds):
        def follow(self, labels, old, new):
            shift = super().follow(labels, old, new)
            own = np.arange(len(X)), labels
            exact = np.sqrt(squared_distances(X, new))
            assert (exact[own] <= self.upper).all()
            exact[own] = np.inf
            assert (exact.min(axis=1) >= self.lower).all()
            settled.append((self.lower >= self.upper).mean())
            return shift

    monkeypatch.setattr(lloyd, "_Bounds", Checked)
    rng = np.random.default_rng(0)
    options = {"n_init": 2, "max_iter": 300, "tol": 0, "spherical": False}
    weights = np.ones(len(X), dtype)
    lock = PausableLock()
    with lock:
        lloyd.lloyd_kmeans(X, weights, 12, rng, lock, np.zeros(len(X)), **options)
    assert max(settled) > 0.5
