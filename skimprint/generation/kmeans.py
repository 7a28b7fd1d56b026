"""Several means per class: the paper's best generator."""

import numpy as np

from .._memory.columns import Points, Ragged
from ..cluster._kmeans import OPTIONS, grouped_kmeans_each, on_device
from ..normalization import l2_normalize
from ._base import ProxyGenerator


class KMeansProxies(ProxyGenerator):
    """Centroids of Euclidean k-means within each class.

    The generator of the paper's best method [1]_: greedy k-means++ seeding [2]_ and
    Lloyd's algorithm, with scikit-learn's defaults. A class with no more samples than
    proxies keeps its samples as they are.

    Parameters
    ----------
    n_init : int, default=1
        Number of runs per class; the one with the smallest inertia is kept.
    max_iter : int, default=300
        Maximum number of iterations of one run.
    tol : float, default=1e-4
        A run ends when the squared movement of the centres is at most ``tol`` times
        the mean variance of the features of the class.
    spherical : bool, default=False
        Whether to cluster by cosine similarity: samples and centres have unit length.

    See Also
    --------
    MeanProxies : A single mean.
    KMedoidsProxies : Samples instead of means.
    skimprint.cluster : The same engine, on its own.

    Notes
    -----
    Every class starts from the same seed: adding, removing or reordering classes
    leaves the proxies of the others as they are, to the bit, for any ``n_jobs``.

    References
    ----------
    .. [1] J. Westerhoff et al., "Robust Weight Imprinting: Insights from Neural
       Collapse and Proxy-Based Aggregation", TMLR 2025, arXiv:2503.14572, Section 3.
    .. [2] D. Arthur, S. Vassilvitskii, "k-means++: The Advantages of Careful
       Seeding", SODA 2007.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.generation import KMeansProxies
    >>> X = [[0.0, 1.0], [0.2, 1.0], [1.0, 0.0], [1.0, 0.2], [1.0, 1.0]]
    >>> clf = ImprintClassifier(
    ...     KMeansProxies(n_init=3), n_proxies=2, support_norm=None, random_state=0
    ... )
    >>> clf.fit(X, [0, 0, 0, 0, 1]).proxy_labels_
    array([0, 0, 1])
    """

    waits = True

    _parameter_constraints = OPTIONS

    def __init__(
        self,
        n_init: int = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        spherical: bool = False,
    ):
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.spherical = spherical

    def n_remembered(self, n_proxies):
        return np.where(n_proxies > 1, super().n_remembered(n_proxies), 0)

    def without(self, proxies, rows, weights):
        own, gone, left = super().without(proxies, rows, weights)
        if self.spherical:
            # A centre is the mean of samples of unit length, until it gets that too:
            # how long it was, those that are nearest to it tell.
            rows = l2_normalize(rows.astype(np.float64))
            centres = proxies.vectors[own].astype(np.float64)
            along = np.einsum("ij,ij->i", rows, centres)
            lengths = np.bincount(own, weights * along)[own]
            lengths /= np.bincount(own, weights)[own]
            counts = proxies.counts[own]
            shares = weights / np.where(counts > 0, counts, weights)
            left = l2_normalize(lengths[:, None] * centres - shares[:, None] * rows)
        return own, gone, left

    def generate(self, support, n_proxies, **options):
        # Its own: that of a subclass may call this one.
        return KMeansProxies.generate_each(self, support, [n_proxies], **options)[0]

    def generate_each(self, support, numbers, *, seed=0, n_jobs=None, progress=None):
        # By name: a subclass may have more parameters of its own.
        options = {name: getattr(self, name) for name in OPTIONS}
        options |= {"seed": seed, "progress": progress}
        if on_device.is_possible(support):
            found = [on_device.kmeans_on_device(support, n, **options) for n in numbers]
        else:
            found = grouped_kmeans_each(support, numbers, n_jobs=n_jobs, **options)
        return [
            Ragged(
                Points(each.centers, each.counts, each.indices, each.spreads),
                each.offsets,
            )
            for each in found
        ]
