"""Digits with names, and a report on a classifier of them."""

import numpy as np
import pytest
from reports import fitted

from skimprint import Rejection
from skimprint.inspection import report


@pytest.fixture(scope="module")
def data(digits):
    X, y = digits
    names = np.array([f"digit {label}" for label in y])
    known = y < 8
    return X[known][:250], names[known][:250], X[250:], names[250:]


@pytest.fixture(scope="module")
def whole(data):
    """A report with all that there is to say."""
    clf = fitted(data, temperature="auto", rejection=Rejection("none", rate=0.1))
    X, y, queries, labels = data
    items = [f"query text {i}" for i in range(len(queries))]
    train = [f"train text {i}" for i in range(len(X))]
    return clf, report(
        clf, queries, labels, items, X_train=X, y_train=y, train_items=train
    )
