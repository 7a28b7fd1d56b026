"""Buckets of classes that are learnt together, and classes too large for a worker."""

import numpy as np

from .._arrays.groups import offsets_of, runs_of

# Classes are learnt together whose rows take about so many bytes.
_BUCKET_BYTES = 2**28

# And in at most so many buckets for each thread, as far as memory allows: each takes a
# task for each chunk.
_MOST_PER_THREAD = 16

# The rows of a class take at most this share of the memory of a worker for each of its
# threads, those of a bucket half of it: they are there as they came, joined, and as
# they are learnt.
_SHARE_OF_A_CLASS = 1 / 4
_SHARE_OF_A_BUCKET = 1 / 8


def buckets(counts, row_bytes, n_threads, thread_bytes):
    """Choose which classes are learnt together.

    Parameters
    ----------
    counts : dict of {label: int}
        Rows of each class.
    row_bytes : int
        Bytes of each.
    n_threads : int
        How many threads learn.
    thread_bytes : float
        Of what memory there is for each.

    Returns
    -------
    bucket_of : dict of {label: int}
        The largest classes come first, each where there are the fewest rows; those that
        are too large are alone.
    large : set of label
        Of more rows than one worker is to hold.
    most : float
        That many.
    """
    n_bytes = row_bytes * sum(counts.values())
    most = max(1, _SHARE_OF_A_CLASS * thread_bytes / row_bytes)
    large = {label for label, count in counts.items() if count > most}
    n_buckets = np.clip(
        -(-n_bytes // _BUCKET_BYTES), n_threads, _MOST_PER_THREAD * n_threads
    )
    n_buckets = max(n_buckets, np.ceil(n_bytes / (_SHARE_OF_A_BUCKET * thread_bytes)))
    others = [label for label in counts if label not in large]
    sizes = np.zeros(min(int(n_buckets), len(others)))
    found = {}
    for label in sorted(others, key=counts.get, reverse=True):
        found[label] = int(sizes.argmin())
        sizes[found[label]] += counts[label]
    found |= {label: len(sizes) + i for i, label in enumerate(sorted(large))}
    return found, large, most


def chunks_by_parts(counted, label, most):
    """List the chunks that have rows of a class, by runs of at most so many rows."""
    counts = np.array(
        [int(some.counts[some.classes == label].sum()) for some in counted]
    )
    (numbers,) = np.nonzero(counts)
    runs = runs_of(offsets_of(counts[numbers]), most)
    return [numbers[run].tolist() for run in runs]
