"""Multiply and decompose matrices; the rows of many small groups in one call."""

from contextlib import nullcontext

import numpy as np
from scipy import linalg

from .groups import blocks_of_rows
from .threads import one_blas_thread

# Groups of up to so many rows go through one call together, so many rows of each at a
# time.
FEW_ROWS = 64
_ROWS = 8
_BELOW = np.tri(_ROWS, k=-1, dtype=bool)

# Rows of a matrix from which on threads pay for its decomposition.
_MANY_ROWS = 2048

# How many times the squared distance from the mean the squared length of a typical row
# may be for the mean to be taken from inner products, which lose a digit then.
_MAX_LOSS = 10


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


def gram_each(rows, out):
    """Compute the inner products of the rows of each group.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, n, d)
        C-contiguous, of float32 or float64.
    out : ndarray of shape (n_groups, n, n)
        Where they go; C-contiguous, of the same dtype.
    """
    n = rows.shape[1]
    if n > FEW_ROWS:
        # NumPy sees that both factors are the same array, and computes a triangle.
        np.matmul(rows, rows.transpose(0, 2, 1), out=out)
        return
    # From the diagonal on. A block is never square: of rows with themselves NumPy
    # would compute a triangle, which takes longer when it is small.
    step = min(_ROWS, -(-n // 2))
    blocks = blocks_of_rows(n, step)
    for block in blocks:
        start = block.start if block.stop < n else max(block.start - 1, 0)
        others = rows[:, start:].transpose(0, 2, 1)
        np.matmul(rows[:, block], others, out=out[:, block, start:])
    for block in blocks:
        out[:, block, : block.start] = out[:, : block.start, block].transpose(0, 2, 1)
        # BLAS may round a product in another way where it stands elsewhere in a block.
        square = out[:, block, block]
        below = _BELOW[: square.shape[1], : square.shape[1]]
        np.copyto(square, square.transpose(0, 2, 1), where=below)


def centred_gram(rows, out):
    """Compute the inner products of the rows of each group, less their mean.

    For small groups: rows are read once and stay as they are.

    Parameters
    ----------
    rows, out
        As for `gram_each`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        gram_each(rows, out)
        before = _typical(np.einsum("bii->bi", out))
        shifts = out.mean(axis=1)
        shifts -= shifts.mean(axis=1, keepdims=True) / 2
        out -= shifts[:, :, None] + shifts[:, None]
        after = _typical(np.einsum("bii->bi", out))
        is_precise = (before / _MAX_LOSS <= after) & np.isfinite(after)
    for group in np.flatnonzero(~is_precise):
        residuals = rows[group] - rows[group].mean(axis=0)
        gram_each(residuals[None], out[group][None])


def _typical(values):
    """Find a value in the middle of each row, in a tenth of `numpy.median`'s time."""
    middle = values.shape[1] // 2
    return np.partition(values, middle, axis=1)[:, middle]


def squared_distances(rows):
    """Compute all squared distances within groups of one size.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, n, d)
        C-contiguous, of float32 or float64; centred in place where they are many.

    Returns
    -------
    distances : ndarray of shape (n_groups, n, n)
        A new array.
    """
    out = np.empty((*rows.shape[:2], rows.shape[1]), rows.dtype)
    if rows.shape[1] > FEW_ROWS:
        rows -= np.einsum("bnd->bd", rows)[:, None] / rows.shape[1]
        gram_each(rows, out)
    else:
        centred_gram(rows, out)
    sq_norms = np.maximum(np.diagonal(out, axis1=1, axis2=2), 0)
    out *= -2
    out += sq_norms[:, :, None]
    out += sq_norms[:, None, :]
    return np.maximum(out, 0, out=out)
