"""Sufficient statistics of classes: add and take away classes without their samples.

The scatter of a class, the sum of the outer products of its centred samples, is
symmetric: of many samples its upper triangle is kept. Few samples are kept as they are:
their scatter follows from them. So a class of n samples of d features takes no more
than the smaller of n and (d + 1) / 2 rows. Where that is too much, only the sum of all
scatters is kept: classes can be added then, but not taken away.
"""

from copy import copy
from itertools import repeat
from typing import NamedTuple

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from .._arrays.groups import blocks_of_rows, offsets_of, row_keys
from .._arrays.threads import cached_property
from .._memory.columns import Ragged, Samples, take
from ..cluster._kmeans.sums import cluster_sums
from .whitening import is_apart, rounding_of

# Rows of a class whose outer products are summed in one matrix product.
_BLOCK_ROWS = 2048

# Columns of a triangle that are mirrored together: in 3.8 ms for 6.0 all at once, of
# 1,024 features.
_N_MIRRORED = 128

# Taking away from a sum keeps its rounding errors: what is left must not be less than
# this share of the largest that it was.
_MIN_LEFT = 0.1


class Moments(NamedTuple):
    """Weighted moments of one class, about its mean.

    Attributes
    ----------
    weight : float
        Sum of the weights.
    mean : ndarray of shape (d,)
        Of dtype float64.
    variance : float
        The trace of the scatter.
    third : ndarray of shape (d,) or None
        Sum of ``w |r|^2 r`` over the residuals r.
    fourth : float or None
        Sum of ``w |r|^4``. `None` if the scatter is part of a sum alone.
    triangle : ndarray of shape (d * (d + 1) / 2,) or None
        Upper triangle of the scatter, one column after the other, if there are no rows.
    rows, row_weights : ndarray of shape (n, d) and (n,), or None
        The samples and their weights, if they take less memory than the triangle.
    """

    weight: float
    mean: np.ndarray
    variance: float
    third: np.ndarray | None = None
    fourth: float | None = None
    triangle: np.ndarray | None = None
    rows: np.ndarray | None = None
    row_weights: np.ndarray | None = None

    @property
    def scatter_triangle(self):
        """Of the scatter, in float64; rows are multiplied in their own precision."""
        if self.rows is None:
            return self.triangle.astype(np.float64, copy=False)
        residuals = (self.rows - self.mean) * np.sqrt(self.row_weights)[:, None]
        products = _triangle_of_products(residuals.astype(self.rows.dtype, copy=False))
        return products.astype(np.float64, copy=False)


def moments_of(rows, weights=None, order=2):
    """Compute the moments of the samples of one class.

    Parameters
    ----------
    rows : ndarray or LateRows, of shape (n, d)
        The samples; few are kept, so let them be an array, sorted by their keys.
    weights : ndarray of shape (n,), default=None
        Their weights; all 1 if `None`.
    order : {1, 2}, default=2
        1 for weight, mean and variance alone.

    Returns
    -------
    moments : Moments
        The triangle has the dtype of the rows.
    """
    n, d = rows.shape
    weights = np.ones(n) if weights is None else weights.astype(np.float64, copy=False)
    if are_few(n, d):
        zeros = np.zeros(n, int)
        samples = Ragged(Samples(rows, weights, zeros, zeros), np.array([0, n]))
        return MomentColumns.of_few(samples).one(0, samples)
    total = weights.sum()
    blocks = blocks_of_rows(n, _BLOCK_ROWS)
    mean = sum(weights[b] @ rows[b].astype(np.float64, copy=False) for b in blocks)
    mean /= total
    triangle = np.zeros(d * (d + 1) // 2)
    variance, third, fourth = 0.0, np.zeros(d), 0.0
    for block in blocks:
        residuals = rows[block] - mean.astype(rows.dtype, copy=False)
        of_these = weights[block]
        # The head refuses proxies that are too large.
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", residuals, residuals).astype(np.float64)
            variance += of_these @ squares
            if order == 1:
                continue
            # Of float32, cubes would be infinite from 1e13 on.
            most = squares.max() or 1.0
            third += most * ((of_these * squares / most).astype(rows.dtype) @ residuals)
            fourth += of_these @ squares**2
            residuals *= np.sqrt(of_these).astype(rows.dtype)[:, None]
            triangle += _triangle_of_products(residuals)
    if order == 1:
        return Moments(total, mean, variance)
    triangle = triangle.astype(rows.dtype, copy=False)
    return Moments(total, mean, variance, third, fourth, triangle)


def joined_moments(first, second):
    r"""Join the moments of two parts that have not both kept their samples.

    Parameters
    ----------
    first, second : Moments
        Of the parts.

    Returns
    -------
    moments : Moments
        As if of all samples, up to rounding.

    Notes
    -----
    About the mean of all, the residual :math:`r` of a sample from the mean of its part
    becomes :math:`r + s`, with the shift :math:`s` of that mean. Sums over a part of
    weight :math:`w` and scatter :math:`S`, whose residuals sum to zero, become

    .. math::

        \sum |r + s|^2 &= v + w |s|^2, \\
        \sum |r + s|^2 (r + s) &= t + 2 S s + (v + w |s|^2) s, \\
        \sum |r + s|^4 &= f + 4 (t + S s) \cdot s + |s|^2 (2 v + w |s|^2),

    with its variance :math:`v`, third moment :math:`t` and fourth moment :math:`f`.
    """
    total = first.weight + second.weight
    between = second.mean - first.mean
    mean = first.mean + second.weight / total * between
    times, add_square = get_blas_funcs(("spmv", "spr"), dtype=np.float64)
    triangle = variance = third = fourth = 0.0
    for part in (first, second):
        # The residuals r about the part's mean become r + shift.
        shift = part.mean - mean
        square = shift @ shift
        scatter = part.scatter_triangle
        turned = times(len(mean), 1.0, scatter, shift)  # S s
        moved = part.variance + part.weight * square
        variance += moved
        third += part.third + 2 * turned + moved * shift
        fourth += (
            part.fourth
            + 4 * (part.third + turned) @ shift
            + square * (2 * part.variance + part.weight * square)
        )
        triangle += scatter
    apart = first.weight * second.weight / total
    triangle = add_square(len(mean), apart, between, triangle, overwrite_ap=True)
    dtype = (second if first.triangle is None else first).triangle.dtype
    triangle = triangle.astype(dtype, copy=False)
    return Moments(total, mean, variance, third, fourth, triangle)


def are_few(n, d):
    """Tell whether n rows of d values take less memory than a triangle of d columns."""
    return 2 * n < d + 1


def _triangle_of_products(rows):
    """Compute the upper triangle of ``rows.T @ rows``, column by column."""
    rows = np.ascontiguousarray(rows)
    # NumPy computes one half, too, and lets other threads go on, unlike SciPy's syrk.
    with np.errstate(over="ignore", invalid="ignore"):
        return _triangle((rows.T @ rows).T)


def _triangle(matrix):
    """Take the upper triangle of a matrix, one column after the other."""
    pack = get_lapack_funcs("trttp", dtype=matrix.dtype)
    return pack(matrix, uplo="U")[0]


def _symmetric(triangle, d):
    """Make the symmetric matrix of an upper triangle."""
    unpack = get_lapack_funcs("tpttr", dtype=triangle.dtype)
    matrix = unpack(d, triangle, uplo="U")[0]  # zero below the diagonal
    # Some columns at a time, of which the cache holds both halves.
    for start in range(0, d, _N_MIRRORED):
        stop = start + _N_MIRRORED
        matrix[stop:, start:stop] = matrix[start:stop, stop:].T
        square = matrix[start:stop, start:stop]
        square += np.triu(square, 1).T
    return matrix.T


class MomentColumns(NamedTuple):
    """Moments of classes, in columns: in the order of `Moments`.

    Attributes
    ----------
    weights, variances : ndarray of shape (n_classes,)
        As in `Moments`; the weight is 0 for a class of a head.
    means : ndarray of shape (n_classes, d)
        As in `Moments`; the mean is the row for a class of a head.
    thirds : ndarray of shape (n_classes, d) or None
        As in `Moments`.
    fourths : ndarray of shape (n_classes,) or None
        As in `Moments`.
    triangles : Ragged of Triangles or None
        One for each class, or none where the samples are kept. `None` if the scatters
        are part of a sum alone.
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    thirds: np.ndarray | None = None
    fourths: np.ndarray | None = None
    triangles: Ragged | None = None

    @classmethod
    def of(cls, moments, dtype):
        """Make columns of the moments of each class."""
        fields = list(zip(*moments, strict=True))
        if moments[0].third is None:
            return cls(*map(np.stack, fields[:3]))
        triangles = [m.triangle for m in moments if m.triangle is not None]
        d = len(moments[0].mean)
        stacked = np.array(triangles, dtype).reshape(len(triangles), d * (d + 1) // 2)
        offsets = offsets_of([m.triangle is not None for m in moments])
        return cls(*map(np.stack, fields[:5]), Ragged(Triangles(stacked), offsets))

    @classmethod
    def of_few(cls, samples, pool=None):
        """Compute the moments of classes from their samples, side by side.

        Parameters
        ----------
        samples : Ragged of Samples
            All samples of each class. They are kept, or their scatters are in a sum.
        pool : Pool, default=None
            The sum that the scatters are added to, if they are not kept.

        Returns
        -------
        columns : MomentColumns
            Those of a class depend on its samples alone, to the bit.
        """
        rows, weights, *_ = samples.values
        starts, d = samples.offsets[:-1], rows.shape[1]
        codes = samples.codes.astype(np.int32)

        def summed(X, weights):
            return cluster_sums(X, [codes], [weights], len(starts))

        totals = np.add.reduceat(weights, starts)
        residuals = rows.astype(np.float64)
        means = summed(residuals, weights) / totals[:, None]
        residuals -= means[codes]
        # The head refuses proxies that are too large.
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", residuals, residuals)
            variances = np.add.reduceat(weights * squares, starts)
            if pool is not None:
                residuals *= np.sqrt(weights)[:, None]
                pool.add(residuals.astype(rows.dtype, copy=False))
                return cls(totals, means, variances)
            return cls(
                totals,
                means,
                variances,
                summed(residuals, weights * squares),
                np.add.reduceat(weights * squares**2, starts),
                _no_triangles(len(starts), d, rows.dtype),
            )

    def up_to(self, order):
        """Keep what is needed of moments up to an order, as `Needs` have it."""
        if order == 1:
            return self._replace(thirds=None, fourths=None, triangles=None)
        return self if order else None

    @classmethod
    def of_head(cls, rows):
        """Make columns of classes of a head, which have no samples of their own."""
        n, d = rows.shape
        zeros, means = np.zeros(n), rows.astype(np.float64)
        none = _no_triangles(n, d, rows.dtype)
        return cls(zeros, means, zeros, np.zeros((n, d)), zeros, none)

    def one(self, place, samples):
        """Take the moments of one class, and its samples where they are kept for it."""
        if self.triangles is None:
            return Moments(*(column[place] for column in self[:3]))
        found = Moments(*(column[place] for column in self[:5]))
        start, stop = self.triangles.offsets[place : place + 2]
        if stop > start:
            return found._replace(triangle=self.triangles.values.triangle[start])
        rows, weights, *_ = samples.one(place)
        return found._replace(rows=rows, row_weights=weights)


class Triangles(NamedTuple):
    """Upper triangles of scatters, of shape (n, d * (d + 1) / 2)."""

    triangle: np.ndarray


def _no_triangles(n, d, dtype):
    """Make a column of classes none of which has a triangle."""
    return Ragged(
        Triangles(np.empty((0, d * (d + 1) // 2), dtype)), np.zeros(n + 1, np.intp)
    )


class Pool:
    """Sum the scatters of classes that are not kept one by one.

    Parameters
    ----------
    triangle : ndarray of shape (d * (d + 1) / 2,), default=None
        The upper triangle of the sum so far, of dtype float64; it is not changed. With
        `None`, no scatter is needed, and none is added.
    """

    def __init__(self, triangle=None):
        self.triangle = None if triangle is None else triangle.copy()

    @classmethod
    def empty(cls, d):
        """Start a sum of scatters of d features."""
        return cls(np.zeros(d * (d + 1) // 2))

    def like(self):
        """Start a sum of the same kind."""
        return Pool(None if self.triangle is None else np.zeros_like(self.triangle))

    def join(self, other):
        """Add what another sum has."""
        if self.triangle is not None:
            self.triangle += other.triangle

    def add(self, factor):
        """Add ``factor.T @ factor``, products in the precision of the rows."""
        if self.triangle is None:
            return
        for block in blocks_of_rows(len(factor), _BLOCK_ROWS):
            self.triangle += _triangle_of_products(factor[block])

    def absorb(self, moments):
        """Add the scatter of a class, and leave it away from its moments."""
        if moments.third is not None and self.triangle is not None:
            self.triangle += moments.scatter_triangle
        return Moments(moments.weight, moments.mean, moments.variance)

    def absorb_columns(self, columns, samples):
        """Add the scatters of classes, and leave them away from their moments.

        Parameters
        ----------
        columns : MomentColumns
            Of the classes.
        samples : Ragged of Samples
            All samples of those that have no triangle.

        Returns
        -------
        columns : MomentColumns
        """
        for triangle in columns.triangles.values.triangle:
            self.triangle += triangle
        self.add(_factor_in(columns, samples, samples.values.rows.dtype))
        return columns.up_to(1)

    def join_means(self, first, second):
        """Join the moments of two parts of each class, whose scatters are in the sum.

        What is missing there are the scatters of the two means.

        Parameters
        ----------
        first, second : MomentColumns
            Of the parts. A class of a head has no weight in the first.

        Returns
        -------
        columns : MomentColumns
            Of the classes.
        """
        totals = first.weights + second.weights
        shares = second.weights / totals
        between = second.means - first.means
        means = first.means + shares[:, None] * between
        means[shares == 1] = second.means[shares == 1]
        between *= np.sqrt(first.weights * shares)[:, None]
        self.add(between)
        apart = np.einsum("ij,ij->i", between, between)
        variances = first.variances + second.variances + apart
        return MomentColumns(totals, means, variances)


class CommonMoments:
    """Moments of all classes, to be asked for what the classes have in common.

    Parameters
    ----------
    state : State
        Knows moments of some classes. Those of a head have none.
    previous : CommonMoments, default=None
        Of mostly the same classes: what has changed since is added and taken away,
        which spares the sum over all.

    Attributes
    ----------
    factor : ndarray of shape (r, d) or None
        ``factor.T @ factor`` is the within-class scatter; `None` if r is not less
        than d.
    variance : float
        The trace of the within-class scatter.
    """

    def __init__(self, state, previous=None):
        self._state, d = state, state.n_features
        # The largest sum since all were summed: its rounding errors are still there.
        self.variance = self._largest = sum(
            block.moments.variances.sum() for block in state.blocks
        )
        self.factor = self._triangle = None
        if state.pooled is not None:
            self._triangle = state.pooled
        elif sum(_n_rows(block, d) for block in state.blocks) < d:
            # In the order of the classes: blocks make no difference to the bits.
            columns = state.column(lambda block: (block.moments, block.samples))
            factor = _factor_in(*columns, np.float64)
            self.factor = _without_sums(factor, columns[1])
        else:
            self._triangle = self._summed(previous)

    def _summed(self, previous):
        """Sum the scatters of all classes, or those that have changed since."""
        blocks = self._state.blocks
        if previous is not None and previous.factor is None:
            lost, changed = _differences(previous._state.blocks, blocks)
            left = previous.variance - sum(one.variance for one in lost)
            is_precise = left >= _MIN_LEFT * previous._largest
            n_classes = sum(np.count_nonzero(b.moments.weights) for b in blocks)
            if is_precise and len(lost) + len(changed) < n_classes:
                triangle = previous._triangle.copy()
                triangle -= sum(one.scatter_triangle for one in lost)
                triangle += sum(one.scatter_triangle for one in changed)
                self._largest = max(self.variance, previous._largest)
                return triangle
        pool = Pool.empty(self._state.n_features)
        for block in blocks:
            pool.absorb_columns(block.moments, block.samples)
        return pool.triangle

    @cached_property
    def columns(self):
        """Moments of the classes that have any, but for their scatters."""
        moments = self._state.column(
            lambda block: block.moments._replace(triangles=None, thirds=None)
        )
        return take(moments, moments.weights > 0)

    def whitened(self, whitening):
        """Whiten the means and the scatter; the weights stay."""
        other = copy(self)
        means = self.columns.means
        means_apart = is_apart(means, whitening.origin, self._state.dtype)
        means = np.where(means_apart[:, None], whitening(means), 0)
        other.columns = self.columns._replace(means=means)
        if self.factor is not None:
            other.factor = whitening.apply(self.factor) * self.varies
        else:
            scatter = whitening.apply(whitening.apply(self.scatter).T)
            other._triangle = _triangle(scatter) * self.varies
        return other

    @property
    def varies(self):
        """Whether samples differ from their class mean by more than rounding errors."""
        columns = [block.moments for block in self._state.blocks]
        squares = sum(
            c.weights @ np.einsum("ij,ij->i", c.means, c.means) for c in columns
        )
        return self.variance > rounding_of(self._state.dtype) * squares

    @property
    def between(self):
        """Class means about their mean; no rows where they are the same: float64."""
        means = self.columns.means
        rows, squares = means - means.mean(axis=0), np.vdot(means, means)
        differ = np.vdot(rows, rows) > rounding_of(self._state.dtype) * squares
        return rows if differ else rows[:0]

    @property
    def scatter(self):
        """Within-class scatter of all classes: (d, d), float64."""
        if self._triangle is None:
            return self.factor.T @ self.factor
        return _symmetric(self._triangle, self._state.n_features)


def _n_rows(block, d):
    """Count the rows whose products make the scatters of the classes of a block."""
    has_none = np.diff(block.moments.triangles.offsets) == 0
    return d * np.count_nonzero(~has_none) + block.samples.sizes[has_none].sum()


def _factor_in(columns, samples, dtype):
    """Find rows whose products make the scatters of those classes that have no other.

    They have a dtype: that of the samples for a sum, and float64 where the rows
    themselves are decomposed. Those of a head have no samples.
    """
    few = np.flatnonzero(np.diff(columns.triangles.offsets) == 0)
    if len(few) < len(samples):
        samples = samples.take(few)
    rows, weights, *_ = samples.values
    factor = rows - columns.means.astype(dtype, copy=False)[few[samples.codes]]
    factor *= np.sqrt(weights)[:, None]
    return factor


def _without_sums(factor, samples):
    r"""Make a row less of each class that have the same products.

    Parameters
    ----------
    factor : ndarray of shape (n, d)
        Residuals of each class from its mean, times the roots of their weights.
    samples : Ragged of Samples
        What they are of. Classes of a head have none.

    Returns
    -------
    factor : ndarray of shape (n - n_classes, d)
        ``factor.T @ factor`` is the same.

    Notes
    -----
    For the rows :math:`F` of a class and the roots :math:`u` of its weights, scaled to
    unit length, :math:`u^T F = 0`. The reflection :math:`H = I - v v^T / (1 + u_1)`
    with :math:`v = u + e_1` (Householder) keeps products, and of :math:`v^T F = F_1`
    it leaves

    .. math::

        (H F)_1 = F_1 - F_1 = 0, \quad (H F)_j = F_j - \frac{u_j}{1 + u_1} F_1 .
    """
    roots, codes = np.sqrt(samples.values.weights), samples.codes
    roots /= np.sqrt(np.bincount(codes, roots**2))[codes]
    first = samples.offsets[codes]
    shares = roots / (1 + roots[first])
    (others,) = np.nonzero(first != np.arange(len(first)))
    first = first[others]
    return factor[others] - shares[others, None] * factor[first]


def _differences(before, now):
    """List the moments that only the first blocks have, and those only the second have.

    Blocks that have stayed are left out, so that the number of classes does not matter.
    Where blocks were joined, classes have other places, and the same moments.
    """
    stayed = {id(b.moments) for b in before} & {id(b.moments) for b in now}
    places = [
        _by_content(block for block in blocks if id(block.moments) not in stayed)
        for blocks in (before, now)
    ]
    return [
        [
            block.moments.one(place, block.samples)
            for block, place in (own[key] for key in sorted(own.keys() - others.keys()))
        ]
        for own, others in (places, places[::-1])
    ]


def _by_content(blocks):
    """Find classes that have moments by their labels and hashes of their scatters."""
    found = {}
    for block in blocks:
        samples, triangles = block.samples, block.moments.triangles
        hashes = np.zeros(len(block.labels), np.uint64)
        _, weights, keys, _ = samples.values
        np.add.at(hashes, samples.codes, keys ^ weights.view(np.uint64))
        keys = row_keys(triangles.values.triangle, seed=0)
        np.add.at(hashes, triangles.codes, keys)
        places = np.flatnonzero(block.moments.weights)  # 0 for a class of a head
        keys = zip(block.labels[places], hashes[places].tolist(), strict=True)
        found |= zip(keys, zip(repeat(block), places), strict=False)
    return found
