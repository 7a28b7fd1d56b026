"""Confusions as HTML: a matrix whose cells open to queries, or the worst pairs."""

from html import escape

import numpy as np

from ._cards import bold

# Of up to so many classes, the whole matrix is shown; of more, the most confused pairs.
_MAX_MATRIX = 30
_MAX_PAIRS = 30

# Queries that are shown beside their reasons: of all, of a cell, of right ones.
_MAX_CARDS = 400
MAX_OF_WRONG, _MAX_OF_RIGHT = 6, 4


def chosen_queries(found):
    """Choose the queries that are shown as cards, cell by cell: wrong ones, right ones.

    Parameters
    ----------
    found : Bunch
        What there is to say.

    Returns
    -------
    chosen : dict of {(int, int): tuple of (ndarray, int)}
        By what queries are and what they were taken for: their rows, and how many of
        the first are shown.
    """
    side = len(found.classes) + 1  # of the matrix: -1 is its last row or column
    cell_of = found.codes % side * side + found.predicted % side
    order = np.argsort(cell_of, kind="stable")
    # Only cells with queries: of many classes, most of the matrix is empty.
    numbers, starts = np.unique(cell_of[order], return_index=True)
    rows_of = zip(numbers.tolist(), np.split(order, starts[1:]), strict=False)
    cells = [(*divmod(number, side), rows) for number, rows in rows_of]
    cells.sort(key=lambda cell: (cell[0] == cell[1], -len(cell[2])))
    if len(found.classes) > _MAX_MATRIX:
        cells = [(i, j, rows) for i, j, rows in cells if i != j][:_MAX_PAIRS]
    chosen, n_left = {}, _MAX_CARDS
    for i, j, rows in cells:
        margins = found.why.margin[rows]
        rows = rows[np.argsort(margins if i == j else -margins, kind="stable")]
        most = min(_MAX_OF_RIGHT if i == j else MAX_OF_WRONG, n_left)
        chosen[i, j] = rows, most
        n_left -= min(len(rows), most)
    return chosen


def confusions_of(found, chosen, cards):
    """Make the section of confusions, which open to the queries in them.

    Parameters
    ----------
    found : Bunch
        What there is to say.
    chosen : dict
        Of `chosen_queries`.
    cards : Cards
        Those of these queries have been made.

    Returns
    -------
    section : str
    """
    labels = [str(label) for label in found.classes.tolist()]
    section = _worst_pairs if len(labels) > _MAX_MATRIX else _matrix
    return section(found.confusion, chosen, cards, labels)


def _worst_pairs(confusion, chosen, cards, labels):
    """List the chosen pairs of classes."""
    names = [*map(bold, labels), bold("unknown")]
    taken_for = [*(f"taken for {bold(label)}" for label in labels), "rejected"]
    parts = [
        f"<details><summary>{names[i]} {taken_for[j]} "
        f"<span class=count>· {len(rows):,} of {confusion[i].sum():,}</span></summary>"
        f"{cards.listed(rows, most)}</details>"
        for (i, j), (rows, most) in chosen.items()
    ]
    if not parts:
        return "<p>No query is taken for another class.</p>"
    pairs = "pair" if len(parts) == 1 else f"{len(parts)} pairs"
    return (
        f'<p class="note">The {pairs} confused most often, of {len(labels):,} classes. '
        "Open one to see its queries beside the training items that won, and those of "
        "the right class.</p>" + "".join(parts)
    )


def _matrix(confusion, chosen, cards, labels):
    """Show the whole matrix, and a panel for each cell that has queries."""
    n = len(labels)  # the number of the row of unknown, and the column of rejected ones
    names, got = [*labels, "unknown"], [*labels, "rejected"]
    columns = range(n + confusion[:, n].any())
    head = "".join(f"<th scope=col>{escape(got[j])}</th>" for j in columns)
    lines, panels = [], []
    for i in range(n + confusion[n].any()):
        total = max(1, confusion[i].sum())
        line = [f"<th scope=row>{escape(names[i])}</th>"]
        for j in columns:
            count = confusion[i, j]
            if not count:
                line.append('<td class="none">·</td>')
                continue
            what = f"{names[i]} taken for {got[j]}"
            if j == n or i == j:
                what = f"{names[i]} {'rejected' if j == n else 'found'}"
            what = escape(f"{what}: {count}")
            kind = "right" if i == j else "wrong"
            line.append(
                f'<td class="{kind}"><button type=button aria-expanded=false '
                f'aria-controls="cell-{i}-{j}" data-row={i} data-column={j} '
                f'aria-label="{what}" title="{what}" '
                f'style="--share:{count / total:.3f}">{count}</button></td>'
            )
            rows, most = chosen[i, j]
            panels.append(
                f'<section class="panel" id="cell-{i}-{j}" hidden tabindex=-1 '
                f'aria-label="{what}"><h3>{what}</h3>'
                f"{cards.listed(rows, most)}</section>"
            )
        lines.append(f"<tr>{''.join(line)}</tr>")
    return (
        '<p class="note">Rows are what queries are, columns what they were taken '
        "for. Open a cell to see its queries beside the training items that won, "
        "and those of the right class or of the runner-up. With the keyboard, "
        "arrows go from cell to cell, Enter opens, Escape closes.</p>"
        '<div class="scroll" tabindex=0 role=region aria-label="Confusion matrix">'
        '<table class="matrix"><thead><tr><td>is ↓ &nbsp; taken for →</td>'
        f"{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>{''.join(panels)}"
    )
