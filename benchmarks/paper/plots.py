"""The pictures of the report."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import scikit_posthocs

plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "figure.dpi": 110})
plt.rcParams["axes.spines.right"] = False


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
        n_rows, n_columns, figsize=(11, 3 * n_rows), squeeze=False
    )
    for ax in axes.flat[len(tables) :]:
        ax.axis("off")
    for ax, (name, table) in zip(axes.flat, tables.items(), strict=False):
        _draw_lines(ax, table, highlight)
        ax.set(title=name, xlabel=xlabel, ylabel="accuracy (%)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    _save(figure, path)


def _draw_lines(ax, table, highlight):
    positions = np.arange(len(table))
    colors = plt.get_cmap("tab20").colors
    for i, method in enumerate(table):
        heavy = method in highlight
        ax.plot(
            positions,
            table[method],
            color="black" if heavy else colors[i % len(colors)],
            linewidth=2.2 if heavy else 1.2,
            marker="o",
            markersize=3,
            label=method,
        )
    ax.set_xticks(positions, table.index)


def scatter(table, groups, path):
    """The gain of several proxies over one against NC1."""
    figure, ax = plt.subplots(figsize=(6, 4))
    for group, rows in table.groupby(groups):
        ax.scatter(rows["NC1"], rows["gain"], s=22, label=group)
    ax.axhline(0, color="grey", linewidth=0.7)
    ax.set(xscale="log", xlabel="NC1", ylabel="k-means 20 less mean (points)")
    ax.legend(frameon=False, fontsize=8, bbox_to_anchor=(1, 1))
    _save(figure, path)
