"""Norms that are chosen, by samples that have some weight."""

import numpy as np
import pytest

from skimprint import ImprintClassifier


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_samples_of_no_weight_choose_nothing(method):
    X, y, weights = np.eye(3), ["a", "b", "c"], np.array([0.0, 1, 1])
    X[0] = -1
    clf = getattr(ImprintClassifier("all"), method)(X, y, sample_weight=weights)
    assert clf.support_norm_ == "power"
    assert clf.classes_.tolist() == y
