"""What `skimprint.dask.fit` would move and hold at sizes that no test can have."""

import numpy as np
from _side_by_side import heading, table

from skimprint._space.kernel_ridge import MAX_ROWS
from skimprint.dask._buckets import buckets

# Rows, classes, features; machines, threads of each, GB for each thread; GB of a chunk.
CASES = {
    "ImageNet-1k": (1_281_167, 1_000, 768, 2, 16, 4, 0.25),
    "ImageNet-21k": (14_197_122, 21_841, 768, 4, 16, 4, 0.25),
    "10^8 rows": (10**8, 10**5, 768, 16, 16, 4, 0.5),
    "10^9 rows": (10**9, 10**6, 768, 64, 16, 4, 2),
}
N_PROXIES = 20

# Pieces beyond which the scheduler is too slow: half an hour for a millisecond of each.
MAX_PIECES = 2_000_000


def class_sizes(n_rows, n_classes):
    """Draw classes whose sizes differ as in ImageNet-21k: from 1 to thousands."""
    sizes = np.random.default_rng(0).lognormal(0, 1, n_classes)
    return np.maximum(1, (n_rows * sizes / sizes.sum()).astype(int))


def size_of(n_bytes):
    for unit, scale in (("TB", 1e12), ("GB", 1e9)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.3g} {unit}"
    return f"{n_bytes / 1e6:.3g} MB"


def row_of(case):
    n_rows, n_classes, d, n_machines, n_threads, thread_gb, chunk_gb = CASES[case]
    counts = dict(enumerate(class_sizes(n_rows, n_classes).tolist()))
    row_bytes = 4 * d
    n_bytes = row_bytes * sum(counts.values())
    bucket_of, large, _ = buckets(
        counts, row_bytes, n_machines * n_threads, thread_gb * 1e9
    )
    rows = np.zeros(max(bucket_of.values()) + 1)
    np.add.at(rows, [bucket_of[label] for label in counts], list(counts.values()))
    n_chunks = int(np.ceil(n_bytes / (chunk_gb * 1e9)))
    n_pieces = n_chunks * len(rows)
    # Of docs/guide/memory.md: proxies, points and samples, and sums.
    n_samples = max(1, MAX_ROWS // n_classes)
    n_points = np.minimum(list(counts.values()), 20 * N_PROXIES)
    of_classes = (N_PROXIES + n_points + n_samples) * (row_bytes + 24) + 16 * d + 8
    return [
        case,
        size_of(n_bytes),
        f"{n_machines} x {n_threads}",
        len(rows),
        len(large),
        # As they come, joined, and a part of them as they are learnt.
        size_of(2 * rows.max() * row_bytes),
        size_of(n_bytes * (1 - 1 / n_machines)),
        f"{n_pieces:,}{'' if n_pieces <= MAX_PIECES else ' (too many)'}",
        size_of(n_classes * (16 * d + 8)),
        size_of(of_classes.sum()),
    ]


def main():
    heading(
        "How far does it scale: a plan without data",
        "Nothing is learnt here: the code that spreads classes over workers is given "
        "class sizes alone. Embeddings of 768 features in float32, classes of very "
        "different sizes, 4 GB for each thread of a worker, chunks of 0.25, 0.25, 0.5 "
        "and 2 GB. A group of classes is learnt by one thread. Each piece, the rows of "
        "a chunk that belong to a group, is a task of the scheduler. More than "
        f"{MAX_PIECES:,} are called too many: dask names up to a millisecond for each, "
        "which is half an hour. The client holds the model: of means, "
        "and at most of the default setting, which for more classes than it can hold "
        "is to be learnt by files and groups of classes instead.",
    )
    table(
        [
            "data",
            "size",
            "machines x threads",
            "groups",
            "classes by parts",
            "largest group, twice",
            "over the network",
            "pieces",
            "client, means",
            "client, default",
        ],
        [row_of(case) for case in CASES],
    )


if __name__ == "__main__":
    main()
