"""k-means of one group that is too large for its inner products.

The group runs to convergence while it sits in the cache. A row is compared with the
centres again only where a lower bound on its distance to some other centre says so,
and the sums of the clusters change by the rows that change cluster.
"""

from typing import NamedTuple

import numpy as np

from .._blas import dot_transposed
from .empty import refill
from .seeding import seed_rows
from .sums import cluster_sums

# Relative to lengths of rows, what rounding may add up to in bounds.
_SLACK = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-11}

# Share of rows to compare again from which on it is cheaper to compare all.
_MOST = 0.75

# Rows that are compared again are gathered into a block that stays in the L2 cache.
_BLOCK_BYTES = 2**20

# The space in which products are known: the most axes it has, and the least square
# of an axis, relative to the first, below which rounding would spoil it.
_MAX_AXES = 64
_MIN_SCALE = 1e-3

# What rounding may do to the length of a vector in that space.
_ROUNDED = 1e-4

# Inertia relative to the scatter of a group below which it is no difference of sums.
_CANCELLED = 1e-3


class LloydResult(NamedTuple):
    """Clusters of one group."""

    centers: np.ndarray  # (k, d)
    labels: np.ndarray  # (n,)
    inertia: float
    n_iter: int


def lloyd_kmeans(
    X, weights, n_clusters, rng, *, n_init, max_iter, tol, spherical, samples=None
):
    """Cluster the rows of one group.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        C-contiguous rows; centred unless spherical.
    weights : ndarray of shape (n,)
        Positive weights of the rows, of the dtype of ``X``.
    n_clusters : int
        Number of clusters, less than n.
    rng : numpy.random.Generator
        Source of the seeds.
    n_init : int
        Number of runs; the best is kept.
    max_iter : int
        Bound for the iterations of a run.
    tol : float
        Squared shift of all centres at which a run has converged, relative to the
        variance of the rows, summed over features.
    spherical : bool
        Whether centres are scaled to unit length.
    samples : dict, default=None
        As for `seed_rows`.

    Returns
    -------
    result : LloydResult
        The best run.
    """
    sq_norms = np.einsum("ij,ij->i", X, X)
    variance = sq_norms.mean()
    if spherical:
        variance -= np.square(X.mean(axis=0)).sum()
    tol = tol * variance
    best = None
    for _ in range(n_init):
        seeds, distances = seed_rows(X, sq_norms, weights, n_clusters, rng, samples)
        run = _lloyd(
            X, sq_norms, weights, X[seeds], distances, max_iter, tol, spherical
        )
        if best is None or run.inertia < best.inertia:
            best = run
    return best


def _lloyd(X, sq_norms, weights, seeds, distances, max_iter, tol, spherical):
    """Iterate from seeds, given the squared distances of all rows to them."""
    k = len(seeds)
    labels = distances.argmin(axis=0).astype(np.int32)
    _refill(X, sq_norms, labels, seeds)
    # What rows add to the sums later is little: in float64 it does not build up errors.
    sums = cluster_sums(X, [labels], [weights], k).astype(np.float64)
    centers, sizes = _scale(sums, labels, weights, X.dtype, spherical)
    shift = np.square(centers - seeds).sum(dtype=np.float64)
    bounds = _Bounds(X, sq_norms, seeds, distances)
    for iteration in range(1, max_iter + 1):
        last = shift <= tol or iteration == max_iter
        nearest = bounds.assign(labels, centers, sizes)
        if not last:
            moved = _refill(X, sq_norms, nearest, centers)
            bounds.forget(moved, nearest[moved])
        changed = np.flatnonzero(nearest != labels)
        if not len(changed):
            iteration = min(iteration + 1, max_iter)
            break
        w = weights[changed]
        moves = labels[changed], nearest[changed]
        sums += cluster_sums(X, moves, [-w, w], k, changed)
        labels = nearest
        if last:
            break
        previous = centers
        centers, sizes = _scale(sums, labels, weights, X.dtype, spherical)
        shift = bounds.drift(labels, previous, centers)
    inertia = _inertia(X, sq_norms, weights, labels, sums, centers)
    centers[sizes == 0] = centers[np.argmax(sizes)]
    return LloydResult(centers, labels, inertia, iteration)


def _inertia(X, sq_norms, weights, labels, sums, centers):
    """Weighted squared distances of rows to their centres, given the clusters' sums."""
    sizes = np.bincount(labels, weights, minlength=len(centers))
    centers = centers.astype(np.float64)
    scatter = np.dot(sq_norms.astype(np.float64), weights)
    inertia = scatter - 2 * np.einsum("ij,ij->", centers, sums)
    inertia += np.einsum("ij,ij,i->", centers, centers, sizes)
    if inertia < _CANCELLED * scatter:
        residuals = X - centers[labels]
        inertia = np.einsum("ij,ij,i->", residuals, residuals, weights)
    return inertia


class _Bounds:
    """What is known about distances without computing them.

    As in Elkan's algorithm, there is a bound on the distance of each row to its own
    centre, and from below to each of the others. They are on ``|c|^2 - 2 x.c``, the
    squared distance less that of the row to the origin. As a centre moves by ``v``,
    this changes by the known difference of ``|c|^2`` and by ``-2 x.v``. Elkan takes
    the worst of it, the product of lengths. But centres hardly leave the space that
    the seeds and the first centres span, and products of rows with those have been
    computed: only the part of ``v`` that is orthogonal to this space counts at its
    worst.
    """

    def __init__(self, X, sq_norms, seeds, distances):
        self.X = X
        self.seeds = seeds
        self.products = distances - sq_norms  # -2 x.s, but for |s|^2
        self.products -= np.einsum("ij,ij->i", seeds, seeds)[:, None]
        self.sq_norms = sq_norms
        lengths = np.sqrt(sq_norms)
        self.slack = _SLACK[X.dtype] * lengths.max() * lengths
        self.axes = None
        self.rows = np.arange(len(X))
        self.upper = np.full(len(X), np.inf, X.dtype)
        self.lower = np.full((len(seeds), len(X)), -np.inf, X.dtype)
        block = max(1, _BLOCK_BYTES // X[0].nbytes)
        self.block = np.empty((min(block, len(X)), X.shape[1]), X.dtype)

    def assign(self, labels, centers, sizes):
        """Nearest centre of each row, comparing anew only rows that may have changed.

        The others keep their label.
        """
        doubtful = self.lower.min(axis=0) < self.upper + self.slack
        rows = np.flatnonzero(doubtful)
        if len(rows) > _MOST * len(labels):
            rows = slice(None)
            products = dot_transposed(self.X, centers, -2.0)
            if self.axes is None:
                self._span(centers, products)
        else:
            products = self._products(rows, centers)
        offsets = np.einsum("ij,ij->i", centers, centers)
        offsets[sizes == 0] = np.inf
        products += offsets
        nearest = products.argmin(axis=1)
        own = self.rows[: len(products)], nearest
        self.upper[rows] = products[own]
        products[own] = np.inf
        self.lower[:, rows] = products.T
        labels = labels.copy()
        labels[rows] = nearest
        return labels

    def _products(self, rows, centers):
        """``-2 x.c`` for some rows, block by block."""
        products = np.empty((len(rows), len(centers)), self.X.dtype)
        for start in range(0, len(rows), len(self.block)):
            some = rows[start : start + len(self.block)]
            # Clipping spares `take` a buffer; all indices are in range.
            out = self.block[: len(some)]
            taken = np.take(self.X, some, axis=0, out=out, mode="clip")
            dot_transposed(taken, centers, -2.0, products[start : start + len(some)])
        return products

    def _span(self, centers, products):
        """Choose the space in which products are known, given ``-2 x.c`` of all rows.

        The axes are its orthonormal basis. Known of each row are its coordinates
        (times -2), a one, and the length of what is orthogonal to all axes.
        """
        vectors = np.concatenate([self.seeds, centers])
        scales, combinations = np.linalg.eigh((vectors @ vectors.T).astype(np.float64))
        kept = scales > _MIN_SCALE * scales[-1]
        kept[:-_MAX_AXES] = False
        combinations = (combinations[:, kept] / np.sqrt(scales[kept])).T
        combinations = combinations.astype(vectors.dtype)
        self.axes = combinations @ vectors
        coordinates = combinations @ np.concatenate([self.products, products.T])
        rest = np.einsum("mn,mn->n", coordinates, coordinates)
        rest /= -4
        rest += self.sq_norms
        rest = np.sqrt(np.maximum(rest, 0, out=rest), out=rest)
        self.known = np.concatenate([coordinates, [np.ones_like(rest), rest]])
        del self.products, self.seeds

    def drift(self, labels, old, new):
        """Follow the centres as they move; returns the squared shift of all."""
        v = new - old
        squares = np.einsum("ij,ij->i", v, v)
        within = v @ self.axes.T
        outside = squares - np.einsum("ij,ij->i", within, within)
        outside = np.sqrt(np.maximum(outside, 0)) + _ROUNDED * np.sqrt(squares)
        offsets = np.einsum("ij,ij->i", v, new + old)
        change = np.column_stack([within, offsets, -2 * outside]) @ self.known
        self.lower += change
        self.upper += change[labels, self.rows]
        self.upper += (4 * outside)[labels] * self.known[-1]
        return squares.sum(dtype=np.float64)

    def forget(self, rows, clusters):
        """Make rows doubtful, and all rows with respect to clusters."""
        self.upper[rows] = np.inf
        self.lower[clusters] = -np.inf


def _refill(X, sq_norms, labels, centers):
    """Refill empty clusters, if any; returns the rows that were moved."""
    if np.bincount(labels, minlength=len(centers)).all():
        return np.empty(0, np.intp)
    before = labels.copy()
    difference = X - centers[labels]
    distances = np.einsum("ij,ij->i", difference, difference)
    refill(labels, distances, sq_norms, len(centers))
    return np.flatnonzero(labels != before)


def _scale(sums, labels, weights, dtype, spherical):
    """Centres and sizes of the clusters, given the sums of their members."""
    sizes = np.bincount(labels, weights, minlength=len(sums))
    scales = np.linalg.norm(sums, axis=1) if spherical else sizes
    scales = np.where(scales > 0, scales, 1)
    return (sums / scales[:, None]).astype(dtype), sizes
