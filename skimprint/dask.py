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
from operator import getitem
from typing import Any, NamedTuple

import numpy as np
from joblib import cpu_count
from sklearn.base import clone
from sklearn.utils import Bunch
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ._arrays.device import to_device, to_host
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
from ._validation import shortened
from .classifier import ImprintClassifier
from .classifier._fitted import Fitted
from .classifier._learning import (
    check_some_weight,
    checked_batch,
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
    looks = _look(clf, chunks, client)
    if clf.head is None:
        is_nonnegative = all(look.is_nonnegative for look in looks)
        plan, state = Plan.of(clf, is_nonnegative), State()
    else:
        plan, state = start(clf, None)
        _check_width(looks, state.n_features)
    state = _learnt(plan, state, clf, chunks, looks, client)
    clf._adopt(Fitted(plan, state), _features_of(X, _n_features(looks)))
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
    looks = _look(model, chunks, client)
    if not fitted.knows_classes:
        plan = replanned(model, all(look.is_nonnegative for look in looks))
        fitted = Fitted(plan, fitted.learnt)
    state = _learnt(fitted.plan, fitted.learnt, model, chunks, looks, client)
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


class _Look(NamedTuple):
    """What a first look at a chunk tells.

    Attributes
    ----------
    n_rows, n_features, n_bytes : int
        Of the chunk.
    dtype : dtype
        Of its embeddings.
    classes, counts : ndarray of shape (n_classes,)
        Its labels, and how many rows have each.
    is_nonnegative : bool
        Whether no value of a row of some weight is negative.
    is_weightless : bool
        Whether no row has any weight.
    """

    n_rows: int
    n_features: int
    n_bytes: int
    dtype: np.dtype
    classes: np.ndarray
    counts: np.ndarray
    is_nonnegative: bool
    is_weightless: bool


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


def _look(clf, chunks, client):
    """Look at all chunks: list of _Look, those without rows and features included."""
    there = dask.delayed(_checker(clf))
    tasks = [
        dask.delayed(_looked)(there, number, *chunk)
        for number, chunk in enumerate(chunks)
    ]
    looks = _computed(tasks, client)
    if not any(look.n_rows for look in looks):
        raise ValueError("X has no rows: there is nothing to learn.")
    check_some_weight(is_weightless=all(look.is_weightless for look in looks))
    _check_width(looks, _n_features(looks))
    return looks


def _n_features(looks):
    """Find the number of features of the first chunk with rows."""
    return next(look.n_features for look in looks if look.n_rows)


def _check_width(looks, n_features):
    """Refuse chunks of another number of features."""
    for number, look in enumerate(looks):
        if look.n_rows and look.n_features != n_features:
            raise ValueError(
                f"Chunk {number} has {look.n_features} features; {n_features} were "
                "expected."
            )


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


def _looked(checker, number, X, y, weights):
    """Validate a chunk, and say what is in it."""
    with _naming_chunk(number):
        check_consistent_length(X, y, weights)
    if len(X) == 0:
        nothing = np.empty(0)
        return _Look(0, 0, 0, np.dtype(np.float32), nothing, nothing, True, True)
    batch = _batch_of(checker, number, X, y, weights)
    return _Look(
        len(batch.X),
        batch.X.shape[1],
        batch.X.nbytes,
        batch.X.dtype,
        batch.classes,
        np.bincount(batch.codes, minlength=len(batch.classes)),
        not batch.signed_labels,
        bool(batch.is_absent.all()),
    )


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


def _learnt(plan, state, clf, chunks, looks, client):
    """Learn all chunks, class by class, beside what is known.

    Parameters
    ----------
    plan : Plan
        How to learn.
    state : State
        What is known.
    clf : ImprintClassifier
        Has the parameters.
    chunks : list of tuple
        Of `_chunks_of`.
    looks : list of _Look
        Of these.
    client : Client or None
        Where to compute.

    Returns
    -------
    state : State
        What is known after.
    """
    dtype = np.result_type(*(look.dtype for look in looks if look.n_rows))
    known, counts = state, Counter()
    for look in looks:
        labels = look.classes.tolist()
        if labels:
            label_dtype = common_label_dtype(known, labels, look.classes.dtype)
            absent = known.absent.union(labels)
            known = replace(known, label_dtype=label_dtype, absent=absent)
        counts.update(dict(zip(labels, look.counts.tolist(), strict=True)))
    label_dtype = known.label_dtype
    plan.numbers(list(counts))
    starts = offsets_of([look.n_rows for look in looks])
    n_bytes = sum(look.n_bytes for look in looks)
    bucket_of, large, most = _buckets(counts, n_bytes, *_workers(client))
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
    there, where = dask.delayed(_checker(clf)), dask.delayed(bucket_of)
    pieces = {
        number: dask.delayed(_split, nout=n_buckets)(
            there, number, *chunk, int(starts[number]), where, n_buckets
        )
        for number, chunk in enumerate(chunks)
        if looks[number].n_rows
    }
    how = dask.delayed((plan, label_dtype, dtype, clf.device))
    labels_of = [set() for _ in range(n_buckets)]
    for label, bucket in bucket_of.items():
        labels_of[bucket].add(label)
    n_samples = state.n_samples + int(starts[-1])
    tasks = []
    for bucket, labels in enumerate(labels_of):
        runs = [list(pieces)]
        if labels <= large:
            runs = _chunks_by_parts(looks, *labels, most)
        part = _part_of(state, labels)
        for run in runs:
            some = [pieces[number][bucket] for number in run]
            part = dask.delayed(_learn)(how, part, some, state.n_samples, n_samples)
        tasks.append(part)
    parts = _computed(tasks, client)
    return united(plan.needs, state, parts, label_dtype, n_samples)


def _chunks_by_parts(looks, label, most):
    """List the chunks that have rows of a class, by runs of at most so many rows."""
    counts = np.array([int(look.counts[look.classes == label].sum()) for look in looks])
    (numbers,) = np.nonzero(counts)
    runs = runs_of(offsets_of(counts[numbers]), most)
    return [numbers[run].tolist() for run in runs]


def _buckets(counts, n_bytes, n_threads, thread_bytes):
    """Choose which classes are learnt together.

    Parameters
    ----------
    counts : dict of {label: int}
        Rows of each class.
    n_bytes : int
        Of all rows.
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
    most = max(1, _SHARE_OF_A_CLASS * thread_bytes * sum(counts.values()) / n_bytes)
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


def _split(checker, number, X, y, weights, start, bucket_of, n_buckets):
    """Split a chunk by what is learnt together: tuple of n_buckets pieces.

    A piece is a batch, and the numbers of its rows among all.
    """
    batch = _batch_of(checker, number, X, y, weights)
    buckets = np.array([bucket_of[label] for label in batch.classes.tolist()])
    of_row = buckets[batch.codes]
    pieces = []
    for bucket in range(n_buckets):
        rows = np.flatnonzero(of_row == bucket)
        some = None if batch.weights is None else batch.weights[rows]
        piece = replace(batch, X=batch.X[rows], codes=batch.codes[rows], weights=some)
        pieces.append((piece, start + rows))
    return tuple(pieces)


def _part_of(state, labels):
    """Take what is known of some classes, and nothing of the sum over all."""
    pooled = None if state.pooled is None else np.zeros_like(state.pooled)
    others = [label for label in state.places if label not in labels]
    return state.changed(others, absent=frozenset(), pooled=pooled)


def _learn(how, state, pieces, since, n_samples):
    """Learn classes, beside what is known of them.

    Parameters
    ----------
    how : tuple of (Plan, dtype, dtype, device)
        The plan, the types of labels and rows, and where to compute.
    state : State
        What is known of the classes.
    pieces : list of tuple (Batch, ndarray)
        Of `_split`.
    since, n_samples : int
        Number of training rows before all chunks, and after them.

    Returns
    -------
    state : State
        What is known after.
    """
    plan, label_dtype, dtype, device = how
    batches, rows = zip(*pieces, strict=True)
    batch = batches_joined(
        [
            replace(
                some,
                X=some.X.astype(dtype, copy=False),
                classes=some.classes.astype(label_dtype),
            )
            for some in batches
        ]
    )
    batch = replace(batch, X=to_device(batch.X, device))
    after = completed(plan, learn(plan, state, batch, n_jobs=1), n_jobs=1)
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
