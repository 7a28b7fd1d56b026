"""report: what a classifier has learnt, and what it does right and wrong."""

import os
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import _num_samples

from .._arrays.finite import naming_rows
from .._types import Array
from ..classifier import ImprintClassifier
from ..classifier._checks import codes_among, listed_labels
from ..classifier._explanations import explanation_of
from ..classifier._steps import steps_of
from . import _findings
from ._estimators import (
    embedded,
    items_in,
    labels_like,
    split_estimator,
    without_names,
)
from ._items import is_text, listed
from ._page import page_of
from ._words import counted


class Report:
    """A page about a classifier, and the numbers in it; made by `report`.

    Parameters
    ----------
    html : str
        The page: one HTML document that loads nothing from the network.
    findings : Bunch
        The numbers.

    Attributes
    ----------
    html : str
        The page.
    findings : Bunch
        See `report`.

    See Also
    --------
    report : Make one.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.inspection import report
    >>> X, y = [[0.0, 1.0], [0.2, 0.9], [1.0, 0.0]], ["up", "up", "right"]
    >>> found = report(ImprintClassifier("mean").fit(X, y), [[0.1, 2.0]], ["up"])
    >>> found
    Report(n_queries=1, accuracy=1.0)
    >>> found.html.startswith("<!DOCTYPE html>")
    True
    """

    def __init__(self, html: str, findings: Bunch):
        self.html = html
        self.findings = findings

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file.

        Parameters
        ----------
        path : path-like
            Such as ``"report.html"``. A file that is there is replaced.
        """
        Path(path).write_text(self.html, encoding="utf-8", newline="\n")

    def _repr_html_(self) -> str:
        # In a frame of its own, so that neither its styles nor its ids meet others.
        return (
            '<iframe title="Report" sandbox="allow-scripts" style="width: 100%; '
            'height: 40rem; border: 1px solid #888" '
            f'srcdoc="{escape(self.html)}"></iframe>'
        )

    def __repr__(self) -> str:
        n, accuracy = len(self.findings.y), self.findings.accuracy
        return f"Report(n_queries={n}, accuracy={accuracy:.3})"


def report(
    clf: ImprintClassifier | Any,
    X: Array | Any,
    y: Array,
    items: Any = None,
    *,
    X_train: Array | Any = None,
    y_train: Array | None = None,
    train_items: Any = None,
) -> Report:
    """Report what a classifier has learnt, and what it does right and wrong.

    One page, for a notebook or a file: the settings in words; the proxies with the
    items that they stand for; accuracy overall and by class, with intervals; confusions
    that open to the queries in them, each beside the training items that won and those
    of the right class or of the runner-up; slices that do worst; how familiar known and
    unknown queries are; how reliable the probabilities are; and training samples whose
    own label looks wrong.

    Parameters
    ----------
    clf : ImprintClassifier, Pipeline or search
        Fitted. Of a pipeline, such as of a `skimprint.FoundationEmbedder` and a
        classifier, ``X`` and ``X_train`` are items.
    X : array-like of shape (n_samples, n_features) or sequence of items
        The queries.
    y : array-like of shape (n_samples,)
        Their labels. Those that the classifier does not know are unknown queries.
    items : sequence of shape (n_samples,), default=None
        What the queries are: pictures (paths, bytes, open files, PIL images, arrays of
        uint8) or texts. By default ``X`` if it is items, else row numbers. A string is
        a path where it ends like one of a picture; a `pathlib.Path` always is.
    X_train : array-like of shape (n_train, n_features) or sequence, default=None
        All samples that were learnt, in their order. Needed for labels that look wrong,
        and to list what each proxy stands for.
    y_train : array-like of shape (n_train,), default=None
        Their labels. Needed with ``X_train``.
    train_items : sequence of shape (n_train,), default=None
        What they are; by default ``X_train`` if it is items, else row numbers.

    Returns
    -------
    report : Report
        Shows itself in a notebook; ``save("report.html")`` writes it to a file, and
        ``findings`` has its numbers: ``accuracy`` of the queries of known classes and
        ``accuracy_interval``; ``by_class`` with ``n``, ``recall``, ``low``, ``high``
        and ``precision``; ``confusion``, whose last row is of unknown queries and last
        column of rejected ones, unless their label is that of a class; ``slices``, the
        worst ones; ``familiarity``, ``threshold`` and ``auroc``; ``reliability`` with
        ``confidence``, ``accuracy`` and ``error``; ``suspects`` with ``rows``,
        ``labels``, ``others`` and ``margins``, the likeliest wrong label first.

    Raises
    ------
    TypeError
        If there is no `ImprintClassifier` in ``clf``.
    ValueError
        If there are not as many labels or items as samples, or the training samples
        are not those that the classifier has learnt, in their order.

    See Also
    --------
    ExplanationDisplay : Some queries beside their reasons, as a figure.
    FamiliarityDisplay : How familiar queries are, as a figure.

    Notes
    -----
    Labels look wrong where a training sample scores higher for another class than for
    its own, by the proxies as they would be without it, in closed form as for
    ``temperature="auto"``; a kernel regression has no part in that. Generators whose
    proxies depend on all classes, and a support with a norm that is not that of the
    queries, are judged by five-fold cross-validation, of fewer folds if the smallest
    class of several samples has fewer. All samples count as one, whatever weight they
    were learnt with.

    Intervals are of 95 % each: of many classes, some are outside by chance. Slices are
    those that are worse than all queries by more than chance, however many have been
    looked at: where all are alike, at most one report in 40 names any. What a rejection
    rejects counts as wrong; then no slices are made by familiarity, which decides that.

    The error of ``reliability`` is too large where queries are few. Where probabilities
    mean what they say and one query in seven is wrong, it is still about 0.06 of 200
    queries, 0.02 of 1,000 and 0.01 of 10,000.

    Pictures are stored once each, as thumbnails, at most 500 of them; queries that are
    taken for another class come first. Of more than 1,000 classes, the page lists the
    1,000 that do worst; ``findings`` has all. The page needs no network, and refuses
    it.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.datasets import load_digits_embeddings
    >>> from skimprint.inspection import report
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> clf = ImprintClassifier("mean", temperature="auto").fit(X[:500], y[:500])
    >>> found = report(
    ...     clf, X[500:700], y[500:700], X_train=X[:500], y_train=y[:500]
    ... )
    >>> found
    Report(n_queries=200, accuracy=0.925)
    >>> found.findings.suspects.rows[:3].shape
    (3,)
    >>> found.save("report.html")  # doctest: +SKIP
    """
    embed, classifier = split_estimator(clf, name="clf")
    n, n_train = _num_samples(X), classifier.n_samples_seen_
    if X_train is not None and y_train is None:
        raise ValueError("X_train needs y_train: pass the labels of these samples.")
    items = listed(items_in(embed, X) if items is None else items, n, "items")
    if y_train is not None:
        y_train = listed_labels(y_train, _num_samples(y_train), "y_train")
        if len(y_train) != n_train:
            raise ValueError(
                f"y_train must have the labels of all {n_train} samples that were "
                f"learnt, in their order; got {len(y_train)}."
            )
    labels = labels_like(classifier.classes_, y, n)
    train_items = items_in(embed, X_train) if train_items is None else train_items
    if X_train is not None:
        listed_labels(y_train, _num_samples(X_train), "y_train")  # one for each
    train_items = listed(train_items, n_train, "train_items")
    if X_train is not None:
        X_train = embedded(embed, X_train)
    classifier, (X, X_train) = without_names(classifier, embedded(embed, X), X_train)
    source = SimpleNamespace(
        clf=classifier,
        X=X,
        items=items,
        X_train=X_train,
        y_train=y_train,
        train_items=train_items,
    )
    if y_train is not None:
        _check_learnt(source)
    findings = _examined(source, labels)
    findings.embedder = None
    if embed is not None:
        *before, _ = steps_of(clf)
        findings.embedder = ", ".join(type(step).__name__ for _, step in before)
    return Report(page_of(source, findings), findings)


def _check_learnt(source):
    """Refuse training samples that are not those that were learnt, in their order."""
    clf, y = source.clf, source.y_train
    head, samples = clf._fitted.scorer.head, None
    rows, codes = head.indices, head.codes
    if source.X_train is not None:
        samples = clf._fitted.state.column(lambda block: block.samples)
    if samples is not None:
        rows, codes = samples.values.indices, samples.codes
    own = rows >= 0  # the others are of a linear head
    rows, codes = rows[own], codes[own]
    differs = codes_among(head.classes, y)[rows] != codes
    if samples is not None:
        with naming_rows(clf, X_train=source.X_train):
            _, X, _ = clf._ready(source.X_train)
        learnt = samples.values.rows[own]
        change = head.plan.support_norm(X[rows]) - learnt
        # Models in low precision embed the same item a little differently each time.
        lengths = np.linalg.norm(learnt, axis=1)
        differs |= np.linalg.norm(change, axis=1) > 0.1 * lengths
    if differs.any():
        first = np.flatnonzero(differs)[rows[differs].argmin()]
        row, label = rows[first], head.classes.tolist()[codes[first]]
        raise ValueError(
            "X_train and y_train must be all samples that were learnt, in their order; "
            f"row {row}, of label {y[row]!r} here, was another sample, of label "
            f"{label!r}. Pass what fit was given, and after it what partial_fit was."
        )


def _examined(source, labels):
    """Find what there is to say, as numbers.

    Parameters
    ----------
    source : SimpleNamespace
        As for `page_of`.
    labels : list of label
        Of the queries.

    Returns
    -------
    found : Bunch
        What `report` says that findings have. Besides, of each query: ``y``, its label;
        ``codes``, the number of its class, -1 where that is unknown; ``got``, the label
        of the nearest class; ``predicted``, the number of the class that it gets, -1
        where it is rejected; ``is_right``; ``why``, the explanation of all. Of each
        class: ``shots``, the weight of its samples. Of each proxy: ``stands_for``, the
        rows of its training samples, or None. And ``classes``, ``n_known``,
        ``n_unknown``, ``title`` and ``subtitle``.
    """
    clf = source.clf
    classes = clf.classes_
    n_classes = len(classes)
    codes = codes_among(classes, labels)
    # The page asks for reasons: what they need of a kernel regression, calibration
    # needs too, and takes it where it is there.
    clf._fitted.scorer.label_shares  # noqa: B018
    why = explanation_of(clf, source.X, with_probabilities=True)
    got = codes_among(classes, why.label.tolist())
    threshold = None if clf.rejection is None else clf.rejection_threshold_
    predicted = got
    if threshold is not None:
        # As by `predict`, whose label of what is rejected may be that of a class.
        rejected = codes_among(classes, [clf.rejection.label])
        predicted = np.where(why.familiarity < threshold, rejected, got)
    known = codes >= 0
    n_known = int(known.sum())
    is_right = codes == predicted  # also an unknown query that is rejected
    n_right = int(is_right[known].sum())
    counts = _findings.confusion(codes, predicted, n_classes)
    found = Bunch(
        classes=classes,
        y=labels,
        codes=codes,
        got=why.label,
        predicted=predicted,
        is_right=is_right,
        why=why,
        n_known=n_known,
        n_unknown=len(codes) - n_known,
        accuracy=n_right / n_known if n_known else float("nan"),
        accuracy_interval=tuple(
            map(float, _findings.wilson_interval(n_right, n_known))
        ),
        by_class=_findings.accuracy_by_class(counts),
        confusion=counts,
        shots=clf.class_count_,
        familiarity=why.familiarity,
        threshold=threshold,
        auroc=_findings.auroc(why.familiarity[known], why.familiarity[~known]),
        reliability=None,
    )
    if n_known:
        found.reliability = _findings.reliability(
            why.probability[known], codes[known] == got[known]
        )
    found.stands_for = _stands_for(source)
    found.slices = _slices(source, found)
    found.suspects = _suspects(source, found)
    found.title = f"{type(clf).__name__} of {counted(n_classes, 'class', 'classes')}"
    judges = f"{counted(n_known, 'query', 'queries')} of known classes"
    if found.n_unknown:
        judges += f" and {counted(found.n_unknown, 'unknown one', 'unknown ones')}"
    found.subtitle = f"Judged by {judges}."
    return found


def _slices(source, found):
    """Find the worst of parts of the queries of known classes."""
    (rows,) = np.nonzero(found.codes >= 0)
    groups = {
        "class": np.array([str(found.y[row]) for row in rows]),
        "taken for": found.got[rows].astype(str),
        "nearest proxy": found.why.proxy[rows],
    }
    if found.threshold is None:  # else the least familiar are rejected, and so wrong
        groups["familiarity"] = _findings.fifths(found.familiarity[rows])
    items = source.items
    if items is not None and all(is_text(items[row]) for row in rows):
        lengths = np.array([len(items[row]) for row in rows])
        groups["length of the text"] = _findings.fifths(lengths)
    return _findings.worst_slices(groups, found.is_right[rows], rows)


def _suspects(source, found):
    """Find training samples whose own label looks wrong; None if there are none."""
    if source.X_train is None:
        return None
    judged = _findings.own_label_margins(source.clf, source.X_train, source.y_train)
    rows = np.argsort(judged.margin, kind="stable")
    rows = rows[judged.margin[rows] < 0]
    classes = source.clf._fitted.scorer.head.classes
    return Bunch(
        rows=rows,
        labels=[source.y_train[row] for row in rows.tolist()],
        others=classes[judged.other[rows]].tolist(),
        margins=judged.margin[rows],
        n=int(np.isfinite(judged.margin).sum()),
        method=judged.method,
    )


def _stands_for(source):
    """List the training samples of each proxy; None where they are not known."""
    if source.X_train is None:
        return None
    clf = source.clf
    codes = codes_among(clf._fitted.scorer.head.classes, source.y_train)
    (rows,) = np.nonzero(codes >= 0)
    labels = [source.y_train[row] for row in rows]
    assigned = clf.assign_proxies(source.X_train[rows], labels)
    order = np.argsort(assigned, kind="stable")
    cuts = np.searchsorted(assigned[order], np.arange(1, len(clf.proxies_)))
    return [part.tolist() for part in np.split(rows[order], cuts)]
