"""What workers do: look at labels, split chunks by classes, learn classes."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import _check_y, check_consistent_length

from .._arrays.device import to_device, to_host
from .._arrays.finite import naming_rows
from .._memory.learner import batches_joined, learn, with_all_proxies
from .._memory.state import State
from .._plan import Plan
from .._validation import shortened
from ..classifier._checks import check_some_weight, checked_batch, coded
from ..classifier._fitted import Fitted
from ._collections import naming_chunk


class Labels(NamedTuple):
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


class Look(NamedTuple):
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


class How(NamedTuple):
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


def checker_of(clf):
    """Copy what is needed of a classifier to check chunks, where they are."""
    checker = clone(clf)
    checker.device = checker.head = None  # a subclass may have no such parameters
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(clf, name):
            setattr(checker, name, getattr(clf, name))
    if hasattr(clf, "_fitted"):
        checker.known_dtype = clf._fitted.last_state.dtype
    return checker


def labels_of_chunk(checker, number, y):
    """Validate the labels of a chunk, and count them."""
    if len(y) == 0:
        return Labels(0, np.empty(0), np.empty(0, np.intp))
    y = to_host(y)
    with naming_chunk(number), naming_rows(checker, y=y):
        classes, codes = coded(_check_y(y))
    return Labels(len(codes), classes, np.bincount(codes, minlength=len(classes)))


def split(checker, number, X, y, weights, start, bucket_of, looks_at_signs):
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
    look : Look or None
        None if there are no rows.
    *pieces : tuple (Batch, ndarray) or None
        For each bucket, the rows and their numbers among all.
    """
    n_buckets = 1 + max(bucket_of.values())
    with naming_chunk(number):
        check_consistent_length(X, y, weights)
    if len(X) == 0:
        return (None,) * (1 + n_buckets)
    batch = _batch_of(checker, number, X, y, weights)
    look = Look(
        number,
        batch.X.shape[1],
        batch.X.dtype,
        not (looks_at_signs and batch.signed_labels),
        bool(batch.is_absent.all()),
    )
    unknown = [label for label in batch.classes.tolist() if label not in bucket_of]
    if unknown:
        raise ValueError(
            f"In chunk {number}: y has {shortened(unknown)}, which it did not have "
            "when labels were counted. It is computed twice, and must be the same "
            "each time: call persist() on it first."
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


def how_to_learn(plans, n_features, label_dtype, looks):
    """Choose how to learn rows, by what is known of all chunks.

    Parameters
    ----------
    plans : tuple of Plan
        For rows with negative values, and for rows without.
    n_features : int or None
        Of the rows; None if the first of them say.
    label_dtype : dtype
        Of all labels.
    looks : list of Look or None
        Of the chunks; None of a chunk without rows.

    Returns
    -------
    how : How
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
    dtype = np.result_type(*(look.dtype for look in looks))
    return How(plan, label_dtype, dtype, n_features)


def learn_bucket(how, state, pieces, since, n_samples, device):
    """Learn the classes of a bucket, beside what is known of them.

    Parameters
    ----------
    how : How
        What is the same for all rows.
    state : State
        What is known of the classes.
    pieces : list of tuple (Batch, ndarray) or None
        Of `split`.
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
    after = with_all_proxies(how.plan, after, n_jobs=1)
    # Rows that are new here are numbered after all others, whichever have come before.
    rows = np.concatenate(rows) - (state.n_samples - since)
    after = after.renumbered(rows, since=state.n_samples)
    return replace(after, n_samples=n_samples)


def _batch_of(checker, number, X, y, weights):
    """Validate a chunk; an error names it."""
    fitted = None
    if hasattr(checker, "known_dtype"):
        fitted = Fitted(None, State(dtype=checker.known_dtype))
    is_weightless = weights is not None and not np.any(np.asarray(weights))
    weights = None if is_weightless else weights
    with naming_chunk(number):
        batch = checked_batch(checker, X, y, weights, fitted=fitted)
    if is_weightless:  # other chunks have some weight
        return replace(batch, weights=np.zeros(len(batch.codes)))
    return batch
