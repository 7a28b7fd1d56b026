"""Leave-one-out scores of the support set, and what is fitted to them.

A support sample is scored as a query of which nothing is known: by the proxies as they
would be without it. A proxy that is the sample is left out; a mean of ``n`` samples
that it is among becomes the mean of the other ``n - 1``. A whitening is made anew
without it and a tenth of the others: see `Head.each_without`. Everything else stays.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from .._memory.learner import SAMPLE_SIZE

# Bounds for the support samples that are scored, and for their scores.
_MAX_ROWS = 10_000
_MAX_SCORES = 2**22

# What is left of a count below this share is rounding.
_NOTHING = 1e-6

# How much of the similarity to the second best class the contrast takes away: about
# what logistic regression finds to tell samples from samples whose class is left out.
_CONTRAST = 1 / 3


class HeldOut(NamedTuple):
    """Support samples, and what each one changes where it is left out.

    Attributes
    ----------
    rows : ndarray of shape (n, n_features)
        The samples, after the normalisation of the support.
    codes : ndarray of shape (n,)
        The class of each.
    weights : ndarray of shape (n,)
        The share of the support set that each stands for.
    weight : ndarray of shape (n,)
        The weight of each.
    own : ndarray of shape (n,)
        The proxy that changes; -1 for none.
    gone : ndarray of shape (n,)
        Whether that proxy vanishes.
    left : ndarray of shape (n, n_features)
        What is left of it, before the normalisation of proxies.
    shift : ndarray of shape (n,)
        The class mean moves by so much of its difference from the sample.
    """

    rows: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    weight: np.ndarray
    own: np.ndarray
    gone: np.ndarray
    left: np.ndarray
    shift: np.ndarray

    def keep(self, part):
        """Some of the samples."""
        return HeldOut(*(values[part] for values in self._asdict().values()))


def hold_out(parts, offsets, *, selects):
    """Take samples out of the proxies that they helped to form.

    Parameters
    ----------
    parts : list of ClassMemory
        What is remembered of each class.
    offsets : ndarray of shape (n_classes + 1,)
        Where the proxies of each class start.
    selects : bool
        Whether proxies are samples; else they are means of the samples nearest.

    Returns
    -------
    held_out : HeldOut or None
        Of at most 10,000 samples, equally many of each class where there are more.
        Samples of which their class has nothing left are not among them; `None` if
        there are no others.
    """
    n_classes = len(parts)
    budget = min(_MAX_ROWS, max(1, _MAX_SCORES // n_classes))
    n_each = min(max(1, budget // n_classes), SAMPLE_SIZE)
    found = []
    for code, part in enumerate(parts):
        if part.sample is None:
            continue  # a class of a head
        rows, weights = part.sample.rows[:n_each], part.sample.weights[:n_each]
        own, gone, left = _leave_each_out(part, rows, weights, selects=selects)
        usable = ~gone if len(part.vectors) == 1 else np.ones(len(rows), bool)
        if usable.any():
            share = weights * (part.weight / weights[usable].sum())
            own = np.where(own < 0, -1, own + offsets[code])
            rest = np.maximum(part.weight - weights, _NOTHING * part.weight)
            codes, shift = np.full(len(rows), code), weights / rest
            all_of_class = rows, codes, share, weights, own, gone, left, shift
            found.append([values[usable] for values in all_of_class])
    if not found:
        return None
    step = -(-len(found) // budget)  # of very many classes, only some
    return HeldOut(*map(np.concatenate, zip(*found[::step], strict=True)))


def _leave_each_out(part, rows, weights, *, selects):
    """The proxy that each sample of a class changes, if it vanishes, what is left."""
    vectors = part.vectors.astype(np.float64)
    rows = rows.astype(np.float64)
    if len(vectors) == 1:
        distances = np.square(rows - vectors).sum(axis=1, keepdims=True)
    else:
        distances = np.einsum("ij,ij->i", vectors, vectors) - 2 * rows @ vectors.T
    own = distances.argmin(axis=1)
    if selects:
        gone = (part.vectors[own] == rows).all(axis=1)
        return np.where(gone, own, -1), gone, rows
    counts = part.counts[own]
    rest = counts - weights
    gone = rest <= _NOTHING * counts
    rest = np.where(gone, 1, rest)[:, None]
    left = (counts[:, None] * vectors[own] - weights[:, None] * rows) / rest
    return own, gone, left


def familiarities(similarities, offsets, *, contrast, n_nearest):
    """How familiar each query is.

    Parameters
    ----------
    similarities : ndarray of shape (n_proxies, n_queries)
        Larger is closer.
    offsets : ndarray of shape (n_classes + 1,)
        Where the proxies of each class start.
    contrast : bool
        Whether a third of the similarity to the second best class is taken away from
        that to the best.
    n_nearest : int
        Of each class, the mean similarity of so many proxies counts, with contrast.

    Returns
    -------
    familiarities : ndarray of shape (n_queries,)
        Larger is more familiar.
    """
    if not contrast:
        return similarities.max(axis=0)
    by_class = np.stack(
        [
            _mean_of_largest(similarities[start:stop], n_nearest)
            for start, stop in pairwise(offsets)
        ]
    )
    if len(by_class) == 1:
        return by_class[0]
    second, first = np.partition(by_class, [-2, -1], axis=0)[-2:]
    return first - _CONTRAST * second


def _mean_of_largest(values, n):
    """Mean of the n largest finite values of each column."""
    if len(values) > n:
        values = np.partition(values, len(values) - n, axis=0)[-n:]
    there = np.isfinite(values)
    n_there = there.sum(axis=0)
    sums = np.where(there, values, 0).sum(axis=0)
    return np.where(n_there, sums / np.maximum(n_there, 1), -np.inf)


def fit_temperature(scores, codes, weights):
    """The temperature that makes the classes most likely.

    The likelihood is convex in the inverse of the temperature, so that it has one
    maximum, as in Guo et al. [1]_.

    Parameters
    ----------
    scores : ndarray of shape (n, n_classes)
        Scores of samples that have been left out.
    codes : ndarray of shape (n,)
        Their classes.
    weights : ndarray of shape (n,)
        Their weights.

    Returns
    -------
    temperature : float
        Within a millionth and a million times the mean lead of the best class.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern
       Neural Networks", ICML 2017.
    """
    scores = scores - scores.max(axis=1, keepdims=True)
    scale = -scores.mean(dtype=np.float64)
    if not (np.isfinite(scale) and scale > 0):
        return 1.0  # all classes alike
    scores = (scores / scale).astype(np.float64)
    of_class = scores[np.arange(len(codes)), codes]

    def loss(log_inverse):
        inverse = np.exp(log_inverse)
        return weights @ (logsumexp(inverse * scores, axis=1) - inverse * of_class)

    bound = np.log(1e6)
    best = minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    return float(scale / np.exp(best.x))


class Calibration(NamedTuple):
    """What leaving samples out has shown.

    Attributes
    ----------
    settings : tuple
        What it holds for.
    temperature : float
        Makes the classes of samples that were left out most likely.
    familiarities, weights : ndarray of shape (n,)
        Of samples that were left out.
    """

    settings: tuple
    temperature: float
    familiarities: np.ndarray
    weights: np.ndarray

    def threshold(self, contamination):
        """Below which the given share of the samples lies: float."""
        if not len(self.familiarities):
            return -np.inf
        return float(
            np.quantile(
                self.familiarities,
                contamination,
                weights=self.weights,
                method="inverted_cdf",
            )
        )
