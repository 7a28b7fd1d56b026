"""Report how far a fit has come: a progress bar, and scikit-learn's callbacks."""

import sys
import threading
import time
from contextlib import AbstractContextManager, contextmanager

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:
        """Stand in for scikit-learn's: an estimator without callbacks."""

    def with_callbacks(method):
        """Leave a method as it is, in place of what sets up callbacks."""
        return method


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
    advance : callable
        To be called, from any thread, with a number of items that are done.
    """
    if not verbose:
        yield lambda n: None
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


@contextmanager
def fit_progress(estimator, n_classes, *, X, y):
    """Report the classes of a fit that are done, to a bar and to callbacks.

    Parameters
    ----------
    estimator : estimator
        Has a parameter `verbose`; scikit-learn's `_fit_context` wraps its `fit`.
    n_classes : int
        Number of classes.
    X, y : array-like
        What it is fitted to, for the callbacks.

    Yields
    ------
    advance : callable
        To be called, from any thread, with a number of classes that are done.
    """
    with (
        progress_bar(n_classes, "classes", verbose=estimator.verbose) as advance,
        notify_callbacks(estimator, n_classes, "class", X=X, y=y) as tell,
    ):

        def report(n):
            tell(n)
            advance(n)

        yield report


@contextmanager
def notify_callbacks(estimator, n_tasks, task_name, *, X, y):
    """Tell scikit-learn's callbacks of a fit and of the tasks that it consists of.

    Parameters
    ----------
    estimator : estimator
        Its method is wrapped by `with_callbacks` or scikit-learn's `_fit_context`.
    n_tasks : int
        Number of tasks.
    task_name : str
        What each of them is.
    X, y : array-like
        What it is fitted to.

    Yields
    ------
    tell : callable
        To be called, from any thread, with a number of tasks that are done.
    """
    if not hasattr(estimator, "_skl_callbacks"):
        yield lambda n: None
        return
    context = estimator._init_callback_context(max_subtasks=n_tasks)
    context.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
    lock = threading.Lock()

    def tell(n):
        with lock:
            for _ in range(n):
                task = context.subcontext(task_name=task_name)
                task.call_on_fit_task_begin(estimator=estimator)
                task.call_on_fit_task_end(estimator=estimator)

    yield tell
    context.call_on_fit_task_end(estimator=estimator, X=X, y=y)


class _Lines(AbstractContextManager):
    """Print a line on stderr every now and then, in place of tqdm."""

    def __init__(self, total, desc, delay):
        self.total = total
        self.description = desc
        self.delay = delay
        self.done = 0
        self.next_line = time.monotonic() + delay

    def __exit__(self, *exception):
        return None

    def update(self, n):
        self.done += n
        if time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + self.delay
            sys.stderr.write(f"{self.description}: {self.done} of {self.total}\n")
