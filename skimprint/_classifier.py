"""ImprintClassifier: the framework, from support embeddings to labels."""

import warnings
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    check_X_y,
    validate_data,
)

from ._groups import Buffer, GroupedRows
from ._progress import CallbackSupportMixin, fit_progress
from ._threads import run_blocks
from ._validation import check_labels, seed_from
from .aggregation import METRICS, ProxySimilarity, max_scores, vote_shares
from .generation import make_generator
from .normalization import l2_normalize, quantile_normalize_by_class
from .whitening import precision_cholesky, within_class_covariance

# More proxies than any class has samples.
_ALL = np.iinfo(np.int32).max

# What embeddings come in. Half precision is kept as it is and cast block by block.
_DTYPES = (np.float64, np.float32, np.float16)


class ImprintClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Classify embeddings by their similarity to proxies of each class.

    Weight imprinting turns the embeddings of a frozen foundation model into a
    classifier in one pass, without gradient steps: support embeddings are normalised,
    each class is represented by one or more proxies, and a query gets the class of
    the proxy that it is most similar to. The parts are those of the IMPRINT framework
    [1]_, and the defaults its best method.

    Parameters
    ----------
    generator : str, generator, clusterer or callable, default="kmeans"
        Makes the proxies of a class of its support embeddings. One of

        - ``"all"``, ``"cov_max"``, ``"fps"``, ``"kmeans"``, ``"kmedoids"``,
          ``"least_squares"``, ``"mean"``, ``"random"``: the components of
          `skimprint.generation` with their default parameters;
        - such a component, for other parameters (``KMeansProxies(n_init=5)``);
        - a scikit-learn clusterer with a parameter ``n_clusters`` and an attribute
          ``cluster_centers_``;
        - a callable ``f(X_c, n_proxies, random_state)`` that returns an array of shape
          (n_proxies, n_features).

    n_proxies : int or dict of {label: int}, default=20
        Number of proxies per class. A class with no more samples than this keeps its
        samples as they are. ``"mean"`` and ``"all"`` ignore it.
    support_norm : {"l2"}, callable or None, default="l2"
        Normalisation of the support embeddings (the framework's NORM_pre). A callable
        takes and returns an array of shape (n, n_features). It gets the rows in parts,
        class by class, so it must treat each row by itself.
    proxy_norm : {"l2", "quantile"}, callable or None, default="l2"
        Normalisation of the proxies (NORM_post). ``"quantile"`` gives the proxies of
        each class the distribution of the values of all classes before it, in sorted
        order.
    query_norm : {"l2"}, callable or None, default="l2"
        Normalisation of the queries (NORM_inf). A callable gets them in blocks and
        must treat each row by itself.
    aggregation : {"max", "mnn"} or callable, default="max"
        From similarities to class scores: the largest similarity of each class, or the
        votes of the ``n_neighbors`` nearest proxies. A callable
        ``f(similarities, proxy_classes)`` gets an array of shape (n_queries,
        n_proxies), distances negated, and the index into ``classes_`` of each proxy;
        it returns scores of shape (n_queries, n_classes), the largest one winning.
    metric : {"dot", "cosine", "euclidean", "manhattan", "chebyshev", "mahalanobis"}, \
default="dot"
        Similarity or distance of a query to a proxy. Mahalanobis distances use the
        pooled within-class covariance of the support embeddings, shrunk by the rule of
        Ledoit and Wolf.
    n_neighbors : int, default=5
        Number of proxies that vote in ``aggregation="mnn"``; at most all of them.
    weights : {"uniform", "distance"}, default="uniform"
        Whether votes count alike or by the inverse of their distance
        (``1 - similarity`` for ``metric="cosine"``).
    temperature : float, default=1.0
        Class probabilities are the softmax of the scores divided by it.
    random_state : int, RandomState instance or None, default=None
        Seed of the generator. Every class starts from the same seed, so that its
        proxies do not depend on the other classes.
    n_jobs : int, default=None
        Number of threads across classes in `fit`. The result is the same for any
        number.
    verbose : int, default=0
        Whether a k-means fit that lasts shows a progress bar over classes.
        scikit-learn's callbacks (1.9 and newer) are told of each class too.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    proxies_ : ndarray of shape (n_proxies_total, n_features)
        The normalised proxies, class by class: float32 for float32 and float16
        embeddings, else float64.
    proxy_labels_ : ndarray of shape (n_proxies_total,)
        The label of each proxy.
    proxy_indices_ : ndarray of shape (n_proxies_total,)
        The row of ``X`` in `fit` that a proxy is, or the row of its class that is
        nearest to a synthetic one.
    class_count_ : ndarray of shape (n_classes,)
        Number of samples of each class, or the sum of their weights.
    generator_ : ProxyGenerator
        The component that made the proxies.
    covariance_ : ndarray of shape (n_features, n_features)
        Shrunk within-class covariance. Only with ``metric="mahalanobis"``.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if ``X`` has any that are all strings.

    See Also
    --------
    sklearn.neighbors.NearestCentroid : One mean per class.
    sklearn.neighbors.KNeighborsClassifier : All samples kept.

    Notes
    -----
    With l2-normalised proxies and queries, ``aggregation="max"`` is the nearest proxy
    by cosine similarity, and by Euclidean distance.

    References
    ----------
    .. [1] J. Westerhoff et al., "Robust Weight Imprinting: Insights from Neural
       Collapse and Proxy-Based Aggregation", TMLR 2025, arXiv:2503.14572.
    .. [2] H. Qi, M. Brown, D. G. Lowe, "Low-Shot Learning with Imprinted Weights",
       CVPR 2018.

    Examples
    --------
    >>> from sklearn.model_selection import train_test_split
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.datasets import load_digits_embeddings
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> X_support, X_query, y_support, y_query = train_test_split(
    ...     X, y, test_size=0.5, stratify=y, random_state=0
    ... )
    >>> clf = ImprintClassifier(random_state=0).fit(X_support, y_support)
    >>> clf.proxies_.shape
    (200, 1024)
    >>> bool(clf.score(X_query, y_query) > 0.9)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012 (scikit-learn's convention)
        "generator": "no_validation",  # `make_generator` knows, and says what would do
        "n_proxies": [Interval(Integral, 1, None, closed="left"), Mapping],
        "support_norm": [StrOptions({"l2"}), callable, None],
        "proxy_norm": [StrOptions({"l2", "quantile"}), callable, None],
        "query_norm": [StrOptions({"l2"}), callable, None],
        "aggregation": [StrOptions({"max", "mnn"}), callable],
        "metric": [StrOptions(set(METRICS))],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "weights": [StrOptions({"uniform", "distance"})],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        generator="kmeans",
        n_proxies=20,
        *,
        support_norm="l2",
        proxy_norm="l2",
        query_norm="l2",
        aggregation="max",
        metric="dot",
        n_neighbors=5,
        weights="uniform",
        temperature=1.0,
        random_state=None,
        n_jobs=None,
        verbose=0,
    ):
        self.generator = generator
        self.n_proxies = n_proxies
        self.support_norm = support_norm
        self.proxy_norm = proxy_norm
        self.query_norm = query_norm
        self.aggregation = aggregation
        self.metric = metric
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.temperature = temperature
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Imprint the classes: make the proxies of each from its support embeddings.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The support embeddings.
        y : array-like of shape (n_samples,)
            Their labels: numbers, strings or booleans.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. A sample of weight 2 counts as two, one of weight
            zero as absent. Generators that choose samples, and functions, only
            distinguish zero from the rest.

        Returns
        -------
        self : ImprintClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter, the embeddings, the labels or the weights are not valid.
        """
        self._check_votes()
        named_X = X
        X, y = check_X_y(X, y, dtype=_DTYPES, estimator=self)
        check_labels(y)
        classes, codes = np.unique(y, return_inverse=True)
        sample_weight = _check_weights(sample_weight, X, codes, classes)
        n_proxies = self._n_proxies_of(classes)
        generator = make_generator(self.generator)

        support = GroupedRows(
            X,
            codes,
            len(classes),
            sample_weight=sample_weight,
            transform=_norm(self.support_norm, "support_norm"),
        ).without_weightless()
        with fit_progress(self, len(classes), X=X, y=y) as progress:
            proxies, offsets, indices = generator.generate(
                support,
                n_proxies,
                seed=seed_from(self.random_state),
                n_jobs=self.n_jobs,
                progress=progress,
            )
        if self.proxy_norm == "quantile":
            proxies = quantile_normalize_by_class(proxies, offsets)
        elif self.proxy_norm == "l2":
            l2_normalize(proxies, out=proxies)
        elif self.proxy_norm is not None:
            proxies = _norm(self.proxy_norm, "proxy_norm")(proxies)
        if self.aggregation == "mnn" and self.n_neighbors > len(proxies):
            warnings.warn(
                f"n_neighbors={self.n_neighbors} is more than the {len(proxies)} "
                "proxies there are: all of them vote.",
                UserWarning,
                stacklevel=2,
            )

        covariance = factor = None
        if self.metric == "mahalanobis":
            covariance = within_class_covariance(support)
            factor = precision_cholesky(covariance)

        # An error up to here leaves an earlier fit as it was.
        validate_data(self, named_X, skip_check_array=True)
        self.classes_ = classes
        self.class_count_ = np.bincount(codes, weights=sample_weight).astype(float)
        self.generator_ = generator
        self.proxies_ = proxies
        self.proxy_labels_ = np.repeat(classes, np.diff(offsets))
        self.proxy_indices_ = indices
        self._offsets = offsets
        self._factor = factor
        vars(self).pop("covariance_", None)  # of an earlier fit
        if covariance is not None:
            self.covariance_ = covariance
        return self

    def predict(self, X):
        """Label of each query.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The class with the largest score; of several, the first in ``classes_``.
        """
        X = self._validate_queries(X)
        winners = np.empty(len(X), dtype=np.intp)

        def choose(block, scores):
            winners[block] = scores.argmax(axis=0)

        self._score_blocks(X, choose, ranking_only=True)
        return self.classes_[winners]

    def decision_function(self, X):
        """Score of each class: the similarity of its best proxy, or its share of votes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes) or (n_samples,)
            In the order of ``classes_``, distances negated. For two classes the score
            of ``classes_[1]`` less that of ``classes_[0]``.
        """
        scores = self._scores(X)
        if len(self.classes_) == 2:
            return scores[:, 1] - scores[:, 0]
        return scores

    def predict_proba(self, X):
        """Probability of each class: softmax of the scores divided by `temperature`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        scores = self._scores(X)
        return _keep_winner(softmax(scores / self.temperature, axis=1), scores)

    def predict_log_proba(self, X):
        """Logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        scores = self._scores(X)
        return _keep_winner(log_softmax(scores / self.temperature, axis=1), scores)

    def kproxies(self, X, n_neighbors=None, return_similarity=True):
        """Find the proxies that each query is most similar to.

        What `kneighbors` is to a nearest-neighbours classifier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.
        n_neighbors : int, default=None
            Number of proxies for each query; by default the parameter `n_neighbors`,
            or all proxies if they are fewer.
        return_similarity : bool, default=True
            Whether to return the similarities too.

        Returns
        -------
        similarities : ndarray of shape (n_samples, n_neighbors)
            Largest first, distances negated. Only if ``return_similarity=True``.
        indices : ndarray of shape (n_samples, n_neighbors)
            Rows of ``proxies_`` (and of ``proxy_labels_`` and ``proxy_indices_``).

        Raises
        ------
        ValueError
            If ``n_neighbors`` is not between 1 and the number of proxies.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> X = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
        >>> clf = ImprintClassifier("all").fit(X, ["up", "right", "both"])
        >>> similarities, indices = clf.kproxies([[0.1, 2.0]], n_neighbors=2)
        >>> clf.proxy_labels_[indices]
        array([['up', 'both']], dtype='<U5')
        """
        X = self._validate_queries(X)
        n_proxies = len(self.proxies_)
        if n_neighbors is None:
            n_neighbors = min(self.n_neighbors, n_proxies)
        elif not (isinstance(n_neighbors, Integral) and 1 <= n_neighbors <= n_proxies):
            raise ValueError(
                f"n_neighbors must be an int from 1 to {n_proxies}, the number of "
                f"proxies; got {n_neighbors!r}."
            )
        similarities = np.empty((len(X), n_neighbors), dtype=self.proxies_.dtype)
        indices = np.empty((len(X), n_neighbors), dtype=np.intp)
        compare = self._similarity()

        def find(block):
            queries = compare.prepare(X[block])
            similarities[block], indices[block] = compare.nearest(queries, n_neighbors)

        run_blocks(find, list(gen_batches(len(X), compare.block_size())))
        return (similarities, indices) if return_similarity else indices

    def _n_proxies_of(self, classes):
        """Number of proxies of each class, shape (n_classes,)."""
        if not isinstance(self.n_proxies, Mapping):
            return np.full(len(classes), min(self.n_proxies, _ALL))
        labels = classes.tolist()
        missing = [label for label in labels if label not in self.n_proxies]
        if missing:
            raise ValueError(
                "n_proxies must have a number for each class; it has none for "
                f"{missing} (its keys are {list(self.n_proxies)})."
            )
        counts = [self.n_proxies[label] for label in labels]
        for label, count in zip(labels, counts, strict=True):
            if not isinstance(count, Integral) or count < 1:
                raise ValueError(
                    "n_proxies must map each label to an int of at least 1; got "
                    f"{count!r} for {label!r}."
                )
        return np.array([min(count, _ALL) for count in counts])

    def _check_votes(self):
        """Refuse votes weighted by what is no distance."""
        votes_by_distance = self.aggregation == "mnn" and self.weights == "distance"
        if votes_by_distance and self.metric == "dot":
            raise ValueError(
                "weights='distance' needs a distance, which metric='dot' is not. "
                "Use metric='cosine' or 'euclidean', or weights='uniform'."
            )

    def _validate_queries(self, X):
        check_is_fitted(self)
        self._validate_params()  # they may have been set since the fit
        self._check_votes()
        return validate_data(self, X, dtype=_DTYPES, reset=False)

    def _similarity(self):
        if self.metric == "mahalanobis":
            check_is_fitted(
                self,
                "covariance_",
                msg="metric='mahalanobis' needs the covariance of the support "
                "embeddings, but was set after fit: call fit again.",
            )
        return ProxySimilarity(
            self.proxies_,
            self.metric,
            query_norm=_norm(self.query_norm, "query_norm"),
            factor=self._factor,
        )

    def _score_blocks(self, X, use, *, ranking_only=False):
        """Score blocks of queries, several at a time.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Validated queries.
        use : callable
            Gets the slice of a block and its scores, of shape (n_classes, n_block),
            which are gone when it returns.
        ranking_only : bool, default=False
            Whether any scores will do that order the classes alike.
        """
        compare = self._similarity()
        codes = np.repeat(np.arange(len(self.classes_)), np.diff(self._offsets))
        buffer = Buffer()

        def score(block):
            queries = compare.prepare(X[block])
            if self.aggregation == "max":
                shape = len(codes), len(queries)
                memory = buffer.empty(shape, self.proxies_.dtype)
                ranks = compare.ranks(queries, out=memory)
                scores = max_scores(ranks, self._offsets)
                if not ranking_only:
                    scores = compare.finish(scores, queries)
            elif self.aggregation == "mnn":
                scores = self._votes(compare, queries, codes)
            else:
                similarities = compare.finish(compare.ranks(queries), queries)
                scores = self.aggregation(similarities.T, codes)
                shape = len(queries), len(self.classes_)
                scores = _checked(scores, shape, similarities.dtype, "aggregation").T
            use(block, scores)

        blocks = list(gen_batches(len(X), compare.block_size()))
        if callable(self.aggregation):
            for block in blocks:  # somebody else's code need not be safe in threads
                score(block)
        else:
            run_blocks(score, blocks)

    def _votes(self, compare, queries, codes):
        """Shares of the votes of the nearest proxies, of shape (n_classes, n)."""
        n_neighbors = min(self.n_neighbors, len(codes))
        similarities, nearest = compare.nearest(queries, n_neighbors)
        closest = 1 if self.metric in ("dot", "cosine") else 0
        distances = closest - similarities
        return vote_shares(
            distances, codes[nearest], len(self.classes_), self.weights
        ).T

    def _scores(self, X):
        """Scores of shape (n_samples, n_classes), in the dtype of the proxies."""
        X = self._validate_queries(X)
        all_scores = np.empty((len(X), len(self.classes_)), dtype=self.proxies_.dtype)

        def keep(block, scores):
            all_scores[block] = scores.T

        self._score_blocks(X, keep)
        return all_scores


def _norm(norm, name):
    """The function that a normalisation parameter stands for, or None."""
    if norm is None or norm == "l2":
        return norm and l2_normalize
    # A copy, for the function may write on what it gets.
    return lambda X: _checked(norm(X.copy()), X.shape, X.dtype, name)


def _checked(array, shape, dtype, name):
    """What a callable parameter returned, if it is of the right shape and finite."""
    array = np.asarray(array, dtype=dtype)
    if array.shape != shape:
        raise ValueError(
            f"{name} must return an array of shape {shape}; got {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must return finite values; got NaN or infinity.")
    return array


def _keep_winner(probabilities, scores):
    """Let the class with the best score stay ahead where softmax evens it out."""
    winners = scores.argmax(axis=1)
    lost = np.flatnonzero(probabilities.argmax(axis=1) != winners)
    best = probabilities[lost].max(axis=1)
    probabilities[lost, winners[lost]] = np.nextafter(best, np.inf)
    return probabilities


def _check_weights(sample_weight, X, codes, classes):
    """Valid weights, some of them positive in each class, or None."""
    if sample_weight is None:
        return None
    sample_weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
    totals = np.bincount(codes, weights=sample_weight)
    if not totals.all():
        raise ValueError(
            "sample_weight must be positive for at least one sample of each class; "
            f"it is zero for all of {classes[totals == 0].tolist()}."
        )
    return sample_weight
