"""Samples in chunks of dask, and comparisons of what is learnt of them."""

import numpy as np

from skimprint.generation import GENERATORS

# Whose classes are independent, to the bit; and what all classes have in common.
INDEPENDENT = [
    *(
        {"generator": name, "n_proxies": 2}
        for name in GENERATORS
        if name != "least_squares"
    ),
    {"generator": "kmeans", "n_proxies": {c: 1 + c % 3 for c in range(10)}},
    {"generator": "mean", "support_norm": "auto", "query_norm": "auto"},
    {"generator": "mean", "metric": "euclidean", "support_norm": None},
]
SHARED = [
    {"generator": "least_squares", "n_proxies": 1},
    {"generator": "mean", "whitening": 0.3},
    {"generator": "mean", "whitening": 0.3, "forgettable": False},
    {"generator": "mean", "metric": "mahalanobis"},
    {"generator": "mean", "proxy_norm": "quantile"},
    {"n_proxies": 2, "kernel_weight": 0.5, "temperature": "auto"},
]
METHODS_OF_QUERIES = [
    "predict",
    "predict_proba",
    "decision_function",
    "score_samples",
]


def chunked(values, sizes):
    """A dask array in chunks of these sizes, of all features each."""
    import dask.array as da

    rest = tuple((n,) for n in values.shape[1:])
    return da.from_array(values, chunks=(tuple(sizes), *rest))


def assert_same(found, expected, X, tolerance=0.0):
    for name in ("classes_", "proxy_labels_", "proxy_indices_", "class_count_"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.proxies_, expected.proxies_, tolerance, tolerance)
    for name in METHODS_OF_QUERIES:
        mine, other = getattr(found, name)(X), getattr(expected, name)(X)
        assert mine.dtype == other.dtype
        if name != "predict":
            np.testing.assert_allclose(mine, other, tolerance, tolerance)
    assert found.n_samples_seen_ == expected.n_samples_seen_
    assert repr(found) == repr(expected)


def read_rows(texts):
    """An embedder of rows that are written as text."""
    return np.stack([np.frombuffer(bytes.fromhex(text), np.float32) for text in texts])


def lengths(texts):
    return np.array([[len(text), 1.0] for text in texts])
