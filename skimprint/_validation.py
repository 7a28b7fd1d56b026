"""What several estimators check in the same way."""

import warnings
from numbers import Integral

import numpy as np
from sklearn import get_config
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.multiclass import check_classification_targets

# What embeddings come in. Half precision is kept as it is and cast block by block.
DTYPES = (np.float64, np.float32, np.float16)


def check_labels(y):
    """Refuse what are no class labels, such as continuous targets."""
    if y.dtype.kind in "biuSU":
        return  # cannot be anything else, and looking takes as long as a small fit
    with warnings.catch_warnings():
        # A sample or two per class is nothing to warn of here.
        warnings.filterwarnings("ignore", "The number of unique classes is greater")
        check_classification_targets(y)


def seed_from(random_state):
    """Turn a random state into an int: itself if it is one, else a draw from it."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def shortened(labels, most=10):
    """A list of labels for a message: not more than ten of a thousand."""
    shown = ", ".join(repr(label) for label in labels[:most])
    more = f", ... ({len(labels)} in all)" if len(labels) > most else ""
    return f"[{shown}{more}]"


def check_returned(array, shape, dtype, parameter):
    """Refuse what a user's function returned, unless it has the shape and is finite.

    Parameters
    ----------
    array : array-like
        What the function returned.
    shape : tuple of int
        What was asked for.
    dtype : dtype
        What the array is cast to.
    parameter : str
        The parameter that is the function.

    Returns
    -------
    array : ndarray of this shape and dtype
    """
    array = np.asarray(array, dtype=dtype)
    if array.shape != shape:
        raise ValueError(
            f"{parameter} must return an array of shape {shape}; got {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{parameter} must return finite values; got NaN or infinity.")
    return array


def check_parameter(estimator, name):
    """Refuse an invalid value of a parameter that was set after fit.

    Parameters
    ----------
    estimator : estimator
        Has constraints of its parameters.
    name : str
        The parameter.
    """
    if not get_config()["skip_parameter_validation"]:
        validate_parameter_constraints(
            {name: estimator._parameter_constraints[name]},
            {name: getattr(estimator, name)},
            caller_name=type(estimator).__name__,
        )
