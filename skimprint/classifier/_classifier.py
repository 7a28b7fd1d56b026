"""ImprintClassifier: the framework, from support embeddings to labels."""

from collections.abc import Mapping
from copy import copy, deepcopy
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._arrays.device import like_input
from .._memory.learner import learn, merge, with_all_proxies
from .._progress import CallbackSupportMixin, fit_progress
from .._scoring.scorer import replace_by_probabilities
from .._scoring.similarity import METRICS
from .._types import (
    AggregationType,
    Array,
    Generator,
    HasWeight,
    Head,
    Method,
    Metric,
    Parameters,
    ProxyNorm,
    QueryNorm,
    RandomState,
)
from .._validation import check_components, fit_context, read_only
from ..aggregation import AGGREGATIONS, Aggregation
from ..methods import METHODS
from ..normalization import NORMS, PROXY_NORMS
from ._calibration import familiarity_kind, not_found_yet, temperature_of, threshold_of
from ._checks import (
    check_labels_to_forget,
    check_learnt,
    check_mergeable,
    check_samples_kept,
    checked_batch,
    checked_queries,
    features_of,
    finite,
    n_nearest,
    rejected_labels,
)
from ._compact import compacted
from ._explanations import explanation_of, proxies_of_samples
from ._fitted import Fitted
from ._head import lowest_score
from ._learning import fitted_without, in_one_norm, learnt_more, plan_and_state
from ._onnx_hooks import OnnxHooks
from ._plain import read_pickled, write_pickled
from ._rejection import Rejection

# The names are views of registries, here and below, to which entries may be added.
_AUTO = StrOptions({"auto"})
_NORM = [StrOptions(NORMS.keys()), _AUTO, callable, None]


class ImprintClassifier(
    CallbackSupportMixin, OnnxHooks, ClassifierMixin, BaseEstimator
):
    """Classify embeddings by their similarity to proxies of each class.

    Weight imprinting [2]_ turns the embeddings of a frozen foundation model into a
    classifier in one pass, without gradient steps: support embeddings are normalised,
    each class is represented by one or more proxies, and a query gets the class of
    the proxy that it is most similar to. The parts are those of the IMPRINT framework
    [1]_; the defaults whiten the space too, and let proxies lean to the mean of their
    class. What is chosen by the support embeddings, in closed form, stands in an
    attribute, such as ``whitening_``; where it cannot be chosen, ``"auto"`` is neutral.
    The framework's best method is ``from_method("westerhoff")``.

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

    n_proxies : int or dict of {label: int}, default=None
        Number of proxies per class. By default 20, but 1 for ``"least_squares"``. A
        class with no more samples than this keeps its samples as they are. ``"mean"``
        and ``"all"`` ignore it. `ImprintClassifierCV` chooses it.
    support_norm : {"l2", "power", "auto"}, callable or None, default="auto"
        Normalisation of the support embeddings (the framework's NORM_pre). ``"power"``
        takes signed square roots first, which often helps where no embedding has
        negative values; use it for the queries too. ``"auto"`` is that of the queries
        if ``query_norm`` names one, and ``"l2"`` beside a callable or `None`. Else it
        is ``"power"`` if there are no negative values among the first samples to be
        learnt, or ``"l2"``, and is chosen again in `forget` and `merge`, as far as all
        samples are kept. A callable takes and returns an array of shape (n,
        n_features). It gets the rows in parts, class by class, so it must treat each
        row by itself.
    proxy_norm : {"l2", "quantile"}, callable or None, default="l2"
        Normalisation of the proxies (NORM_post). ``"quantile"`` gives the proxies of
        each class the distribution of the values of all classes before it, in sorted
        order.
    query_norm : {"l2", "power", "auto"}, callable or None, default="auto"
        Normalisation of the queries (NORM_inf). ``"auto"`` is that of the support. With
        another one nothing is whitened by default. A callable gets them in blocks and
        must treat each row by itself.
    aggregation : {"max", "mnn"}, Votes or callable, default="max"
        From similarities to class scores: the largest similarity of each class, or the
        votes of the nearest proxies, of five for ``"mnn"``; see
        `skimprint.aggregation.Votes` for others. A callable
        ``f(similarities, proxy_classes)`` gets an array of shape (n_queries,
        n_proxies), distances negated, and the index of the class of each proxy, in
        sorted order of the classes that have any; it returns scores of shape
        (n_queries, n_classes), the largest one winning.
    metric : {"dot", "cosine", "euclidean", "manhattan", "chebyshev", "mahalanobis"} \
or callable, default="dot"
        Similarity or distance of a query to a proxy. Products favour long proxies, and
        distances need proxies and queries that are normalised alike. Proxies that
        are weights, not points (``"least_squares"``), are made for products.
        Mahalanobis distances use the pooled within-class covariance of the support
        embeddings, shrunk by the rule of Ledoit and Wolf. A callable ``f(queries,
        proxies)`` gets arrays of shape (n, n_features), normalised (and whitened), and
        returns their similarities, of shape (n_queries, n_proxies), the larger the
        closer, as the kernels of `sklearn.metrics.pairwise` do.
    whitening : float in [0, 1], "auto" or None, default="auto"
        Whitens the space in which queries meet proxies: by the pooled covariance
        within the classes of the normalised support embeddings, shrunk to
        ``(1 - whitening) * S + whitening * mean_variance * I``, about the mean of the
        class means. ``"auto"`` is the one of ten values that makes left-out samples
        most likely, by the cosine to the whitened class means, each class having the
        same say; at most 200 samples of each class are kept for that. In
        `partial_fit` it stays until the samples have doubled. Where no class has two
        samples that differ, ``S`` is the covariance of the class means, and ``"auto"``
        at least 0.97. ``proxy_norm`` applies after the whitening, ``query_norm`` before
        it; after ``"l2"`` and ``"power"`` the whitened
        queries get unit length again. Of many samples, the covariance is whitened by
        its Cholesky factor, and of few (less than two thirds of the features) by its
        symmetric root: the spaces differ by a rotation, which matters to no product
        or Euclidean distance.
        Clusters and chosen samples are those of the space as it was; least squares
        are solved in the whitened one. `None` does not whiten, nor does ``"auto"``
        beside ``"least_squares"``, which looks at the covariance itself, or where
        ``query_norm`` is not that of the support: with a number, queries must come as
        the normalised support embeddings are. Nor does it where distances would compare
        whitened queries, of unit length, with proxies that are not (``proxy_norm=None``
        and ``"quantile"``): with a number, the shortest proxy is nearest to all.
    mean_weight : float in [0, 1] or "auto", default="auto"
        Share of the class mean in each proxy ``p``: it becomes ``(1 - mean_weight) * p
        + mean_weight * mean``, both normalised (and whitened) before, but not after.
        Queries so meet the nearest proxy and the mean of its class at once, which
        steadies proxies of few samples. Not for ``"least_squares"`` and ``"quantile"``:
        ``"auto"`` is 0 for them, and two thirds for all others.
    kernel_weight : float in [0, 1], default=0.0
        Share of a kernel ridge regression in the class scores, which become ``(1 -
        kernel_weight) * similarity + kernel_weight * regression``: on the one-hot
        labels of the support samples, before any whitening, with the kernel ``exp(2
        gamma (cosine - 1))`` [3]_ [4]_. All classes weigh the same, however many
        samples they have; but the more unlike their numbers are, the less the
        regression counts: its labels are multiplied by the harmonic mean of the weights
        of the classes over their arithmetic mean. The width gamma, one of five, and the
        regularisation, one of seven, are those that predict left-out samples best, by
        their likelihood less the squared error: sharp where samples of a class lie in
        many places, regularised where labels are wrong. It makes use of what proxies do
        not show, and costs memory and time: up to 1,000 samples of each class are
        remembered, and queries are compared with up to 6,000 of all, as many of each
        class, and at least one, so that beyond 6,000 classes a fit grows with the cube
        of their number. Needs ``aggregation="max"``, ``metric="dot"`` or ``"cosine"``,
        and norms that give unit length, the same for support and queries.
    temperature : float or "auto", default="auto"
        Class probabilities are the softmax of the scores divided by it. ``"auto"``
        makes the classes of support samples most likely, each of them scored by the
        proxies as they would be without it, and keeps to what is usual where they are
        few; see Notes. Where each class has one, it is the deviation of their scores
        for other classes; where some have, it lies between both. It is found when it
        is first needed, and is 1 where the support has a norm that is not that of the
        queries, and for ``"least_squares"``.
    rejection : Rejection or None, default=None
        Lets `predict` return a label of its own for queries that belong to no known
        class; see `skimprint.Rejection`. With `None` no query is rejected.
    head : tuple (weight, classes), default=None
        A linear classifier to start from: its weights, of shape (n_classes,
        n_features), or a module that has them as ``weight``, and their labels (`None`
        numbers them). `fit` keeps its classes and imprints those of ``y`` beside
        them; a row counts as one sample in the proxies where more is learnt of its
        class (as more than one, beside samples of a ``sample_weight`` below 1), and is
        in no class mean (``mean_weight``, `whitening`). The rows choose
        ``support_norm="auto"``, as first samples do. With
        ``proxy_norm="quantile"`` the rows of which no more is learnt are the reference
        distribution. See `from_head`.
    forgettable : bool or "auto", default="auto"
        Whether `forget` can take classes out of what all have in common: a covariance,
        for `whitening` or ``"least_squares"``. That takes the scatter of each class
        that has more samples than half of the features: half a matrix of features by
        features. ``"auto"`` keeps them up to 128 MiB in all; beyond that, and beyond
        nothing with `False`, only their sum is kept, and `forget` is an error. Where
        nothing is shared, and with ``metric="mahalanobis"``, which needs each scatter,
        all classes can be forgotten.
    random_state : int, RandomState instance or None, default=None
        Seed of the generator. Every class starts from the same seed, so that its
        proxies do not depend on the other classes.
    device : {"cpu", "cuda", "cuda:N", "auto"} or None, default=None
        Where NumPy arrays go, once in each call; results are NumPy arrays again.
        ``"auto"`` is the first GPU, if there is one. Arrays that are on a device stay
        there, with scikit-learn's array API dispatch.
    n_jobs : int, default=None
        Number of threads across classes in `fit`, or of processes where
        :func:`joblib.parallel_config` names a backend of processes, such as ``"loky"``.
        The result is the same for any number.
    verbose : int, default=0
        Whether a long k-means fit shows a progress bar over classes.
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
    rejection_threshold_ : float
        The threshold below which queries are rejected, chosen or given. Only with a
        ``rejection``.
    covariance_ : ndarray of shape (n_features, n_features)
        Shrunk within-class covariance of the support embeddings, before any
        whitening. Only with ``metric="mahalanobis"``.
    whitening_ : float
        The shrinkage of the whitening, chosen or given. Only where there is one.
    mean_weight_ : float
        The share of the class mean in proxies, chosen or given.
    kernel_gamma_, kernel_alpha_ : float
        The width of the kernel and the regularisation of the kernel regression. Only
        with ``kernel_weight``.
    support_norm_ : {"l2", "power"}, callable or None
        The normalisation of the support embeddings, chosen or given.
    n_samples_seen_ : int
        Number of training rows so far, forgotten ones included.
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
    by cosine similarity, and by Euclidean distance. A proxy that leans to the mean of
    its class (`mean_weight`) is shorter: its product with a query is the weighted mean
    of the cosines to both, and other metrics may find another one nearest.

    ``"auto"`` keeps up to 200 samples of each class, chosen by a hash of their values,
    and scores at most 6,000 of them, and fewer where a `whitening` meets many proxies.
    A proxy that is the sample is left out; a mean of ``n`` samples that it is among
    becomes the mean of the other ``n - 1``. Each class has the same say in the
    temperature, however many samples it has. The sample is taken out of the class mean,
    of the whitening and of the covariance of ``metric="mahalanobis"`` too; the amount
    of shrinkage stays. All is done again when it is needed after `partial_fit`,
    `forget` or `merge`. The logarithm of the typical difference of scores over the
    temperature has a normal prior about 1, of deviation 0.4: a few samples that are all
    right, or nearly all wrong, say little.

    Parameters that are set after `fit` take effect with the next `fit`: `partial_fit`,
    `forget`, `merge` and predictions go on by those of the last. Only `temperature` and
    `rejection` act at once, with an error where what they need has not been learnt, and
    `device`, `n_jobs` and `verbose`, which make no difference to results.

    With scikit-learn's ``array_api_dispatch``, results follow ``X`` to its namespace
    and device; labels that are text, and the attributes, are NumPy arrays. What was
    learnt cannot be written to: copies of the classifier share those arrays.

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

    n_features_in_: int
    feature_names_in_: np.ndarray

    _parameter_constraints: ClassVar[dict] = {
        "generator": "no_validation",  # `make_generator` knows, and says what would do
        "n_proxies": [Interval(Integral, 1, None, closed="left"), Mapping, None],
        "support_norm": _NORM,
        "proxy_norm": [StrOptions(PROXY_NORMS.keys()), callable, None],
        "query_norm": _NORM,
        "aggregation": [StrOptions(AGGREGATIONS.keys()), Aggregation, callable],
        "metric": [StrOptions(METRICS.keys()), callable],
        "whitening": [Interval(Real, 0, 1, closed="both"), _AUTO, None],
        "mean_weight": [Interval(Real, 0, 1, closed="both"), _AUTO],
        "kernel_weight": [Interval(Real, 0, 1, closed="both")],
        "temperature": [Interval(Real, 0, None, closed="neither"), _AUTO],
        "rejection": [Rejection, None],
        "head": [tuple, None],
        "forgettable": ["boolean", _AUTO],
        "random_state": ["random_state"],
        "device": [str, None],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        generator: Generator = "kmeans",
        n_proxies: int | Mapping[Any, int] | None = None,
        *,
        support_norm: QueryNorm = "auto",
        proxy_norm: ProxyNorm = "l2",
        query_norm: QueryNorm = "auto",
        aggregation: AggregationType = "max",
        metric: Metric = "dot",
        whitening: float | Literal["auto"] | None = "auto",
        mean_weight: float | Literal["auto"] = "auto",
        kernel_weight: float = 0.0,
        temperature: float | Literal["auto"] = "auto",
        rejection: Rejection | None = None,
        head: Head | None = None,
        forgettable: bool | Literal["auto"] = "auto",
        random_state: RandomState = None,
        device: str | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ):
        self.generator = generator
        self.n_proxies = n_proxies
        self.support_norm = support_norm
        self.proxy_norm = proxy_norm
        self.query_norm = query_norm
        self.aggregation = aggregation
        self.metric = metric
        self.whitening = whitening
        self.mean_weight = mean_weight
        self.kernel_weight = kernel_weight
        self.temperature = temperature
        self.rejection = rejection
        self.head = head
        self.forgettable = forgettable
        self.random_state = random_state
        self.device = device
        self.n_jobs = n_jobs
        self.verbose = verbose

    @classmethod
    def from_method(cls, name: Method, /, **changes: Unpack[Parameters]) -> Self:
        """Make a classifier with the setting of a published method, or the recommended.

        Parameters
        ----------
        name : {"hosoda", "janson", "least_squares", "qi", "recommended", "westerhoff"}
            One of `skimprint.methods`.
        **changes : dict
            Parameters that are to be others.

        Returns
        -------
        classifier : ImprintClassifier
            Not fitted.

        Raises
        ------
        ValueError
            If there is no such method.

        Notes
        -----
        The published methods say nothing of probabilities: theirs are the softmax of
        cosines, or distances, as they are, which is often close to uniform. For
        probabilities that mean what they say, pass ``temperature="auto"``, which keeps
        up to 200 samples of each class.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> ImprintClassifier.from_method("westerhoff", n_proxies=5)
        ImprintClassifier(mean_weight=0.0, n_proxies=5, query_norm='l2',
                          support_norm='l2', temperature=1.0, whitening=None)
        """
        if not isinstance(name, str) or name not in METHODS:
            raise ValueError(f"name must be one of {sorted(METHODS)}; got {name!r}.")
        return cls(**(METHODS[name] | changes))

    @classmethod
    def from_head(
        cls,
        weight: ArrayLike | HasWeight,
        classes: ArrayLike | None = None,
        **params: Unpack[Parameters],
    ) -> Self:
        """Start from the weights of a linear classifier, to add classes beside its own.

        The setting of Qi et al. (2018): a network's last layer keeps its classes, and
        new ones are imprinted next to them with `partial_fit`.

        Parameters
        ----------
        weight : array-like of shape (n_classes, n_features) or module
            A row per class, or something that has them as its attribute ``weight``,
            such as a ``torch.nn.Linear``. A bias is left out: proxies have none.
        classes : array-like of shape (n_classes,), default=None
            The labels of the rows; by default their numbers.
        **params : dict
            Parameters of the classifier.

        Returns
        -------
        classifier : ImprintClassifier
            It knows the classes of the head and can predict them.

        Raises
        ------
        ValueError
            If the weights or the labels are not valid.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> weight = [[0.0, 1.0], [1.0, 0.0]]
        >>> clf = ImprintClassifier.from_head(weight, ["up", "right"], generator="mean")
        >>> clf.partial_fit([[-1.0, 0.1]], ["left"]).predict([[-2.0, 0.0], [0.0, 3.0]])
        array(['left', 'up'], dtype='<U5')
        """
        clf = cls(**(params | {"head": (weight, classes)}))
        clf._validate_params()
        plan, state = plan_and_state(clf, None)
        clf._adopt(Fitted(plan, state), {"n_features_in_": state.n_features})
        return clf

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> Self:
        """Imprint the classes: make the proxies of each from its support embeddings.

        What was learnt before is forgotten, except for the classes of a ``head``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The support embeddings.
        y : array-like of shape (n_samples,)
            Their labels: numbers, strings or booleans.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights. A sample of weight zero counts as absent. One of
            weight 2 counts as two in means, clusters, moments and least squares, and
            is left out as one, with all its weight, as rows are that occur twice
            (``whitening="auto"``, ``temperature="auto"``); it counts once in votes and
            in classes of no more samples than proxies. It counts as two in the sums of
            ``"cov_max"`` and in the mean that ``"fps"`` starts from; other generators
            that choose samples, and functions, only distinguish zero from the rest. A
            class without weight stays in ``classes_``, but is never predicted: its
            probability is 0, its score a 65,536th of the smallest finite number. With
            `kernel_weight` the scale of all weights counts too, as in scikit-learn's
            `Ridge`, and with ``metric="mahalanobis"``, which shrinks by how many
            samples there are.

        Returns
        -------
        self : ImprintClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter, the embeddings, the labels or the weights are not valid.
        """
        batch = checked_batch(self, X, y, sample_weight)
        plan, state = plan_and_state(self, batch)
        n_there = np.count_nonzero(~batch.is_absent)
        with fit_progress(self, n_there, X=batch.X, y=y) as progress:
            state = learn(plan, state, batch, n_jobs=self.n_jobs, progress=progress)
            state = with_all_proxies(plan, state, n_jobs=self.n_jobs)
        self._adopt(Fitted(plan, state), features_of(X))
        return self

    @fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self,
        X: Array,
        y: Array,
        classes: Array | None = None,
        sample_weight: Array | None = None,
    ) -> Self:
        """Imprint new classes, and learn more of known ones.

        A new class gets the proxies that `fit` would give it. Of a known class, points
        that stand for its samples, weighted by them, join the new samples, and the
        generator is applied to both. Points are proxies, or a summary of up to 20
        samples or local means for each of them (30 for k-medoids); where there is one,
        the generator is applied when proxies are first needed. This gives what
        `fit` gives to all samples at once for the generators ``"mean"``,
        ``"least_squares"`` with one proxy, ``"all"`` and ``"random"``; with the others
        it is an approximation whose memory stays bounded. Where what is known of the
        classes takes more than 64 MiB, and more than ``X``, a copy of ``X`` may wait
        until the next call, or until it is needed. It is then learnt a few classes at a
        time, so that what is known of all is never there twice.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            More support embeddings.
        y : array-like of shape (n_samples,)
            Their labels, known or new.
        classes : set or array-like of shape (n_classes,), default=None
            The labels to expect. New labels are welcome at any time, so this is never
            needed; if it is passed, other labels in ``y`` are an error. Those without
            samples are in ``classes_`` all the same, like a class without weight, and
            are never predicted until some come.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights, as in `fit`.

        Returns
        -------
        self : ImprintClassifier
            The classifier. An error or an interrupt leaves it as it was.

        Raises
        ------
        ValueError
            If the embeddings, the labels or the weights are not valid.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> clf = ImprintClassifier("mean")
        >>> clf.partial_fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"]).classes_
        array(['right', 'up'], dtype='<U5')
        >>> clf.partial_fit([[-1.0, 0.0]], ["left"]).predict([[-3.0, 1.0]])
        array(['left'], dtype='<U5')
        """
        fitted = vars(self).get("_fitted")
        batch = checked_batch(self, X, y, sample_weight, fitted=fitted, classes=classes)
        after = learnt_more(self, fitted, batch)
        self._set_fitted(after, features_of(X) if fitted is None else None)
        return self

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of components, as ``generator__n_init``.

        Parameters
        ----------
        **params : dict
            Parameters and their values.

        Returns
        -------
        self : ImprintClassifier
            The classifier.

        Raises
        ------
        ValueError
            If there is no such parameter, or no component that has it. Nothing is set
            where the component is missing.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> from skimprint.generation import KMeansProxies
        >>> clf = ImprintClassifier().set_params(
        ...     generator=KMeansProxies(), generator__n_init=3
        ... )
        >>> clf.generator
        KMeansProxies(n_init=3)
        """
        check_components(self, params)
        return super().set_params(**params)

    def forget(self, classes: Array) -> Self:
        """Forget classes, as if they had never been seen.

        Neither predictions nor pickles hold anything of them. Proxies of other classes
        stay as they are, to the bit, where the generator looks at each class alone;
        what classes have in common (least squares, covariances, whitening) is as
        it would be without them, up to rounding. Where ``support_norm="auto"`` chooses
        another norm for the classes that are left, they are learnt again from their
        samples, as by `fit`; a warning says if not all of these are kept, so that the
        norm stays.

        Parameters
        ----------
        classes : label, set or array-like of shape (n_classes,)
            The labels to forget. Without any, nothing changes.

        Returns
        -------
        self : ImprintClassifier
            The classifier. If it has no classes left, it can learn but not predict.

        Raises
        ------
        ValueError
            If a label is not known, or only the sum of the scatters of all classes is
            kept: see `forgettable`. Nothing is forgotten then.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> X = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
        >>> clf = ImprintClassifier("mean").fit(X, ["up", "right", "both"])
        >>> clf.forget("both").classes_
        array(['right', 'up'], dtype='<U5')
        """
        self._check_is_fitted()
        labels = check_labels_to_forget(self._fitted.learnt_state, classes)
        if labels:
            self._set_fitted(fitted_without(self, labels))
        return self

    def merge(self, other: "ImprintClassifier") -> Self:
        """Take in what another classifier has learnt.

        For training in parts, on several machines say. Classes that only one of both
        knows are taken as they are. Of a class that both know, the proxies are
        generated again from what both remember of its samples;
        the result is that of one `fit` for the generators of which `partial_fit`
        says so. What was learnt in another norm than ``support_norm="auto"`` chooses
        for all samples together is learnt again from its samples. Where not all of
        these are kept, both have the norm that they were learnt in, as if they had come
        first.

        Parameters
        ----------
        other : ImprintClassifier
            Fitted with the same parameters; only ``random_state``, ``temperature``,
            ``rejection``, ``device``, ``n_jobs`` and ``verbose`` may differ. It stays
            as it is.

        Returns
        -------
        self : ImprintClassifier
            The classifier. Training rows of ``other`` are numbered after its own.

        Raises
        ------
        ValueError
            If the classifiers have different parameters or features; the message
            names the first that differs. If they have chosen different norms, and
            neither has kept all its samples, or if ``other`` has kept none, and a
            temperature or a threshold is chosen by samples here. Nothing changes then.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> here = ImprintClassifier("mean").fit([[0.0, 1.0]], ["up"])
        >>> there = ImprintClassifier("mean").fit([[1.0, 0.0]], ["right"])
        >>> here.merge(there).classes_
        array(['right', 'up'], dtype='<U5')
        """
        check_mergeable(ImprintClassifier, self, other)
        mine, theirs = in_one_norm(self, other)
        plan = mine.plan.with_needs(mine.plan.needs & theirs.plan.needs)
        check_samples_kept(self, mine.plan, plan)
        state = merge(plan, mine.learnt_state, theirs.learnt_state, n_jobs=self.n_jobs)
        self._set_fitted(mine.replaced(state, plan))
        return self

    def compact(self) -> Self:
        """Make a classifier that predicts the same, and can no longer learn.

        It has what predictions read, and nothing of the support samples: proxies,
        whitening, the kernel regression, temperature and threshold.

        Returns
        -------
        classifier : ImprintClassifier
            Predicts with the same bits. `partial_fit`, `forget` and `merge` are
            errors, ``head`` is `None` and ``covariance_`` is left out; `fit` starts
            again.

        See Also
        --------
        skimprint.persistence.save : Write it to a folder.

        Examples
        --------
        >>> from skimprint import ImprintClassifier
        >>> X = [[0.0, 1.0], [0.0, 3.0], [1.0, 0.0]]
        >>> clf = ImprintClassifier("mean").fit(X, ["up", "up", "right"])
        >>> clf.compact().predict([[0.1, 2.0]])
        array(['up'], dtype='<U5')
        """
        self._check_is_fitted()
        return compacted(self)

    @property
    def classes_(self) -> np.ndarray:
        """The labels, sorted: ndarray of shape (n_classes,)."""
        return read_only(self._scorer("classes_").head.all_classes)

    @property
    def proxies_(self) -> np.ndarray:
        """The normalised proxies: ndarray of shape (n_proxies_total, n_features)."""
        return read_only(self._scorer("proxies_").head.proxies)

    @property
    def proxy_labels_(self) -> np.ndarray:
        """The label of each proxy: ndarray of shape (n_proxies_total,)."""
        head = self._scorer("proxy_labels_").head
        return head.classes[head.codes]

    @property
    def proxy_indices_(self) -> np.ndarray:
        """The training row of each proxy: ndarray of shape (n_proxies_total,)."""
        return read_only(self._scorer("proxy_indices_").head.indices)

    @property
    def class_count_(self) -> np.ndarray:
        """Weight of the samples of each class: ndarray of shape (n_classes,)."""
        head = self._scorer("class_count_").head
        return read_only(head.widened(head.space.class_weights, 0))

    @property
    def covariance_(self) -> np.ndarray:
        """Shrunk within-class covariance: ndarray of shape (n_features, n_features)."""
        needs = "metric='mahalanobis', and not in a compact classifier"
        return read_only(self._head_part("covariance_", "covariance", needs))

    @property
    def whitening_(self) -> float:
        """Shrinkage of the whitening: float."""
        needs = (
            "whitening, after support embeddings; beside some settings 'auto' makes "
            "none (see the parameter)"
        )
        return self._head_part("whitening_", "shrinkage", needs)

    @property
    def mean_weight_(self) -> float:
        """Share of the class mean in proxies: float."""
        return float(self._scorer("mean_weight_").plan.mean_weight)

    @property
    def kernel_gamma_(self) -> float:
        """Width of the kernel of the kernel regression: float."""
        return self._head_part("kernel_gamma_", "kernel", "kernel_weight").gamma

    @property
    def kernel_alpha_(self) -> float:
        """Regularisation of the kernel regression: float."""
        return self._head_part("kernel_alpha_", "kernel", "kernel_weight").alpha

    @property
    def support_norm_(self) -> Any:
        """Normalisation of the support embeddings, chosen or given."""
        return self._scorer("support_norm_").plan.support_norm_value

    @property
    def generator_(self) -> Any:
        """The component that made the proxies: ProxyGenerator."""
        return self._scorer("generator_").head.generator

    @property
    def temperature_(self) -> float:
        """What scores are divided by for probabilities: float."""
        return self._found("temperature_", temperature_of)

    @property
    def rejection_threshold_(self) -> float:
        """Queries that are less familiar are rejected: float."""
        self._scorer("rejection_threshold_")  # an error before any learning
        if self.rejection is None:
            raise AttributeError("rejection_threshold_ exists only with a rejection.")
        return self._found("rejection_threshold_", threshold_of)

    @property
    def n_samples_seen_(self) -> int:
        """Number of training rows so far, forgotten ones included: int."""
        return self._scorer("n_samples_seen_").head.space.state.n_samples

    def predict(self, X: Array) -> Array:
        """Predict the label of each query.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            The class with the largest score; of several, the first in ``classes_``.
            The label of the `rejection`, where `score_samples` is less than
            ``rejection_threshold_``.
        """
        return like_input(X, self._predicted(*self._ready(X, scored=True)))

    def _predicted(self, scorer, X, refuse):
        """Predict labels of queries that have been validated."""
        classes, winners = scorer.head.classes, scorer.winners(X, refuse)
        if self.rejection is None:
            return classes[winners]
        familiar = scorer.familiarities(X, familiarity_kind(self, scorer))
        is_rejected = familiar < threshold_of(self, scorer)
        return rejected_labels(classes, winners, is_rejected, self.rejection.label)

    def score_samples(self, X: Array) -> Array:
        """Tell how familiar each query is: its similarity to what was learnt.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The larger, the more familiar: see `skimprint.Rejection`. Distances are
            negated.

        Examples
        --------
        >>> from skimprint import ImprintClassifier, Rejection
        >>> rejection = Rejection("neither", threshold=0.5)
        >>> clf = ImprintClassifier("mean", rejection=rejection)
        >>> clf = clf.fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
        >>> X = [[0.0, 2.0], [-1.0, -1.0]]
        >>> clf.score_samples(X).round(2)
        array([ 1.5 , -0.35])
        >>> clf.predict(X)
        array(['up', 'neither'], dtype='<U7')
        """
        scorer, queries, refuse = self._ready(X)
        familiarities = scorer.familiarities(queries, familiarity_kind(self, scorer))
        return like_input(X, finite(familiarities, queries, refuse))

    def explain(self, X: Array, *, n_reasons: int = 5, y: Array | None = None) -> Bunch:
        """Explain the class of each query: the proxies and samples that it comes from.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.
        n_reasons : int, default=5
            How many proxies and training samples to name for each query.
        y : array-like of shape (n_samples,), default=None
            The class of each query to explain: why not this one? By default the class
            with the largest score.

        Returns
        -------
        explanation : :class:`~sklearn.utils.Bunch`
            Arrays of shape (n_samples,):

            label
                The class that is explained: the one with the largest score, also for
                queries that are rejected, or that of ``y``.
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
            score
                The score of the class, as in `decision_function` of several classes.
            runner_up
                The class with the largest score among the others; the same as
                ``label`` if it is the only one.
            margin
                How much larger the score of ``label`` is: negative only for classes of
                ``y`` that are not predicted; infinite for an only class.
            familiarity
                As `score_samples` returns it.
            rest
                What is left of the score without the ``shares``: that of all other
                samples, and ``kernel_weight / n_classes``, which the kernel regression
                gives to each class. All of the score of an `aggregation` that is a
                function, and all that a compact classifier has of the regression.

            And of shape (n_samples, n_reasons), the largest share first:

            rows
                The training rows that carry the score; of a proxy, the row that it is,
                or that is nearest to it. -1 for a row of a head, and where there are no
                more reasons.
            proxies
                The rows of ``proxies_`` that these are; -1 for training samples, which
                carry the score by the kernel regression.
            shares
                What each adds to the score; 0 where there are no more. With ``rest``
                they sum to ``score``. Of a training sample, it is what the score would
                lose without its label. With ``kernel_weight``, the first call takes
                about as long as the regression did in `fit`.

        Raises
        ------
        ValueError
            If ``n_reasons`` is no number of at least 0, or nothing has been learnt of a
            label of ``y``.

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
        (array(['up'], dtype='<U5'), array(['right'], dtype='<U5'), array([0.47]))
        >>> why.training_row, why.n_samples
        (array([0]), array([2.]))

        Why not "right"?

        >>> why = clf.explain([[0.6, 0.8]], y=["right"], n_reasons=1)
        >>> why.rows, why.shares.round(2), why.margin.round(2)
        (array([[2]]), array([[-0.23]]), array([-0.47]))
        """
        return explanation_of(self, X, n_reasons=n_reasons, y=y)

    def assign_proxies(self, X: Array, y: Array) -> np.ndarray:
        """Find the proxy that stands for each training sample.

        It is the nearest one of its class, before any whitening: for k-means, the
        centre of its cluster.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Support embeddings, those of `fit` or others.
        y : array-like of shape (n_samples,)
            Their labels, which must be known.

        Returns
        -------
        proxies : ndarray of shape (n_samples,)
            Rows of ``proxies_``.

        Raises
        ------
        ValueError
            If nothing has been learnt of a label, or the classifier is a compact one,
            which has lost what its proxies were made of.

        Examples
        --------
        >>> import numpy as np
        >>> from skimprint import ImprintClassifier
        >>> X, y = [[0.0, 1.0], [0.0, 3.0], [1.0, 0.0]], ["up", "up", "right"]
        >>> clf = ImprintClassifier("mean").fit(X, y)
        >>> proxy = clf.explain([[0.6, 0.8]]).proxy[0]
        >>> np.flatnonzero(clf.assign_proxies(X, y) == proxy)
        array([0, 1])
        """
        now = copy(self)  # other threads may learn meanwhile
        scorer, samples, _ = now._ready(X)
        return proxies_of_samples(scorer, now._fitted.state, samples, y)

    def decision_function(self, X: Array) -> Array:
        """Score each class: by the similarity of its best proxy, or its share of votes.

        With `kernel_weight`, the regression has its share of the scores.

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
        scorer, queries, refuse = self._ready(X, scored=True)
        scores = finite(scorer.scores(queries, refuse), queries, refuse)
        scores = scorer.head.widened(scores, lowest_score(scores.dtype))
        if scores.shape[1] == 2:
            limit = np.finfo(scores.dtype).max
            with np.errstate(over="ignore"):
                scores = np.clip(scores[:, 1] - scores[:, 0], -limit, limit)
        return like_input(X, scores)

    def predict_proba(self, X: Array) -> Array:
        """Predict class probabilities: the softmax of scores over the `temperature`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return like_input(X, self._probabilities(X, softmax, 0))

    def predict_log_proba(self, X: Array) -> Array:
        """Predict the logarithms of class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return like_input(X, self._probabilities(X, log_softmax, -np.inf))

    def kproxies(
        self, X: Array, n_neighbors: int | None = None, return_similarity: bool = True
    ) -> Array:
        """Find the proxies that each query is most similar to.

        What `kneighbors` is to a nearest-neighbours classifier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.
        n_neighbors : int, default=None
            Number of proxies for each query; by default as many as vote, or five, or
            all proxies if they are fewer.
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
        scorer, queries, refuse = self._ready(X)
        similarities, indices = scorer.nearest(queries, n_nearest(scorer, n_neighbors))
        finite(similarities, queries, refuse)
        indices = like_input(X, indices)
        if not return_similarity:
            return indices
        return like_input(X, similarities), indices

    def _probabilities(self, X, softmax, fill):
        """Make probabilities of scores by a softmax, with a fill for absent classes."""
        scorer, queries, refuse = self._ready(X, scored=True)
        scores = finite(scorer.scores(queries, refuse), queries, refuse)
        replace_by_probabilities(scores, temperature_of(self, scorer), softmax)
        return scorer.head.widened(scores, fill)

    def _ready(self, X, *, scored=False):
        """Take the scorer, and validate queries: what `checked_queries` returns.

        Those that are scored may be looked at later, by their scores.
        """
        self._check_is_fitted()
        scorer = self._fitted.scorer  # once: other threads may replace it
        looks_later = scored and scorer.shows_non_finite
        dtype = scorer.head.dtype
        return scorer, *checked_queries(self, X, dtype, looks_later=looks_later)

    def _scorer(self, name):
        """Find what scores queries; it is needed for an attribute."""
        if not self.__sklearn_is_fitted__():
            when = "with all classes forgotten" if hasattr(self, "_fitted") else "yet"
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r} {when}: learn first, "
                "with fit or partial_fit."
            )
        return self._fitted.scorer

    def _head_part(self, name, part, needs):
        """Find a part of the head for an attribute, or say what it needs."""
        found = getattr(self._scorer(name).head, part)
        if found is None:
            raise AttributeError(f"{name} exists only with {needs}.")
        return found

    def _found(self, name, find):
        """Find the value of an attribute, or say that there is none."""
        scorer = self._scorer(name)
        try:
            return find(self, scorer)
        except ValueError as error:  # of a parameter that was set after fit
            raise AttributeError(f"{name} cannot be found. {error}") from error

    def _adopt(self, fitted, features):
        """Become fitted, unless parameters do not go with the head, which is made."""
        check_learnt(self, fitted.scorer)
        self._set_fitted(fitted, features)

    def _set_fitted(self, fitted, features=None):
        """Replace what is known, in one step that no interrupt can cut in two.

        Parameters
        ----------
        fitted : Fitted
            What is known from now on.
        features : dict, default=None
            Of `features_of`, if what is known is of other samples.
        """
        if features and "feature_names_in_" not in features:
            vars(self).pop("feature_names_in_", None)  # of an earlier fit
        vars(self).update((features or {}) | {"_fitted": fitted})

    def _check_is_fitted(self):
        """Refuse to go on without classes, and say why there are none."""
        msg = None
        if hasattr(self, "_fitted"):
            msg = "%(name)s has forgotten all classes: learn some with partial_fit."
        check_is_fitted(self, msg=msg)

    def __dir__(self):
        # scikit-learn's looks at each attribute, and so does the display of an
        # estimator. For some, samples would be left out, which may take longer than
        # the fit: these are listed once they are known.
        names = {*object.__dir__(self)} - not_found_yet(self)
        return [name for name in sorted(names) if hasattr(self, name)]

    def __copy__(self):
        # What is fitted is never changed, so that a copy shares it.
        copied = type(self).__new__(type(self))
        vars(copied).update(vars(self))
        requests = vars(self).get("_metadata_request")
        if requests is not None:
            # They name their owner for messages only. That of a clone is what it was
            # cloned from, with all that it knows: the name must do.
            names = {id(requests.owner): type(self).__name__}
            copied._metadata_request = deepcopy(requests, names)
        return copied

    def __getstate__(self):
        now = copy(self)  # other threads may learn meanwhile
        state = super(ImprintClassifier, now).__getstate__()
        if "_fitted" in state:
            state = state | {"_fitted": write_pickled(now)}
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "_fitted" in state:
            self._fitted = read_pickled(self, state["_fitted"])

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_fitted") and self._fitted.knows_classes

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags
