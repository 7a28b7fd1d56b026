"""Figures in scikit-learn's way: data in the object, drawing in `plot`."""

import textwrap
import unicodedata
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.model_selection import check_cv, cross_val_predict
from sklearn.utils import Bunch, column_or_1d
from sklearn.utils.validation import _num_samples

from .._arrays.device import to_host
from .._types import Array
from .._validation import check_instance, check_labels, check_returned, whole_labels
from ..classifier import ImprintClassifier
from ..classifier._checks import codes_among
from ..embedding._items import ItemError
from ..metrics import neural_collapse_score
from ._axes import (
    BLUE,
    COLORS,
    GREY,
    ORANGE,
    PALE,
    SMALL,
    axes_of,
    cells_of,
    check_axes,
    checked_vector,
    ink_of,
    pyplot,
)
from ._estimators import (
    embedded,
    items_in,
    labels_like,
    split_estimator,
    without_names,
)
from ._findings import auroc
from ._items import item_at, listed, name_of, picture_of
from ._words import writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Neighbours differ in both, and 8 colours and 5 marks are 40 pairs.
_MARKERS = "osD^v"
_N_LOOKS = len(COLORS) * len(_MARKERS)

# Classes in a legend, and points that have a name.
_MAX_NAMES = 20

# Sides in pixels of pictures in figures.
_PICTURE_SIZE = 224


class ExplanationDisplay:
    """Draw queries beside the training items that decided about them.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    explanation : Bunch
        What `skimprint.ImprintClassifier.explain` returns.
    items : list, default=None
        The queries: pictures (paths, bytes, open files, PIL images, arrays of uint8) or
        texts. By default row numbers are shown.
    train_items : list, default=None
        What was learnt, in its order.
    y : list, default=None
        The labels of the queries, to show beside what was found.

    Attributes
    ----------
    explanation, items, train_items, y
        As given.
    ax_ : ndarray of matplotlib.axes.Axes, of shape (n_queries, 1 + n_reasons)
        What was drawn on; after `plot`.
    figure_ : matplotlib.figure.Figure
        The figure; after `plot`.

    See Also
    --------
    report : A page on all queries.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.inspection import ExplanationDisplay
    >>> X, y = [[0.0, 1.0], [0.2, 0.9], [1.0, 0.0]], ["up", "up", "right"]
    >>> clf = ImprintClassifier("all").fit(X, y)
    >>> display = ExplanationDisplay.from_estimator(
    ...     clf, [[0.1, 2.0]], items=["a text"], train_items=["one", "two", "three"]
    ... )
    >>> display.explanation.rows[0, 0], display.ax_.shape
    (np.int64(0), (1, 2))
    """

    ax_: np.ndarray
    figure_: "Figure"

    def __init__(
        self,
        explanation: Bunch,
        *,
        items: list[Any] | None = None,
        train_items: list[Any] | None = None,
        y: list[Any] | None = None,
    ):
        self.explanation = explanation
        self.items = items
        self.train_items = train_items
        self.y = y

    @classmethod
    def from_estimator(
        cls,
        estimator: ImprintClassifier | Any,
        X: Array | Any,
        y: Array | None = None,
        *,
        items: Any = None,
        train_items: Any = None,
        n_reasons: int = 3,
        ax: Any = None,
    ) -> Self:
        """Explain queries, and draw them beside their reasons.

        Parameters
        ----------
        estimator : ImprintClassifier, Pipeline or search
            Fitted.
        X : array-like of shape (n_queries, n_features) or sequence of items
            The queries; of a pipeline, items.
        y : array-like of shape (n_queries,), default=None
            Their labels, to show beside what was found.
        items : sequence of shape (n_queries,), default=None
            What they are; by default ``X`` if it is items.
        train_items : sequence, default=None
            What was learnt, in its order.
        n_reasons : int, default=3
            How many reasons of each to show, at most.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : ExplanationDisplay
            It has been drawn.
        """
        check_axes(ax)
        embed, classifier = split_estimator(estimator)
        items = items_in(embed, X) if items is None else items
        train_items = listed(train_items, classifier.n_samples_seen_, "train_items")
        explanation = classifier.explain(embedded(embed, X), n_reasons=n_reasons)
        return cls.from_predictions(
            explanation, y, items=items, train_items=train_items, ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        explanation: Bunch,
        y: Array | None = None,
        *,
        items: Any = None,
        train_items: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw queries beside the reasons that `explain` has found.

        Parameters
        ----------
        explanation : Bunch
            What `skimprint.ImprintClassifier.explain` returns.
        y : array-like of shape (n_queries,), default=None
            Labels of the queries.
        items : sequence of shape (n_queries,), default=None
            What they are.
        train_items : sequence, default=None
            What was learnt, in its order.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : ExplanationDisplay
            It has been drawn.

        Raises
        ------
        ValueError
            If there is not a label or an item for each query, or no item for a reason.
        TypeError
            If there is no explanation.
        """
        if not hasattr(explanation, "training_row"):
            raise TypeError(
                "explanation must be what explain of an ImprintClassifier returns; got "
                f"{type(explanation).__name__}. Of a classifier and its queries, call "
                "from_estimator."
            )
        train_items = listed(train_items, None, "train_items")
        n = len(explanation.label)
        rows = (explanation.rows, explanation.training_row)
        last = max(each.max(initial=-1) for each in rows)
        if train_items is not None and len(train_items) <= last:
            raise ValueError(
                "train_items must have all that was learnt, in its order; got "
                f"{len(train_items)} items, and row {last} is a reason."
            )
        display = cls(
            explanation,
            items=listed(items, n, "items"),
            train_items=train_items,
            y=None if y is None else labels_like(explanation.label, y, n),
        )
        return display.plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw a row for each query: it, and its reasons.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Is divided into cells; by default a new figure is.

        Returns
        -------
        display : ExplanationDisplay
            This one.
        """
        why, n = self.explanation, len(self.explanation.label)
        n_reasons = max(1, int(np.count_nonzero(why.shares, axis=1).max(initial=0)))
        check_axes(ax)
        if ax is None:
            are_pictures = any(map(_are_pictures, (self.items, self.train_items)))
            size = 2.1 * (1 + n_reasons), (2.6 if are_pictures else 1.7) * n
            ax = pyplot().subplots(figsize=size, layout="constrained")[1]
        self.figure_ = ax.figure
        titles = [self._title(i) for i in range(n)]
        n_lines = max([2, *(1 + title.count("\n") for title in titles)])
        self.ax_ = cells_of(ax, (n, 1 + n_reasons), n_lines)
        for i, row in enumerate(self.ax_):
            self._draw(row[0], self.items, i, "query", titles[i])
            row[0].title.set_fontweight("bold")
            if self.y is not None and self.y[i] != why.label[i]:
                row[0].title.set_color(ORANGE)
            for j in range(n_reasons):
                share = why.shares[i, j] if j < why.shares.shape[1] else 0
                if share:
                    kind = "sample" if why.proxies[i, j] < 0 else "proxy"
                    title = f"{kind}\n{share:.2g} of {why.score[i]:.2g}"
                    where = why.rows[i, j]
                elif j == 0:  # an aggregation of the user's
                    title, where = "nearest proxy", why.training_row[i]
                else:
                    continue
                self._draw(row[1 + j], self.train_items, where, "training row", title)
        return self

    def _title(self, i):
        """Say what a query is and what it was found to be."""
        title = _wrapped(f"found: {self.explanation.label[i]}")
        if self.y is not None:
            title = _wrapped(f"is: {self.y[i]}") + "\n" + title
        return title

    def _draw(self, cell, items, row, what, title):
        """Draw an item in a cell."""
        # Text of the user's is no formula, whatever dollars are in it.
        cell.set_title(title, fontsize=SMALL, parse_math=False)
        item = item_at(items, row)
        try:
            picture = None if item is None else picture_of(item, _PICTURE_SIZE)
        except ItemError:
            picture = None
        if picture is not None:
            cell.imshow(np.asarray(picture))
            return
        cell.set_facecolor(PALE)
        cell.text(
            0.5,
            0.5,
            _wrapped(name_of(item, row, what), most=7),
            ha="center",
            va="center",
            fontsize=SMALL,
            color="black",  # on a pale ground
            transform=cell.transAxes,
            parse_math=False,
        )


def _are_pictures(items):
    """Tell whether items are pictures, by the first."""
    try:
        return items is not None and picture_of(items[0]) is not None
    except ItemError:
        return True  # a broken one


def _wrapped(text, width=26, most=3):
    text = writable(text)
    n_wide = sum(unicodedata.east_asian_width(letter) in "FW" for letter in text)
    width = width * max(1, len(text)) // max(1, len(text) + n_wide)
    lines = textwrap.wrap(text, width) or [text]
    return "\n".join(lines[:most]) + ("…" if len(lines) > most else "")


class FamiliarityDisplay:
    """Draw how familiar queries of known and of unknown classes are.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    known, unknown : ndarray of shape (n_known,), (n_unknown,)
        Familiarities, as `skimprint.ImprintClassifier.score_samples` returns them.
    threshold : float or None
        Below which queries are rejected.

    Attributes
    ----------
    known, unknown, threshold
        As given.
    auroc : float or None
        The chance that a known query is more familiar than an unknown one; `None` if
        there are none of a kind.
    ax_, figure_ : matplotlib.axes.Axes, matplotlib.figure.Figure
        What was drawn on; after `plot`.

    See Also
    --------
    skimprint.Rejection : What sets the threshold.

    Examples
    --------
    >>> from skimprint.inspection import FamiliarityDisplay
    >>> display = FamiliarityDisplay.from_predictions(
    ...     [0.7, 0.8, 0.9], [0.3, 0.75], threshold=0.6
    ... )
    >>> round(display.auroc, 2)
    0.83
    """

    ax_: "Axes"
    figure_: "Figure"

    def __init__(
        self, known: np.ndarray, unknown: np.ndarray, threshold: float | None = None
    ):
        self.known = known
        self.unknown = unknown
        self.threshold = threshold
        self.auroc = auroc(known, unknown)

    @classmethod
    def from_estimator(
        cls,
        estimator: ImprintClassifier | Any,
        X: Array | Any,
        y: Array,
        *,
        ax: Any = None,
    ) -> Self:
        """Tell how familiar queries are, and draw it.

        Parameters
        ----------
        estimator : ImprintClassifier, Pipeline or search
            Fitted. Its `rejection`, if it has one, sets the threshold.
        X : array-like of shape (n_queries, n_features) or sequence of items
            The queries; of a pipeline, items.
        y : array-like of shape (n_queries,)
            Their labels; those that are not among the classes are unknown.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : FamiliarityDisplay
            It has been drawn.
        """
        check_axes(ax)
        embed, classifier = split_estimator(estimator)
        labels = labels_like(classifier.classes_, y, _num_samples(X))
        is_known = codes_among(classifier.classes_, labels) >= 0
        familiarity = classifier.score_samples(embedded(embed, X))
        familiarity = np.asarray(to_host(familiarity))
        threshold = None
        if classifier.rejection is not None:
            threshold = classifier.rejection_threshold_
        return cls.from_predictions(
            familiarity[is_known], familiarity[~is_known], threshold=threshold, ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        known: ArrayLike,
        unknown: ArrayLike = (),
        *,
        threshold: float | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw familiarities.

        Parameters
        ----------
        known : array-like of shape (n_known,)
            Of queries of known classes.
        unknown : array-like of shape (n_unknown,), default=()
            Of queries of other classes.
        threshold : float, default=None
            Below which queries are rejected.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : FamiliarityDisplay
            It has been drawn.
        """
        if not (threshold is None or isinstance(threshold, Real)):
            raise TypeError(
                "threshold must be a number, such as rejection_threshold_ of a "
                f"classifier, or None; got {threshold!r}."
            )
        known = checked_vector(known, "known")
        unknown = checked_vector(unknown, "unknown")
        return cls(known, unknown, threshold).plot(ax=ax)

    def plot(self, *, ax: Any = None, n_bins: int = 40) -> Self:
        """Draw histograms of both kinds, as shares, and the threshold.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.
        n_bins : int, default=40
            Number of bars.

        Returns
        -------
        display : FamiliarityDisplay
            This one.
        """
        if not (isinstance(n_bins, Integral) and n_bins >= 1):
            raise ValueError(f"n_bins must be an int of at least 1; got {n_bins!r}.")
        ax = axes_of(self, ax)
        edges = _edges(np.concatenate([self.known, self.unknown]), n_bins)
        for values, name, color, hatch in (
            (self.known, "known classes", BLUE, None),
            (self.unknown, "unknown", ORANGE, "///"),
        ):
            if len(values):
                ax.hist(
                    values,
                    edges,
                    weights=np.full(len(values), 1 / len(values)),
                    color=color,
                    alpha=0.55,
                    hatch=hatch,
                    edgecolor=color,
                    label=f"{name} ({len(values):,})",
                )
        if self.threshold is not None and np.isfinite(self.threshold):
            ax.axvline(
                self.threshold, color=ink_of(ax), linestyle="--", label="threshold"
            )
        ax.set(xlabel="familiarity", ylabel="share of each kind")
        if self.auroc is not None:
            ax.set_title(f"Area under the ROC curve: {self.auroc:.2f}", fontsize=10)
        # Matplotlib warns of the default where it takes long, as on a busy machine.
        ax.legend(frameon=False, loc="best")
        return self


def _edges(values, n_bars):
    """Share the range of values among bars; of values that are alike, a wider one."""
    values = values[np.isfinite(values)].astype(float)
    low, high = (values.min(), values.max()) if len(values) else (0, 1)
    size = max(abs(low), abs(high))
    if high - low <= n_bars * np.finfo(np.float32).eps * size:  # up to rounding
        half = size / 2 or 0.5
        low, high = low - half, high + half
    return np.linspace(low, high, n_bars + 1)


class ProxyDisplay:
    """Draw the proxies in a plane, by class.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    proxies : ndarray of shape (n_proxies, 2)
        Where the proxies are.
    proxy_labels : ndarray of shape (n_proxies,)
        Their classes.
    queries : ndarray of shape (n_queries, 2), default=None
        Where queries are.
    query_labels : ndarray of shape (n_queries,), default=None
        Their labels. Queries of classes without proxies are drawn as unknown.

    Attributes
    ----------
    proxies, proxy_labels, queries, query_labels
        As given.
    ax_, figure_ : matplotlib.axes.Axes, matplotlib.figure.Figure
        What was drawn on; after `plot`.

    See Also
    --------
    CollapseDisplay : How much several proxies gain, class by class.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.datasets import load_digits_embeddings
    >>> from skimprint.inspection import ProxyDisplay
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> clf = ImprintClassifier(n_proxies=3, random_state=0).fit(X[:500], y[:500])
    >>> display = ProxyDisplay.from_estimator(clf, X[500:600], y[500:600])
    >>> display.proxies.shape, display.queries.shape
    ((30, 2), (100, 2))
    """

    ax_: "Axes"
    figure_: "Figure"

    def __init__(
        self,
        proxies: np.ndarray,
        proxy_labels: np.ndarray,
        queries: np.ndarray | None = None,
        query_labels: np.ndarray | None = None,
    ):
        self.proxies = proxies
        self.proxy_labels = proxy_labels
        self.queries = queries
        self.query_labels = query_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: ImprintClassifier | Any,
        X: Array | Any = None,
        y: Array | None = None,
        *,
        projection: Any = None,
        ax: Any = None,
    ) -> Self:
        """Project the proxies into a plane, and queries with them.

        Parameters
        ----------
        estimator : ImprintClassifier, Pipeline or search
            Fitted.
        X : array-like of shape (n_queries, n_features) or sequence, default=None
            Queries to show beside the proxies, where they meet them: normalised, and
            whitened if the classifier whitens. Of a pipeline, items.
        y : array-like of shape (n_queries,), default=None
            Their labels. Needed with ``X``.
        projection : transformer, default=None
            To two dimensions, such as ``umap.UMAP(metric="cosine")``: fits proxies and
            queries together. By default the first two principal components of the
            proxies: of a classifier that whitens, about the plane in which classes are
            furthest apart, for samples of a class scatter alike in all directions.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : ProxyDisplay
            It has been drawn.

        Raises
        ------
        ValueError
            If ``X`` comes without ``y``, or if the projection is not to two dimensions.
        """
        check_axes(ax)
        check_instance(projection, "projection")
        if not (projection is None or hasattr(projection, "fit_transform")):
            raise TypeError(
                "projection must be a transformer to two dimensions, such as PCA(2); "
                f"got {projection!r}."
            )
        embed, classifier = split_estimator(estimator)
        if (X is None) != (y is None):
            raise ValueError("X and y go together: pass both, or neither.")
        points, labels = classifier.proxies_, None
        n = len(points)
        if X is not None:
            labels = labels_like(classifier.classes_, y, _num_samples(X))
            labels = np.array(whole_labels(labels))
            classifier, (queries,) = without_names(classifier, embedded(embed, X))
            queries = classifier._fitted.scorer.in_space_of_proxies(queries)
            points = np.concatenate([points, queries])
        if projection is None:
            points = _in_plane(points, points[:n])
        else:
            projected = clone(projection).fit_transform(points)
            shape = (len(points), 2)
            points = check_returned(projected, shape, points.dtype, "projection")
        queries = None if X is None else points[n:]
        return cls.from_predictions(
            points[:n], classifier.proxy_labels_, queries, labels, ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        proxies: ArrayLike,
        proxy_labels: ArrayLike,
        queries: ArrayLike | None = None,
        query_labels: ArrayLike | None = None,
        *,
        ax: Any = None,
    ) -> Self:
        """Draw points of a plane.

        Parameters
        ----------
        proxies : array-like of shape (n_proxies, 2)
            Where the proxies are.
        proxy_labels : array-like of shape (n_proxies,)
            Their classes.
        queries : array-like of shape (n_queries, 2), default=None
            Where queries are.
        query_labels : array-like of shape (n_queries,), default=None
            Their labels. Needed with ``queries``.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : ProxyDisplay
            It has been drawn.

        Raises
        ------
        ValueError
            If they are no points of a plane, or there is not a label for each.
        """
        given = (proxies, proxy_labels, queries, query_labels)
        arrays = [None if each is None else np.atleast_1d(each) for each in given]
        sizes = ["no" if each is None else len(each) for each in arrays]
        are_labels = all(each.ndim == 1 for each in arrays[1::2] if each is not None)
        if proxies is None or sizes[::2] != sizes[1::2] or not are_labels:
            raise ValueError(
                "Each proxy and each query must have a label; got {} proxies with {} "
                "labels, and {} queries with {}.".format(*sizes)
            )
        shapes = [each.shape for each in arrays[::2] if each is not None]
        if any(len(shape) != 2 or shape[1] != 2 for shape in shapes):
            raise ValueError(
                "Proxies and queries must be points of a plane, of shape (n, 2); got "
                f"{' and '.join(map(str, shapes))}. `from_estimator` projects "
                "embeddings into one."
            )
        return cls(*arrays).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw proxies as large marks and queries as small ones.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : ProxyDisplay
            This one.
        """
        ax = axes_of(self, ax)
        classes, marks = np.unique(self.proxy_labels), []
        names = [str(label) for label in classes.tolist()]
        codes = codes_among(classes, self.proxy_labels.tolist())
        if self.queries is not None:
            query_codes = codes_among(classes, self.query_labels.tolist())
        # Hundreds of marks have their size, thousands are smaller: else they would hide
        # each other and the queries.
        size = max(4, min(70, 28_000 / max(1, len(codes))))
        # Classes that look alike, of more than there are looks, are drawn at once:
        # a class by itself takes matplotlib milliseconds.
        for i, name in enumerate(names[:_N_LOOKS]):
            color = COLORS[i % len(COLORS)] or ink_of(ax)
            marker = _MARKERS[i % len(_MARKERS)]
            if self.queries is not None:
                like_this = (query_codes >= 0) & (query_codes % _N_LOOKS == i)
                ax.scatter(
                    *self.queries[like_this].T,
                    s=min(10, size),
                    color=color,
                    marker=marker,
                    alpha=0.35,
                    linewidths=0,
                )
            mark = ax.scatter(
                *self.proxies[codes % _N_LOOKS == i].T,
                s=size,
                color=color,
                marker=marker,
                edgecolors=ax.get_facecolor(),
                linewidths=1.5 * (size / 70) ** 0.5,
                label=name if len(names) <= _N_LOOKS else None,
                zorder=3,
            )
            marks.append(mark)
        if self.queries is not None:
            other = query_codes < 0
            if other.any():
                of_others = self.queries[other].T
                mark = ax.scatter(
                    *of_others, s=16, color=GREY, marker="x", linewidths=0.8
                )
                marks.append(mark)
                names.append("unknown")
        if len(classes) <= _MAX_NAMES:
            legend = ax.legend(
                marks,
                ["-"] * len(marks),  # it leaves out names that open with "_"
                frameon=False,
                bbox_to_anchor=(1, 1),
                loc="upper left",
                fontsize=SMALL,
            )
            for text, name in zip(legend.get_texts(), names, strict=True):
                text.set(text=_wrapped(name), parse_math=False)
        ax.set(
            xticks=[], yticks=[], xlabel="first direction", ylabel="second direction"
        )
        return self


def _in_plane(points, proxies):
    """Project points onto the first two principal components of proxies."""
    origin = proxies.mean(axis=0)
    *_, axes = np.linalg.svd(proxies - origin, full_matrices=False)
    plane = (points - origin) @ axes[:2].T
    return np.pad(plane, [(0, 0), (0, 2 - plane.shape[1])])  # of one proxy or feature


class CollapseDisplay:
    """Draw what several proxies gain over one against neural collapse.

    The less the classes have collapsed to points, the more there is to gain from
    several proxies. Make one with `from_estimator`, whose points are classes, or with
    `from_predictions`, whose points may be data sets.

    Parameters
    ----------
    collapse : ndarray of shape (n_points,)
        NC1, as `skimprint.metrics.neural_collapse_score` returns it: 0 is collapsed.
    gain : ndarray of shape (n_points,)
        Accuracy of several proxies less that of one.
    names : list of str
        What the points are called.

    Attributes
    ----------
    collapse, gain, names
        As given.
    ax_, figure_ : matplotlib.axes.Axes, matplotlib.figure.Figure
        What was drawn on; after `plot`.

    See Also
    --------
    skimprint.metrics.neural_collapse_score : NC1.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.datasets import load_digits_embeddings
    >>> from skimprint.inspection import CollapseDisplay
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> clf = ImprintClassifier("kmeans", random_state=0)
    >>> display = CollapseDisplay.from_estimator(clf, X[:600], y[:600], cv=3)
    >>> bool(display.gain.mean() > 0)
    True
    """

    ax_: "Axes"
    figure_: "Figure"

    def __init__(self, collapse: np.ndarray, gain: np.ndarray, names: list[str]):
        self.collapse = collapse
        self.gain = gain
        self.names = names

    @classmethod
    def from_estimator(
        cls,
        estimator: ImprintClassifier | Any,
        X: Array | Any,
        y: Array,
        *,
        cv: Any = None,
        ax: Any = None,
    ) -> Self:
        """Cross-validate several proxies and one, and compare class by class.

        Parameters
        ----------
        estimator : ImprintClassifier, Pipeline or search
            With several proxies. The same with ``"mean"`` as its generator has one. A
            classifier alone need not be fitted; a pipeline embeds as it has been.
        X : array-like of shape (n_samples, n_features) or sequence of items
            Embeddings; of a pipeline, items.
        y : array-like of shape (n_samples,)
            Their labels.
        cv : int, cross-validation generator or iterable, default=None
            As in scikit-learn; five folds by default. Each sample is tested once.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : CollapseDisplay
            It has been drawn.
        """
        check_axes(ax)
        embed, classifier = split_estimator(estimator, fitted=False)
        X, y = embedded(embed, X), whole_labels(to_host(y))
        y = column_or_1d(y, warn=True)
        check_labels(y)
        classes, codes = np.unique(y, return_inverse=True)
        folds = list(check_cv(cv, y, classifier=True).split(X, y))

        def recalls(clf):
            right = cross_val_predict(clf, X, y, cv=folds) == y
            return np.bincount(codes, right) / np.bincount(codes)

        several = recalls(clone(classifier))
        with warnings.catch_warnings():
            # There may be fewer means than neighbours: that is no fault of the user's.
            warnings.filterwarnings("ignore", "n_neighbors=.* all of them vote")
            one = recalls(clone(classifier).set_params(generator="mean"))
        collapse = np.asarray(neural_collapse_score(X, y, average=None))
        names = [str(label) for label in classes.tolist()]
        return cls.from_predictions(collapse, several - one, names, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        collapse: ArrayLike,
        gain: ArrayLike,
        names: Any = None,
        *,
        ax: Any = None,
    ) -> Self:
        """Draw gains against neural collapse.

        Parameters
        ----------
        collapse : array-like of shape (n_points,)
            NC1 of classes, or of data sets.
        gain : array-like of shape (n_points,)
            Accuracy of several proxies less that of one.
        names : sequence of str, default=None
            What the points are called; by default they have numbers.
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : CollapseDisplay
            It has been drawn.

        Raises
        ------
        ValueError
            If there are not as many gains, or names, as there are scores.
        """
        collapse = checked_vector(collapse, "collapse")
        gain = checked_vector(gain, "gain")
        if names is None:
            names = range(len(collapse))
        names = [str(name) for name in names]
        if not len(collapse) == len(gain) == len(names):
            raise ValueError(
                "collapse, gain and names must have the same length; got "
                f"{len(collapse)}, {len(gain)} and {len(names)}."
            )
        return cls(collapse, gain, names).plot(ax=ax)

    def plot(self, *, ax: Any = None) -> Self:
        """Draw a point for each class or data set.

        All have names if they are 20 at most, else those of the 20 that gain or lose
        the most whose names do not cover each other.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default in a new figure.

        Returns
        -------
        display : CollapseDisplay
            This one.
        """
        ax = axes_of(self, ax)
        ax.axhline(0, color=GREY, linewidth=1)
        ax.scatter(self.collapse, 100 * self.gain, color=BLUE, s=28, zorder=2)
        ax.margins(0.08)
        named, taken = np.arange(len(self.names)), []
        if are_many := len(named) > _MAX_NAMES:
            named = np.argsort(-np.abs(self.gain), kind="stable")[:_MAX_NAMES]
            named = named[self.gain[named] != 0]
            ax.autoscale_view()  # now, for names to be where they will be
        for i in named:
            name = ax.annotate(
                _wrapped(self.names[i]),
                (self.collapse[i], 100 * self.gain[i]),
                (5, 3),
                textcoords="offset points",
                fontsize=SMALL,
                parse_math=False,
            )
            if are_many:
                place = name.get_window_extent()
                if any(place.overlaps(other) for other in taken):
                    name.remove()
                else:
                    taken.append(place)
        ax.set(
            xlabel="NC1 (0: each class is a point)",
            ylabel="gain of several proxies (points)",
        )
        return self
