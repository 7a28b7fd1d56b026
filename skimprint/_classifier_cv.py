"""ImprintClassifierCV: the classifier, with parameters chosen by cross-validation."""

import time
from collections import defaultdict
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

from ._classifier import ImprintClassifier
from ._validation import DTYPES
from .aggregation import UNIT_LENGTH, ProxySimilarity, largest_rows
from .generation import make_generator

# Parameters that make a difference to the proxies, but not to the moments of samples;
# to neither, but to what all classes have in common; to predictions alone. All others
# make a difference to everything, or may.
_ONLY_PROXIES = {"generator", "n_proxies", "random_state"}
_ONLY_HEAD = {"mean_weight", "metric", "proxy_norm", "shrinkage"}
_ONLY_PREDICTION = {
    "aggregation",
    "contamination",
    "n_jobs",
    "n_neighbors",
    "outlier_label",
    "outlier_score",
    "outlier_threshold",
    "query_norm",
    "verbose",
    "weights",
}


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
    them, and so are their normalisation, covariance and whitening; candidates that
    differ in ``n_neighbors`` or ``weights`` share what they find near each query.

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
        Number of threads across folds and sets of proxies.

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
        scorer = check_scoring(classifiers[0], self.scoring)
        if self.scoring is None and type(estimator).score is ClassifierMixin.score:
            scorer = _accuracy
        check_X_y(X, y, dtype=DTYPES, estimator=self)
        X, y, sample_weight = indexable(X, y, sample_weight)
        splits = list(check_cv(self.cv, y, classifier=True).split(X, y))

        groups = _agreeing(classifiers, _ONLY_HEAD | _ONLY_PREDICTION)
        for clf in classifiers:  # once, in place of before each prediction
            clf._validate_params()
            clf._check_combinations()
        folds = (_Fold(X, y, sample_weight, *split) for split in splits)
        results = Parallel(n_jobs=self.n_jobs, require="sharedmem")(
            delayed(_evaluate)([classifiers[i] for i in group], scorer, fold)
            for fold in folds
            for group in groups
        )
        # Of each candidate and split: score, time to fit, time to score.
        measured = np.empty((3, len(candidates), len(splits)))
        results = iter(results)
        for fold in range(len(splits)):
            for group in groups:
                measured[:, group, fold] = np.transpose(next(results))

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


def _agreeing(classifiers, but_for):
    """Lists of the classifiers, by number, that differ in certain parameters only."""
    lists = defaultdict(list)
    for i, clf in enumerate(classifiers):
        lists[_values(clf, but_for)].append(i)
    return list(lists.values())


def _values(clf, but_for):
    """Parameters of a classifier, but for some, as something hashable."""
    return tuple(
        (name, repr(value) if hasattr(value, "get_params") else _key(value))
        for name, value in sorted(clf.get_params(deep=False).items())
        if name not in but_for
    )


def _key(value):
    """Something hashable that is equal for equal values: the value, or its identity."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _accuracy(clf, X, y):
    """What ``clf.score`` returns, without checks of labels that have been checked."""
    return float(np.mean(clf.predict(X) == np.asarray(y)))


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
    shared : dict of dict
        What heads of the same training samples share: by what is done to these.
    """

    def __init__(self, X, y, sample_weight, train, test):
        self.X_train, self.X_test = _safe_indexing(X, train), _safe_indexing(X, test)
        self.y_train, self.y_test = _safe_indexing(y, train), _safe_indexing(y, test)
        self.weights = (
            None if sample_weight is None else _safe_indexing(sample_weight, train)
        )
        self.shared = defaultdict(dict)


def _evaluate(classifiers, scorer, fold):
    """Scores and times on one fold of classifiers with the same proxies.

    Parameters
    ----------
    classifiers : list of ImprintClassifier
        Not fitted. They agree in all parameters that proxies depend on.
    scorer : callable
        From a fitted classifier, queries and labels to a score.
    fold : _Fold
        The data.

    Returns
    -------
    results : list of tuple (score, fit_time, score_time)
        One per classifier; times in seconds.
    """
    start = time.perf_counter()
    generator = make_generator(classifiers[0].generator)  # that of all
    learner = max(
        classifiers,
        key=lambda clf: (clf._uses_sample(generator), clf._uses_moments(generator)),
    )
    learnt = learner._learn(learner._start(), fold.X_train, fold.y_train, fold.weights)
    learn_time = time.perf_counter() - start

    results = [None] * len(classifiers)
    but_for = _ONLY_PROXIES | _ONLY_HEAD | _ONLY_PREDICTION
    shared = fold.shared[_values(learner, but_for)]
    for alike in _agreeing(classifiers, _ONLY_PREDICTION):
        start = time.perf_counter()
        head = classifiers[alike[0]]._make_head(learnt, shared=shared)
        fit_time = learn_time + time.perf_counter() - start
        n_neighbors = max(classifiers[i].n_neighbors for i in alike)
        head.similarity = _SharedSimilarity(fold.X_test, n_neighbors)
        for i in alike:
            clf = classifiers[i]
            clf._adopt(learnt, fold.X_train, head)
            start = time.perf_counter()
            score = scorer(clf, fold.X_test, fold.y_test)
            results[i] = (score, fit_time, time.perf_counter() - start)
    return results


class _SharedSimilarity:
    """In place of `ProxySimilarity`: one for each normalisation of the queries.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_features)
        Those to remember results of. If they are in no array, none are remembered.
    n_neighbors : int
        Most neighbours that will be asked for.
    """

    def __init__(self, queries, n_neighbors):
        self.queries = queries if isinstance(queries, np.ndarray) else np.empty(0)
        self.n_neighbors = n_neighbors
        self.made = {}

    def __call__(self, proxies, metric, *, query_norm, **params):
        if query_norm not in (None, *UNIT_LENGTH):  # a function of the user's
            return ProxySimilarity(proxies, metric, query_norm=query_norm, **params)
        if query_norm not in self.made:
            self.made[query_norm] = _RememberingSimilarity(
                self.queries,
                min(self.n_neighbors, len(proxies)),
                proxies,
                metric,
                query_norm=query_norm,
                **params,
            )
        return self.made[query_norm]


class _RememberingSimilarity(ProxySimilarity):
    """A `ProxySimilarity` that finds the nearest proxies of known queries once.

    Parameters
    ----------
    queries : ndarray of shape (n_queries, n_features)
        Those to remember results of.
    n_neighbors : int
        How many proxies of each to remember.
    *args, **params
        As for `ProxySimilarity`.
    """

    def __init__(self, queries, n_neighbors, *args, **params):
        super().__init__(*args, **params)
        self.queries = queries  # as long as they are here, their memory is theirs
        self.n_neighbors = n_neighbors
        self.prepared = {}
        self.found = {}

    def prepare(self, X):
        if not np.may_share_memory(X, self.queries):
            return super().prepare(X)
        key = X.__array_interface__["data"], X.shape, X.strides, X.dtype
        if key not in self.prepared:
            self.prepared[key] = super().prepare(X)
        return self.prepared[key]

    def nearest(self, X, n_neighbors):
        is_known = any(X is block for block in self.prepared.values())
        if not is_known or n_neighbors > self.n_neighbors:
            return super().nearest(X, n_neighbors)
        if id(X) not in self.found:
            ranks = self.ranks(X)
            indices = largest_rows(ranks, self.n_neighbors)
            values = np.take_along_axis(ranks, indices, axis=0)
            order = np.argsort(-values, axis=0, kind="stable")
            indices = np.take_along_axis(indices, order, axis=0)
            values = np.take_along_axis(values, order, axis=0)
            self.found[id(X)] = self._exact(X, indices, values), indices
        # By rank, so that fewer neighbours come first. By rounding, their similarities
        # may be equal or, where they are exact, in another order.
        similarities, indices = (part[:n_neighbors] for part in self.found[id(X)])
        order = np.lexsort((indices, -similarities), axis=0)
        return (
            np.take_along_axis(similarities, order, axis=0).T,
            np.take_along_axis(indices, order, axis=0).T,
        )


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
