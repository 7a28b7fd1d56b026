"""Time to select samples of every class, against a loop over classes."""

import numpy as np
from _side_by_side import (
    duration,
    embeddings_like,
    heading,
    interleave,
    ratio,
    table,
)
from sklearn.metrics import pairwise_distances
from threadpoolctl import ThreadpoolController

from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmedoids import grouped_kmedoids
from skimprint.cluster._selection import grouped_cov_max, grouped_fps

try:
    import torch
except ImportError:
    torch = None

_controller = ThreadpoolController()

N_CLASSES, N, D = 1000, 50, 512
REPEATS = 5


def cov_max(X, k):
    """The n x n covariance of a class, its row sums, and the k largest."""
    return np.argsort(-np.cov(X).sum(axis=1))[:k]


def fps(X, k):
    """Distances to all selected rows, again for each one that is added."""
    chosen = [np.argmax(np.linalg.norm(X - X.mean(axis=0), axis=1))]
    for _ in range(k - 1):
        if torch is None:
            distances = pairwise_distances(X, X[chosen])
        else:
            distances = torch.cdist(torch.from_numpy(X), torch.from_numpy(X[chosen]))
            distances = distances.numpy()
        chosen.append(distances.min(axis=1).argmax())
    return chosen


def kmedoids(X, k):
    """Alternate updates from the rows of least total distance, cluster by cluster."""
    D = pairwise_distances(X)
    medoids = np.argpartition(D.sum(axis=1), k - 1)[:k]
    for _ in range(300):
        labels = D[medoids].argmin(axis=0)
        before = medoids.copy()
        for j in range(k):
            members = np.flatnonzero(labels == j)
            costs = D[np.ix_(members, members)].sum(axis=1)
            if costs.min() < costs[members == medoids[j]][0]:
                medoids[j] = members[costs.argmin()]
        if np.array_equal(medoids, before):
            break
    return medoids


def loop(peer, classes, k):
    """One class after the other, on one thread: many are slower still."""
    with _controller.limit(limits=1):
        return [peer(rows, k) for rows in classes]


def main():
    notes = [] if torch else ["torch is not installed: scikit-learn stands in for it."]
    heading(
        "Selecting samples of every class",
        f"{N_CLASSES} classes of {N}, {D} features, one worker. The reference's way, "
        "restated, loops over classes. All on one thread. "
        f"{REPEATS} interleaved rounds: medians and ranges.",
        *notes,
    )
    X, y = embeddings_like(N_CLASSES, N, D, 5)
    groups = GroupedRows(X, y, N_CLASSES)
    classes = [X[y == c] for c in range(N_CLASSES)]

    def heuristic_kmedoids(groups, k):
        return grouped_kmedoids(groups, k, init="heuristic")

    rows = []
    for name, ours, peer in [
        ("cov_max", grouped_cov_max, cov_max),
        ("fps", grouped_fps, fps),
        ("kmedoids, the reference's start", heuristic_kmedoids, kmedoids),
        ("kmedoids, k-medoids++", grouped_kmedoids, kmedoids),
    ]:
        for k in (5, 20):
            seconds = interleave(
                {
                    "ours": lambda ours=ours, k=k: ours(groups, k),
                    "peer": lambda peer=peer, k=k: loop(peer, classes, k),
                },
                REPEATS,
            )
            rows.append(
                [
                    name,
                    k,
                    duration(seconds["ours"]),
                    duration(seconds["peer"]),
                    ratio(seconds["peer"], seconds["ours"]),
                ]
            )
    table(["generator", "k", "skimprint", "reference's way", "ratio"], rows)


if __name__ == "__main__":
    main()
