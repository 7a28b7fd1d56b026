"""Tasks across threads: their results, and what errors and interrupts leave behind."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import skimprint
from skimprint._arrays import threads as _threads
from skimprint._arrays.threads import cached_property, run_blocks, run_tasks


def blas_threads():
    info = threadpool_info()
    return [library["num_threads"] for library in info if library["user_api"] == "blas"]


@pytest.mark.parametrize("n_jobs, by_helper", [(1, False), (2, False), (2, True)])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_reach_the_caller_and_later_calls_work(n_jobs, by_helper, error):
    """Whether the caller has the task that fails or another thread."""
    caller, before, failed = threading.get_ident(), blas_threads(), threading.Event()

    def task(number):
        if by_helper == (threading.get_ident() == caller):
            assert failed.wait(10)
            return
        failed.set()
        raise error("as expected")

    with pytest.raises(error, match="as expected"):
        run_tasks(task, list(range(100)), [1] * 100, n_jobs=n_jobs)
    assert blas_threads() == before
    done = []
    run_tasks(done.append, list(range(100)), [1] * 100, n_jobs=n_jobs)
    assert sorted(done) == list(range(100))
    assert blas_threads() == before


def test_after_an_error_no_task_begins_and_those_that_have_are_waited_for(monkeypatch):
    caller, begun, ended = threading.get_ident(), [], []
    entered, leave, wait = threading.Event(), threading.Event(), _threads.wait

    def task(number):
        begun.append(number)
        if threading.get_ident() == caller:
            assert entered.wait(10)
            raise KeyboardInterrupt
        entered.set()
        assert leave.wait(10)
        ended.append(number)

    def release(futures):
        leave.set()
        return wait(futures)

    monkeypatch.setattr(_threads, "wait", release)
    with pytest.raises(KeyboardInterrupt):
        run_tasks(task, list(range(100)), [1] * 100, n_jobs=2)
    assert len(begun) == 2
    assert len(ended) == 1


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_results_are_in_the_order_of_the_tasks(n_jobs):
    tasks = [slice(i, 2 * i) for i in range(20)]
    costs = np.random.default_rng(0).random(20)
    found = run_tasks(lambda task: task.stop, tasks, costs, n_jobs=n_jobs)
    assert found == list(range(0, 40, 2))
    for few in (tasks, tasks[:1], []):
        assert run_blocks(lambda task: task.start, few) == list(range(len(few)))


def test_errors_of_progress_reach_the_caller():
    def progress(task):
        raise ValueError(f"after {task}")

    with pytest.raises(ValueError, match="after 1"):
        run_tasks(lambda task: None, [1], [1], progress=progress)


FORK = """
import os, signal, sys, threading, time
from skimprint._arrays import threads

def task(n):
    time.sleep(0.001)

# As when another thread is in the middle of something at the fork.
helpers = threads._helpers()
threads.run_tasks(task, [1, 2, 3, 4], [1, 1, 1, 1], n_jobs=2)
inside, forked = threading.Event(), threading.Event()

def hold():
    with threads.one_blas_thread(), helpers._shutdown_lock, threads._lock:
        inside.set()
        forked.wait()

thread = threading.Thread(target=hold)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    threads.run_tasks(task, list(range(8)), [1] * 8, n_jobs=2)
    os._exit(0 if threads._users == 0 else 1)
forked.set()
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_locks_that_others_hold_at_a_fork_are_made_again():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60)


class OfEach:
    """Finds something, as late as it is told."""

    def __init__(self, ready):
        self.ready = ready
        self.begun = threading.Event()

    @cached_property
    def found(self):
        self.begun.set()
        assert self.ready.wait(30)
        return object()


def test_what_is_computed_for_one_object_does_not_wait_for_another():
    """A lock for all objects would be held for ever in a process that is forked."""
    later, now = OfEach(threading.Event()), OfEach(threading.Event())
    thread = threading.Thread(target=lambda: later.found)
    thread.start()
    assert later.begun.wait(30)
    now.ready.set()
    assert now.found is now.found
    later.ready.set()
    thread.join()
    assert later.found is not now.found


def test_nothing_is_computed_once_under_the_lock_of_functools():
    for path in Path(skimprint.__file__).parent.rglob("*.py"):
        if path.name != "threads.py":
            source = path.read_text(encoding="utf-8")
            assert not re.search("from functools import .*cached_property", source)
            assert "functools.cached_property" not in source


INTERRUPTS = """
import signal
import sys
from skimprint._arrays import threads

lock, interrupted = getattr(threads, sys.argv[1])(), 0

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
while interrupted < 5000:
    try:
        signal.setitimer(signal.ITIMER_REAL, 2e-5)
        while True:
            with lock:
                pass
    except KeyboardInterrupt:
        interrupted += 1
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers")
@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="there, 'with' leaves any lock locked at times"
)
@pytest.mark.parametrize("name", ["ForkSafeLock", "PausableLock"])
def test_an_interrupt_leaves_no_lock_locked(name):
    subprocess.run([sys.executable, "-c", INTERRUPTS, name], check=True, timeout=60)
