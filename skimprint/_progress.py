"""A progress bar over groups, with nothing but the standard library to rely on."""

import sys
import threading
import time
from contextlib import contextmanager

# Fits that are over sooner than this show nothing, in seconds.
_DELAY = 1.0


@contextmanager
def progress_bar(total, description, *, verbose):
    """Show how much of a long computation is done.

    Parameters
    ----------
    total : int
        Number of items.
    description : str
        What is being done to them.
    verbose : int
        Nothing is shown if 0.

    Yields
    ------
    advance : callable or None
        To be called, from any thread, with a number of items that are done.
    """
    if not verbose:
        yield None
        return
    try:
        from tqdm.auto import tqdm as bar
    except ImportError:
        bar = _Lines
    lock = threading.Lock()
    with bar(total=total, desc=description, delay=_DELAY) as shown:

        def advance(n):
            with lock:
                shown.update(n)

        yield advance


class _Lines:
    """What stands in for tqdm: a line on stderr every now and then."""

    def __init__(self, total, desc, delay):
        self.total = total
        self.description = desc
        self.delay = delay
        self.done = 0
        self.next_line = time.monotonic() + delay

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return None

    def update(self, n):
        self.done += n
        if time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + self.delay
            sys.stderr.write(f"{self.description}: {self.done} of {self.total}\n")
