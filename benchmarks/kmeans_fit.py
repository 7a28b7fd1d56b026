"""Time to cluster every class by k-means, against loops over classes."""

import numpy as np
from _kmeans_peers import MANY_THREADS, MISSING, PEERS
from _side_by_side import (
    duration,
    embeddings_like,
    heading,
    interleave,
    progress,
    ratio,
    real_sets,
    table,
)

from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import grouped_kmeans

# Classes, samples of each, features, clusters, structure; classes that peers do.
CASES = [
    (1000, 16, 512, 4, True, 1000),
    (1000, 16, 512, 4, False, 1000),
    (10, 6000, 512, 20, True, 2),
    (10, 6000, 512, 20, False, 2),
    (100, 1300, 768, 20, True, 4),
    (100, 1300, 768, 20, False, 4),
    (100, 1300, 768, 100, True, 2),
    (100, 1300, 768, 100, False, 2),
    (20, 1300, 2048, 20, True, 3),
    (20, 1300, 2048, 20, False, 3),
]
REPEATS = 5


def compare(X, y, k, n_peer_classes):
    """Seconds of each contender for all classes, in rounds of the same seeds."""
    n_classes = int(y.max()) + 1
    # The same classes for all, so that none has the harder ones.
    subset = min(n_classes, n_peer_classes)
    some = y < subset
    X, y = X[some], y[some]
    classes = [X[y == c] for c in range(subset)]
    seeds = {}

    def next_seed(name):
        seeds[name] = seeds.get(name, -1) + 1
        return seeds[name]

    def ours():
        groups = GroupedRows(X, y, subset)
        grouped_kmeans(groups, k, seed=next_seed("ours"), n_jobs=1)

    contenders = {"skimprint": ours}
    for name, peer in PEERS.items():
        contenders[name] = lambda name=name, peer=peer: peer(
            classes, k, next_seed(name)
        )
    seconds = interleave(contenders, REPEATS, rarely=MANY_THREADS)
    return {name: s * n_classes / subset for name, s in seconds.items()}


def row(name, seconds):
    ours = seconds["skimprint"]
    return [name, duration(ours)] + [ratio(seconds[peer], ours) for peer in PEERS]


def main():
    heading(
        "k-means of every class: time to fit",
        "How many times as long each peer takes as skimprint, with one thread "
        "(`n_jobs=1`): median of the ratios within "
        f"{REPEATS} interleaved rounds of different seeds, and their range. The two "
        "that start threads within a class take part in two rounds: on a busy machine "
        "they are very slow.",
        "Of cases with many classes all contenders do the same few, and times are "
        "scaled to all classes; the column says how many.",
        *MISSING,
    )
    header = ["classes x samples, features, clusters", "classes done", "skimprint"]
    rows = []
    for n_classes, n, d, k, structured, n_peer in CASES:
        X, y = embeddings_like(min(n_classes, n_peer), n, d, k, structured=structured)
        seconds = compare(X, y, k, n_peer)
        scale = n_classes / min(n_classes, n_peer)
        seconds = {peer: s * scale for peer, s in seconds.items()}
        name = f"{n_classes} x {n}, d {d}, k {k}"
        name += "" if structured else ", no structure"
        progress(name)
        rows.append(row(name, seconds))
        rows[-1].insert(1, min(n_classes, n_peer))
    for dataset, X, y in real_sets():
        n_done = 2
        per_class = int(np.median(np.bincount(y)))
        seconds = compare(X, y, 20, n_done)
        rows.append(row(f"{dataset}: 10 x {per_class}, d {X.shape[1]}, k 20", seconds))
        rows[-1].insert(1, n_done)
    table(header + list(PEERS), rows)


if __name__ == "__main__":
    main()
