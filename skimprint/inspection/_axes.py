"""Axes that figures are drawn on, the user's or new ones, and their colours."""

import numpy as np
from sklearn.utils import column_or_1d

from ..embedding._extras import require

# Colours that colour-blind people tell apart, after Okabe and Ito (2008).
BLUE, ORANGE, GREY, PALE = "#0072b2", "#d55e00", "#7f7f7f", "#f2f3f5"
COLORS = (
    BLUE,
    ORANGE,
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#f0e442",
    None,  # the ink of the axes: black, or white on black
)
# Size in points of what is written beside pictures and points.
SMALL = 8


def pyplot():
    return require("matplotlib.pyplot", "Drawing", "skimprint[inspection]")


def check_axes(ax):
    """Refuse what cannot be drawn on, also before the work that is to be drawn."""
    if ax is None:
        pyplot()
        return
    axes = require("matplotlib.axes", "Drawing", "skimprint[inspection]")
    if not isinstance(ax, axes.Axes):
        raise TypeError(
            f"ax must be a matplotlib.axes.Axes; got {type(ax).__name__}. Of several, "
            "as plt.subplots(1, 2) returns them, pass one; of a figure, add_subplot()."
        )


def checked_vector(values, name):
    """Make a vector of numbers."""
    try:
        values = column_or_1d(np.asarray(values, float))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, a 1d array: {error}") from error
    if np.isnan(values).any():
        raise ValueError(f"{name} contains NaN, which cannot be drawn. Leave it out.")
    return values


def axes_of(display, ax):
    """Let a display draw on axes, or on those of a new figure."""
    check_axes(ax)
    if ax is None:
        ax = pyplot().subplots(layout="constrained")[1]
    ax.spines[["top", "right"]].set_visible(False)
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def ink_of(ax):
    """Tell in what colour axes write: what is black on white is white on black."""
    return ax.xaxis.label.get_color()


def _gap_between_rows(ax, n_rows, n_lines):
    """Find the gap that titles need, in heights of a row; None for a layout engine."""
    figure = ax.figure
    if figure.get_layout_engine() is not None:
        return None
    height = ax.get_position().height * figure.bbox.height * 72 / figure.dpi
    gap = min((1.2 * n_lines + 1) * SMALL, height / n_rows / 2)
    return gap / (height - (n_rows - 1) * gap) * n_rows


def cells_of(ax, shape, n_lines):
    """Divide axes into empty cells, with room for titles of so many lines."""
    ax.axis("off")
    place, gap = ax.get_subplotspec(), _gap_between_rows(ax, shape[0], n_lines)
    if place is None:  # axes that were put where they are
        left, bottom, right, top = ax.get_position().extents
        sides = {"left": left, "bottom": bottom, "right": right, "top": top}
        parts = ax.figure.add_gridspec(*shape, hspace=gap, **sides)
    else:
        parts = place.subgridspec(*shape, hspace=gap)
    cells = parts.subplots(squeeze=False)
    for cell in cells.flat:
        cell.set(xticks=[], yticks=[])
        cell.spines[:].set_visible(False)
    return cells
