"""Cluster within groups: k-means of every class in one call."""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.metrics import pairwise_distances_argmin
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import check_X_y
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from .._arrays.device import embedding_dtypes, like_input, readable, to_host
from .._arrays.finite import naming_rows
from .._arrays.groups import GroupedRows
from .._progress import progress_bar
from .._validation import (
    check_labels,
    fit_context,
    numbers_of,
    seed_from,
    stacked,
    whole_labels,
)
from ..normalization import l2_normalize
from ._kmeans import OPTIONS, grouped_kmeans

__all__ = ["GroupedKMeans"]


class GroupedKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Cluster the samples of each group by k-means.

    The same as a :class:`~sklearn.cluster.KMeans` per group - greedy k-means++ and
    Lloyd's algorithm - in one call and a fraction of the time: groups of any sizes
    take the cheapest of several routes to the same kind of result, and small groups
    of one size are worked on together.

    Parameters
    ----------
    n_clusters : int or dict of {group: int}, default=8
        Number of clusters of each group. A group that has no more samples than that
        keeps them as its centres.
    n_init : int, default=1
        Number of runs from different seeds; for each group, the one of least inertia
        is kept.
    max_iter : int, default=300
        Maximum number of iterations of a run.
    tol : float, default=1e-4
        Squared shift of a group's centres at which a run has converged, relative to
        the mean variance of the group's features.
    spherical : bool, default=False
        Whether to cluster by cosine similarity: samples and centres are scaled to
        unit length.
    random_state : int, RandomState instance or None, default=None
        Determines the seed. All groups use the same one, so that the clusters of a
        group do not depend on which other groups there are.
    n_jobs : int, default=None
        Number of threads over groups. `None` means 1 unless in a
        :obj:`joblib.parallel_backend` context; -1 means all processors. The result is
        the same, to the bit, for any number.
    verbose : int, default=0
        Whether long fits show a progress bar over groups.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_centers, n_features)
        Centres of all groups, those of the first group first. Of dtype float32 if
        `X` is of float32 or half precision, else float64.
    cluster_groups_ : ndarray of shape (n_centers,)
        Group of each centre.
    groups_ : ndarray of shape (n_groups,)
        The groups, sorted.
    labels_ : ndarray of shape (n_samples,), dtype=int32
        Index in `cluster_centers_` of the centre nearest to each training sample,
        among those of its group.
    inertia_ : ndarray of shape (n_groups,), dtype=float64
        Sum of squared distances of samples to their centre, weighted by the sample
        weights if there are any, by group.
    n_iter_ : ndarray of shape (n_groups,), dtype=int
        Number of iterations run, by group.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names
        that are all strings.

    See Also
    --------
    sklearn.cluster.KMeans : K-means of all samples together.

    Notes
    -----
    Seeds are chosen by greedy k-means++ [1]_, in large groups from a weighted sample
    [2]_ with four times the candidates that scikit-learn compares. Rows are compared
    with centres only where bounds in the manner of [3]_ cannot tell that nothing has
    changed; for small groups, everything takes place in the space of the inner
    products of their samples.

    A group with fewer distinct samples than clusters has centres that repeat. Samples
    of weight zero take no part; they get the label of the nearest centre. A group whose
    samples all have weight zero is clustered as if each had weight one. A weight of 2
    counts like two equal samples in means and inertia, but not in the draws of seeds:
    as in :class:`~sklearn.cluster.KMeans`, samples that are repeated may lead to other
    clusters.

    With scikit-learn's array API dispatch, `X` may be an array of any library on any
    device. It is clustered on the host, a few groups at a time, and what `predict`,
    `transform` and `fit_predict` return follows `X`; attributes are NumPy arrays.

    References
    ----------
    .. [1] Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding",
       SODA 2007.
    .. [2] Bachem, Lucic and Krause, "Scalable k-Means Clustering via Lightweight
       Coresets", KDD 2018.
    .. [3] Hamerly, "Making k-means Even Faster", SDM 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.cluster import GroupedKMeans
    >>> X = np.array([[1.0, 0.0], [1.0, 2.0], [9.0, 1.0], [0.0, 5.0], [4.0, 5.0]])
    >>> groups = ["a", "a", "a", "b", "b"]
    >>> kmeans = GroupedKMeans(n_clusters=2, random_state=0).fit(X, groups)
    >>> kmeans.cluster_centers_
    array([[1., 1.],
           [9., 1.],
           [0., 5.],
           [4., 5.]])
    >>> kmeans.cluster_groups_
    array(['a', 'a', 'b', 'b'], dtype='<U1')
    >>> kmeans.labels_
    array([0, 0, 1, 2, 3], dtype=int32)
    """

    n_features_in_: int
    feature_names_in_: np.ndarray

    _parameter_constraints: ClassVar[dict] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left"), dict],
        **OPTIONS,
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_clusters: int | dict[Any, int] = 8,
        *,
        n_init: int = 1,
        max_iter: int = 300,
        tol: float = 1e-4,
        spherical: bool = False,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.n_clusters = n_clusters
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.spherical = spherical
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Cluster the samples of each group.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            Group of each sample, such as its class.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample, not negative; `None` weighs all alike.

        Returns
        -------
        self : GroupedKMeans
            Fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, the samples, the groups or the weights are not valid, or
            values are so large that squared distances are not finite.
        """
        y, sample_weight = whole_labels(to_host(y)), to_host(sample_weight)
        given = X = stacked(X)
        with naming_rows(self, X=X, y=y):
            X, y = check_X_y(X, y, dtype=embedding_dtypes(X), estimator=self)
        check_labels(y)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, y, dtype=np.float64, ensure_non_negative=True
            )
        groups, codes = np.unique(y, return_inverse=True)
        n_clusters = numbers_of(self.n_clusters, groups.tolist(), "n_clusters")
        with progress_bar(len(groups), "k-means", verbose=self.verbose) as progress:
            result = grouped_kmeans(
                GroupedRows(
                    readable(X), codes, len(groups), sample_weight=sample_weight
                ),
                n_clusters,
                seed=seed_from(self.random_state),
                **{name: getattr(self, name) for name in OPTIONS},
                n_jobs=self.n_jobs,
                progress=progress,
            )
        if not np.isfinite(result.inertia).all():
            raise ValueError(
                f"X or sample_weight is too large for {X.dtype}: squared distances are "
                "not finite. Scale them, or pass X in float64."
            )
        validate_data(self, given, skip_check_array=True)  # learns names of features
        self.groups_ = groups
        self.cluster_centers_ = result.centers
        self.cluster_groups_ = np.repeat(groups, np.diff(result.offsets))
        self.labels_ = result.labels + result.offsets[codes].astype(np.int32)
        self.inertia_ = result.inertia
        self.n_iter_ = result.n_iter
        return self

    def fit_predict(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Any:
        """Cluster the samples of each group and return their labels.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,)
            Group of each sample.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sample.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Index in `cluster_centers_` of the centre of each sample.
        """
        return like_input(X, self.fit(X, y, sample_weight=sample_weight).labels_)

    def predict(self, X: ArrayLike) -> Any:
        """Find the centre nearest to each sample, among those of all groups.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Indices in `cluster_centers_`; ``cluster_groups_[labels]`` are the groups.
        """
        nearest = pairwise_distances_argmin(*self._compared(X))
        return like_input(X, nearest)

    def transform(self, X: ArrayLike) -> Any:
        """Compute the distances of samples to the centres of all groups.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        distances : ndarray of shape (n_samples, n_centers)
            Euclidean distances; if spherical, of samples scaled to unit length.
        """
        return like_input(X, euclidean_distances(*self._compared(X)))

    def _compared(self, X):
        """Take samples and centres, less what they have in common."""
        check_is_fitted(self)
        X = stacked(X)
        X = to_host(validate_data(self, X, reset=False, dtype=embedding_dtypes(X)))
        if X.dtype == np.float16:
            X = X.astype(np.float32)
        if self.spherical:
            return l2_normalize(X), self.cluster_centers_
        # Distances come of inner products, and rounding hurts them least about a mean.
        mean = self.cluster_centers_.mean(axis=0)
        return X - mean, self.cluster_centers_ - mean

    @property
    def _n_features_out(self):
        return len(self.cluster_centers_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
