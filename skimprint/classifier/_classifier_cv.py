"""ImprintClassifierCV: the classifier, with parameters chosen by cross-validation."""

import time
from functools import wraps
from numbers import Integral

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import ParameterGrid, check_cv
from sklearn.utils import _safe_indexing, indexable
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, check_X_y

from .._arrays.device import to_device
from .._validation import DTYPES, seed_from
from ._classifier import ImprintClassifier
from ._shared_fits import Candidate, fitted_together, learning_together


def _of_the_best(name):
    """A method of `ImprintClassifier`, with its docstring, of the best one."""

    @wraps(getattr(ImprintClassifier, name))
    def method(self, *args, **kwargs):
        check_is_fitted(self)
        return getattr(self.best_estimator_, name)(*args, **kwargs)

    return method


class ImprintClassifierCV(ClassifierMixin, BaseEstimator):
    """Imprinting with parameters chosen by cross-validation that shares its work.

    Chooses what ``GridSearchCV(ImprintClassifier(), param_grid)`` chooses, by the same
    scores. But the proxies of a fold are made once for all candidates that agree on
    them, and so are their normalisation, covariance and whitening; k-means of several
    ``n_proxies`` shares what it does to the samples; candidates that differ in
    ``query_norm``, ``n_neighbors`` or ``weights`` share what they find near each query.

    Parameters
    ----------
    estimator : ImprintClassifier, default=None
        Has the parameters that are not in the grid; by default those of
        ``ImprintClassifier()``. It is cloned.
    param_grid : dict or list of dicts, default=None
        Values to try for the parameters of `ImprintClassifier`, as in `GridSearchCV`.
        By default ``{"n_proxies": [1, 2, 5, 10, 20]}``.
    scoring : str or callable, default=None
        A scorer; accuracy by default.
    cv : int, cross-validation generator or iterable, default=None
        How to split, as in `GridSearchCV`: five stratified folds by default.
    n_jobs : int, default=None
        Number of threads across folds and ways to make proxies; several ``n_proxies``
        are one way.

    Attributes
    ----------
    best_estimator_ : ImprintClassifier
        Fitted to all data with the best parameters.
    best_params_ : dict
        Values of the parameters in the grid with the best mean score; of several, the
        first.
    best_score_ : float
        Their mean score.
    best_index_ : int
        Their place in ``cv_results_``.
    cv_results_ : dict of ndarrays
        As in `GridSearchCV`. A fit's time includes what it shares with others; the
        time of a score is that of what others had not computed before.
    n_splits_ : int
        Number of folds.
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if ``X`` has any that are all strings.

    See Also
    --------
    ImprintClassifier : Fixed parameters.
    sklearn.model_selection.GridSearchCV : The same search for any estimator, pipelines
        included.

    Examples
    --------
    >>> from skimprint import ImprintClassifier, ImprintClassifierCV
    >>> from skimprint.datasets import load_digits_embeddings
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> search = ImprintClassifierCV(
    ...     ImprintClassifier(random_state=0),
    ...     {"n_proxies": [1, 10], "metric": ["dot", "mahalanobis"]},
    ...     cv=3,
    ... )
    >>> search.fit(X[:600], y[:600]).best_params_["n_proxies"]
    10
    """

    _parameter_constraints: dict = {  # noqa: RUF012 (scikit-learn's convention)
        "estimator": [ImprintClassifier, None],
        "param_grid": [dict, list, None],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self, estimator=None, param_grid=None, *, scoring=None, cv=None, n_jobs=None
    ):
        self.estimator = estimator
        self.param_grid = param_grid
        self.scoring = scoring
        self.cv = cv
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None):
        """Choose the parameters, and fit with them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The support embeddings.
        y : array-like of shape (n_samples,)
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples in fits; scores do not use them.

        Returns
        -------
        self : ImprintClassifierCV
            The fitted classifier.

        Raises
        ------
        ValueError
            If the grid has an unknown parameter or an invalid value, or the data are
            not valid.
        """
        estimator = ImprintClassifier() if self.estimator is None else self.estimator
        grid = self.param_grid
        candidates = list(
            ParameterGrid({"n_proxies": [1, 2, 5, 10, 20]} if grid is None else grid)
        )
        classifiers = [_with(estimator, params) for params in candidates]
        for clf in classifiers:  # once, in place of before each prediction
            clf._validate_params()
            if isinstance(clf.random_state, np.random.RandomState):
                clf.random_state = seed_from(clf.random_state)  # that of all folds
        scorer = check_scoring(classifiers[0], self.scoring)
        valid_X, _ = check_X_y(X, y, dtype=DTYPES, estimator=self)
        X, y, sample_weight = indexable(X, y, sample_weight)
        splits = list(check_cv(self.cv, y, classifier=True).split(X, y))
        samples = X
        if (
            self.scoring is None
            and type(estimator).score is ClassifierMixin.score
            and type(estimator).predict is ImprintClassifier.predict
        ):
            scorer, samples = _accuracy, valid_X

        groups = learning_together(map(Candidate, range(len(classifiers)), classifiers))
        folds = (_Fold(samples, y, sample_weight, *split) for split in splits)
        results = Parallel(n_jobs=self.n_jobs, require="sharedmem")(
            delayed(_evaluate)(group, scorer, fold)
            for fold in folds
            for group in groups
        )
        # Of each candidate and split: score, time to fit, time to score.
        measured = np.empty((3, len(candidates), len(splits)))
        for i, result in enumerate(results):
            for number, values in result.items():
                measured[:, number, i // len(groups)] = values

        cv_results = _cv_results(candidates, *measured)
        best = int(cv_results["rank_test_score"].argmin())
        best_estimator = _with(estimator, candidates[best])
        best_estimator.fit(X, y, sample_weight=sample_weight)
        self.cv_results_ = cv_results
        self.best_index_ = best
        self.best_params_ = candidates[best]
        self.best_score_ = cv_results["mean_test_score"][best]
        self.best_estimator_ = best_estimator
        self.n_splits_ = len(splits)
        return self

    predict = _of_the_best("predict")
    predict_proba = _of_the_best("predict_proba")
    predict_log_proba = _of_the_best("predict_log_proba")
    decision_function = _of_the_best("decision_function")
    score_samples = _of_the_best("score_samples")
    explain = _of_the_best("explain")
    kproxies = _of_the_best("kproxies")

    @property
    def classes_(self):
        """The labels, sorted: ndarray of shape (n_classes,)."""
        return self.best_estimator_.classes_

    @property
    def n_features_in_(self):
        """Number of features seen during `fit`: int."""
        return self.best_estimator_.n_features_in_

    @property
    def feature_names_in_(self):
        """Names of the features seen during `fit`: ndarray of shape (n_features,)."""
        return self.best_estimator_.feature_names_in_


def _with(estimator, params):
    """A clone with other parameters."""
    # Values are cloned too, as in `GridSearchCV`: what is in the grid stays as it is.
    params = {name: clone(value, safe=False) for name, value in params.items()}
    return clone(estimator).set_params(**params)


def _accuracy(clf, X, y):
    """What ``clf.score`` returns, without checks of what has been checked."""
    return float(
        np.mean(
            clf._predicted(clf._fitted.scorer, to_device(X, clf.device), None)
            == np.asarray(y)
        )
    )


class _Fold:
    """Training and test samples of one split.

    Parameters
    ----------
    X, y, sample_weight
        The data, the weights perhaps `None`.
    train, test : ndarrays
        Row numbers.

    Attributes
    ----------
    features : dict
        Number and names of the features.
    shared : dict of dict
        What heads of the same training samples share: by what is done to these.
    """

    def __init__(self, X, y, sample_weight, train, test):
        self.X_train, self.X_test = _safe_indexing(X, train), _safe_indexing(X, test)
        self.y_train, self.y_test = _safe_indexing(y, train), _safe_indexing(y, test)
        self.weights = (
            None if sample_weight is None else _safe_indexing(sample_weight, train)
        )
        self.spaces = {}


def _evaluate(candidates, scorer, fold):
    """Scores and times on one fold of candidates that learn together."""
    results = {}
    for number, clf, fit_time in fitted_together(
        candidates,
        fold.X_train,
        fold.y_train,
        fold.weights,
        queries=fold.X_test,
        spaces=fold.spaces,
    ):
        start = time.perf_counter()
        score = scorer(clf, fold.X_test, fold.y_test)
        results[number] = score, fit_time, time.perf_counter() - start
    return results


def _cv_results(candidates, scores, fit_times, score_times):
    """The dict that `GridSearchCV` calls ``cv_results_``."""
    results = {}
    for name, times in (("fit_time", fit_times), ("score_time", score_times)):
        results[f"mean_{name}"] = times.mean(axis=1)
        results[f"std_{name}"] = times.std(axis=1)
    names = sorted({name for params in candidates for name in params})
    for name in names:
        values = {
            i: params[name] for i, params in enumerate(candidates) if name in params
        }
        numbers = all(isinstance(value, int | float) for value in values.values())
        dtype = np.array(list(values.values())).dtype if numbers else object
        column = np.ma.masked_all(len(candidates), dtype)
        for i, value in values.items():
            column[i] = value
        results[f"param_{name}"] = column
    results["params"] = candidates
    for fold, column in enumerate(scores.T):
        results[f"split{fold}_test_score"] = column
    results["mean_test_score"] = scores.mean(axis=1)
    results["std_test_score"] = scores.std(axis=1)
    ranks = rankdata(-results["mean_test_score"], method="min")
    results["rank_test_score"] = ranks.astype(np.int32)
    return results
