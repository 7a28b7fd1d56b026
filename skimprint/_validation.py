"""Check what several estimators check in the same way."""

import warnings
from collections.abc import Callable
from numbers import Integral
from typing import TypeVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets

# What embeddings come in. Half precision is kept as it is and cast block by block.
DTYPES = (np.float64, np.float32, np.float16)

_Method = TypeVar("_Method", bound=Callable)


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[_Method], _Method]:
    """Decorate as scikit-learn's `_fit_context`, and keep the types of the method.

    scikit-learn has none: type checkers would take whatever it decorates for anything.
    """
    return _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)


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
    """List labels for a message: not more than ten of a thousand."""
    shown = ", ".join(repr(label) for label in labels[:most])
    more = f", ... ({len(labels)} in all)" if len(labels) > most else ""
    return f"[{shown}{more}]"
