"""NORM, the normalisation step of the framework: array in, array out.

What a parameter of the classifier may name is an entry of `NORMS` (for the support and
the queries) or `PROXY_NORMS`. A new norm is one entry: the registry holds all that the
rest of the package asks of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from ._validation import check_instance, check_returned

__all__ = ["l2_normalize", "power_normalize", "quantile_normalize"]

# A row is divided by this at least (as in torch's `normalize`): zero rows stay zero.
EPS = 1e-12


def l2_normalize(X: ArrayLike, *, out: np.ndarray | None = None) -> np.ndarray:
    """Scale each row to unit Euclidean length; a zero row stays zero.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Floating point, integers or booleans.
    out : ndarray of shape (n, d), default=None
        Where to put the result, if not in a new array; may be ``X`` itself.

    Returns
    -------
    X_normalized : ndarray of shape (n, d)
        ``X / max(norm, 1e-12)``, row by row, of the dtype of ``X``; in float64
        if that is not of floating point.

    Raises
    ------
    ValueError
        If ``X`` is no dense array of real numbers, of two dimensions.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.normalization import l2_normalize
    >>> l2_normalize(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    X = _floating(X)
    if X.dtype == np.float16:  # its squares are beyond its range
        return l2_normalize(X.astype(np.float32), out=out).astype(X.dtype, copy=False)
    with np.errstate(over="ignore"):
        sizes = lengths(np, X)
    if not np.isfinite(sizes).all():  # the squares are too large: scale rows before
        X = X / np.maximum(np.abs(X).max(axis=1, keepdims=True), 1)
        sizes = lengths(np, X)
    return np.divide(X, sizes, out=out)


def power_normalize(X: ArrayLike) -> np.ndarray:
    """Take the signed square root of each value, then scale rows to unit length.

    The power normalisation of Perronnin et al. [1]_ with exponent 1/2. It tames the few
    large values of embeddings that are nowhere negative, such as pooled activations.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Floating point, integers or booleans.

    Returns
    -------
    X_normalized : ndarray of shape (n, d)
        A new array of the dtype of ``X``; in float64 if that is not of floating
        point. A zero row stays zero.

    Raises
    ------
    ValueError
        If ``X`` is no dense array of real numbers, of two dimensions.

    References
    ----------
    .. [1] F. Perronnin, J. Sanchez, T. Mensink, "Improving the Fisher Kernel for
       Large-Scale Image Classification", ECCV 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.normalization import power_normalize
    >>> power_normalize(np.array([[9.0, -16.0], [0.0, 0.0]]))
    array([[ 0.6, -0.8],
           [ 0. ,  0. ]])
    """
    return NORMS["power"](_floating(X))


def _matrix(X, name="X"):
    """Make a matrix of real numbers, or refuse what is none."""
    X = np.asarray(X)
    if X.ndim != 2 or X.dtype.kind == "c":
        raise ValueError(
            f"{name} must be a dense array of real numbers, of shape (n, d); got the "
            f"dtype {X.dtype} and the shape {X.shape}."
        )
    return X if X.dtype.kind in "biuf" else X.astype(np.float64)


def _floating(X):
    """Make a matrix of floating point: squares of integers are beyond their range."""
    X = _matrix(X)
    return X if X.dtype.kind == "f" else X.astype(np.float64)


def squared_lengths(xp, X, *, axis=1):
    """Sum the squares of each row, in any namespace: of the shape of X but for axis.

    The axis stays, with length 1. NumPy sums the squares of a matrix without an array
    of all squares.
    """
    if xp is np and axis == 1:
        return np.einsum("ij,ij->i", X, X)[:, None]
    return xp.sum(X * X, axis=axis, keepdims=True)


def lengths(xp, X, *, axis=1):
    """Take the Euclidean length of each row, at least 1e-12, with an axis of length 1.

    The bound makes it something to divide by.
    """
    found = xp.sqrt(squared_lengths(xp, X, axis=axis))
    is_finite = xp.isfinite(found)
    if not xp.all(is_finite):  # squares are too large for the dtype: scale before
        largest = xp.clip(xp.max(xp.abs(X), axis=axis, keepdims=True), 1.0, None)
        scaled = xp.sqrt(squared_lengths(xp, X / largest, axis=axis))
        found = xp.where(is_finite, found, scaled * largest)
    return xp.clip(found, EPS, None)


def quantile_normalize(X: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Give each row the distribution of the reference, keeping its rank order.

    The i-th smallest value of a row becomes the quantile of the reference at
    ``(i + 1/2) / d`` (linear interpolation), as in Hosoda et al. [1]_.

    Parameters
    ----------
    X : array-like of shape (n, d)
        Floating point, integers or booleans.
    reference : array-like
        Values of the reference distribution, of any shape.

    Returns
    -------
    X_normalized : ndarray of shape (n, d)
        A new array of the dtype of ``X``; in float64 if that is not of floating
        point.

    Raises
    ------
    ValueError
        If ``X`` is no dense array of real numbers, of two dimensions; if the reference
        has no value; or if there is NaN or infinity in either.

    References
    ----------
    .. [1] Hosoda et al., "It's DONE: Direct ONE-shot learning with quantile weight
       imprinting", 2024, arXiv:2204.13361.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.normalization import quantile_normalize
    >>> quantile_normalize(np.array([[5.0, -1.0, 2.0]]), [0.0, 3.0, 6.0])
    array([[5., 1., 3.]])
    """
    values = _matrix(np.asarray(reference).reshape(1, -1), "reference")
    if not values.size:
        raise ValueError("reference must have one value at least; got none.")
    X = _matrix(X)
    for name, array in (("X", X), ("reference", values)):
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} contains NaN or infinity, which have no place among the "
                "quantiles. Leave such values out, or put numbers in their places."
            )
    values = np.sort(values, axis=None)
    quantiles = _quantiles(values, np.arange(1, len(values) + 1), X)
    return quantiles[_ranks(X)]


def _quantiles(values, ends, X):
    """Take the quantiles that the sorted values of rows become.

    Parameters
    ----------
    values : ndarray of shape (n_values,)
        Of the reference, sorted.
    ends : ndarray of int, of shape (n_values,)
        How many values of the reference there are up to each of these, itself included.
    X : ndarray of shape (n, d)
        The rows.

    Returns
    -------
    quantiles : ndarray of shape (d,)
        Sorted. In the dtype of ``X``, if that is of floating point.
    """
    d, last = X.shape[1], ends[-1] - 1
    # As `np.interp` has it, which looks at all of the reference each time.
    positions = (np.arange(d) + 0.5) / d * last
    below = positions.astype(np.intp)
    above = np.minimum(below + 1, last)
    low, high = (
        values[np.searchsorted(ends, places, side="right")].astype(float)
        for places in (below, above)
    )
    quantiles = (high - low) * (positions - below) + low
    return quantiles.astype(X.dtype) if X.dtype.kind == "f" else quantiles


def _ranks(X):
    """Rank the values of each row, from 0 on; of equal ones, the first comes first."""
    return np.argsort(np.argsort(X, axis=1, kind="stable"), axis=1)


def quantile_normalize_by_class(proxies, offsets):
    """Quantile-normalise each class to the proxies of all classes before it, in place.

    The first class, for want of a reference, stays as it is. All proxies of another one
    get the same values, which are kept once.

    Parameters
    ----------
    proxies : ndarray of shape (n_proxies, n_features)
        Proxies, class by class.
    offsets : ndarray of shape (n_classes + 1,)
        The proxies of class ``c`` are ``proxies[offsets[c]:offsets[c + 1]]``.

    Returns
    -------
    proxies : ndarray of shape (n_proxies, n_features)
        The same array.
    """
    values = np.sort(proxies[: offsets[1]], axis=None)
    counts = np.ones(len(values), np.intp)
    for start, stop in pairwise(offsets[1:]):
        own = _quantiles(values, np.cumsum(counts), proxies)
        proxies[start:stop] = own[_ranks(proxies[start:stop])]
        places = np.searchsorted(values, own, side="right")
        values = np.insert(values, places, own)
        counts = np.insert(counts, places, stop - start)
    return proxies


@dataclass(frozen=True)
class Norm:
    """A normalisation, with all that the rest of the package has to know of it.

    Parameters
    ----------
    name : str or None
        How a parameter names it; `None` for the norm that changes nothing.
    before : callable, default=None
        ``before(xp, X)`` is done to the values first, in any array namespace ``xp``.
        It returns a new array.
    undo : callable, default=None
        ``undo(X)`` is the inverse of ``before``, on the host, for a norm that
        ``"auto"`` may choose: samples are normalised again where it chooses another.
    unit_length : bool, default=False
        Whether rows are scaled to unit Euclidean length, after that.
    """

    name: str | None
    before: Callable | None = None
    undo: Callable | None = None
    unit_length: bool = False

    # Whether it is a user's function: it may be unsafe in threads, what it returns is
    # checked, and it is for NumPy alone.
    is_callable = False
    # Whether each row is normalised by itself, whatever other proxies there are.
    is_pointwise = True

    def __call__(self, X, *, out=None):
        """Normalise rows on the host.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
            Rows.
        out : ndarray of shape (n, n_features), default=None
            Where to put the result, if not in a new array; may be ``X`` itself.

        Returns
        -------
        X_normalized : ndarray of shape (n, n_features)
            ``X`` itself, where nothing is to be done and ``out`` is `None`.
        """
        if self.before is not None:
            X = self.before(np, X)
            out = X if out is None else out  # the array is new
        if self.unit_length:
            return l2_normalize(X, out=out)
        if out is None or out is X:
            return X
        out[:] = X
        return out

    def on_device(self, xp, X):
        """Normalise rows of any array namespace.

        Parameters
        ----------
        xp : module
            The namespace.
        X : array of shape (n, n_features)
            The rows.

        Returns
        -------
        X_normalized : array of shape (n, n_features)
            ``X`` itself, where nothing is to be done.
        """
        if self.before is not None:
            X = self.before(xp, X)
        return X / lengths(xp, X) if self.unit_length else X

    def undone(self, X):
        """Find what rows of unit length were, up to their length: an ndarray again."""
        return X if self.undo is None else self.undo(X)

    @property
    def is_scaling(self):
        """Whether each row is scaled to unit length, and nothing else."""
        return self.unit_length and self.before is None

    def of_proxies(self, vectors, offsets, is_head):
        """Normalise the proxies of all classes.

        Parameters
        ----------
        vectors : ndarray of shape (n_proxies, n_features)
            The proxies, class by class. They may be changed.
        offsets : ndarray of shape (n_classes + 1,)
            The proxies of class ``c`` are ``vectors[offsets[c]:offsets[c + 1]]``.
        is_head : ndarray of shape (n_classes,)
            Whether a class comes from a linear head.

        Returns
        -------
        proxies : ndarray of shape (n_proxies, n_features)
            Normalised; it may be ``vectors``.
        """
        return self(vectors, out=vectors)

    def in_place_of(self, vectors, own, proxies, codes, is_head):
        """Normalise vectors that take the places of proxies.

        Parameters
        ----------
        vectors : ndarray of shape (n, n_features)
            Not normalised.
        own : ndarray of shape (n,)
            The proxies whose places they take.
        proxies : ndarray of shape (n_proxies, n_features)
            All proxies, normalised.
        codes : ndarray of shape (n_proxies,)
            Index of the class of each proxy.
        is_head : ndarray of shape (n_classes,)
            Whether a class comes from a linear head.

        Returns
        -------
        normalized : ndarray of shape (n, n_features)
            As the proxies are.
        """
        return self(vectors)


@dataclass(frozen=True)
class _Quantile(Norm):
    """Give all proxies the distribution of those of a head, or of the classes before.

    The first class of all, or a head, has no reference and stays as it is.
    """

    is_pointwise = False

    def of_proxies(self, vectors, offsets, is_head):
        from_head = np.repeat(is_head, np.diff(offsets))
        if not from_head.any():
            return quantile_normalize_by_class(vectors, offsets)
        vectors[~from_head] = quantile_normalize(
            vectors[~from_head], vectors[from_head]
        )
        return vectors

    def in_place_of(self, vectors, own, proxies, codes, is_head):
        # The values of the proxy whose place a vector takes, in the vector's order.
        values = np.sort(proxies, axis=1)[own]
        normalized = np.take_along_axis(values, _ranks(vectors), axis=1)
        if not is_head.any():
            first = codes[own] == 0
            normalized[first] = vectors[first]
        return normalized


@dataclass(frozen=True)
class _Function(Norm):
    """Normalise by a user's function, whose result is checked."""

    function: Callable = field(default=None, hash=False)

    is_callable = True

    def __call__(self, X, *, out=None):
        # A copy, for the function may write on what it gets.
        found = self.function(X.copy())
        found = check_returned(found, X.shape, X.dtype, self.name)
        return super().__call__(found, out=out)


def _signed_roots(xp, X):
    return xp.copysign(xp.sqrt(xp.abs(X)), X)


def _signed_squares(X):
    return np.copysign(X * X, X)


IDENTITY = Norm(None)

NORMS = {
    "l2": Norm("l2", unit_length=True),
    "power": Norm(
        "power", before=_signed_roots, undo=_signed_squares, unit_length=True
    ),
}

PROXY_NORMS = {"l2": NORMS["l2"], "quantile": _Quantile("quantile")}


def make_norm(value, parameter, registry=NORMS):
    """Find the norm that a parameter stands for.

    Parameters
    ----------
    value : str, callable, Norm or None
        The parameter: a name in the registry, or a function from an array of shape (n,
        n_features) to one of the same shape.
    parameter : str
        Its name, for errors.
    registry : dict of {str: Norm}, default=NORMS
        The names.

    Returns
    -------
    norm : Norm
        `IDENTITY` for `None`.
    """
    if value is None:
        return IDENTITY
    if isinstance(value, Norm):
        return value
    if isinstance(value, str):
        return registry[value]
    check_instance(value, parameter)
    return _Function(parameter, function=value)
