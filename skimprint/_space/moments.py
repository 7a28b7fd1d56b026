"""Sufficient statistics of classes: what is added, and taken away, without the samples.

The scatter of a class, the sum of the outer products of its centred samples, is
symmetric: of many samples its upper triangle is kept. Few samples are kept as they are:
their scatter follows from them. So a class of n samples of d features takes no more
than the smaller of n and (d + 1) / 2 rows.
"""

from copy import copy
from typing import NamedTuple

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from .._arrays.groups import row_keys

# Rows whose outer products are summed in one matrix product.
_BLOCK_ROWS = 512

# Taking away from a sum keeps its rounding errors: what is left must not be less than
# this share of it.
_MIN_LEFT = 0.01

# Squared relative error of a mean: equal samples may be that far from it.
_ROUNDING = 1e-24


class Moments(NamedTuple):
    """Weighted moments of one class, about its mean.

    Attributes
    ----------
    weight : float
        Sum of the weights.
    mean : ndarray of shape (d,)
        Of dtype float64.
    rows : ndarray of shape (n, d) or None
        The samples, if they take less memory than the triangle, sorted by their keys.
    row_weights : ndarray of shape (n,) or None
        Their weights.
    triangle : ndarray of shape (d * (d + 1) / 2,) or None
        Upper triangle of the scatter, one column after the other, if there are no rows.
    variance : float
        The trace of the scatter.
    third : ndarray of shape (d,)
        Sum of ``w |r|^2 r`` over the residuals r.
    fourth : float
        Sum of ``w |r|^4``.
    """

    weight: float
    mean: np.ndarray
    rows: np.ndarray | None
    row_weights: np.ndarray | None
    triangle: np.ndarray | None
    variance: float
    third: np.ndarray
    fourth: float

    @property
    def factor(self):
        """``factor.T @ factor`` is the scatter: (n, d) of float64, or None."""
        if self.rows is None:
            return None
        return (self.rows - self.mean) * np.sqrt(self.row_weights)[:, None]

    def times(self, vector):
        """Product of the scatter and a vector."""
        if self.rows is not None:
            factor = self.factor
            return factor.T @ (factor @ vector)
        triangle = self.triangle.astype(np.float64, copy=False)
        multiply = get_blas_funcs("spmv", dtype=np.float64)
        return multiply(len(vector), 1.0, triangle, vector)

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
        The triangle has the dtype of the rows.
    """
    n, d = rows.shape
    weights = np.ones(n) if weights is None else weights.astype(np.float64, copy=False)
    is_few = _is_less(n, d)
    if is_few:  # as in a sample, whatever order they come in
        order = np.argsort(row_keys(rows, seed=0), kind="stable")
        rows, weights = rows[order], weights[order]
    total = weights.sum()
    blocks = [slice(i, i + _BLOCK_ROWS) for i in range(0, n, _BLOCK_ROWS)]
    mean = sum(weights[b] @ rows[b].astype(np.float64, copy=False) for b in blocks)
    mean /= total
    triangle = None if is_few else np.zeros(d * (d + 1) // 2)
    variance, third, fourth = 0.0, np.zeros(d), 0.0
    for block in blocks:
        residuals = rows[block] - mean.astype(rows.dtype, copy=False)
        of_these = weights[block]
        squares = np.einsum("ij,ij->i", residuals, residuals).astype(np.float64)
        variance += of_these @ squares
        third += (of_these * squares).astype(rows.dtype) @ residuals
        fourth += of_these @ squares**2
        if not is_few:
            residuals *= np.sqrt(of_these).astype(rows.dtype)[:, None]
            triangle += _triangle_of_products(residuals)
    if is_few:
        return Moments(total, mean, rows, weights, None, variance, third, fourth)
    triangle = triangle.astype(rows.dtype, copy=False)
    return Moments(total, mean, None, None, triangle, variance, third, fourth)


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
    if first.rows is not None and second.rows is not None:
        return moments_of(
            np.concatenate([first.rows, second.rows]),
            np.concatenate([first.row_weights, second.row_weights]),
        )
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
    triangle = np.zeros(len(mean) * (len(mean) + 1) // 2)
    _add_scatters(triangle, [first, second])
    triangle += _triangle_of_products(apart * between[None])
    dtype = (second if first.triangle is None else first).triangle.dtype
    triangle = triangle.astype(dtype, copy=False)
    return Moments(total, mean, None, None, triangle, variance, third, fourth)


def _is_less(n, d):
    """Whether n rows of d values take less memory than a triangle of d columns."""
    return 2 * n < d + 1


def _triangle_of_products(rows):
    """Upper triangle of ``rows.T @ rows``, one column after the other."""
    multiply = get_blas_funcs("syrk", dtype=rows.dtype)
    return _triangle(multiply(1.0, np.ascontiguousarray(rows).T))


def _triangle(matrix):
    """Upper triangle of a matrix, one column after the other."""
    pack = get_lapack_funcs("trttp", dtype=matrix.dtype)
    return pack(matrix, uplo="U")[0]


def _symmetric(triangle, d):
    """The symmetric matrix of an upper triangle."""
    unpack = get_lapack_funcs("tpttr", dtype=triangle.dtype)
    matrix = np.triu(unpack(d, triangle, uplo="U")[0])
    matrix += np.triu(matrix, 1).T
    return matrix


def _add_scatters(triangle, parts, sign=1):
    """Add the scatters of moments to a float64 triangle, many rows at a time."""
    pending, n_pending = [], 0
    for part in parts:
        if part.rows is None:
            triangle += sign * part.triangle
            continue
        pending.append(part.factor)
        n_pending += len(part.rows)
        if n_pending >= _BLOCK_ROWS:
            triangle += sign * _triangle_of_products(np.concatenate(pending))
            pending, n_pending = [], 0
    if pending:
        triangle += sign * _triangle_of_products(np.concatenate(pending))


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
        self.factor = self._triangle = None
        d = self.means.shape[1]
        n_rows = [d if part.rows is None else len(part.rows) for part in parts]
        if sum(n_rows) < d:
            self.factor = np.concatenate([part.factor for part in parts])
        else:
            self._triangle = self._summed(previous)

    def _summed(self, previous):
        gone, new = [], list(self.moments.values())
        d = self.means.shape[1]
        triangle = np.zeros(d * (d + 1) // 2)
        if previous is not None and previous.factor is None:
            lost, changed = _differences(previous.moments, self.moments)
            left = previous.variance - sum(part.variance for part in lost)
            is_precise = left >= _MIN_LEFT * previous.variance
            if is_precise and len(lost) + len(changed) < len(new):
                triangle += previous._triangle
                gone, new = lost, changed
        _add_scatters(triangle, gone, sign=-1)
        _add_scatters(triangle, new)
        return triangle

    def whitened(self, whitening):
        """The weights, means and scatter that whitened samples have."""
        other = copy(self)
        other.means = whitening(self.means)
        if self.factor is not None:
            other.factor = whitening.turn(self.factor)
        else:
            scatter = whitening.turn(whitening.turn(self.scatter).T)
            other._triangle = _triangle(scatter)
        return other

    @property
    def varies(self):
        """Whether samples differ from their class mean by more than rounding errors."""
        squares = self.weights @ np.einsum("ij,ij->i", self.means, self.means)
        return self.variance > _ROUNDING * squares

    @property
    def scatter(self):
        """Within-class scatter of all classes: (d, d), float64."""
        if self._triangle is None:
            return self.factor.T @ self.factor
        return _symmetric(self._triangle, self.means.shape[1])


def _differences(before, now):
    """The values that only the first dict has, and those that only the second has."""
    gone = [old for label, old in before.items() if now.get(label) is not old]
    new = [value for label, value in now.items() if before.get(label) is not value]
    return gone, new
