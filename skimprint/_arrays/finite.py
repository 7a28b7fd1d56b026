"""Errors about values that are no finite numbers, with rows and cures."""

from contextlib import contextmanager

import numpy as np
from sklearn.utils._missing import is_pandas_na, is_scalar_nan

from .._validation import shortened
from .device import to_host


def check_finite(X, *, name, estimator, start=0):
    """Refuse rows that have NaN or infinity, and name them.

    Parameters
    ----------
    X : array-like of shape (n,) or (n, n_features)
        Values; what is neither floats nor missing is left to others.
    name : str
        What the user calls the array.
    estimator : estimator
        Who cannot use such rows.
    start : int, default=0
        The number of the first row.

    Raises
    ------
    ValueError
        If there are any.
    """
    X = to_host(X)
    try:
        values = np.asarray(X, dtype=np.float64)
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    except (TypeError, ValueError):
        X = np.asarray(X)
        rows = X.reshape(len(X), -1).tolist() if X.ndim in (1, 2) else []
        bad = [
            i
            for i, row in enumerate(rows)
            if any(is_scalar_nan(x) or is_pandas_na(x) for x in row)
        ]
        if bad:
            raise ValueError(
                f"{name} contains NaN: rows {shortened(bad)} have no value. Leave them "
                "out."
            ) from None
        return
    bad = np.flatnonzero(~finite)
    if len(bad):
        what = "NaN" if np.isnan(values[bad]).any() else "infinity"
        raise ValueError(
            f"{name} contains {what}: rows {shortened((bad + start).tolist())} have "
            f"NaN or infinity. {type(estimator).__name__} cannot use them: leave them "
            "out, or put numbers in their places."
        )


@contextmanager
def naming_rows(estimator, **arrays):
    """Let errors about NaN and infinity name the rows, and others have a cure.

    Parameters
    ----------
    estimator : estimator
        Who validates the arrays.
    **arrays : array-like
        What is validated, by the names that the user knows.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        # "NA" is pandas' own, which has no truth value and is no number.
        words = ("NaN", "infinity", "of NA is", "NAType")
        if any(word in str(error) for word in words):
            for name, array in arrays.items():
                check_finite(array, name=name, estimator=estimator)
        is_text = "could not convert string to float" in str(error)
        if is_text and np.asarray(arrays.get("X")).dtype.kind in "OSU":
            raise ValueError(
                "X must be embeddings, numbers of shape (n_samples, n_features); it "
                f"has text: {error}. Leave out columns of text, or embed items first, "
                "with skimprint.FoundationEmbedder."
            ) from error
        is_nested = "setting an array element with a sequence" in str(error)
        if is_nested and _has_sequences(arrays.get("X")):
            raise ValueError(
                "X must be numbers of shape (n_samples, n_features); it has sequences "
                "in its cells, or rows of several lengths. Of a data frame, pass the "
                "column of embeddings alone: frame['embedding']. Of an array of rows, "
                "pass np.stack(rows)."
            ) from error
        raise


def _has_sequences(X):
    """Tell whether cells hold sequences, or rows are of several lengths."""
    try:
        return np.asarray(X).dtype == object
    except ValueError:
        return True
