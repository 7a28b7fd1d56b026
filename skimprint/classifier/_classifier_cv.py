"""ImprintClassifierCV: the classifier, with parameters chosen by cross-validation."""

import time
from collections import defaultdict
from copy import copy
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
from .._scoring.similarity import largest_rows
from .._validation import DTYPES, seed_from
from ..generation import make_generator
from ._classifier import ImprintClassifier
from ._head import make_similarity
from ._learning import features_of

# Parameters that make a difference to the proxies, but not to the moments of samples;
# to neither, but to what all classes have in common; to predictions alone. All others
# make a difference to everything, or may.
_ONLY_PROXIES = {"generator", "n_proxies", "random_state"}
_ONLY_HEAD = {"kernel_weight", "mean_weight", "metric", "proxy_norm", "shrinkage"}
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

# Candidates that differ in no others learn together.
_MANY = {"n_proxies"} | _ONLY_HEAD | _ONLY_PREDICTION


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
            clf._check_combinations()
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

        groups = _agreeing(map(_Candidate, range(len(classifiers)), classifiers), _MANY)
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


class _Candidate:
    """A classifier, its number, and its parameters as something hashable."""

    def __init__(self, number, clf):
        self.number = number
        self.clf = clf
        self.params = {
            name: repr(value) if hasattr(value, "get_params") else _key(value)
            for name, value in clf.get_params(deep=False).items()
        }

    def but_for(self, names):
        """All parameters but some."""
        return tuple(
            (name, value) for name, value in self.params.items() if name not in names
        )


def _agreeing(candidates, but_for):
    """Lists of the candidates that differ in certain parameters only."""
    lists = defaultdict(list)
    for candidate in candidates:
        lists[candidate.but_for(but_for)].append(candidate)
    return list(lists.values())


def _key(value):
    """Something hashable that is equal for equal values: the value, or its identity."""
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _accuracy(clf, X, y):
    """What ``clf.score`` returns, without checks of what has been checked."""
    return float(np.mean(clf._predicted(to_device(X, clf.device)) == np.asarray(y)))


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
        self.features = features_of(self.X_train)
        self.shared = defaultdict(dict)


def _evaluate(candidates, scorer, fold):
    """Scores and times on one fold of candidates that learn together.

    Parameters
    ----------
    candidates : list of _Candidate
        They differ in the parameters ``_MANY`` only.
    scorer : callable
        From a fitted classifier, queries and labels to a score.
    fold : _Fold
        The data.

    Returns
    -------
    results : dict of {int: tuple (score, fit_time, score_time)}
        By the number of the candidate; times in seconds.
    """
    start = time.perf_counter()
    same_proxies = _agreeing(candidates, _ONLY_HEAD | _ONLY_PREDICTION)
    all_learnt = _learn_each([some[0].clf for some in same_proxies], candidates, fold)
    learn_time = time.perf_counter() - start

    results = {}
    but_for = _ONLY_PROXIES | _ONLY_HEAD | _ONLY_PREDICTION
    shared = fold.shared[candidates[0].but_for(but_for)]
    for some, learnt in zip(same_proxies, all_learnt, strict=True):
        for alike in _agreeing(some, _ONLY_PREDICTION):
            start = time.perf_counter()
            head = alike[0].clf._make_head(learnt, shared=shared)
            fit_time = learn_time + time.perf_counter() - start
            n_neighbors = max(each.clf.n_neighbors for each in alike)
            head.similarity = _SharedSimilarity(fold.X_test, n_neighbors)
            for number, clf in ((each.number, copy(each.clf)) for each in alike):
                clf._adopt(learnt, fold.features, head)
                start = time.perf_counter()
                score = scorer(clf, fold.X_test, fold.y_test)
                results[number] = score, fit_time, time.perf_counter() - start
    return results


def _learn_each(classifiers, candidates, fold):
    """What classifiers that differ in ``n_proxies`` learn of a fold.

    Moments and samples are kept for all of the candidates, which have such proxies.
    """
    clf = classifiers[0]
    generator = make_generator(clf.generator)
    learner = clf._learner(generator)._replace(
        with_moments=any(each.clf._uses_moments(generator) for each in candidates),
        sample_size=max(each.clf._sample_size(generator) for each in candidates),
    )
    known = clf._start()
    batch, _, norm = clf._checked(known, fold.X_train, fold.y_train, fold.weights)
    transform = clf._support_norm(norm)
    numbers = [each._n_proxies_of for each in classifiers]
    if not known.memory:
        return learner.learn_each(numbers, batch, transform, norm)
    return [
        learner._replace(n_proxies=each).learn(known, batch, transform, norm)
        for each in numbers
    ]


class _SharedSimilarity:
    """In place of `make_similarity`: what is found for some queries is found once.

    Parameters
    ----------
    queries : array-like of shape (n_queries, n_features)
        Those to remember results of, recognised as the array that they are.
    n_neighbors : int
        Most neighbours that will be asked for.
    """

    def __init__(self, queries, n_neighbors):
        self.queries = queries
        self.n_neighbors = n_neighbors
        self.found = defaultdict(dict)

    def __call__(self, metric, proxies, *, query_norm, **params):
        similarity = make_similarity(metric, proxies, query_norm=query_norm, **params)
        if query_norm.is_callable:
            return similarity
        # By products, queries are ranked alike whether their length is 1 or not.
        found = self.found[similarity.query_norm, similarity.last_norm]
        n_remembered = min(self.n_neighbors, len(proxies))
        return _RememberingSimilarity(similarity, self.queries, n_remembered, found)


class _RememberingSimilarity:
    """A `Similarity` that compares known queries once.

    Parameters
    ----------
    similarity : Similarity
        What compares them.
    queries : ndarray of shape (n_queries, n_features)
        The queries.
    n_remembered : int
        How many of the nearest proxies to remember of each.
    found : dict of {tuple: _Found}
        What is known of each block of them: that of all that prepare queries alike.
    """

    def __init__(self, similarity, queries, n_remembered, found):
        self.similarity = similarity
        self.queries = queries
        self.n_remembered = n_remembered
        self.found = found

    def __getattr__(self, name):
        return getattr(self.similarity, name)

    def to(self, X):
        there = self.similarity.to(X)
        return self if there is self.similarity else there

    def prepare(self, X, block=slice(None)):
        if X is not self.queries:
            return self.similarity.prepare(X, block)
        key = block.start, block.stop
        if key not in self.found:
            self.found[key] = _Found(self.similarity.prepare(X, block))
        return self.found[key].prepared

    def _found(self, X):
        """What is known of prepared queries, or None."""
        known = (found for found in self.found.values() if found.prepared is X)
        return next(known, None)

    def ranks(self, X, out=None):
        found = self._found(X)
        # What takes more memory than the queries is not kept.
        if found is None or len(self.proxies) > X.shape[1]:
            return self.similarity.ranks(X, out)
        if found.ranks is None:
            found.ranks = self.similarity.ranks(X)
        return found.ranks.copy(order="K")

    def nearest(self, X, n_neighbors):
        found = self._found(X)
        if found is None or n_neighbors > self.n_remembered:
            return self.similarity.nearest(X, n_neighbors)
        if found.best is None:
            ranks = self.ranks(X)
            indices = largest_rows(ranks, self.n_remembered)
            values = np.take_along_axis(ranks, indices, axis=0)
            order = np.argsort(-values, axis=0, kind="stable")
            found.best = tuple(
                np.take_along_axis(array, order, axis=0) for array in (indices, values)
            )
        indices, values = found.best
        divides = getattr(self.similarity, "divide_by_length", False)
        if divides not in found.similarities:
            similarities = self.similarity._exact(X, indices, values.copy())
            found.similarities[divides] = similarities
        # By rank, so that fewer neighbours come first. By rounding, their similarities
        # may be equal or, where they are exact, in another order.
        similarities = found.similarities[divides][:n_neighbors]
        indices = indices[:n_neighbors]
        order = np.lexsort((indices, -similarities), axis=0)
        return (
            np.take_along_axis(similarities, order, axis=0).T,
            np.take_along_axis(indices, order, axis=0).T,
        )


class _Found:
    """What is known of a block of queries.

    Parameters
    ----------
    prepared : ndarray of shape (n_queries, n_features)
        The queries as they are compared.

    Attributes
    ----------
    ranks : ndarray of shape (n_proxies, n_queries) or None
        What `Similarity.ranks` returns.
    best : tuple of two ndarrays of shape (n_remembered, n_queries) or None
        The nearest proxies of each query, in this order, and their ranks.
    similarities : dict of {bool: ndarray of shape (n_remembered, n_queries)}
        What is made of these ranks, divided by the length of the query or not.
    """

    def __init__(self, prepared):
        self.prepared = prepared
        self.ranks = self.best = None
        self.similarities = {}


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
