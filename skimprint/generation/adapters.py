"""Use clusterers of scikit-learn and plain functions as generators."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import has_fit_parameter

from .._arrays.groups import offsets_of
from .._validation import check_instance, check_returned
from ._base import ProxyGenerator, synthesized


class ClustererProxies(ProxyGenerator):
    """The cluster centres of any scikit-learn clusterer, fitted to each class.

    `ImprintClassifier` wraps clusterers by itself: ``generator=KMeans()`` is enough.

    Parameters
    ----------
    clusterer : estimator
        Has a parameter ``n_clusters`` and, once fitted, an attribute
        ``cluster_centers_`` of shape (n_clusters, n_features). It is cloned for each
        class, and gets the number of proxies and, if its own is None, a random state.

    Examples
    --------
    >>> from sklearn.cluster import BisectingKMeans
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier(BisectingKMeans(), n_proxies=2, support_norm=None)
    >>> X = [[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    >>> clf.fit(X, [0, 0, 0, 0, 1]).proxy_labels_
    array([0, 0, 1])
    """

    _parameter_constraints: ClassVar[dict] = {
        "clusterer": [HasMethods(["fit", "get_params"])]
    }

    def __init__(self, clusterer: Any):
        self.clusterer = clusterer

    def _validate_params(self):
        check_instance(self.clusterer, "clusterer")
        super()._validate_params()
        if "n_clusters" not in self.clusterer.get_params(deep=False):
            raise TypeError(
                "generator must have a parameter n_clusters, which gets the number of "
                f"proxies; {type(self.clusterer).__name__} has none. Use a clusterer "
                "that has one, such as KMeans or BisectingKMeans, or a function from "
                "(X_c, n_proxies, random_state) to proxies."
            )

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        takes_weights = has_fit_parameter(self.clusterer, "sample_weight")
        name = type(self.clusterer).__name__

        def centers(group, rows, k):
            clusterer = clone(self.clusterer).set_params(n_clusters=k)
            if clusterer.get_params(deep=False).get("random_state", 0) is None:
                clusterer.set_params(random_state=seed)
            weights = {}
            if takes_weights and support.sample_weight is not None:
                weights["sample_weight"] = support.sample_weight[support.indices(group)]
            clusterer.fit(rows, **weights)
            if not hasattr(clusterer, "cluster_centers_"):
                raise TypeError(
                    "generator must have an attribute cluster_centers_ once fitted; "
                    f"{name} has none. Use a clusterer that has one, such as KMeans or "
                    "BisectingKMeans, or a function from (X_c, n_proxies, "
                    "random_state) to proxies."
                )
            return clusterer.cluster_centers_

        return made_by(centers, support, n_proxies, name)


class FunctionProxies(ProxyGenerator):
    """The proxies that a function makes of each class.

    `ImprintClassifier` wraps functions by itself: ``generator=function`` is enough.

    Parameters
    ----------
    function : callable
        From the support embeddings of one class, of shape (n_c, n_features), the
        number of proxies and an int as random state, to an array of shape
        (n_proxies, n_features). Called for classes with more samples than proxies;
        the others keep their samples.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint import ImprintClassifier
    >>> def median(X_c, n_proxies, random_state):
    ...     return np.median(X_c, axis=0, keepdims=True)
    >>> clf = ImprintClassifier(
    ...     median, n_proxies=1, support_norm=None, proxy_norm=None, whitening=None,
    ...     mean_weight=0,
    ... )
    >>> clf.fit([[0.0, 1.0], [0.0, 2.0], [0.0, 9.0]], ["a", "a", "a"]).proxies_
    array([[0., 2.]])
    """

    _parameter_constraints: ClassVar[dict] = {"function": [callable]}

    def __init__(self, function: Callable[[np.ndarray, int, int], ArrayLike]):
        self.function = function

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        name = getattr(self.function, "__name__", type(self.function).__name__)

        def made(group, rows, k):
            return self.function(rows, k, seed)

        return made_by(made, support, n_proxies, name)


def made_by(function, support, n_proxies, name):
    """Let a function of group, rows and number make proxies of classes of many rows."""
    vectors, shape = [], ("n_proxies", support.n_features)
    for group, k in enumerate(n_proxies):
        rows = support.rows(group)
        if k < len(rows):
            made = function(group, rows, int(k))
            rows = check_returned(made, shape, support.dtype, f"generator {name}")
        vectors.append(rows)
    offsets = offsets_of([len(v) for v in vectors])
    return synthesized(support, np.concatenate(vectors), offsets)
