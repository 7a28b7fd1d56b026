"""ImprintClassifierCV: the classifier, with parameters chosen by cross-validation."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import copy
from functools import cached_property, wraps
from traceback import format_exc
from typing import Any, Literal, Self

import numpy as np
from array_api_compat import device
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, _fit_context, clone, is_classifier
from sklearn.model_selection import (
    BaseCrossValidator,
    GridSearchCV,
    ParameterGrid,
    check_cv,
)
from sklearn.model_selection._search import _search_estimator_has
from sklearn.model_selection._validation import (
    _insert_error_scores,
    _score,
    _warn_or_raise_about_fit_failures,
)
from sklearn.utils import indexable
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.metaestimators import _safe_split, available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    _check_method_params,
    check_is_fitted,
    check_X_y,
)

from .._arrays.device import embedding_dtypes, namespace_of, to_device, to_host
from .._validation import seed_from
from ..aggregation import UNIT_LENGTH, ProxySimilarity, largest_rows
from ..generation import make_generator
from ._classifier import ImprintClassifier
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
    """Make a method that calls the one of `ImprintClassifier` of the best one."""

    def exists(search):
        # With the default in place of None, which has no methods before a fit.
        return _search_estimator_has(name)(search._with_defaults())

    @available_if(exists)
    @wraps(getattr(ImprintClassifier, name))
    def method(self, *args, **kwargs):
        check_is_fitted(self)
        return getattr(self.best_estimator_, name)(*args, **kwargs)

    return method


class ImprintClassifierCV(GridSearchCV):
    """Choose parameters by cross-validation that shares its work.

    A drop-in for ``GridSearchCV(ImprintClassifier(), param_grid)``, with the same
    parameters, scores, choice, warnings and errors. But the proxies of a fold are made
    once for all candidates that agree on them, and so are their normalisation,
    covariance and whitening; k-means of several ``n_proxies`` shares what it does to
    the samples; candidates that differ in ``query_norm``, ``n_neighbors`` or
    ``weights`` share what they find near each query.

    Parameters
    ----------
    estimator : ImprintClassifier, default=None
        Has the parameters that are not in the grid; by default those of
        ``ImprintClassifier()``. It is cloned. A subclass with a `fit` of its own is
        fitted by it, for each candidate by itself.
    param_grid : dict or list of dicts, default=None
        Values to try for the parameters of `ImprintClassifier`, as in `GridSearchCV`.
        By default ``{"n_proxies": [1, 2, 5, 10, 20]}``.
    scoring : str, callable, list, tuple or dict, default=None
        One scorer or several, as in `GridSearchCV`: accuracy by default.
    n_jobs : int, default=None
        Number of threads across folds and ways to make proxies; several ``n_proxies``
        are one way.
    refit : bool, str or callable, default=True
        Whether to fit the best classifier to all data; of several scorers, the name of
        the one that chooses; or a function from ``cv_results_`` to the index of the
        best candidate.
    cv : int, cross-validation generator or iterable, default=None
        How to split, as in `GridSearchCV`: five stratified folds by default.
    verbose : int, default=0
        With 1 the number of fits is printed, with more also how well and how fast each
        candidate did on each fold.
    pre_dispatch : int or str, default="2*n_jobs"
        How many tasks are handed to the threads at a time, as in
        :class:`joblib.Parallel`. Their folds are in memory.
    error_score : "raise" or float, default=nan
        The score of a candidate that cannot be fitted or scored, with a warning; or
        "raise" for the first error itself, of fits that go fold by fold. Data that no
        candidate could be fitted to are an error in any case.
    return_train_score : bool, default=False
        Whether to score the training samples too.

    Attributes
    ----------
    best_estimator_ : ImprintClassifier
        Fitted to all data with the best parameters. It is there, like all that is asked
        of it (``predict``, ``score``, ``classes_``, ...), only with `refit`.
    best_params_ : dict
        Values of the parameters in the grid with the best mean score; of several, the
        first. Not there for several scorers without `refit`.
    best_score_ : float
        Their mean score. Not there if `refit` is a function.
    best_index_ : int
        Their place in ``cv_results_``.
    cv_results_ : dict of ndarrays
        As in `GridSearchCV`. A fit's time includes what it shares with others; the
        time of a score is that of what others had not computed before.
    n_splits_ : int
        Number of folds.
    refit_time_ : float
        Seconds that the fit to all data took.
    scorer_ : callable or dict
        What scores, by name if it is several.
    multimetric_ : bool
        Whether there are several scores.
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

    Notes
    -----
    Weights of samples count in scores too where `GridSearchCV` lets them: from
    scikit-learn 1.9, or by metadata routing. Callbacks (`set_callbacks`, from
    scikit-learn 1.9) are told of the search, of each candidate and fold, and of the
    final fit. They are not passed on to candidates, which do not learn one by one.

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
        **GridSearchCV._parameter_constraints,
        "estimator": [ImprintClassifier, None],
        "param_grid": [dict, list, None],
    }
    if not hasattr(GridSearchCV, "_init_callback_context"):  # scikit-learn < 1.9

        def _init_callback_context(self, **task):
            return _NoCallbacks()

    # `fit` hands all that it gets to others.
    __metadata_request__fit = {"sample_weight": UNUSED}  # noqa: RUF012

    def __init__(
        self,
        estimator: ImprintClassifier | None = None,
        param_grid: Mapping[str, Sequence] | list[Mapping[str, Sequence]] | None = None,
        *,
        scoring: str | Callable | Sequence[str] | Mapping[str, Any] | None = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[[dict], int] = True,
        cv: int | BaseCrossValidator | Iterable | None = None,
        verbose: int = 0,
        pre_dispatch: int | str = "2*n_jobs",
        error_score: float | Literal["raise"] = np.nan,
        return_train_score: bool = False,
    ):
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Choose the parameters, and fit with them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The support embeddings.
        y : array-like of shape (n_samples,)
            Their labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the samples, in fits and, as the Notes say, in scores.
        **params : dict
            What the splitter and the scorers need, as in `GridSearchCV`: ``groups`` of
            the samples; with metadata routing, whatever was requested.

        Returns
        -------
        self : ImprintClassifierCV
            The fitted classifier. An error or an interrupt leaves it as it was.

        Raises
        ------
        ValueError
            If the grid has an unknown parameter, no candidate can be fitted, there are
            no splits, or the data are not valid.
        """
        search = self._with_defaults()
        estimator, candidates = search.estimator, list(ParameterGrid(search.param_grid))
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        if sample_weight is not None:
            params["sample_weight"] = sample_weight
        params = _check_method_params(X, params)
        routed = self._get_routed_params_for_fit(params)
        data, scorer = (X, y), scorers
        shares = _shares_work(estimator, routed.estimator.fit)
        if shares:
            valid = check_X_y(X, to_host(y), dtype=embedding_dtypes(X), estimator=self)
            if _is_accuracy(estimator, self.scoring) and namespace_of(X) is None:
                data, scorer = valid, _accuracy
        cv = check_cv(self.cv, y, classifier=is_classifier(estimator))
        n_splits = cv.get_n_splits(X, y, **routed.splitter.split)
        splits = list(cv.split(X, y, **routed.splitter.split))
        _check_splits(splits, n_splits)

        task = _task(self, X, y, params)
        n_tasks = 1 + (self.refit is not False)
        root = self._init_callback_context(max_subtasks=n_tasks)
        root.call_on_fit_task_begin(**task)
        context = root.subcontext(
            task_name="search",
            max_subtasks=len(candidates) * n_splits,
            sequential_subtasks=False,
        ).call_on_fit_task_begin(estimator=self)
        contexts = [
            context.subcontext(task_name="candidate-split-evaluation", task_id=i)
            for i in range(len(candidates) * n_splits)
        ]
        groups = _groups(estimator, candidates, shares)
        folds = (
            _Fold(number, estimator, *data, split, routed, contexts[number::n_splits])
            for number, split in enumerate(splits)
        )
        out = self._evaluate_all(groups, folds, scorer, n_splits)
        context.call_on_fit_task_end(estimator=self)

        fitted = self._chosen(out, candidates, n_splits, refit_metric)
        fitted["scorer_"] = getattr(scorers, "_scorers", scorers)
        if self.refit:
            fitted["best_estimator_"] = best = _with(estimator, fitted["best_params_"])
            context = root.subcontext(task_name="refit-with-best-params")
            with context.propagate_callback_context(best):
                context.call_on_fit_task_begin(**task)
                start = time.perf_counter()
                best.fit(X, y, **routed.estimator.fit)
                fitted["refit_time_"] = time.perf_counter() - start
            context.call_on_fit_task_end(**task)
            if hasattr(best, "feature_names_in_"):
                fitted["feature_names_in_"] = best.feature_names_in_
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # of an earlier fit, perhaps with another refit
        vars(self).update(fitted)
        root.call_on_fit_task_end(**task)
        return self

    predict = _of_the_best("predict")
    predict_proba = _of_the_best("predict_proba")
    predict_log_proba = _of_the_best("predict_log_proba")
    decision_function = _of_the_best("decision_function")
    score_samples = _of_the_best("score_samples")
    explain = _of_the_best("explain")
    kproxies = _of_the_best("kproxies")

    def get_metadata_routing(self):
        """Describe what is passed on to the classifier, the splitter and the scorers.

        Returns
        -------
        routing : :class:`~sklearn.utils.metadata_routing.MetadataRouter`
            The routes.
        """
        return super(ImprintClassifierCV, self._with_defaults()).get_metadata_routing()

    def __sklearn_tags__(self):
        return super(ImprintClassifierCV, self._with_defaults()).__sklearn_tags__()

    def _get_scorers(self):
        return super(ImprintClassifierCV, self._with_defaults())._get_scorers()

    def _with_defaults(self):
        """Copy itself, with what `None` stands for, which scikit-learn cannot know."""
        search = copy(self)
        if self.estimator is None:
            search.estimator = ImprintClassifier()
        if self.param_grid is None:
            search.param_grid = {"n_proxies": [1, 2, 5, 10, 20]}
        return search

    def _evaluate_all(self, groups, folds, scorer, n_splits):
        """Measure all candidates on all folds.

        Returns
        -------
        out : list of dict
            What `_measure` returns, in the order of scikit-learn: that of the
            candidates, and for each of them that of the folds.
        """
        n_fits = sum(map(len, groups)) * n_splits
        if self.verbose > 0:
            print(  # noqa: T201 (here and below, as GridSearchCV does)
                f"Fitting {n_splits} folds for each of {n_fits // n_splits} candidates,"
                f" totalling {n_fits} fits"
            )
        parallel = Parallel(
            self.n_jobs, pre_dispatch=self.pre_dispatch, require="sharedmem"
        )
        # One fold after another, so that not all need be in memory.
        results = parallel(
            delayed(self._evaluate)(group, fold, scorer)
            for fold in folds
            for group in groups
        )
        out = [None] * n_fits
        for i, result in enumerate(results):
            for number, measured in result.items():
                out[number * n_splits + i // len(groups)] = measured
        _warn_or_raise_about_fit_failures(out, self.error_score)
        if callable(self.scoring):
            _insert_error_scores(out, self.error_score)
        return out

    def _evaluate(self, candidates, fold, scorer):
        """Measure a group of candidates on one fold, fitted together if they can be.

        Returns
        -------
        results : dict of {int: dict}
            What `_measure` returns, by the number of the candidate.
        """
        results, alone = {}, {each.number: each for each in candidates}
        if candidates[0].shares:
            for number, clf, fit_time in _fitted_together(candidates, fold):
                results[number] = self._measure(alone.pop(number), fold, scorer, clf)
                results[number]["fit_time"] = fit_time
        # Where one fails the others may not, and errors are to be those of its own fit.
        for number, candidate in alone.items():
            results[number] = self._measure(candidate, fold, scorer)
        return results

    def _measure(self, candidate, fold, scorer, clf=None):
        """Score a candidate on one fold, and fit it before if it has not been.

        Returns
        -------
        result : dict
            Scores, times and the error of the fit, as ``_fit_and_score`` of
            scikit-learn returns them.
        """
        context = fold.contexts[candidate.number]
        task = _task(self, *fold.train, fold.fit_params)
        result = {"fit_error": None, "score_time": 0.0}
        start = time.perf_counter()
        try:
            if clf is None:
                clf = clone(candidate.clf)
                with context.propagate_callback_context(clf):
                    context.call_on_fit_task_begin(**task)
                    clf.fit(*fold.train, **fold.fit_params)
            else:
                context.call_on_fit_task_begin(**task)
        except Exception:
            if self.error_score == "raise":
                raise
            result["fit_error"] = format_exc()
            result["fit_time"] = time.perf_counter() - start
            failed = self.error_score
            if hasattr(scorer, "_scorers"):  # several
                failed = dict.fromkeys(scorer._scorers, failed)
            result["test_scores"] = failed
            if self.return_train_score:
                result["train_scores"] = failed
        else:
            fitted = time.perf_counter()
            result["fit_time"] = fitted - start
            result["test_scores"] = _score(
                clf, *fold.test, scorer, fold.test_params, self.error_score
            )
            result["score_time"] = time.perf_counter() - fitted
            if self.return_train_score:
                result["train_scores"] = _score(
                    clf, *fold.train, scorer, fold.train_params, self.error_score
                )
        finally:
            context.call_on_fit_task_end(**task)
        if self.verbose > 1:
            scores, seconds = result["test_scores"], time.perf_counter() - start
            if self.return_train_score:
                scores = f"(train={result['train_scores']}, test={scores})"
            place = f"[CV {fold.number + 1}] {candidate.grid}"
            print(f"{place}; score={scores}; {seconds:.3f} s")  # noqa: T201
        return result

    def _chosen(self, out, candidates, n_splits, refit_metric):
        """Choose a candidate by what `_evaluate_all` returned.

        Returns
        -------
        fitted : dict
            Fitted attributes: the results and, where there is one, the choice.
        """
        cv_results = self._format_results(candidates, n_splits, out)
        scores = out[0]["test_scores"]
        multimetric = isinstance(scores, dict)
        if callable(self.scoring) and multimetric:  # only its result shows that it is
            self._check_refit_for_multimetric(scores)
            refit_metric = self.refit
        fitted = {
            "cv_results_": cv_results,
            "multimetric_": multimetric,
            "n_splits_": n_splits,
        }
        if self.refit or not multimetric:
            best = self._select_best_index(self.refit, refit_metric, cv_results)
            fitted |= {"best_index_": best, "best_params_": candidates[best]}
            if not callable(self.refit):
                fitted["best_score_"] = cv_results[f"mean_test_{refit_metric}"][best]
        return fitted


class _NoCallbacks(nullcontext):
    """Stand in for the context of scikit-learn's callbacks, which is new in 1.9."""

    def subcontext(self, *args, **task):
        return self

    call_on_fit_task_begin = call_on_fit_task_end = subcontext
    propagate_callback_context = subcontext


def _task(search, X, y, params):
    """Describe a fit to callbacks."""
    weights = params.get("sample_weight")
    metadata = None if weights is None else {"sample_weight": weights}
    return {"estimator": search, "X": X, "y": y, "metadata": metadata}


def _check_splits(splits, n_splits):
    """Refuse a splitter without splits, or with others than it said."""
    if len(splits) != n_splits:
        raise ValueError(
            "cv.split and cv.get_n_splits return inconsistent results. Expected "
            f"{n_splits} splits, got {len(splits)}"
        )
    if not splits:
        raise ValueError(
            "No fits were performed. Was the CV iterator empty? Were there no "
            "candidates?"
        )


def _with(estimator, params):
    """A clone with other parameters."""
    # Values are cloned too, as in `GridSearchCV`: what is in the grid stays as it is.
    params = {name: clone(value, safe=False) for name, value in params.items()}
    return clone(estimator).set_params(**params)


def _shares_work(estimator, fit_params):
    """Whether candidates may be fitted together: none is fitted in a way of its own."""
    is_ours = type(estimator).fit is ImprintClassifier.fit
    return is_ours and fit_params.keys() <= {"sample_weight"}


def _groups(estimator, candidates, shares):
    """Lists of `_Candidate`: those that learn together, or single ones."""
    made = [_Candidate(*each, estimator) for each in enumerate(candidates)]
    together = [each for each in made if shares and each.is_valid()]
    for candidate in together:
        candidate.shares = True
        clf = candidate.clf
        if isinstance(clf.random_state, np.random.RandomState):
            clf.random_state = seed_from(clf.random_state)  # that of all folds
    return [*_agreeing(together, _MANY), *([each] for each in made if not each.shares)]


class _Candidate:
    """A classifier, its number, and its parameters as something hashable.

    Parameters
    ----------
    number : int
        Its place among the candidates.
    grid : dict
        Its parameters that are in the grid.
    estimator : ImprintClassifier
        Has the others.

    Attributes
    ----------
    clf : ImprintClassifier
        With these parameters, not fitted.
    shares : bool
        Whether it is to be fitted together with others.
    """

    def __init__(self, number, grid, estimator):
        self.number = number
        self.grid = grid
        self.clf = _with(estimator, grid)
        self.shares = False

    def is_valid(self):
        """Whether its parameters are: once, in place of before each prediction."""
        try:
            self.clf._validate_params()
            self.clf._check_combinations()
        except Exception:
            return False  # its own fit says why
        return True

    @cached_property
    def params(self):
        return {
            name: repr(value) if hasattr(value, "get_params") else _key(value)
            for name, value in self.clf.get_params(deep=False).items()
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


def _is_accuracy(estimator, scoring):
    """Whether scores are those of `_accuracy`."""
    return (
        scoring is None
        and type(estimator).score is ClassifierMixin.score
        and type(estimator).predict is ImprintClassifier.predict
    )


def _accuracy(clf, X, y, sample_weight=None):
    """What ``clf.score`` returns, without checks of what has been checked."""
    is_right = clf._predicted(to_device(X, clf.device)) == y
    return float(np.average(is_right, weights=sample_weight))


class _Fold:
    """Training and test samples of one split.

    Parameters
    ----------
    number : int
        Of the split.
    estimator : ImprintClassifier
        Whose candidates are fitted.
    X, y : array-like
        The data.
    split : tuple of two arrays
        Row numbers of training and test samples.
    routed : Bunch
        Parameters of fits and scores, as scikit-learn routes them.
    contexts : list
        Those of the callbacks, by candidate.

    Attributes
    ----------
    train, test : tuple (X, y)
        The samples.
    fit_params, train_params, test_params : dict
        Parameters of fits, and of scores on training and on test samples.
    shared : dict of dict
        What heads of the same training samples share: by what is done to these.
    """

    def __init__(self, number, estimator, X, y, split, routed, contexts):
        self.number = number
        self.contexts = contexts
        xp = namespace_of(X)
        if xp is not None:
            split = [xp.asarray(rows, device=device(X)) for rows in split]
        train, test = split
        self.train = _safe_split(estimator, X, y, train)
        self.test = _safe_split(estimator, X, y, test, train)
        self.fit_params = _check_method_params(X, routed.estimator.fit, train)
        self.train_params = _check_method_params(X, routed.scorer.score, train)
        self.test_params = _check_method_params(X, routed.scorer.score, test)
        self.shared = defaultdict(dict)


def _fitted_together(candidates, fold):
    """Fit candidates to one fold, sharing what they have in common, until one fails.

    Parameters
    ----------
    candidates : list of _Candidate
        They differ in the parameters ``_MANY`` only.
    fold : _Fold
        The data.

    Yields
    ------
    number : int
        That of a candidate.
    clf : ImprintClassifier
        Fitted.
    fit_time : float
        Seconds, with those of what it shares with others.
    """
    with suppress(Exception):
        start = time.perf_counter()
        same_proxies = _agreeing(candidates, _ONLY_HEAD | _ONLY_PREDICTION)
        learnt = _learn_each([some[0].clf for some in same_proxies], candidates, fold)
        features = features_of(fold.train[0])
        learn_time = time.perf_counter() - start

        but_for = _ONLY_PROXIES | _ONLY_HEAD | _ONLY_PREDICTION
        shared = fold.shared[candidates[0].but_for(but_for)]
        for some, each_learnt in zip(same_proxies, learnt, strict=True):
            for alike in _agreeing(some, _ONLY_PREDICTION):
                start = time.perf_counter()
                head = alike[0].clf._make_head(each_learnt, shared=shared)
                head_time = learn_time + time.perf_counter() - start
                n_neighbors = max(each.clf.n_neighbors for each in alike)
                head.similarity = _SharedSimilarity(fold.test[0], n_neighbors)
                for candidate in alike:
                    start = time.perf_counter()
                    clf = copy(candidate.clf)
                    clf._adopt(each_learnt, features, head)
                    fit_time = head_time + time.perf_counter() - start
                    yield candidate.number, clf, fit_time


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
    weights = fold.fit_params.get("sample_weight")
    batch, _, norm = clf._checked(known, *fold.train, weights)
    transform = clf._support_norm(norm)
    numbers = [each._n_proxies_of for each in classifiers]
    if not known.memory:
        return learner.learn_each(numbers, batch, transform, norm)
    return [
        learner._replace(n_proxies=each).learn(known, batch, transform, norm)
        for each in numbers
    ]


class _SharedSimilarity:
    """In place of `ProxySimilarity`: what is found for some queries is found once.

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
        self.made = {}
        self.found = defaultdict(dict)

    def __call__(self, proxies, metric, *, query_norm, **params):
        if query_norm not in (None, *UNIT_LENGTH):  # a function of the user's
            return ProxySimilarity(proxies, metric, query_norm=query_norm, **params)
        if query_norm not in self.made:
            made = _RememberingSimilarity(
                proxies, metric, query_norm=query_norm, **params
            )
            made.queries = self.queries
            made.n_remembered = min(self.n_neighbors, len(proxies))
            # By products, queries are ranked alike whether their length is 1 or not.
            made.found = self.found[made.query_norm, made.last_norm]
            self.made[query_norm] = made
        return self.made[query_norm]


class _RememberingSimilarity(ProxySimilarity):
    """A `ProxySimilarity` that compares known queries once.

    Attributes
    ----------
    queries : ndarray of shape (n_queries, n_features)
        The queries.
    n_remembered : int
        How many of the nearest proxies to remember of each.
    found : dict of {tuple: _Found}
        What is known of each block of them: that of all that prepare queries alike.
    """

    def prepare(self, X, block=slice(None)):
        if X is not self.queries:
            return super().prepare(X, block)
        key = block.start, block.stop
        if key not in self.found:
            self.found[key] = _Found(super().prepare(X, block))
        return self.found[key].prepared

    def _found(self, X):
        """What is known of prepared queries, or None."""
        known = (found for found in self.found.values() if found.prepared is X)
        return next(known, None)

    def ranks(self, X, out=None):
        found = self._found(X)
        # What takes more memory than the queries is not kept.
        if found is None or len(self.proxies) > X.shape[1]:
            return super().ranks(X, out)
        if found.ranks is None:
            found.ranks = super().ranks(X)
        return found.ranks.copy(order="K")

    def nearest(self, X, n_neighbors):
        found = self._found(X)
        if found is None or n_neighbors > self.n_remembered:
            return super().nearest(X, n_neighbors)
        if found.best is None:
            ranks = self.ranks(X)
            indices = largest_rows(ranks, self.n_remembered)
            values = np.take_along_axis(ranks, indices, axis=0)
            order = np.argsort(-values, axis=0, kind="stable")
            found.best = tuple(
                np.take_along_axis(array, order, axis=0) for array in (indices, values)
            )
        indices, values = found.best
        if self.divide_by_length not in found.similarities:
            similarities = self._exact(X, indices, values.copy())
            found.similarities[self.divide_by_length] = similarities
        # By rank, so that fewer neighbours come first. By rounding, their similarities
        # may be equal or, where they are exact, in another order.
        similarities = found.similarities[self.divide_by_length][:n_neighbors]
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
        What `ProxySimilarity.ranks` returns.
    best : tuple of two ndarrays of shape (n_remembered, n_queries) or None
        The nearest proxies of each query, in this order, and their ranks.
    similarities : dict of {bool: ndarray of shape (n_remembered, n_queries)}
        What is made of these ranks, divided by the length of the query or not.
    """

    def __init__(self, prepared):
        self.prepared = prepared
        self.ranks = self.best = None
        self.similarities = {}
