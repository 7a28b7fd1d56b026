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

# Relative to the length of a row, what rounding may add up to in its bounds.
_SLACK = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-11}

# Share of rows to compare again from which on it is cheaper to compare all.
_MOST = 0.75

# Rows that are compared again are gathered into a block that stays in the L2 cache.
_BLOCK_BYTES = 2**20


# Inertia relative to the scatter of a group below which it is no difference of sums.
_CANCELLED = 1e-3


class LloydResult(NamedTuple):
    """Clusters of one group."""

    centers: np.ndarray  # (k, d)
    labels: np.ndarray  # (n,)
    inertia: float
    n_iter: int


def lloyd_kmeans(X, weights, n_clusters, rng, *, n_init, max_iter, tol, spherical):
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
        seeds, distances = seed_rows(X, sq_norms, weights, n_clusters, rng)
        run = _lloyd(
            X, sq_norms, weights, X[seeds], distances, max_iter, tol, spherical
        )
        if best is None or run.inertia < best.inertia:
            best = run
    return best


def _lloyd(X, sq_norms, weights, seeds, distances, max_iter, tol, spherical):
    """Iterate from seeds, given the squared distances of all rows to them."""
    k = len(seeds)
    bounds = _Bounds(X, sq_norms, k)
    labels = bounds.tighten(distances.T)
    _refill(X, sq_norms, labels, seeds, bounds)
    sums = cluster_sums(X, [labels], [weights], k)
    centers, sizes = _scale(sums, labels, weights, spherical)
    shift = bounds.drift(labels, seeds, centers)
    settled = False
    for iteration in range(1, max_iter + 1):
        last = shift <= tol or iteration == max_iter
        if last or settled:
            # Rounding has built up in the sums. See what holds without it.
            sums = cluster_sums(X, [labels], [weights], k)
            rounded = centers
            centers, sizes = _scale(sums, labels, weights, spherical)
            bounds.drift(labels, rounded, centers)
        nearest = bounds.assign(labels, centers, sizes)
        if last:
            sums = cluster_sums(X, [nearest], [weights], k)
            break
        _refill(X, sq_norms, nearest, centers, bounds)
        changed = np.flatnonzero(nearest != labels)
        if not len(changed):
            if settled:
                break
            settled = True
            continue
        settled = False
        moves = labels[changed], nearest[changed]
        w = weights[changed]
        sums += cluster_sums(X, moves, [-w, w], k, changed)
        previous, labels = centers, nearest
        centers, sizes = _scale(sums, labels, weights, spherical)
        shift = bounds.drift(labels, previous, centers)
    inertia = _inertia(X, sq_norms, weights, nearest, sums, centers)
    centers[sizes == 0] = centers[np.argmax(sizes)]
    return LloydResult(centers, nearest, inertia, iteration)


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
    """What is known about distances without computing them: Elkan's bounds."""

    def __init__(self, X, sq_norms, n_clusters):
        self.X = X
        self.sq_norms = sq_norms
        self.slack = _SLACK[X.dtype] * np.sqrt(sq_norms)
        # On the distance to the own centre, and from below to each of the others.
        self.upper = np.empty_like(sq_norms)
        self.lower = np.empty((n_clusters, len(X)), X.dtype)
        block = max(1, _BLOCK_BYTES // X[0].nbytes)
        self.block = np.empty((min(block, len(X)), X.shape[1]), X.dtype)

    def assign(self, labels, centers, sizes):
        """Nearest centre of each row, comparing anew only rows that may have changed.

        The others keep their label.
        """
        X, sq_norms, block = self.X, self.sq_norms, self.block
        doubtful = self.lower.min(axis=0) < self.upper + self.slack
        doubtful = np.flatnonzero(doubtful)
        if len(doubtful) > _MOST * len(X):
            return self.tighten(_distances(X, sq_norms, centers, sizes))
        labels = labels.copy()
        for start in range(0, len(doubtful), len(block)):
            rows = doubtful[start : start + len(block)]
            # Clipping spares `take` a buffer; all indices are in range.
            taken = np.take(X, rows, axis=0, out=block[: len(rows)], mode="clip")
            distances = _distances(taken, sq_norms[rows], centers, sizes)
            labels[rows] = self.tighten(distances, rows)
        return labels

    def tighten(self, distances, rows=slice(None)):
        """Nearest centre of rows, given their squared distances; kept as bounds.

        Overwrites distances, of shape (n_rows, k).
        """
        labels = distances.argmin(axis=1).astype(np.int32)
        np.sqrt(distances, out=distances)
        own = np.arange(len(labels)), labels
        self.upper[rows] = distances[own]
        distances[own] = np.inf
        self.lower[:, rows] = distances.T
        return labels

    def drift(self, labels, old, new):
        """Loosen the bounds as centres move; returns the squared shift of all."""
        difference = new - old
        squared = np.einsum("ij,ij->i", difference, difference)
        moved = np.sqrt(squared)
        self.lower -= moved[:, None]
        self.upper += moved[labels]
        return squared.sum(dtype=np.float64)

    def forget(self, rows, clusters):
        """Make rows doubtful, and all rows with respect to clusters."""
        self.upper[rows] = np.inf
        self.lower[clusters] = 0


def _distances(X, sq_norms, centers, sizes):
    """Squared distances of rows to centres, infinite to those of empty clusters."""
    offsets = np.einsum("ij,ij->i", centers, centers)
    offsets[sizes == 0] = np.inf
    distances = dot_transposed(X, centers, -2.0)
    distances += offsets
    distances += sq_norms[:, None]
    return np.maximum(distances, 0, out=distances)


def _refill(X, sq_norms, labels, centers, bounds):
    """Refill empty clusters, if any."""
    if np.bincount(labels, minlength=len(centers)).all():
        return
    before = labels.copy()
    difference = X - centers[labels]
    distances = np.einsum("ij,ij->i", difference, difference)
    refill(labels, distances, sq_norms, len(centers))
    moved = np.flatnonzero(labels != before)
    bounds.forget(moved, labels[moved])


def _scale(sums, labels, weights, spherical):
    """Centres and sizes of the clusters, given the sums of their members."""
    sizes = np.bincount(labels, weights, minlength=len(sums))
    scales = np.linalg.norm(sums, axis=1) if spherical else sizes
    scales = np.where(scales > 0, scales, 1).astype(sums.dtype)
    return sums / scales[:, None], sizes
