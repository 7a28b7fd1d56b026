"""Summarise the samples of a class by a bounded number of weighted points.

Proxies alone forget too much: what is clustered again from them and from more samples
gets worse with every part. Ten times as many points are nearly as good as the samples.
"""

from itertools import pairwise

import numpy as np

from .._arrays.blas import gram_each
from .._arrays.groups import numbers_within, offsets_of, row_keys, runs_of
from .._arrays.threads import run_tasks
from ..cluster._kmeans.sums import cluster_sums
from .columns import Points, Ragged, as_slice, joined, take

# Points that are compared with each other when some are to be merged.
_CHUNK_POINTS = 32

# Sums of squares between this and its inverse are neither too small nor too large.
_MODERATE = 1e-16

# Points of classes that are merged side by side, so that array operations are shared.
_BATCH_BYTES = 2**23


def compressed(points, bounds, *, n_jobs=None):
    """Merge points of classes that have more than twice their bound.

    Parameters
    ----------
    points : Ragged of Points
        What stands for the samples of each class.
    bounds : ndarray of shape (n_classes,)
        About how many points each is to have; 0 for as many as it has.
    n_jobs : int, default=None
        Number of threads, resolved as joblib does.

    Returns
    -------
    points : Ragged of Points
        One and a half times as many, or twice as many at most. Their weighted means
        are what they were, and do not depend on the other classes.

    Notes
    -----
    Between the bound and its double lies room for more: not every part of samples is
    followed by a merging. Of many points, a quarter is left at least.
    """
    most = np.where(bounds > 0, 2 * bounds, np.inf)
    while np.any(points.sizes > most):
        (over,) = np.nonzero(points.sizes > most)
        most[over] = 3 * bounds[over] // 2
        n_left = np.maximum(3 * bounds[over] // 2, points.sizes[over] // 4)
        points = points.replaced(over, _merged_each(points, over, n_left, n_jobs))
    return points


def sampled(points, most):
    """Take some of the points, at most so many: their values alone decide which.

    A sample of samples of parts is a sample of the whole: all have the same chance.
    """
    if len(points.counts) <= most:
        return points
    keys = row_keys(points.vectors, seed=0)
    return take(points, np.sort(np.argsort(keys, kind="stable")[:most]))


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
    return joined([points, take(proxies, found == 0)])


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


def _merged_each(points, classes, n_left, n_jobs):
    """Merge points of some classes into so many, a few at a time, in threads."""
    ends = offsets_of(points.sizes[classes] * points.values.vectors[:1].nbytes)
    runs = runs_of(ends, _BATCH_BYTES)

    def merge(run):
        return _merged(points.take(as_slice(classes[run])), n_left[run])

    return joined(run_tasks(merge, runs, np.ones(len(runs)), n_jobs=n_jobs))


def _merged(points, n_left):
    """Merge points into so many of each class, each the mean of what it is made of."""
    vectors, counts, indices, spreads = points.values
    # Whatever order they come in: a chunk is a sample of the class.
    order = np.lexsort([row_keys(vectors, seed=0), points.codes])
    labels = _merge_nearest(vectors, points.offsets, counts, n_left, order)
    totals = np.bincount(labels, counts)
    # Of equal proxies, the first stands for all samples, and others for none.
    weights = np.where(totals[labels] > 0, counts, 1.0)
    shares = (weights / np.bincount(labels, weights)[labels]).astype(vectors.dtype)
    means = cluster_sums(vectors, [labels.astype(np.int32)], [shares], len(totals))
    # Of each, the training row that is nearest.
    apart = means[labels]
    apart -= vectors
    distances = np.einsum("ij,ij->i", apart, apart) + spreads
    order = np.lexsort([distances, labels])
    nearest = order[np.searchsorted(labels[order], np.arange(len(totals)))]
    merged = Points(means, totals, indices[nearest], distances[nearest])
    return Ragged(merged, offsets_of(n_left))


def _merge_nearest(vectors, offsets, weights, n_left, order):
    """Merge points by Ward's criterion until so many are left of each class.

    Ward's method [1]_ merges the two clusters that add the least to the sum of squared
    distances. Here, in rounds, all pairs that are the best for each other are merged,
    the cheapest ones of a class first; and a point is compared with those of its chunk
    only, which costs 4 % of that sum and saves nine tenths of the time.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        The points, class by class.
    offsets : ndarray of shape (n_classes + 1,)
        Class ``c`` is ``vectors[offsets[c]:offsets[c + 1]]``.
    weights : ndarray of shape (n,)
        Their weights.
    n_left : ndarray of shape (n_classes,)
        Number of clusters of each class: at most as many as it has points, and at
        least a quarter of them.
    order : ndarray of shape (n,)
        The points of each class in random order.

    Returns
    -------
    labels : ndarray of shape (n,)
        The cluster of each point, those of the first class first.

    References
    ----------
    .. [1] J. H. Ward, "Hierarchical Grouping to Optimize an Objective Function",
       Journal of the American Statistical Association 58, 1963.
    """
    size, sizes = _CHUNK_POINTS, np.diff(offsets)
    n_chunks = -(-sizes // size)
    class_of = np.repeat(np.arange(len(sizes)), n_chunks)
    stack, weights, slots = _in_chunks(vectors, offsets, weights, n_chunks, order)
    products = np.empty((*stack.shape[:2], size), stack.dtype)
    gram_each(stack, products)
    # What fills up a chunk, or has gone up in another point, is not merged.
    is_gone = np.ones(weights.shape, bool)
    is_gone.flat[slots] = False
    labels, here = np.arange(weights.size), np.arange(size)
    chunk, first = np.nonzero(~is_gone)
    costs = np.full_like(products, np.inf)
    surplus = sizes - n_left
    while surplus.any():
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
        agrees &= (here < best) & np.isfinite(added)
        agrees |= _cheapest_of_classes_without(agrees, added, class_of)
        chunk, first = np.nonzero(agrees)
        order = np.lexsort([added[chunk, first], class_of[chunk]])
        of_class = class_of[chunk[order]]
        order = order[numbers_within(of_class) < surplus[of_class]]
        chunk, first = chunk[order], first[order]
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
        surplus = surplus - np.bincount(class_of[chunk], minlength=len(surplus))
    return np.unique(labels[slots], return_inverse=True)[1]


def _in_chunks(vectors, offsets, weights, n_chunks, order):
    """Spread the points of each class over chunks, evenly.

    Returns
    -------
    stack : ndarray of shape (n_chunks_total, size, d)
        The points of each class less their mean, scaled if squares might not be finite
        or lose digits; copies of points fill up.
    weights : ndarray of shape (n_chunks_total, size)
        Relative to the largest of the class.
    slots : ndarray of shape (n,)
        Where each point is among ``n_chunks_total * size``.
    """
    size, tiny = _CHUNK_POINTS, np.finfo(vectors.dtype).tiny
    starts, sizes, chunks = offsets[:-1], np.diff(offsets), offsets_of(n_chunks)
    number, place = np.divmod(
        np.arange(len(vectors)) - np.repeat(starts, sizes),
        np.repeat(-(-sizes // n_chunks), sizes),
    )
    slots = np.empty(len(vectors), np.intp)
    slots[order] = (np.repeat(chunks[:-1], sizes) + number) * size + place
    points = np.repeat(starts, n_chunks * size)
    points[slots] = np.arange(len(vectors))
    stack, weights = vectors[points], weights[points]
    for start, stop in pairwise(chunks * size):
        rows, of_class = stack[start:stop], weights[start:stop]
        rows -= rows.mean(axis=0)
        with np.errstate(over="ignore"):
            total = np.vdot(rows, rows)
        if not _MODERATE < total < 1 / _MODERATE:
            rows *= 1 / max(rows.max(), -rows.min(), tiny)
        of_class /= of_class.max()
    weights = np.maximum(weights, tiny).astype(stack.dtype)
    shape = chunks[-1], size
    return stack.reshape(*shape, -1), weights.reshape(shape), slots


def _cheapest_of_classes_without(agrees, added, class_of):
    """Choose the cheapest pair of each class where none agrees, by rounding."""
    chosen = np.zeros_like(agrees)
    starts = np.flatnonzero(np.diff(class_of, prepend=-1))
    has_none = ~np.logical_or.reduceat(agrees.any(axis=1), starts)
    for group in np.flatnonzero(has_none):
        chunks = np.flatnonzero(class_of == group)
        chunk, first = divmod(added[chunks].argmin(), added.shape[1])
        chosen[chunks[chunk], first] = True
    return chosen
