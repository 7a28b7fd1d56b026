"""The sections of a report as HTML; whatever comes from the user is escaped."""

import json
from html import escape
from importlib.resources import files
from string import Template

import numpy as np

from .. import __version__
from ._cards import Cards, bold, figure, in_a_row, isolated
from ._charts import familiarity_chart, reliability_chart
from ._confusions import MAX_OF_WRONG, chosen_queries, confusions_of
from ._words import counted, settings_in_words, writable

_MAX_SUSPECTS = 30
_MAX_STANDS_FOR = 4

# Classes that are listed: with texts, all of 20,000 would make a page of 65 MB.
_MAX_CLASSES = 1000


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
        self.found, self.clf = findings, source.clf
        self.labels = [str(label) for label in findings.classes.tolist()]
        self.cards = Cards(source, findings)
        table = findings.by_class
        upper = np.where(table.n > 0, table.high, 2)  # without queries, they come last
        self.worst = np.argsort(upper, kind="stable")[:_MAX_CLASSES]

    def html(self):
        """Make the page.

        There is room for so many pictures, which those get who ask first: what matters
        most is made before the rest, wherever it stands.
        """
        chosen, cards = chosen_queries(self.found), self.cards
        sides = [[], []]
        for (i, j), (rows, most) in chosen.items():
            sides[i == j].append(rows[:most])
        wrong, right = (np.concatenate([[], *side]).astype(int) for side in sides)
        cards.make(wrong)
        suspects = self._suspects()
        slices = self._slices()
        cards.make(right)
        learnt = self._learnt()
        sections = [
            ("Summary", "Summary", self._summary()),
            ("Learnt", "What was learnt", learnt),
            ("Classes", "Accuracy by class", self._classes()),
            ("Confusions", "Confusions", confusions_of(self.found, chosen, cards)),
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
        page = Template((folder / "report.html").read_text("utf-8")).substitute(
            title=escape(self.found.title),
            subtitle=escape(self.found.subtitle),
            style=(folder / "report.css").read_text("utf-8"),
            script=(folder / "report.js").read_text("utf-8"),
            body=body,
            links=links,
            version=escape(__version__),
            pictures=json.dumps(cards.pictures),
        )
        return writable(page)

    def _summary(self):
        found = self.found
        tiles = []
        if found.n_known:
            low, high = found.accuracy_interval
            words = f"accuracy; 95 % interval {low:.1%} to {high:.1%}"
            n_rejected = found.confusion[:-1, -1].sum()
            if n_rejected:
                words += f"; {n_rejected:,} rejected count as wrong"
            tiles.append((f"{found.accuracy:.1%}", words))
        tiles += [
            (f"{found.n_known:,}", "queries of known classes"),
            (f"{len(self.labels):,}", "classes"),
            (f"{len(self.clf._fitted.scorer.head.proxies):,}", "proxies"),
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
        items = "".join(
            f"<li><strong>{a}</strong><span>{b}</span></li>" for a, b in tiles
        )
        return f'<ul class="tiles">{items}</ul>'

    def _learnt(self):
        clf, found = self.clf, self.found
        head = clf._fitted.scorer.head
        words = "".join(f"<li>{escape(s)}</li>" for s in settings_in_words(clf))
        if found.embedder:
            words = f"<li>Items are embedded by {escape(found.embedder)}.</li>{words}"
        parts, listed = [], {*found.classes[self.worst].tolist()}
        for code, label in enumerate(head.classes.tolist()):
            if label not in listed:
                continue
            weight = head.space.class_weights[code]
            proxies = range(head.offsets[code], head.offsets[code + 1])
            proxies = sorted(proxies, key=lambda proxy: -head.counts[proxy])
            parts.append(
                f"<details><summary>{isolated(label)} <span class=count>· "
                f"{weight:g} {'shot' if weight == 1 else 'shots'}, "
                f"{counted(len(proxies), 'proxy', 'proxies')}</span></summary>"
                f'<ul class="proxies">{"".join(map(self._proxy, proxies))}</ul>'
                "</details>"
            )
        note = (
            "Each proxy is shown by the training sample that it is or that is nearest "
            "to it, with the number of samples that it stands for"
        )
        note += "." if found.stands_for is None else ", and some of them."
        inner = "".join(parts)
        if len(parts) > 12:
            which = f"All {len(parts):,} classes"
            if len(parts) < len(head.classes):
                which = f"{len(parts):,} of {len(head.classes):,} classes"
                which += ": those that do worst" if found.n_known else ""
            inner = f"<details><summary>{which}</summary>{inner}</details>"
        return (
            f'<ul>{words}</ul><h3>Classes and proxies</h3><p class="note">{note}</p>'
            f"{inner}"
        )

    def _proxy(self, proxy):
        """Show a proxy by its training sample, and some of those it stands for."""
        head, stands_for = self.clf._fitted.scorer.head, self.found.stands_for
        rows, count = [head.indices[proxy]], f"{head.counts[proxy]:g}"
        if stands_for is not None:
            nearest = stands_for[proxy]
            count = f"{len(nearest):,}"
            rows += [row for row in nearest[:_MAX_STANDS_FOR] if row != rows[0]]
        caption = f"<b>{count}</b> " + ("sample" if count == "1" else "samples")
        first, *others = map(self.cards.sample, rows[:_MAX_STANDS_FOR])
        figures = [figure(first, caption, "why"), *map(figure, others)]
        return f"<li>{in_a_row(figures)}</li>"

    def _classes(self):
        found = self.found
        table, shots = found.by_class, found.shots
        if not found.n_known:
            return "<p>No query belongs to a known class.</p>"
        rows = []
        for code in self.worst:
            n, low, high = table.n[code], table.low[code], table.high[code]
            recall, bar = table.recall[code], "-"
            if n:
                bar = (
                    f'<span class="bar"><i style="left:{low:.1%};right:{1 - high:.1%}">'
                    f'</i><b style="left:{recall:.1%}"></b></span>'
                )
            taken = "-"
            wrong = found.confusion[code].copy()
            wrong[code] = 0
            if wrong.any():
                worst = int(wrong.argmax())
                name = (*self.labels, "rejected")[worst]
                taken = f"{isolated(name)} ({wrong[worst]})"
            rows.append(
                f"<tr><th scope=row>{escape(self.labels[code])}</th><td>{n:,}</td>"
                f"<td>{_percent(recall)}</td><td>{bar}</td>"
                f"<td class=optional>{_percent(table.precision[code])}</td>"
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
        n, some = len(self.labels), ""
        if len(rows) < n:
            some = f", {len(rows):,} of {n:,}"
        return (
            f'<p class="note">The classes that do worst come first{some}, by the upper '
            "end of the interval of Wilson: few queries say little.</p>"
            f'<div class="scroll{tall}" tabindex=0 role=region aria-label="Accuracy by '
            f'class"><table class="list"><thead>{head}</thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )

    def _slices(self):
        found = self.found
        if not found.slices:
            return (
                "<p>No part of the queries is worse than the whole by more than "
                "chance.</p>"
            )
        parts = []
        for part in found.slices:
            wrong = part.rows[~found.is_right[part.rows]][:MAX_OF_WRONG]
            kind, value = part.kind, part.value
            figures = []
            if kind == "nearest proxy":
                row = int(self.clf.proxy_indices_[value])
                label = self.clf.proxy_labels_[value]
                value = f"{label}, number {value}"
                figures = [figure(self.cards.sample(row), "<b>the proxy</b>", "why")]
            elif kind in ("familiarity", "length of the text"):
                value = f"{value + 1} of 5, from the smallest"
            figures += [
                figure(self.cards.query(row), self.cards.told(row), "other")
                for row in wrong.tolist()
            ]
            parts.append(
                f"<details><summary>{escape(kind)}: {bold(value)} "
                f"<span class=count>· {part.accuracy:.0%} right of {len(part.rows):,} "
                f"({part.low:.0%} to {part.high:.0%})</span></summary>"
                f"{in_a_row(figures)}</details>"
            )
        return (
            '<p class="note">Parts of the queries whose accuracy is below '
            f"{found.accuracy:.1%}, that of all, by more than chance: where all parts "
            "are alike, at most one report in 40 would name any. Open one to see "
            "queries that went wrong. Behind each is its 95 % interval.</p>"
            + "".join(parts)
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
            f"too low. The mean difference is {found.error:.1%}; of few queries, part "
            "of that is chance. "
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
        rows = []
        for i, row in enumerate(found.rows[:_MAX_SUSPECTS].tolist()):
            label, other = bold(found.labels[i]), bold(found.others[i])
            told = f"labelled {label}, looks like {other}"
            rows.append(
                f'<li>{in_a_row([figure(self.cards.sample(row), told)])}<p class="facts'
                f'">Training row {row} · behind by {-found.margins[i]:.2g}</p></li>'
            )
        n = len(found.rows)
        return (
            f'<p class="note">{how} {n:,} of {found.n:,} are more like another class; '
            f"those that are so by the most come first"
            f"{f', {_MAX_SUSPECTS} of them' if n > _MAX_SUSPECTS else ''}. Wrong "
            "labels gather here, with samples that are merely hard.</p>"
            f'<ul class="cards small">{"".join(rows)}</ul>'
        )


def _percent(value):
    return "-" if np.isnan(value) else f"{value:.1%}"
