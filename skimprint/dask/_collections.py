"""Dask collections, and the chunks that they are made of."""

from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np

from .._validation import DTYPES
from ..classifier import ImprintClassifier
from ..classifier._learning import features_of


def check_ours(estimator, name):
    """Refuse what is no classifier of ours."""
    if not isinstance(estimator, ImprintClassifier):
        raise TypeError(
            f"{name} must be an ImprintClassifier; got {type(estimator).__name__}. "
            "Of a search, pass the best_estimator_, or search with dask's joblib."
        )


def check_collection(values, name, kinds, cure):
    """Refuse data that dask does not hold."""
    if not dask.is_dask_collection(values):
        raise TypeError(
            f"{name} must be a dask {kinds}; got {type(values).__name__}. Of data in "
            f"memory, {cure}."
        )


def chunks_of(X, y, sample_weight):
    """List the chunks of samples, each a tuple of delayed X, y and weights or None."""
    check_collection(
        X, "X", "array or a dask DataFrame", "ImprintClassifier learns itself"
    )
    parts, sizes = parts_of(X)
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
        found, its_sizes = parts_of(values)
        if are_known and not np.isnan(np.sum(its_sizes)):
            if sum(its_sizes) != sum(sizes):
                raise ValueError(
                    f"{name} must have a value for each of {sum(sizes)} samples; got "
                    f"{sum(its_sizes)}."
                )
            found, _ = parts_of(values.rechunk({0: sizes}))
        elif len(found) != len(parts):
            raise ValueError(
                f"{name} must have as many chunks as X where not all sizes are known, "
                f"{len(parts)}; got {len(found)}. Call compute_chunk_sizes(), or "
                "to_dask_array(lengths=True)."
            )
        columns.append(found)
    return list(zip(*columns, strict=True))


def parts_of(collection):
    """List the parts of a collection along its rows, and their sizes or NaN."""
    if not isinstance(collection, da.Array):
        parts = list(collection.to_delayed())
        return parts, [np.nan] * len(parts)
    if collection.ndim > 1:
        collection = collection.rechunk(dict.fromkeys(range(1, collection.ndim), -1))
    return list(collection.to_delayed().ravel()), collection.chunks[0]


def array_of(parts, sizes, like):
    """Make a dask array of delayed parts along its rows, like another but for these."""
    arrays = [
        da.from_delayed(part, (size, *like.shape[1:]), like.dtype)
        for part, size in zip(parts, sizes, strict=True)
    ]
    return da.concatenate(arrays, allow_unknown_chunksizes=True)


def features_like(X, n_features):
    """Find the attributes that tell of features, as `features_of` does of data."""
    sample = getattr(X, "_meta", None)
    if not hasattr(sample, "columns"):
        sample = np.empty((0, n_features))
    return features_of(sample)


def row_bytes_of(X):
    """Estimate the bytes of a row as it is learnt."""
    if isinstance(X, da.Array):
        n_features, dtypes = np.prod(X.shape[1:]), {X.dtype}
    else:
        n_features, dtypes = len(X.columns), set(X.dtypes)
    dtype = dtypes.pop()
    is_kept = not dtypes and dtype in DTYPES
    return n_features * (dtype.itemsize if is_kept else 8)


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
