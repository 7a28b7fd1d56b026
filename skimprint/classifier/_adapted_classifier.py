"""AdaptedClassifier: a classifier that is there, and what a few samples add to it."""

from typing import Any, Self

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import _num_samples, check_is_fitted, validate_data

from .._arrays.device import like_input, to_host
from .._scoring.leave_one_out import leave_one_out
from .._space.likelihood import balanced
from .._space.regularization import last_of_the_best
from .._types import Array
from .._validation import (
    check_components,
    check_returned,
    fit_context,
    shortened,
    stacked,
)
from ._calibration import PRIOR, probable_temperature, temperature_by
from ._classifier import ImprintClassifier
from ._onnx_hooks import OnnxHooks

# Shares of the samples to choose among. Of equally good ones the last is taken, which
# leaves the most to the classifier that was there.
_SHARES = np.arange(10, -1, -1) / 10

# Of classes that have one sample, which cannot be left out.
_ONE_SHOT_SHARE = 0.2

# What scores queries: the first that an estimator has.
_SCORES = ("decision_function", "predict_proba")

# Stands for a probability of 0, whose logarithm no other score could make up for.
_LEAST_PROBABILITY = 1e-6


class AdaptedClassifier(OnnxHooks, ClassifierMixin, BaseEstimator):
    """Adapt a fitted classifier to a few samples of its classes, without training.

    Prompts or the last layer of a network tell classes apart before there are samples
    of them; an `ImprintClassifier` needs several of each to do as well. Here both score
    queries, and the samples say how much each counts: scores of the imprinted
    classifier are those that it would have without the sample, in closed form.

    Parameters
    ----------
    estimator : object
        A fitted classifier that has not seen the samples, such as an
        `ImprintClassifier` of prompts or a layer, or one of scikit-learn. It needs
        ``decision_function`` or ``predict_proba``, with a finite number for each class:
        an `SVC` needs ``decision_function_shape="ovr"``. Wrap it in
        :class:`sklearn.frozen.FrozenEstimator` where this classifier is cloned: in
        pipelines, searches and cross-validation.
    imprint : ImprintClassifier, default=None
        What learns the samples. By default, ``ImprintClassifier()``. Whatever its
        ``temperature``, the one that samples choose is taken.

    Attributes
    ----------
    estimator_ : object
        What ``estimator`` was when the samples were learnt: it is not copied.
    imprint_ : ImprintClassifier
        Fitted to the samples.
    share_ : float
        Of the imprinted classifier in the scores, from 0 to 1, where the scores of both
        are divided by the temperature of each. Classes of one sample count for 0.2 in
        it, the others for what left-out samples say.
    weights_ : ndarray of shape (2,)
        What scores of ``estimator_`` and of ``imprint_`` are multiplied by: the shares
        over the temperatures.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_features_in_ : int
        Number of features of the embeddings.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns of a data frame, where they are all strings.

    See Also
    --------
    ImprintClassifier.from_head : Add classes to those of a layer.
    sklearn.ensemble.StackingClassifier : Combines classifiers by cross-validation.

    Notes
    -----
    As in Tip-Adapter [1]_, scores of a classifier that needs no samples are added to
    those by samples. The temperature of each makes the classes of samples most
    probable. The share is the one of 0, 0.1, ..., 1 that does so for their weighted
    sum, with the same prior of its temperature. A class of one sample, which cannot be
    left out, asks for 0.2: the share is the mean of what classes ask for. A last
    temperature makes probabilities of the sum. All classes have the same say.

    With scikit-learn's ``array_api_dispatch``, results follow ``X`` to its namespace
    and device, if the estimator takes such arrays.

    References
    ----------
    .. [1] R. Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot
       Classification", ECCV 2022.

    Examples
    --------
    >>> from sklearn.frozen import FrozenEstimator
    >>> from skimprint import AdaptedClassifier, ImprintClassifier
    >>> prompts = [[1.0, 0.2, 0.0], [0.0, 1.0, 0.1]]
    >>> zero_shot = ImprintClassifier.from_method("qi").fit(prompts, ["cat", "dog"])
    >>> clf = AdaptedClassifier(FrozenEstimator(zero_shot))
    >>> X = [[1.0, 0.3, 0.9], [0.8, 0.2, 1.0], [0.2, 1.0, 0.9], [0.1, 0.9, 1.1]]
    >>> clf.fit(X, ["cat", "cat", "dog", "dog"]).predict([[0.5, 0.4, 1.0]])
    array(['cat'], dtype='<U3')
    """

    estimator_: Any
    imprint_: ImprintClassifier
    share_: float
    weights_: np.ndarray
    classes_: np.ndarray
    n_features_in_: int
    feature_names_in_: np.ndarray

    _parameter_constraints: dict = {  # noqa: RUF012
        "estimator": [HasMethods(["fit", name]) for name in _SCORES],
        "imprint": [ImprintClassifier, None],
    }

    def __init__(self, estimator: Any, imprint: ImprintClassifier | None = None):
        self.estimator = estimator
        self.imprint = imprint

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Array, y: Array, sample_weight: Array | None = None) -> Self:
        """Imprint the samples, and choose how much they count.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The embeddings of the samples.
        y : array-like of shape (n_samples,)
            Their labels: each class of ``estimator``, and no other.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights, as for `ImprintClassifier.fit`.

        Returns
        -------
        self : AdaptedClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If the embeddings, the labels or the weights are not valid, there are other
            classes than those of ``estimator``, or it has no finite score for each of
            them.
        sklearn.exceptions.NotFittedError
            If ``estimator`` is not fitted.
        """
        check_adaptable(self.estimator)
        imprint = clone(self.imprint or ImprintClassifier())
        if imprint.rejection is not None or imprint.head is not None:
            raise ValueError(
                "imprint must have rejection=None and head=None: what it rejects, and "
                "what it starts from, would be lost in the sum of scores. Ask "
                "imprint_.score_samples for familiarities, and let estimator be "
                "ImprintClassifier.from_head(*head)."
            )
        imprint.set_params(temperature="auto").fit(X, y, sample_weight)
        scorer = imprint._fitted.scorer
        classes = imprint.classes_
        # Those without weight have no scores, and are not among those of the head.
        self._check_classes(classes, scorer.head.classes)
        if not scorer.plan.can_leave_out:
            raise ValueError(
                "imprint must be one whose samples can be left out, to choose how much "
                "they count: with query_norm as support_norm, and not with "
                f"generator='least_squares'; got {imprint}."
            )
        found = leave_one_out(scorer, "similarity")
        if found is None:  # each class has one sample, which is its proxy
            rows, weights = imprint.proxy_indices_, None
            codes = np.searchsorted(classes, imprint.proxy_labels_)
        else:
            rows, codes = found.indices, found.codes
            weights = balanced(found.weights, codes)
        (X,) = indexable(X)
        scores = _scores_of(self.estimator, _safe_indexing(X, rows), classes)
        temperatures = np.array(
            [
                probable_temperature(scores, codes, weights),
                temperature_by(scorer, found),
            ]
        )
        share, temperature = _ONE_SHOT_SHARE, 1.0
        if found is not None:
            both = scores / temperatures[0], found.scores / temperatures[1]

            def mixed(share):
                return (1 - share) * both[0] + share * both[1]

            mixtures = map(mixed, _SHARES)
            best = last_of_the_best(mixtures, codes, weights, prior=PRIOR)
            # Left-out samples say nothing of classes of one sample.
            alone = np.mean(found.is_alone)
            share = float((1 - alone) * _SHARES[best] + alone * _ONE_SHOT_SHARE)
            temperature = probable_temperature(mixed(share), codes, weights)
        validate_data(self, stacked(X), skip_check_array=True)  # width, and names
        self.estimator_ = self.estimator
        self.imprint_ = imprint
        self.share_ = share
        self.weights_ = np.array([1 - share, share]) / temperatures / temperature
        self.classes_ = classes
        return self

    def decision_function(self, X: Array) -> Array:
        """Score each class: the weighted sum of the scores of both classifiers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes) or (n_samples,)
            In the order of ``classes_``. For two classes the score of ``classes_[1]``
            less that of ``classes_[0]``.
        """
        scores = self._scores(X)
        if scores.shape[1] == 2:
            scores = scores[:, 1] - scores[:, 0]
        return like_input(X, scores)

    def predict_proba(self, X: Array) -> Array:
        """Predict class probabilities: the softmax of scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return like_input(X, softmax(self._scores(X), axis=1))

    def predict_log_proba(self, X: Array) -> Array:
        """Predict logarithms of class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        return like_input(X, log_softmax(self._scores(X), axis=1))

    def predict(self, X: Array) -> Array:
        """Predict the class of the largest score.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The queries.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            Of the dtype of ``classes_``.
        """
        best = self._scores(X).argmax(axis=1)
        return like_input(X, self.classes_[best])

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of what learns the samples, as ``imprint__whitening``.

        Parameters
        ----------
        **params : dict
            Parameters and their values.

        Returns
        -------
        self : AdaptedClassifier
            The classifier.

        Raises
        ------
        ValueError
            If there is no such parameter, or no component that has it, such as an
            ``imprint`` that is `None`. Then nothing is set.

        Examples
        --------
        >>> from skimprint import AdaptedClassifier, ImprintClassifier
        >>> clf = AdaptedClassifier(ImprintClassifier(), imprint=ImprintClassifier())
        >>> clf.set_params(imprint__whitening=None).imprint
        ImprintClassifier(whitening=None)
        """
        check_components(self, params)
        return super().set_params(**params)

    def _scores(self, X):
        """Score queries: of shape (n_queries, n_classes)."""
        check_is_fitted(self)
        of_imprint = _two_columns(to_host(self.imprint_.decision_function(X)))
        of_estimator = _scores_of(self.estimator_, X, self.classes_)
        weights = self.weights_.tolist()  # numbers of Python: float32 stays float32
        return weights[0] * of_estimator + weights[1] * of_imprint

    def _check_classes(self, of_samples, with_weight):
        of_estimator = set(_labels_of(self.estimator))
        lacking = of_estimator - set(with_weight.tolist())
        new = set(of_samples.tolist()) - of_estimator
        if lacking or new:
            found = {"none of": sorted(lacking), "some of": sorted(new)}
            found = [
                f"{name} {shortened(each)}" for name, each in found.items() if each
            ]
            cure = (
                "Classes that only one of both knows have scores on no common scale: "
                "ImprintClassifier.from_head(weight, classes).partial_fit(X, y) learns "
                "such ones beside a layer."
            )
            if new == set(range(len(of_estimator))):
                cure = (
                    "Where scikit-learn numbers labels first, as cross_val_predict "
                    "does for probabilities, fit estimator to numbers, too: "
                    "y = LabelEncoder().fit_transform(y)."
                )
            elif set(map(str, new)) == set(map(str, lacking)):
                cure = "They differ in type only: give y that of estimator.classes_."
            raise ValueError(
                "y must have samples of each class of estimator, with a weight above "
                f"zero, and of no other; it has {' and '.join(found)}. {cure}"
            )


def check_adaptable(estimator):
    """Refuse what is no fitted classifier with scores of its classes."""
    name = type(estimator).__name__
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise NotFittedError(
            "estimator must be fitted before AdaptedClassifier, which adapts it as "
            f"it is; this {name} is not. Fit it first; where AdaptedClassifier is "
            "cloned, as in cross-validation, pass "
            "sklearn.frozen.FrozenEstimator(estimator)."
        ) from error
    has_scores = any(hasattr(estimator, each) for each in _SCORES)
    classes = to_host(getattr(estimator, "classes_", None))
    if np.ndim(classes) != 1 or not has_scores:
        raise ValueError(
            "estimator must be a classifier with one label for each sample, all "
            f"listed in classes_, and {' or '.join(_SCORES)}; this {name} is not."
        )


def places_in(estimator, classes):
    """Find the places of classes among those of a fitted classifier: a list.

    It must still have them, and no others: what it learns or forgets later has no say.
    """
    labels = _labels_of(estimator)
    place = {label: i for i, label in enumerate(labels)}
    if place.keys() != set(classes.tolist()):
        raise ValueError(
            "estimator_ must have the classes that it had when the samples were "
            f"learnt, {shortened(classes.tolist())}; it has {shortened(labels)} now. "
            "Fit again, with samples of each of these."
        )
    return [place[label] for label in classes.tolist()]


def _labels_of(estimator):
    """List the classes of a fitted classifier."""
    return np.asarray(to_host(estimator.classes_)).tolist()


def _scores_of(estimator, X, classes):
    """Score queries, in the order of given classes: of shape (n_queries, n_classes)."""
    places = places_in(estimator, classes)
    is_decision = hasattr(estimator, "decision_function")
    name = "decision_function" if is_decision else "predict_proba"
    scores = np.asarray(to_host(getattr(estimator, name)(X)))
    is_difference = len(classes) == 2 and scores.ndim == 1
    scores = check_returned(
        scores,
        (_num_samples(X),) if is_difference else (_num_samples(X), len(classes)),
        scores.dtype if scores.dtype.kind == "f" else np.float64,
        f"{name} of estimator",
    )
    scores = _two_columns(scores)
    if not is_decision:
        scores = np.log(np.maximum(scores, _LEAST_PROBABILITY))
    return scores[:, places]


def _two_columns(scores):
    """Make scores of two classes of their difference: all others have a column each."""
    return np.stack([-scores, scores], axis=1) / 2 if scores.ndim == 1 else scores
