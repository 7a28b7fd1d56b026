"""Queries and training samples as HTML: pictures, texts, and cards with reasons.

Whatever comes from the user is escaped.
"""

from html import escape

import numpy as np

from ..embedding._items import ItemError
from ._items import SIZE, item_at, jpeg_of, name_of, picture_of

# Pictures that are stored, and names of queries that have no card.
MAX_PICTURES = 500
_MAX_NAMED = 20

_N_REASONS = 2


class Cards:
    """Show queries and samples, each picture of which is stored once.

    A card is a query beside its reasons.

    Parameters
    ----------
    source, findings
        As for `page_of`.

    Attributes
    ----------
    pictures : list of str
        Those that are shown, by their numbers on the page.
    """

    def __init__(self, source, findings):
        self.source, self.found = source, findings
        self.clf = source.clf
        self.pictures = []
        self._shown, self._made = {}, {}

    def query(self, row):
        """Show a query: a picture, a text, or what its row is called."""
        return self._item(self.source.items, row, "query")

    def sample(self, row):
        """Show a training sample in the same way."""
        return self._item(self.source.train_items, row, "training row")

    def _item(self, items, row, what):
        """Show an item as a picture, which is stored, or by its name."""
        if (what, row) in self._shown:
            return self._shown[what, row]
        item, picture = item_at(items, row), None
        name = name_of(item, row, what)
        try:
            if len(self.pictures) < MAX_PICTURES:
                picture = picture_of(item)
        except ItemError as error:
            name = f"{name} (cannot be shown: {error})"
        shown = f'<span class="text">{escape(name)}</span>'
        if picture is not None:
            shown = (
                f'<img data-picture="{len(self.pictures)}" alt="{escape(name)}" '
                f'width="{SIZE}" height="{SIZE}">'
            )
            self.pictures.append(jpeg_of(picture))
        self._shown[what, row] = shown
        return shown

    def make(self, rows):
        """Make cards of queries, which are explained; the first get pictures.

        Beside the class that each gets stands the one that it is or that came second.
        """
        if not len(rows):
            return
        found, clf = self.found, self.clf
        queries = self.source.X[rows]
        why = clf.explain(queries, n_reasons=_N_REASONS)
        others = why.runner_up.copy()
        can_be = set(clf._fitted.scorer.head.classes.tolist())
        for i, row in enumerate(rows):
            label = found.y[row]
            if label in can_be and label != why.label[i]:
                others[i] = label
        other = clf.explain(queries, y=others, n_reasons=0)
        for i, row in enumerate(rows.tolist()):
            self._made[row] = self._card(row, i, why, other)

    def _card(self, row, i, why, other):
        """Show a query beside its reasons: a list item."""
        figures = [figure(self.query(row), self.told(row))]
        label = bold(why.label[i])
        for reason in range(_N_REASONS):
            share = why.shares[i, reason]
            if share:
                of_score = f"{share:.2g} of its score {why.score[i]:.2g}"
                caption = f"{label} by {self._reason(why, i, reason)}: {of_score}"
                figures.append(figure(self.sample(why.rows[i, reason]), caption, "why"))
        if not why.shares[i].any():  # a function of the user's
            caption = f"{label}, whose nearest proxy this is"
            figures.append(figure(self.sample(why.training_row[i]), caption, "why"))
        if other.label[i] != why.label[i]:
            caption = (
                f"{bold(other.label[i])} has this nearest: score {other.score[i]:.2g}"
            )
            row_of_other = other.training_row[i]
            figures.append(figure(self.sample(row_of_other), caption, "other"))
        lead = why.score[i] - other.score[i]
        facts = f"Familiarity {why.familiarity[i]:.2f}"
        if np.isfinite(lead) and other.label[i] != why.label[i]:
            facts = f"Lead {lead:.2g} · {facts}"
        return f'<li>{in_a_row(figures)}<p class="facts">{facts}</p></li>'

    def told(self, row):
        """Say what a query is and what it was taken for."""
        found = self.found
        y, got, code = found.y[row], found.got[row], found.predicted[row]
        if code == -1:
            what = f"rejected, nearest to {bold(got)}"
        elif found.classes[code] != got:
            what = f"rejected as {bold(found.classes[code])}, nearest to {bold(got)}"
        else:
            what = "found" if y == got else f"taken for {bold(got)}"
        return f"is {bold(y)}, {what}"

    def _reason(self, why, i, reason):
        """Say what a reason is."""
        proxy, row = why.proxies[i, reason], why.rows[i, reason]
        if proxy >= 0:
            count = self.clf._fitted.scorer.head.counts[proxy]
            if count > 1:
                return f"a proxy of {count:g} samples like this"
            return "this proxy"
        if self.source.y_train is not None and row >= 0:
            label = self.source.y_train[row]
            if label != why.label[i]:
                return f"this sample of {isolated(label)}"
        return "this sample"

    def listed(self, rows, most):
        """List queries: so many of them as cards, the others by their names."""
        shown = [self._made[row] for row in rows[:most].tolist() if row in self._made]
        left = rows[len(shown) :]
        text = f'<ul class="cards">{"".join(shown)}</ul>' if shown else ""
        if len(left):
            names = [
                escape(name_of(item_at(self.source.items, row), row, "query"))
                for row in left[:_MAX_NAMED].tolist()
            ]
            more = len(left) - len(names)
            if more:
                names.append(f"and {more:,} more")
            also = "Also:" if len(shown) else ""
            names = "".join(f"<li>{name}</li>" for name in names)
            text += f'<p class="note">{also}</p><ul class="note">{names}</ul>'
        return text


def isolated(text):
    """Show what users wrote; from right to left, it turns nothing around it."""
    return f"<bdi>{escape(str(text))}</bdi>"


def bold(text):
    """Show what users wrote in bold."""
    return f"<b>{escape(str(text))}</b>"


def figure(item, caption="", kind=""):
    """Put a caption below an item that is shown."""
    kind = f' class="{kind}"' if kind else ""
    caption = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure{kind}>{item}{caption}</figure>"


def in_a_row(figures):
    """Put figures side by side."""
    words = "" if any("<img" in shown for shown in figures) else " words"
    return f'<div class="row{words}">{"".join(figures)}</div>'
