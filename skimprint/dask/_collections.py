"""Dask collections, and the chunks that they are made of."""

from contextlib import contextmanager
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.base import is_dask_collection
from dask.delayed import Delayed

from .._validation import DTYPES, whole_labels
from ..classifier import ImprintClassifier
from ..classifier._checks import features_of
from ._graph import optimized, parts_of


def check_ours(estimator, name):
    """Refuse what is no classifier of ours."""
    if not isinstance(estimator, ImprintClassifier):
        raise TypeError(
            f"{name} must be an ImprintClassifier; got {type(estimator).__name__}. "
            "Of a search, pass the best_estimator_, or search with dask's joblib."
        )


def check_rows(X, cure):
    """Refuse what is no dask array or data frame."""
    # Delayed objects have all attributes that one asks for.
    is_frame = is_dask_collection(X) and hasattr(X, "columns")
    if isinstance(X, da.Array) or (is_frame and not isinstance(X, Delayed)):
        if X.ndim != 2:
            raise ValueError(
                "X must be of shape (n_samples, n_features); got an array with "
                f"{X.ndim} dimensions. Of a single sample, pass X[None]."
            )
        return
    raise TypeError(
        f"X must be a dask array or a dask DataFrame; got {_named(X)}. Of data in "
        f"memory, {cure}."
    )


def check_items(items):
    """Refuse what has no partitions of items."""
    if is_dask_collection(items) and not isinstance(items, Delayed):
        return
    raise TypeError(
        "items must be a dask bag, array or Series, or a list of delayed lists; got "
        f"{_named(items)}. Of data in memory, call embedder.transform."
    )


def _named(values):
    """Name the type of what is not as it must be."""
    name = type(values).__name__
    return f"a dask {name}" if is_dask_collection(values) else name


class Chunks(NamedTuple):
    """Samples in chunks.

    Attributes
    ----------
    collections : list of dask collections
        That they are parts of.
    parts : list of tuple
        Of X, y and weights, or None, of each chunk.
    y : dask collection
        The labels.
    row_bytes : int
        Of a row as it is learnt, about.
    """

    collections: list
    parts: list
    y: Any
    row_bytes: int

    @classmethod
    def of(cls, X, y, sample_weight):
        """Cut labels and weights as samples are."""
        check_rows(X, "ImprintClassifier learns itself")
        X, sizes = in_rows(X)
        y = _cut(y, "y", X, sizes)
        collections = [X, y]
        if sample_weight is not None:
            collections.append(_cut(sample_weight, "sample_weight", X, sizes))
        collections = optimized(collections)
        parts = list(map(parts_of, collections))
        if sample_weight is None:
            parts.append([None] * len(sizes))
        return cls(collections, list(zip(*parts, strict=True)), y, _row_bytes(X))


def in_rows(collection):
    """Have all features of a row in one chunk; list the sizes of chunks, or NaN."""
    if not isinstance(collection, da.Array):
        return collection, [np.nan] * collection.npartitions
    if collection.ndim > 1:
        collection = collection.rechunk(dict.fromkeys(range(1, collection.ndim), -1))
    return collection, collection.chunks[0]


def _cut(values, name, X, sizes):
    """Cut labels or weights into the chunks of samples."""
    if not is_dask_collection(values):
        array = np.asarray(whole_labels(values))
        if array.ndim == 0:  # also of what is sparse
            raise ValueError(
                f"{name} must have a value for each sample; got {values!r}."
            )
        values = da.from_array(array, chunks=-1)
    if isinstance(values, Delayed):
        raise TypeError(
            f"{name} must be a dask array, a dask Series or an array; got "
            f"{_named(values)}. Pass dask.array.from_delayed of it."
        )
    if isinstance(values, da.Array) and values.ndim == 0:
        raise ValueError(f"{name} must have a value for each sample; got {values!r}.")
    values, its_sizes = in_rows(values)
    are_known = not np.isnan(np.sum(sizes))
    if are_known and not np.isnan(np.sum(its_sizes)):
        if sum(its_sizes) != sum(sizes):
            raise ValueError(
                f"{name} must have a value for each of {sum(sizes)} samples; got "
                f"{sum(its_sizes)}."
            )
        return values.rechunk({0: sizes})
    if len(its_sizes) != len(sizes):
        cure = "Call compute_chunk_sizes() on X"
        if not isinstance(X, da.Array):
            cure = "Pass X.to_dask_array(lengths=True)"
        raise ValueError(
            f"{name} must have as many chunks as X where not all sizes are known, "
            f"{len(sizes)}; got {len(its_sizes)}. {cure}, and {name} is cut as X is."
        )
    return values


def features_like(X, n_features):
    """Find the attributes that tell of features, as `features_of` does of data."""
    sample = getattr(X, "_meta", None)
    if not hasattr(sample, "columns"):
        sample = np.empty((0, n_features))
    return features_of(sample)


@contextmanager
def naming_chunk(number):
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


def _row_bytes(X):
    """Estimate the bytes of a row as it is learnt."""
    if isinstance(X, da.Array):
        n_features, dtypes = np.prod(X.shape[1:]), {X.dtype}
    else:
        n_features, dtypes = len(X.columns), set(X.dtypes)
    dtype = dtypes.pop()
    is_kept = not dtypes and dtype in DTYPES
    return n_features * (dtype.itemsize if is_kept else 8)
