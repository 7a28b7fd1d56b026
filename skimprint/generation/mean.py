"""One proxy per class: the mean of its support embeddings."""

import numpy as np
import scipy.sparse as sp

from .._arrays.groups import blocks_of_rows, runs_of
from .._arrays.threads import run_tasks
from .._memory.columns import Points, Ragged
from .._memory.state import Imprint
from ._base import ProxyGenerator

# Rows that are averaged together: few enough for their float64 copies to stay in cache.
_SLAB_ROWS = 512

# Rows of a large class that are averaged at a time: with more than one such block, all
# are gathered a second time.
_BLOCK_BYTES = 2**22


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
    >>> clf = ImprintClassifier(
    ...     MeanProxies(), support_norm=None, proxy_norm=None, whitening=None
    ... )
    >>> clf.fit([[0.0, 1.0], [0.0, 3.0], [5.0, 0.0]], ["a", "a", "b"]).proxies_
    array([[0., 2.],
           [5., 0.]])
    """

    points_per_proxy = 0  # sums are remembered
    learns_in_order = True

    def generate(self, support, n_proxies, **options):
        # Its own: that of a subclass may call this one.
        return MeanProxies.learn_each(self, support, [n_proxies], **options)[0].proxies

    def learn_each(self, support, numbers, *, seed=0, n_jobs=None, progress=None):
        n_classes, rows = len(support), np.arange(len(support.X))
        sums = np.zeros((n_classes, support.n_features))
        none, apart = np.full(n_classes, -1), np.full(n_classes, np.inf)
        nothing = Points(sums, np.zeros(n_classes), none, apart)
        imprint = self._add(nothing, sums, support, rows, n_jobs, progress)
        return [imprint] * len(numbers)

    def update(
        self, known, support, rows, n_proxies, *, seed=0, n_jobs=None, progress=None
    ):
        means = known.proxies.values
        sums = means.vectors.astype(np.float64) * means.counts[:, None]
        # A row of a head is a sum of one sample: there, nothing is remembered.
        sums[known.memory.sizes > 0] = known.memory.values.vectors
        return self._add(means, sums, support, rows, n_jobs, progress)

    def points(self, known):
        return known.proxies  # what is remembered are sums

    def _add(self, known, sums, support, rows, n_jobs, progress):
        """Generate means of samples that were summed before, and of more.

        Numbers are added one after the other, in the order of the samples. So the
        result is the same, to the bit, in however many parts they come.

        Parameters
        ----------
        known : Points
            The means of the samples before. Where there are none, the spread is
            infinite.
        sums : ndarray of shape (n_classes, n_features)
            Weighted sums of these samples.
        support, rows, n_jobs, progress
            As for `update`.

        Returns
        -------
        imprint : Imprint
            The means, and the sums to go on from.
        """
        n_classes = len(support)
        means, all_sums = np.empty((2, n_classes, support.n_features))
        totals, spreads = np.empty(n_classes), np.empty(n_classes)
        indices = np.empty(n_classes, dtype=np.intp)

        at_once = max(_SLAB_ROWS, _BLOCK_BYTES // support.row_bytes)

        def average(slab):
            part = slice(support.offsets[slab.start], support.offsets[slab.stop])
            order = support.order[part]
            starts = support.offsets[slab] - part.start
            codes = np.repeat(np.arange(len(starts)), support.sizes[slab])
            # A slab that is larger is a single class.
            blocks = blocks_of_rows(len(order), at_once)
            total, summed = known.counts[slab], sums[slab]
            for block in blocks:
                samples = support.take(order[block])
                weights = support.weights_at(order[block])
                members = _after_sums(weights, starts)
                total = members @ np.concatenate([total, weights > 0])
                summed = members @ np.concatenate([summed, samples])
            totals[slab], all_sums[slab] = total, summed
            means[slab] = summed / total[:, None]

            centers = means[slab].astype(support.dtype)
            distances = np.empty(len(order), support.dtype)
            for block in blocks:
                if len(blocks) > 1:
                    samples = support.take(order[block])
                samples -= centers[codes[block]]
                distances[block] = np.einsum("ij,ij->i", samples, samples)
            if support.spread is not None:
                distances = distances + support.spread[order]
            closest = np.minimum.reduceat(distances, starts)
            nearest = np.flatnonzero(distances == closest[codes])
            first = np.searchsorted(nearest, starts)
            moved = known.vectors[slab] - means[slab]
            before = np.einsum("ij,ij->i", moved, moved) + known.spreads[slab]
            spreads[slab] = np.minimum(closest, before)
            # Of values that are too large, what is not finite is refused by the head.
            is_new = (closest < before) | np.isinf(before)
            indices[slab] = np.where(
                is_new, rows[order[nearest[first]]], known.indices[slab]
            )

        slabs = runs_of(support.offsets, _SLAB_ROWS)
        costs = [support.sizes[slab].sum() for slab in slabs]
        run_tasks(average, slabs, costs, n_jobs=n_jobs)
        if progress is not None:
            progress(n_classes)
        offsets = np.arange(n_classes + 1)
        proxies = Points(means, totals, indices, spreads)
        memory = proxies._replace(vectors=all_sums)
        return Imprint(Ragged(proxies, offsets), Ragged(memory, offsets))


def _after_sums(weights, starts):
    """Make the matrix that sums groups of rows, each after the sum of those before.

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
