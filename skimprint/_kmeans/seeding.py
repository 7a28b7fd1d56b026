"""Greedy k-means++ seeding: of a few candidates, each step keeps the best."""

import numpy as np

from .._blas import dot_transposed, squared_distances

# Rows in the sample of `seed_rows`, per seed and at least, and how many times as many
# candidates are compared there.
_SAMPLE = 12
_LEAST = 200
MORE = 4

# Candidates whose potentials differ by less, relatively, count as equal, and the first
# is taken. Two rows that are each other's nearest often give the same potential; then
# rounding must not decide, since it differs from device to device.
SLACK = 1e-5


def n_trials(n_clusters):
    """Candidates that each step compares in scikit-learn."""
    return 2 + int(np.log(n_clusters))


def sample_size(n_clusters):
    """Rows in the sample of `seed_rows`."""
    return np.maximum(_SAMPLE * n_clusters, _LEAST)


def _draw(cumulative, uniforms):
    """Indices in proportion to the increments along the last axis.

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
        Its numbers serve all groups, so that none depends on its company.
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


def seed_rows(X, sq_norms, weights, n_clusters, rng, samples=None):
    """Seed one group, given its rows.

    The seeds are chosen in a sample, from the distances within it. The sample is a
    lightweight coreset [1]_: half of a row's chance is the same for all, half is in
    proportion to its squared length, and its weight makes up for its chance. There,
    candidates cost so little that each step compares more of them, which makes up
    for what the sample does not show.

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
    samples : dict, default=None
        Keeps the last sample of these rows, for a call that would draw it again.

    Returns
    -------
    seeds : ndarray of shape (n_clusters,)
        Indices of the rows that are seeds.
    to_seeds : ndarray of shape (n_clusters, n)
        Squared distances of all rows to each of them.

    References
    ----------
    .. [1] Bachem, Lucic and Krause, "Scalable k-Means Clustering via Lightweight
       Coresets", KDD 2018.
    """
    samples = {} if samples is None else samples
    drawn = int(sample_size(n_clusters)), rng.random()
    if drawn not in samples:
        samples.clear()
        samples[drawn] = _sample(X, sq_norms, weights, *drawn)
    sample, importance, distances = samples[drawn]
    seeds, _, _ = seed_batch(
        lambda candidates: distances[candidates],
        importance[None],
        n_clusters,
        rng,
        MORE * n_trials(n_clusters),
    )
    seeds = sample[seeds[0]]
    to_seeds = dot_transposed(X, X[seeds], -2.0).T + sq_norms
    to_seeds += sq_norms[seeds][:, None]
    return seeds, np.maximum(to_seeds, 0, out=to_seeds)


def _sample(X, sq_norms, weights, size, uniform):
    """Rows drawn with one uniform number: indices, weights and squared distances."""
    chances = sq_norms + (sq_norms.mean() or 1)
    cumulative = np.cumsum(chances, dtype=np.float64)
    thresholds = (np.arange(size) + uniform) * (cumulative[-1] / size)
    drawn = np.searchsorted(cumulative, thresholds, side="right")
    sample, counts = np.unique(np.minimum(drawn, len(X) - 1), return_counts=True)
    importance = counts / chances[sample] * weights[sample]
    distances = squared_distances(X[None, sample])[0]
    return sample, importance.astype(X.dtype), distances
