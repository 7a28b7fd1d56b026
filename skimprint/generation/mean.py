"""One proxy per class: the mean of its support embeddings."""

import numpy as np

from ._base import ProxyGenerator, for_each_bucket, synthesized


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

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        means = class_means(support, n_jobs=n_jobs)
        return synthesized(support, means, np.arange(len(means) + 1), n_jobs=n_jobs)


def class_means(groups, *, n_jobs=None):
    """Weighted mean of each group, in float64: (n_groups, n_features)."""
    means = np.empty((len(groups), groups.n_features))

    def average(bucket, rows):
        if groups.sample_weight is None:
            means[bucket] = rows.mean(axis=1, dtype=np.float64)
        else:
            weights = groups.stack_weights(bucket)
            sums = np.einsum("bn,bnd->bd", weights, rows, dtype=np.float64)
            means[bucket] = sums / weights.sum(axis=1, keepdims=True, dtype=np.float64)

    for_each_bucket(groups, np.ones(len(groups)), average, n_jobs=n_jobs)
    return means
