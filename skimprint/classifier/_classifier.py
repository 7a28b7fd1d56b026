"""ImprintClassifier: the framework, from support embeddings to labels."""

import re
import warnings
from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch, assert_all_finite
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import validate_data

from .._arrays.device import (
    embedding_dtypes,
    is_nonnegative,
    like_input,
    namespace_of,
    readable,
    to_device,
)
from .._arrays.groups import Buffer
from .._arrays.threads import run_blocks
from .._progress import CallbackSupportMixin
from .._scoring.similarity import METRICS
from .._space.kernel_ridge import Support
from ..aggregation import AGGREGATIONS, Votes, make_aggregation
from ..generation import make_generator
from ..normalization import IDENTITY, NORMS, PROXY_NORMS, make_norm
from ._calibration import Calibration, familiarities, fit_temperature, hold_out
from ._head import Head
from ._learning import LearningMixin, features_of

# More proxies than any class has samples.
_ALL = np.iinfo(np.int32).max


class ImprintClassifier(
    LearningMixin, CallbackSupportMixin, ClassifierMixin, BaseEstimator
):
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

    n_proxies : int, dict of {label: int} or "auto", default=20
        Number of proxies per class. A class with no more samples than this keeps its
        samples as they are. ``"mean"`` and ``"all"`` ignore it. ``"auto"`` chooses of
        1, 2, 5, 10 and 20, for each class by itself: the number whose proxies of one
        half of the samples are the nearest to the other half. A class of fewer than
        five samples gets one. In `partial_fit` and `merge` a known class decides anew,
        by the proxies it remembers and what is new.
    support_norm : {"l2", "power", "auto"}, callable or None, default="l2"
        Normalisation of the support embeddings (the framework's NORM_pre). ``"power"``
        takes signed square roots first, which often helps where no embedding has
        negative values; use it for the queries too. ``"auto"`` is ``"power"`` if there
        are none among the first samples to be learnt, else ``"l2"``. A callable
        takes and returns an array of shape (n, n_features). It gets the rows in parts,
        class by class, so it must treat each row by itself.
    proxy_norm : {"l2", "quantile"}, callable or None, default="l2"
        Normalisation of the proxies (NORM_post). ``"quantile"`` gives the proxies of
        each class the distribution of the values of all classes before it, in sorted
        order.
    query_norm : {"l2", "power", "auto"}, callable or None, default="l2"
        Normalisation of the queries (NORM_inf). ``"auto"`` is that of the support. A
        callable gets them in blocks and must treat each row by itself.
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
    shrinkage : float in [0, 1], "auto" or None, default=None
        Whitens the space in which queries meet proxies: by the pooled covariance
        within the classes of the normalised support embeddings, shrunk to
        ``(1 - shrinkage) * S + shrinkage * mean_variance * I``, about the mean of the
        class means. ``"auto"`` is the value of ten that makes samples the most likely
        that are left out in turn, by the cosine to the whitened class means; at most
        200 samples of each class are kept for that. ``proxy_norm`` applies after the
        whitening, ``query_norm`` before it; after ``"l2"`` and ``"power"`` the whitened
        queries get unit length again.
        Clusters and chosen samples are those of the space as it was; least squares
        are solved in the whitened one. `None` does not whiten.
    mean_weight : float in [0, 1] or "auto", default=0.0
        Share of the class mean in each proxy ``p``: it becomes ``(1 - mean_weight) * p
        + mean_weight * mean``, both normalised (and whitened) before, but not after.
        Queries so meet the nearest proxy and the mean of its class at once, which
        steadies proxies of few samples. Not for ``"least_squares"`` and ``"quantile"``:
        ``"auto"`` is 0 for them, and one half for all others.
    kernel_weight : float in [0, 1], default=0.0
        Share of a kernel ridge regression in the class scores, which become ``(1 -
        kernel_weight) * similarity + kernel_weight * regression``: on the one-hot
        labels of the support samples, before any whitening, with the kernel ``exp(4 *
        (cosine - 1))`` [3]_ [4]_. It makes use of what proxies do not show, and costs
        memory and time: up to 1,000 samples of each class are remembered, and queries
        are compared with up to 8,000 of all; of more, with 4,000 (or one of each
        class) that are landmarks for up to 50,000. Needs ``aggregation="max"``,
        ``metric="dot"`` or ``"cosine"``, and norms that give unit length, the same for
        support and queries.
    temperature : float or "auto", default=1.0
        Class probabilities are the softmax of the scores divided by it. ``"auto"``
        makes the classes of support samples most likely, each of them scored by the
        proxies as they would be without it; see Notes.
    outlier_threshold : float or "auto", default=None
        Queries whose `score_samples` are below get the `outlier_label`; with `None`
        no query does. ``"auto"`` rejects the share `contamination` of the support
        samples, each of them scored by the proxies as they would be without it.
    outlier_label : label, default=None
        What `predict` returns for outliers: text if the classes are text, else a
        number.
    outlier_score : {"similarity", "contrast"}, default="similarity"
        What `score_samples` returns: the similarity to the nearest proxy, or that to
        the best class less a third of that to the second best, which detects unknown
        classes better where there are many. With contrast, and proxies that are
        samples, the two nearest of each class count.
    contamination : float, default=0.05
        Share of the queries of known classes that ``outlier_threshold="auto"``
        rejects.
    head : tuple (weight, classes), default=None
        A linear classifier to start from: its weights, of shape (n_classes,
        n_features), or a module that has them as ``weight``, and their labels (`None`
        numbers them). `fit` keeps its classes and imprints those of ``y`` beside
        them; a row counts as one sample where more is learnt of its class. With
        ``proxy_norm="quantile"`` its weights are the reference distribution. See
        `from_head`.
    random_state : int, RandomState instance or None, default=None
        Seed of the generator. Every class starts from the same seed, so that its
        proxies do not depend on the other classes.
    device : {"cpu", "cuda", "cuda:N", "auto"} or None, default=None
        Where NumPy arrays go, once in each call; results are NumPy arrays again.
        ``"auto"`` is the first GPU, if there is one. Arrays that are on a device stay
        there, with scikit-learn's array API dispatch.
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
    temperature_ : float
        The temperature, chosen or given.
    outlier_threshold_ : float
        The threshold, chosen or given. Only with an ``outlier_threshold``.
    covariance_ : ndarray of shape (n_features, n_features)
        Shrunk within-class covariance of the support embeddings, before any
        whitening. Only with ``metric="mahalanobis"``.
    shrinkage_ : float
        The shrinkage of the whitening. Only with ``shrinkage``.
    support_norm_ : {"l2", "power"}, callable or None
        The normalisation of the support embeddings, chosen or given.
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

    ``"auto"`` keeps up to 200 samples of each class, chosen by a hash of their values,
    and scores at most 10,000 of them. A proxy that is the sample is left out; a mean
    of ``n`` samples that it is among becomes the mean of the other ``n - 1``. To score
    a tenth of the samples, a whitening (`shrinkage`) is made anew without them, and
    from the covariance of ``metric="mahalanobis"`` the sample is taken out; the amount
    of shrinkage stays. All is done again when it is needed after `partial_fit`,
    `forget` or `merge`.

    Parameters that are set after `fit` take effect with the next one, but for those of
    predictions, which do at once: `query_norm`, `aggregation`, `metric`,
    `n_neighbors`, `weights`, `temperature` and those of outliers. Where what they need
    has not been learnt, there is an error.

    With scikit-learn's ``array_api_dispatch``, results follow ``X`` to its namespace
    and device; labels that are text, and the attributes, are NumPy arrays.

    References
    ----------
    .. [1] J. Westerhoff et al., "Robust Weight Imprinting: Insights from Neural
       Collapse and Proxy-Based Aggregation", TMLR 2025, arXiv:2503.14572.
    .. [2] H. Qi, M. Brown, D. G. Lowe, "Low-Shot Learning with Imprinted Weights",
       CVPR 2018.
    .. [3] R. Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot
       Classification", ECCV 2022.
    .. [4] Y. Bendou et al., "ProKeR: A Kernel Perspective on Few-Shot Adaptation of
       Large Vision-Language Models", CVPR 2025.

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
        "n_proxies": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            Mapping,
        ],
        # Views of registries, to which entries may be added.
        "support_norm": [
            StrOptions(NORMS.keys()),
            StrOptions({"auto"}),
            callable,
            None,
        ],
        "proxy_norm": [StrOptions(PROXY_NORMS.keys()), callable, None],
        "query_norm": [StrOptions(NORMS.keys()), StrOptions({"auto"}), callable, None],
        "aggregation": [StrOptions(AGGREGATIONS.keys()), callable],
        "metric": [StrOptions(METRICS.keys())],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "weights": [StrOptions({"uniform", "distance"})],
        "shrinkage": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"}), None],
        "mean_weight": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"})],
        "kernel_weight": [Interval(Real, 0, 1, closed="both")],
        "temperature": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"auto"}),
        ],
        "outlier_threshold": [Real, StrOptions({"auto"}), None],
        "outlier_label": "no_validation",
        "outlier_score": [StrOptions({"similarity", "contrast"})],
        "contamination": [Interval(Real, 0, 1, closed="left")],
        "head": [tuple, None],
        "random_state": ["random_state"],
        "device": [str, None],
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
        shrinkage=None,
        mean_weight=0.0,
        kernel_weight=0.0,
        temperature=1.0,
        outlier_threshold=None,
        outlier_label=None,
        outlier_score="similarity",
        contamination=0.05,
        head=None,
        random_state=None,
        device=None,
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
        self.shrinkage = shrinkage
        self.mean_weight = mean_weight
        self.kernel_weight = kernel_weight
        self.temperature = temperature
        self.outlier_threshold = outlier_threshold
        self.outlier_label = outlier_label
        self.outlier_score = outlier_score
        self.contamination = contamination
        self.head = head
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Imprint the classes: make the proxies of each from its support embeddings.

        What was learnt before is forgotten, but for the classes of a ``head``.

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
        self._check_combinations()
        learnt = self._learn(self._start(), X, y, sample_weight, callbacks=True)
        self._adopt(learnt, features_of(X), self._make_head(learnt))
        return self

    @property
    def classes_(self):
        """The labels, sorted: ndarray of shape (n_classes,)."""
        return self._head("classes_").classes

    @property
    def proxies_(self):
        """The normalised proxies: ndarray of shape (n_proxies_total, n_features)."""
        return self._head("proxies_").proxies

    @property
    def proxy_labels_(self):
        """The label of each proxy: ndarray of shape (n_proxies_total,)."""
        head = self._head("proxy_labels_")
        return head.classes[head.codes]

    @property
    def proxy_indices_(self):
        """The training row of each proxy: ndarray of shape (n_proxies_total,)."""
        return self._head("proxy_indices_").indices

    @property
    def class_count_(self):
        """Weight of the samples of each class: ndarray of shape (n_classes,)."""
        return self._head("class_count_").class_count

    @property
    def covariance_(self):
        """Shrunk within-class covariance: ndarray of shape (n_features, n_features)."""
        covariance = self._head("covariance_").covariance
        if covariance is None:
            raise AttributeError("covariance_ exists only with metric='mahalanobis'.")
        return covariance

    @property
    def shrinkage_(self):
        """Shrinkage of the whitening: float."""
        head = self._head("shrinkage_")
        if head.shrinkage is None:
            raise AttributeError(
                "shrinkage_ exists only with shrinkage, and after support embeddings."
            )
        return head.shrinkage

    @property
    def support_norm_(self):
        """Normalisation of the support embeddings, chosen or given."""
        return self._head("support_norm_").norm or self.support_norm

    @property
    def generator_(self):
        """The component that made the proxies: ProxyGenerator."""
        self._head("generator_")
        return self._learnt.settled().generator

    @property
    def temperature_(self):
        """What scores are divided by for probabilities: float."""
        return self._temperature(self._head("temperature_"))

    @property
    def outlier_threshold_(self):
        """Queries that are less familiar are outliers: float."""
        head = self._head("outlier_threshold_")
        if self.outlier_threshold is None:
            raise AttributeError(
                "outlier_threshold_ exists only with an outlier_threshold."
            )
        return self._threshold(head)

    @property
    def n_samples_seen_(self):
        """Number of training rows so far, forgotten ones included: int."""
        self._head("n_samples_seen_")
        return self._learnt.settled().n_samples

    def _head(self, name="classes_"):
        """What predictions need, made anew if the classifier has learnt since.

        Parameters
        ----------
        name : str
            The attribute it is needed for.
        """
        if not self.__sklearn_is_fitted__():
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r} before fit."
            )
        head, learnt = self._made, self._learnt.settled()
        if head is None or head.memory is not learnt.memory:
            # One assignment, of something complete: other threads may be predicting.
            self._made = head = self._make_head(learnt, previous=head)
        return head

    def _make_head(self, learnt, previous=None, shared=None):
        return Head(
            learnt,
            self._proxy_norm(),
            mahalanobis=METRICS[self.metric].needs_covariance,
            shrinkage=self.shrinkage,
            mean_weight=self._mean_weight(),
            with_kernel=self.kernel_weight > 0,
            previous=previous,
            shared=shared,
        )

    def _choose_norm(self, learnt, X):
        """The norm that "auto" stands for, by what is known or else by samples."""
        if self.support_norm != "auto":
            return None
        return learnt.norm or ("power" if is_nonnegative(X) else "l2")

    def _support_norm(self, chosen):
        return make_norm(chosen or self.support_norm, "support_norm")

    def _query_norm(self, head):
        norm = self.query_norm
        if norm == "auto":
            norm = head.norm or self.support_norm
        if norm == "auto":
            raise NotFittedError(
                "support_norm='auto' is chosen by the support embeddings, but was set "
                "after fit: call fit again."
            )
        return make_norm(norm, "query_norm")

    def _proxy_norm(self):
        return make_norm(self.proxy_norm, "proxy_norm", PROXY_NORMS)

    def _aggregation(self):
        """The aggregation, and the parameters of votes."""
        if self.aggregation == "mnn":
            return Votes(self.n_neighbors, self.weights)
        return make_aggregation(self.aggregation)

    def _mean_weight(self):
        """Share of the class mean in each proxy."""
        if self.mean_weight != "auto":
            return self.mean_weight
        return 0.5 if self._proxies_are_points() else 0.0

    def _proxies_are_points(self):
        """Whether proxies are in the space of the normalised embeddings."""
        generator = make_generator(self.generator)
        return self._proxy_norm().is_pointwise and not generator.uses_moments

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
            The `outlier_label`, where `score_samples` is less than
            ``outlier_threshold_``.
        """
        queries = self._validate_scored(X)
        return like_input(X, self._predicted(queries))

    def _predicted(self, X):
        """Labels of queries from `_validate_scored`."""
        head = self._head()
        winners = np.empty(len(X), dtype=np.intp)

        def choose(block, found):
            winners[block] = found

        self._score_blocks(head, X, choose, winners_only=True)
        if self.outlier_threshold is None:
            return head.classes[winners]
        is_outlier = self._familiarities(head, X) < self._threshold(head)
        return self._labels_of(head, winners, is_outlier)

    def score_samples(self, X):
        """How familiar each query is: its similarity to what was learnt.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The larger, the more familiar: see `outlier_score`. Distances are negated.
            The same for any `aggregation`.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> clf = ImprintClassifier(
        ...     "mean", outlier_threshold=0.5, outlier_label="neither"
        ... ).fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
        >>> X = [[0.0, 2.0], [-1.0, -1.0]]
        >>> clf.score_samples(X).round(2)
        array([ 1.  , -0.71])
        >>> clf.predict(X)
        array(['up', 'neither'], dtype='<U7')
        """
        queries = self._validate_queries(X)
        return like_input(X, self._familiarities(self._head(), queries))

    def explain(self, X):
        """Why each query gets its class: the proxy that won, its lead, its sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        explanation : :class:`~sklearn.utils.Bunch`
            Arrays of shape (n_samples,):

            label
                The class with the largest score, also for outliers.
            proxy
                The row of ``proxies_`` that is nearest among those of this class.
            similarity
                Of the query to that proxy; a distance is negated.
            training_row
                The training row that the proxy is, or that is nearest to it; -1 for
                a row of a head.
            n_samples
                The weight of the training samples that the proxy stands for; 1 where
                it is a sample itself.
            runner_up
                The class with the second largest score; the same as ``label`` if it
                is the only one.
            margin
                How much larger the largest score is; infinite for an only class.
            familiarity
                As `score_samples` returns it.

        See Also
        --------
        kproxies : Several proxies of each query.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> X = [[0.0, 1.0], [0.0, 3.0], [1.0, 0.0]]
        >>> clf = ImprintClassifier("mean").fit(X, ["up", "up", "right"])
        >>> why = clf.explain([[0.6, 0.8]])
        >>> why.label, why.runner_up, why.margin.round(2)
        (array(['up'], dtype='<U5'), array(['right'], dtype='<U5'), array([0.2]))
        >>> why.training_row, why.n_samples
        (array([0]), array([2.]))
        """
        X = self._validate_queries(X)
        head = self._head()
        n = len(X)
        winners, seconds, proxy = np.empty((3, n), dtype=np.intp)
        similarity, margin, familiarity = np.empty((3, n), dtype=head.proxies.dtype)

        compare = self._similarity(head)

        def look(block, similarities):
            aggregation = self._aggregation()
            scores = aggregation.scores(similarities, head.offsets, compare)
            scores = self._with_kernel(head, scores, X, block)
            columns = np.arange(scores.shape[1])
            first = winners[block] = scores.argmax(axis=0)
            best = scores[first, columns]
            if len(scores) == 1:
                second, lead = first, np.inf
            else:
                others = scores.copy()
                others[first, columns] = -np.inf
                second = others.argmax(axis=0)
                lead = best - others[second, columns]
            seconds[block], margin[block] = second, lead
            familiarity[block] = self._familiarity(head, similarities)
            similarities[head.codes[:, None] != first] = -np.inf
            proxy[block] = similarities.argmax(axis=0)
            similarity[block] = similarities[proxy[block], columns]

        self._compare_blocks(head, X, look)
        counts = np.concatenate([part.counts for part in head.parts])
        return Bunch(
            label=head.classes[winners],
            proxy=proxy,
            similarity=similarity,
            training_row=head.indices[proxy],
            n_samples=counts[proxy],
            runner_up=head.classes[seconds],
            margin=margin,
            familiarity=familiarity,
        )

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
        _, scores = self._scores(X)
        if scores.shape[1] == 2:
            scores = scores[:, 1] - scores[:, 0]
        return like_input(X, scores)

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
        head, scores = self._scores(X)
        temperature = self._temperature(head)
        probabilities = softmax(scores / temperature, axis=1)
        return like_input(X, _keep_winner(probabilities, scores))

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
        head, scores = self._scores(X)
        temperature = self._temperature(head)
        probabilities = log_softmax(scores / temperature, axis=1)
        return like_input(X, _keep_winner(probabilities, scores))

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
        given, X = X, self._validate_queries(X)
        head = self._head()
        n_proxies = head.n_proxies
        if n_neighbors is None:
            n_neighbors = min(self.n_neighbors, n_proxies)
        elif not (isinstance(n_neighbors, Integral) and 1 <= n_neighbors <= n_proxies):
            raise ValueError(
                f"n_neighbors must be an int from 1 to {n_proxies}, the number of "
                f"proxies; got {n_neighbors!r}."
            )
        similarities = np.empty((len(X), n_neighbors), dtype=head.proxies.dtype)
        indices = np.empty((len(X), n_neighbors), dtype=np.intp)
        compare = self._similarity(head)

        def find(block):
            queries = compare.prepare(X, block)
            similarities[block], indices[block] = compare.nearest(queries, n_neighbors)

        run_blocks(find, compare.blocks(len(X)))
        indices = like_input(given, indices)
        return (
            (like_input(given, similarities), indices) if return_similarity else indices
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    def _n_proxies_of(self, labels):
        """Number of proxies of each class, shape (n_classes,); None for "auto"."""
        if isinstance(self.n_proxies, str):
            return None
        if not isinstance(self.n_proxies, Mapping):
            return np.full(len(labels), min(self.n_proxies, _ALL))
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

    def _check_params(self):
        if not get_config()["skip_parameter_validation"]:
            self._validate_params()
        self._check_combinations()

    def _check_combinations(self):
        """Refuse parameters that do not go together."""
        if self.outlier_threshold is not None and self.outlier_label is None:
            raise ValueError(
                "outlier_threshold needs an outlier_label, which predict returns for "
                "outliers: pass outlier_label=-1, say, or for text 'unknown'."
            )
        if self.device and not re.fullmatch(r"cpu|auto|cuda(:\d+)?", self.device):
            raise ValueError(
                "device must be 'cpu', 'cuda', 'cuda:N' with a number N, 'auto' or "
                f"None; got {self.device!r}."
            )
        self._aggregation().check(METRICS[self.metric])
        if self._mean_weight() and not self._proxies_are_points():
            raise ValueError(
                "mean_weight needs proxies that are points of the normalised space, "
                "unlike those of 'least_squares' or proxy_norm='quantile': pass "
                "mean_weight=0, or 'auto'."
            )
        if self.kernel_weight:
            self._check_kernel()
        same_norms = (
            self.support_norm is None
            or self.query_norm == "auto"
            or self.query_norm == self.support_norm
        )
        if self._calibrates() and not same_norms:
            raise ValueError(
                "temperature='auto' and outlier_threshold='auto' take support samples "
                "for queries, so query_norm must be the support_norm, "
                f"{self.support_norm!r}; got {self.query_norm!r}."
            )

    def _check_kernel(self):
        """Refuse parameters that a kernel regression does not go together with."""
        if self.aggregation != "max" or not METRICS[self.metric].is_product:
            raise ValueError(
                "kernel_weight needs similarities of the best proxies: aggregation="
                "'max' and metric='dot' or 'cosine'; got aggregation="
                f"{self.aggregation!r} and metric={self.metric!r}. Pass "
                "kernel_weight=0, or these."
            )
        norms = self.support_norm, self.query_norm
        is_auto = norms[0] == "auto"
        has_unit_length = is_auto or make_norm(norms[0], "support_norm").unit_length
        if not has_unit_length or norms[1] not in ("auto", norms[0]):
            raise ValueError(
                "kernel_weight needs support embeddings and queries of unit length, "
                "normalised alike: support_norm='l2', 'power' or 'auto', and the same "
                f"for query_norm, or 'auto'; got support_norm={norms[0]!r} and "
                f"query_norm={norms[1]!r}. Pass kernel_weight=0, or these."
            )

    def _calibrates(self):
        """Whether temperature or threshold are found by leaving samples out."""
        return "auto" in (self.temperature, self.outlier_threshold)

    def _validate_queries(self, X, *, ensure_all_finite=True):
        self._check_is_fitted()
        self._check_params()  # they may have been set since the fit
        X = validate_data(
            self,
            X,
            dtype=embedding_dtypes(X),
            reset=False,
            ensure_all_finite=ensure_all_finite,
        )
        return to_device(readable(X), self.device)

    def _shows_what_is_not_finite(self):
        """Whether scores are not finite for a query that is not."""
        return (
            METRICS[self.metric].shows_non_finite
            and self._aggregation().shows_non_finite
            and not callable(self.query_norm)
        )

    def _near_queries(self, compare, X):
        """What compares queries where they are, if scores can be computed there."""
        has_form = self._aggregation().has_device_form and not self.kernel_weight
        return compare.to(X) if has_form else compare

    def _validate_scored(self, X):
        """Validate queries for `_score_blocks`, which may look for NaN by itself."""
        self._check_is_fitted()
        self._check_params()  # they may have been set since the fit
        is_near = namespace_of(X) is None and self.device in (None, "cpu")
        looks_later = is_near and self._shows_what_is_not_finite()
        return self._validate_queries(X, ensure_all_finite=not looks_later)

    def _similarity(self, head, *, normalized=False):
        """What compares queries, or rows that are normalised, with the proxies."""
        if METRICS[self.metric].needs_covariance and head.factor is None:
            raise NotFittedError(
                "metric='mahalanobis' needs the covariance of the support embeddings, "
                "but was set after fit: call fit again."
            )
        lacks_whitening = self.shrinkage is not None and head.whitening is None
        if lacks_whitening and not all(part.is_head for part in head.parts):
            raise NotFittedError(
                "shrinkage needs the covariance of the support embeddings, but was set "
                "after fit: call fit again."
            )
        query_norm = self._query_norm(head)
        if normalized:  # once more, unit length does no harm, and roots would
            query_norm = NORMS["l2"] if query_norm.unit_length else IDENTITY
        use = self.metric, query_norm, normalized
        kept = head.compared  # once: other threads may replace it
        if kept is None or kept[0] != use or kept[1] is not head.proxies:
            similarity = head.similarity(
                self.metric,
                head.proxies,
                query_norm=query_norm,
                factor=head.factor,
                whitening=head.whitening,
                # Each of these rows meets many vectors of its own: better whitened
                # itself.
                twice_whitened=None if normalized else head.twice_whitened,
            )
            kept = use, head.proxies, similarity
            if not normalized:
                head.compared = kept
        return kept[2]

    def _score_blocks(self, head, X, use, *, winners_only=False):
        """Score blocks of queries, several at a time.

        Parameters
        ----------
        head : Head
            What to score them by.
        X : ndarray of shape (n_samples, n_features)
            Queries from `_validate_scored`.
        use : callable
            Gets the slice of a block and its scores, of shape (n_classes, n_block),
            which are gone when it returns.
        winners_only : bool, default=False
            Whether it gets the index of the best class of each query instead.
        """
        compare = self._near_queries(self._similarity(head), X)
        aggregation = self._aggregation()
        buffer = Buffer()
        # Of few proxies, looking through all queries would be a large part of the work.
        # NaN and infinity spread to the scores, where one look per query finds them.
        looks = self._shows_what_is_not_finite() and compare.xp is np

        def score(block):
            def rank(queries):
                memory = buffer.empty(
                    (head.n_proxies * len(queries),), head.proxies.dtype
                )
                ranks = compare.ranks(queries, out=memory)
                if looks and not np.isfinite(ranks[0]).all():
                    name = type(self).__name__
                    assert_all_finite(X[block], estimator_name=name, input_name="X")
                return ranks

            with np.errstate(invalid="ignore" if looks else "warn"):
                queries = compare.prepare(X, block)
                how = queries, head.offsets, rank if compare.xp is np else None
                if winners_only and not self.kernel_weight:
                    use(block, aggregation.winners(compare, *how))
                    return
                scores = aggregation.of_queries(compare, *how)
            scores = self._with_kernel(head, scores, X, block)
            use(block, scores.argmax(axis=0) if winners_only else scores)

        # Somebody else's code need not be safe in threads.
        compare.for_each_block(score, X, in_threads=not aggregation.is_callable)

    def _with_kernel(self, head, scores, X, block):
        """Scores of a block, (n_classes, n_block), the kernel having its share."""
        if not self.kernel_weight:
            return scores
        queries = np.ascontiguousarray(X[block], dtype=head.proxies.dtype)
        queries = self._query_norm(head)(queries)
        return self._weighed(scores, self._kernel(head).scores(queries))

    def _weighed(self, scores, of_kernel):
        """Scores, those of the kernel regression having their share."""
        return (1 - self.kernel_weight) * scores + self.kernel_weight * of_kernel

    def _kernel(self, head):
        """The kernel regression."""
        if head.kernel is None:
            raise NotFittedError(
                "kernel_weight needs samples of each class, but was set after fit: "
                "call fit again."
            )
        return head.kernel

    def _compare_blocks(self, head, X, use):
        """Compare blocks of queries to all proxies.

        Parameters
        ----------
        head : Head
            Has the proxies.
        X : ndarray of shape (n_samples, n_features)
            Validated queries.
        use : callable
            Gets the slice of a block and its similarities, of shape (n_proxies,
            n_block), which it may change.
        """
        compare = self._similarity(head)
        for block in compare.blocks(len(X)):
            queries = compare.prepare(X, block)
            use(block, compare.finish(compare.ranks(queries), queries))

    def _familiarity(self, head, similarities):
        """What `score_samples` makes of similarities, of shape (n_proxies, n)."""
        return familiarities(
            similarities,
            head.offsets,
            contrast=self.outlier_score == "contrast",
            n_nearest=2 if head.generator.selects else 1,
        )

    def _familiarities(self, head, X):
        """What `score_samples` makes of validated queries."""
        familiar = np.empty(len(X), dtype=head.proxies.dtype)

        def keep(block, similarities):
            familiar[block] = self._familiarity(head, similarities)

        there = self._near_queries(self._similarity(head), X)
        if self.outlier_score == "similarity" and there.xp is not np:

            def find(block):
                familiar[block] = there.best(there.prepare(X, block))

            there.for_each_block(find, X)
            return familiar
        self._compare_blocks(head, X, keep)
        return familiar

    def _labels_of(self, head, winners, is_outlier):
        """Labels of the winning classes, and the outlier label.

        Parameters
        ----------
        head : Head
            Has the classes.
        winners : ndarray of shape (n,)
            Indices into them.
        is_outlier : ndarray of shape (n,)
            Where to put the outlier label.
        """
        if isinstance(self.outlier_label, str) != isinstance(head.classes[0], str):
            raise ValueError(
                "outlier_label must be of the type of the labels, such as "
                f"{head.classes[0]!r}; got {self.outlier_label!r}."
            )
        label = np.asarray(self.outlier_label)
        dtype = np.result_type(head.classes.dtype, label.dtype)
        labels = head.classes[winners].astype(dtype)
        labels[is_outlier] = self.outlier_label
        return labels

    def _temperature(self, head):
        """What scores are divided by."""
        if self.temperature == "auto":
            return self._calibrated(head).temperature
        return self.temperature

    def _threshold(self, head):
        """Below which familiarity makes an outlier."""
        if self.outlier_threshold == "auto":
            return self._calibrated(head).threshold(self.contamination)
        return self.outlier_threshold

    def _calibrated(self, head):
        """What leaving out support samples shows: a Calibration, kept in the head."""
        settings = (
            self.metric,
            self.query_norm,
            self.aggregation,
            self.n_neighbors,
            self.weights,
            self.outlier_score,
            self.kernel_weight,
        )
        if head.calibration is None or head.calibration.settings != settings:
            found = self._calibrate(head)
            head.calibration = Calibration(settings, *found)
        return head.calibration

    def _calibrate(self, head):
        """Temperature, familiarities and weights of support samples left out."""
        if head.generator.uses_moments:
            raise ValueError(
                "temperature='auto' and outlier_threshold='auto' need proxies that can "
                f"do without a sample; those of {type(head.generator).__name__} depend "
                "on all samples of all classes. Pass numbers, or another generator."
            )
        parts = head.parts
        if any(part.sample is None and not part.is_head for part in parts):
            raise NotFittedError(
                "temperature='auto' and outlier_threshold='auto' need samples of each "
                "class, but were set after fit: call fit again."
            )
        held_out = hold_out(parts, head.offsets, selects=head.generator.selects)
        if held_out is None:
            warnings.warn(
                "No class has proxies left without one of its samples: temperature="
                "'auto' is taken as 1, and outlier_threshold='auto' rejects nothing. "
                "Two samples of a class are needed.",
                UserWarning,
                stacklevel=5,
            )
            return 1.0, np.empty(0), np.empty(0)
        n = len(held_out.rows)
        scores = np.empty((n, len(head.classes)), dtype=head.proxies.dtype)
        familiar = np.empty(n, dtype=head.proxies.dtype)
        proxy_norm, aggregation = self._proxy_norm(), self._aggregation()

        def leave_out(head, compare, vectors, block):
            some = held_out.keep(block)
            queries = compare.prepare(some.rows)
            similarities = compare.finish(compare.ranks(queries), queries)
            without = compare.without(
                rows=some.rows,
                means=head.means[some.codes],
                class_weight=head.class_count[some.codes],
                weight=some.weight,
                total=head.moments and head.moments.weights.sum(),
                shrinkage=head.covariance_shrinkage,
            )
            similarities = without.to_all(similarities, queries)

            def to_own(which, vectors):
                """Similarities of some of the samples to vectors of their own."""
                return without.paired(queries[which], vectors, which)

            if head.mean_weight:
                self._compare_blends_without(head, vectors, to_own, some, similarities)
            else:
                left = head.renormalize(some.left, some.own, proxy_norm)
                changed = np.flatnonzero(some.own >= 0)
                own = some.own[changed]
                similarities[own, changed] = to_own(changed, left[changed])
            gone = np.zeros(similarities.shape, bool)
            gone[some.own[some.gone], np.flatnonzero(some.gone)] = True
            scores[block] = aggregation.without(
                similarities, gone, head.offsets, compare
            ).T
            similarities[gone] = -np.inf
            familiar[block] = self._familiarity(head, similarities)

        for fold, without_fold in head.each_without(held_out, proxy_norm):
            compare = self._similarity(without_fold, normalized=True)
            vectors = None
            if head.mean_weight:
                vectors = without_fold.vectors
                own = np.arange(len(vectors))
                vectors = without_fold.renormalize(vectors, own, proxy_norm)
            for block in compare.blocks(len(fold)):
                leave_out(without_fold, compare, vectors, fold[block])
        if self.kernel_weight:
            support = Support.of(parts, head.proxies.dtype)
            of_kernel = self._kernel(head).scores_without(support, held_out.rows)
            scores = self._weighed(scores, of_kernel.T)
        temperature = fit_temperature(scores, held_out.codes, held_out.weights)
        return temperature, familiar, held_out.weights

    def _compare_blends_without(self, head, vectors, to_own, held_out, similarities):
        """Compare samples with what the proxies of their class blend into without them.

        Parameters
        ----------
        head : Head
            Made with all samples.
        vectors : ndarray of shape (n_proxies, n_features)
            Its proxies before they were blended.
        to_own : callable
            From numbers of samples, of shape (m,), and vectors, of shape (m,
            n_features), to the similarities of the ones to the others.
        held_out : HeldOut
            The samples, and what they change.
        similarities : ndarray of shape (n_proxies, n)
            To be changed for the proxies of each sample's class.
        """
        norm = self._proxy_norm()
        parts = head.parts
        left = head.renormalize(held_out.left, held_out.own, norm)
        means = np.stack([parts[code].mean for code in held_out.codes])
        means += held_out.shift[:, None] * (means - held_out.rows)
        means = head.renormalize(means, held_out.own, norm)
        for code in np.unique(held_out.codes):
            columns = np.flatnonzero(held_out.codes == code)
            own, gone = held_out.own[columns], held_out.gone[columns]
            start, stop = head.offsets[code : code + 2]
            of_class = np.repeat(vectors[None, start:stop], len(columns), axis=0)
            changed = np.flatnonzero((own >= 0) & ~gone)
            of_class[changed, own[changed] - start] = left[columns[changed]]
            blends = head.blended(of_class, means[columns][:, None])
            n_proxies = stop - start
            similar = to_own(
                np.repeat(columns, n_proxies), blends.reshape(-1, blends.shape[-1])
            )
            similarities[start:stop, columns] = similar.reshape(-1, n_proxies).T

    def _scores(self, X):
        """A head, and scores of shape (n_samples, n_classes) in its dtype."""
        X = self._validate_scored(X)
        head = self._head()
        all_scores = np.empty((len(X), len(head.classes)), dtype=head.proxies.dtype)

        def keep(block, scores):
            all_scores[block] = scores.T

        self._score_blocks(head, X, keep)
        return head, all_scores


def _keep_winner(probabilities, scores):
    """Let the class with the best score stay ahead where softmax evens it out."""
    winners = scores.argmax(axis=1)
    lost = np.flatnonzero(probabilities.argmax(axis=1) != winners)
    best = probabilities[lost].max(axis=1)
    probabilities[lost, winners[lost]] = np.nextafter(best, np.inf)
    return probabilities
