"""One proxy per class: the mean of its support embeddings."""

import numpy as np
import scipy.sparse as sp

from .._groups import Buffer
from .._threads import run_tasks
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

    def n_remembered(self, n_proxies):
        return np.zeros_like(n_proxies)

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        n_classes = len(support)
        means = np.empty((n_classes, support.n_features))
        totals, spreads = np.empty(n_classes), np.empty(n_classes)
        indices = np.empty(n_classes, dtype=np.intp)
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
            indptr = np.append(starts, len(order))
            shape = len(starts), len(order)
            members = sp.csr_array((weights, np.arange(len(order)), indptr), shape)
            sums = members @ rows
            totals[slab] = np.add.reduceat(weights, starts)
            means[slab] = sums / totals[slab, None]

            rows -= means[slab].astype(rows.dtype)[codes]
            distances = np.einsum("ij,ij->i", rows, rows)
            if support.spread is not None:
                distances = distances + support.spread[order]
            spreads[slab] = np.minimum.reduceat(distances, starts)
            nearest = np.flatnonzero(distances == spreads[slab][codes])
            first = np.searchsorted(nearest, starts)
            indices[slab] = order[nearest[first]]

        slabs = support.slabs(_SLAB_ROWS)
        costs = [support.sizes[slab].sum() for slab in slabs]
        run_tasks(average, slabs, costs, n_jobs=n_jobs)
        offsets = np.arange(n_classes + 1)
        return Proxies(means, offsets, indices, totals, spreads)
