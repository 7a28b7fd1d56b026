"""Learn from and predict dask collections: larger than memory, on several machines.

A class is looked at alone, so rows are moved until each class is whole in one place and
learnt there by the code of one machine. What is learnt is joined to a plain classifier,
with the bits of one `ImprintClassifier.fit` where classes are independent, and up to
rounding what all of them share. Only counts of labels and what is known of classes
reach the client, never rows.

Functions use the `client` that is passed, or the one that has been started last, or
else dask's own threads.
"""

import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import partial
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
from joblib import cpu_count
from sklearn.base import clone
from sklearn.utils import Bunch
from sklearn.utils.validation import (
    _check_y,
    check_consistent_length,
    check_is_fitted,
)

from ._arrays.device import to_device, to_host
from ._arrays.finite import naming_rows
from ._arrays.groups import offsets_of, runs_of
from ._memory.learner import (
    batches_joined,
    common_label_dtype,
    completed,
    learn,
    united,
)
from ._memory.state import State
from ._plan import Plan
from ._validation import DTYPES, shortened
from .classifier import ImprintClassifier
from .classifier._fitted import Fitted
from .classifier._learning import (
    check_some_weight,
    checked_batch,
    coded,
    features_of,
    replanned,
    start,
)
from .embedding._embedder import FoundationEmbedder
from .embedding._extras import require
from .inspection._estimators import without_names

dask = require("dask", __name__)
da = require("dask.array", __name__)

__all__ = [
    "decision_function",
    "embed",
    "explain",
    "fit",
    "partial_fit",
    "predict",
    "predict_proba",
    "score_samples",
]

# Classes are learnt together whose rows take about so many bytes.
_BUCKET_BYTES = 2**28

# And in at most so many groups for each thread, as far as memory allows: each takes a
# task for each chunk.
_MOST_PER_THREAD = 16

# The rows of a class take at most this share of the memory of a worker for each of its
# threads, those of a group half of it: they are there as they came, joined, and as they
# are learnt.
_SHARE_OF_A_CLASS = 1 / 4
_SHARE_OF_A_GROUP = 1 / 8


def fit(
    estimator: ImprintClassifier,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    client: Any = None,
) -> ImprintClassifier:
    """Imprint the classes of a dask collection.

    Parameters
    ----------
    estimator : ImprintClassifier
        Has the parameters; it stays as it is.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The support embeddings, in chunks of any, also unknown sizes.
    y : dask array, dask Series or array-like of shape (n_samples,)
        Their labels. Where sizes of chunks are unknown, in as many chunks as ``X``.
    sample_weight : dask array, dask Series or array-like, default=None
        Weights, as in `ImprintClassifier.fit`.
    client : distributed.Client, default=None
        Where to compute.

    Returns
    -------
    classifier : ImprintClassifier
        Fitted: a plain one, in this process.

    Raises
    ------
    ValueError
        If a parameter, the embeddings, the labels or the weights are not valid; the
        message names the chunk and the row.

    Notes
    -----
    All samples of a class must fit in the memory of one worker. Temperatures, kernel
    regressions and whitenings are found here, of what is known of the classes, when
    they are needed.

    Examples
    --------
    >>> import dask.array as da
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.datasets import load_digits_embeddings
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> X, y = da.from_array(X, chunks=(500, 1024)), da.from_array(y, chunks=500)
    >>> clf = skimprint.dask.fit(ImprintClassifier(random_state=0), X, y)
    >>> labels = skimprint.dask.predict(clf, X)
    >>> bool((labels == y).mean().compute() > 0.95)
    True
    """
    _check_ours(estimator, "estimator")
    clf = clone(estimator)
    clf._validate_params()
    chunks = _chunks_of(X, y, sample_weight)
    if clf.head is None:
        # Each plan draws the same seed, also from a random state.
        plans = _plans_of(lambda is_nonnegative: Plan.of(clone(clf), is_nonnegative))
        state = State()
    else:
        plan, state = start(clf, None)
        plans = plan, plan
    plan, state, n_features = _learnt(plans, state, clf, chunks, X, client)
    clf._adopt(Fitted(plan, state), _features_of(X, n_features))
    return clf


def partial_fit(
    model: ImprintClassifier,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    client: Any = None,
) -> ImprintClassifier:
    """Learn new classes of a dask collection, and more of known ones.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted. An error leaves it as it was.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        More support embeddings.
    y : dask array, dask Series or array-like of shape (n_samples,)
        Their labels, known or new.
    sample_weight : dask array, dask Series or array-like, default=None
        Weights, as in `ImprintClassifier.fit`.
    client : distributed.Client, default=None
        Where to compute.

    Returns
    -------
    model : ImprintClassifier
        The same, which knows more: as after its own `partial_fit` of all rows at once.

    Raises
    ------
    ValueError
        As for `fit`.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0]], ["up"])
    >>> X = da.from_array(np.array([[1.0, 0.0], [-1.0, 0.0]]), chunks=(1, 2))
    >>> skimprint.dask.partial_fit(clf, X, np.array(["right", "left"])).classes_
    array(['left', 'right', 'up'], dtype='<U5')
    """
    _check_ours(model, "model")
    check_is_fitted(model, "_fitted")  # it may have forgotten all classes
    fitted = model._fitted
    chunks = _chunks_of(X, y, sample_weight)
    if fitted.knows_classes:
        plans = fitted.plan, fitted.plan
    else:
        plans = _plans_of(partial(replanned, model))
    plan, state, _ = _learnt(plans, fitted.learnt, model, chunks, X, client)
    if not fitted.knows_classes:
        fitted = Fitted(plan, fitted.learnt)
    model._set_fitted(fitted.extended(state))
    return model


def predict(model: ImprintClassifier, X: Any) -> Any:
    """Predict the label of each query of a dask collection, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted. Each worker gets it once.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.

    Returns
    -------
    y : dask array of shape (n_samples,)
        In the chunks of ``X``.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.predict(clf, X).compute()
    array(['up', 'right'], dtype='<U5')
    """
    return _of_queries(model, X, "predict")


def predict_proba(model: ImprintClassifier, X: Any) -> Any:
    """Predict class probabilities of a dask collection, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted. What the probabilities need is found at once.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.

    Returns
    -------
    probabilities : dask array of shape (n_samples, n_classes)
        In the chunks of ``X``.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.predict_proba(clf, X).shape
    (2, 2)
    """
    return _of_queries(model, X, "predict_proba")


def decision_function(model: ImprintClassifier, X: Any) -> Any:
    """Score each class for the queries of a dask collection, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.

    Returns
    -------
    scores : dask array of shape (n_samples, n_classes) or (n_samples,)
        As `ImprintClassifier.decision_function` has them.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.decision_function(clf, X).shape
    (2,)
    """
    return _of_queries(model, X, "decision_function")


def score_samples(model: ImprintClassifier, X: Any) -> Any:
    """Tell how familiar each query of a dask collection is, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.

    Returns
    -------
    scores : dask array of shape (n_samples,)
        As `ImprintClassifier.score_samples` has them.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.score_samples(clf, X).shape
    (2,)
    """
    return _of_queries(model, X, "score_samples")


def explain(model: ImprintClassifier, X: Any, *, n_reasons: int = 5) -> Bunch:
    """Explain the class of each query of a dask collection, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.
    n_reasons : int, default=5
        As for `ImprintClassifier.explain`.

    Returns
    -------
    explanation : :class:`~sklearn.utils.Bunch` of dask arrays
        As `ImprintClassifier.explain` has them, in the chunks of ``X``.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.explain(clf, X).training_row.compute()
    array([0, 1])
    """
    return _of_queries(model, X, "explain", n_reasons=n_reasons)


def embed(embedder: Any, items: Any) -> Any:
    """Embed the items of a dask collection, lazily.

    Parameters
    ----------
    embedder : FoundationEmbedder
        Fitted, or it has embedded something, so that the width is known. Each worker
        loads the model once; with ``cache_dir``, a folder that all of them see, each
        item is embedded once by all of them.
    items : dask Bag, dask Series, one-column dask DataFrame or dask array
        The items.

    Returns
    -------
    X : dask array of shape (n_items, n_features)
        In the partitions of ``items``, of NumPy arrays, whatever the embedder's
        ``output``.

    Raises
    ------
    TypeError
        If this is no embedder, or dask does not hold the items.
    ValueError
        If the embedder does not know how wide its embeddings are.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import FoundationEmbedder
    >>> def lengths(texts):
    ...     return np.array([[len(text), 1.0] for text in texts])
    >>> embedder = FoundationEmbedder(lengths).fit(["some text"])
    >>> texts = da.from_array(np.array(["a", "bc", "def"], object), chunks=2)
    >>> skimprint.dask.embed(embedder, texts).compute()
    array([[1., 1.],
           [2., 1.],
           [3., 1.]], dtype=float32)
    """
    if not isinstance(embedder, FoundationEmbedder):
        raise TypeError(
            f"embedder must be a FoundationEmbedder; got {type(embedder).__name__}."
        )
    n_features = getattr(embedder, "_n_features_out", None)
    if n_features is None:
        raise ValueError(
            "The embedder must know how wide its embeddings are: call fit with an item "
            "first."
        )
    _check_collection(items, "items", "bag, array or Series", "call embedder.transform")
    embedder = copy(embedder)  # its parameters may change before it embeds
    there, like = dask.delayed(embedder), np.empty((0, n_features), np.float32)
    parts, sizes = _parts_of(items)
    rows = [
        dask.delayed(_embedded)(there, number, part, like)
        for number, part in enumerate(parts)
    ]
    return _array_of(rows, sizes, like)


class _Labels(NamedTuple):
    """What the labels of a chunk tell, by which its rows are moved.

    Attributes
    ----------
    n_rows : int
        Of the chunk.
    classes, counts : ndarray of shape (n_classes,)
        Its labels, and how many rows have each.
    """

    n_rows: int
    classes: np.ndarray
    counts: np.ndarray


class _Look(NamedTuple):
    """What the rows of a chunk tell, by which all of them are learnt.

    Attributes
    ----------
    number : int
        Of the chunk.
    n_features : int
        Of its embeddings.
    dtype : dtype
        Of these.
    is_nonnegative : bool
        Whether no value of a row of some weight is negative.
    is_weightless : bool
        Whether no row has any weight.
    """

    number: int
    n_features: int
    dtype: np.dtype
    is_nonnegative: bool
    is_weightless: bool


class _How(NamedTuple):
    """How rows are learnt.

    Attributes
    ----------
    plan : Plan
        What the parameters mean.
    label_dtype, dtype : dtype
        Of all labels, and of all rows.
    n_features : int
        Of each row.
    """

    plan: Plan
    label_dtype: np.dtype
    dtype: np.dtype
    n_features: int


# -- Collections and their chunks


def _check_ours(estimator, name):
    """Refuse what is no classifier of ours."""
    if not isinstance(estimator, ImprintClassifier):
        raise TypeError(
            f"{name} must be an ImprintClassifier; got {type(estimator).__name__}. "
            "Of a search, pass the best_estimator_, or search with dask's joblib."
        )


def _check_collection(values, name, kinds, cure):
    """Refuse data that dask does not hold."""
    if not dask.is_dask_collection(values):
        raise TypeError(
            f"{name} must be a dask {kinds}; got {type(values).__name__}. Of data in "
            f"memory, {cure}."
        )


def _chunks_of(X, y, sample_weight):
    """List the chunks of samples, each a tuple of delayed X, y and weights or None."""
    _check_collection(
        X, "X", "array or a dask DataFrame", "ImprintClassifier learns itself"
    )
    parts, sizes = _parts_of(X)
    are_known = not np.isnan(np.sum(sizes))
    columns = [parts]
    for name, values in (("y", y), ("sample_weight", sample_weight)):
        if values is None:
            columns.append([None] * len(parts))
            continue
        if not dask.is_dask_collection(values):
            if np.ndim(values) == 0:
                raise ValueError(
                    f"{name} must have a value for each sample; got {values!r}."
                )
            values = da.from_array(np.asarray(values), chunks=-1)
        found, its_sizes = _parts_of(values)
        if are_known and not np.isnan(np.sum(its_sizes)):
            if sum(its_sizes) != sum(sizes):
                raise ValueError(
                    f"{name} must have a value for each of {sum(sizes)} samples; got "
                    f"{sum(its_sizes)}."
                )
            found, _ = _parts_of(values.rechunk({0: sizes}))
        elif len(found) != len(parts):
            raise ValueError(
                f"{name} must have as many chunks as X where not all sizes are known, "
                f"{len(parts)}; got {len(found)}. Call compute_chunk_sizes(), or "
                "to_dask_array(lengths=True)."
            )
        columns.append(found)
    return list(zip(*columns, strict=True))


def _parts_of(collection):
    """List the parts of a collection along its rows, and their sizes or NaN."""
    if not isinstance(collection, da.Array):
        parts = list(collection.to_delayed())
        return parts, [np.nan] * len(parts)
    if collection.ndim > 1:
        collection = collection.rechunk(dict.fromkeys(range(1, collection.ndim), -1))
    return list(collection.to_delayed().ravel()), collection.chunks[0]


def _features_of(X, n_features):
    """Find the attributes that tell of features, as `features_of` does of data."""
    sample = getattr(X, "_meta", None)
    if not hasattr(sample, "columns"):
        sample = np.empty((0, n_features))
    return features_of(sample)


# -- Learning


def _plans_of(plan_of):
    """Make the plans for rows with negative values and without: each may be an error.

    Which of them it is to be is known where the rows are.
    """
    plans = []
    for is_nonnegative in (False, True):
        try:
            plan = plan_of(is_nonnegative)
        except ValueError as error:
            plan = error
        plans.append(plan)
    if not any(isinstance(plan, Plan) for plan in plans):
        raise plans[0]
    return tuple(plans)


def _how(plans, n_features, label_dtype, looks):
    """Choose how to learn rows, by what is known of all chunks.

    Parameters
    ----------
    plans : tuple of Plan or ValueError
        Of `_plans_of`.
    n_features : int or None
        Of the rows; None if the first of them say.
    label_dtype : dtype
        Of all labels.
    looks : list of _Look or None
        Of the chunks; None of a chunk without rows.

    Returns
    -------
    how : _How
    """
    looks = [look for look in looks if look is not None]
    check_some_weight(is_weightless=all(look.is_weightless for look in looks))
    n_features = n_features or looks[0].n_features
    for look in looks:
        if look.n_features != n_features:
            raise ValueError(
                f"Chunk {look.number} has {look.n_features} features; {n_features} "
                "were expected."
            )
    plan = plans[all(look.is_nonnegative for look in looks)]
    if isinstance(plan, ValueError):
        raise plan
    dtype = np.result_type(*(look.dtype for look in looks))
    return _How(plan, label_dtype, dtype, n_features)


def _checker(clf):
    """Copy what is needed of a classifier to check chunks, where they are."""
    checker = clone(clf)
    checker.device = checker.head = None  # a subclass may have no such parameters
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(clf, name):
            setattr(checker, name, getattr(clf, name))
    if hasattr(clf, "_fitted"):
        checker.known_dtype = clf._fitted.last_state.dtype
    return checker


def _labels_of(checker, number, y):
    """Validate the labels of a chunk, and count them."""
    if len(y) == 0:
        return _Labels(0, np.empty(0), np.empty(0, np.intp))
    y = to_host(y)
    with _naming_chunk(number), naming_rows(checker, y=y):
        classes, codes = coded(_check_y(y))
    return _Labels(len(codes), classes, np.bincount(codes, minlength=len(classes)))


@contextmanager
def _naming_chunk(number):
    """Name a chunk in errors about what is in it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        message = f"In chunk {number}: {error}"
        try:
            named = type(error)(message)
        except TypeError:  # it is made of more than a message
            named = ValueError(message)
        raise named from error


def _batch_of(checker, number, X, y, weights):
    """Validate a chunk; an error names it."""
    fitted = None
    if hasattr(checker, "known_dtype"):
        fitted = Fitted(None, State(dtype=checker.known_dtype))
    is_weightless = weights is not None and not np.any(np.asarray(weights))
    weights = None if is_weightless else weights
    with _naming_chunk(number):
        batch = checked_batch(checker, X, y, weights, fitted=fitted)
    if is_weightless:  # other chunks have some weight
        return replace(batch, weights=np.zeros(len(batch.codes)))
    return batch


def _learnt(plans, state, clf, chunks, X, client):
    """Learn all chunks, class by class, beside what is known.

    Each chunk of rows is computed once: where they go is found by the labels, and how
    they are learnt, by all of them, where they are learnt.

    Parameters
    ----------
    plans : tuple of Plan or ValueError
        How to learn rows with negative values, and rows without.
    state : State
        What is known.
    clf : ImprintClassifier
        Has the parameters.
    chunks : list of tuple
        Of `_chunks_of`.
    X : dask array or dask DataFrame
        Tells how large a row is.
    client : Client or None
        Where to compute.

    Returns
    -------
    plan : Plan
        That of the two by which they were learnt.
    state : State
        What is known after.
    n_features : int
        Of the rows.
    """
    there = dask.delayed(_checker(clf))
    tasks = [
        dask.delayed(_labels_of)(there, number, y)
        for number, (_, y, _) in enumerate(chunks)
    ]
    counted = _computed(tasks, client)
    counts, label_dtype = _all_labels(state, counted)
    plan = next(plan for plan in plans if isinstance(plan, Plan))
    plan.numbers(list(counts))  # an error if the number of one is missing
    starts = offsets_of([some.n_rows for some in counted])
    n_samples = state.n_samples + int(starts[-1])
    bucket_of, large, most = _buckets(counts, _row_bytes(X), *_workers(client))
    if large:
        warnings.warn(
            f"The samples of {shortened(sorted(large))} are too many for one worker, "
            f"more than {int(most)}: these classes are learnt by parts, as by "
            "partial_fit. With fewer threads or more memory each worker would hold "
            "more.",
            UserWarning,
            stacklevel=3,
        )
    n_buckets = max(bucket_of.values()) + 1
    where = dask.delayed(bucket_of)
    looks, pieces = [], []
    for number, chunk in enumerate(chunks):
        look, *its_pieces = dask.delayed(_split, nout=1 + n_buckets)(
            there, number, *chunk, int(starts[number]), where, plan.chooses_norm
        )
        looks.append(look)
        pieces.append(its_pieces)
    how = dask.delayed(_how)(plans, state.n_features, label_dtype, looks)
    labels_of = [set() for _ in range(n_buckets)]
    for label, bucket in bucket_of.items():
        labels_of[bucket].add(label)
    parts = []
    for bucket, labels in enumerate(labels_of):
        runs = [range(len(chunks))]
        if labels <= large:
            runs = _chunks_by_parts(counted, *labels, most)
        part = _part_of(state, labels)
        for run in runs:
            some = [pieces[number][bucket] for number in run]
            part = dask.delayed(_learn)(
                how, part, some, state.n_samples, n_samples, clf.device
            )
        parts.append(part)
    looks, *parts = _computed([dask.delayed(list)(looks), *parts], client)
    # Functions of the user's are those that were passed, not copies from a worker.
    how = _how(plans, state.n_features, label_dtype, looks)
    state = united(how.plan.needs, state, parts, label_dtype, n_samples)
    return how.plan, state, how.n_features


def _all_labels(state, counted):
    """Count the labels of all chunks, and find the dtype that they have together."""
    counts = Counter()
    for some in counted:
        labels = some.classes.tolist()
        if labels:
            label_dtype = common_label_dtype(state, labels, some.classes.dtype)
            absent = state.absent.union(labels)
            state = replace(state, label_dtype=label_dtype, absent=absent)
        counts.update(dict(zip(labels, some.counts.tolist(), strict=True)))
    if not counts:
        raise ValueError("X has no rows: there is nothing to learn.")
    return counts, state.label_dtype


def _row_bytes(X):
    """Estimate the bytes of a row as it is learnt."""
    if isinstance(X, da.Array):
        n_features, dtypes = np.prod(X.shape[1:]), {X.dtype}
    else:
        n_features, dtypes = len(X.columns), set(X.dtypes)
    dtype = dtypes.pop()
    is_kept = not dtypes and dtype in DTYPES
    return n_features * (dtype.itemsize if is_kept else 8)


def _chunks_by_parts(counted, label, most):
    """List the chunks that have rows of a class, by runs of at most so many rows."""
    counts = np.array(
        [int(some.counts[some.classes == label].sum()) for some in counted]
    )
    (numbers,) = np.nonzero(counts)
    runs = runs_of(offsets_of(counts[numbers]), most)
    return [numbers[run].tolist() for run in runs]


def _buckets(counts, row_bytes, n_threads, thread_bytes):
    """Choose which classes are learnt together.

    Parameters
    ----------
    counts : dict of {label: int}
        Rows of each class.
    row_bytes : int
        Bytes of each.
    n_threads : int
        How many threads learn.
    thread_bytes : float
        Of what memory there is for each.

    Returns
    -------
    bucket_of : dict of {label: int}
        The largest classes come first, each where there are the fewest rows; those that
        are too large are alone.
    large : set of label
        Of more rows than one worker is to hold.
    most : float
        That many.
    """
    n_bytes = row_bytes * sum(counts.values())
    most = max(1, _SHARE_OF_A_CLASS * thread_bytes / row_bytes)
    large = {label for label, count in counts.items() if count > most}
    n_buckets = np.clip(
        -(-n_bytes // _BUCKET_BYTES), n_threads, _MOST_PER_THREAD * n_threads
    )
    n_buckets = max(n_buckets, np.ceil(n_bytes / (_SHARE_OF_A_GROUP * thread_bytes)))
    others = [label for label in counts if label not in large]
    sizes = np.zeros(min(int(n_buckets), len(others)))
    found = {}
    for label in sorted(others, key=counts.get, reverse=True):
        found[label] = int(sizes.argmin())
        sizes[found[label]] += counts[label]
    found |= {label: len(sizes) + i for i, label in enumerate(sorted(large))}
    return found, large, most


def _split(checker, number, X, y, weights, start, bucket_of, looks_at_signs):
    """Split a chunk by what is learnt together.

    Parameters
    ----------
    checker : ImprintClassifier
        Validates it.
    number : int
        Of the chunk.
    X, y, weights : array-like
        Its rows.
    start : int
        The number of its first row among all.
    bucket_of : dict of {label: int}
        What is learnt together.
    looks_at_signs : bool
        Whether it matters if a value is negative.

    Returns
    -------
    look : _Look or None
        None if there are no rows.
    *pieces : tuple (Batch, ndarray) or None
        For each bucket, the rows and their numbers among all.
    """
    n_buckets = 1 + max(bucket_of.values())
    with _naming_chunk(number):
        check_consistent_length(X, y, weights)
    if len(X) == 0:
        return (None,) * (1 + n_buckets)
    batch = _batch_of(checker, number, X, y, weights)
    look = _Look(
        number,
        batch.X.shape[1],
        batch.X.dtype,
        not (looks_at_signs and batch.signed_labels),
        bool(batch.is_absent.all()),
    )
    buckets = np.array([bucket_of[label] for label in batch.classes.tolist()])
    of_row = buckets[batch.codes]
    pieces = []
    for bucket in range(n_buckets):
        rows = np.flatnonzero(of_row == bucket)
        some = None if batch.weights is None else batch.weights[rows]
        piece = replace(batch, X=batch.X[rows], codes=batch.codes[rows], weights=some)
        pieces.append((piece, start + rows))
    return look, *pieces


def _part_of(state, labels):
    """Take what is known of some classes, and nothing of the sum over all."""
    pooled = None if state.pooled is None else np.zeros_like(state.pooled)
    others = [label for label in state.places if label not in labels]
    return state.changed(others, absent=frozenset(), pooled=pooled)


def _learn(how, state, pieces, since, n_samples, device):
    """Learn classes, beside what is known of them.

    Parameters
    ----------
    how : _How
        What is the same for all rows.
    state : State
        What is known of the classes.
    pieces : list of tuple (Batch, ndarray) or None
        Of `_split`.
    since, n_samples : int
        Number of training rows before all chunks, and after them.
    device : device
        Where to compute.

    Returns
    -------
    state : State
        What is known after.
    """
    batches, rows = zip(*(piece for piece in pieces if piece is not None), strict=True)
    batch = batches_joined(
        [
            replace(
                some,
                X=some.X.astype(how.dtype, copy=False),
                classes=some.classes.astype(how.label_dtype),
            )
            for some in batches
        ]
    )
    batch = replace(batch, X=to_device(batch.X, device))
    after = learn(how.plan, state, batch, n_jobs=1)
    after = completed(how.plan, after, n_jobs=1)
    # Rows that are new here are numbered after all others, whichever have come before.
    rows = np.concatenate(rows) - (state.n_samples - since)
    after = after.renumbered(rows, since=state.n_samples)
    return replace(after, n_samples=n_samples)


# -- Queries


def _of_queries(model, X, name, **params):
    """Call a method of a model for each chunk of queries."""
    check_is_fitted(model)
    _check_collection(X, "X", "array or a dask DataFrame", f"call model.{name}")
    parts, sizes = _parts_of(X)
    # Of a row of ones: the dtypes, and what is found once for all queries.
    ones = np.ones((1, model.n_features_in_), getattr(X, "dtype", np.float64))
    model = copy(model)  # it may learn before its predictions are computed
    nameless, _ = without_names(model)
    like = getattr(nameless, name)(ones, **params)
    there, row = dask.delayed(model), dask.delayed(like, traverse=False)
    found = [
        dask.delayed(_called)(there, number, part, name, params, row)
        for number, part in enumerate(parts)
    ]
    if not isinstance(like, Bunch):
        return _array_of(found, sizes, like)
    columns = Bunch()
    for key, value in like.items():
        column = [dask.delayed(getitem)(one, key) for one in found]
        columns[key] = _array_of(column, sizes, value)
    return columns


def _array_of(parts, sizes, like):
    """Make a dask array of delayed parts along its rows, like another but for these."""
    arrays = [
        da.from_delayed(part, (size, *like.shape[1:]), like.dtype)
        for part, size in zip(parts, sizes, strict=True)
    ]
    return da.concatenate(arrays, allow_unknown_chunksizes=True)


def _called(model, number, X, name, params, like):
    """Call a method, or take no rows of what is like its result for a chunk of none."""
    X = X if hasattr(X, "__len__") else list(X)  # a part of a bag
    if len(X):
        with _naming_chunk(number):
            return getattr(model, name)(X, **params)
    if isinstance(like, Bunch):
        return Bunch(**{key: value[:0] for key, value in like.items()})
    return like[:0]


def _embedded(embedder, number, items, like):
    """Embed the items of a chunk as a NumPy array."""
    rows = _called(embedder, number, items, "transform", {}, like)
    return np.asarray(to_host(rows))


# -- Where to compute


def _computed(tasks: Sequence[Any], client):
    """Compute tasks, on the client if there is one."""
    if client is None:
        return list(dask.compute(*tasks))
    _check_client(client)
    futures = client.compute(list(tasks))
    try:
        return client.gather(futures)
    except CancelledError as error:
        raise ConnectionError(
            "The scheduler has gone, or somebody cancelled what was being computed; no "
            "classifier has changed. Connect a client to a scheduler that runs, and "
            "call again."
        ) from error
    finally:
        client.cancel(futures)  # where one has failed, the others are not needed


def _check_client(client):
    """Refuse a client that has gone."""
    if client.status != "running":
        raise ValueError(
            f"client must be connected to a scheduler; it is {client.status}. Start "
            "one, or leave client out to use the threads of this process."
        )
    if client.asynchronous:
        raise ValueError(
            "client must wait for results. Start one without asynchronous=True."
        )


def _workers(client):
    """Count the threads that compute, and the bytes that there are for each."""
    if client is None:
        try:
            from distributed import get_client

            client = get_client()
        except (ImportError, ValueError):
            return cpu_count(), np.inf
    _check_client(client)
    workers = client.scheduler_info()["workers"].values()
    limits = [
        worker["memory_limit"] / worker["nthreads"]
        for worker in workers
        if worker["memory_limit"]
    ]
    n_threads = sum(worker["nthreads"] for worker in workers)
    return max(1, n_threads), min(limits, default=np.inf)
