"""How the time to fit grows with classes, samples, features and clusters."""

import numpy as np
from _side_by_side import duration, embeddings_like, heading, interleave, table

from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import grouped_kmeans

BASE = {"n_classes": 4, "n": 1000, "d": 256, "k": 10}
GROWTH = {
    "n_classes": [2, 4, 8, 16, 32],
    "n": [250, 500, 1000, 2000, 4000, 8000],
    "d": [128, 256, 512, 1024, 2048],
    "k": [5, 10, 20, 40, 80],
}
NAMES = {"n_classes": "classes", "n": "samples per class", "d": "features", "k": "k"}
REPEATS = 3


def main():
    heading(
        "k-means of every class: growth of the time to fit",
        "One quantity grows, the others stay at "
        + ", ".join(f"{value} {NAMES[key]}" for key, value in BASE.items())
        + f". One thread, {REPEATS} interleaved rounds, embedding-like data with as "
        "many sub-clusters as clusters. The exponent is the slope of a line through "
        "the logarithms: 1 is proportional.",
    )
    rows = []
    for key, values in GROWTH.items():
        contenders = {}
        for value in values:
            case = BASE | {key: value}
            X, y = embeddings_like(case["n_classes"], case["n"], case["d"], case["k"])
            groups = GroupedRows(X, y, case["n_classes"])
            contenders[value] = lambda groups=groups, k=case["k"]: grouped_kmeans(
                groups, k, seed=0, n_jobs=1
            )
        seconds = interleave(contenders, REPEATS)
        medians = [np.median(seconds[value]) for value in values]
        exponent = np.polyfit(np.log(values), np.log(medians), 1)[0]
        times = ", ".join(f"{v}: {duration(seconds[v])}" for v in values)
        rows.append([NAMES[key], f"{exponent:.2f}", times])
    table(["grows", "exponent", "time: median (range)"], rows)


if __name__ == "__main__":
    main()
