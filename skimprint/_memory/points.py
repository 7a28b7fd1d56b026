"""Summarise the samples of a class by a bounded number of weighted points.

Proxies alone forget too much: what is clustered again from them and from more samples
gets worse with every part. Ten times as many points are nearly as good as the samples.
A generator makes them when it learns: `ProxyGenerator.learn_each` and `update`.
"""

from typing import NamedTuple

import numpy as np

from .._arrays.blas import centred_gram
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


def weighed_by(points, proxies):
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
    chunks = _in_chunks(vectors, points.offsets, order)
    clusters = _merge_nearest(chunks, counts, n_left)
    _, labels = np.unique(clusters, return_inverse=True)
    totals = np.bincount(labels, counts)
    # Of equal proxies, the first stands for all samples, and others for none.
    weights = np.where(totals[labels] > 0, counts, 1.0)
    shares = (weights / np.bincount(labels, weights)[labels]).astype(vectors.dtype)
    means = cluster_sums(vectors, [labels.astype(np.int32)], [shares], len(totals))
    # Of each, the training row that is nearest.
    distances = chunks.distances(clusters, shares) + spreads
    order = np.lexsort([distances, labels])
    nearest = order[np.searchsorted(labels[order], np.arange(len(totals)))]
    merged = Points(means, totals, indices[nearest], distances[nearest])
    return Ragged(merged, offsets_of(n_left))


class _Chunks(NamedTuple):
    """Points of classes in chunks of one size, which copies of points fill up.

    Attributes
    ----------
    products : ndarray of shape (n_chunks, size, size)
        Inner products of the points of each chunk, less their mean.
    scales : ndarray of shape (n_chunks,)
        What they were multiplied by, so that squares are neither too large nor too
        small.
    classes : ndarray of shape (n_chunks,)
        The class of each chunk, in ascending order.
    slots : ndarray of shape (n,)
        Where each point is among ``n_chunks * size``.
    """

    products: np.ndarray
    scales: np.ndarray
    classes: np.ndarray
    slots: np.ndarray

    def distances(self, clusters, shares):
        """Find the squared distance of each point from the mean of its cluster.

        With the products ``G`` of the points of a cluster, and their shares ``s`` in
        its mean, ``|x_i - sum_j s_j x_j|^2 = G_ii - 2 (G s)_i + s' G s``.

        Parameters
        ----------
        clusters : ndarray of shape (n,)
            A slot in the chunk of each point that stands for its cluster.
        shares : ndarray of shape (n,)
            Those of the points of each cluster add up to 1.

        Returns
        -------
        distances : ndarray of shape (n,)
        """
        G, size = self.products, self.products.shape[1]
        chunk, place = np.divmod(self.slots, size)
        cluster = clusters % size
        S = np.zeros_like(G)
        S[chunk, place, cluster] = shares
        GS = G @ S
        of_means = np.einsum("bij,bij->bj", S, GS)
        found = G[chunk, place, place] - 2 * GS[chunk, place, cluster]
        found += of_means[chunk, cluster]
        scale = self.scales[chunk]
        return np.maximum(found, 0) / scale / scale


def _in_chunks(vectors, offsets, order):
    """Spread the points of each class over chunks, evenly.

    Parameters
    ----------
    vectors : ndarray of shape (n, d)
        The points, class by class.
    offsets : ndarray of shape (n_classes + 1,)
        Class ``c`` is ``vectors[offsets[c]:offsets[c + 1]]``.
    order : ndarray of shape (n,)
        The points of each class in random order.

    Returns
    -------
    chunks : _Chunks
    """
    size, tiny = _CHUNK_POINTS, np.finfo(vectors.dtype).tiny
    starts, sizes = offsets[:-1], np.diff(offsets)
    n_chunks = -(-sizes // size)
    chunks = offsets_of(n_chunks)
    number, place = np.divmod(
        np.arange(len(vectors)) - np.repeat(starts, sizes),
        np.repeat(-(-sizes // n_chunks), sizes),
    )
    slots = np.empty(len(vectors), np.intp)
    slots[order] = (np.repeat(chunks[:-1], sizes) + number) * size + place
    points = np.repeat(starts, n_chunks * size)
    points[slots] = np.arange(len(vectors))
    stack = vectors[points].reshape(chunks[-1], size, -1)
    products = np.empty((*stack.shape[:2], size), stack.dtype)
    scales = np.ones(chunks[-1])
    with np.errstate(over="ignore", invalid="ignore"):
        centred_gram(stack, products)
        totals = np.add.reduceat(np.einsum("bii->b", products), chunks[:-1])
        is_moderate = (totals > _MODERATE) & (totals < 1 / _MODERATE)
    for group in np.flatnonzero(~is_moderate):
        part = slice(*chunks[group : group + 2])
        rows = stack[part]
        rows -= rows.mean(axis=(0, 1))
        scales[part] = 1 / max(rows.max(), -rows.min(), tiny)
        rows *= scales[part.start]
        centred_gram(rows, products[part])
    return _Chunks(products, scales, np.repeat(np.arange(len(sizes)), n_chunks), slots)


def _merge_nearest(chunks, counts, n_left):
    """Merge points by Ward's criterion until so many are left of each class.

    Ward's method [1]_ merges the two clusters that add the least to the sum of squared
    distances. Here, in rounds, all pairs that are the best for each other are merged,
    the cheapest ones of a class first; and a point is compared with those of its chunk
    only, which costs 4 % of that sum and saves nine tenths of the time.

    Parameters
    ----------
    chunks : _Chunks
        The points.
    counts : ndarray of shape (n,)
        Their weights.
    n_left : ndarray of shape (n_classes,)
        Number of clusters of each class: at most as many as it has points, and at
        least a quarter of them.

    Returns
    -------
    clusters : ndarray of shape (n,)
        A slot in the chunk of each point that stands for its cluster.

    References
    ----------
    .. [1] J. H. Ward, "Hierarchical Grouping to Optimize an Objective Function",
       Journal of the American Statistical Association 58, 1963.
    """
    products, class_of, slots = chunks.products.copy(), chunks.classes, chunks.slots
    shape, size = products.shape[:2], products.shape[1]
    # What fills up a chunk, or has gone up in another point, is not merged.
    is_gone = np.ones(shape, bool)
    is_gone.flat[slots] = False
    weights = np.zeros(shape)
    weights.flat[slots] = counts
    firsts = np.flatnonzero(np.diff(class_of, prepend=-1))
    weights /= np.maximum.reduceat(weights.max(axis=1), firsts)[class_of][:, None]
    tiny = np.finfo(products.dtype).tiny
    weights = np.maximum(weights, tiny).astype(products.dtype)
    sizes = np.bincount(class_of[slots // size])
    labels, here = np.arange(weights.size), np.arange(size)
    surplus = sizes - n_left
    while surplus.any():
        # A merging adds |x - y|^2 / (1 / v + 1 / w), for weights v and w.
        squares, inverses = np.einsum("bii->bi", products), 1 / weights
        squares = np.where(is_gone, np.inf, squares)
        costs = -2 * products
        costs += squares[:, :, None]
        costs += squares[:, None]
        costs /= inverses[:, :, None] + inverses[:, None]
        costs[:, here, here] = np.inf
        best = costs.argmin(axis=2)
        added = np.take_along_axis(costs, best[:, :, None], axis=2)[:, :, 0]
        agrees = np.take_along_axis(best, best, axis=1) == here
        agrees &= here < best
        agrees |= _cheapest_of_classes_without(agrees, added, class_of, firsts)
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
        goes_to = np.arange(len(labels))
        goes_to[chunk * size + second] = chunk * size + first
        labels = goes_to[labels]
        surplus = surplus - np.bincount(class_of[chunk], minlength=len(surplus))
    return labels[slots]


def _cheapest_of_classes_without(agrees, added, class_of, firsts):
    """Choose the cheapest pair of each class where none agrees, by rounding."""
    chosen = np.zeros_like(agrees)
    has_none = ~np.logical_or.reduceat(agrees.any(axis=1), firsts)
    for group in np.flatnonzero(has_none):
        chunks = np.flatnonzero(class_of == group)
        chunk, first = divmod(added[chunks].argmin(), added.shape[1])
        chosen[chunks[chunk], first] = True
    return chosen
