"""What a pipeline does, whatever its shape."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skimprint import ImprintClassifier, ImprintClassifierCV
from skimprint.classifier._steps import steps_of


@pytest.mark.parametrize(
    "model, expected",
    [
        (ImprintClassifier(), ["model"]),
        (make_pipeline(ImprintClassifier()), ["imprintclassifier"]),
        (Pipeline([("a", None), ("b", "passthrough")]), []),
        (
            make_pipeline(None, Normalizer(), make_pipeline(StandardScaler(), None)),
            ["normalizer", "standardscaler"],
        ),
        ("passthrough", []),
        (FrozenEstimator(ImprintClassifier()), ["model"]),
        (
            make_pipeline(
                FrozenEstimator(make_pipeline(Normalizer(), None)), StandardScaler()
            ),
            ["normalizer", "standardscaler"],
        ),
    ],
)
def test_steps_that_do_anything(model, expected):
    assert [name for name, _ in steps_of(model)] == expected


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_frozen_is_what_it_was(whole):
    """It can be shown and converted, as it can predict."""
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    model = make_pipeline(FrozenEstimator(StandardScaler().fit(X)), ImprintClassifier())
    model.fit(X, y)
    if whole:
        model = FrozenEstimator(model)
    (_, first), (_, last) = steps_of(model)
    assert isinstance(first, StandardScaler)
    assert isinstance(last, ImprintClassifier)


def test_a_search_stands_for_its_best_estimator():
    X, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    search = ImprintClassifierCV(param_grid={"n_proxies": [1]}, cv=2)
    model = GridSearchCV(make_pipeline(StandardScaler(), search), {}, cv=2).fit(X, y)
    (_, first), (name, last) = steps_of(model)
    assert first is model.best_estimator_[0]
    assert name == "imprintclassifiercv"
    assert last is model.best_estimator_[1].best_estimator_
