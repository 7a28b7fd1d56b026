"""Processes that embed with a cache and are killed; run by test_crashes.py.

A script of its own, because it forks, which a process with torch's threads should not.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from skimprint import FoundationEmbedder
from skimprint.embedding import _cache

N_ITEMS, BATCH_SIZE = 200, 10
TEXTS = [f"text {number}" for number in range(N_ITEMS)]


class Logging:
    """Embeds texts slowly, and notes on disk which."""

    fingerprint = "logging 1"

    def __init__(self, path):
        self.file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def __call__(self, texts):
        os.write(self.file, "".join(f"{text}\n" for text in texts).encode())
        time.sleep(0.001)
        return [row_of(text) for text in texts]


def row_of(text):
    """Embed a text such that it can be told from all others."""
    return [int(text.split()[1]) + 1] * 256


def embed(directory):
    """Embed all texts with the cache in a directory."""
    embedder = FoundationEmbedder(
        Logging(directory / "log"),
        modality="text",
        batch_size=BATCH_SIZE,
        cache_dir=directory / "cache",
    )
    return embedder.transform(TEXTS)


def start(directory, result=None):
    """Embed in a process of its own; return its number."""
    child = os.fork()
    if child == 0:
        try:
            rows = embed(directory)
            if result is not None:
                np.save(result, rows)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child


def wait(child):
    """Wait for a process, and return how it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_running(child):
    """Whether a process goes on; how it ended stays to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def log(directory):
    """Texts that were embedded so far, in order."""
    path = directory / "log"
    return path.read_text("utf-8").splitlines() if path.exists() else []


def killed_runs(folder, patience, n_runs=20):
    """Kill a run at a random moment, resume it, and report; n_runs times."""
    _cache._PATIENCE = patience
    rng = random.Random(0)
    begin = time.perf_counter()
    wait(start(make(folder / "timing")))
    duration = time.perf_counter() - begin
    reports = []
    for run in range(n_runs):
        directory = make(folder / f"run{run}")
        child = start(directory)
        if run % 2:  # at any time, also before the first item and after the last
            time.sleep(rng.uniform(0, duration))
        else:  # in the middle, however long it takes here to come there
            n_embedded = rng.randrange(1, N_ITEMS)
            while len(log(directory)) < n_embedded and is_running(child):
                pass
        os.kill(child, signal.SIGKILL)
        status = wait(child)
        before = len(log(directory))
        status_of_resumed = wait(start(directory, directory / "rows.npy"))
        rows = np.load(directory / "rows.npy")
        embedded = log(directory)
        reports.append(
            {
                "killed": status == -signal.SIGKILL,
                "embedded_before": before,
                "resumed": status_of_resumed == 0,
                "right": rows.tolist() == [row_of(text) for text in TEXTS],
                "embedded_twice": len(embedded) - len(set(embedded)),
                "embedded": len(set(embedded)),
            }
        )
    return reports


def each_batch(folder):
    """Kill runs that write each batch."""
    return killed_runs(folder, patience=0)


def all_at_once(folder):
    """Kill runs that write at their end."""
    return killed_runs(folder, patience=100)


def two_processes(folder):
    """Let two processes embed the same at the same time, then a third."""
    directory = make(folder / "two")
    results = [directory / f"{name}.npy" for name in "abc"]
    children = [start(directory, result) for result in results[:2]]
    statuses = [wait(child) for child in children]
    before = len(log(directory))
    statuses.append(wait(start(directory, results[2])))
    expected = [row_of(text) for text in TEXTS]
    return {
        "statuses": statuses,
        "right": [np.load(result).tolist() == expected for result in results],
        "embedded_by_third": len(log(directory)) - before,
    }


def make(directory):
    """Make a directory and return it."""
    directory.mkdir(parents=True)
    return directory


if __name__ == "__main__":
    run = {run.__name__: run for run in (each_batch, all_at_once, two_processes)}
    print(json.dumps(run[sys.argv[1]](Path(sys.argv[2]))))
