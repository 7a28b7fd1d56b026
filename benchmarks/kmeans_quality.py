"""Inertia of the engine's clusters relative to scikit-learn's."""

import numpy as np
from _kmeans_peers import MISSING, faiss, faiss_loop, sklearn_one_thread
from _side_by_side import embeddings_like, heading, progress, real_sets, table

from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import grouped_kmeans

# Classes, samples of each, features, clusters.
CASES = [(400, 16, 512, 4), (40, 300, 512, 10), (12, 1300, 768, 20), (4, 6000, 512, 20)]
SEEDS = range(6)


def inertia(classes, centers):
    """Sum of squared distances to the nearest centre, the same way for all."""
    total = 0.0
    for rows, found in zip(classes, centers, strict=True):
        distances = np.square(rows).sum(axis=1)[:, None] - 2 * rows @ found.T
        distances += np.square(found).sum(axis=1)
        total += distances.min(axis=1).sum(dtype=np.float64)
    return total


def relative(X, y, k):
    """Inertia of skimprint and faiss over that of scikit-learn, seed by seed."""
    classes = [X[y == c] for c in range(int(y.max()) + 1)]
    groups = GroupedRows(X, y, len(classes))
    ours, faiss_s = [], []
    for seed in SEEDS:
        theirs = inertia(classes, sklearn_one_thread(classes, k, seed))
        result = grouped_kmeans(groups, k, seed=seed, n_jobs=1)
        centers = np.split(result.centers, result.offsets[1:-1])
        ours.append(inertia(classes, centers) / theirs)
        if faiss is not None:
            found = faiss_loop(classes, k, seed)
            faiss_s.append(inertia(classes, found) / theirs)
    return ours, faiss_s


def mean(ratios):
    if not ratios:
        return "-"
    error = np.std(ratios, ddof=1) / np.sqrt(len(ratios))
    return f"{np.mean(ratios):.4f} +- {error:.4f}"


def main():
    heading(
        "k-means of every class: quality",
        "Inertia over all classes relative to scikit-learn's `KMeans` with `n_init=1`, "
        f"mean over {len(SEEDS)} seeds and its standard error. Below 1 is better.",
        *MISSING,
    )
    rows = []
    for n_classes, n, d, k in CASES:
        for structured in (True, False):
            X, y = embeddings_like(n_classes, n, d, k, structured=structured)
            name = f"{n_classes} x {n}, d {d}, k {k}"
            name += "" if structured else ", no structure"
            progress(name)
            rows.append([name, *map(mean, relative(X, y, k))])
    for dataset, X, y in real_sets():
        rows.append([f"{dataset}, k 20", *map(mean, relative(X, y, 20))])
    table(["classes x samples, features, clusters", "skimprint", "faiss"], rows)


if __name__ == "__main__":
    main()
