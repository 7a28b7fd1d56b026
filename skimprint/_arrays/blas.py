"""Tall products through SciPy's BLAS, without the GIL, and those of small groups.

NumPy and SciPy wheels carry a BLAS each, and they need not be equally fast: on a
machine with AVX-512, SciPy's (the one behind scikit-learn) can be nearly twice as
fast. ``scipy.linalg.blas`` holds the GIL while it computes, so the routines are taken
from ``scipy.linalg.cython_blas``, whose function pointers are its public interface,
and called by ctypes, which releases it. Where their signature is not the expected
one, NumPy does the work.
"""

import ctypes

import numpy as np
from scipy.linalg import cython_blas

_NO = ctypes.c_char(b"N")
_TRANSPOSED = ctypes.c_char(b"T")
_UPPER = ctypes.c_char(b"U")

# Below this many multiplications ctypes costs more than a better BLAS gains.
_WORTH_IT = 2**20

# Side of the blocks in which a triangle is mirrored: two fit in the L2 cache.
_BLOCK = 128
_ABOVE = np.triu(np.ones((_BLOCK, _BLOCK), bool), 1)

# Groups of up to so many rows go through one call together, so many rows of each at a
# time.
FEW_ROWS = 64
_ROWS = 8

# How many times the squared distance from the mean the squared length of a typical row
# may be for the mean to be taken from inner products, which lose a digit then.
_MAX_LOSS = 10


def _routine(name):
    """A BLAS routine as a ctypes function, or None if it does not take C ints."""
    capsule = cython_blas.__pyx_capi__.get(name)
    if capsule is None:
        return None
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    signature = api.PyCapsule_GetName(capsule)
    if not signature.startswith(b"void (char *, char *, int *, int *"):
        return None
    n_arguments = signature.count(b",") + 1
    prototype = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)
    return prototype(api.PyCapsule_GetPointer(capsule, signature))


_ROUTINES = {
    np.dtype(np.float32): (ctypes.c_float, _routine("sgemm"), _routine("ssyrk")),
    np.dtype(np.float64): (ctypes.c_double, _routine("dgemm"), _routine("dsyrk")),
}


def dot_transposed(A, B, scale=1.0, out=None):
    """``scale * A @ B.T`` for matrices of one dtype, float32 or float64.

    The result is new, or in `out`, which is C-contiguous and of the same dtype.
    """
    # BLAS gets no strides: in any other layout it would silently multiply other values.
    A, B = np.ascontiguousarray(A), np.ascontiguousarray(B)
    real, gemm, _ = _ROUTINES[A.dtype]
    (n, d), m = A.shape, len(B)
    # Of a single row, NumPy makes a product with a vector, which is twice as fast.
    if gemm is None or n * m * d < _WORTH_IT or 1 in (n, m):
        product = np.matmul(A, B.T, out=out)
        product *= scale
        return product
    if out is None:
        out = np.empty((n, m), A.dtype)
    # BLAS sees row-major matrices transposed: out.T = B @ A.T.
    rows, columns, inner = ctypes.c_int(m), ctypes.c_int(n), ctypes.c_int(d)
    gemm(
        *map(ctypes.byref, (_TRANSPOSED, _NO, rows, columns, inner, real(scale))),
        B.ctypes.data,
        ctypes.byref(inner),
        A.ctypes.data,
        ctypes.byref(inner),
        ctypes.byref(real(0.0)),
        out.ctypes.data,
        ctypes.byref(rows),
    )
    return out


def gram_each(rows, out):
    """Inner products of the rows of each group.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, n, d)
        C-contiguous, of float32 or float64.
    out : ndarray of shape (n_groups, n, n)
        Where they go; C-contiguous, of the same dtype.
    """
    n = rows.shape[1]
    if n > FEW_ROWS:
        for A, G in zip(rows, out, strict=True):
            _gram(A, G)
        return
    # From the diagonal on. A block is never square: of rows with themselves NumPy
    # would compute a triangle, which takes longer when it is small.
    step = min(_ROWS, -(-n // 2))
    blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    for block in blocks:
        start = block.start if block.stop < n else max(block.start - 1, 0)
        others = rows[:, start:].transpose(0, 2, 1)
        np.matmul(rows[:, block], others, out=out[:, block, start:])
    for block in blocks:
        out[:, block, : block.start] = out[:, : block.start, block].transpose(0, 2, 1)


def centred_gram(rows, out):
    """Inner products of the rows of each group, less the mean of the group.

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
    """A value in the middle of each row; `numpy.median` takes ten times as long."""
    middle = values.shape[1] // 2
    return np.partition(values, middle, axis=1)[:, middle]


def squared_distances(rows, out):
    """All squared distances within groups of one size.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, n, d)
        As for `gram_each`; centred in place where they are many.
    out : ndarray of shape (n_groups, n, n)
        Where they go.

    Returns
    -------
    sq_norms : ndarray of shape (n_groups, n)
        Squared distance of each row from the mean of its group.
    """
    if rows.shape[1] > FEW_ROWS:
        rows -= np.einsum("bnd->bd", rows)[:, None] / rows.shape[1]
        gram_each(rows, out)
    else:
        centred_gram(rows, out)
    sq_norms = np.maximum(np.diagonal(out, axis1=1, axis2=2), 0)
    out *= -2
    out += sq_norms[:, :, None]
    out += sq_norms[:, None, :]
    np.maximum(out, 0, out=out)
    return sq_norms


def _gram(A, out):
    real, _, syrk = _ROUTINES[A.dtype]
    n, d = A.shape
    if syrk is None:
        np.matmul(A, A.T, out=out)
        return
    order, inner = ctypes.c_int(n), ctypes.c_int(d)
    syrk(
        *map(ctypes.byref, (_UPPER, _TRANSPOSED, order, inner, real(1.0))),
        A.ctypes.data,
        ctypes.byref(inner),
        ctypes.byref(real(0.0)),
        out.ctypes.data,
        ctypes.byref(order),
    )
    # BLAS's upper triangle is the lower one here.
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        out[:start, start:stop] = out[start:stop, :start].T
        diagonal = out[start:stop, start:stop]
        above = _ABOVE[: stop - start, : stop - start]
        np.copyto(diagonal, diagonal.T.copy(), where=above)
