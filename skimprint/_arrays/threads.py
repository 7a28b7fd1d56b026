"""Run threads across groups, with BLAS held to one thread in each of them."""

import functools
import os
import threading
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
import scipy.linalg  # noqa: F401 - its BLAS must be loaded to be controlled
from joblib import cpu_count, effective_n_jobs
from threadpoolctl import ThreadpoolController

_FORK_SAFE = weakref.WeakSet()

# Size of arrays from which on an operation takes as long as it takes another thread to
# wake up, many times.
_WORTH_A_PAUSE = 2**16


def after_fork(function):
    """Have a function called in each process that this one forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
    return function


class ForkSafeLock:
    """A lock that nobody holds in a new process, whoever held it at the fork.

    Parameters
    ----------
    make : callable, default=threading.Lock
        Makes the lock itself.
    """

    def __init__(self, make=threading.Lock):
        self._make = make
        self._lock = make()
        _FORK_SAFE.add(self)

    def __reduce__(self):
        return type(self), (self._make,)  # what is copied has a lock of its own

    # `with` calls the methods of the lock itself: an interrupt in one of ours, when the
    # lock was acquired, would leave it locked.
    __enter__ = property(lambda self: self._lock.__enter__)
    __exit__ = property(lambda self: self._lock.__exit__)


class cached_property(functools.cached_property):
    """Compute once and keep; of threads that come at once, each may compute it.

    Until Python 3.12, functools' own has one lock for all instances, which makes one
    model wait for another, and which a forked process may find held for ever.
    """

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        kept = vars(instance)
        if self.attrname not in kept:
            kept[self.attrname] = self.func(instance)
        return kept[self.attrname]


_lock = ForkSafeLock()
_users = 0
_limiter = None


@functools.cache
def _controller():
    # Looking through the loaded libraries takes milliseconds: once per process.
    return ThreadpoolController()


def _release_control():
    """Let any thread change the limit.

    Since threadpoolctl 3.8 only the first thread that sets a limit on OpenBLAS can
    change it again. Here it need not be the one that restores it.
    """
    for library in _controller().lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)


@functools.cache
def _helpers():
    """Keep threads for all calls.

    On a busy machine it takes milliseconds until a new one has started. The caller
    works too, so that nothing waits for a thread that another call has taken, or that
    did not survive a fork.
    """
    return ThreadPoolExecutor(max(1, cpu_count()), "skimprint")


@after_fork
def _forget():
    """Make everything again that belongs to threads, which a fork leaves behind."""
    global _users, _limiter
    for lock in [*_FORK_SAFE]:
        lock._lock = lock._make()
    _helpers.cache_clear()
    if _limiter is not None:
        _release_control()
        _limiter.restore_original_limits()
        _users, _limiter = 0, None


@contextmanager
def one_blas_thread():
    """Hold BLAS to one thread for as long as anybody in the process asks for it.

    The number of BLAS threads belongs to the process. If each of two concurrent fits
    saved and restored it, the first to leave would free the threads under the other,
    and the last could leave the process at one thread for good. So the users are
    counted: the first sets the limit and the last restores what was there before.
    """
    global _users, _limiter
    is_user = False
    try:
        with _lock:
            if _users == 0:
                _release_control()
                _limiter = _controller().limit(limits=1, user_api="blas")
            _users += 1
            is_user = True
        yield
    finally:
        with _lock:
            _users -= is_user
            if _users == 0 and _limiter is not None:
                _release_control()
                _limiter.restore_original_limits()
                _limiter = None
                _release_control()


class PausableLock(ForkSafeLock):
    """Let one thread at a time do many small array operations.

    Each operation leaves the interpreter and comes back, and threads that do so at the
    same time spend most of it on waking each other: two of them take longer than one
    after the other. While the holder does what takes long outside of the interpreter,
    it pauses, and others go on.
    """

    @contextmanager
    def pause(self, n_numbers=_WORTH_A_PAUSE):
        """Release the lock for a while.

        Parameters
        ----------
        n_numbers : int
            Size of the arrays that are worked on meanwhile. Where they are small, it
            is not worth handing over, and the lock is kept.
        """
        if n_numbers < _WORTH_A_PAUSE:
            yield
            return
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()


def run_tasks(function, tasks, costs, *, n_jobs=None, progress=None):
    """Call function on each task, in threads and the most expensive first.

    Parameters
    ----------
    function : callable
        Takes one task.
    tasks : list
        What to call it on.
    costs : list of float
        Relative duration of each task, for the order.
    n_jobs : int, default=None
        Number of threads, resolved as joblib does.
    progress : callable, default=None
        Called with each task that is done.

    Returns
    -------
    results : list
        What it has returned for each task.
    """
    queue = deque(np.argsort(-np.asarray(costs), kind="stable").tolist())
    results, errors = [None] * len(tasks), []

    def work():
        while True:
            try:
                number = queue.popleft()
            except IndexError:
                return
            try:
                # BLAS may leave a flag behind after products of finite rows. What is
                # not finite is refused before it comes here, or where it ends up.
                with np.errstate(invalid="ignore"):
                    results[number] = function(tasks[number])
                if progress is not None:
                    progress(tasks[number])
            except BaseException as error:
                errors.append(error)
                queue.clear()

    n_threads = min(effective_n_jobs(n_jobs), len(tasks))
    with one_blas_thread():
        helpers = [_helpers().submit(work) for _ in range(n_threads - 1)]
        try:
            work()
        finally:
            queue.clear()
            # Those that have not begun are not waited for: nothing is left to do.
            wait([helper for helper in helpers if not helper.cancel()])
    if errors:
        raise errors[0]
    return results


def run_blocks(function, blocks):
    """Call function on each block, in as many threads as BLAS would have used.

    BLAS's own threads wait for each other in every product. Where another process
    keeps a core busy, they wait long; blocks that need not wait for each other do not.

    Parameters
    ----------
    function : callable
        Takes one block.
    blocks : list
        What to call it on. A single one is left to BLAS's threads.

    Returns
    -------
    results : list
        What it has returned for each block.
    """
    if len(blocks) == 1:
        return [function(blocks[0])]
    libraries = _controller().select(user_api="blas").lib_controllers
    n_threads = min((library.num_threads for library in libraries), default=1)
    return run_tasks(function, blocks, np.ones(len(blocks)), n_jobs=n_threads)
