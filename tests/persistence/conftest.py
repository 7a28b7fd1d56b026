"""Fewer features, and a model in a folder."""

import pytest
from settings import plain_classifier

from skimprint import persistence


@pytest.fixture
def digits(digits):
    """Fewer features, for files are what matters here."""
    X, y = digits
    return X[:, ::16].copy(), y


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


@pytest.fixture
def saved(digits, folder):
    """A folder with a model."""
    X, y = digits
    clf = plain_classifier("kmeans", 3, whitening=0.5, random_state=0).fit(X, y)
    persistence.save(clf, folder)
    return folder
