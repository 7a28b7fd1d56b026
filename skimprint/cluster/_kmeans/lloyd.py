"""Cluster a group that is too large for its inner products.

A row is compared with the centres again only where bounds on its distances to them say
that its nearest may have changed, and the sums of the clusters change by the rows that
change cluster.
"""

from typing import NamedTuple

import numpy as np

from ..._arrays.groups import blocks_of_rows
from .empty import refill
from .nearest import Nearest, nearest_of
from .seeding import seed_rows
from .sums import CANCELLED, cluster_sums, inertia_of

# Relative to lengths of rows, what rounding may add up to in squared distances.
_SLACK = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-11}

# Share of rows to compare again from which on it is cheaper to compare all.
_MOST = 0.75

# Rows that are compared again are gathered into a block that stays in the L2 cache.
_BLOCK_BYTES = 2**20


class LloydResult(NamedTuple):
    """Hold the clusters of a group."""

    centers: np.ndarray  # (k, d)
    labels: np.ndarray  # (n,)
    inertia: float
    n_iter: int
    nearest: Nearest | None = None


def lloyd_kmeans(
    X, weights, n_clusters, rng, lock, spreads, *, n_init, max_iter, tol, spherical
):
    """Cluster the rows of a group.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        C-contiguous rows; centred unless spherical.
    weights : ndarray of shape (n,)
        Positive weights of the rows, of the dtype of ``X``.
    n_clusters : int
        Number of clusters, less than there are rows.
    rng : numpy.random.Generator
        Source of the seeds.
    lock : PausableLock
        Held by the caller; paused where there is much to compute.
    spreads : ndarray of shape (n,)
        Squared distance of what a row stands for from the row itself.
    n_init : int
        Number of runs; the best is kept.
    max_iter : int
        Bound for the iterations of a run.
    tol : float
        Squared shift of all centres at which a run has converged, relative to the
        variance of the rows, summed over features.
    spherical : bool
        Whether centres are scaled to unit length.

    Returns
    -------
    result : LloydResult
        The best run.
    """
    with lock.pause():
        sq_norms = np.einsum("ij,ij->i", X, X)
    variance = sq_norms.mean()
    if spherical:
        variance -= np.square(X.mean(axis=0)).sum()
    runs = []
    for _ in range(n_init):
        seeds = seed_rows(X, sq_norms, weights, n_clusters, rng, lock)
        limits = max_iter, tol * variance
        runs.append(_lloyd(X, sq_norms, weights, seeds, lock, *limits, spherical))
    best = min(runs, key=lambda run: run.inertia)
    with lock.pause():
        distances = X @ (-2 * best.centers.T)
        distances += np.einsum("kd,kd->k", best.centers, best.centers)
        distances += sq_norms[:, None]
    nearest = nearest_of(distances.T[None], weights[None], spreads[None])
    return best._replace(nearest=nearest)


def _lloyd(X, sq_norms, weights, seeds, lock, max_iter, tol, spherical):
    """Iterate from rows that are the seeds."""
    k = len(seeds)
    centers, sizes = X[seeds], np.ones(k)
    bounds = _Bounds(X, sq_norms)
    with lock.pause():
        labels = bounds.assign(np.zeros(len(X), np.int32), centers, sizes)
    bounds.refill(labels, centers)
    # What rows add to the sums later is little: in float64 it does not build up errors.
    with lock.pause():
        sums = cluster_sums(X, [labels], [weights], k).astype(np.float64)
    for iteration in range(1, max_iter + 1):
        previous = centers
        centers, sizes = _scale(sums, labels, weights, spherical, X.dtype)
        with lock.pause():
            shift = bounds.follow(labels, previous, centers)
            nearest = bounds.assign(labels, centers, sizes)
        last = shift <= tol or iteration == max_iter
        if not last:
            bounds.refill(nearest, centers)
        changed = np.flatnonzero(nearest != labels)
        if len(changed):
            w = weights[changed]
            moves = [labels[changed], nearest[changed]]
            with lock.pause(X.shape[1] * len(changed)):
                sums += cluster_sums(X, moves, [-w, w], k, changed)
        labels = nearest
        if last or not len(changed):
            break
    inertia = _inertia(X, sq_norms, weights, labels, sums, centers)
    centers[sizes == 0] = centers[sizes.argmax()]
    n_iter = min(iteration + (not len(changed)), max_iter)
    return LloydResult(centers, labels, inertia, n_iter)


class _Bounds:
    """Keep bounds on distances, to know of them without computing them.

    As in Hamerly's algorithm [1]_, there is a bound from above on the distance of each
    row to its own centre, and one from below on those to all others. As a centre moves,
    its distances change by the length of its way at most.

    References
    ----------
    .. [1] Hamerly, "Making k-means Even Faster", SDM 2010.
    """

    def __init__(self, X, sq_norms):
        self.X = X
        self.sq_norms = sq_norms
        lengths = np.sqrt(sq_norms)
        self.slack = _SLACK[X.dtype] * lengths.max() * lengths
        self.upper = np.full(len(X), np.inf, X.dtype)
        self.lower = np.zeros(len(X), X.dtype)

    def assign(self, labels, centers, sizes):
        """Find the nearest centre of each row; compare only rows that may have changed.

        The others keep their label.
        """
        rows = np.flatnonzero(self.lower < self.upper)
        factors = -2 * centers.T
        if len(rows) > _MOST * len(labels):
            rows = np.arange(len(labels))
            squares = self.X @ factors
        else:
            squares = np.empty((len(rows), len(centers)), centers.dtype)
            n_rows = max(1, _BLOCK_BYTES // self.X[0].nbytes)
            for block in blocks_of_rows(len(rows), n_rows):
                np.matmul(self.X[rows[block]], factors, out=squares[block])
        offsets = np.einsum("kd,kd->k", centers, centers)
        offsets[sizes == 0] = np.inf
        squares += offsets
        nearest = squares.argmin(axis=1)
        own, slack = (np.arange(len(rows)), nearest), self.slack[rows]
        lengths = self.sq_norms[rows]
        self.upper[rows] = np.sqrt(np.maximum(squares[own] + lengths + slack, 0))
        squares[own] = np.inf
        second = squares.min(axis=1) + lengths - slack
        self.lower[rows] = np.sqrt(np.maximum(second, 0))
        labels = labels.copy()
        labels[rows] = nearest
        return labels

    def follow(self, labels, old, new):
        """Follow the centres as they move; return their squared shift."""
        moves = new - old
        squares = np.einsum("kd,kd->k", moves, moves)
        shifts = np.sqrt(squares)
        self.lower -= shifts.max()
        self.upper += shifts[labels]
        return squares.astype(np.float64).sum()

    def refill(self, labels, centers):
        """Refill empty clusters, if any: then nothing is known of distances."""
        if np.bincount(labels, minlength=len(centers)).all():
            return
        residuals = self.X - centers[labels]
        distances = np.einsum("ij,ij->i", residuals, residuals)
        refill(labels, distances, self.sq_norms, len(centers))
        self.lower[:] = 0
        self.upper[:] = np.inf


def _inertia(X, sq_norms, weights, labels, sums, centers):
    """Sum weighted squared distances to the centres, given the clusters' sums."""
    sizes = np.bincount(labels, weights, minlength=len(centers))
    scatter = np.dot(sq_norms.astype(np.float64), weights)
    exact = centers.astype(np.float64)
    inertia = scatter - 2 * np.einsum("ij,ij->", exact, sums)
    inertia += np.einsum("ij,ij,i->", exact, exact, sizes)
    if inertia < CANCELLED * scatter:
        inertia = inertia_of(X, labels, weights, exact)
    return inertia


def _scale(sums, labels, weights, spherical, dtype):
    """Make centres and sizes of the clusters, given the sums of their members."""
    sizes = np.bincount(labels, weights, minlength=len(sums))
    scales = np.linalg.norm(sums, axis=1) if spherical else sizes
    scales = 1 / np.where(scales > 0, scales, 1)
    return (sums * scales[:, None]).astype(dtype), sizes
