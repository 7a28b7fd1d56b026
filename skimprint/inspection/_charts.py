"""Charts of a report, as pictures of matplotlib's that a page holds."""

import base64
import io

import numpy as np

from ..embedding._extras import require
from ._axes import BLUE
from ._displays import FamiliarityDisplay

# In inches. Such a picture can be read on a phone, too.
_SIZE = 5.5, 2.6

# The same report has the same bytes.
_STYLE = ["default", {"svg.hashsalt": "skimprint", "svg.fonttype": "none"}]


def familiarity_chart(known, unknown, threshold):
    """Draw how familiar known and unknown queries are.

    Parameters
    ----------
    known, unknown : ndarray
        Familiarities.
    threshold : float or None
        Below which queries are rejected.

    Returns
    -------
    html : str
        A figure; nothing of no queries.
    """
    if not len(known) + len(unknown):
        return ""
    told = f"{len(known)} known queries, median familiarity {_median(known)}"
    if len(unknown):
        told += f"; {len(unknown)} unknown ones, median {_median(unknown)}"
    display = FamiliarityDisplay(known, unknown, threshold)
    return _chart(lambda ax: display.plot(ax=ax), told)


def reliability_chart(found):
    """Draw accuracy against probability.

    Parameters
    ----------
    found : Bunch
        Of `reliability`.

    Returns
    -------
    html : str
        A figure.
    """

    def draw(ax):
        ax.axline((0, 0), slope=1, color="black", linestyle="--")
        ax.plot(found.confidence, found.accuracy, color=BLUE, marker="o")
        ax.vlines(found.confidence, found.low, found.high, color=BLUE)
        ax.set(xlim=(0, 1.02), ylim=(0, 1.05), xlabel="probability", ylabel="accuracy")
        ax.spines[["top", "right"]].set_visible(False)

    points = zip(found.confidence, found.accuracy, strict=True)
    told = "; ".join(f"probability {a:.2f}, right {b:.0%}" for a, b in points)
    key = (
        "Accuracy of ten parts of equally many queries, with 95 % intervals; dashed: "
        "where probabilities mean what they say"
    )
    return _chart(draw, told, key)


def _median(values):
    return f"{np.median(values):.3g}" if len(values) else "-"


def _chart(draw, told, key=""):
    """Show what is drawn on axes; where matplotlib is missing, what is told of it."""
    try:
        style = require("matplotlib.style", "A chart", "skimprint[inspection]")
    except ImportError as error:
        return f'<p class="note">{told}. {error}</p>'
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with style.context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw(figure.subplots())
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img class="chart" alt="{told}" '
        f'src="data:image/svg+xml;base64,{data}"><figcaption>{key}</figcaption></figure>'
    )
