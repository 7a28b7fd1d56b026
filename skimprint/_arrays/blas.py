"""Decompose matrices, and compute distances within groups."""

from contextlib import nullcontext

import numpy as np
from scipy import linalg

from .threads import one_blas_thread

# Rows of a matrix from which on threads pay for its decomposition.
_MANY_ROWS = 2048


def one_thread_if_small(n):
    """Hold BLAS to one thread while a matrix of n rows is decomposed, if it is small.

    Its threads wait for each other many times. Where another process keeps a core busy,
    two of them take up to 200 times as long as one; alone, they are no faster.

    Parameters
    ----------
    n : int
        Number of rows of the matrix.

    Returns
    -------
    context : context manager
    """
    return one_blas_thread() if n < _MANY_ROWS else nullcontext()


def eigh(matrix, **options):
    """Decompose a symmetric matrix by divide and conquer.

    That takes two thirds of the time of SciPy's default. Before SciPy 1.14 it cannot be
    had for one row.
    """
    driver = "evd" if len(matrix) > 1 else "ev"
    with one_thread_if_small(len(matrix)):
        return linalg.eigh(matrix, driver=driver, **options)


def squared_distances(rows):
    """Compute all squared distances within groups of one size.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, n, d)
        C-contiguous, of float32 or float64; centred in place.

    Returns
    -------
    distances : ndarray of shape (n_groups, n, n)
        A new array.
    """
    rows -= np.einsum("bnd->bd", rows)[:, None] / rows.shape[1]
    # NumPy sees that both factors are the same array, and computes a triangle.
    out = rows @ rows.swapaxes(1, 2)
    sq_norms = np.maximum(np.diagonal(out, axis1=1, axis2=2), 0)
    out *= -2
    out += sq_norms[:, :, None]
    out += sq_norms[:, None, :]
    return np.maximum(out, 0, out=out)
