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
    n = len(found.classes) + 1
    cell_of = found.codes % n * n + found.predicted % n
    order = np.argsort(cell_of, kind="stable")
    # Only cells with queries: of many classes, most of the matrix is empty.
    cells, starts = np.unique(cell_of[order], return_index=True)
    rows_of = dict(zip(cells.tolist(), np.split(order, starts[1:]), strict=False))
    cells = sorted(
        rows_of, key=lambda cell: (cell // n == cell % n, -len(rows_of[cell]))
    )
    if n - 1 > _MAX_MATRIX:
        cells = [cell for cell in cells if cell // n != cell % n][:_MAX_PAIRS]
    chosen, n_cards = {}, 0
    for cell in cells:
        rows, is_right = rows_of[cell], cell // n == cell % n
        margins = found.why.margin[rows]
        rows = rows[np.argsort(margins if is_right else -margins, kind="stable")]
        most = min(_MAX_OF_RIGHT if is_right else MAX_OF_WRONG, _MAX_CARDS - n_cards)
        chosen[divmod(cell, n)] = rows, max(0, most)
        n_cards += min(len(rows), max(0, most))
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
    n = len(labels)
    names = [*labels, "unknown"]
    got = [*labels, "rejected"]
    if n > _MAX_MATRIX:
        taken_for = [*(f"taken for {bold(label)}" for label in labels), "rejected"]
        parts = [
            f"<details><summary>{bold(names[i])} {taken_for[j]} "
            f"<span class=count>· {len(rows):,} of "
            f"{found.confusion[i].sum():,}</span></summary>"
            f"{cards.listed(rows, most)}</details>"
            for (i, j), (rows, most) in chosen.items()
        ]
        if not parts:
            return "<p>No query is taken for another class.</p>"
        pairs = "pair" if len(parts) == 1 else f"{len(parts)} pairs"
        return (
            f'<p class="note">The {pairs} confused most often, of {n:,} classes. Open '
            "one to see its queries beside the training items that won, and those of "
            "the right class.</p>" + "".join(parts)
        )
    rows_shown = [i for i in range(n + 1) if i < n or found.confusion[n].any()]
    columns = [j for j in range(n + 1) if j < n or found.confusion[:, n].any()]
    head = "".join(f"<th scope=col>{escape(got[j])}</th>" for j in columns)
    lines, panels = [], []
    for i in rows_shown:
        total = max(1, found.confusion[i].sum())
        line = [f"<th scope=row>{escape(names[i])}</th>"]
        for j in columns:
            count = found.confusion[i, j]
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
