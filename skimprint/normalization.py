"""NORM, the normalisation step of the framework: array in, array out."""

from itertools import pairwise

import numpy as np

__all__ = ["l2_normalize", "power_normalize", "quantile_normalize"]

# Below this norm a row counts as zero and stays as it is (as in torch's `normalize`).
EPS = 1e-12


def l2_normalize(X, *, out=None):
    """Scale each row to unit Euclidean length; a zero row stays zero.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Floating point.
    out : ndarray of shape (n, d), default=None
        Where to put the result, if not in a new array; may be ``X`` itself.

    Returns
    -------
    X_normalized : ndarray of shape (n, d)
        ``X / max(norm, 1e-12)``, row by row, of the dtype of ``X``.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.normalization import l2_normalize
    >>> l2_normalize(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    return np.divide(X, row_norms(X)[:, None], out=out)


def power_normalize(X):
    """Take the signed square root of each value, then scale rows to unit length.

    The power normalisation of Perronnin et al. [1]_ with exponent 1/2. It tames the few
    large values of embeddings that are nowhere negative, such as pooled activations.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Floating point.

    Returns
    -------
    X_normalized : ndarray of shape (n, d)
        A new array of the dtype of ``X``. A zero row stays zero.

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
    roots = np.sqrt(np.abs(X))
    np.copysign(roots, X, out=roots)
    return l2_normalize(roots, out=roots)


def row_norms(X):
    """Euclidean length of each row, at least 1e-12 so that it can be divided by."""
    norms = np.sqrt(np.einsum("ij,ij->i", X, X))
    return np.maximum(norms, EPS, out=norms)


def quantile_normalize(X, reference):
    """Give each row the distribution of the reference, keeping its rank order.

    The i-th smallest value of a row becomes the quantile of the reference at
    ``(i + 1/2) / d`` (linear interpolation), as in Hosoda et al. [1]_.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Floating point.
    reference : array-like
        Values of the reference distribution, of any shape.

    Returns
    -------
    X_normalized : ndarray of shape (n, d)
        A new array of the dtype of ``X``.

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
    d = X.shape[1]
    # A stable sort merges what is sorted already, which `np.quantile` does not use.
    reference = np.sort(reference, axis=None, kind="stable")
    positions = (np.arange(d) + 0.5) / d * (len(reference) - 1)
    quantiles = np.interp(positions, np.arange(len(reference)), reference)
    quantiles = quantiles.astype(X.dtype)
    ranks = np.argsort(np.argsort(X, axis=1, kind="stable"), axis=1)
    return quantiles[ranks]


def quantile_normalize_by_class(proxies, offsets):
    """Quantile-normalise each class to the proxies of all classes before it.

    The first class, for want of a reference, stays as it is.

    Parameters
    ----------
    proxies : ndarray of shape (n_proxies, n_features)
        Proxies, class by class.
    offsets : ndarray of shape (n_classes + 1,)
        The proxies of class ``c`` are ``proxies[offsets[c]:offsets[c + 1]]``.

    Returns
    -------
    normalized : ndarray of shape (n_proxies, n_features)
        A new array.
    """
    normalized = proxies.copy()
    reference = np.empty(0, dtype=proxies.dtype)
    for before, (start, stop) in zip(offsets, pairwise(offsets[1:]), strict=False):
        reference = np.append(reference, normalized[before:start])
        reference.sort(kind="stable")
        normalized[start:stop] = quantile_normalize(proxies[start:stop], reference)
    return normalized
