"""Samples to export a classifier of."""

import numpy as np
import pytest
from sklearn.datasets import load_digits


@pytest.fixture(scope="module")
def data():
    """Raw digits: 64 features, and labels."""
    X, y = load_digits(return_X_y=True)
    X = X + np.random.default_rng(0).normal(0, 0.1, X.shape)  # no ties
    return X[:200], y[:200], X[200:320]
