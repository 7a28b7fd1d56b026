"""Models that are written and read again."""

import numpy as np


def support(n_classes, n_shots, n_features, dtype=np.float32):
    """Embeddings of classes that overlap, as those of real texts do."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(n_classes), n_shots)
    X = rng.standard_normal((n_classes, n_features))[y]
    X += 0.8 * rng.standard_normal(X.shape)
    return X.astype(dtype), y


def assert_same(first, second, X):
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    np.testing.assert_array_equal(first.score_samples(X), second.score_samples(X))
    np.testing.assert_array_equal(first.proxies_, second.proxies_)
