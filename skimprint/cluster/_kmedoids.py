"""Find the k medoids of every group: alternate assignment and update."""

import numpy as np

from .._arrays.blas import squared_distances
from ._kmeans.seeding import seed_batch
from ._kmeans.sums import cluster_sums
from ._selection import select


def grouped_kmedoids(
    groups, n_clusters, *, init="k-medoids++", max_iter=300, seed=0, n_jobs=None
):
    """Find the medoids of each group under Euclidean distance.

    Parameters
    ----------
    groups : GroupedRows
        Rows by group.
    n_clusters : int or ndarray of shape (n_groups,)
        Number of medoids.
    init : {"k-medoids++", "heuristic"}, default="k-medoids++"
        Where to start: at rows drawn with a probability that grows with the distance
        to those before them, the best of a few each time; or at the rows with the
        smallest total distance to all others, which lie close together.
    max_iter : int, default=300
        Bound for the iterations.
    seed : int, default=0
        Seed of each group's random number generator.
    n_jobs : int, default=None
        Number of threads over groups, resolved as joblib does.

    Returns
    -------
    selection : Selection
        The medoids.
    """

    groups = groups.without_weightless()

    def pick(bucket, k):
        distances = squared_distances(groups.stack(bucket))
        np.sqrt(distances, out=distances)
        n_groups, n, _ = distances.shape
        if init == "heuristic":
            totals = distances.sum(axis=1, dtype=np.float64)
            medoids = np.argsort(totals, axis=1, kind="stable")[:, :k]
        else:
            each = np.arange(n_groups)[:, None]
            medoids, _, _ = seed_batch(
                lambda candidates: distances[each, candidates],
                np.ones((n_groups, n), distances.dtype),
                k,
                np.random.default_rng(seed),
            )
            _replace_repeats(medoids, n)
        return _alternate(distances, medoids, max_iter)

    return select(groups, n_clusters, pick, n_jobs=n_jobs)


def _replace_repeats(medoids, n):
    """Let seeds that are drawn again be the first rows that are none, in place.

    That happens where there are fewer distinct rows than medoids.
    """
    is_new = np.diff(np.sort(medoids, axis=1), axis=1) > 0
    for group in np.flatnonzero(~is_new.all(axis=1)):
        found, first = np.unique(medoids[group], return_index=True)
        repeats = np.setdiff1d(np.arange(medoids.shape[1]), first)
        unused = np.setdiff1d(np.arange(n), found)
        medoids[group, repeats] = unused[: len(repeats)]


def _alternate(distances, medoids, max_iter):
    """Improve the medoids of groups of one size until they stay."""
    n_groups, n, _ = distances.shape
    k = medoids.shape[1]
    groups = np.arange(n_groups)[:, None]
    clusters = np.arange(k)
    ones = [np.ones(n_groups * n, distances.dtype)]
    for _ in range(max_iter):
        labels = distances[groups, medoids].argmin(axis=1)
        keys = [(labels + groups * k).astype(np.int32).ravel()]
        # Total distance of each row to the members of each cluster.
        costs = cluster_sums(distances.reshape(-1, n), keys, ones, n_groups * k)
        costs = costs.reshape(n_groups, k, n)
        current = np.take_along_axis(costs, medoids[:, :, None], axis=2)[:, :, 0]
        costs[labels[:, None, :] != clusters[:, None]] = np.inf
        # Equal rows may be medoids of several clusters, but no row of two.
        costs.swapaxes(1, 2)[groups, medoids] = np.inf
        best = costs.argmin(axis=2)
        better = np.take_along_axis(costs, best[:, :, None], axis=2)[:, :, 0] < current
        if not better.any():
            break
        medoids = np.where(better, best, medoids)
    return medoids
