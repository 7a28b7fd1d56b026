"""Check what users pass to `ImprintClassifier`."""

import warnings
from collections.abc import Hashable, Set
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import column_or_1d
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    check_X_y,
    validate_data,
)

from .._arrays.device import (
    embedding_dtypes,
    namespace_of,
    readable,
    to_device,
    to_host,
)
from .._arrays.finite import check_finite, naming_rows
from .._memory.learner import Batch, common_label_dtype
from .._plan import first_difference
from .._validation import (
    DTYPES,
    check_lasting_labels,
    joint_label_dtype,
    plain_labels,
    refuse_collections,
    shortened,
    stacked,
    whole_labels,
)
from ._calibration import familiarity_kind, threshold_of

# Sums of weighted squares keep their precision up to there.
_LARGEST_WEIGHT = 1e15

# Proxies that tell whether all of them are much alike.
_MANY_PROXIES = 200

# Not to divide by zero.
_TINY = np.finfo(np.float64).tiny


def checked_batch(clf, X, y, sample_weight, *, fitted=None, classes=None):
    """Validate samples.

    Parameters
    ----------
    clf : ImprintClassifier
        Is to learn them.
    X, y, sample_weight, classes
        As in `ImprintClassifier.partial_fit`.
    fitted : Fitted, default=None
        What is known, if they are learnt beside it.

    Returns
    -------
    batch : Batch
        The samples, on the device that the classifier computes on.
    """
    refuse_collections(X, y, sample_weight, classes)
    X = stacked(X)
    dtypes = embedding_dtypes(X)
    y, sample_weight = whole_labels(to_host(y)), to_host(sample_weight)
    with naming_rows(clf, X=X, y=y, sample_weight=sample_weight):
        if fitted is None:
            X, y = check_X_y(X, y, dtype=dtypes, estimator=clf)
        elif hasattr(clf, "feature_names_in_") or not _are_plain(X, y, clf):
            X, y = validate_data(clf, X, y, dtype=dtypes, reset=False)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, y, ensure_non_negative=True
            )
    if fitted is not None and fitted.last_state.dtype is not None:
        check_fits(X, fitted.last_state.dtype)
    X = to_device(readable(X), clf.device)
    classes_of_y, codes = coded(y)
    if classes is not None:
        classes_of_y, codes = _with_expected(classes_of_y, codes, classes)
    labels = classes_of_y.tolist()
    batch = Batch(X, classes_of_y, codes, sample_weight)
    check_some_weight(is_weightless=batch.is_absent.all())
    if sample_weight is not None:
        is_first = fitted is None or not fitted.knows_classes
        _check_scale(sample_weight, is_first=is_first)
    if fitted is not None and fitted.knows_classes:
        # Labels of the same type as all others need no look at those that wait.
        is_same = classes_of_y.dtype == fitted.last_state.label_dtype
        state = fitted.last_state if is_same else fitted.learnt_state
        common_label_dtype(state, labels, classes_of_y.dtype)
    return batch


def coded(y):
    """Find the classes of labels, and the index of each label among them.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        The labels.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        Sorted.
    codes : ndarray of shape (n_samples,)
    """
    check_lasting_labels(y)
    classes, codes = np.unique(y, return_inverse=True)
    return plain_labels(classes), codes


def checked_queries(clf, X, dtype, *, looks_later):
    """Validate queries.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted.
    X : array-like of shape (n_samples, n_features)
        The queries.
    dtype : dtype
        What they are computed in.
    looks_later : bool
        Whether NaN and infinity are found later, in what is made of the queries.

    Returns
    -------
    queries : ndarray or DeviceArray of shape (n_samples, n_features)
        On the device that the classifier computes on.
    refuse : callable
        Of `refusal`.
    """
    refuse_collections(X)
    X = stacked(X)
    is_near = namespace_of(X) is None and clf.device in (None, "cpu")
    with naming_rows(clf, X=X):
        X = validate_data(
            clf,
            X,
            dtype=embedding_dtypes(X),
            reset=False,
            ensure_all_finite=not (looks_later and is_near),
        )
    refuse = refusal(clf, dtype)
    if is_near and not looks_later and _exceeds(X, dtype):
        refuse(X, 0)
    return to_device(readable(X), clf.device), refuse


def refusal(clf, dtype):
    """Make what raises an error for queries of which something is not finite.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted.
    dtype : dtype
        What queries are computed in.

    Returns
    -------
    refuse : callable
        Gets a block of queries and its first row, and says what is wrong with it.
    """

    def refuse(block, start):
        check_finite(block, name="X", estimator=clf, start=start)
        check_fits(block, dtype)
        raise ValueError(
            f"X is too large: scores of queries from row {start} on are not finite. "
            "Scale the embeddings, or use norms that give unit length."
        )

    return refuse


def finite(found, X, refuse):
    """Return what was found for queries, unless it is infinite or not a number.

    Parameters
    ----------
    found : ndarray of shape (n_queries, ...)
        Scores or similarities.
    X, refuse
        As `checked_queries` returns them.

    Returns
    -------
    found : ndarray of shape (n_queries, ...)
    """
    if not np.isfinite(found).all():
        refuse(X, 0)
    return found


def check_fits(X, dtype):
    """Refuse embeddings that would be infinite in the dtype of those that are known."""
    if isinstance(X, np.ndarray) and _exceeds(X, dtype):
        raise ValueError(
            f"X is too large for {dtype}, which has been learnt: scale the embeddings, "
            "or learn them in float64."
        )


def _exceeds(X, dtype):
    """Tell whether embeddings have values that are infinite in a dtype."""
    if np.can_cast(X.dtype, dtype) or not X.size:
        return False
    limit = np.finfo(dtype).max
    return bool(X.max() > limit or X.min() < -limit)


def check_some_weight(*, is_weightless):
    """Refuse samples of which none has any weight."""
    if is_weightless:
        raise ValueError(
            "sample_weight must be positive for at least one sample; it is zero for "
            "all of them."
        )


def _check_scale(sample_weight, *, is_first):
    """Refuse weights whose products with embeddings lose their precision.

    Small ones do no harm beside what is known.
    """
    largest = sample_weight.max()
    if largest > _LARGEST_WEIGHT or (is_first and largest < 1 / _LARGEST_WEIGHT):
        raise ValueError(
            f"The largest sample_weight must be between {1 / _LARGEST_WEIGHT:g} and "
            f"{_LARGEST_WEIGHT:g}; it is {largest:g}. Scale the weights, for example "
            "by their mean."
        )


def check_labels_to_forget(state, classes):
    """Refuse to forget labels that are not known.

    Parameters
    ----------
    state : State
        What is known.
    classes : label, set or array-like of shape (n_classes,)
        The labels.

    Returns
    -------
    labels : list
        Each of them once.
    """
    refuse_collections(classes)
    classes = np.atleast_1d(_array_of_labels(classes))
    if classes.ndim > 1:
        raise ValueError(
            f"classes must be a label or a list of them; got the shape {classes.shape}."
        )
    labels = classes.tolist()
    known = state.places.keys() | state.absent
    unknown = [k for k in labels if not isinstance(k, Hashable) or k not in known]
    if classes.dtype.kind == "b" != state.label_dtype.kind:
        unknown = labels  # a mask, whose True would be found as 1
    if unknown:
        raise ValueError(
            "classes must be labels that the classifier knows; "
            f"{shortened(unknown)} are not among {shortened(sorted(known))}. (A mask "
            "does not name labels: pass the labels themselves.)"
        )
    if state.pooled is not None:
        # Classes of a head have no share in the sum, nor have those without weight.
        places = {k: state.places[k] for k in labels if k in state.places}
        kept = [k for k, (block, place) in places.items() if not block.is_head[place]]
        if kept:
            raise ValueError(
                f"{kept} cannot be forgotten: only the sum of the scatters of all "
                "classes is kept, from which none can be taken away. Learn with "
                "forgettable=True to keep each, or fit again without these classes."
            )
    return list(dict.fromkeys(labels))


def listed_labels(y, n_samples, name="y"):
    """Make a list of labels, one for each sample."""
    labels = np.asarray(whole_labels(to_host(y)))
    if labels.shape == (n_samples, 1):
        labels = column_or_1d(labels, warn=True)  # as `fit` does
    if labels.shape != (n_samples,):
        raise ValueError(
            f"{name} must have a label for each of {n_samples} samples; got an array "
            f"of shape {labels.shape}."
        )
    return (plain_labels(labels) if labels.dtype == object else labels).tolist()


def codes_among(classes, labels):
    """Look labels up among classes: their indices, or -1 for other labels."""
    code_of = {label: code for code, label in enumerate(classes.tolist())}
    return np.array([code_of.get(label, -1) for label in labels], dtype=np.intp)


def known_codes(classes, y, n_samples):
    """Look labels up among the classes that can be predicted.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, sorted.
    y : array-like of shape (n_samples,)
        Some of them.
    n_samples : int
        How many there must be.

    Returns
    -------
    codes : ndarray of shape (n_samples,)
        Indices into the classes.

    Raises
    ------
    ValueError
        If nothing of a label has been learnt, or there are more or fewer labels than
        samples.
    """
    labels = listed_labels(y, n_samples)
    codes = codes_among(classes, labels)
    if (codes < 0).any():
        unknown = {label for label, code in zip(labels, codes, strict=True) if code < 0}
        raise ValueError(
            f"y must have labels that the classifier has learnt; it has learnt nothing "
            f"of {shortened(sorted(unknown, key=str))}. Leave these samples out."
        )
    return codes


def n_nearest(scorer, n_neighbors):
    """Find how many proxies to look for near each query.

    Parameters
    ----------
    scorer : Scorer
        Has the proxies.
    n_neighbors : int or None
        How many are asked for; by default as many as vote.

    Returns
    -------
    n_neighbors : int
    """
    n_proxies = len(scorer.head.proxies)
    if n_neighbors is None:
        return min(scorer.plan.aggregation.n_neighbors, n_proxies)
    if not (isinstance(n_neighbors, Integral) and 1 <= n_neighbors <= n_proxies):
        raise ValueError(
            f"n_neighbors must be an int from 1 to {n_proxies}, the number of "
            f"proxies; got {n_neighbors!r}."
        )
    return n_neighbors


def check_mergeable(kind, first, second):
    """Refuse to merge what was learnt in different ways.

    Parameters
    ----------
    kind : type
        What both have to be: `ImprintClassifier`, which imports this module.
    first, second : ImprintClassifier
        The classifiers.
    """
    if not isinstance(second, kind):
        raise TypeError(
            "other must be an ImprintClassifier, such as the best_estimator_ of a "
            f"search; got {type(second).__name__}."
        )
    check_is_fitted(first, "_fitted")  # they may have forgotten all classes
    check_is_fitted(
        second, "_fitted", msg="other must be fitted: it has learnt nothing to merge."
    )
    if first.n_features_in_ != second.n_features_in_:
        raise ValueError(
            f"other must have {first.n_features_in_} features; it has "
            f"{second.n_features_in_}."
        )
    mine, theirs = (
        getattr(clf, "feature_names_in_", np.empty(0)).tolist()
        for clf in (first, second)
    )
    if mine and theirs and mine != theirs:
        raise ValueError(
            "other must have learnt features of the same names, in the same order: "
            f"{shortened(mine)}; it has learnt {shortened(theirs)}."
        )
    difference = first_difference(first._fitted.plan, second._fitted.plan)
    if difference is not None:
        raise ValueError(f"other must have the same parameters; {difference}")


def check_samples_kept(clf, before, after):
    """Refuse a merge after which samples are missing by which something is chosen.

    Parameters
    ----------
    clf : ImprintClassifier
        Has the parameters.
    before, after : Plan
        They say what has been kept, and what would be.
    """
    if after.needs.samples or not before.needs.samples:
        return
    chosen = before.chosen_by_samples(clf)
    if chosen is not None:
        raise ValueError(
            f"other must have kept samples, by which {chosen} is chosen here; it was "
            "fitted without, and has kept none. Fit it with the same parameters, or "
            "set a number here."
        )


def rejected_labels(classes, winners, is_rejected, label):
    """Label queries by their winning classes, or as rejected.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        The labels.
    winners : ndarray of shape (n,)
        Indices into them.
    is_rejected : ndarray of shape (n,)
        Which queries are rejected.
    label : label
        What they get.

    Returns
    -------
    labels : ndarray of shape (n,)
    """
    array, known = np.asarray(whole_labels(label)), classes.tolist()
    try:
        if array.ndim:
            raise ValueError("It must be a single label.")
        dtype = joint_label_dtype(classes.dtype, known, array.dtype, [array.item()])
    except (TypeError, ValueError) as error:
        raise ValueError(
            "The label of the rejection must be of the type of the labels, such as "
            f"{known[0]!r}; got {label!r}. (A classifier around this one may have "
            "turned text into numbers.)"
        ) from error
    labels = classes[winners].astype(dtype)
    labels[is_rejected] = label
    return labels


def check_learnt(clf, scorer):
    """Refuse parameters that do not go with what was learnt, or warn of it.

    Parameters
    ----------
    clf : ImprintClassifier
        Has the parameters.
    scorer : Scorer
        Of what was learnt.
    """
    _warn_of_proxies(scorer)
    if clf.rejection is not None:
        nothing = np.empty(0, np.intp), np.empty(0, bool)
        rejected_labels(scorer.head.classes, *nothing, clf.rejection.label)
        familiarity_kind(clf, scorer)
        if threshold_of(clf, scorer) == -np.inf:
            warnings.warn(
                "No class has proxies left without one of its samples, so that "
                "Rejection(threshold='auto') rejects nothing. Two samples of a class "
                "are needed.",
                UserWarning,
                stacklevel=5,
            )


def _warn_of_proxies(scorer):
    """Warn where proxies are too few to vote, or too much alike to be told apart."""
    aggregation, n_proxies = scorer.plan.aggregation, len(scorer.head.proxies)
    proxies = scorer.head.proxies[:: 1 + n_proxies // _MANY_PROXIES]
    if scorer.plan.metric.is_product and n_proxies > 1:
        mean = proxies.mean(axis=0, dtype=np.float64)
        residuals = proxies - mean.astype(proxies.dtype)
        spread = np.vdot(residuals, residuals) / max(np.vdot(proxies, proxies), _TINY)
        eps = np.finfo(proxies.dtype).eps
        if 10 * eps**2 < spread < 100 * eps:
            warnings.warn(
                f"The embeddings are nearly parallel: proxies differ by {spread:.1g} "
                f"of their squared length, which products in {proxies.dtype} hardly "
                "tell. Pass whitening='auto', metric='euclidean' or float64.",
                UserWarning,
                stacklevel=6,
            )
    if aggregation.votes and aggregation.n_neighbors > n_proxies:
        warnings.warn(
            f"n_neighbors={aggregation.n_neighbors} is more than the {n_proxies} "
            "proxies there are: all of them vote.",
            UserWarning,
            stacklevel=6,
        )


def features_of(X):
    """Find the attributes that tell the number of features, and their names."""
    notebook = BaseEstimator()
    validate_data(notebook, stacked(X), skip_check_array=True)
    return vars(notebook)


def _are_plain(X, y, clf):
    """Tell whether samples are arrays that validation would not refuse or change.

    Of a small part, validation takes longer than all the rest.
    """
    return (
        type(X) is type(y) is np.ndarray
        and X.ndim == 2
        and len(X) == len(y) > 0
        and y.ndim == 1
        and X.shape[1] == clf.n_features_in_
        and X.dtype in DTYPES
        and y.dtype.kind in "biuU"
        and bool(_sum_is_finite(X))
    )


def _sum_is_finite(X):
    """Tell whether the sum is finite: then all values are. It needs no other array."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.isfinite(X.sum())


def _array_of_labels(classes):
    """Make an array of labels, of a set too."""
    classes = list(classes) if isinstance(classes, Set) else to_host(classes)
    return np.asarray(whole_labels(classes))


def _with_expected(classes, codes, expected):
    """Add the announced labels to those of samples; refuse labels that are not."""
    try:
        expected, _ = coded(_array_of_labels(expected).ravel())
    except (TypeError, ValueError) as error:
        raise ValueError(f"classes must be labels such as y has. {error}") from error
    labels, announced = classes.tolist(), expected.tolist()
    unexpected = sorted(set(labels).difference(announced))
    if unexpected:
        raise ValueError(
            f"y has labels that are not in classes: {shortened(unexpected)}. Add them "
            "there, or leave classes out: new labels are welcome at any time."
        )
    dtype = joint_label_dtype(classes.dtype, labels, expected.dtype, announced)
    expected = expected.astype(dtype)
    return expected, np.searchsorted(expected, classes.astype(dtype))[codes]
