"""The pictures of the report."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import scikit_posthocs

plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "figure.dpi": 110})
plt.rcParams["axes.spines.right"] = False

# Okabe and Ito's colours, which colour-blind people can tell apart. Markers and lines
# tell apart what shares a colour, also in print without colours.
COLOURS = (
    *("#D55E00", "#0072B2", "#009E73", "#000000"),
    *("#CC79A7", "#E69F00", "#56B4E9", "#8A8A00"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*")
LINES = ("-", "--", ":", "-.")


def _save(figure, path):
    figure.savefig(path, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def critical_differences(ranking, path):
    """Average ranks; a bar joins methods that the tests cannot tell apart."""
    figure, ax = plt.subplots(figsize=(9, 0.32 * len(ranking.ranks) + 0.6))
    scikit_posthocs.critical_difference_diagram(ranking.ranks, ranking.pairwise, ax=ax)
    _save(figure, path)


def lines(table, xlabel, path, *, ylabel="accuracy (%)", highlight=()):
    """One line per column of a table, over its index."""
    figure, ax = plt.subplots(figsize=(6.5, 4))
    _draw_lines(ax, table, highlight)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1))
    _save(figure, path)


def small_multiples(tables, xlabel, path, *, highlight=()):
    """The lines of several tables side by side."""
    n_columns = 3
    n_rows = -(-len(tables) // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(11, 3 * n_rows + 1),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(tables) :]:
        ax.axis("off")
    for ax, (name, table) in zip(axes.flat, tables.items(), strict=False):
        _draw_lines(ax, table, highlight)
        ax.set(title=name, xlabel=xlabel, ylabel="accuracy (%)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncol=4, frameon=False)
    _save(figure, path)


def _draw_lines(ax, table, highlight):
    """Draw a line per method: first in style, thick and on top are the highlights."""
    positions = np.arange(len(table))
    order = sorted(table, key=lambda method: method not in highlight)
    for method in table:
        i, heavy = order.index(method), method in highlight
        ax.plot(
            positions,
            table[method],
            color=COLOURS[i % len(COLOURS)],
            linestyle=LINES[i // len(COLOURS) % len(LINES)],
            marker=MARKERS[i % len(MARKERS)],
            linewidth=1.7 if heavy else 0.9,
            markersize=4.5 if heavy else 3.5,
            zorder=3 - i / len(order),
            label=method,
        )
    ax.set_xticks(positions, table.index)


def scatter(table, groups, path):
    """The gain of several proxies over one against NC1."""
    figure, ax = plt.subplots(figsize=(6, 4))
    for i, (group, rows) in enumerate(table.groupby(groups)):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        ax.scatter(
            rows["NC1"], rows["gain"], s=26, color=colour, marker=marker, label=group
        )
    ax.axhline(0, color="grey", linewidth=0.7)
    ax.set(xscale="log", xlabel="NC1", ylabel="k-means 20 less mean (points)")
    ax.legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1))
    _save(figure, path)
