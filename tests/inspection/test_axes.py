"""What figures are drawn on, and that it is refused before any work."""

import sys

import numpy as np
import pytest

from skimprint import ImprintClassifier
from skimprint.inspection import (
    CollapseDisplay,
    ExplanationDisplay,
    FamiliarityDisplay,
    ProxyDisplay,
)

matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
pytest.importorskip("matplotlib.pyplot")  # an attribute of it from then on

DISPLAYS = [ExplanationDisplay, FamiliarityDisplay, ProxyDisplay, CollapseDisplay]


@pytest.mark.parametrize("display", [FamiliarityDisplay, CollapseDisplay, ProxyDisplay])
def test_they_draw_where_they_are_told(display):
    _, axes = matplotlib.pyplot.subplots()
    data = ([[0.0, 1.0]], ["a"]) if display is ProxyDisplay else ([0.5], [0.1])
    found = display.from_predictions(*data, ax=axes)
    assert found.ax_ is axes
    assert found.figure_ is axes.figure


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'"skimprint\[inspection\]"'):
        FamiliarityDisplay.from_predictions([0.5], [0.1])


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("ax", ["ax", 1, matplotlib.figure.Figure(), "several"])
def test_what_is_no_axes_is_refused_before_any_work(display, ax):
    if ax == "several":
        _, ax = matplotlib.pyplot.subplots(1, 2)
    got = f"^ax must be .* got {type(ax).__name__}"
    with pytest.raises(TypeError, match=got):
        display.from_estimator(None, None, None, ax=ax)
    data = {
        ExplanationDisplay: [],
        FamiliarityDisplay: [[0.5], [0.1]],
        ProxyDisplay: [np.eye(2), np.arange(2)],
        CollapseDisplay: [[0.5], [0.1], ["a"]],
    }[display]
    if data:
        with pytest.raises(TypeError, match=got):
            display(*data).plot(ax=ax)


def test_an_explanation_is_drawn_on_axes_only(digits):
    X, y = digits[0][:60], digits[1][:60]
    why = ImprintClassifier("mean").fit(X, y).explain(X[:2])
    with pytest.raises(TypeError, match=r"^ax must be .* got Figure"):
        ExplanationDisplay(why).plot(ax=matplotlib.figure.Figure())


@pytest.mark.parametrize("display", DISPLAYS)
def test_that_matplotlib_is_missing_is_told_before_any_work(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'"skimprint\[inspection\]"'):
        display.from_estimator(None, None, None)


@pytest.mark.parametrize("display", [FamiliarityDisplay, CollapseDisplay])
@pytest.mark.parametrize("wrong", [None, 0.5, "a", np.eye(2), [np.nan]], ids=str)
def test_what_are_no_numbers_is_refused_by_name(display, wrong):
    first, second = ("known", "unknown"), ("collapse", "gain")
    names = first if display is FamiliarityDisplay else second
    for i, name in enumerate(names):
        given = [[0.5], [0.1]]
        given[i] = wrong
        with pytest.raises(ValueError, match=f"^{name} (must be numbers|contains NaN)"):
            display.from_predictions(*given)
