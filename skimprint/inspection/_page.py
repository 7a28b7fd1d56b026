"""The sections of a report as HTML; whatever comes from the user is escaped."""

import json
from html import escape
from importlib.resources import files
from string import Template

import numpy as np

from .. import __version__
from ..embedding._items import ItemError
from ._charts import familiarity_chart, reliability_chart
from ._items import SIZE, item_at, jpeg_of, name_of, picture_of
from ._words import settings_in_words

# Of up to so many classes, the whole matrix is shown; of more, the most confused pairs.
MAX_MATRIX = 30
_MAX_PAIRS = 30

# Pictures that are stored, and queries that are shown beside their reasons.
MAX_PICTURES = 500
_MAX_CARDS = 400
_MAX_OF_WRONG, _MAX_OF_RIGHT = 6, 4
_MAX_NAMED = 20

_N_REASONS = 2
_MAX_SUSPECTS = 30
_MAX_STANDS_FOR = 4


def page_of(source, findings):
    """Make the page of a report.

    Parameters
    ----------
    source : SimpleNamespace
        ``clf``, ``X``, ``items``, ``X_train``, ``y_train`` and ``train_items``.
    findings : Bunch
        What there is to say.

    Returns
    -------
    page : str
        A whole HTML document.
    """
    return _Page(source, findings).html()


class _Page:
    def __init__(self, source, findings):
        self.source, self.found = source, findings
        self.clf = source.clf
        self.labels = [str(label) for label in findings.classes.tolist()]
        self.pictures, self.number_of = [], {}

    # -- Items

    def item(self, items, row, what):
        """Show an item: a picture, a text, or what its row is called."""
        item = item_at(items, row)
        key = what, row
        name = name_of(item, row, what)
        if key not in self.number_of and item is not None:
            self.number_of[key] = self._stored(item)
        number = self.number_of.get(key)
        if number is None:
            return f'<span class="text">{escape(name)}</span>'
        if isinstance(number, str):
            return f'<span class="text">{escape(name)} ({escape(number)})</span>'
        return (
            f'<img data-picture="{number}" alt="{escape(name)}" width="{SIZE}" '
            f'height="{SIZE}">'
        )

    def _stored(self, item):
        """Store a picture and return its number; None for what is no picture."""
        if len(self.pictures) >= MAX_PICTURES:
            return None
        try:
            picture = picture_of(item)
        except ItemError as error:
            return f"cannot be shown: {error}"
        if picture is None:
            return None
        self.pictures.append(jpeg_of(picture))
        return len(self.pictures) - 1

    def query(self, row):
        return self.item(self.source.items, row, "query")

    def sample(self, row):
        return self.item(self.source.train_items, row, "training row")

    # -- Cards: a query beside its reasons

    def _explained(self, rows):
        """Explain queries, and the class that each is or that came second.

        All at once, because a kernel regression takes long to be asked for reasons.
        """
        if not len(rows):
            return {}
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
        return {row: (i, why, other) for i, row in enumerate(rows.tolist())}

    def _card(self, row, i, why, other):
        """Show a query beside its reasons: a list item."""
        figures = [_figure(self.query(row), self._told(row))]
        label = escape(str(why.label[i]))
        for reason in range(_N_REASONS):
            share = why.shares[i, reason]
            if share:
                of_score = f"{share:.2g} of its score {why.score[i]:.2g}"
                caption = (
                    f"<b>{label}</b> by {self._reason(why, i, reason)}: {of_score}"
                )
                figures.append(
                    _figure(self.sample(why.rows[i, reason]), caption, "why")
                )
        if not why.shares[i].any():  # a function of the user's
            caption = f"<b>{label}</b>, whose nearest proxy this is"
            figures.append(_figure(self.sample(why.training_row[i]), caption, "why"))
        if other.label[i] != why.label[i]:
            caption = (
                f"<b>{escape(str(other.label[i]))}</b> has this nearest: score "
                f"{other.score[i]:.2g}"
            )
            row_of_other = other.training_row[i]
            figures.append(_figure(self.sample(row_of_other), caption, "other"))
        lead = why.score[i] - other.score[i]
        facts = f"Familiarity {why.familiarity[i]:.2f}"
        if np.isfinite(lead) and other.label[i] != why.label[i]:
            facts = f"Lead {lead:.2g} · {facts}"
        return f'<li>{_row(figures)}<p class="facts">{facts}</p></li>'

    def _told(self, row):
        """Say what a query is and what it was taken for."""
        found = self.found
        y, got = found.y[row], found.got[row]
        if found.predicted[row] == -1:
            what = f"rejected, nearest to {_b(got)}"
        else:
            what = "found" if y == got else f"taken for {_b(got)}"
        return f"is {_b(y)}, {what}"

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
                return f"this sample of {escape(str(label))}"
        return "this sample"

    def _choose(self):
        """Choose the queries that are shown, cell by cell: wrong ones, right ones."""
        found, n = self.found, len(self.labels) + 1
        cell_of = found.codes % n * n + found.predicted % n
        order = np.argsort(cell_of, kind="stable")
        starts = np.searchsorted(cell_of[order], np.arange(n * n + 1))
        cells = np.flatnonzero(np.diff(starts))
        cells = sorted(
            cells, key=lambda cell: (cell // n == cell % n, -found.confusion.flat[cell])
        )
        if len(self.labels) > MAX_MATRIX:
            cells = [cell for cell in cells if cell // n != cell % n][:_MAX_PAIRS]
        chosen, n_cards = {}, 0
        for cell in cells:
            rows = order[starts[cell] : starts[cell + 1]]
            is_right = cell // n == cell % n
            margins = found.why.margin[rows]
            rows = rows[np.argsort(margins if is_right else -margins, kind="stable")]
            most = min(
                _MAX_OF_RIGHT if is_right else _MAX_OF_WRONG, _MAX_CARDS - n_cards
            )
            chosen[divmod(int(cell), n)] = rows, max(0, most)
            n_cards += min(len(rows), max(0, most))
        return chosen

    # -- Sections

    def html(self):
        """Make the page. What matters most comes first to its pictures."""
        chosen = self._choose()
        sides = [[], []]
        for (i, j), (rows, most) in chosen.items():
            sides[i == j].append(rows[:most])
        wrong, right = (np.concatenate([[], *side]).astype(int) for side in sides)
        explained = self._explained(np.concatenate([wrong, right]))
        cards = {row: self._card(row, *explained[row]) for row in wrong.tolist()}
        suspects = self._suspects()
        slices = self._slices()
        cards |= {row: self._card(row, *explained[row]) for row in right.tolist()}
        learnt = self._learnt()
        sections = [
            ("Summary", "Summary", self._summary()),
            ("Learnt", "What was learnt", learnt),
            ("Classes", "Accuracy by class", self._classes()),
            ("Confusions", "Confusions", self._confusions(chosen, cards)),
            ("Slices", "Where it does worst", slices),
            ("Familiarity", "Known and unknown", self._familiarity()),
            ("Probabilities", "Probabilities", self._probabilities()),
            ("Labels", "Labels that look wrong", suspects),
        ]
        body = "\n".join(
            f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>\n{text}\n'
            "</section>"
            for name, title, text in sections
        )
        links = "".join(
            f'<li><a href="#{name}">{name}</a></li>' for name, _, _ in sections
        )
        folder = files(__package__)
        return Template((folder / "report.html").read_text("utf-8")).substitute(
            title=escape(self.found.title),
            subtitle=escape(self.found.subtitle),
            style=(folder / "report.css").read_text("utf-8"),
            script=(folder / "report.js").read_text("utf-8"),
            body=body,
            links=links,
            version=escape(__version__),
            pictures=json.dumps(self.pictures),
        )

    def _summary(self):
        found = self.found
        tiles = []
        if found.n_known:
            low, high = found.accuracy_interval
            tiles.append(
                (
                    f"{found.accuracy:.1%}",
                    f"accuracy; 95 % interval {low:.1%} to {high:.1%}",
                )
            )
        tiles += [
            (f"{found.n_known:,}", "queries of known classes"),
            (f"{len(self.labels):,}", "classes"),
            (f"{self.clf._fitted.scorer.head.n_proxies:,}", "proxies"),
        ]
        if found.n_unknown:
            tiles.append((f"{found.n_unknown:,}", "queries of unknown classes"))
        if found.auroc is not None:
            tiles.append(
                (f"{found.auroc:.2f}", "area under the ROC curve, known or not")
            )
        if found.reliability is not None:
            error = found.reliability.error
            tiles.append((f"{error:.1%}", "calibration error of the probabilities"))
        return (
            '<ul class="tiles">'
            + "".join(
                f"<li><strong>{a}</strong><span>{b}</span></li>" for a, b in tiles
            )
            + "</ul>"
        )

    def _learnt(self):
        clf, found = self.clf, self.found
        head = clf._fitted.scorer.head
        words = "".join(f"<li>{escape(s)}</li>" for s in settings_in_words(clf))
        if found.embedder:
            words = f"<li>Items are embedded by {escape(found.embedder)}.</li>{words}"
        stands_for = found.stands_for
        parts = []
        for code, label in enumerate(head.classes.tolist()):
            proxies = range(head.offsets[code], head.offsets[code + 1])
            weight = head.space.class_weights[code]
            proxies = sorted(proxies, key=lambda proxy: -head.counts[proxy])
            listed = []
            for proxy in proxies:
                rows = [head.indices[proxy]]
                count = f"{head.counts[proxy]:g}"
                if stands_for is not None:
                    nearest = stands_for[proxy]
                    count = f"{len(nearest):,}"
                    rows += [row for row in nearest[:_MAX_STANDS_FOR] if row != rows[0]]
                caption = f"<b>{count}</b> " + ("sample" if count == "1" else "samples")
                figures = [_figure(self.sample(rows[0]), caption, "why")]
                figures += [
                    _figure(self.sample(row)) for row in rows[1:_MAX_STANDS_FOR]
                ]
                listed.append(f"<li>{_row(figures)}</li>")
            n = len(listed)
            parts.append(
                f"<details><summary>{escape(str(label))} <span class=count>· "
                f"{weight:g} {'shot' if weight == 1 else 'shots'}, {n} "
                f"{'proxy' if n == 1 else 'proxies'}</span></summary>"
                f'<ul class="proxies">{"".join(listed)}</ul></details>'
            )
        note = (
            "Each proxy is shown by the training sample that it is or that is nearest "
            "to it, with the number of samples that it stands for"
        )
        note += "." if stands_for is None else ", and some of them."
        inner = "".join(parts)
        if len(parts) > 12:
            inner = (
                f"<details><summary>All {len(parts)} classes</summary>{inner}</details>"
            )
        return (
            f'<ul>{words}</ul><h3>Classes and proxies</h3><p class="note">{note}</p>'
            f"{inner}"
        )

    def _classes(self):
        found = self.found
        table, shots = found.by_class, found.shots
        if not found.n_known:
            return "<p>No query belongs to a known class.</p>"
        order = np.argsort(np.where(table.n > 0, table.high, 2), kind="stable")
        rows = []
        for code in order:
            n, low, high = table.n[code], table.low[code], table.high[code]
            bar = told = "-"
            if n:
                bar = (
                    f'<span class="bar"><i style="left:{low:.1%};right:{1 - high:.1%}">'
                    f'</i><b style="left:{table.recall[code]:.1%}"></b></span>'
                )
                told = f"{table.recall[code]:.1%}"
            precision = table.precision[code]
            taken = "-"
            wrong = found.confusion[code].copy()
            wrong[code] = 0
            if wrong.any():
                worst = int(wrong.argmax())
                name = (*self.labels, "rejected")[worst]
                taken = f"{escape(name)} ({wrong[worst]})"
            rows.append(
                f"<tr><th scope=row>{escape(self.labels[code])}</th><td>{n:,}</td>"
                f"<td>{told}</td><td>{bar}</td>"
                f"<td class=optional>{_percent(precision)}</td>"
                f"<td class=optional>{shots[code]:g}</td>"
                f'<td class="words">{taken}</td></tr>'
            )
        head = (
            "<tr><th scope=col>class</th><th scope=col>queries</th><th scope=col>found"
            "</th><th scope=col>95 % interval</th><th scope=col class=optional>"
            "precision</th><th scope=col class=optional>shots</th>"
            '<th scope=col class="words">most taken for</th></tr>'
        )
        tall = " tall" if len(rows) > 15 else ""
        return (
            '<p class="note">The classes that do worst come first, by the upper end of '
            "the interval of Wilson: few queries say little.</p>"
            f'<div class="scroll{tall}" tabindex=0 role=region aria-label="Accuracy by '
            f'class"><table class="list"><thead>{head}</thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )

    def _taken_for(self, code):
        is_rejected = code == len(self.labels)
        return "rejected" if is_rejected else f"taken for {_b(self.labels[code])}"

    def _cell(self, rows, most, cards):
        """List the queries of a cell."""
        shown = [cards[row] for row in rows[:most].tolist() if row in cards]
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

    def _confusions(self, chosen, cards):
        found, n = self.found, len(self.labels)
        names = [*self.labels, "unknown"]
        got = [*self.labels, "rejected"]
        if n > MAX_MATRIX:
            parts = [
                f"<details><summary>{_b(names[i])} {self._taken_for(j)} "
                f"<span class=count>· {len(rows):,} of "
                f"{found.confusion[i].sum():,}</span></summary>"
                f"{self._cell(rows, most, cards)}</details>"
                for (i, j), (rows, most) in chosen.items()
            ]
            if not parts:
                return "<p>No query is taken for another class.</p>"
            return (
                f'<p class="note">The {len(parts)} pairs that are confused most often '
                f"of {n} classes. Open one to see its queries beside the training "
                "items that won, and those of the right class.</p>" + "".join(parts)
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
                    f"{self._cell(rows, most, cards)}</section>"
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

    def _slices(self):
        found = self.found
        if not found.slices:
            return "<p>No part of the queries is surely worse than the whole.</p>"
        parts = []
        for part in found.slices:
            wrong = part.rows[~found.is_right[part.rows]][:_MAX_OF_WRONG]
            kind, value = part.kind, part.value
            figures = []
            if kind == "nearest proxy":
                row = int(self.clf.proxy_indices_[value])
                label = self.clf.proxy_labels_[value]
                value = f"{label}, number {value}"
                figures = [_figure(self.sample(row), "<b>the proxy</b>", "why")]
            elif kind in ("familiarity", "length of the text"):
                value = f"{value + 1} of 5, from the smallest"
            figures += [
                _figure(self.query(row), self._told(row), "other")
                for row in wrong.tolist()
            ]
            parts.append(
                f"<details><summary>{escape(kind)}: <b>{escape(str(value))}</b> "
                f"<span class=count>· {part.accuracy:.0%} right of {len(part.rows):,} "
                f"({part.low:.0%} to {part.high:.0%})</span></summary>"
                f"{_row(figures)}</details>"
            )
        return (
            '<p class="note">Parts of the queries whose accuracy is surely below '
            f"{found.accuracy:.1%}, that of all: the upper end of their 95 % interval "
            "is. Open one to see queries that went wrong.</p>" + "".join(parts)
        )

    def _familiarity(self):
        found = self.found
        known = found.familiarity[found.codes >= 0]
        unknown = found.familiarity[found.codes < 0]
        words = []
        if found.threshold is None:
            words.append(
                "The classifier rejects no query: pass <code>rejection=Rejection(label)"
                "</code> to have a threshold."
            )
        else:
            words.append(
                f"Queries below the threshold {found.threshold:.3g} are rejected."
            )
            if len(known):
                rate = np.mean(known < found.threshold)
                words.append(f"That is {rate:.1%} of those of known classes.")
            if len(unknown):
                rate = np.mean(unknown < found.threshold)
                words.append(f"It is {rate:.1%} of the others.")
        if not len(unknown):
            words.append(
                "There are no unknown queries: pass some, with labels that were not "
                "learnt, to see how far they are."
            )
        elif found.auroc is not None:
            words.append(
                "A known query is more familiar than an unknown one with a chance of "
                f"{found.auroc:.1%}."
            )
        return f'<p class="note">{" ".join(words)}</p>' + familiarity_chart(
            known, unknown, found.threshold
        )

    def _probabilities(self):
        found = self.found.reliability
        if found is None:
            return "<p>No query belongs to a known class.</p>"
        return (
            '<p class="note">Of the queries with about this probability, so many were '
            "right. On the line, probabilities mean what they say; above it they are "
            f"too low. The mean difference is {found.error:.1%}. "
            '<code>temperature="auto"</code> fits it to the training samples.</p>'
            + reliability_chart(found)
        )

    def _suspects(self):
        found = self.found.suspects
        if found is None:
            return (
                "<p>Pass <code>X_train</code> and <code>y_train</code> to see training "
                "samples whose own label looks wrong.</p>"
            )
        if not len(found.rows):
            return "<p>No training sample is more like another class than its own.</p>"
        how = (
            "Each training sample is scored by the proxies as they would be without it."
            if found.method == "leave_one_out"
            else "Each training sample is scored by a classifier that has not seen it, "
            "by cross-validation."
        )
        rows = "".join(
            f'<li>{_row([_figure(self.sample(row), told)])}<p class="facts">'
            f"Training row {row} · behind by {-margin:.2g}</p></li>"
            for row, margin, told in zip(
                found.rows[:_MAX_SUSPECTS].tolist(),
                found.margins[:_MAX_SUSPECTS].tolist(),
                (
                    f"labelled {_b(label)}, looks like {_b(other)}"
                    for label, other in zip(found.labels, found.others, strict=True)
                ),
                strict=False,
            )
        )
        n = len(found.rows)
        return (
            f'<p class="note">{how} {n:,} of {found.n:,} are more like another class; '
            f"those that are so by the most come first"
            f"{f', {_MAX_SUSPECTS} of them' if n > _MAX_SUSPECTS else ''}. Wrong "
            "labels gather here, with samples that are merely hard.</p>"
            f'<ul class="cards small">{rows}</ul>'
        )


def _b(text):
    return f"<b>{escape(str(text))}</b>"


def _percent(value):
    return "-" if np.isnan(value) else f"{value:.1%}"


def _figure(item, caption="", kind=""):
    kind = f' class="{kind}"' if kind else ""
    caption = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure{kind}>{item}{caption}</figure>"


def _row(figures):
    words = "" if any("<img" in figure for figure in figures) else " words"
    return f'<div class="row{words}">{"".join(figures)}</div>'
