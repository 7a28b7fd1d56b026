"""What a classifier does to queries, in the operations of any other library.

The formulae stand once, over a namespace ``xp`` of the few operations that they need:
that of torch, or one that writes a graph of ONNX. Another runtime needs one more:

- ``abs``, ``exp``, ``sqrt``, ``copysign``, ``clip`` and ``where``, and of an axis
  ``max``, ``sum`` and ``argmax``, are as NumPy has them;
- ``constant(values, dtype)`` makes an array, ``turned(X)`` the transpose of one of
  `Recipe.arrays`;
- ``take(X, index)`` takes columns, ``look_up(values, index)`` elements of a vector,
  ``gather(X, index)`` elements of each row, by an index of its own;
- ``topk(X, n)`` gives the ``n`` largest of each row and their columns, of equal ones
  the first;
- ``concat(parts)`` puts columns side by side, ``with_column(X, value)`` appends one of
  the same value, ``boxes(X, n, width)`` makes the shape (n_rows, n, width) of columns;
- ``sums_by(codes, votes, n)`` sums the votes of a row by their codes, which are less
  than ``n``;
- ``cdist(X, Y, order)`` computes the Minkowski distances between rows.
"""

from inspect import getattr_static

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from .._scoring.familiarity import _CONTRAST, MEANS
from ..aggregation import AGGREGATIONS, Votes
from ..classifier import AdaptedClassifier, ImprintClassifier, ImprintClassifierCV
from ..classifier._calibration import familiarity_kind, temperature_of, threshold_of
from ..classifier._head import lowest_score
from ..normalization import EPS


class Recipe:
    """The steps from queries to scores, and the arrays that they need.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted.
    dtype : dtype, default=None
        Of its arrays; by default that of the proxies.

    Attributes
    ----------
    arrays : dict of {str: ndarray}
        What the formulae read, by name. Each gets them in its own namespace.
    classes : ndarray of shape (n_classes,)
        The labels, those of classes without weight included.
    temperature : float
        What scores are divided by.
    familiarity_kind : str
        Which familiarity decides about a rejection: as for `Scorer.familiarities`.
    threshold : float or None
        Less familiar queries are rejected.
    widths : list of int
        How many proxies the classes of each group have; see `by_class`.
    is_filled : bool
        Whether some have fewer, and boxes are filled up.
    is_linear : bool
        Whether a score is the product of a query and one proxy of its class.

    Raises
    ------
    ValueError
        If a part is a function, or another that has no such form.
    """

    def __init__(self, clf, dtype=None):
        clf._check_is_fitted()
        scorer = clf._fitted.scorer
        self.plan, self.head = plan, head = scorer.plan, scorer.head
        _check_forms(plan)
        self.classes = head.all_classes
        self.temperature = float(temperature_of(clf, scorer))
        self.familiarity_kind = familiarity_kind(clf, scorer)
        self.threshold = None
        if clf.rejection is not None:
            self.threshold = float(threshold_of(clf, scorer))
        self.dtype = dtype or head.proxies.dtype
        self.lowest = lowest_score(self.dtype)
        self.arrays = {}
        similarity = scorer.similarity
        self._add(proxies=similarity.proxies)
        if plan.metric.zero_distance == 0:  # distances
            self._add(origin=getattr(similarity, "origin", None))
            self._add(factor=getattr(similarity, "factor", None))
        whitening = head.whitening
        if whitening is not None:
            self._add(whitening_origin=whitening.origin)
            if whitening.matrix is not None:
                self._add(whitening_matrix=whitening.matrix)
            else:
                self._add(basis=whitening.basis, inside=whitening.inside)
        if plan.kernel_weight:
            self._add(
                landmarks=head.kernel.landmarks, coefficients=head.kernel.coefficients
            )
        if self.familiarity_kind == "auto":
            self._add(mean_directions=head.mean_directions)
        self.arrays["codes"] = head.codes.astype(np.int64)
        self._group_classes()
        self.is_linear = (
            plan.metric.name == "dot"
            and whitening is None
            and not plan.kernel_weight
            and not isinstance(plan.aggregation, Votes)
            and len(head.proxies) == len(head.classes)
        )

    def _add(self, **arrays):
        for name, array in arrays.items():
            if array is not None:
                self.arrays[name] = np.ascontiguousarray(array, self.dtype)

    def _group_classes(self):
        """Group classes whose numbers of proxies have the same power of two above.

        Filled up to it, the proxies of a group are a box, at most twice as large.
        """
        offsets, n_proxies = self.head.offsets, len(self.head.proxies)
        counts = np.diff(offsets)
        self.is_filled = len(set(counts)) > 1
        if not self.is_filled:
            self.widths = [int(counts[0])]
            return
        widths = 2 ** np.ceil(np.log2(counts)).astype(int)
        self.widths, order = np.unique(widths).tolist(), []
        for width in self.widths:
            members = np.flatnonzero(widths == width)
            places = np.arange(width)
            is_there = places < counts[members, None]
            boxes = np.where(is_there, offsets[members, None] + places, n_proxies)
            self.arrays[f"box_{width}"] = boxes.ravel().astype(np.int64)
            order.append(members)
        self.arrays["box_order"] = np.argsort(np.concatenate(order)).astype(np.int64)

    # -- The formulae

    def normalized(self, xp, X):
        """Normalise queries."""
        norm = self.plan.query_norm
        if norm.before is not None:
            X = norm.before(xp, X)
        return unit_rows(xp, X) if norm.unit_length else X

    def similarities(self, xp, X, arrays):
        """Compare normalised queries with all proxies: (n_queries, n_proxies)."""
        if "whitening_origin" in arrays:
            X = X - arrays["whitening_origin"]
            if "whitening_matrix" in arrays:
                X = X @ arrays["whitening_matrix"]
            else:
                inside = (X @ arrays["basis"]) * arrays["inside"]
                X = X * self.head.whitening.outside + inside @ xp.turned(
                    arrays["basis"]
                )
            if self.plan.query_norm.unit_length:
                X = unit_rows(xp, X)
        return _METRICS[self.plan.metric.name](xp, X, arrays)

    def scores(self, xp, X, similarities, arrays):
        """Score classes: (n_queries, n_classes)."""
        if isinstance(self.plan.aggregation, Votes):
            scores = self._shares(xp, similarities, arrays)
        else:
            scores = self.by_class(xp, similarities, arrays, _largest)
        share = self.plan.kernel_weight
        if share:
            kernel = X @ xp.turned(arrays["landmarks"])
            kernel = xp.exp((kernel - 1.0) * (2 * self.head.kernel.gamma))
            found = kernel @ xp.turned(arrays["coefficients"])
            scores = scores * (1 - share) + (found + 1 / len(self.head.classes)) * share
        return scores

    def widened(self, xp, values, fill):
        """Give the classes without weight a value."""
        n = len(self.head.classes)
        if n == len(self.classes):
            return values
        places = np.full(len(self.classes), n)
        places[np.searchsorted(self.classes, self.head.classes)] = np.arange(n)
        return xp.take(xp.with_column(values, fill), xp.constant(places))

    def familiarities(self, xp, X, similarities, scores, arrays):
        """Tell how familiar normalised queries are: (n_queries,)."""
        if self.familiarity_kind == "auto":
            cosines = X @ xp.turned(arrays["mean_directions"])
            return xp.max(scores, 1) + xp.max(cosines, 1) * MEANS
        if self.familiarity_kind == "similarity":
            return xp.max(similarities, 1)
        reduce = self._mean_of_two if self.plan.generator.selects else _largest
        by_class = self.by_class(xp, similarities, arrays, reduce)
        if len(self.head.classes) == 1:
            return xp.max(by_class, 1)
        first_two, _ = xp.topk(by_class, 2)
        return xp.sum(first_two * xp.constant([1, -_CONTRAST], self.dtype), 1)

    def by_class(self, xp, similarities, arrays, reduce):
        """Reduce the similarities to the proxies of each class.

        Those of classes with as many proxies are a box: (n_queries, n_classes, width).
        """
        if not self.is_filled:
            (width,) = self.widths
            if width == 1:
                return similarities
            return reduce(xp, xp.boxes(similarities, len(self.head.classes), width))
        similarities = xp.with_column(similarities, self.lowest)
        found = []
        for width in self.widths:
            n_boxes = len(self.arrays[f"box_{width}"]) // width
            values = xp.take(similarities, arrays[f"box_{width}"])
            found.append(reduce(xp, xp.boxes(values, n_boxes, width)))
        return xp.take(xp.concat(found), arrays["box_order"])

    def _mean_of_two(self, xp, boxes):
        if boxes.shape[2] == 1:
            return xp.max(boxes, 2)
        two, _ = xp.topk(boxes, 2)
        is_there = xp.where(two > self.lowest, 1.0, 0.0)
        return xp.sum(two * is_there, 2) / xp.sum(is_there, 2)

    def _shares(self, xp, similarities, arrays):
        aggregation, n = self.plan.aggregation, len(self.head.classes)
        n_voters = min(aggregation.n_neighbors, len(self.head.proxies))
        values, nearest = xp.topk(similarities, n_voters)
        codes = xp.look_up(arrays["codes"], nearest)
        if aggregation.weights == "uniform":
            votes = values * 0.0 + 1.0
        else:
            distances = self.plan.metric.zero_distance - values
            is_exact = xp.where(distances > 0.0, 0.0, 1.0)
            any_exact = xp.max(is_exact, 1, keepdims=True)
            weighted = 1.0 / (distances + is_exact)
            votes = xp.where(any_exact > 0.0, is_exact, weighted)
        shares = xp.sums_by(codes, votes, n) / xp.sum(votes, 1, keepdims=True)
        # Of classes with as many votes, that of the nearest voter is ahead.
        eps = float(np.finfo(self.dtype).eps)
        best = xp.max(shares, 1, keepdims=True)
        ties = xp.where(shares >= best * (1 - 4 * eps), 1.0, 0.0)
        n_ties = xp.sum(ties, 1, keepdims=True)
        first = xp.argmax(xp.gather(ties, codes), 1, keepdims=True)
        # More than half of the space to the next number: rounded, it is that one.
        ahead = xp.where(n_ties > 1.0, best * (0.51 * eps), best * 0.0)
        return shares + xp.sums_by(xp.gather(codes, first), ahead, n)


def _largest(xp, boxes):
    return xp.max(boxes, 2)


def unit_rows(xp, X):
    """Scale rows to unit length; squares cannot overflow, and zeros stay."""
    largest = xp.clip(xp.max(xp.abs(X), 1, keepdims=True), 1.0)
    X = X / largest
    return X / xp.clip(xp.sqrt(xp.sum(X * X, 1, keepdims=True)), EPS)


def _dot(xp, X, arrays):
    return X @ xp.turned(arrays["proxies"])


def _cosine(xp, X, arrays):
    return xp.clip(_dot(xp, unit_rows(xp, X), arrays), -1.0, 1.0)


def _euclidean(xp, X, arrays):
    X = X - arrays["origin"]
    if "factor" in arrays:
        X = X @ arrays["factor"]
    proxies = arrays["proxies"]
    own = xp.sum(X * X, 1, keepdims=True)
    squares = own - _dot(xp, X, arrays) * 2.0 + xp.sum(proxies * proxies, 1)
    return -xp.sqrt(xp.clip(squares, 0.0))


def _minkowski(order):
    return lambda xp, X, arrays: -xp.cdist(X, arrays["proxies"], order)


_METRICS = {
    "chebyshev": _minkowski(np.inf),
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "mahalanobis": _euclidean,
    "manhattan": _minkowski(1),
}


def check_methods(model, *others):
    """Refuse a subclass that predicts in a way of its own, which no export knows.

    Parameters
    ----------
    model : estimator
        What is exported, or a pipeline or a search around it.
    *others : str
        Methods that the export stands for, besides the three of predictions.
    """
    inner = getattr(model, "best_estimator_", None)
    if isinstance(model, Pipeline):
        inner = model.steps[-1][1]
    if isinstance(model, FrozenEstimator):
        inner = model.estimator
    if isinstance(model, AdaptedClassifier):
        check_methods(model.estimator_)
        inner = model.imprint_
    if inner is not None:
        check_methods(inner, *others)
    for ours in (ImprintClassifier, ImprintClassifierCV, AdaptedClassifier):
        for name in ("predict", "predict_proba", "decision_function", *others):
            if isinstance(model, ours) and (
                getattr_static(type(model), name, None)
                is not getattr_static(ours, name, None)
            ):
                raise ValueError(
                    f"The class of the model must have the method {name} of "
                    f"{ours.__name__}, which is what an export does; "
                    f"{type(model).__name__} overrides it. Export an {ours.__name__}, "
                    "and do afterwards what the method adds."
                )


def _check_forms(plan):
    """Refuse what has no form outside of Python."""
    if plan.query_norm.is_callable:
        is_auto = plan.parameters["query_norm"] == "auto"
        name = "support_norm" if is_auto else "query_norm"
        _refuse(name, plan, "'l2', 'power', 'auto' or None")
    if plan.metric.name not in _METRICS:
        _refuse("metric", plan, f"one of {sorted(_METRICS)}")
    if not isinstance(plan.aggregation, Votes | type(AGGREGATIONS["max"])):
        _refuse("aggregation", plan, "'max', 'mnn' or Votes")


def _refuse(name, plan, cure):
    raise ValueError(
        f"{name} must have a form outside of Python; that of "
        f"{plan.parameters[name]!r} is not known. Use {cure}, and fit again."
    )
