"""ImprintClassifierCV: the classifier, with parameters chosen by cross-validation."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from copy import copy, deepcopy
from functools import wraps
from traceback import format_exc
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar

import numpy as np
from array_api_compat import device
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, clone, is_classifier
from sklearn.model_selection import (
    BaseCrossValidator,
    BaseShuffleSplit,
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
from sklearn.utils.validation import _check_method_params, check_is_fitted, check_X_y

from .._arrays.device import embedding_dtypes, namespace_of, to_device, to_host
from .._arrays.finite import naming_rows
from .._validation import (
    check_components,
    fit_context,
    refuse_collections,
    seed_from,
    stacked,
    whole_labels,
)
from ._checks import refusal
from ._classifier import ImprintClassifier
from ._onnx_hooks import OnnxHooks
from ._shared_fits import Candidate, agreeing, fitted_together

_Inputs = ParamSpec("_Inputs")
_Output = TypeVar("_Output")


def _of_the_best(
    function: Callable[Concatenate[ImprintClassifier, _Inputs], _Output],
) -> Callable[Concatenate[Any, _Inputs], _Output]:
    """Make a method that calls the one of `ImprintClassifier` of the best one."""
    name = function.__name__

    def exists(search):
        # With the default in place of None, which has no methods before a fit.
        return _search_estimator_has(name)(search._with_defaults())

    @available_if(exists)
    @wraps(function)
    def method(self, *args, **kwargs):
        check_is_fitted(self)
        return getattr(self.best_estimator_, name)(*args, **kwargs)

    return method


class ImprintClassifierCV(OnnxHooks, GridSearchCV):
    """Choose parameters by cross-validation that shares its work.

    A drop-in for ``GridSearchCV(ImprintClassifier(), param_grid)``, with the same
    parameters, scores, choice, warnings and errors. But the proxies of a fold are made
    once for all candidates that agree on them, and so are their normalisation,
    covariance and whitening; k-means of several ``n_proxies`` shares what it does to
    the samples; candidates that differ in ``n_neighbors`` or ``weights`` alone share
    what they find near each query.

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

    best_estimator_: ImprintClassifier
    best_params_: dict[str, Any]
    best_score_: float
    best_index_: int
    cv_results_: dict[str, Any]
    n_splits_: int
    refit_time_: float
    scorer_: Any
    multimetric_: bool
    n_features_in_: int
    feature_names_in_: np.ndarray

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
        param_grid: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        scoring: str
        | Callable[..., Any]
        | Sequence[str]
        | Mapping[str, Any]
        | None = None,
        n_jobs: int | None = None,
        refit: bool | str | Callable[[dict[str, Any]], int] = True,
        cv: int | BaseCrossValidator | BaseShuffleSplit | Iterable[Any] | None = None,
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

    @fit_context(prefer_skip_nested_validation=False)
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
        refuse_collections(X, y, sample_weight)
        X, y = indexable(stacked(X), whole_labels(y))
        if sample_weight is not None:
            params["sample_weight"] = sample_weight
        params = _check_method_params(X, params)
        routed = self._get_routed_params_for_fit(params)
        data, scorer = (X, y), scorers
        # Candidates may be fitted together where no fit is of another kind.
        is_ours = type(estimator).fit is ImprintClassifier.fit
        shares = is_ours and routed.estimator.fit.keys() <= {"sample_weight"}
        if shares:
            dtypes, labels = embedding_dtypes(X), to_host(y)
            with naming_rows(self, X=X, y=labels):
                valid = check_X_y(X, labels, dtype=dtypes, estimator=self)
            if _is_accuracy(estimator, self.scoring) and namespace_of(X) is None:
                data, scorer = valid, _accuracy
        cv = check_cv(self.cv, y, classifier=is_classifier(estimator))
        n_splits = cv.get_n_splits(X, y, **routed.splitter.split)
        splits = list(cv.split(X, y, **routed.splitter.split))
        _check_splits(splits, n_splits)
        if not (splits and candidates):
            raise ValueError(
                "No fits were performed. Was the CV iterator empty? Were there no "
                "candidates?"
            )

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

    predict = _of_the_best(ImprintClassifier.predict)
    predict_proba = _of_the_best(ImprintClassifier.predict_proba)
    predict_log_proba = _of_the_best(ImprintClassifier.predict_log_proba)
    decision_function = _of_the_best(ImprintClassifier.decision_function)
    score_samples = _of_the_best(ImprintClassifier.score_samples)
    explain = _of_the_best(ImprintClassifier.explain)
    kproxies = _of_the_best(ImprintClassifier.kproxies)
    assign_proxies = _of_the_best(ImprintClassifier.assign_proxies)

    @property
    def classes_(self) -> np.ndarray:
        """The labels, sorted: ndarray of shape (n_classes,)."""
        check_is_fitted(self)
        return super().classes_

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also of the classifier, as ``estimator__n_proxies``.

        Parameters
        ----------
        **params : dict
            Parameters and their values.

        Returns
        -------
        self : ImprintClassifierCV
            The search.

        Raises
        ------
        ValueError
            If there is no such parameter, or no component that has it, such as an
            ``estimator`` that is `None`. Then nothing is set.

        Examples
        --------
        >>> from skimprint import ImprintClassifier, ImprintClassifierCV
        >>> search = ImprintClassifierCV(ImprintClassifier())
        >>> search.set_params(estimator__n_proxies=5).estimator
        ImprintClassifier(n_proxies=5)
        """
        check_components(self, params)
        return super().set_params(**params)

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

    __copy__ = ImprintClassifier.__copy__

    def __getstate__(self):
        state = super().__getstate__()
        # A scorer is of a private type of scikit-learn's, which skops would ask for. It
        # is made again of `scoring`, unless that was set after the fit.
        with suppress(ValueError, TypeError):  # of what cannot be a `scoring`
            if repr(self._made_scorers()) == repr(state.get("scorer_")):
                state = {name: v for name, v in state.items() if name != "scorer_"}
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "cv_results_" in state and "scorer_" not in state:
            self.scorer_ = self._made_scorers()

    def _made_scorers(self):
        """Make what `scorer_` is after a fit: a scorer, or a dict of several."""
        scorers, _ = self._get_scorers()
        return getattr(scorers, "_scorers", scorers)

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
            shared = fitted_together(
                candidates,
                *fold.train,
                fold.fit_params.get("sample_weight"),
                queries=fold.test[0],
                spaces=fold.spaces,
            )
            for candidate, clf, fit_time in shared:
                result = self._measure(alone.pop(candidate.number), fold, scorer, clf)
                results[candidate.number] = result | {"fit_time": fit_time}
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
            # Functions may change what they get, which is the same for all candidates.
            own = deepcopy if _has_functions(self.scoring) else tuple
            result["test_scores"] = _score(
                clf, *own(fold.test), scorer, fold.test_params, self.error_score
            )
            result["score_time"] = time.perf_counter() - fitted
            if self.return_train_score:
                result["train_scores"] = _score(
                    clf, *own(fold.train), scorer, fold.train_params, self.error_score
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
    """Refuse a splitter with other splits than it said."""
    if len(splits) != n_splits:
        raise ValueError(
            "cv.split and cv.get_n_splits return inconsistent results. Expected "
            f"{n_splits} splits, got {len(splits)}"
        )


def _with(estimator, params):
    """Clone an estimator with other parameters."""
    # Values are cloned too, as in `GridSearchCV`: what is in the grid stays as it is.
    params = {name: clone(value, safe=False) for name, value in params.items()}
    return clone(estimator).set_params(**params)


def _groups(estimator, candidates, shares):
    """List the candidates that learn together, and each of the others alone."""
    made = [
        Candidate(number, grid, _with(estimator, grid))
        for number, grid in enumerate(candidates)
    ]
    for candidate in made if shares else []:
        with suppress(Exception):  # its own fit says why
            # Once, in place of before each fit.
            candidate.clf._validate_params()
            candidate.shares = True
            # Not copies, so that candidates are found to have the same.
            for name in ("head", "n_proxies"):
                value = candidate.grid.get(name, getattr(estimator, name))
                setattr(candidate.clf, name, value)
            seed = candidate.clf.random_state
            if isinstance(seed, np.random.RandomState):
                candidate.clf.random_state = seed_from(seed)  # that of all folds
    together = [each for each in made if each.shares]
    return [*agreeing(together), *([each] for each in made if not each.shares)]


def _has_functions(scoring):
    """Tell whether a function of the user's scores."""
    several = isinstance(scoring, Mapping)
    return any(map(callable, scoring.values() if several else [scoring]))


def _is_accuracy(estimator, scoring):
    """Tell whether scores are those of `_accuracy`."""
    return (
        scoring is None
        and type(estimator).score is ClassifierMixin.score
        and type(estimator).predict is ImprintClassifier.predict
    )


def _accuracy(clf, X, y, sample_weight=None):
    """Score as ``clf.score``, without checks of what has been checked."""
    # A rejection may give labels of another type; and no rows have no share.
    if clf.rejection is not None or not len(X):
        return clf.score(X, y, sample_weight)
    scorer, X = clf._fitted.scorer, to_device(X, clf.device)
    predicted = clf._predicted(scorer, X, refusal(clf, scorer.head.dtype))
    return float(np.average(predicted == y, weights=sample_weight))


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
    spaces : dict of {tuple: Space}
        Of the training samples, by what is done to them.
    """

    def __init__(self, number, estimator, X, y, split, routed, contexts):
        self.number = number
        self.contexts = contexts
        # An iterable of the user's may have ranges and masks, too.
        there = {} if (xp := namespace_of(X)) is None else {"device": device(X)}
        train, test = ((xp or np).asarray(rows, **there) for rows in split)
        self.train = _safe_split(estimator, X, y, train)
        self.test = _safe_split(estimator, X, y, test, train)
        self.fit_params = _check_method_params(X, routed.estimator.fit, train)
        self.train_params = _check_method_params(X, routed.scorer.score, train)
        self.test_params = _check_method_params(X, routed.scorer.score, test)
        self.spaces = {}
