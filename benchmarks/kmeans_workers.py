"""Time to fit with one and two workers."""

import numpy as np
from _side_by_side import duration, embeddings_like, heading, interleave, ratio, table

from skimprint._arrays.groups import GroupedRows
from skimprint._arrays.threads import run_tasks
from skimprint.cluster._kmeans import grouped_kmeans

# Classes, samples of each, features, clusters.
CASES = [
    (2000, 16, 512, 4),
    (100, 300, 768, 10),
    (40, 1300, 768, 20),
    (20, 1300, 768, 100),
]
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
            run_tasks(function, list(range(n_tasks)), [1] * n_tasks, n_jobs=n_jobs)

        seconds = interleave({n: lambda n=n, run=run: run(n) for n in (1, 2)}, REPEATS)
        rows.append(
            [
                f"control: {name}",
                duration(seconds[1]),
                duration(seconds[2]),
                ratio(seconds[1], seconds[2]),
            ]
        )
    return rows


def main():
    heading(
        "k-means of every class: workers",
        f"One against two threads over classes, {REPEATS} interleaved rounds: medians "
        "and ranges. Results are the same to the bit. The first lines are controls: "
        "what matrix products, memory and small array operations by themselves gain "
        "from a second thread, on this machine with whatever else it is doing.",
    )
    rows = controls()
    for n_classes, n, d, k in CASES:
        X, y = embeddings_like(n_classes, n, d, k)
        groups = GroupedRows(X, y, n_classes)
        seconds = interleave(
            {
                n_jobs: lambda n_jobs=n_jobs, groups=groups, k=k: grouped_kmeans(
                    groups, k, seed=0, n_jobs=n_jobs
                )
                for n_jobs in (1, 2)
            },
            REPEATS,
        )
        rows.append(
            [
                f"{n_classes} x {n}, d {d}, k {k}",
                duration(seconds[1]),
                duration(seconds[2]),
                ratio(seconds[1], seconds[2]),
            ]
        )
    header = ["classes x samples, features, clusters", "1 worker", "2 workers"]
    table([*header, "speed-up"], rows)


if __name__ == "__main__":
    main()
