"""Groups of rows to cluster, and what to compare."""

import numpy as np

# Sizes of groups that go each way.
RAGGED = [1, 2, 3, 4, 5, 17, 17, 17, 40, 230, 700, 5, 1]


def blobs(sizes, d, n_blobs, *, seed=0, spread=0.5, dtype=np.float32):
    """Groups that are mixtures of blobs, in random order of rows."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centers = rng.standard_normal((len(sizes), n_blobs, d))
    X = centers[codes, rng.integers(n_blobs, size=len(codes))]
    X = X + spread * rng.standard_normal(X.shape)
    return X.astype(dtype), codes


def squared_distances(X, centers):
    X, centers = X.astype(np.float64), centers.astype(np.float64)
    return ((X[:, None] - centers[None]) ** 2).sum(axis=2)


def of_group(result, codes, group):
    """Centres, labels and inertia of one group."""
    start, stop = result.offsets[group : group + 2]
    labels = result.labels[codes == group]
    return result.centers[start:stop], labels, result.inertia[group]


def assert_same_bits(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right, strict=True)
