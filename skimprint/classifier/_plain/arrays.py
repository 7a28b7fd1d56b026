"""Arrays, labels and numbers of a model, which are checked when they are read."""

from itertools import pairwise
from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval

from ..._validation import as_objects

#: Text takes as much memory for each label as for the longest.
MAX_TEXT_BYTES = 2**30

#: Where any numbers are, where temperatures and the like, and where shrinkages.
FINITE = Interval(Real, None, None, closed="neither")
POSITIVE = Interval(Real, 0, None, closed="neither")
SHARE = Interval(Real, 0, 1, closed="both")

# Types of labels in JSON, by their dtype.
_PLAIN = {
    "text": {str},
    "bool": {bool},
    "int": {int},
    "float": {int, float},
    "object": {str, bool, int, float},
}


class Arrays:
    """Arrays by name, of a part of a model.

    Parameters
    ----------
    arrays : dict of {str: ndarray}, default=None
        Those of the whole model; a new dict by default.
    prefix : str, default=""
        What the names of the part start with.
    """

    def __init__(self, arrays=None, prefix=""):
        self.all = {} if arrays is None else arrays
        self.prefix = prefix

    def of(self, part):
        """Find the arrays of a part of the part."""
        return Arrays(self.all, f"{self.prefix}{part}.")

    def add(self, name, array):
        """Keep an array, and return its whole name."""
        name = self.prefix + name
        self.all[name] = np.ascontiguousarray(array)
        return name

    def update(self, **arrays):
        """Keep several arrays."""
        for name, array in arrays.items():
            self.add(name, array)


class Checked(Arrays):
    """Arrays that have been read, of the right types and sizes, or an error.

    Parameters
    ----------
    read : callable
        From a whole name to the array.
    names : collection of str
        The whole names that there are.
    prefix : str, default=""
        What the names of the part start with.
    is_trusted : bool, default=False
        Whether no array has NaN or infinity, so that none has to be read for that.
    room : list of one int, default=None
        Bytes that values besides may take, those of all parts together.

    Attributes
    ----------
    sizes : dict of {str: int}
        Of axes by name, as far as they are known.
    """

    def __init__(self, read, names, prefix="", *, is_trusted=False, room=None):
        self.read, self.names, self.prefix = read, names, prefix
        self.is_trusted, self.room = is_trusted, room
        self.sizes = {}

    def of(self, part):
        """Find the arrays of a part."""
        prefix = f"{self.prefix}{part}."
        options = {"is_trusted": self.is_trusted, "room": self.room}
        return Checked(self.read, self.names, prefix, **options)

    def has(self, name):
        """Tell whether there is an array."""
        return self.prefix + name in self.names

    def any(self, whole_name):
        """Read an array of any kind, by its whole name."""
        if whole_name not in self.names:
            raise ValueError(f"{whole_name} is missing.")
        return self.read(whole_name)

    def spend(self, n_bytes):
        """Refuse values that take far more memory than the files."""
        self.room[0] -= n_bytes
        if self.room[0] < 0:
            raise ValueError("its values would take far more memory than its files.")

    def take(self, name, kind, *axes, finite=True):
        """Read an array that must be of a kind and of a shape.

        Parameters
        ----------
        name : str
            Of the array.
        kind : {"f", "i", "u", "b"}
            Of its dtype.
        *axes : str or int
            Names of its axes, whose sizes the first array of them decides; or sizes.
        finite : bool, default=True
            Whether infinity is refused; NaN always is.

        Returns
        -------
        array : ndarray
        """
        array = np.asarray(self.any(self.prefix + name))
        if array.dtype.kind != kind or array.ndim != len(axes):
            raise ValueError(f"{name} has {array.ndim} axes of {array.dtype}.")
        for axis, size in zip(axes, array.shape, strict=True):
            known = axis if isinstance(axis, int) else self.sizes.setdefault(axis, size)
            if size != known:
                raise ValueError(f"{name} has the shape {array.shape}: not {known}.")
        if self.is_trusted:
            return array
        is_good = np.isfinite if finite else lambda values: ~np.isnan(values)
        if kind == "f" and not is_good(array).all():
            raise ValueError(f"{name} has NaN or infinity.")
        if name.endswith(("weights", "counts")) and array.min(initial=0) < 0:
            raise ValueError(f"{name} has negative numbers.")
        return array


def count(value, name):
    """Check a number that was read: an int of at least 0, which NumPy can add to."""
    if type(value) is not int or not 0 <= value <= 2**62:
        raise ValueError(f"{name} must be an int from 0 to 2**62; got {value!r}.")
    return value


def flag(value, name):
    """Check a bool that was read."""
    if type(value) is not bool:
        raise ValueError(f"{name} must be true or false; got {value!r}.")
    return value


def number(value, name, interval):
    """Check a number that was read, and return it as a float."""
    if not interval.is_satisfied_by(value):
        raise ValueError(f"{name} must be {interval}; got {value!r}.")
    return float(value)


def proxy_offsets(arrays, n_classes):
    """Read where the proxies of each class begin; so many axes are known then.

    Parameters
    ----------
    arrays : Checked
        The arrays; it gets the numbers of classes and of proxies.
    n_classes : int
        Number of classes, each of which has a proxy.

    Returns
    -------
    offsets : ndarray of shape (n_classes + 1,)
    """
    arrays.sizes["classes"] = n_classes
    offsets = in_order(
        arrays.take("proxy_offsets", "i", n_classes + 1), "proxies", least=1
    )
    arrays.sizes["proxies"] = int(offsets[-1])
    return offsets


def in_order(offsets, part, least=0):
    """Check offsets that were read: they begin at 0, and grow by at least so much."""
    if offsets[0] != 0 or np.diff(offsets).min(initial=least) < least:
        raise ValueError(f"the offsets of {part} are not in order.")
    return offsets


def write_labels(labels, dtype):
    """Turn labels into JSON.

    Parameters
    ----------
    labels : list
        Sorted.
    dtype : dtype or None
        Of their array; None where nothing has been learnt.

    Returns
    -------
    plain : dict
        For `read_labels`.
    """
    kind = "text" if dtype is None or dtype.kind == "U" else dtype.name
    for label in labels:
        if not isinstance(label, str | bool | int | float):
            raise ValueError(
                "labels must be numbers, text or booleans to be written; got "
                f"{label!r}. Use such labels, and fit again."
            )
    if kind == "text":
        _check_lengths(labels)
    return {"dtype": kind, "labels": labels}


def read_labels(plain):
    """Make a sorted array of labels, of NumPy's own choice of width for text."""
    kind, labels = plain["dtype"], plain["labels"]
    if kind == "text":
        _check_lengths(labels)
    plain = _PLAIN[kind.rstrip("0123456789").removeprefix("u")]
    if not all(type(label) in plain for label in labels):
        raise ValueError(f"labels are not of type {kind}.")
    if kind == "object":
        array = as_objects(labels)
    else:
        array = np.array(labels, dtype=str if kind == "text" else kind)
    # As NumPy has them, for which two texts or floats may be the same.
    if any(first >= second for first, second in pairwise(array.tolist())):
        raise ValueError("labels are not sorted, or occur twice.")
    return array


def n_bytes_of_text(texts):
    """Compute what texts take as an array: each as much as the longest of them."""
    return 4 * len(texts) * max(map(len, texts), default=0)


def _check_lengths(labels):
    """Refuse text that would take too much memory as an array."""
    n_bytes = n_bytes_of_text(labels)
    if n_bytes > MAX_TEXT_BYTES:
        raise ValueError(
            f"labels are too long: as an array, they must take at most "
            f"{MAX_TEXT_BYTES} bytes, and would take {n_bytes}, each as many as the "
            "longest. Fit with shorter labels, such as numbers."
        )
