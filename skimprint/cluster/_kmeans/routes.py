"""Lead groups through the k-means engine, each on the route that is cheapest.

`grouped_kmeans_each` makes a `Job`, splits it into tasks, and runs these in threads.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..._arrays.blas import FEW_ROWS, centred_gram, gram_each
from ..._arrays.groups import GroupedRows, blocks_of_rows, group_by_equal, offsets_of
from ..._arrays.threads import PausableLock
from ...normalization import l2_normalize
from .gram import gram_kmeans
from .lloyd import lloyd_kmeans
from .nearest import nearest_of
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
# to leave the interpreter. The bytes bound what their inner products take.
_FEW = 16
_TASK_BYTES = 2**24


class GroupedKMeansResult(NamedTuple):
    """Hold the clusters of every group, filled in group by group."""

    centers: np.ndarray  # (k_total, d): group by group
    offsets: np.ndarray  # (n_groups + 1,): where each group's centres begin
    indices: np.ndarray  # (k_total,): the row of the group nearest to a centre
    counts: np.ndarray  # (k_total,): weight of the rows that it is nearest to
    spreads: np.ndarray  # (k_total,): its squared distance from the nearest row
    inertia: np.ndarray  # (n_groups,): weighted sums of squared distances
    # Of what was clustered on the host:
    labels: np.ndarray | None = None  # (n,): a row's centre, within its group
    n_iter: np.ndarray | None = None  # (n_groups,): iterations; 0 if there were none

    @classmethod
    def empty(cls, groups, n_clusters):
        """Make room for so many centres of each group, or one for each of its rows."""
        offsets = offsets_of(np.minimum(n_clusters, groups.sizes))
        total = offsets[-1]
        return cls(
            np.empty((total, groups.n_features), groups.dtype),
            offsets,
            np.empty(total, np.intp),
            np.empty(total),
            np.empty(total),
            np.zeros(len(groups)),
        )

    def n_centers(self, group):
        """Count the centres of a group."""
        return int(self.offsets[group + 1] - self.offsets[group])

    def slots(self, bucket):
        """Index the centres of groups that have the same number of them."""
        return self.offsets[bucket][:, None] + np.arange(self.n_centers(bucket[0]))

    def relate(self, bucket, index, nearest):
        """Fill in what rows, by their numbers, and centres are to each other."""
        slots = self.slots(bucket)
        self.indices[slots] = np.take_along_axis(index, nearest.rows, axis=1)
        self.counts[slots] = nearest.counts
        self.spreads[slots] = nearest.spreads


class Job(NamedTuple):
    """Hold what is asked for."""

    groups: GroupedRows
    results: list  # one for each number of clusters; what they share is done once
    seed: int
    options: dict  # of both kinds of Lloyd's algorithm
    lock: PausableLock

    def centre(self, rows):
        """Take the mean of each group from its rows, in place, and return it."""
        # The lengths of spherical centres refer to the origin, so there it must stay.
        if self.options["spherical"]:
            return np.zeros_like(rows[:, :1])
        # Rounding hurts least about means. A product is a few times faster than `mean`.
        n = rows.shape[1]
        means = np.full((1, n), 1 / n, rows.dtype) @ rows
        rows -= means
        return means


class Task(NamedTuple):
    """Hold some groups of one size and number of centres, and the route to results."""

    route: Callable
    groups: np.ndarray
    results: list
    cost: float


def tasks_of(job, n_threads=1):
    """Split a job into tasks.

    Results do not depend on it, for no group depends on the others.
    """
    sizes, tasks = job.groups.sizes, []
    for same in group_by_equal(
        sizes, *(np.diff(result.offsets) for result in job.results)
    ):
        n = int(sizes[same[0]])
        by_route = {}
        for result in job.results:
            route = _route_of(n, result.n_centers(same[0]), job)
            by_route.setdefault(route, []).append(result)
        for route, results in by_route.items():
            n_tasks = math.ceil(len(same) / _per_task(route, n, job))
            n_tasks = math.ceil(n_tasks / n_threads) * n_threads
            tasks += [
                Task(route, some, results, len(some) * n**2)
                for some in np.array_split(same, min(n_tasks, len(same)))
            ]
    return tasks


def _route_of(n, k, job):
    """Choose the route of groups of n rows and k centres."""
    if k in (1, n):
        return _keep if k == n else _average
    if fits_gram_space(n, k, job.options["n_init"]):
        return _in_gram_space
    return _on_rows


def _per_task(route, n, job):
    """Say how many groups of n rows, at most, take a route together."""
    if route is _on_rows:
        return 1
    if route is _in_gram_space:
        n_bytes = n * n * job.groups.dtype.itemsize
        return max(_GRAM_BYTES // n_bytes, min(_FEW, _TASK_BYTES // n_bytes), 1)
    return max(1, _ROW_BYTES // (n * job.groups.row_bytes))


def fits_gram_space(n, k, n_init):
    """Tell whether inner products of n rows of a group cost less than k distances do.

    They cost half of what n columns of distances do, and a run on rows k columns in
    each of its passes.
    """
    return n <= np.minimum(_SMALL + 2 * n_init * _PASSES * k, _MAX_GRAM)


def _keep(job, bucket, results):
    """Take every row as a centre, which stands for itself, also beside an equal one."""
    groups, index = job.groups, job.groups.stack_indices(bucket)
    rows = groups.stack(bucket, copy=False)
    for result in results:
        slots = result.slots(bucket)
        result.centers[slots] = rows
        result.labels[index] = np.arange(index.shape[1])
        result.indices[slots] = index
        result.counts[slots] = groups.weights_at(index)
        result.spreads[slots] = groups.spreads_at(index)


def _average(job, bucket, results):
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
    index = job.groups.stack_indices(bucket)
    nearest = nearest_of(sq_distances[:, None], weights, job.groups.spreads_at(index))
    for result in results:
        result.relate(bucket, index, nearest)
        result.centers[result.slots(bucket)] = centers
        result.inertia[bucket] = inertia
        result.n_iter[bucket] = 1


def _in_gram_space(job, bucket, results):
    """Run Lloyd's algorithm on inner products, for groups of one size together."""
    groups, n = job.groups, int(job.groups.sizes[bucket[0]])
    step = max(1, _ROW_BYTES // (n * groups.row_bytes))
    chunks = blocks_of_rows(len(bucket), step)
    G = np.empty((len(bucket), n, n), groups.dtype)
    stay = n <= FEW_ROWS and not job.options["spherical"]
    for chunk in chunks:
        rows = groups.stack(bucket[chunk], copy=not stay)
        if stay:
            centred_gram(rows, out=G[chunk])
        else:
            job.centre(rows)
            gram_each(rows, out=G[chunk])
    weights, index = groups.stack_weights(bucket), groups.stack_indices(bucket)
    spreads = groups.spreads_at(index)
    scatter = np.einsum("bii,bi->b", G, weights, dtype=np.float64)
    members = []
    for result in results:
        k, rng = result.n_centers(bucket[0]), np.random.default_rng(job.seed)
        with job.lock:
            found = gram_kmeans(G, weights, k, rng, job.lock, spreads, **job.options)
        result.relate(bucket, index, found.nearest)
        members.append(found.members)
        result.labels[index] = found.labels
        result.inertia[bucket] = found.inertia
        result.n_iter[bucket] = found.n_iter
    for chunk in chunks:
        some = bucket[chunk]
        rows = groups.stack(some, copy=False)
        for result, labels in zip(results, members, strict=True):
            k = result.n_centers(bucket[0])
            centers = _centers(rows, labels[chunk], weights[chunk], k, job)
            result.centers[result.slots(some)] = centers
            inertia = result.inertia
            for g in np.flatnonzero(inertia[some] < CANCELLED * scatter[chunk]):
                own, w = result.labels[index[chunk][g]], weights[chunk][g]
                inertia[some[g]] = inertia_of(rows[g], own, w, centers[g])


def _on_rows(job, bucket, results):
    """Run Lloyd's algorithm on the rows of a group."""
    rows, index = job.groups.stack(bucket), job.groups.indices(bucket[0])
    origin = job.centre(rows)[0]
    weights = job.groups.stack_weights(bucket)[0]
    spreads = job.groups.spreads_at(index)
    for result in results:
        k, rng = result.n_centers(bucket[0]), np.random.default_rng(job.seed)
        with job.lock:
            found = lloyd_kmeans(
                rows[0], weights, k, rng, job.lock, spreads, **job.options
            )
        result.relate(bucket, index[None], found.nearest)
        result.centers[result.slots(bucket)] = found.centers + origin
        result.labels[index] = found.labels
        result.inertia[bucket] = found.inertia
        result.n_iter[bucket] = found.n_iter


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
    if job.options["spherical"]:
        # A sum of little weight must not count as zero. Powers of two change no digit.
        _, exponents = np.frexp(sizes)
        np.ldexp(centers, -exponents[:, None], out=centers)
        l2_normalize(centers, out=centers)
    else:
        centers /= np.where(sizes > 0, sizes, 1).astype(rows.dtype)[:, None]
    centers, sizes = centers.reshape(n_groups, k, d), sizes.reshape(n_groups, k)
    for group in np.flatnonzero((sizes == 0).any(axis=1)):
        centers[group, sizes[group] == 0] = centers[group, sizes[group].argmax()]
    return centers


def label_weightless(job, groups):
    """Give rows that took no part the label of the nearest centre of their group."""
    for group in np.flatnonzero(groups.sizes != job.groups.sizes):
        index = groups.indices(group)
        index = index[groups.sample_weight[index] == 0]
        for result in job.results:
            centers = result.centers[result.slots([group])[0]]
            mean = centers.mean(axis=0)
            centers = centers - mean
            distances = -2 * ((groups.take(index) - mean) @ centers.T)
            distances += np.einsum("ij,ij->i", centers, centers)
            result.labels[index] = distances.argmin(axis=1)
