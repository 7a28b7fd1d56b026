"""Least-squares proxies: the classes see each other."""

from numbers import Real

import numpy as np
from scipy import linalg
from sklearn.utils._param_validation import Interval, StrOptions

from .._groups import offsets_of
from ._base import Proxies, ProxyGenerator
from .kmeans import KMeansProxies


class LeastSquaresProxies(ProxyGenerator):
    r"""Ridge-regularised linear regression onto the classes, in closed form.

    With class means :math:`\mu_c` and second moment :math:`M = S_T + m m^T` of all
    support embeddings, the proxy of class c is
    :math:`\pi_c \mu_c^T (M + \alpha I)^{-1}`. The paper calls it its oracle: unlike
    the other generators it looks at all classes together. With ``n_proxies > 1`` each
    class is first clustered by k-means and its clusters take the place of classes
    (the paper's kLS).

    Parameters
    ----------
    alpha : float, default=0.01
        Regularisation, in units of the squared embeddings. Must be positive.
    prior : {"frequency", "uniform"}, default="frequency"
        The factor :math:`\pi_c`: the share of samples ``n_c / N``, which makes this
        ridge regression on one-hot targets without intercept, or ``1 / C`` for every
        class (or cluster), as published, which favours small classes and clusters.

    See Also
    --------
    sklearn.linear_model.Ridge : With ``alpha=N * alpha`` and ``fit_intercept=False``
        on one-hot targets, the same coefficients.

    Notes
    -----
    `ImprintClassifier` has 20 proxies a class by default; the paper's oracle is
    ``ImprintClassifier("least_squares", n_proxies=1, support_norm=None,
    proxy_norm=None, query_norm=None)``. Proxies are weights rather than points; each
    one's ``proxy_indices_`` names the sample of its class that it scores highest.

    References
    ----------
    .. [1] J. Westerhoff et al., "Robust Weight Imprinting: Insights from Neural
       Collapse and Proxy-Based Aggregation", TMLR 2025, arXiv:2503.14572, Section 3.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.generation import LeastSquaresProxies
    >>> clf = ImprintClassifier(
    ...     LeastSquaresProxies(alpha=0.5), n_proxies=1, support_norm=None,
    ...     proxy_norm=None, query_norm=None,
    ... )
    >>> clf.fit([[1.0, 0.0], [0.0, 1.0]], ["a", "b"]).proxies_
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "prior": [StrOptions({"frequency", "uniform"})],
    }

    def __init__(self, alpha=0.01, prior="frequency"):
        self.alpha = alpha
        self.prior = prior

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        if np.all(n_proxies == 1):
            counts = np.ones(len(support), dtype=np.intp)
            labels = np.zeros(len(support.X), dtype=np.intp)
        else:
            clustering = KMeansProxies()._cluster(
                support, n_proxies, seed=seed, n_jobs=n_jobs, progress=progress
            )
            counts = np.diff(clustering.offsets)
            labels = clustering.labels
        offsets = offsets_of(counts)
        # In group order: the cluster of each row, numbered over all classes.
        clusters = labels[support.order] + np.repeat(offsets[:-1], support.sizes)
        n_samples, n_features = len(support.order), support.n_features
        solve = _solve_dual if n_samples < n_features else _solve_primal
        vectors = solve(support, clusters, offsets[-1], self.alpha)
        if self.prior == "uniform":
            weights = _weights_in_order(support)
            shares = np.bincount(clusters, weights=weights, minlength=offsets[-1])
            vectors *= (weights.sum() / offsets[-1] / shares)[:, None]
        vectors = vectors.astype(support.dtype)

        indices = []
        for group in range(len(support)):
            proxies = vectors[offsets[group] : offsets[group + 1]]
            scores = support.rows(group) @ proxies.T
            indices.append(support.indices(group)[scores.argmax(axis=0)])
        return Proxies(vectors, offsets, np.concatenate(indices))


def _weights_in_order(support):
    """The weights of all rows, in group order."""
    if support.sample_weight is None:
        return np.ones(len(support.order))
    return support.sample_weight[support.order].astype(np.float64)


def _solve_primal(support, clusters, n_clusters, alpha):
    """Cluster sums / N times (second moment + alpha I)^-1, in feature space."""
    d = support.n_features
    weights = _weights_in_order(support)
    moment = np.zeros((d, d))
    sums = np.zeros((n_clusters, d))
    for group in range(len(support)):
        block = slice(support.offsets[group], support.offsets[group + 1])
        rows = support.rows(group).astype(np.float64, copy=False)
        weighted = rows * weights[block, None]
        moment += rows.T @ weighted
        np.add.at(sums, clusters[block], weighted)
    total = weights.sum()
    moment /= total
    moment[np.diag_indices(d)] += alpha
    return linalg.solve(moment, sums.T / total, assume_a="pos").T


def _solve_dual(support, clusters, n_clusters, alpha):
    """The same in sample space, which is smaller: W = S K^-1 Z for Z = sqrt(w/N) X."""
    n = len(support.order)
    scale = _weights_in_order(support)
    scale = np.sqrt(scale / scale.sum())
    Z = support.take(support.order).astype(np.float64, copy=False) * scale[:, None]
    gram = Z @ Z.T
    gram[np.diag_indices(n)] += alpha
    indicator = np.zeros((n_clusters, n))
    indicator[clusters, np.arange(n)] = scale
    return linalg.solve(gram, indicator.T, assume_a="pos").T @ Z
