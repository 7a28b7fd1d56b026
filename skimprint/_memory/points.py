"""Summarise the samples of a class by a bounded number of weighted points.

Proxies alone forget too much: what is clustered again from them and from more samples
gets worse with every part. Ten times as many points are nearly as good as the samples.
"""

import numpy as np
import scipy.sparse as sp

from .._arrays.groups import row_keys
from .columns import Points

# Points that are compared with each other when some are to be merged.
_CHUNK_POINTS = 64


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
        One and a half times as many, or twice as many at most. Their weighted mean is
        what it was.

    Notes
    -----
    Between the bound and its double lies room for more: not every part of samples is
    followed by a merging. Of many points, a quarter is left at least.
    """
    most = 2 * bound
    while len(points.counts) > most:
        most = 3 * bound // 2
        n_left = max(most, len(points.counts) // 4)
        # Whatever order they come in: a chunk is a sample of the class.
        order = np.argsort(row_keys(points.vectors, seed=0), kind="stable")
        points = _merged(points.take(order), n_left)
    return points


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
    totals = np.bincount(labels, counts)
    shares = (counts / totals[labels]).astype(vectors.dtype)
    shape = n_left, len(labels)
    means = sp.csr_array((shares, (labels, np.arange(shape[1]))), shape) @ vectors
    # Of each, the training row that is nearest.
    apart = vectors - means[labels]
    distances = np.einsum("ij,ij->i", apart, apart) + points.spreads
    order = np.lexsort([distances, labels])
    nearest = order[np.searchsorted(labels[order], np.arange(n_left))]
    return Points(means, totals, points.indices[nearest], distances[nearest])


def _merge_nearest(vectors, weights, n_left):
    """Merge points by Ward's criterion, in rounds, until so many are left.

    Ward's method [1]_ merges the two clusters that add the least to the sum of squared
    distances. Here, all pairs that are the best for each other are merged at once, the
    cheapest ones first; and a point is compared with those of its chunk only, which
    costs 3 % of that sum and saves nine tenths of the time.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        The points, in random order.
    weights : ndarray of shape (n,)
        Their weights.
    n_left : int
        Number of clusters: at most n, and at least a quarter of it.

    Returns
    -------
    labels : ndarray of shape (n,)
        The cluster of each, in ``range(n_left)``.

    References
    ----------
    .. [1] J. H. Ward, "Hierarchical Grouping to Optimize an Objective Function",
       Journal of the American Statistical Association 58, 1963.
    """
    n, d = vectors.shape
    n_chunks = -(-n // _CHUNK_POINTS)
    size = -(-n // n_chunks)
    stack = np.zeros((n_chunks * size, d), vectors.dtype)
    np.subtract(vectors, vectors.mean(axis=0), out=stack[:n])
    tiny = np.finfo(stack.dtype).tiny
    stack *= 1 / max(stack.max(), -stack.min(), tiny)  # squares are finite
    stack = stack.reshape(n_chunks, size, d)
    products = stack @ stack.swapaxes(1, 2)
    padded = np.ones(n_chunks * size, stack.dtype)
    padded[:n] = np.maximum(weights / weights.max(), tiny)
    weights = padded.reshape(n_chunks, size)
    # What fills up the last chunk, or has gone up in another point, is not merged.
    is_gone = (np.arange(n_chunks * size) >= n).reshape(n_chunks, size)
    labels, here = np.arange(n_chunks * size), np.arange(size)
    chunk, first = np.nonzero(~is_gone)
    costs = np.full_like(products, np.inf)
    while n > n_left:
        # A merging adds |x - y|^2 / (1 / v + 1 / w), for weights v and w.
        squares = np.einsum("bii->bi", products)
        found = squares[chunk] + squares[chunk, first][:, None]
        found -= 2 * products[chunk, first]
        found /= 1 / weights[chunk] + 1 / weights[chunk, first][:, None]
        found[is_gone[chunk]] = np.inf
        found[np.arange(len(first)), first] = np.inf
        costs[chunk, first] = found
        costs[chunk, :, first] = found
        best = costs.argmin(axis=2)
        added = np.take_along_axis(costs, best[:, :, None], axis=2)[:, :, 0]
        agrees = np.take_along_axis(best, best, axis=1) == here
        chunk, first = np.nonzero(agrees & (here < best) & np.isfinite(added))
        if not len(first):  # by rounding
            chunk, first = (ends[None] for ends in divmod(added.argmin(), size))
        cheapest = np.argsort(added[chunk, first], kind="stable")[: n - n_left]
        chunk, first = chunk[cheapest], first[cheapest]
        second = best[chunk, first]

        share = weights[chunk, second]
        weights[chunk, first] += share
        share = (share / weights[chunk, first])[:, None]
        for M in (products, products.swapaxes(1, 2)):
            M[chunk, first] += share * (M[chunk, second] - M[chunk, first])
        is_gone[chunk, second] = True
        costs[chunk, second] = costs[chunk, :, second] = np.inf
        goes_to = np.arange(len(labels))
        goes_to[chunk * size + second] = chunk * size + first
        labels = goes_to[labels]
        n -= len(chunk)
    return np.unique(labels[: len(vectors)], return_inverse=True)[1]
