"""Arrays that are not NumPy's: the only module that knows namespaces and devices.

With ``sklearn.set_config(array_api_dispatch=True)``, results follow ``X``. What is
learnt stays on the host, so that it can be pickled and used on any machine. Arrays in
the memory of the host are read in place, through NumPy. Of those elsewhere, rows come
to the host where an algorithm asks for them, and scores are computed where they are.
"""

import contextlib
import gc
import re
import sys

import numpy as np
from array_api_compat import (
    array_namespace,
    device,
    is_array_api_obj,
    is_cupy_array,
    is_numpy_array,
    is_torch_array,
)
from sklearn import get_config

from .._validation import DTYPES

# Names of dtypes that float32 holds: of torch, polars and Arrow besides NumPy's.
_SINGLE = {f"{prefix}float{bits}" for prefix in ("", "torch.") for bits in (16, 32)}
_SINGLE |= {"float[pyarrow]", "halffloat[pyarrow]", "torch.bfloat16"}


def namespace_of(X):
    """Find the namespace of an array that results are to follow; None for NumPy's.

    Parameters
    ----------
    X : array-like
        Whatever a user passes.

    Returns
    -------
    xp : module or None
        `None` without scikit-learn's ``array_api_dispatch``, too.
    """
    # What counts as an array of NumPy's includes its scalars.
    if not get_config()["array_api_dispatch"] or is_numpy_array(X):
        return None
    return array_namespace(X) if is_array_api_obj(X) else None


def embedding_dtypes(X):
    """List the dtypes that embeddings may have, the first for those of another.

    Parameters
    ----------
    X : array-like
        Embeddings.

    Returns
    -------
    dtypes : tuple of dtype
        Of the namespace of ``X``, those that its device has.
    """
    xp = namespace_of(X)
    if xp is None:
        # scikit-learn takes the first for what is neither NumPy's nor plain pandas.
        return (np.float32, *DTYPES) if _is_single(X) else DTYPES
    dtypes = [getattr(xp, d.__name__) for d in DTYPES if hasattr(xp, d.__name__)]
    if not has_float64(device(X)):
        dtypes.remove(xp.float64)
    if str(X.dtype).endswith("bfloat16"):
        dtypes.insert(0, xp.float32)  # holds all its values
    return tuple(dtypes)


def _is_single(X):
    """Tell whether float32 holds what tables, tensors and lists of arrays have."""
    if isinstance(X, list):
        dtypes = [getattr(row, "dtype", None) for row in X]
    else:
        dtypes = getattr(X, "dtypes", [getattr(X, "dtype", None)])  # of each column
    # NumPy's and pandas' names do not tell the byte order.
    names = {str(getattr(dtype, "name", dtype)).lower() for dtype in dtypes}
    return names <= _SINGLE


def has_float64(where):
    """Tell whether a device has double precision."""
    return not str(where).startswith("mps")


def _is_on_host(X):
    return "cpu" in str(device(X)).lower()


def to_host(X):
    """Make a NumPy array of what may be an array of any kind.

    Parameters
    ----------
    X : array-like
        Array on any device, list, scalar or None.

    Returns
    -------
    X_host : ndarray or as it was
        What is no array of another namespace comes back as it was. Memory is shared
        where ``X`` is on the host.
    """
    if is_torch_array(X):
        X = X.detach().cpu()
        # NumPy has no bfloat16; float32 holds all its values.
        return (X.float() if "bfloat16" in str(X.dtype) else X).numpy()
    if is_cupy_array(X):
        return X.get()
    if is_numpy_array(X) or not is_array_api_obj(X):
        return X
    if _is_on_host(X):
        return np.asarray(X)
    return np.from_dlpack(X, device="cpu")  # NumPy 2.1


def readable(X):
    """Let rows of embeddings be read as NumPy arrays, slice by slice.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Validated embeddings.

    Returns
    -------
    X_readable : ndarray or DeviceArray
        An ndarray if ``X`` is in the memory of the host.
    """
    if is_numpy_array(X):
        return X
    return to_host(X) if _is_on_host(X) else DeviceArray(X)


def to_device(X, where):
    """Bring embeddings to the device that a classifier computes on.

    Parameters
    ----------
    X : ndarray or DeviceArray of shape (n_samples, n_features)
        From `readable`.
    where : str or None
        The parameter `device` of the classifier.

    Returns
    -------
    X_placed : ndarray or DeviceArray
        ``X`` itself where it is to stay, or is on a device of its own.

    Raises
    ------
    RuntimeError
        If there is no such device.
    ValueError
        If it is no name of one.
    """
    check_device(where)
    if where in (None, "cpu") or isinstance(X, DeviceArray):
        return X
    gpu = _find_gpu(0 if where == "auto" else int(where.partition(":")[2] or 0))
    if gpu is not None:
        xp, device = gpu
        return DeviceArray(xp.asarray(X, device=device))
    if where == "auto":
        return X
    raise RuntimeError(
        f"device={where!r} needs that GPU, and a build of PyTorch with CUDA, or CuPy, "
        "to use it; none was found. Install one of them, for this machine's CUDA (for "
        "CUDA 12: pip install cupy-cuda12x), or pass device='auto' to use a GPU only "
        "where there is one."
    )


def check_device(where):
    """Refuse a device that the parameter cannot name."""
    is_name = isinstance(where, str) and re.fullmatch(r"cpu|auto|cuda(:\d+)?", where)
    if not (where is None or is_name):
        raise ValueError(
            "device must be 'cpu', 'cuda', 'cuda:N' with a number N, 'auto' or "
            f"None; got {where!r}."
        )


def _find_gpu(number):
    """Find namespace and device of a GPU, by a library that is there; None for none."""
    with contextlib.suppress(ImportError):
        import torch

        if torch.cuda.device_count() > number:
            return array_namespace(torch.empty(0)), torch.device("cuda", number)
    with contextlib.suppress(ImportError):
        import cupy

        if cupy.cuda.is_available() and cupy.cuda.runtime.getDeviceCount() > number:
            return array_namespace(cupy.empty(0)), cupy.cuda.Device(number)
    return None


def like_input(X, result):
    """Bring a result to where the user's array is.

    Parameters
    ----------
    X : array-like
        What was passed by the user.
    result : ndarray
        Made of it.

    Returns
    -------
    result : array
        Of the namespace and device of ``X``. Text stays in NumPy, which alone has it.
    """
    xp = namespace_of(X)
    if xp is None or result.dtype.kind not in "biuf":
        return result
    return _brought(result, xp, device(X))


def _brought(array, xp, where):
    """Copy an ndarray to a device, in float32 where that has no float64."""
    if array.dtype == np.float64 and not has_float64(where):
        array = array.astype(np.float32)
    return xp.asarray(array, device=where)


def have_negative(X, part):
    """Tell which of some rows, given by a slice, have a negative value."""
    is_there = isinstance(X, DeviceArray)
    xp, rows = (X.xp, X.part(part)) if is_there else (np, X[part])
    if xp.min(rows) >= 0:  # of all at once, which is faster
        return np.zeros(rows.shape[0], bool)
    return to_host(xp.min(rows, axis=1)) < 0


def in_halves(work, items):
    """Work on items together, or in halves of halves where memory does not suffice.

    Parameters
    ----------
    work : callable
        Takes some of the items. It is called with fewer if it runs out of memory.
    items : sequence
        Of which slices can be taken.

    Returns
    -------
    results : list
        What it has returned, part by part.

    Raises
    ------
    MemoryError
        If memory does not suffice for a single item.
    """
    try:
        return [work(items)]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise MemoryError(
                "The device does not have enough memory for a class or query beside "
                "what else it holds: free some, or pass NumPy arrays, which stay on "
                f"the host with device=None. ({error})"
            ) from error
    # Outside the handler, so that it does not hold the arrays of what failed.
    free_memory()
    middle = len(items) // 2
    return in_halves(work, items[:middle]) + in_halves(work, items[middle:])


def is_out_of_memory(error):
    """Tell whether an error says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    signs = (
        "out of memory",
        "can't allocate memory",
        "not enough memory",
        "cublas_status_alloc_failed",
    )
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def free_memory():
    """Give memory back that a library keeps for later."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    cupy = sys.modules.get("cupy")
    if cupy is not None and cupy.cuda.is_available():  # else there is no pool to ask
        cupy.get_default_memory_pool().free_all_blocks()


class DeviceArray:
    """An array on another device, as a matrix whose rows come when they are asked for.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Of any namespace but NumPy's.

    Attributes
    ----------
    array : array of shape (n_samples, n_features)
        That array.
    xp : module
        Its namespace.
    device : device
        Where it is.
    dtype : dtype
        What NumPy calls the dtype of its values.
    """

    def __init__(self, X):
        self.array = X
        self.xp = array_namespace(X)
        self.device = device(X)
        self.shape = X.shape
        self.dtype = to_host(X[:1, :1]).dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        """Take some rows, by a slice or by their numbers: an ndarray on the host."""
        return to_host(self.part(rows))

    def on_cuda(self):
        """View the array as CuPy's, in the same memory; `None` where that cannot be."""
        if is_cupy_array(self.array):
            return self.array
        if getattr(self.device, "type", None) == "cuda":
            with contextlib.suppress(ImportError):
                import cupy

                return cupy.from_dlpack(self.array.detach())
        return None

    def rows(self, index, dtype):
        """Take rows by their numbers where they are, in a dtype given as NumPy's."""
        return self.xp.astype(self.part(index), getattr(self.xp, np.dtype(dtype).name))

    def part(self, rows):
        """Take some rows where they are, by a slice or by their numbers."""
        if isinstance(rows, slice):
            return self.array[rows, :]
        index = self.xp.asarray(rows, device=self.device)
        return self.xp.take(self.array, index, axis=0)

    def bring(self, array):
        """Copy an ndarray to where the rows are; `None` stays `None`."""
        return None if array is None else _brought(array, self.xp, self.device)
