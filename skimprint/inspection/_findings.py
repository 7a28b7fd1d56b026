"""What a report says, as numbers: each finding is a function of arrays."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom, rankdata
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import Bunch

from .._arrays.groups import blocks_of_rows
from .._scoring.leave_one_out import scores_without
from ..classifier._checks import codes_among

# Samples that a slice has at least, and slices that are named.
_MIN_SLICE = 5
_MAX_SLICES = 10

# Chance that any slice at all is named where all are alike.
_LEVEL = 0.025

# Parts of equally many queries that probabilities and familiarities are cut into.
_N_BINS = 10
_N_FOLDS = 5

# Bound for the scores of training samples that are held at a time.
_MAX_SCORES = 2**25


def wilson_interval(n_right, n):
    """Bound a rate by the score interval of Wilson, of 95 %.

    Parameters
    ----------
    n_right, n : int or ndarray of int
        How many of how many.

    Returns
    -------
    low, high : float or ndarray
        0 and 1 of none.
    """
    z = ndtri(0.975)
    n_right, n = np.asarray(n_right, float), np.asarray(n, float)
    some = np.maximum(n, 1)
    rate = n_right / some
    middle = (rate + z**2 / (2 * some)) / (1 + z**2 / some)
    half = z * np.sqrt(rate * (1 - rate) / some + z**2 / (4 * some**2))
    half /= 1 + z**2 / some
    # Rounding must not put the bound of all right below 1.
    low = np.where(n_right > 0, middle - half, 0.0)
    return low, np.where(n_right < n, middle + half, 1.0)


def auroc(known, unknown):
    """Compute the chance that a known query is more familiar than an unknown one.

    `None` where there are no queries of one of both kinds.
    """
    if not (len(known) and len(unknown)):
        return None
    is_known = np.arange(len(known) + len(unknown)) < len(known)
    return float(roc_auc_score(is_known, np.concatenate([known, unknown])))


def confusion(codes, predicted, n_classes):
    """Count queries by the class they have and the class they get.

    Parameters
    ----------
    codes : ndarray of shape (n,)
        The class of each query; -1 for one of no known class.
    predicted : ndarray of shape (n,)
        The class that each gets; -1 for one that is rejected.
    n_classes : int
        Number of classes.

    Returns
    -------
    counts : ndarray of shape (n_classes + 1, n_classes + 1)
        The last row is of unknown queries, the last column of those rejected.
    """
    # The only array here with a place for each pair of classes: of small numbers.
    counts = np.zeros((n_classes + 1, n_classes + 1), np.int32)
    np.add.at(counts, (codes, predicted), 1)  # the number -1 means the last
    return counts


def accuracy_by_class(counts):
    """Find how many queries of each class get it.

    Parameters
    ----------
    counts : ndarray of shape (n_classes + 1, n_classes + 1)
        Of `confusion`.

    Returns
    -------
    found : Bunch
        ``n``, ``recall``, ``low``, ``high`` and ``precision`` of each class; NaN where
        there is nothing to divide by.
    """
    n, n_right = counts[:-1].sum(axis=1), np.diag(counts)[:-1]
    low, high = wilson_interval(n_right, n)
    with np.errstate(invalid="ignore"):
        recall, precision = n_right / n, n_right / counts[:, :-1].sum(axis=0)
    return Bunch(n=n, recall=recall, low=low, high=high, precision=precision)


def reliability(confidences, is_right):
    """Compare how probable predictions are said to be with how often they are right.

    Parameters
    ----------
    confidences : ndarray of shape (n,)
        The probability of each prediction.
    is_right : ndarray of bool, of shape (n,)
        Whether it is right.

    Returns
    -------
    found : Bunch
        ``n``, ``confidence``, ``accuracy``, ``low`` and ``high`` of each of ten parts
        of equally many predictions, and the ``error``: the mean difference of
        confidence and accuracy.
    """
    order = np.argsort(confidences, kind="stable")
    parts = [part for part in np.array_split(order, _N_BINS) if len(part)]
    n = np.array([len(part) for part in parts])
    confidence = np.array([confidences[part].mean() for part in parts])
    accuracy = np.array([is_right[part].mean() for part in parts])
    low, high = wilson_interval(accuracy * n, n)
    gaps = np.abs(confidence - accuracy)
    error = float(np.average(gaps, weights=n)) if len(n) else np.nan
    return Bunch(
        n=n,
        confidence=confidence,
        accuracy=accuracy,
        low=low,
        high=high,
        error=error,
    )


class Slice(NamedTuple):
    """Queries that have something in common.

    Attributes
    ----------
    kind : str
        What they have in common.
    value : object
        Its value.
    rows : ndarray of shape (n,)
        The queries.
    accuracy, low, high : float
        Of them, with bounds.
    """

    kind: str
    value: object
    rows: np.ndarray
    accuracy: float
    low: float
    high: float


def worst_slices(groups, is_right, rows):
    """Find the slices whose accuracy is below that of all queries by more than chance.

    Parameters
    ----------
    groups : dict of {str: ndarray of shape (n,)}
        What each query is, by what it is called.
    is_right : ndarray of bool, of shape (n,)
        Whether each prediction is right.
    rows : ndarray of shape (n,)
        The row of each query.

    Returns
    -------
    slices : list of Slice
        At most ten, each of at least five queries, that with the lowest upper bound
        first.

    Notes
    -----
    Of hundreds of slices that are no worse, some have an interval of 95 % below the
    accuracy of all. So each has to be as bad as one in 40 would be by chance for all
    slices together (Bonferroni), by the binomial distribution: Wilson's bounds are too
    narrow for few queries and chances as small as that.
    """
    if not len(is_right):
        return []
    overall, found, n_slices = is_right.mean(), [], 0
    for kind, values in groups.items():
        uniques, codes = np.unique(values, return_inverse=True)
        n = np.bincount(codes)
        n_right = np.bincount(codes, is_right)
        low, high = wilson_interval(n_right, n)
        rates, chances = n_right / n, binom.cdf(n_right, n, overall)
        n_slices += np.count_nonzero(n >= _MIN_SLICE)
        found += [
            (
                chances[i],
                Slice(kind, uniques[i], rows[codes == i], rates[i], low[i], high[i]),
            )
            for i in np.flatnonzero((n >= _MIN_SLICE) & (chances < _LEVEL))
        ]
    worse = [part for chance, part in found if chance * n_slices < _LEVEL]
    return sorted(worse, key=lambda part: part.high)[:_MAX_SLICES]


def fifths(values):
    """Cut values into five parts of equally many: 0 to 4, the smallest first."""
    if not len(values):
        return np.zeros(0, int)
    ranks = rankdata(values, method="min") - 1
    return (5 * ranks // len(values)).astype(int)


def own_label_margins(clf, X, y):
    """Compare the score of the own label of training samples with that of others.

    Parameters
    ----------
    clf : ImprintClassifier
        Has learnt them.
    X : ndarray of shape (n, n_features)
        The training samples, in the order in which they were learnt.
    y : list of label
        Their labels.

    Returns
    -------
    found : Bunch
        ``margin`` of shape (n,): the score of the own label less the best other one;
        NaN for samples that cannot be judged. ``other``: the index of that class.
        ``method``: ``"leave_one_out"`` where scores are by the proxies as they would be
        without the sample, else ``"cross_validation"``.
    """
    scorer = clf._fitted.scorer
    classes = scorer.head.classes
    codes = codes_among(classes, y)
    (known,) = np.nonzero(codes >= 0)
    margin, other = np.full(len(codes), np.nan), np.zeros(len(codes), np.intp)
    if len(classes) == 1:
        return Bunch(margin=margin, other=codes, method=None)
    judge, method = _cross_validated, "cross_validation"
    if scorer.plan.can_leave_out:
        judge, method = _left_out, "leave_one_out"
    for some, scores in judge(clf, X[known], codes[known], classes):
        rows, everyone = known[some], np.arange(len(some))
        own = scores[everyone, codes[rows]]
        scores[everyone, codes[rows]] = -np.inf
        scores[np.isnan(scores)] = -np.inf
        other[rows] = scores.argmax(axis=1)
        margin[rows] = own - scores[everyone, other[rows]]
    return Bunch(margin=margin, other=other, method=method)


def _left_out(clf, X, codes, classes):
    """Score samples by the proxies as they would be without them, some at a time.

    Yields rows, and scores of shape (n_rows, n_classes); NaN for what is not judged.
    """
    scorer = clf._fitted.scorer
    order = np.argsort(codes, kind="stable")
    for part in blocks_of_rows(len(codes), max(1, _MAX_SCORES // len(classes))):
        some = order[part]
        rows = np.ascontiguousarray(X[some], dtype=scorer.head.dtype)
        rows = scorer.plan.support_norm(rows)
        yield some, scores_without(scorer, rows, codes[some])


def _cross_validated(clf, X, codes, classes):
    """Score samples by classifiers that learnt four fifths of the others.

    Yields the same as `_left_out`.
    """
    counts = np.bincount(codes, minlength=len(classes))
    (some,) = np.nonzero(counts[codes] >= 2)
    present = np.unique(codes[some])
    if len(present) < 2:
        return
    n_folds = int(min(_N_FOLDS, counts[present].min()))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    # By labels: what a head, a mapping of `n_proxies` or a rejection says is of these.
    for train, test in folds.split(X[some], codes[some]):
        learnt = clone(clf).fit(X[some[train]], classes[codes[some[train]]])
        columns = codes_among(classes, learnt.classes_.tolist())
        for part in blocks_of_rows(len(test), max(1, _MAX_SCORES // len(classes))):
            rows = some[test[part]]
            found = learnt.decision_function(X[rows])
            if found.ndim == 1:
                found = np.stack([-found, found], axis=1) / 2
            scores = np.full((len(rows), len(classes)), np.nan)
            scores[:, columns] = found
            yield rows, scores
