"""Time to fit with one and two workers."""

from _side_by_side import duration, embeddings_like, heading, interleave, ratio, table

from skimprint._groups import GroupedRows
from skimprint._kmeans import grouped_kmeans
from skimprint._threads import run_tasks

# Classes, samples of each, features, clusters.
CASES = [
    (2000, 16, 512, 4),
    (100, 300, 768, 10),
    (40, 1300, 768, 20),
    (20, 1300, 768, 100),
]
REPEATS = 5


def control():
    """The row of a table for products that have nothing to do with k-means."""
    X, _ = embeddings_like(1, 1300, 768, 20)

    def products(n_jobs):
        run_tasks(lambda _: X @ X[:20].T, list(range(500)), [1] * 500, n_jobs=n_jobs)

    seconds = interleave({n: lambda n=n: products(n) for n in (1, 2)}, REPEATS)
    return [
        "control: 500 products of 1300 x 768 by 768 x 20",
        duration(seconds[1]),
        duration(seconds[2]),
        ratio(seconds[1], seconds[2]),
    ]


def main():
    heading(
        "k-means of every class: workers",
        f"One against two threads over classes, {REPEATS} interleaved rounds: medians "
        "and ranges. Results are the same to the bit. The first line is a control: "
        "what bare matrix products of the same shape gain from a second thread, on "
        "this machine with whatever else it is doing.",
    )
    rows = [control()]
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
