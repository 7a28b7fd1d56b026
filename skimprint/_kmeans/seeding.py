"""Greedy k-means++ seeding: of a few candidates, each step keeps the best.

Both functions draw from the distribution of scikit-learn's seeding, with its number
of trials per step.
"""

import numpy as np

from .._blas import dot_transposed

# Candidates drawn at once, relative to what the steps left would use up if none were
# rejected: a few wasted columns of the product are cheaper than a second product.
_SPARE = 1.15


def n_trials(n_clusters):
    """Candidates that each step of the greedy seeding compares."""
    return 2 + int(np.log(n_clusters))


def n_candidates(n_clusters):
    """Columns of the first product of `seed_rows`."""
    return int(np.ceil(_SPARE * n_trials(n_clusters) * (n_clusters - 1)))


def _draw(cumulative, uniforms):
    """Indices in proportion to the increments along the last axis.

    Works row by row for a matrix of cumulative sums. What has no mass is not drawn,
    unless nothing has any.
    """
    thresholds = uniforms * cumulative[..., -1:]
    below = cumulative[..., None, :] <= thresholds[..., :, None]
    return np.minimum(below.sum(axis=-1), cumulative.shape[-1] - 1)


def seed_batch(distances, weights, n_clusters, rng):
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

    Returns
    -------
    seeds : ndarray of shape (n_groups, n_clusters)
        Indices of the rows that are seeds.
    labels : ndarray of shape (n_groups, n)
        Nearest seed of each row.
    closest : ndarray of shape (n_groups, n)
        Distance to it.
    """
    groups = np.arange(len(weights))
    seeds = np.empty((len(weights), n_clusters), np.intp)
    labels = np.zeros(weights.shape, np.int32)
    first = _draw(np.cumsum(weights, axis=1, dtype=np.float64), rng.random(1))
    seeds[:, 0] = first[:, 0]
    closest = distances(first)[:, 0]
    for c in range(1, n_clusters):
        potential = np.cumsum(closest * weights, axis=1, dtype=np.float64)
        candidates = _draw(potential, rng.random(n_trials(n_clusters)))
        found = distances(candidates)
        kept = np.minimum(found, closest[:, None])
        best = np.einsum("bln,bn->bl", kept, weights).argmin(axis=1)
        seeds[:, c] = candidates[groups, best]
        labels[found[groups, best] < closest] = c
        closest = kept[groups, best]
    return seeds, labels, closest


def seed_rows(X, sq_norms, weights, n_clusters, rng):
    """Seed one group, given its rows.

    Candidates for many steps are drawn at once, from the squared distances as they
    are now, so that their distances to all rows are one wide product. When a later
    step comes to a candidate, it accepts it with the probability "distance now /
    distance when drawn": distances only fall, so this is rejection sampling, and the
    accepted ones are distributed as if they were drawn at that step.

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

    Returns
    -------
    seeds : ndarray of shape (n_clusters,)
        Indices of the rows that are seeds.
    to_seeds : ndarray of shape (n_clusters, n)
        Squared distances of all rows to each of them.
    """
    trials = n_trials(n_clusters)
    seeds = np.empty(n_clusters, np.intp)
    to_seeds = np.empty((n_clusters, len(X)), X.dtype)

    def distances(candidates):
        found = dot_transposed(X[candidates], X, -2.0)
        found += sq_norms
        found += sq_norms[candidates][:, None]
        return np.maximum(found, 0, out=found)

    first = _draw(np.cumsum(weights, dtype=np.float64), rng.random(1))
    seeds[0] = first[0]
    to_seeds[0] = closest = distances(first)[0]
    c = 1
    while c < n_clusters:
        cumulative = np.cumsum(closest * weights, dtype=np.float64)
        size = int(np.ceil(_SPARE * trials * (n_clusters - c)))
        thresholds = rng.random(size) * cumulative[-1]
        candidates = np.searchsorted(cumulative, thresholds, side="right")
        np.minimum(candidates, len(X) - 1, out=candidates)
        found = distances(candidates)
        # Without any distance left, every candidate is as good as another.
        bars = rng.random(size) * closest[candidates]
        bars[closest[candidates] == 0] = -1
        position = 0
        while c < n_clusters:
            accepted = np.flatnonzero(bars[position:] < closest[candidates[position:]])
            if len(accepted) < trials:
                break
            tried = position + accepted[:trials]
            position = tried[-1] + 1
            kept = np.minimum(found[tried], closest)
            best = np.argmin(kept @ weights)
            seeds[c] = candidates[tried[best]]
            to_seeds[c] = found[tried[best]]
            closest = kept[best]
            c += 1
    return seeds, to_seeds
