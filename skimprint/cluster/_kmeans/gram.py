"""Cluster small groups in the space of their inner products.

A centre is a combination of its members, so all that Lloyd's algorithm asks for -
distances, shifts, inertia - follows from the n x n inner products of a group, and an
iteration costs nothing that grows with the number of features. Groups of one size go
through the same few array operations together.
"""

from typing import NamedTuple

import numpy as np

from .empty import refill
from .nearest import Nearest, nearest_of
from .seeding import TWICE, n_trials, seed_batch
from .sums import cluster_sums


class GramResult(NamedTuple):
    """Hold the clusters of groups of one size."""

    members: np.ndarray  # (n_groups, n): the clusters whose means are the centres
    labels: np.ndarray  # (n_groups, n): the nearest of those centres
    inertia: np.ndarray  # (n_groups,)
    n_iter: np.ndarray  # (n_groups,)
    nearest: Nearest


class _Centers(NamedTuple):
    """Hold centres of groups, each the sum of its members divided by a scale."""

    sums: np.ndarray  # (n_groups, k, n): inner products of the sums with all rows
    sizes: np.ndarray  # (n_groups, k): weights of the clusters
    scales: np.ndarray  # (n_groups, k): sizes, or lengths of the sums if spherical
    sq_norms: np.ndarray  # (n_groups, k): squared lengths of the centres


def gram_kmeans(
    G, weights, n_clusters, rng, lock, spreads, *, n_init, max_iter, tol, spherical
):
    """Cluster groups of one size, given the inner products of their rows.

    Parameters
    ----------
    G : ndarray of shape (n_groups, n, n)
        Inner products; of centred rows unless spherical.
    weights : ndarray of shape (n_groups, n)
        Positive weights of the rows, of the dtype of ``G``.
    n_clusters : int
        Number of clusters per group, less than n.
    rng : numpy.random.Generator
        Source of the seeds, shared by the groups.
    lock : PausableLock
        Held by the caller; paused where there is much to compute.
    spreads : ndarray of shape (n_groups, n)
        Squared distance of what a row stands for from the row itself.
    n_init : int
        Number of runs; the best of each group is kept.
    max_iter : int
        Bound for the iterations of a run.
    tol : float
        Squared shift of all centres of a group at which its run has converged,
        relative to the variance of its rows, summed over features.
    spherical : bool
        Whether centres are scaled to unit length.

    Returns
    -------
    result : GramResult
        Members and labels are the same after strict convergence.
    """
    sq_norms = np.ascontiguousarray(np.diagonal(G, axis1=1, axis2=2))
    variances = sq_norms.mean(axis=1)
    if spherical:
        variances -= G.mean(axis=(1, 2))
    tol = tol * variances
    groups = np.arange(len(G))[:, None]

    def to_rows(candidates):
        with lock.pause(candidates.size * sq_norms.shape[1]):
            found = G[groups, candidates]
            found *= -2
            found += sq_norms[:, None, :]
            found += sq_norms[groups, candidates][:, :, None]
            return np.maximum(found, 0, out=found)

    trials = TWICE * n_trials(n_clusters)
    best = None
    for _ in range(n_init):
        _, labels, distances = seed_batch(to_rows, weights, n_clusters, rng, trials)
        _refill(labels, distances, sq_norms, n_clusters, True)
        limits = max_iter, tol
        run = _lloyd(
            G, sq_norms, weights, labels, n_clusters, lock, spreads, *limits, spherical
        )
        if best is None:
            best = run
            continue
        better = run.inertia < best.inertia
        for kept, new in zip(_arrays(best), _arrays(run), strict=True):
            kept[better] = new[better]
    return best


def _arrays(result):
    """List the arrays of a result."""
    return *result[:-1], *result.nearest


def _lloyd(G, sq_norms, weights, labels, k, lock, spreads, max_iter, tol, spherical):
    """Iterate until every group has converged; labels are of the first E-step."""
    n_groups, n = labels.shape
    result = GramResult(
        np.empty((n_groups, n), np.int32),
        np.empty((n_groups, n), np.int32),
        np.empty(n_groups),
        np.empty(n_groups, np.intp),
        Nearest(
            np.empty((n_groups, k), np.intp),
            np.empty((n_groups, k)),
            np.empty((n_groups, k), G.dtype),
        ),
    )
    # The groups that go on; from here on, arrays hold these alone.
    active = np.arange(n_groups)
    flat = G.reshape(-1, n)
    keys = [_keys(labels, k).ravel()]
    with lock.pause():
        sums = cluster_sums(flat, keys, [weights.ravel()], n_groups * k)
    centers = _scale(sums.reshape(n_groups, k, n), labels, weights, spherical)
    shifts = np.full(n_groups, np.inf)
    for iteration in range(1, max_iter + 1):
        with lock.pause(centers.sums.size):
            everything, nearest, distances = _assign(centers, sq_norms)
        last = (shifts <= tol) | (iteration == max_iter)
        _refill(nearest, distances, sq_norms, k, ~last)
        changed = nearest != labels
        settled = ~changed.any(axis=1)
        stop = last | settled
        if stop.any():
            done = active[stop]
            result.members[done] = labels[stop]
            result.labels[done] = nearest[stop]
            result.inertia[done] = np.einsum(
                "bn,bn->b", distances[stop], weights[stop], dtype=np.float64
            )
            result.n_iter[done] = np.minimum(iteration + settled[stop], max_iter)
            related = nearest_of(
                _as_repeated(everything[stop], centers.sizes[stop])
                + sq_norms[stop][:, None],
                weights[stop],
                spreads[done],
            )
            for kept, new in zip(result.nearest, related, strict=True):
                kept[done] = new
            on = ~stop
            if not on.any():
                break
            active, sq_norms, weights, tol = (
                array[on] for array in (active, sq_norms, weights, tol)
            )
            labels, nearest, changed = labels[on], nearest[on], changed[on]
            centers = _Centers(*(array[on] for array in centers))
        group, row = np.nonzero(changed)
        moves = [_keys(each, k)[group, row] for each in (labels, nearest)]
        w = weights[group, row]
        rows = active[group] * n + row
        with lock.pause(max(n * len(rows), centers.sums.size)):
            sums = cluster_sums(flat, moves, [-w, w], len(active) * k, rows)
            sums = centers.sums + sums.reshape(centers.sums.shape)
        moved = _scale(sums, nearest, weights, spherical)
        shifts = _shifts(centers, moved, labels, weights)
        centers, labels = moved, nearest
    return result


def _assign(centers, sq_norms):
    """Find the nearest centre of each row, and the squared distance to it.

    Before that come the distances of all rows to all centres, less the squared lengths
    of the rows.
    """
    factors = _divide(-2.0, centers.scales)
    offsets = np.where(centers.sizes > 0, centers.sq_norms, np.inf)
    dtype = centers.sums.dtype
    distances = centers.sums * factors.astype(dtype)[:, :, None]
    distances += offsets.astype(dtype)[:, :, None]
    labels = distances.argmin(axis=1)
    nearest = np.take_along_axis(distances, labels[:, None], axis=1)[:, 0]
    nearest += sq_norms
    return distances, labels.astype(np.int32), np.maximum(nearest, 0, out=nearest)


def _as_repeated(distances, sizes):
    """Let centres without members be copies of the one of the largest cluster."""
    for group in np.flatnonzero((sizes == 0).any(axis=1)):
        largest = distances[group, sizes[group].argmax()]
        distances[group, sizes[group] == 0] = largest
    return distances


def _refill(labels, distances, sq_norms, k, wanted):
    """Refill empty clusters in the wanted groups, if any."""
    empty = (_totals(labels, None, k) == 0).any(axis=1)
    for group in np.flatnonzero(empty & wanted):
        refill(labels[group], distances[group], sq_norms[group], k)


def _keys(labels, k):
    """Number the clusters across groups."""
    return labels + np.arange(0, len(labels) * k, k, dtype=np.int32)[:, None]


def _totals(labels, values, k):
    """Sum values by group and cluster, in float64."""
    if values is not None:
        values = values.ravel()
    keys = _keys(labels, k).ravel()
    return np.bincount(keys, values, minlength=len(labels) * k).reshape(-1, k)


def _scale(sums, labels, weights, spherical):
    """Make the centres, given the sums of their members."""
    k = sums.shape[1]
    own = np.take_along_axis(sums, labels[:, None], axis=1)[:, 0]
    sq_sums = np.maximum(_totals(labels, own * weights, k), 0)
    sizes = _totals(labels, weights, k)
    scales = np.sqrt(sq_sums) if spherical else sizes
    return _Centers(sums, sizes, scales, _divide(sq_sums, scales**2))


def _shifts(old, new, old_labels, weights):
    """Compute how far the centres of each group moved, squared, all together."""
    own = np.take_along_axis(new.sums, old_labels[:, None], axis=1)[:, 0]
    cross = _totals(old_labels, own * weights, new.sums.shape[1])
    cross = _divide(cross, old.scales * new.scales)
    return (old.sq_norms + new.sq_norms - 2 * cross).sum(axis=1)


def _divide(numerators, denominators):
    """Divide, with 0 where a cluster has no scale to divide by."""
    out = np.zeros_like(denominators)
    return np.divide(numerators, denominators, out=out, where=denominators > 0)
