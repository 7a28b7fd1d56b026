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
        from tqdm.auto import tqdm
    except ImportError:
        yield _Lines(total, description).advance
        return
    with tqdm(total=total, desc=description, delay=_DELAY) as bar:
        # A single update moves the counter under the GIL; tqdm locks its drawing.
        yield bar.update


class _Lines:
    """What stands in for tqdm: a line on stderr at most every second."""

    def __init__(self, total, description):
        self.total = total
        self.description = description
        self.done = 0
        self.next_line = time.monotonic() + _DELAY
        self.lock = threading.Lock()

    def advance(self, n):
        with self.lock:
            self.done += n
            now = time.monotonic()
            if now < self.next_line:
                return
            self.next_line = now + _DELAY
            line = f"{self.description}: {self.done} of {self.total}"
        sys.stderr.write(line + "\n")
