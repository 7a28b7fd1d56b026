"""Settings by name."""

import pickle

import numpy as np
import pytest

import skimprint
from skimprint import ImprintClassifier
from skimprint.aggregation import Votes
from skimprint.methods import METHODS, PUBLISHED_METHODS, RECOMMENDED


@pytest.mark.parametrize("name", METHODS)
def test_each_makes_a_classifier(digits, name):
    X, y = digits
    clf = ImprintClassifier.from_method(name, random_state=0)
    same = ImprintClassifier(**METHODS[name], random_state=0)
    assert repr(clf) == repr(same)
    clf.fit(X[:300], y[:300])
    np.testing.assert_array_equal(
        clf.predict(X[300:]), same.fit(X[:300], y[:300]).predict(X[300:])
    )
    assert clf.score(X[300:], y[300:]) > 0.7
    pickle.dumps(clf)


def test_changes_of_the_users_go_first():
    clf = ImprintClassifier.from_method("recommended", kernel_weight=0, n_jobs=2)
    expected = RECOMMENDED | {"kernel_weight": 0, "n_jobs": 2}
    found = clf.get_params(deep=False)
    assert {name: found[name] for name in expected} == expected


def test_components_are_not_shared():
    first, second = (ImprintClassifier.from_method("janson") for _ in range(2))
    assert isinstance(first.aggregation, Votes)
    first.set_params(aggregation__n_neighbors=7)
    assert second.aggregation.n_neighbors == 1
    assert METHODS["janson"]["aggregation"].n_neighbors == 1


def test_settings_cannot_be_changed():
    for settings in (METHODS, METHODS["qi"], PUBLISHED_METHODS, RECOMMENDED):
        with pytest.raises(TypeError, match="does not support item assignment"):
            settings["generator"] = "all"
    assert skimprint.methods.METHODS is METHODS


def test_no_such_method():
    message = r"name must be one of \['hosoda', .*'westerhoff'\]; got 'best'"
    with pytest.raises(ValueError, match=message):
        ImprintClassifier.from_method("best")
    with pytest.raises(TypeError, match="n_proxy"):
        ImprintClassifier.from_method("qi", n_proxy=3)


def test_the_default_is_the_papers_best_method():
    defaults = ImprintClassifier().get_params(deep=False)
    for name, value in PUBLISHED_METHODS["westerhoff"].items():
        assert defaults[name] == value
