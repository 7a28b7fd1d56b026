"""Cluster a few groups that are too large for their inner products.

The groups of a batch run side by side, so that array operations are shared, but each
has products, bounds and an end of its own. A row is compared with the centres again
only where a lower bound on its distance to some other centre says so, and the sums of
the clusters change by the rows that change cluster.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..._arrays.groups import offsets_of
from .empty import refill
from .seeding import seed_rows
from .sums import CANCELLED, cluster_sums, inertia_of

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


class LloydResult(NamedTuple):
    """Hold the clusters of the groups of a batch."""

    centers: np.ndarray  # (n_groups, k, d)
    labels: np.ndarray  # (n,): of the rows of all groups
    inertia: np.ndarray  # (n_groups,)
    n_iter: np.ndarray  # (n_groups,)


def lloyd_kmeans(
    X,
    offsets,
    weights,
    n_clusters,
    rng,
    lock,
    *,
    n_init,
    max_iter,
    tol,
    spherical,
    samples=None,
):
    """Cluster the rows of each group.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        C-contiguous rows, group by group; centred unless spherical.
    offsets : ndarray of shape (n_groups + 1,)
        Group ``g`` is ``X[offsets[g]:offsets[g + 1]]``.
    weights : ndarray of shape (n,)
        Positive weights of the rows, of the dtype of ``X``.
    n_clusters : int
        Number of clusters per group, less than it has rows.
    rng : numpy.random.Generator
        Source of the seeds, shared by the groups.
    lock : PausableLock
        Held by the caller; paused where there is much to compute.
    n_init : int
        Number of runs; the best of each group is kept.
    max_iter : int
        Bound for the iterations of a run.
    tol : float
        Squared shift of all centres of a group at which its run has converged,
        relative to the variance of its rows, summed over features.
    spherical : bool
        Whether centres are scaled to unit length.
    samples : dict, default=None
        As for `seed_rows`.

    Returns
    -------
    result : LloydResult
        The best run of each group.
    """
    with lock.pause():
        sq_norms = np.einsum("ij,ij->i", X, X)
    variances = np.array([sq_norms[a:b].mean() for a, b in pairwise(offsets)])
    if spherical:
        means = [X[a:b].mean(axis=0) for a, b in pairwise(offsets)]
        variances -= [np.square(mean).sum() for mean in means]
    tol = tol * variances
    best = None
    for _ in range(n_init):
        seeds = seed_rows(X, offsets, sq_norms, weights, n_clusters, rng, lock, samples)
        run = _lloyd(
            X, offsets, sq_norms, weights, seeds, lock, max_iter, tol, spherical
        )
        if best is None:
            best = run
            continue
        better = run.inertia < best.inertia
        which = (better, np.repeat(better, np.diff(offsets)), better, better)
        for kept, new, some in zip(best, run, which, strict=True):
            kept[some] = new[some]
    return best


def _lloyd(X, offsets, sq_norms, weights, seeds, lock, max_iter, tol, spherical):
    """Iterate from rows that are the seeds of each group, until all have converged."""
    n_groups, k = seeds.shape
    result = LloydResult(
        np.empty((n_groups, k, X.shape[1]), X.dtype),
        np.empty(len(X), np.int32),
        np.empty(n_groups),
        np.empty(n_groups, np.intp),
    )
    rows = _Rows(X, np.arange(n_groups), offsets[:-1], offsets, sq_norms, weights)
    centers = X[seeds]
    bounds = _Bounds(rows, centers, lock)
    labels = bounds.nearest_seeds()
    _refill(rows, labels, centers)
    # What rows add to the sums later is little: in float64 it does not build up errors.
    with lock.pause():
        sums = cluster_sums(X, [rows.keys(labels, k)], [weights], n_groups * k)
    sums = sums.reshape(centers.shape).astype(np.float64)
    seeds = centers
    centers, sizes = _scale(sums, rows, labels, spherical)
    shifts = _row_squares(centers - seeds).sum(axis=1)
    for iteration in range(1, max_iter + 1):
        last = (shifts <= tol) | (iteration == max_iter)
        with lock.pause():
            nearest = bounds.assign(labels, centers, sizes)
        moved = _refill(rows, nearest, centers, ~last)
        bounds.forget(moved, nearest)
        changed = np.flatnonzero(nearest != labels)
        settled = np.bincount(rows.group[changed], minlength=len(last)) == 0
        if len(changed):
            w = rows.weights[changed]
            moves = [rows.keys(each, k)[changed] for each in (labels, nearest)]
            place = changed + rows.shift[rows.group[changed]]
            with lock.pause(X.shape[1] * len(place)):
                change = cluster_sums(X, moves, [-w, w], len(last) * k, place)
            sums += change.reshape(sums.shape)
        labels = nearest
        stop = last | settled
        if stop.any():
            for g in np.flatnonzero(stop):
                there = rows.number[g]
                own = labels[rows.part(g)]
                result.labels[offsets[there] : offsets[there + 1]] = own
                result.inertia[there] = _inertia(rows, g, own, sums[g], centers[g])
                result.n_iter[there] = min(iteration + settled[g], max_iter)
                centers[g, sizes[g] == 0] = centers[g, np.argmax(sizes[g])]
                result.centers[there] = centers[g]
            if stop.all():
                break
            on, on_rows = ~stop, np.repeat(~stop, rows.sizes)
            bounds.leave(on, on_rows)
            rows = bounds.rows
            labels, sums, centers, tol = labels[on_rows], sums[on], centers[on], tol[on]
        previous = centers
        centers, sizes = _scale(sums, rows, labels, spherical)
        with lock.pause(bounds.lower.size):
            shifts = bounds.drift(labels, previous, centers)
    return result


class _Rows:
    """Hold the rows of the groups that go on, one group after the other.

    Attributes
    ----------
    X : ndarray of shape (n_all, d)
        The rows of all groups.
    number : ndarray of shape (n_groups,)
        Which of all groups these are.
    starts : ndarray of shape (n_groups,)
        Where their rows begin in ``X``.
    offsets : ndarray of shape (n_groups + 1,)
        Where they begin in arrays that hold these groups alone, such as the others.
    sq_norms, weights : ndarray of shape (n,)
        Squared lengths and weights of the rows.
    """

    def __init__(self, X, number, starts, offsets, sq_norms, weights):
        self.X = X
        self.number = number
        self.starts = starts
        self.offsets = offsets
        self.sq_norms = sq_norms
        self.weights = weights
        self.sizes = np.diff(offsets)
        self.shift = starts - offsets[:-1]
        self.group = np.repeat(np.arange(len(number), dtype=np.int32), self.sizes)

    def part(self, group):
        """Find where a group is in arrays that hold these groups alone."""
        return slice(self.offsets[group], self.offsets[group + 1])

    def of(self, group):
        """Take the rows of one group."""
        start = self.starts[group]
        return self.X[start : start + self.sizes[group]]

    def keys(self, labels, k):
        """Number the clusters across groups."""
        return labels + np.int32(k) * self.group

    def only(self, on, on_rows):
        """Take some of the groups, given which, and which rows are theirs."""
        return _Rows(
            self.X,
            self.number[on],
            self.starts[on],
            offsets_of(self.sizes[on]),
            self.sq_norms[on_rows],
            self.weights[on_rows],
        )


class _Bounds:
    """Keep bounds on distances, to know of them without computing them.

    As in Elkan's algorithm, there is a bound on the distance of each row to its own
    centre, and from below to each of the others. They are on ``|c|^2 - 2 x.c``, the
    squared distance less that of the row to the origin. As a centre moves by ``v``,
    this changes by the known difference of ``|c|^2`` and by ``-2 x.v``. Elkan takes
    the worst of it, the product of lengths. But centres hardly leave the space that
    the seeds and the first centres span, and products of rows with those have been
    computed: only the part of ``v`` that is orthogonal to this space counts at its
    worst.
    """

    def __init__(self, rows, seeds, lock):
        self.rows = rows
        self.lock = lock
        self.seeds = seeds
        lengths = np.sqrt(rows.sq_norms)
        longest = np.maximum.reduceat(lengths, rows.offsets[:-1])
        self.slack = _SLACK[lengths.dtype] * longest[rows.group] * lengths
        self.axes = None
        self.upper = np.full(len(lengths), np.inf, lengths.dtype)
        self.lower = np.full((len(lengths), seeds.shape[1]), -np.inf, lengths.dtype)
        block = max(1, _BLOCK_BYTES // rows.X[0].nbytes)
        block = min(block, rows.sizes.max())
        self.block = np.empty((block, rows.X.shape[1]), lengths.dtype)

    def nearest_seeds(self):
        """Find the nearest seed of each row."""
        everything = np.arange(len(self.slack))
        with self.lock.pause():
            self.products = self._products(everything, self.rows.sizes, self.seeds)
        distances = self.products + _row_squares(self.seeds)[self.rows.group]
        return distances.argmin(axis=1).astype(np.int32)

    def assign(self, labels, centers, sizes):
        """Find the nearest centre of each row; compare only rows that may have changed.

        The others keep their label.
        """
        doubtful = self.lower.min(axis=1) < self.upper + self.slack
        counts = np.add.reduceat(doubtful, self.rows.offsets[:-1], dtype=np.intp)
        for g in np.flatnonzero(counts > _MOST * self.rows.sizes):
            doubtful[self.rows.part(g)] = True
            counts[g] = self.rows.sizes[g]
        rows = np.flatnonzero(doubtful)
        products = self._products(rows, counts, centers)
        if self.axes is None:
            self._span(centers, products)
        offsets = _row_squares(centers).astype(products.dtype)
        offsets[sizes == 0] = np.inf
        for part, each in zip(_parts(counts), offsets, strict=True):
            products[part] += each
        nearest = products.argmin(axis=1)
        own = np.arange(len(rows)), nearest
        self.upper[rows] = products[own]
        products[own] = np.inf
        self.lower[rows] = products
        labels = labels.copy()
        labels[rows] = nearest
        return labels

    def _products(self, rows, counts, centers):
        """Compute ``-2 x.c`` for some rows of each group, block by block."""
        products = np.empty((len(rows), centers.shape[1]), centers.dtype)
        factors = -2 * centers.transpose(0, 2, 1)
        for g, part in enumerate(_parts(counts)):
            if counts[g] == self.rows.sizes[g]:
                np.matmul(self.rows.of(g), factors[g], out=products[part])
                continue
            places = rows[part] + self.rows.shift[g]
            for start in range(0, len(places), len(self.block)):
                some = places[start : start + len(self.block)]
                # Clipping spares `take` a buffer; all indices are in range.
                out = self.block[: len(some)]
                taken = np.take(self.rows.X, some, axis=0, out=out, mode="clip")
                start += part.start
                out = products[start : start + len(some)]
                np.matmul(taken, factors[g], out=out)
        return products

    def _span(self, centers, products):
        """Choose the space in which products are known, given ``-2 x.c`` of all rows.

        The axes are its orthonormal basis, filled up with zeros. Known of each row are
        its coordinates (times -2), a one, and the length of what is orthogonal to all
        axes.
        """
        rows = self.rows
        vectors = np.concatenate([self.seeds, centers], axis=1)
        scales, combinations = np.linalg.eigh(
            (vectors @ vectors.transpose(0, 2, 1)).astype(np.float64)
        )
        n_axes = min(_MAX_AXES, vectors.shape[1])
        scales, combinations = scales[:, -n_axes:], combinations[:, :, -n_axes:]
        kept = scales > _MIN_SCALE * scales[:, -1:]
        scales = np.where(kept, 1 / np.sqrt(np.where(kept, scales, 1)), 0)
        combinations = (combinations * scales[:, None]).transpose(0, 2, 1)
        combinations = np.ascontiguousarray(combinations, dtype=vectors.dtype)
        self.axes = combinations @ vectors
        products = np.concatenate([self.products, products], axis=1)
        self.known = np.empty((len(products), n_axes + 2), products.dtype)
        coordinates = self.known[:, :n_axes]
        for g, each in enumerate(combinations):
            part = rows.part(g)
            coordinates[part] = products[part] @ each.T
        rest = np.einsum("nm,nm->n", coordinates, coordinates)
        rest /= -4
        rest += rows.sq_norms
        self.known[:, -2] = 1
        self.known[:, -1] = np.sqrt(np.maximum(rest, 0, out=rest), out=rest)
        del self.products, self.seeds

    def drift(self, labels, old, new):
        """Follow the centres as they move; return the squared shift of each group."""
        rows = self.rows
        v = new - old
        squares = np.einsum("bkd,bkd->bk", v, v)
        within = v @ self.axes.transpose(0, 2, 1)
        outside = squares - np.einsum("bkm,bkm->bk", within, within)
        outside = np.sqrt(np.maximum(outside, 0)) + _ROUNDED * np.sqrt(squares)
        offsets = np.einsum("bkd,bkd->bk", v, new + old)
        moves = np.concatenate(
            [within, offsets[:, :, None], -2 * outside[:, :, None]], axis=2
        )
        change = np.empty(self.lower.shape, v.dtype)
        for g, each in enumerate(moves):
            part = rows.part(g)
            np.matmul(self.known[part], each.T, out=change[part])
        self.lower += change
        self.upper += change[np.arange(len(labels)), labels]
        outside *= 4
        self.upper += outside.ravel()[rows.keys(labels, v.shape[1])] * self.known[:, -1]
        return squares.astype(np.float64).sum(axis=1)

    def forget(self, moved, labels):
        """Make rows doubtful, and all rows of a group with respect to their cluster."""
        self.upper[moved] = np.inf
        for row in moved:
            part = self.rows.part(self.rows.group[row])
            self.lower[part, labels[row]] = -np.inf

    def leave(self, on, on_rows):
        """Leave all but some groups, given which, and which rows are theirs."""
        self.rows = self.rows.only(on, on_rows)
        self.axes = self.axes[on]
        self.slack, self.upper = self.slack[on_rows], self.upper[on_rows]
        self.lower, self.known = self.lower[on_rows], self.known[on_rows]


def _parts(counts):
    """Make slices of consecutive parts that have these lengths."""
    return [slice(a, b) for a, b in pairwise(offsets_of(counts))]


def _row_squares(centers):
    """Compute squared lengths in float64, of shape (n_groups, k)."""
    return np.einsum("bkd,bkd->bk", centers, centers).astype(np.float64)


def _inertia(rows, group, labels, sums, centers):
    """Sum weighted squared distances to the centres, given the clusters' sums."""
    part = rows.part(group)
    weights = rows.weights[part]
    sizes = np.bincount(labels, weights, minlength=len(centers))
    centers = centers.astype(np.float64)
    scatter = np.dot(rows.sq_norms[part].astype(np.float64), weights)
    inertia = scatter - 2 * np.einsum("ij,ij->", centers, sums)
    inertia += np.einsum("ij,ij,i->", centers, centers, sizes)
    if inertia < CANCELLED * scatter:
        inertia = inertia_of(rows.of(group), labels, weights, centers)
    return inertia


def _refill(rows, labels, centers, wanted=True):
    """Refill empty clusters of the wanted groups, if any; return rows that moved."""
    n_groups, k, _ = centers.shape
    counts = np.bincount(rows.keys(labels, k), minlength=n_groups * k)
    empty = (counts.reshape(n_groups, k) == 0).any(axis=1)
    before = labels.copy() if empty.any() else labels
    for g in np.flatnonzero(empty & wanted):
        part = rows.part(g)
        difference = rows.of(g) - centers[g, labels[part]]
        distances = np.einsum("ij,ij->i", difference, difference)
        refill(labels[part], distances, rows.sq_norms[part], k)
    return np.flatnonzero(labels != before)


def _scale(sums, rows, labels, spherical):
    """Make centres and sizes of the clusters, given the sums of their members."""
    n_groups, k, _ = sums.shape
    keys = rows.keys(labels, k)
    sizes = np.bincount(keys, rows.weights, minlength=n_groups * k)
    sizes = sizes.reshape(n_groups, k)
    scales = np.linalg.norm(sums, axis=2) if spherical else sizes
    scales = 1 / np.where(scales > 0, scales, 1)
    return (sums * scales[:, :, None]).astype(rows.X.dtype), sizes
