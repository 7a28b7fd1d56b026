"""Check what several estimators check in the same way."""

import warnings
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import TypeVar

import numpy as np
from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.multiclass import check_classification_targets

# What embeddings come in. Half precision is kept as it is and cast block by block.
DTYPES = (np.float64, np.float32, np.float16)

# More than any class has samples.
_ALL = np.iinfo(np.int32).max

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
    # Labels that are NaN are refused, but cast before.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # A sample or two per class is nothing to warn of here.
        warnings.filterwarnings("ignore", "The number of unique classes is greater")
        try:
            check_classification_targets(y)
        except (TypeError, ValueError) as error:  # text is sorted there
            if y.dtype != object:
                raise
            types = sorted({type(label).__name__ for label in y})
            raise ValueError(
                "Unknown label type: y must be numbers, text or booleans; got objects "
                f"of type {' and '.join(types)}. Leave out samples without a label, "
                "and make the others one type: y.astype(str) or y.astype(int)."
            ) from error


def check_lasting_labels(y, name="y"):
    """Refuse what are no class labels, and what no file can hold, such as bytes."""
    check_labels(y)
    if y.dtype.kind in "SmMV" or y.dtype.char == "g":
        got, cure = f"{y.dtype}. Make them text", f"{name}.astype(str)"
        if y.dtype.kind == "S":
            got, cure = "bytes. Decode them", f"np.char.decode({name})"
        elif y.dtype.char == "g":
            got, cure = "np.longdouble. Shorten them", f"{name}.astype(float)"
        raise ValueError(
            f"{name} must be numbers, text or booleans; got {got} first: {cure}."
        )


def plain_labels(classes):
    """Make labels plain: in native byte order, and text in an array of objects `str`.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Any labels.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        The same labels, with `str` in place of its subclasses, such as NumPy's own and
        that of an `Enum`. PyTorch takes no others than native numbers.
    """
    if classes.dtype.kind != "O":
        return classes.astype(classes.dtype.newbyteorder("="), copy=False)
    labels = [str.__str__(v) if isinstance(v, str) else v for v in classes]
    for label in labels:
        # NumPy drops it wherever it makes text of them, as of `forget(["a\0"])`.
        if isinstance(label, str) and label.endswith("\0"):
            raise ValueError(
                f"labels must not end with a NUL character; got {label!r}, which NumPy "
                "takes for the label without it. Strip it: label.rstrip('\\0')."
            )
    return as_objects(labels)


def whole_labels(labels):
    """Keep labels of a list whole, or refuse them, where NumPy makes others of them.

    Of integers of which some fit uint64 only, or are NumPy's of uint64 beside others of
    int64, it makes floats, which are equal to others. Of text it takes `str`, cut to
    the length of the text: of members of a ``class Colour(str, Enum)``, "Colour.RED"
    cut to the length of "red".

    Parameters
    ----------
    labels : object
        A label, or an array-like of labels.

    Returns
    -------
    labels : object
        As it was, or an array of integers.
    """
    is_list = isinstance(labels, list | tuple)
    one_of_each = {type(label): label for label in (labels if is_list else [labels])}
    for each, label in one_of_each.items():
        if issubclass(each, str) and str(label) != str.__str__(label):
            raise ValueError(
                f"Labels that are text must be str; got {each.__name__}, of which "
                "NumPy makes other labels. Pass the text of each: label.value of the "
                "member of an Enum, or derive it from enum.StrEnum."
            )
    if is_list and one_of_each and all(issubclass(k, Integral) for k in one_of_each):
        array = np.asarray(labels)
        if array.dtype.kind == "f" and array.min() >= 0:
            return np.array(labels, np.uint64)
    return labels


def as_objects(labels):
    """Make an array of labels that keeps their types."""
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


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


def check_instance(value, parameter):
    """Refuse a class where an instance of it must have been meant."""
    if isinstance(value, type):
        raise TypeError(
            f"{parameter} must be an instance; got the class {value.__name__}. Write "
            f"{parameter}={value.__name__}()."
        )


def check_components(estimator, params):
    """Refuse a parameter of a component where none is set: a name, a function, None."""
    own = estimator.get_params(deep=False) | params
    for key in params:
        name, _, inner = key.partition("__")
        if inner and name in own and not hasattr(own[name], "set_params"):
            raise ValueError(
                f"{key} is the parameter of a component, but {name} is {own[name]!r}. "
                f"Set {name} to an instance, such as generator=KMeansProxies(), "
                "aggregation=Votes(), rejection=Rejection(label), estimator="
                "ImprintClassifier() or imprint=ImprintClassifier()."
            )


def check_returned(array, shape, dtype, parameter):
    """Refuse what a user's function returned, unless it has the shape and is finite.

    Parameters
    ----------
    array : array-like
        What the function returned.
    shape : tuple of int or str
        What was asked for. An axis with a name may have any length but 0.
    dtype : dtype
        What the array is cast to.
    parameter : str
        The parameter that is the function.

    Returns
    -------
    array : ndarray of this shape and dtype
    """
    wanted = f"shape ({', '.join(map(str, shape))})"
    try:
        if np.iscomplexobj(array):
            raise TypeError("imaginary parts would be lost")
        array = np.asarray(array, dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{parameter} must return an array of numbers of {wanted}; got "
            f"{type(array)}: {error}"
        ) from error

    def fits(length, axis):
        return length > 0 if isinstance(axis, str) else length == axis

    if array.ndim != len(shape) or not all(map(fits, array.shape, shape)):
        raise ValueError(
            f"{parameter} must return an array of {wanted}; got {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{parameter} must return finite values; got NaN or infinity.")
    return array


def numbers_of(value, labels, parameter):
    """Look up a number for each label.

    Parameters
    ----------
    value : int or mapping of {label: int}
        The value of a parameter.
    labels : list
        The labels.
    parameter : str
        The name of the parameter.

    Returns
    -------
    numbers : ndarray of int, of shape (n_labels,)
    """
    if not isinstance(value, Mapping):
        return np.full(len(labels), min(value, _ALL))
    missing = [label for label in labels if label not in value]
    if missing:
        raise ValueError(
            f"{parameter} must have a number for each label; it has none for "
            f"{shortened(missing)} (its keys are {shortened(list(value))})."
        )
    numbers = [value[label] for label in labels]
    for label, number in zip(labels, numbers, strict=True):
        if not isinstance(number, Integral) or number < 1:
            raise ValueError(
                f"{parameter} must map each label to an int of at least 1; got "
                f"{number!r} for {label!r}."
            )
    return np.array([min(number, _ALL) for number in numbers])


def refuse_collections(*collections):
    """Refuse dask's collections, which would be brought here, and lazy frames."""
    for collection in collections:
        if hasattr(type(collection), "collect"):  # of polars, say
            raise TypeError(
                f"Got a {type(collection).__name__}, whose rows are not there yet: "
                "call collect() on it first."
            )
        if hasattr(collection, "__dask_graph__"):
            raise TypeError(
                f"Got a {type(collection).__module__.partition('.')[0]} collection, "
                f"{type(collection).__name__}, which would be brought here whole. Pass "
                "it to a function of skimprint.dask, such as fit, predict or embed, or "
                "call compute() on it first."
            )


def read_only(array):
    """Make a view of an array that cannot be written to: it is shared with others."""
    view = array.view()
    view.flags.writeable = False
    return view


def stacked(X):
    """Make an array of a column whose elements are rows, as polars keeps embeddings."""
    is_column = hasattr(X, "to_numpy") and len(getattr(X, "shape", (0,))) == 1
    if not is_column:
        return X
    X = np.asarray(X)
    if X.dtype != object or not all(isinstance(row, list | np.ndarray) for row in X):
        return X
    if len({len(row) for row in X}) > 1:
        raise ValueError("X must be a column of embeddings of the same length.")
    return np.stack(X) if len(X) else X


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


def joint_label_dtype(dtype, labels, other_dtype, others):
    """Find a dtype that holds two sets of labels without changing any of them.

    Parameters
    ----------
    dtype, other_dtype : dtype
        Of the arrays that the labels come from.
    labels, others : list
        The labels, as Python objects.

    Returns
    -------
    dtype : dtype

    Raises
    ------
    ValueError
        If labels are of different types, or one of them would lose digits.
    """
    kinds = _label_kind(dtype, labels[0]), _label_kind(other_dtype, others[0])
    if kinds[0] != kinds[1]:
        hint = " (A classifier around this one may have turned text into numbers.)"
        raise ValueError(
            "Labels must be of the type of those that the classifier knows, such as "
            f"{labels[0]!r}; got {others[0]!r}."
            + (hint if kinds == ("text", "number") else "")
        )
    joint = np.result_type(dtype, other_dtype)
    if "number" in kinds and joint.kind == "f":
        both = [*labels, *others]
        if "f" not in dtype.kind + other_dtype.kind:  # int64 and uint64
            for found in (np.dtype(np.int64), np.dtype(np.uint64)):
                info = np.iinfo(found)
                if info.min <= min(both) and max(both) <= info.max:
                    return found
        rounded = [n for n in both if isinstance(n, int) and int(float(n)) != n]
        if rounded:
            raise ValueError(
                f"No dtype holds all labels: {rounded[0]!r} would lose digits beside "
                f"labels of {dtype} and {other_dtype}. Convert labels to one type, "
                "such as text."
            )
    return joint


def _label_kind(dtype, label):
    """Name what a label is: numbers go together, other kinds only with their own."""
    if dtype.kind == "O":
        dtype = np.asarray(label).dtype
    return {"U": "text"}.get(dtype.kind, "number" if dtype.kind in "biuf" else dtype)
