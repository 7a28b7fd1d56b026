"""Cluster every class on another device.

On CUDA, with CuPy, kernels of our own do it, for each class as if it were alone. Else
it is done in the operations of the array API: classes of about the same size go through
the same operations together, the shorter ones filled up with copies of a row, without
weight. There, unlike on the host, other classes may change the rounding of its sums;
the same call gives the same bits.
"""

from typing import NamedTuple

import numpy as np

from ..._arrays.device import DeviceArray, has_float64, in_halves, to_host
from ...normalization import lengths
from . import cuda
from .empty import refill
from .routes import GroupedKMeansResult
from .seeding import SLACK, TWICE, n_trials

# Rows that are gathered at a time, unless a single class has more.
_BUCKET_BYTES = 2**28

# A class goes with others of up to so many times its rows.
_MAX_PADDING = 1.25


class _Stack(NamedTuple):
    """Hold rows of some groups on the device, and their weights."""

    xp: object
    rows: object  # (g, n, d), centred unless spherical
    sq_norms: object  # (g, n)
    weights: object  # (g, n), zero for what fills up

    def only(self, groups):
        """Take some of the groups, by their numbers on the device."""
        parts = (self.xp.take(part, groups, axis=0) for part in self[1:])
        return _Stack(self.xp, *parts)


def is_possible(groups):
    """Tell whether rows are on a device, and can be normalised there."""
    return isinstance(groups.X, DeviceArray) and not groups.transform.is_callable


def kmeans_on_device(
    groups,
    n_clusters,
    *,
    seed,
    n_init=1,
    max_iter=300,
    tol=1e-4,
    spherical=False,
    progress=None,
):
    """Cluster the rows of each group where they are.

    Parameters
    ----------
    groups : GroupedRows
        Rows by group for which `is_possible` holds, all with weight.
    n_clusters : int or ndarray of shape (n_groups,)
        Number of clusters of each group. Groups that have no more rows than that
        keep them as their centres.
    seed, n_init, max_iter, tol, spherical, progress
        As for `grouped_kmeans`.

    Returns
    -------
    result : GroupedKMeansResult
        On the host, without labels. Centres of a group with fewer distinct rows than
        clusters repeat.
    """
    result = GroupedKMeansResult.empty(groups, n_clusters)
    n_centers = np.diff(result.offsets)
    is_kept = n_centers == groups.sizes
    if is_kept.any():
        kept = groups.normalized() if spherical else groups
        kept = kept.only(np.flatnonzero(is_kept))
        slots = np.repeat(is_kept, n_centers)
        result.centers[slots] = kept.take(kept.order)
        result.indices[slots] = kept.order
        result.counts[slots] = kept.weights_at(kept.order)
        result.spreads[slots] = result.inertia[is_kept] = 0
        if progress is not None:
            progress(len(kept))

    others = np.flatnonzero(~is_kept)
    route, buckets = _cluster_rows, _buckets(groups, n_centers, others)
    if cuda.is_possible(groups, n_centers):
        route = cuda.cluster_rows
        buckets = cuda.buckets(groups, n_centers, others, n_init)

    def cluster(bucket):
        k = int(n_centers[bucket[0]])
        found = route(
            groups.only(bucket),
            k,
            seed=seed,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            spherical=spherical,
        )
        slots = result.slots(bucket).ravel()
        for name in ("centers", "indices", "counts", "spreads"):
            getattr(result, name)[slots] = to_host(getattr(found, name))
        result.inertia[bucket] = found.inertia
        if progress is not None:
            progress(len(bucket))

    for bucket in buckets:
        in_halves(cluster, bucket)
    return result


def _buckets(groups, n_centers, some):
    """List groups together of about one size, with the same number of centres."""
    sizes = groups.sizes
    most = _BUCKET_BYTES // groups.row_bytes
    bucket = []
    for group in some[np.lexsort((sizes[some], n_centers[some]))]:
        if bucket and (
            n_centers[group] != n_centers[bucket[0]]
            or sizes[group] > _MAX_PADDING * sizes[bucket[0]]
            or sizes[group] * (len(bucket) + 1) > most
        ):
            yield np.array(bucket)
            bucket = []
        bucket.append(group)
    if bucket:
        yield np.array(bucket)


def _cluster_rows(groups, k, *, seed, n_init, max_iter, tol, spherical):
    """Do in the operations of the array API what `cuda.cluster_rows` does."""
    index, stack, means = _gather(groups, spherical)
    rng = np.random.default_rng(seed)
    best = None
    for _ in range(n_init):
        labels = _seed(stack, k, rng)
        centers = _lloyd(stack, labels, k, max_iter, tol, spherical)
        run = _summarize(stack, centers)
        if best is None:
            best = run
            continue
        better = run[-1] < best[-1]
        for kept, new in zip(best, run, strict=True):
            kept[better] = new[better]
    centers, nearest, counts, spreads, inertia = best
    centers = (centers + means).reshape(-1, groups.n_features)
    indices = np.take_along_axis(index, nearest, axis=1)
    return cuda.Clusters(
        centers, indices.ravel(), counts.ravel(), spreads.ravel(), inertia
    )


def _gather(groups, spherical):
    """Gather rows: their numbers (g, n), their stack, and what was taken from them."""
    there = groups.X
    xp = there.xp
    sizes = groups.sizes[:, None]
    column = np.arange(sizes.max())
    real = column < sizes
    index = groups.order[groups.offsets[:-1, None] + np.where(real, column, 0)]
    weights = real.astype(groups.dtype)
    if groups.sample_weight is not None:
        weights *= groups.sample_weight[index]
    rows = there.rows(index.ravel(), groups.dtype)
    rows = groups.transform.on_device(xp, rows)
    if spherical and not groups.transform.unit_length:
        rows = rows / lengths(xp, rows)
    rows = xp.reshape(rows, (*index.shape, -1))
    means = np.zeros((1, 1, 1), groups.dtype)
    if not spherical:  # rounding hurts distances the least about the plain mean
        share = there.bring((real / sizes).astype(groups.dtype)[:, None, :])
        origin = share @ rows
        rows = rows - origin
        means = to_host(origin)
    stack = _Stack(xp, rows, xp.sum(rows * rows, axis=2), there.bring(weights))
    return index, stack, means


def _numbers(stack, n):
    return stack.xp.arange(n, device=stack.weights.device)


def _choose(stack, rows, chosen):
    """Take entries of the second axis, group by group: (g, m, ...) of (g, n, ...)."""
    xp, (n_groups, n) = stack.xp, rows.shape[:2]
    flat = chosen + n * _numbers(stack, n_groups)[:, None]
    taken = xp.take(
        xp.reshape(rows, (n_groups * n, *rows.shape[2:])),
        xp.reshape(flat, (-1,)),
        axis=0,
    )
    return xp.reshape(taken, (*chosen.shape, *rows.shape[2:]))


def _sq_distances(stack, points):
    """Compute them from points of each group, (g, m, d), to its rows: (g, m, n)."""
    xp = stack.xp
    products = points @ xp.matrix_transpose(stack.rows)
    found = xp.sum(points * points, axis=2)[:, :, None] - 2 * products
    return xp.clip(found + stack.sq_norms[:, None, :], 0.0, None)


def _draw(stack, mass, uniforms):
    """Draw rows in proportion to their mass: (g, m) numbers, never of what has none."""
    xp = stack.xp
    if has_float64(mass.device):
        mass = xp.astype(mass, xp.float64)
    cumulative = xp.cumulative_sum(mass, axis=1)
    uniforms = xp.asarray(uniforms, dtype=mass.dtype, device=mass.device)
    thresholds = uniforms * cumulative[:, -1:]
    below = cumulative[:, None, :] <= thresholds[:, :, None]
    drawn = xp.sum(xp.astype(below, xp.int64), axis=2)
    return xp.clip(drawn, 0, mass.shape[1] - 1)


def _seed(stack, k, rng):
    """Seed by greedy k-means++; return the nearest seed of each row: (g, n)."""
    xp = stack.xp
    first = _draw(stack, stack.weights, rng.random(1))
    closest = _sq_distances(stack, _choose(stack, stack.rows, first))[:, 0, :]
    labels = xp.zeros(closest.shape, dtype=xp.int64, device=closest.device)
    trials = TWICE * n_trials(k)
    for c in range(1, k):
        drawn = _draw(stack, closest * stack.weights, rng.random(trials))
        found = _sq_distances(stack, _choose(stack, stack.rows, drawn))
        kept = xp.minimum(found, closest[:, None, :])
        potentials = xp.sum(kept * stack.weights[:, None, :], axis=2)
        least = xp.min(potentials, axis=1, keepdims=True)
        n = potentials.shape[1]
        numbers = xp.where(
            potentials <= least * (1 + SLACK), _numbers(stack, n)[None, :], n - 1
        )
        best = xp.min(numbers, axis=1)[:, None]
        found = _choose(stack, found, best)[:, 0, :]
        labels = xp.where(found < closest, c, labels)
        closest = xp.minimum(found, closest)
    return labels


def _lloyd(stack, labels, k, max_iter, tol, spherical):
    """Find centres of the groups, (g, k, d), from the labels of their seeds."""
    xp, n_groups = stack.xp, labels.shape[0]
    scatters = xp.sum(stack.sq_norms * stack.weights, axis=1)
    variances = scatters / xp.sum(stack.weights, axis=1)
    limits = tol * variances / stack.rows.shape[2]
    centers = _means(stack, labels, k, spherical)
    done = [None] * n_groups
    active = np.arange(n_groups)
    for _ in range(max_iter):
        nearest, _ = _assign(stack, centers)
        nearest = _refilled(stack, nearest, centers, k)
        moved = _means(stack, nearest, k, spherical)
        shifts = xp.sum((moved - centers) ** 2, axis=(1, 2))
        settled = xp.all(nearest == labels, axis=1) | (shifts <= limits)
        labels, centers = nearest, moved
        stop = to_host(settled)  # the host looks once in an iteration
        if stop.any():
            for i in np.flatnonzero(stop):
                done[active[i]] = centers[int(i), ...]
            if stop.all():
                break
            on = xp.asarray(np.flatnonzero(~stop), device=labels.device)
            stack, active = stack.only(on), active[~stop]
            labels, centers, limits = (
                xp.take(part, on, axis=0) for part in (labels, centers, limits)
            )
    else:
        for i, group in enumerate(active):
            done[group] = centers[i, ...]
    return xp.stack(done)


def _means(stack, labels, k, spherical):
    """Take means of the members of each cluster, of unit length if spherical."""
    xp = stack.xp
    members = labels[:, None, :] == _numbers(stack, k)[None, :, None]
    shares = xp.astype(members, stack.weights.dtype) * stack.weights[:, None, :]
    sizes = xp.sum(shares, axis=2)[:, :, None]
    means = (shares @ stack.rows) / xp.where(sizes > 0, sizes, 1)
    return means / lengths(xp, means, axis=2) if spherical else means


def _assign(stack, centers):
    """Find the nearest centre of each row, and its squared distance: (g, n) both."""
    xp = stack.xp
    distances = _sq_distances(stack, centers)
    return xp.argmin(distances, axis=1), xp.min(distances, axis=1)


def _refilled(stack, labels, centers, k):
    """Change labels so that no cluster is empty, where there are enough rows."""
    xp = stack.xp
    members = labels[:, :, None] == _numbers(stack, k)[None, None, :]
    engaged = members & (stack.weights > 0)[:, :, None]
    full = to_host(xp.all(xp.any(engaged, axis=1), axis=1))
    if full.all():
        return labels
    _, distances = _assign(stack, centers)
    labels, distances = to_host(labels).copy(), to_host(distances).copy()
    weights, sq_norms = to_host(stack.weights), to_host(stack.sq_norms)
    for group in np.flatnonzero(~full):
        real = np.flatnonzero(weights[group] > 0)
        some, far = labels[group, real], distances[group, real]
        refill(some, far, sq_norms[group, real], k)
        labels[group, real] = some
    return xp.asarray(labels, device=stack.weights.device)


def _summarize(stack, centers):
    """Find centres, nearest rows, counts, spreads and inertia, on the host."""
    xp, k = stack.xp, centers.shape[1]
    distances = _sq_distances(stack, centers)
    labels = xp.argmin(distances, axis=1)
    members = labels[:, None, :] == _numbers(stack, k)[None, :, None]
    shares = xp.astype(members, stack.weights.dtype) * stack.weights[:, None, :]
    inertia = xp.sum(xp.min(distances, axis=1) * stack.weights, axis=1)
    return [
        to_host(part).copy()
        for part in (
            centers,
            xp.argmin(distances, axis=2),
            xp.sum(shares, axis=2),
            xp.min(distances, axis=2),
            inertia,
        )
    ]
