"""Time to fit with one and two workers: threads, processes, a loop over KMeans."""

import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
from _side_by_side import (
    duration,
    embeddings_like,
    heading,
    interleave,
    progress,
    ratio,
    table,
)
from joblib import Parallel, delayed, parallel_config
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from skimprint import ImprintClassifier
from skimprint._arrays import threads
from skimprint.cluster import _kmeans
from skimprint.generation import _base

# Classes, samples of each, features, clusters.
CASES = [
    (2000, 16, 512, 4),
    (100, 300, 768, 10),
    (100, 1300, 768, 20),
    (100, 1300, 768, 100),
]
N_CORES = 4, 16, 64
REPEATS = 5


def controls():
    """Rows of a table for what k-means is made of, each by itself."""
    X, _ = embeddings_like(1, 1300, 768, 20)
    large = [np.ones(2**24, np.float32) for _ in range(2)]
    small = [np.ones(2**12, np.float32) for _ in range(2)]

    def product(_):
        return X @ X[:20].T

    def pass_over_memory(i):
        np.add(large[i % 2], 1, out=large[i % 2])

    def small_operations(i):
        for _ in range(1000):
            np.add(small[i % 2], 1, out=small[i % 2])

    rows = []
    for name, function, n_tasks in [
        ("500 products of 1300 x 768 by 768 x 20", product, 500),
        ("30 additions to 64 MiB", pass_over_memory, 30),
        ("30,000 additions to 16 KiB", small_operations, 30),
    ]:

        def run(n_jobs, function=function, n_tasks=n_tasks):
            tasks = list(range(n_tasks))
            threads.run_tasks(function, tasks, [1] * n_tasks, n_jobs=n_jobs)

        seconds = interleave({n: lambda n=n, run=run: run(n) for n in (1, 2)}, REPEATS)
        rows.append(
            [name, duration(seconds[1]), duration(seconds[2]), ratio(*seconds.values())]
        )
    return rows


def fit(X, y, k, n_jobs, backend="threading"):
    """Learn the paper's method: k-means of each class, and the nearest proxy."""
    clf = ImprintClassifier.from_method(
        "westerhoff", n_proxies=k, random_state=0, n_jobs=n_jobs
    )
    with parallel_config(backend):
        return clf.fit(X, y)


def fit_kmeans(X, k):
    """Cluster one class by scikit-learn."""
    with threadpool_limits(1):
        return KMeans(k, random_state=0).fit(X).cluster_centers_


def loop(X, y, k, n_jobs):
    """Cluster each class by scikit-learn, in processes if more than one."""
    return Parallel(n_jobs)(delayed(fit_kmeans)(X[y == c], k) for c in np.unique(y))


def share_of_parent(run, seconds):
    """Share of so many seconds that this process computes while others do the rest."""
    start = time.process_time()
    run()
    return (time.process_time() - start) / seconds


class TimedLock(threads.PausableLock):
    """Say how long it was held."""

    held = 0

    def __enter__(self):
        super().__enter__()
        self.start = time.thread_time()
        return self

    def __exit__(self, *error):
        TimedLock.held += time.thread_time() - self.start
        super().__exit__(*error)

    @contextlib.contextmanager
    def pause(self, *args):
        before = time.thread_time()
        with super().pause(*args):
            released = not self._lock.locked()
            if released:
                TimedLock.held += before - self.start
            yield
        if released:
            self.start = time.thread_time()


def share_of_one_thread(run, n_threads):
    """Share of a fit that one thread at a time does, in tasks made for so many.

    It is CPU time on one thread, where nothing waits.
    """
    in_tasks = 0

    def run_tasks(*args, **kwargs):
        nonlocal in_tasks
        start = time.thread_time()
        found = threads.run_tasks(*args, **kwargs)
        in_tasks += time.thread_time() - start
        return found

    names = {
        (_kmeans, "effective_n_jobs"): lambda _: n_threads,
        (_kmeans, "PausableLock"): TimedLock,
        (_kmeans, "run_tasks"): run_tasks,
        (_base, "run_tasks"): run_tasks,
    }
    before = {(module, name): getattr(module, name) for module, name in names}
    TimedLock.held = 0
    start = time.thread_time()
    try:
        for (module, name), value in names.items():
            setattr(module, name, value)
        run()
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)
    seconds = time.thread_time() - start
    return (seconds - in_tasks + TimedLock.held) / seconds


def bound(share, n_cores):
    """Bound the gain from so many cores by Amdahl's law, as text."""
    return f"{share:.2f}: {1 / (share + (1 - share) / n_cores):.2g}x"


def main():
    heading(
        "k-means of every class: workers",
        f"One against two workers over classes, {REPEATS} interleaved rounds (the loop "
        "over scikit-learn: two): medians and ranges. Results are the same to the bit. "
        "The first table has controls: what matrix products, memory and small array "
        "operations by themselves gain from a second thread, on this machine with "
        "whatever else it is doing.",
    )
    table(["control", "1 thread", "2 threads", "speed-up"], controls())
    times, gains, shares = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for n_classes, n, d, k in CASES:
            case = f"{n_classes} x {n}, d {d}, k {k}"
            progress(case)
            X, y = embeddings_like(n_classes, n, d, k)
            np.save(Path(folder) / "X.npy", X)
            mapped = np.load(Path(folder) / "X.npy", mmap_mode="r")
            ways = {
                "1 thread": lambda X=X, y=y, k=k: fit(X, y, k, 1),
                "2 threads": lambda X=X, y=y, k=k: fit(X, y, k, 2),
                "2 processes": lambda X=X, y=y, k=k: fit(X, y, k, 2, "loky"),
                "2 processes, X mapped": lambda X=mapped, y=y, k=k: fit(
                    X, y, k, 2, "loky"
                ),
                "KMeans": lambda X=X, y=y, k=k: loop(X, y, k, 1),
                "KMeans, 2 processes": lambda X=X, y=y, k=k: loop(X, y, k, 2),
            }
            loops = ["KMeans", "KMeans, 2 processes"]
            loop(X[:n], y[:n], k, 2)  # starts the processes
            seconds = interleave(ways, REPEATS, rarely=loops)
            medians = {name: np.median(each) for name, each in seconds.items()}
            times.append([case, *map(duration, seconds.values())])
            one, *others = list(ways)[:4]
            gains.append(
                [
                    case,
                    *(ratio(seconds[one], seconds[other]) for other in others),
                    ratio(*(seconds[name] for name in loops)),
                ]
            )
            one_thread = [share_of_one_thread(ways[one], n) for n in N_CORES]
            parents = [
                share_of_parent(ways[name], medians[alone])
                for name, alone in [
                    ("2 processes", one),
                    ("2 processes, X mapped", one),
                    ("KMeans, 2 processes", "KMeans"),
                ]
            ]
            shares += [
                [case, n, *(bound(share, n) for share in (threaded, *parents))]
                for n, threaded in zip(N_CORES, one_thread, strict=True)
            ]
    table(["fit", *ways], times)
    workers = ["threads", "processes", "processes, X mapped", "processes, KMeans"]
    table(["gain from two", *workers], gains)
    print(
        "What one worker at a time does, as a share of the time with one, and how much "
        "the others could gain at most. With threads, it is what is done before, after "
        "and, by one thread at a time, within the tasks that classes are split into "
        "for so many threads; with processes, what the parent computes.\n"
    )
    table(["fit", "cores", *workers], shares)


if __name__ == "__main__":
    main()
