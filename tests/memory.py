"""How much memory a test may take."""

import tracemalloc
from contextlib import contextmanager


@contextmanager
def less_memory_than(n_bytes):
    """Fail if a block holds so many bytes at any time."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n_bytes
