"""Errors about NaN and infinity that name the rows."""

from contextlib import contextmanager

import numpy as np

from .._validation import shortened
from .device import to_host


def check_finite(X, *, name, estimator, start=0):
    """Refuse rows that have NaN or infinity, and name them.

    Parameters
    ----------
    X : array-like of shape (n,) or (n, n_features)
        Values; what cannot be read as floats is left to others.
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
    try:
        values = np.asarray(to_host(X), dtype=np.float64)
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    except (TypeError, ValueError):
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
    """Let errors about NaN and infinity name the rows.

    Parameters
    ----------
    estimator : estimator
        Who validates the arrays.
    **arrays : array-like
        What is validated, by the names that the user knows.
    """
    try:
        yield
    except ValueError as error:
        if "NaN" in str(error) or "infinity" in str(error):
            for name, array in arrays.items():
                check_finite(array, name=name, estimator=estimator)
        raise
