"""Seed by greedy k-means++: of a few candidates, each step keeps the best."""

import numpy as np

from ..._arrays.blas import squared_distances

# Rows in the sample of `seed_rows`, per seed and at least.
_SAMPLE = 12
_LEAST = 200

# How many times as many candidates as in scikit-learn are compared in a sample, and
# among all rows of a group: they cost little where distances are at hand.
MORE = 4
TWICE = 2

# Candidates whose potentials differ by less, relatively, count as equal, and the first
# is taken. Two rows that are each other's nearest often give the same potential; then
# rounding must not decide, since it differs from device to device.
SLACK = 1e-5


def n_trials(n_clusters):
    """Count the candidates that each step compares in scikit-learn."""
    return 2 + np.log(n_clusters).astype(np.intp)


def sample_size(n_clusters):
    """Choose the number of rows in the sample of `seed_rows`."""
    return np.maximum(_SAMPLE * n_clusters, _LEAST)


def _draw(cumulative, uniforms):
    """Draw indices in proportion to the increments along the last axis.

    Works row by row for a matrix of cumulative sums. What has no mass is not drawn,
    unless nothing has any.
    """
    thresholds = uniforms * cumulative[..., -1:]
    below = cumulative[..., None, :] <= thresholds[..., :, None]
    return np.minimum(below.sum(axis=-1), cumulative.shape[-1] - 1)


def seed_batch(distances, weights, n_clusters, rng, trials=None):
    """Seed groups of one size whose distances are at hand.

    Parameters
    ----------
    distances : callable
        From indices of rows, of shape (n_groups, m), to the distances of all rows to
        them, of shape (n_groups, m, n), which may be overwritten. Squared ones make
        it k-means++.
    weights : ndarray of shape (n_groups, n)
        Weights of the rows.
    n_clusters : int
        Number of seeds per group.
    rng : numpy.random.Generator
        Its numbers serve all groups, so that none depends on the others.
    trials : int, default=None
        Candidates that each step compares, by default as many as in scikit-learn.

    Returns
    -------
    seeds : ndarray of shape (n_groups, n_clusters)
        Indices of the rows that are seeds.
    labels : ndarray of shape (n_groups, n)
        Nearest seed of each row.
    closest : ndarray of shape (n_groups, n)
        Distance to it.
    """
    trials = trials or n_trials(n_clusters)
    groups = np.arange(len(weights))
    seeds = np.empty((len(weights), n_clusters), np.intp)
    labels = np.zeros(weights.shape, np.int32)
    first = _draw(np.cumsum(weights, axis=1, dtype=np.float64), rng.random(1))
    seeds[:, 0] = first[:, 0]
    closest = distances(first)[:, 0]
    for c in range(1, n_clusters):
        potential = np.cumsum(closest * weights, axis=1, dtype=np.float64)
        candidates = _draw(potential, rng.random(trials))
        found = distances(candidates)
        kept = np.minimum(found, closest[:, None])
        potentials = np.einsum("bln,bn->bl", kept, weights)
        least = potentials.min(axis=1, keepdims=True)
        best = (potentials <= least * (1 + SLACK)).argmax(axis=1)
        seeds[:, c] = candidates[groups, best]
        labels[found[groups, best] < closest] = c
        closest = kept[groups, best]
    return seeds, labels, closest


def seed_rows(X, sq_norms, weights, n_clusters, rng, lock):
    """Seed a group of any size, given its rows.

    The seeds are chosen in a sample, from the distances within it. The sample is a
    lightweight coreset [1]_: half of a row's chance is the same for all, half is in
    proportion to its squared length; and half of both is in proportion to its weight,
    so that rows of much weight are in it, and others beside them. Its weight in the
    sample makes up for its chance. There, candidates cost so little that each step
    compares more of them, which makes up for what the sample does not show. Of a group
    that has no more rows than a sample, all are in it.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Rows, best centred.
    sq_norms : ndarray of shape (n,)
        Squared lengths of the rows.
    weights : ndarray of shape (n,)
        Weights of the rows.
    n_clusters : int
        Number of seeds.
    rng : numpy.random.Generator
        Source of the draws.
    lock : PausableLock
        Held by the caller; paused where there is much to compute.

    Returns
    -------
    seeds : ndarray of shape (n_clusters,)
        Indices in ``X`` of the rows that are seeds.

    References
    ----------
    .. [1] Bachem, Lucic and Krause, "Scalable k-Means Clustering via Lightweight
       Coresets", KDD 2018.
    """
    size, uniform = sample_size(n_clusters), rng.random()
    if size < len(X):
        chances = sq_norms + (np.average(sq_norms, weights=weights) or 1)
        chances *= 1 + weights / weights.mean()
        cumulative = np.cumsum(chances, dtype=np.float64)
        quantiles = (np.arange(size) + uniform) / size * cumulative[-1]
        sample = np.searchsorted(cumulative, quantiles, side="right")
        sample = np.minimum(sample, len(X) - 1)
        weights = weights[sample] / chances[sample]
    else:
        sample = np.arange(len(X))
    with lock.pause():
        distances = squared_distances(X[None, sample])
    seeds, _, _ = seed_batch(
        lambda candidates: distances[:, candidates[0]],
        weights[None],
        n_clusters,
        rng,
        MORE * n_trials(n_clusters),
    )
    return sample[seeds[0]]
