"""Peak memory of a fit beyond X, in fresh processes."""

import json
import subprocess
import sys

from _side_by_side import heading, table

# Classes, samples of each, features, clusters, workers.
CASES = [
    (1000, 16, 512, 4, 1),
    (100, 1300, 512, 20, 1),
    (100, 1300, 512, 20, 2),
    (30, 2500, 512, 100, 2),
    (1, 60000, 512, 20, 1),
    (300, 200, 512, 1, 1),
]

# Peak resident memory is that of the whole life of a process, so X is made without
# temporary arrays, and a small fit comes first to load what a fit needs.
CHILD = """
import json, resource, sys
import numpy as np
from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import grouped_kmeans

n_classes, n, d, k, n_jobs = json.loads(sys.argv[1])
X = np.empty((n_classes * n, d), np.float32)
np.random.default_rng(0).standard_normal(out=X, dtype=np.float32)
y = np.arange(len(X)) % n_classes
warm_up = GroupedRows(X[:500, :8].copy(), np.arange(500) % 2, 2)
grouped_kmeans(warm_up, 3, seed=0, n_jobs=2)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
grouped_kmeans(
    GroupedRows(X, y, n_classes), k, seed=0, max_iter=10, n_jobs=n_jobs
)
print(json.dumps([X.nbytes, peak() - before]))
"""


def main():
    heading(
        "k-means of every class: peak memory",
        "Growth of the peak resident memory of a fresh process during a fit; X is "
        "float32 and its classes come mixed, so that all rows are gathered.",
    )
    rows = []
    for case in CASES:
        n_classes, n, d, k, n_jobs = case
        output = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(case)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        size, growth = json.loads(output)
        rows.append(
            [
                f"{n_classes} x {n}, d {d}, k {k}",
                n_jobs,
                f"{size / 2**20:.0f} MiB",
                f"{growth / 2**20:.0f} MiB",
                f"{growth / size:.2f}",
            ]
        )
    header = ["classes x samples, features, clusters", "workers", "X"]
    table([*header, "beyond X", "relative to X"], rows)


if __name__ == "__main__":
    main()
