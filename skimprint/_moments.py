"""Sufficient statistics of classes: what is added, and taken away, without the samples.

The scatter of a class, the sum of the outer products of its centred samples, is kept
as a factor F with scatter = F^T F as long as F has fewer rows than columns, and as the
matrix from then on: never more than one copy of the samples.
"""

from copy import copy
from typing import NamedTuple

import numpy as np

# Rows whose outer products are summed in one matrix product.
_BLOCK_ROWS = 512

# Taking away from a sum keeps its rounding errors: what is left must not be less than
# this share of it.
_MIN_LEFT = 0.01

# Relative error of a mean: equal samples may be that far from it.
_ROUNDING = 16 * np.finfo(np.float64).eps


class Moments(NamedTuple):
    """Weighted moments of one class, about its mean.

    Attributes
    ----------
    weight : float
        Sum of the weights.
    mean : ndarray of shape (d,)
        Of dtype float64.
    factor : ndarray of shape (r, d) or None
        ``factor.T @ factor`` is the scatter, unless ``matrix`` is it.
    matrix : ndarray of shape (d, d) or None
        The scatter.
    variance : float
        The trace of the scatter.
    third : ndarray of shape (d,)
        Sum of ``w |r|^2 r`` over the residuals r.
    fourth : float
        Sum of ``w |r|^4``.
    """

    weight: float
    mean: np.ndarray
    factor: np.ndarray | None
    matrix: np.ndarray | None
    variance: float
    third: np.ndarray
    fourth: float

    def times(self, vector):
        """Product of the scatter and a vector."""
        if self.matrix is not None:
            return self.matrix @ vector
        return self.factor.T @ (self.factor @ vector)

    def joined(self, other):
        """Moments of the samples of two parts together; see `joined`."""
        return joined(self, other)


def moments_of(rows, weights=None):
    """Moments of the samples of one class.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        The samples.
    weights : ndarray of shape (n,), default=None
        Their weights; all 1 if `None`.

    Returns
    -------
    moments : Moments
        The scatter has the dtype of the rows.
    """
    weights = np.ones(len(rows)) if weights is None else weights.astype(np.float64)
    total = weights.sum()
    mean = weights @ rows.astype(np.float64, copy=False) / total
    residuals = rows - mean
    squares = np.einsum("ij,ij->i", residuals, residuals)
    factor = (residuals * np.sqrt(weights)[:, None]).astype(rows.dtype, copy=False)
    return Moments(
        total,
        mean,
        *_compact([factor], []),
        weights @ squares,
        (weights * squares) @ residuals,
        weights @ squares**2,
    )


def joined(first, second):
    """Moments of the samples of two parts together.

    Parameters
    ----------
    first, second : Moments
        Of the parts.

    Returns
    -------
    moments : Moments
        As if of all samples, but for rounding.
    """
    total = first.weight + second.weight
    between = second.mean - first.mean
    mean = first.mean + second.weight / total * between
    apart = np.sqrt(first.weight * second.weight / total)
    variance = third = fourth = 0.0
    for part in (first, second):
        # The residuals r about the part's mean become r + shift.
        shift = part.mean - mean
        square = shift @ shift
        turned = part.times(shift)
        variance += part.variance + part.weight * square
        third += (
            part.third
            + 2 * turned
            + (part.variance + part.weight * square) * shift
        )  # fmt: skip
        fourth += (
            part.fourth
            + 4 * (part.third + turned) @ shift
            + square * (2 * part.variance + part.weight * square)
        )
    parts = [part.factor for part in (first, second) if part.factor is not None]
    dtype = (first.factor if first.matrix is None else first.matrix).dtype
    scatter = _compact(
        [*parts, (apart * between)[None].astype(dtype)],
        [part.matrix for part in (first, second) if part.matrix is not None],
    )
    return Moments(total, mean, *scatter, variance, third, fourth)


def _compact(factors, matrices):
    """The sum of scatters as (factor, None) or as (None, matrix)."""
    n_rows, d = sum(map(len, factors)), factors[0].shape[1]
    if not matrices and n_rows < d:
        return np.concatenate(factors), None
    scatter = np.zeros((d, d))
    for matrix in matrices:
        scatter += matrix
    _add_products(scatter, factors)
    return None, scatter.astype(factors[0].dtype)


def _add_products(scatter, factors, sign=1):
    """Add the products F^T F to a float64 matrix, many rows at a time."""
    pending, n_pending = [], 0
    for i, factor in enumerate(factors):
        pending.append(factor)
        n_pending += len(factor)
        if n_pending >= _BLOCK_ROWS or i == len(factors) - 1:
            rows = np.concatenate(pending).astype(np.float64, copy=False)
            scatter += sign * (rows.T @ rows)
            pending, n_pending = [], 0


class PooledMoments:
    """Moments of all classes, to be asked for what the classes have in common.

    Parameters
    ----------
    moments : dict of {label: Moments}
        Of each class, in the order of the classes.
    previous : PooledMoments, default=None
        Of mostly the same classes: what has changed since is added and taken away,
        which spares the sum over all.

    Attributes
    ----------
    weights : ndarray of shape (n_classes,)
        Sum of the weights of each class.
    means : ndarray of shape (n_classes, d)
        Mean of each class.
    factor : ndarray of shape (r, d) or None
        ``factor.T @ factor`` is the within-class scatter; `None` if r is not less
        than d.
    variance : float
        The trace of the within-class scatter.
    fourth : float
        Sum of ``w |r|^4`` over all residuals.
    """

    def __init__(self, moments, previous=None):
        parts = list(moments.values())
        self.moments = moments
        self.weights = np.array([part.weight for part in parts])
        self.means = np.stack([part.mean for part in parts])
        self.variance = sum(part.variance for part in parts)
        self.fourth = sum(part.fourth for part in parts)
        self.factor = self._scatter = None
        d = self.means.shape[1]
        n_rows = [d if part.factor is None else len(part.factor) for part in parts]
        if sum(n_rows) < d:
            self.factor = np.concatenate([part.factor for part in parts])
        else:
            self._scatter = self._summed(previous)

    def _summed(self, previous):
        gone, new = [], list(self.moments.values())
        scatter = np.zeros(2 * self.means.shape[1:])
        if previous is not None and previous.factor is None:
            lost, changed = _differences(previous.moments, self.moments)
            left = previous.variance - sum(part.variance for part in lost)
            is_precise = left >= _MIN_LEFT * previous.variance
            if is_precise and len(lost) + len(changed) < len(new):
                scatter += previous.scatter
                gone, new = lost, changed
        for sign, parts in ((-1, gone), (1, new)):
            for part in parts:
                if part.matrix is not None:
                    scatter += sign * part.matrix
            factors = [part.factor for part in parts if part.factor is not None]
            _add_products(scatter, factors, sign)
        return scatter

    def whitened(self, whitening):
        """The weights, means and scatter that whitened samples have."""
        other = copy(self)
        other.means = whitening(self.means)
        if self.factor is not None:
            other.factor = whitening.turn(self.factor)
        else:
            other._scatter = whitening.turn(whitening.turn(self._scatter).T)
        return other

    @property
    def varies(self):
        """Whether samples differ from their class mean by more than rounding errors."""
        squares = self.weights @ np.einsum("ij,ij->i", self.means, self.means)
        return self.variance > (_ROUNDING**2) * squares

    @property
    def scatter(self):
        """Within-class scatter of all classes: (d, d), float64."""
        if self._scatter is None:
            rows = self.factor.astype(np.float64, copy=False)
            return rows.T @ rows
        return self._scatter


def _differences(before, now):
    """The values that only the first dict has, and those that only the second has."""
    gone = [old for label, old in before.items() if now.get(label) is not old]
    new = [value for label, value in now.items() if before.get(label) is not value]
    return gone, new
