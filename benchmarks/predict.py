"""Time to predict, against the bare matrix product and scikit-learn's neighbours."""

import tracemalloc

import numpy as np
from _side_by_side import duration, heading, interleave, progress, ratio, table
from sklearn.neighbors import KNeighborsClassifier

from skimprint import ImprintClassifier
from skimprint.aggregation import Votes

# Queries, features, classes, proxies per class.
CASES = [
    (10_000, 512, 1000, 4),
    (10_000, 768, 100, 20),
    (10_000, 2048, 20, 20),
    (10_000, 1024, 10, 20),
    (20_000, 512, 100, 1),
    (100_000, 512, 10, 1),
]
REPEATS = 7
SETTLE = 0.15  # seconds


def problem(n_queries, d, n_classes, k, **params):
    """Queries, and a classifier with random proxies."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_queries, d), dtype=np.float32)
    proxies = rng.standard_normal((n_classes * k, d), dtype=np.float32)
    clf = ImprintClassifier.from_method("westerhoff", generator="all", **params)
    return X, clf.fit(proxies, np.repeat(np.arange(n_classes), k))


def against_the_product(n_queries, d, n_classes, k):
    X, clf = problem(n_queries, d, n_classes, k)
    neighbors = KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    neighbors.fit(clf.proxies_, clf.proxy_labels_)
    transposed = clf.proxies_.T
    # The neighbours are so much slower that a tenth of the queries will do.
    few = X[: n_queries // 10]
    ours = {
        "predict": lambda: clf.predict(X),
        "decision_function": lambda: clf.decision_function(X),
        "predict_proba": lambda: clf.predict_proba(X),
    }
    both = {"product": lambda: X @ transposed, "predict": ours["predict"]}
    seconds = interleave(
        both | ours | {"neighbors": lambda: neighbors.predict(few)},
        REPEATS,
        rarely=("neighbors",),
        settle=SETTLE,
    )
    at_once = interleave(both, REPEATS)
    product = seconds["product"]
    return [
        f"{n_queries} x {d}, {n_classes} x {k} proxies",
        duration(product),
        *(ratio(seconds[name], product) for name in ours),
        ratio(at_once["predict"], at_once["product"]),
        ratio(10 * seconds["neighbors"], seconds["predict"]),
    ]


def votes_in_bounded_memory():
    """Nearest-neighbour votes among 50,000 proxies: seconds and peak memory."""
    X, clf = problem(
        5000, 256, 100, 500, aggregation=Votes(weights="distance"), metric="cosine"
    )
    neighbors = KNeighborsClassifier(
        5, metric="cosine", weights="distance", algorithm="brute"
    ).fit(clf.proxies_, clf.proxy_labels_)
    seconds = interleave(
        {"ours": lambda: clf.predict(X), "neighbors": lambda: neighbors.predict(X)}, 3
    )
    tracemalloc.start()
    clf.predict(X)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    whole = len(X) * len(clf.proxies_) * 4 / 2**20
    return [
        duration(seconds["ours"]),
        ratio(seconds["neighbors"], seconds["ours"]),
        f"{peak:.0f} MiB",
        f"{whole:.0f} MiB",
    ]


def main():
    heading(
        "Prediction",
        "`predict`, `decision_function` and `predict_proba` in multiples of the time "
        "of the bare product `X @ proxies.T`, float32 (the check for NaN and infinity "
        "included); and how many times as long as "
        "`predict` scikit-learn's `KNeighborsClassifier(1, metric='cosine')` takes on "
        "the same proxies (on a tenth of the queries). Median of the ratios within "
        f"{REPEATS} interleaved rounds, and their range.",
        "In each round every contender waits until the threads of the one before have "
        "gone to sleep, and is called once before it is timed. Not so in the column "
        "'at once': there, NumPy's threads still spin after the product, on a core "
        "that `predict` would use.",
    )
    rows = []
    for case in CASES:
        progress(f"predict {case}")
        rows.append(against_the_product(*case))
    names = ["predict", "decision_function", "predict_proba", "predict, at once"]
    table(
        ["queries, proxies", "product", *names, "KNeighborsClassifier / predict"], rows
    )
    print("Votes of the 5 nearest of 50,000 proxies, by cosine distance:\n")
    progress("votes")
    header = ["predict", "KNeighborsClassifier / predict", "peak memory"]
    table([*header, "all similarities at once"], [votes_in_bounded_memory()])


if __name__ == "__main__":
    main()
