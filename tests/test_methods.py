"""Settings by name."""

import pickle

import numpy as np
import pytest
from sklearn.model_selection import cross_val_score

import skimprint
from skimprint import ImprintClassifier
from skimprint.aggregation import Votes
from skimprint.generation import MeanProxies
from skimprint.methods import METHODS, PUBLISHED_METHODS, RECOMMENDED
from skimprint.normalization import l2_normalize, power_normalize

PROXIES_ONLY = RECOMMENDED | {"kernel_weight": 0}


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
    ImprintClassifier(**METHODS["janson"]).set_params(aggregation__n_neighbors=7)
    assert METHODS["janson"]["aggregation"].n_neighbors == 1
    assert METHODS["qi"] | {"n_jobs": 2} == {**METHODS["qi"], "n_jobs": 2}


def test_settings_cannot_be_changed():
    for settings in (METHODS, METHODS["qi"], PUBLISHED_METHODS, RECOMMENDED):
        with pytest.raises(TypeError, match="does not support item assignment"):
            settings["generator"] = "all"
    assert skimprint.methods.METHODS is METHODS


def test_no_such_method():
    message = r"name must be one of \['hosoda', .*'westerhoff'\]; got 'best'"
    with pytest.raises(ValueError, match=message):
        ImprintClassifier.from_method("best")
    with pytest.raises(ValueError, match=r"name must be one of .* got \['qi'\]"):
        ImprintClassifier.from_method(["qi"])
    with pytest.raises(TypeError, match="n_proxy"):
        ImprintClassifier.from_method("qi", n_proxy=3)


def test_the_default_is_the_recommended_setting_without_its_kernel():
    defaults = ImprintClassifier().get_params(deep=False)
    for name, value in PROXIES_ONLY.items():
        assert defaults[name] == value


def test_published_methods_say_all_that_is_not_the_default():
    defaults = ImprintClassifier().get_params(deep=False)
    for method in PUBLISHED_METHODS.values():
        chosen = {name for name, value in defaults.items() if value == "auto"}
        assert chosen - {"forgettable"} <= method.keys()  # which nothing looks at there
        assert "auto" not in [v for v in method.values() if isinstance(v, str)]


def test_the_published_ranking_holds_on_digits(digits):
    X, y = digits
    accuracy = {
        name: cross_val_score(
            ImprintClassifier.from_method(name, random_state=0), X, y, cv=3
        ).mean()
        for name in PUBLISHED_METHODS
    }
    assert accuracy["least_squares"] > accuracy["westerhoff"] > accuracy["qi"]


@pytest.fixture(scope="module")
def some(digits):
    X, y = digits
    return X[:300].astype(np.float64), y[:300]


class TestRecommended:
    def test_is_better_than_the_mean_and_the_papers_method(self, digits):
        X, y = digits
        train, test = np.arange(len(y)) % 3 == 0, np.arange(len(y)) % 3 == 1
        accuracy = {
            name: ImprintClassifier(**params, random_state=0)
            .fit(X[train], y[train])
            .score(X[test], y[test])
            for name, params in {
                "recommended": RECOMMENDED,
                "proxies only": PROXIES_ONLY,
                "mean": PUBLISHED_METHODS["qi"],
                "k-means": PUBLISHED_METHODS["westerhoff"],
            }.items()
        }
        for ours in ("recommended", "proxies only"):
            assert accuracy[ours] > accuracy["k-means"] + 0.03
            assert accuracy[ours] > accuracy["mean"] + 0.05

    def test_is_the_nearest_centred_sample_of_one_a_class_if_not_whitened(self, some):
        X, y = some
        first = np.unique(y, return_index=True)[1]
        clf = ImprintClassifier(**PROXIES_ONLY | {"whitening": 1.0}, random_state=0)
        clf.fit(X[first], y[first])
        support, queries = power_normalize(X[first]), power_normalize(X)
        origin = support.mean(axis=0)
        cosines = l2_normalize(queries - origin) @ l2_normalize(support - origin).T
        np.testing.assert_allclose(clf.decision_function(X), cosines, atol=1e-9)

    def test_is_the_whitened_mean_for_a_mean(self, some):
        X, y = some
        clf = ImprintClassifier(**PROXIES_ONLY | {"generator": MeanProxies()}).fit(X, y)
        norms = {"support_norm": "power", "query_norm": "power"}
        same = ImprintClassifier("mean", whitening="auto", **norms).fit(X, y)
        np.testing.assert_array_equal(clf.predict(X), same.predict(X))
