"""Proxies that are support samples themselves: all, some at random, or chosen well."""

from typing import Literal

import numpy as np
from sklearn.utils._param_validation import StrOptions

from .._arrays.groups import late_rows, offsets_of, row_keys
from .._memory.columns import Ragged, joined, take
from .._memory.points import mean_of
from ..cluster._selection import covariance_sums, grouped_cov_max, grouped_fps
from ._base import ProxyGenerator, selected


class AllProxies(ProxyGenerator):
    """Every support sample; the number of proxies is ignored.

    With ``aggregation="mnn"``, ``whitening=None`` and ``mean_weight=0`` this is a
    k-nearest-neighbours classifier.

    See Also
    --------
    sklearn.neighbors.KNeighborsClassifier : The same then, except for ties of votes.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.aggregation import Votes
    >>> clf = ImprintClassifier(
    ...     "all", aggregation=Votes(1), whitening=None, mean_weight=0
    ... )
    >>> clf.fit([[0.0, 1.0], [0.0, 3.0], [5.0, 0.0]], ["a", "a", "b"]).proxy_indices_
    array([0, 1, 2])
    """

    selects = True
    points_per_proxy = 0
    learns_in_order = True
    is_slow = False

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        return selected(support, support.order, support.offsets)

    def generate_of(self, points, n_proxies, **options):
        return points


class RandomProxies(ProxyGenerator):
    """Support samples drawn without replacement, the same number from each class.

    The baseline that any cleverer choice has to beat. A sample's lot is a hash of its
    bytes and the seed, so the same samples are drawn in whatever order and parts they
    come; but float32 draws others than float64.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("random", n_proxies=1, random_state=0)
    >>> clf.fit([[0.0, 1.0], [0.0, 3.0], [5.0, 0.0]], ["a", "a", "b"]).proxy_labels_
    array(['a', 'b'], dtype='<U1')
    """

    selects = True
    points_per_proxy = 0
    is_slow = False

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        picks = []
        for group, k in enumerate(np.minimum(n_proxies, support.sizes)):
            indices = support.indices(group)
            if k < len(indices):
                keys = row_keys(late_rows(support, group), seed)
                indices = indices[np.sort(np.argsort(keys, kind="stable")[:k])]
            picks.append(indices)
        offsets = offsets_of([len(pick) for pick in picks])
        return selected(support, np.concatenate(picks), offsets)


class FarthestPointProxies(ProxyGenerator):
    """Farthest-point sampling: each next sample is the farthest from those before.

    Covers a class evenly, outliers included; greedy, after Gonzalez [1]_.

    Parameters
    ----------
    start : {"farthest", "random"}, default="farthest"
        The first sample: the one farthest from the mean of its class, which is
        deterministic, or one at random.

    References
    ----------
    .. [1] T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance",
       Theoretical Computer Science 38, 1985.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.generation import FarthestPointProxies
    >>> clf = ImprintClassifier(FarthestPointProxies(), n_proxies=2, support_norm=None)
    >>> X = [[0.0, 1.0], [0.0, 2.0], [0.0, 9.0], [5.0, 0.0]]
    >>> clf.fit(X, ["a", "a", "a", "b"]).proxy_indices_
    array([2, 0, 3])
    """

    selects = True
    waits = True

    _parameter_constraints: dict = {  # noqa: RUF012
        "start": [StrOptions({"farthest", "random"})],
    }

    def __init__(self, start: Literal["farthest", "random"] = "farthest"):
        self.start = start

    def condense(self, points, bound):
        # A sample would lack the farthest points. The mean is what they start from.
        groups = Ragged(points, np.array([0, len(points.counts)])).grouped()
        kept, _ = grouped_fps(groups, 2 * bound - 1, start=self.start)
        left_out = np.setdiff1d(np.arange(len(points.counts)), kept)
        return joined([take(points, np.sort(kept)), mean_of(take(points, left_out))])

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        chosen = grouped_fps(
            support, n_proxies, start=self.start, seed=seed, n_jobs=n_jobs
        )
        return selected(support, *chosen)


class CovMaxProxies(ProxyGenerator):
    """The samples that covary most with the rest of their class.

    Samples are the variables of an (n_c, n_c) covariance matrix over the features;
    those with the largest row sums become proxies, as in Westerhoff et al. [1]_.

    References
    ----------
    .. [1] J. Westerhoff et al., "Robust Weight Imprinting: Insights from Neural
       Collapse and Proxy-Based Aggregation", TMLR 2025, arXiv:2503.14572, Section 3.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("cov_max", n_proxies=1, support_norm="l2")
    >>> X = [[0.0, 1.0, 5.0], [0.0, 2.0, 9.0], [1.0, 0.0, 9.0], [5.0, 0.0, 0.0]]
    >>> clf.fit(X, ["a", "a", "a", "b"]).proxy_indices_
    array([2, 3])
    """

    selects = True
    is_slow = False
    waits = True

    def condense(self, points, bound):
        # A sample would lack the highest sums. Those that are left out go on counting
        # in the sums of the others, by their mean.
        sums = covariance_sums(points.vectors[None], points.counts[None])[0]
        sums[points.spreads > 0] = -np.inf
        order = np.argsort(-sums, kind="stable")
        kept, left_out = np.split(order, [2 * bound - 1])
        return joined([take(points, np.sort(kept)), mean_of(take(points, left_out))])

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        return selected(support, *grouped_cov_max(support, n_proxies, n_jobs=n_jobs))
