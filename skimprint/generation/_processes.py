"""Generate proxies in processes, where the user has joblib use them."""

from copy import copy

import numpy as np
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed

from .._arrays.groups import runs_of
from .._memory.columns import joined

# Bytes of rows below which threads are done before processes have what they need.
_LEAST_BYTES = 2**24

# Chunks of classes for each process: few enough to be worth the way, enough that none
# waits long for the last one.
_CHUNKS = 4


def n_processes(support, n_jobs):
    """Count the processes that classes are to be spread over; 0 to stay in this one.

    Threads share the rows and start at once, so they are used unless
    :func:`joblib.parallel_config` names a backend that shares no memory.

    Parameters
    ----------
    support : GroupedRows
        The support embeddings, by class.
    n_jobs : int or None
        Resolved as joblib does.

    Returns
    -------
    n_processes : int
    """
    if not isinstance(support.X, np.ndarray):
        return 0
    if len(support.order) * support.row_bytes < _LEAST_BYTES:
        return 0
    backend, n_default = get_active_backend(prefer="threads")
    if getattr(backend, "supports_sharedmem", False):
        return 0
    n = backend.effective_n_jobs(n_default if n_jobs is None else n_jobs)
    return n if n > 1 and len(support) > 1 else 0


def generate_in_processes(
    generator, support, numbers, n, *, seed=0, n_jobs=None, progress=None
):
    """Do what `ProxyGenerator.generate_each` does in this process.

    Joblib writes the rows to a file that all processes map, unless they come from one,
    and proxies come back.

    Parameters
    ----------
    generator : ProxyGenerator
        Generates the proxies.
    support, numbers, seed, n_jobs, progress
        As for `ProxyGenerator.generate_each`.
    n : int
        Of `n_processes`.

    Returns
    -------
    proxies : list of Ragged
        The same, to the bit.
    """
    chunks = runs_of(support.offsets, len(support.order) / (_CHUNKS * n))
    backend, _ = get_active_backend(prefer="threads")
    as_they_come = getattr(backend, "supports_return_generator", False)
    parallel = Parallel(
        n_jobs=n_jobs,
        prefer="threads",
        return_as="generator" if as_they_come else "list",
    )
    found = []
    for chunk, part in zip(
        chunks,
        parallel(
            delayed(_generate)(
                generator,
                support.X,
                support.sample_weight,
                support.spread,
                _without_rows(support.only(chunk)),
                [number[chunk] for number in numbers],
                seed,
            )
            for chunk in chunks
        ),
        strict=True,
    ):
        found.append(part)
        if progress is not None:
            progress((chunk.stop - chunk.start) * len(numbers))
    return [joined(parts) for parts in zip(*found, strict=True)]


def _without_rows(support):
    """Take out what all parts share, so that it is an argument, which is sent once.

    Joblib writes arrays to a file wherever they are, but its backend of dask only looks
    at arguments themselves: each part would be sent with all rows.
    """
    support = copy(support)
    support.X = support.sample_weight = support.spread = None
    return support


def _generate(generator, X, sample_weight, spread, support, numbers, seed):
    """Generate the proxies of a chunk of classes, on one thread."""
    support.X, support.sample_weight, support.spread = X, sample_weight, spread
    return generator.generate_each(support, numbers, seed=seed, n_jobs=1)
