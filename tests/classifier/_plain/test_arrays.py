"""Labels as plain values."""

import copy
import pickle
from enum import StrEnum

import numpy as np
import pytest
from pickled import support
from settings import plain_classifier


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    "labels",
    [
        [np.str_("up"), np.str_("down")],
        [Color.RED, Color.BLUE],
    ],
    ids=lambda labels: type(labels[0]).__name__,
)
def test_text_in_arrays_of_objects_is_plain(labels):
    """Whatever they are subclasses of: files and pickles hold the plain ones."""
    X, _ = support(2, 5, 4)
    y = np.empty(10, dtype=object)
    y[:] = labels * 5
    for params in ({}, {"head": (X[:1], y[:1])}):
        clf = plain_classifier("mean", **params).fit(X, y)
        assert {type(label) for label in clf.classes_} == {str}
        for again in (pickle.loads(pickle.dumps(clf)), copy.deepcopy(clf)):
            assert again.predict(X).tolist() == clf.predict(X).tolist()
            assert again.forget(labels[0]).classes_.tolist() == [labels[1]]
