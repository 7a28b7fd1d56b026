"""The ways through the k-means engine, and which group takes which."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from .._blas import dot_transposed, gram_each
from .._groups import Buffer, GroupedRows, alike, offsets_of
from .._threads import Turns
from ..normalization import l2_normalize
from .gram import gram_kmeans
from .lloyd import lloyd_kmeans
from .sums import cluster_sums

# What a run of Lloyd's algorithm on rows costs, in passes over all rows of a group.
_PASSES = 12

# Groups up to this size take less than the array operations that larger ones need for
# each by itself.
_SMALL = 300

# Largest group for which inner products are stored: 32 MiB in float32.
_MAX_GRAM = 2896

# Bytes of inner products that go through Lloyd's algorithm together, and of rows of
# which they are made: few enough to stay in the cache, enough to be worth the calls.
_GRAM_BYTES = 2**19
_ROW_BYTES = 2**21

# Of larger groups, few still go together: otherwise threads would wait for each other
# to leave the interpreter. The bytes bound what all of at least two threads need beside
# the rows.
_FEW = 16
_TASKS_BYTES = 2**26


class Job(NamedTuple):
    """What is asked for, and where the answer goes."""

    groups: GroupedRows
    n_centers: np.ndarray  # (n_groups,): at most the size of the group
    result: tuple  # GroupedKMeansResult, filled in group by group
    seed: int
    spherical: bool
    options: dict  # of both kinds of Lloyd's algorithm
    buffer: Buffer
    turns: Turns

    def rows(self, bucket):
        """Rows of some groups, of shape (n_groups, n, d), to read only.

        They are gone with the next call.
        """
        return self.groups.peek(bucket, out=self._memory(bucket))

    def centred_rows(self, bucket):
        """The same to write on, less the mean of each group; and these means."""
        rows = self._memory(bucket)
        origin = np.zeros((len(bucket), 1, rows.shape[2]), rows.dtype)
        self.centre(bucket, rows, origin)
        return rows, origin

    def centre(self, bucket, out, origin):
        """Put rows into out, less the mean of each group, which origin gets."""
        # The lengths of spherical centres refer to the origin, so there it must stay.
        if self.spherical:
            self.groups.stack(bucket, out=out)
            return
        rows = self.groups.peek(bucket, out=out)
        origin[:] = _means(rows)
        np.subtract(rows, origin, out=out)

    def _memory(self, bucket):
        shape = len(bucket), self.groups.sizes[bucket[0]], self.groups.n_features
        return self.buffer.empty(shape, self.groups.dtype)


class Task(NamedTuple):
    """Some groups of one size and number of centres, and their way."""

    route: Callable
    groups: np.ndarray
    cost: float


def plan(job, n_threads=1):
    """Split a job into tasks.

    Results do not depend on it, for no group depends on its company.
    """
    sizes, n_centers = job.groups.sizes, job.n_centers
    row_bytes = job.groups.n_features * job.groups.dtype.itemsize
    task_bytes = _TASKS_BYTES // max(n_threads, 2)
    tasks, large = [], {}
    for same in alike(sizes, n_centers):
        n, k = int(sizes[same[0]]), int(n_centers[same[0]])
        route, per_task, cost = _way(n, k, job, task_bytes)
        if route is _on_rows:
            large.setdefault(k, []).append(same)
            continue
        n_tasks = _n_tasks(len(same), len(same) / per_task, n_threads)
        tasks += [
            Task(route, bucket, cost * len(bucket))
            for bucket in np.array_split(same, n_tasks)
        ]
    for k, lists in large.items():
        groups = np.concatenate(lists)
        ends = np.cumsum(sizes[groups])
        least = max(ends[-1] * row_bytes / task_bytes, len(groups) / _FEW)
        n_tasks = _n_tasks(len(groups), least, n_threads)
        task = (ends - sizes[groups] / 2) * n_tasks // ends[-1]
        tasks += [
            Task(_on_rows, bucket, 2 * sizes[bucket].sum() * _columns(k, job))
            for bucket in np.split(groups, np.flatnonzero(np.diff(task)) + 1)
        ]
    return tasks


def _n_tasks(n_groups, least, n_threads):
    """Number of tasks, at least so many, and as many for each thread."""
    n_tasks = -(-math.ceil(least) // n_threads) * n_threads
    return min(n_tasks, n_groups)


def _columns(k, job):
    """Columns of distances from all rows of a group that it takes to cluster it."""
    return job.options["n_init"] * _PASSES * k


def _way(n, k, job, task_bytes):
    """The route of groups of n rows and k centres, their number per task, the cost."""
    d, itemsize = job.groups.n_features, job.groups.dtype.itemsize
    if k in (1, n):
        route = _keep if k == n else _average
        return route, max(1, _ROW_BYTES // (n * d * itemsize)), n
    # Inner products cost half of what n columns of distances do.
    if n <= min(_SMALL + 2 * _columns(k, job), _MAX_GRAM):
        n_bytes = n * n * itemsize
        per_task = max(_GRAM_BYTES // n_bytes, min(_FEW, task_bytes // n_bytes), 1)
        return _in_gram_space, per_task, n * n
    return _on_rows, _FEW, 2 * n * _columns(k, job)


def _keep(job, bucket):
    """Every row is a centre."""
    index = job.groups.stack_indices(bucket)
    k = index.shape[1]
    job.result.centers[_stacked(job, bucket)] = job.rows(bucket)
    job.result.labels[index] = np.arange(k)


def _average(job, bucket):
    """The mean is the only centre."""
    # Sums of many rows lose less to rounding near their mean.
    rows, origin = job.centred_rows(bucket)
    weights = job.groups.stack_weights(bucket)
    members = np.zeros(weights.shape, np.int32)
    centers = _centers(rows, members, weights, 1, job)
    rows -= centers
    centers += origin
    sq_distances = np.einsum("bnd,bnd->bn", rows, rows)
    job.result.centers[_stacked(job, bucket)] = centers
    job.result.inertia[bucket] = np.einsum(
        "bn,bn->b", sq_distances, weights, dtype=np.float64
    )
    job.result.n_iter[bucket] = 1


def _in_gram_space(job, bucket):
    """Lloyd's algorithm on inner products, for groups of one size together."""
    groups, result = job.groups, job.result
    k, n = int(job.n_centers[bucket[0]]), int(groups.sizes[bucket[0]])
    step = max(1, _ROW_BYTES // (n * groups.n_features * groups.dtype.itemsize))
    chunks = [slice(i, i + step) for i in range(0, len(bucket), step)]
    G = np.empty((len(bucket), n, n), groups.dtype)
    for chunk in chunks:
        rows, _ = job.centred_rows(bucket[chunk])
        gram_each(rows, out=G[chunk])
    weights = groups.stack_weights(bucket)
    rng = np.random.default_rng(job.seed)
    with job.turns:
        found = gram_kmeans(G, weights, k, rng, **job.options)
    for chunk in chunks:
        members, w = found.members[chunk], weights[chunk]
        centers = _centers(job.rows(bucket[chunk]), members, w, k, job)
        result.centers[_stacked(job, bucket[chunk])] = centers
    result.labels[groups.stack_indices(bucket)] = found.labels
    result.inertia[bucket] = found.inertia
    result.n_iter[bucket] = found.n_iter


def _on_rows(job, bucket):
    """Lloyd's algorithm on the rows of groups that may differ in size."""
    groups, result = job.groups, job.result
    offsets = offsets_of(groups.sizes[bucket])
    rows = job.buffer.empty((offsets[-1], groups.n_features), groups.dtype)
    origins = np.zeros((len(bucket), 1, groups.n_features), groups.dtype)
    for group, (start, stop), origin in zip(
        bucket, pairwise(offsets), origins, strict=True
    ):
        job.centre([group], rows[None, start:stop], origin[None])
    index = np.concatenate([groups.indices(group) for group in bucket])
    weights = np.concatenate([groups.stack_weights([group])[0] for group in bucket])
    k = int(job.n_centers[bucket[0]])
    rng = np.random.default_rng(job.seed)
    with job.turns as turns:
        found = lloyd_kmeans(rows, offsets, weights, k, rng, turns, **job.options)
    result.centers[_stacked(job, bucket)] = found.centers + origins
    result.labels[index] = found.labels
    result.inertia[bucket] = found.inertia
    result.n_iter[bucket] = found.n_iter


def _means(rows):
    """Plain means, of shape (n_groups, 1, d): rounding hurts distances to them least.

    A product is a few times faster than `mean`.
    """
    n = rows.shape[1]
    return np.full((1, n), 1 / n, rows.dtype) @ rows


def _centers(rows, members, weights, k, job):
    """Means of the members of each cluster, of shape (n_groups, k, d)."""
    n_groups, _, d = rows.shape
    keys = (members + np.arange(0, n_groups * k, k, dtype=np.int32)[:, None]).ravel()
    weights = weights.ravel()
    centers = cluster_sums(rows.reshape(-1, d), [keys], [weights], n_groups * k)
    sizes = np.bincount(keys, weights, minlength=n_groups * k)
    if job.spherical:
        l2_normalize(centers, out=centers)
    else:
        centers /= np.where(sizes > 0, sizes, 1).astype(rows.dtype)[:, None]
    centers, sizes = centers.reshape(n_groups, k, d), sizes.reshape(n_groups, k)
    for group in np.flatnonzero((sizes == 0).any(axis=1)):
        centers[group, sizes[group] == 0] = centers[group, sizes[group].argmax()]
    return centers


def _stacked(job, bucket):
    """Indices of the centres of groups that have the same number of them."""
    k = job.n_centers[bucket[0]]
    return job.result.offsets[bucket][:, None] + np.arange(k)


def label_weightless(job, groups):
    """Give rows that took no part the label of the nearest centre of their group."""
    result = job.result
    for group in np.flatnonzero(groups.sizes != job.groups.sizes):
        index = groups.indices(group)
        index = index[groups.sample_weight[index] == 0]
        centers = result.centers[result.offsets[group] : result.offsets[group + 1]]
        mean = centers.mean(axis=0)
        centers = centers - mean
        distances = dot_transposed(groups.take(index) - mean, centers, -2.0)
        distances += np.einsum("ij,ij->i", centers, centers)
        result.labels[index] = distances.argmin(axis=1)
