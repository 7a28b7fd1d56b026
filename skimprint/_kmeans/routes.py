"""The ways through the k-means engine, and which group takes which."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .._blas import dot_transposed, gram_each
from .._groups import Buffer, GroupedRows, alike
from ..normalization import l2_normalize
from .gram import gram_kmeans
from .lloyd import lloyd_kmeans
from .sums import cluster_sums

# What a run of Lloyd's algorithm on rows costs, in passes over all rows of a group.
_PASSES = 12

# Groups up to this size share the overhead of array operations with others.
_SMALL = 200

# Largest group for which inner products are stored: 32 MiB in float32.
_MAX_GRAM = 2896

# Bytes of inner products that go through Lloyd's algorithm together, and of rows of
# which they are made: few enough to stay in the cache, enough to be worth the calls.
_GRAM_BYTES = 2**19
_ROW_BYTES = 2**21


class Run(NamedTuple):
    """A clustering of every group, and where it goes."""

    n_centers: np.ndarray  # (n_groups,): at most the size of the group
    result: tuple  # GroupedKMeansResult, filled in group by group


class Job(NamedTuple):
    """What is asked for."""

    groups: GroupedRows
    runs: list  # of Run: what they do to the same rows is done once
    seed: int
    spherical: bool
    options: dict  # of both kinds of Lloyd's algorithm
    buffer: Buffer

    def rows(self, bucket):
        """Rows of some groups, of shape (n_groups, n, d); gone with the next call."""
        shape = len(bucket), self.groups.sizes[bucket[0]], self.groups.n_features
        return self.groups.stack(
            bucket, out=self.buffer.empty(shape, self.groups.dtype)
        )


class Task(NamedTuple):
    """Some groups of one size and number of centres, and their way in some runs."""

    route: Callable
    groups: np.ndarray
    runs: list
    cost: float


def plan(job):
    """Split a job into tasks, in a way that does not depend on the threads."""
    sizes = job.groups.sizes
    tasks = []
    for same in alike(sizes, *(run.n_centers for run in job.runs)):
        n = int(sizes[same[0]])
        ways = {}
        for run in job.runs:
            route, per_task, cost = _way(n, int(run.n_centers[same[0]]), job)
            runs, costs = ways.setdefault((route, per_task), ([], []))
            runs.append(run)
            costs.append(cost)
        for (route, per_task), (runs, costs) in ways.items():
            for start in range(0, len(same), per_task):
                bucket = same[start : start + per_task]
                tasks.append(Task(route, bucket, runs, sum(costs) * len(bucket)))
    return tasks


def _way(n, k, job):
    """The route of groups of n rows and k centres, their number per task, the cost."""
    d, itemsize = job.groups.n_features, job.groups.dtype.itemsize
    if k in (1, n):
        route = _keep if k == n else _average
        return route, max(1, _ROW_BYTES // (n * d * itemsize)), n
    if fits_gram_space(n, k, job.options["n_init"]):
        return _in_gram_space, max(1, _GRAM_BYTES // (n * n * itemsize)), n * n
    return _on_rows, 1, 2 * n * job.options["n_init"] * _PASSES * k


def fits_gram_space(n, k, n_init):
    """Whether inner products of all n rows of a group cost less than k distances do.

    They cost half of what n columns of distances do.
    """
    return n <= np.minimum(np.maximum(_SMALL, 2 * n_init * _PASSES * k), _MAX_GRAM)


def _keep(job, bucket, runs):
    """Every row is a centre."""
    index, rows = job.groups.stack_indices(bucket), job.rows(bucket)
    for run in runs:
        run.result.centers[_stacked(run, bucket)] = rows
        run.result.labels[index] = np.arange(index.shape[1])


def _average(job, bucket, runs):
    """The mean is the only centre."""
    rows, weights = job.rows(bucket), job.groups.stack_weights(bucket)
    members = np.zeros(weights.shape, np.int32)
    # Sums of many rows lose less to rounding near their mean.
    origin = 0 if job.spherical else _means(rows)
    rows -= origin
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
    """Lloyd's algorithm on inner products, for groups of one size together."""
    groups, n = job.groups, int(job.groups.sizes[bucket[0]])
    step = max(1, _ROW_BYTES // (n * groups.n_features * groups.dtype.itemsize))
    chunks = [slice(i, i + step) for i in range(0, len(bucket), step)]
    G = np.empty((len(bucket), n, n), groups.dtype)
    for chunk in chunks:
        rows = job.rows(bucket[chunk])
        if not job.spherical:
            rows -= _means(rows)
        gram_each(rows, out=G[chunk])
    weights = groups.stack_weights(bucket)
    index = groups.stack_indices(bucket)
    members = []
    for run in runs:
        k, rng = int(run.n_centers[bucket[0]]), np.random.default_rng(job.seed)
        found = gram_kmeans(G, weights, k, rng, **job.options)
        members.append(found.members)
        run.result.labels[index] = found.labels
        run.result.inertia[bucket] = found.inertia
        run.result.n_iter[bucket] = found.n_iter
    for chunk in chunks:
        rows = job.rows(bucket[chunk])
        for run, labels in zip(runs, members, strict=True):
            k = int(run.n_centers[bucket[0]])
            centers = _centers(rows, labels[chunk], weights[chunk], k, job)
            run.result.centers[_stacked(run, bucket[chunk])] = centers


def _on_rows(job, bucket, runs):
    """Lloyd's algorithm on the rows of one group."""
    rows, weights = job.rows(bucket), job.groups.stack_weights(bucket)
    # The lengths of spherical centres refer to the origin, so there it must stay.
    origin = 0 if job.spherical else _means(rows)
    rows -= origin
    index = job.groups.stack_indices(bucket)
    samples = {} if len(runs) > 1 else None
    for run in runs:
        k, rng = int(run.n_centers[bucket[0]]), np.random.default_rng(job.seed)
        found = lloyd_kmeans(
            rows[0], weights[0], k, rng, samples=samples, **job.options
        )
        run.result.centers[_stacked(run, bucket)] = found.centers + origin
        run.result.labels[index] = found.labels
        run.result.inertia[bucket] = found.inertia
        run.result.n_iter[bucket] = found.n_iter


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


def _stacked(run, bucket):
    """Indices of the centres of groups that have the same number of them."""
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
            distances = dot_transposed(groups.take(index) - mean, centers, -2.0)
            distances += np.einsum("ij,ij->i", centers, centers)
            result.labels[index] = distances.argmin(axis=1)
