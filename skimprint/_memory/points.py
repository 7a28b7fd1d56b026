"""Summarise the samples of a class by a bounded number of weighted points.

Proxies alone forget too much: what is clustered again from them and from more samples
gets worse with every part. Ten times as many points are nearly as good as the samples.
"""

import numpy as np

from .._arrays.groups import row_keys
from .columns import Points


def compressed(points, bound):
    """Merge some points of a class if they are more than twice the bound.

    Parameters
    ----------
    points : Points
        What stands for the samples.
    bound : int
        About how many there are to be.

    Returns
    -------
    points : Points
        At most twice as many. Their weighted mean is what it was.
    """
    kept, n_read = points.take(slice(2 * bound)), 2 * bound
    while n_read < len(points.counts):
        merged = _merged(kept, bound)
        kept = merged.joined(points.take(slice(n_read, n_read + bound)))
        n_read += bound
    return kept


def sampled(points, most):
    """Take some of the points, at most so many: their values alone decide which.

    A sample of samples of parts is a sample of the whole: all have the same chance.
    """
    if len(points.counts) <= most:
        return points
    keys = row_keys(points.vectors, seed=0)
    return points.take(np.sort(np.argsort(keys, kind="stable")[:most]))


def sharing(points, proxies):
    """Give points the weight of the proxies that they are nearest to.

    Parameters
    ----------
    points : Points
        Some of the samples that the proxies were made of.
    proxies : Points
        The proxies.

    Returns
    -------
    points : Points
        Their counts add up to those of the proxies. A proxy that is nearest to none
        stands for itself.
    """
    nearest = nearest_to(points.vectors, proxies.vectors)
    found = np.bincount(nearest, points.counts, len(proxies.counts))
    share = proxies.counts / np.where(found, found, 1)
    points = points._replace(counts=points.counts * share[nearest])
    return points.joined(proxies.take(found == 0))


def nearest_to(vectors, proxies):
    """Find the proxy that each vector is nearest to: ndarray of shape (n,)."""
    squares = np.einsum("ij,ij->i", proxies, proxies)
    return (squares - 2 * vectors @ proxies.T).argmin(axis=1)


def mean_of(points):
    """Replace points by a single one, their weighted mean."""
    vectors, counts = points.vectors, points.counts
    total = counts.sum()
    mean = np.einsum("ij,i->j", vectors, (counts / total).astype(vectors.dtype))
    distances = np.einsum("ij,ij->i", vectors, vectors) + points.spreads
    distances += mean @ mean - 2 * np.einsum("ij,j->i", vectors, mean)
    nearest = distances.argmin()
    return Points(
        mean[None],
        np.array([total]),
        points.indices[[nearest]],
        np.maximum(distances[[nearest]], 0),
    )


def _merged(points, n_left):
    """Merge points into so many, each the weighted mean of what it is made of."""
    vectors, counts = points.vectors, points.counts
    labels = _merge_nearest(vectors, counts, n_left)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(n_left))
    totals = np.add.reduceat(counts[order], starts)
    shares = (counts / totals[labels]).astype(vectors.dtype)
    means = np.add.reduceat((vectors * shares[:, None])[order], starts)
    # Of each, the training row that is nearest.
    apart = vectors - means[labels]
    distances = np.einsum("ij,ij->i", apart, apart) + points.spreads
    nearest = np.lexsort([distances, labels])[starts]
    return Points(means, totals, points.indices[nearest], distances[nearest])


def _merge_nearest(vectors, weights, n_left):
    """Merge points by Ward's criterion, in rounds, until so many are left.

    Ward's method [1]_ merges the two clusters that add the least to the sum of squared
    distances. Here, all pairs that are the best for each other are merged at once, the
    cheapest ones first.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        The points.
    weights : ndarray of shape (n,)
        Their weights.
    n_left : int
        Number of clusters, at most n.

    Returns
    -------
    labels : ndarray of shape (n,)
        The cluster of each, in ``range(n_left)``.

    References
    ----------
    .. [1] J. H. Ward, "Hierarchical Grouping to Optimize an Objective Function",
       Journal of the American Statistical Association 58, 1963.
    """
    centered = vectors - vectors.mean(axis=0)
    products = centered @ centered.T
    weights = weights.copy()
    labels = np.arange(len(weights))
    while len(weights) > n_left:
        squares = products.diagonal()
        costs = squares[:, None] + squares - 2 * products
        costs *= weights[:, None] * (weights / (weights[:, None] + weights))
        np.fill_diagonal(costs, np.inf)
        costs = np.minimum(costs, costs.T)  # rounding must not leave all without a pair
        best = costs.argmin(axis=1)
        here = np.arange(len(best))
        first = np.flatnonzero((best[best] == here) & (here < best))
        cheapest = np.argsort(costs[first, best[first]], kind="stable")
        first = first[cheapest[: len(best) - n_left]]
        second = best[first]

        share = weights[second] / (weights[first] + weights[second])
        for M in (products, products.T):
            M[first] += share[:, None].astype(M.dtype) * (M[second] - M[first])
        weights[first] += weights[second]
        stays = np.ones(len(best), bool)
        stays[second] = False
        renumbered = np.cumsum(stays) - 1
        renumbered[second] = renumbered[first]
        labels = renumbered[labels]
        products, weights = products[np.ix_(stays, stays)], weights[stays]
    return labels
