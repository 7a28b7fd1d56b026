"""Charts of the report are those of displays, or what is told of them."""

import base64
import sys

import numpy as np
import pytest
from reports import Outline

from skimprint.inspection._charts import familiarity_chart, reliability_chart
from skimprint.inspection._findings import reliability

KNOWN, UNKNOWN = np.linspace(1.01, 1.16, 50), np.linspace(0.9, 1.1, 5)


def test_a_chart_is_a_picture_that_is_told_in_words():
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    charts = {
        "50 known queries, median familiarity 1.08; 5 unknown ones, median 1": (
            familiarity_chart(KNOWN, UNKNOWN, 1.0)
        ),
        "probability 0.25, right 100%": reliability_chart(
            reliability(np.array([0.25]), np.array([True]))
        ),
    }
    for told, chart in charts.items():
        (picture,) = Outline(chart).all("img")
        assert picture["alt"] == told
        svg = base64.b64decode(
            picture["src"].removeprefix("data:image/svg+xml;base64,")
        )
        assert svg.startswith(b"<?xml")
        assert b"nan" not in svg


def test_all_of_a_chart_is_within_its_picture(monkeypatch):
    figure = pytest.importorskip("matplotlib.figure", reason="needs matplotlib")
    save, saved = figure.Figure.savefig, []

    def savefig(self, *args, **kwargs):
        save(self, *args, **kwargs)
        self.set_dpi(72)  # as in SVG
        self.draw_without_rendering()
        (ax,) = self.axes
        box = ax.get_tightbbox()
        saved.append([*box.min, *(self.bbox.max - box.max)])

    monkeypatch.setattr(figure.Figure, "savefig", savefig)
    familiarity_chart(KNOWN, UNKNOWN, 1.0)
    familiarity_chart(KNOWN, UNKNOWN[:0], None)  # without a title
    reliability_chart(reliability(np.array([0.25]), np.array([True])))
    assert len(saved) == 3
    assert np.min(saved) >= 0


def test_without_matplotlib_words_are_left(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    chart = familiarity_chart(KNOWN, UNKNOWN[:0], None)
    assert chart.startswith('<p class="note">50 known queries, median familiarity 1.08')
    assert "A chart needs the library" in chart
    assert "<img" not in chart


def test_familiarities_that_are_infinite_are_left_out():
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    assert "<img" in familiarity_chart(np.array([1.0, np.inf]), UNKNOWN[:0], -np.inf)
    assert familiarity_chart(KNOWN[:0], UNKNOWN[:0], None) == ""
