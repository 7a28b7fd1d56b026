"""One proxy per class: the mean of its support embeddings."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from .._arrays.groups import Buffer
from .._arrays.threads import run_tasks
from ._base import Proxies, ProxyGenerator

# Rows that are averaged together: few enough for their float64 copies to stay in cache.
_SLAB_ROWS = 512


class MeanProxies(ProxyGenerator):
    """The mean of each class; the number of proxies is ignored.

    Weight imprinting as first published, by Qi et al. [1]_, when the support
    embeddings and the proxies are l2-normalised.

    See Also
    --------
    KMeansProxies : Several means per class.
    sklearn.neighbors.NearestCentroid : The same centroids, without normalisation.

    References
    ----------
    .. [1] H. Qi, M. Brown, D. G. Lowe, "Low-Shot Learning with Imprinted Weights",
       CVPR 2018, Section 3.2.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.generation import MeanProxies
    >>> clf = ImprintClassifier(MeanProxies(), support_norm=None, proxy_norm=None)
    >>> clf.fit([[0.0, 1.0], [0.0, 3.0], [5.0, 0.0]], ["a", "a", "b"]).proxies_
    array([[0., 2.],
           [5., 0.]])
    """

    learns_in_order = True

    def n_remembered(self, n_proxies):
        return np.zeros_like(n_proxies)

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        return self.add(support, Sums.none(len(support), support.n_features), n_jobs)[0]

    def add(self, support, sums, n_jobs=None):
        """Generate means of samples that were summed before, and of more.

        Numbers are added one after the other, in the order of the samples. So the
        result is the same, to the bit, in however many parts they come.

        Parameters
        ----------
        support : GroupedRows
            More samples.
        sums : Sums
            Of those before.
        n_jobs : int, default=None
            Number of threads across classes.

        Returns
        -------
        proxies : Proxies
            The means. Rows of ``support`` and those before are not told apart, but by
            ``is_new``.
        sums : Sums
            Of all samples.
        is_new : ndarray of bool of shape (n_classes,)
            Whether the row that is nearest to a mean is one of ``support``.
        """
        n_classes = len(support)
        means, all_sums = np.empty((2, n_classes, support.n_features))
        totals, spreads = np.empty(n_classes), np.empty(n_classes)
        indices = np.empty(n_classes, dtype=np.intp)
        is_new = np.empty(n_classes, dtype=bool)
        buffer = Buffer()

        def average(slab):
            part = slice(support.offsets[slab.start], support.offsets[slab.stop])
            order = support.order[part]
            rows = support.take(
                order, out=buffer.empty((len(order), means.shape[1]), support.dtype)
            )
            starts = support.offsets[slab] - part.start
            codes = np.repeat(np.arange(len(starts)), support.sizes[slab])
            weights = np.ones(len(order))
            if support.sample_weight is not None:
                weights = support.sample_weight[order].astype(np.float64)
            members = _after_sums(weights, starts)
            totals[slab] = members @ np.concatenate([sums.weights[slab], weights > 0])
            all_sums[slab] = members @ np.concatenate([sums.vectors[slab], rows])
            means[slab] = all_sums[slab] / totals[slab, None]

            rows -= means[slab].astype(rows.dtype)[codes]
            distances = np.einsum("ij,ij->i", rows, rows)
            if support.spread is not None:
                distances = distances + support.spread[order]
            closest = np.minimum.reduceat(distances, starts)
            nearest = np.flatnonzero(distances == closest[codes])
            first = np.searchsorted(nearest, starts)
            moved = sums.means[slab] - means[slab]
            before = np.einsum("ij,ij->i", moved, moved) + sums.spreads[slab]
            is_new[slab] = closest < before
            spreads[slab] = np.minimum(closest, before)
            indices[slab] = np.where(
                is_new[slab], order[nearest[first]], sums.indices[slab]
            )

        slabs = support.slabs(_SLAB_ROWS)
        costs = [support.sizes[slab].sum() for slab in slabs]
        run_tasks(average, slabs, costs, n_jobs=n_jobs)
        offsets = np.arange(n_classes + 1)
        return (
            Proxies(means, offsets, indices, totals, spreads),
            Sums(all_sums, totals, means, indices, spreads),
            is_new,
        )


class Sums(NamedTuple):
    """Sums over the samples of classes, and the training rows nearest to their means.

    Attributes
    ----------
    vectors : ndarray of shape (n_classes, n_features)
        Weighted sums of the samples.
    weights : ndarray of shape (n_classes,)
        Sums of the weights.
    means : ndarray of shape (n_classes, n_features)
        The means.
    indices : ndarray of shape (n_classes,)
        The training row that is nearest to each mean.
    spreads : ndarray of shape (n_classes,)
        Squared distance of that row; infinite if there is none.
    """

    vectors: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    indices: np.ndarray
    spreads: np.ndarray

    @classmethod
    def none(cls, n_classes, n_features):
        """Of no samples."""
        zeros = np.zeros((n_classes, n_features))
        rows = np.full(n_classes, -1)
        return cls(zeros, np.zeros(n_classes), zeros, rows, np.full(n_classes, np.inf))


def _after_sums(weights, starts):
    """What sums groups of rows by a product, each after the sum of the rows before.

    Parameters
    ----------
    weights : ndarray of shape (n,)
        Weights of the rows.
    starts : ndarray of shape (n_groups,)
        Where each group starts.

    Returns
    -------
    members : sparse array of shape (n_groups, n_groups + n)
        Of earlier sums and, below them, rows.
    """
    n_groups, n = len(starts), len(weights)
    columns = np.insert(np.arange(n) + n_groups, starts, np.arange(n_groups))
    values = np.insert(weights, starts, 1.0)
    indptr = np.append(starts, n) + np.arange(n_groups + 1)
    return sp.csr_array((values, columns, indptr), (n_groups, n_groups + n))
