"""Lead groups through the k-means engine, each on the route that is cheapest."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..._arrays.blas import FEW_ROWS, centred_gram, gram_each
from ..._arrays.groups import GroupedRows, group_by_equal, offsets_of
from ..._arrays.threads import PausableLock
from ...normalization import l2_normalize
from .gram import gram_kmeans
from .lloyd import lloyd_kmeans
from .seeding import sample_size
from .sums import CANCELLED, cluster_sums, inertia_of

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
# the rows; but each of many has enough to do between two steps in the interpreter.
_FEW = 16
_TASKS_BYTES = 2**26
_TASK_BYTES = 2**24


class Run(NamedTuple):
    """Hold a clustering of every group, and where it goes."""

    n_centers: np.ndarray  # (n_groups,): at most the size of the group
    result: tuple  # GroupedKMeansResult, filled in group by group


class Job(NamedTuple):
    """Hold what is asked for."""

    groups: GroupedRows
    runs: list  # of Run: what they do to the same rows is done once
    seed: int
    spherical: bool
    options: dict  # of both kinds of Lloyd's algorithm
    lock: PausableLock

    def centre(self, rows):
        """Take the mean of each group from its rows, in place, and return it."""
        # The lengths of spherical centres refer to the origin, so there it must stay.
        if self.spherical:
            return np.zeros_like(rows[:, :1])
        means = _means(rows)
        rows -= means
        return means


class Task(NamedTuple):
    """Hold some groups of one size and number of centres, and their route in runs."""

    route: Callable
    groups: np.ndarray
    runs: list
    cost: float


def plan(job, n_threads=1):
    """Split a job into tasks.

    Results do not depend on it, for no group depends on the others.
    """
    sizes, itemsize = job.groups.sizes, job.groups.dtype.itemsize
    row_bytes = job.groups.n_features * itemsize
    task_bytes = max(_TASKS_BYTES // max(n_threads, 2), _TASK_BYTES)
    tasks, large = [], {}
    for same in group_by_equal(sizes, *(run.n_centers for run in job.runs)):
        n = int(sizes[same[0]])
        ways = {}
        for i, run in enumerate(job.runs):
            k = int(run.n_centers[same[0]])
            ways.setdefault(_way(n, k, job), []).append((i, k))
        for route, asked in ways.items():
            if route is _on_rows:
                samples = tuple(min(n, int(sample_size(k))) for _, k in asked)
                large.setdefault((tuple(asked), samples), []).append(same)
                continue
            runs = [job.runs[i] for i, _ in asked]
            least = len(same) / _per_task(route, n, job, task_bytes)
            tasks += [
                Task(route, bucket, runs, _cost(route, n, asked, job) * len(bucket))
                for bucket in np.array_split(
                    same, _n_tasks(len(same), least, n_threads)
                )
            ]
    for (asked, samples), lists in large.items():
        groups = np.concatenate(lists)
        runs = [job.runs[i] for i, _ in asked]
        ends = np.cumsum(sizes[groups])
        n_bytes = ends[-1] * row_bytes + len(groups) * max(samples) ** 2 * itemsize
        least = max(n_bytes / task_bytes, len(groups) / _FEW)
        n_tasks = _n_tasks(len(groups), least, n_threads)
        task = (ends - sizes[groups] / 2) * n_tasks // ends[-1]
        tasks += [
            Task(_on_rows, some, runs, _cost(_on_rows, sizes[some].sum(), asked, job))
            for some in np.split(groups, np.flatnonzero(np.diff(task)) + 1)
        ]
    return tasks


def _n_tasks(n_groups, least, n_threads):
    """Count tasks: at least so many, and as many for each thread."""
    n_tasks = -(-math.ceil(least) // n_threads) * n_threads
    return min(n_tasks, n_groups)


def _columns(k, n_init):
    """Estimate how many columns of distances it takes to cluster a group."""
    return n_init * _PASSES * k


def _way(n, k, job):
    """Choose the route of groups of n rows and k centres."""
    if k in (1, n):
        return _keep if k == n else _average
    if fits_gram_space(n, k, job.options["n_init"]):
        return _in_gram_space
    return _on_rows


def _per_task(route, n, job, task_bytes):
    """Say how many groups of n rows, at most, take a route together."""
    itemsize = job.groups.dtype.itemsize
    if route is _in_gram_space:
        n_bytes = n * n * itemsize
        return max(_GRAM_BYTES // n_bytes, min(_FEW, task_bytes // n_bytes), 1)
    return max(1, _ROW_BYTES // (n * job.groups.n_features * itemsize))


def _cost(route, n, asked, job):
    """Estimate the duration for n rows, given the runs and their numbers of centres."""
    if route is _in_gram_space:
        return n * n * len(asked)
    if route is _on_rows:
        return 2 * n * sum(_columns(k, job.options["n_init"]) for _, k in asked)
    return n * len(asked)


def fits_gram_space(n, k, n_init):
    """Tell whether inner products of n rows of a group cost less than k distances do.

    They cost half of what n columns of distances do.
    """
    return n <= np.minimum(_SMALL + 2 * _columns(k, n_init), _MAX_GRAM)


def _keep(job, bucket, runs):
    """Take every row as a centre."""
    index, rows = job.groups.stack_indices(bucket), job.groups.stack(bucket)
    for run in runs:
        run.result.centers[_stacked(run, bucket)] = rows
        run.result.labels[index] = np.arange(index.shape[1])


def _average(job, bucket, runs):
    """Take the mean as the only centre."""
    # Sums of many rows lose less to rounding near their mean.
    rows = job.groups.stack(bucket)
    origin = job.centre(rows)
    weights = job.groups.stack_weights(bucket)
    members = np.zeros(weights.shape, np.int32)
    centers = _centers(rows, members, weights, 1, job)
    rows -= centers
    centers += origin
    sq_distances = np.einsum("bnd,bnd->bn", rows, rows)
    inertia = np.einsum("bn,bn->b", sq_distances, weights, dtype=np.float64)
    for run in runs:
        run.result.centers[_stacked(run, bucket)] = centers
        run.result.inertia[bucket] = inertia
        run.result.n_iter[bucket] = 1


def _in_gram_space(job, bucket, runs):
    """Run Lloyd's algorithm on inner products, for groups of one size together."""
    groups, n = job.groups, int(job.groups.sizes[bucket[0]])
    step = max(1, _ROW_BYTES // (n * groups.n_features * groups.dtype.itemsize))
    chunks = [slice(i, i + step) for i in range(0, len(bucket), step)]
    G = np.empty((len(bucket), n, n), groups.dtype)
    for chunk in chunks:
        rows = job.groups.stack(bucket[chunk])
        if n <= FEW_ROWS and not job.spherical:
            centred_gram(rows, out=G[chunk])
        else:
            job.centre(rows)
            gram_each(rows, out=G[chunk])
    weights = groups.stack_weights(bucket)
    index = groups.stack_indices(bucket)
    scatter = np.einsum("bii,bi->b", G, weights, dtype=np.float64)
    members = []
    for run in runs:
        k, rng = int(run.n_centers[bucket[0]]), np.random.default_rng(job.seed)
        with job.lock as lock:
            found = gram_kmeans(G, weights, k, rng, lock, **job.options)
        members.append(found.members)
        run.result.labels[index] = found.labels
        run.result.inertia[bucket] = found.inertia
        run.result.n_iter[bucket] = found.n_iter
    for chunk in chunks:
        rows, some = job.groups.stack(bucket[chunk]), bucket[chunk]
        for run, labels in zip(runs, members, strict=True):
            k = int(run.n_centers[bucket[0]])
            centers = _centers(rows, labels[chunk], weights[chunk], k, job)
            run.result.centers[_stacked(run, some)] = centers
            inertia = run.result.inertia
            for g in np.flatnonzero(inertia[some] < CANCELLED * scatter[chunk]):
                own, w = run.result.labels[index[chunk][g]], weights[chunk][g]
                inertia[some[g]] = inertia_of(rows[g], own, w, centers[g])


def _on_rows(job, bucket, runs):
    """Run Lloyd's algorithm on the rows of groups that may differ in size.

    Groups whose rows are all in a sample of `seed_rows` must not.
    """
    groups = job.groups
    offsets = offsets_of(groups.sizes[bucket])
    index = np.concatenate([groups.indices(group) for group in bucket])
    rows = groups.take(index)
    origins = [job.centre(rows[None, start:stop]) for start, stop in pairwise(offsets)]
    origins = np.concatenate(origins)
    weights = np.concatenate([groups.stack_weights([group])[0] for group in bucket])
    samples = {} if len(runs) > 1 else None
    for run in runs:
        k, rng = int(run.n_centers[bucket[0]]), np.random.default_rng(job.seed)
        with job.lock as lock:
            found = lloyd_kmeans(
                rows, offsets, weights, k, rng, lock, samples=samples, **job.options
            )
        run.result.centers[_stacked(run, bucket)] = found.centers + origins
        run.result.labels[index] = found.labels
        run.result.inertia[bucket] = found.inertia
        run.result.n_iter[bucket] = found.n_iter


def _means(rows):
    """Take means, of shape (n_groups, 1, d), which rounding hurts least as origins.

    A product is a few times faster than `mean`.
    """
    n = rows.shape[1]
    return np.full((1, n), 1 / n, rows.dtype) @ rows


def _centers(rows, members, weights, k, job):
    """Take means of the members of each cluster, of shape (n_groups, k, d)."""
    n_groups, n, d = rows.shape
    keys = (members + np.arange(0, n_groups * k, k, dtype=np.int32)[:, None]).ravel()
    sizes = np.bincount(keys, weights.ravel(), minlength=n_groups * k)
    if n <= FEW_ROWS:
        belongs = members[:, None] == np.arange(k)[:, None]
        centers = np.matmul(belongs * weights[:, None], rows).reshape(-1, d)
    else:
        flat = rows.reshape(-1, d), [keys], [weights.ravel()]
        centers = cluster_sums(*flat, n_groups * k)
    if job.spherical:
        l2_normalize(centers, out=centers)
    else:
        centers /= np.where(sizes > 0, sizes, 1).astype(rows.dtype)[:, None]
    centers, sizes = centers.reshape(n_groups, k, d), sizes.reshape(n_groups, k)
    for group in np.flatnonzero((sizes == 0).any(axis=1)):
        centers[group, sizes[group] == 0] = centers[group, sizes[group].argmax()]
    return centers


def _stacked(run, bucket):
    """Index the centres of groups that have the same number of them."""
    k = run.n_centers[bucket[0]]
    return run.result.offsets[bucket][:, None] + np.arange(k)


def label_weightless(job, groups):
    """Give rows that took no part the label of the nearest centre of their group."""
    for group in np.flatnonzero(groups.sizes != job.groups.sizes):
        index = groups.indices(group)
        index = index[groups.sample_weight[index] == 0]
        for _, result in job.runs:
            centers = result.centers[result.offsets[group] : result.offsets[group + 1]]
            mean = centers.mean(axis=0)
            centers = centers - mean
            distances = -2 * ((groups.take(index) - mean) @ centers.T)
            distances += np.einsum("ij,ij->i", centers, centers)
            result.labels[index] = distances.argmin(axis=1)
