"""Time of a whole fit, against the loop over classes that one would write."""

import numpy as np
from _kmeans_peers import MISSING, PEERS
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
from scipy.sparse import csr_matrix
from sklearn.neighbors import NearestCentroid
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from skimprint import ImprintClassifier

# Classes, samples of each, features, proxies.
CASES = [
    (20, 5, 640, 1),
    (20, 20, 768, 4),
    (100, 16, 768, 4),
    (1000, 16, 512, 4),
    (100, 1300, 768, 20),
    (10, 6000, 512, 20),
    (20, 1300, 2048, 20),
]
MEANS = [(1000, 16, 512), (10000, 5, 384), (100, 1300, 768)]
METHODS = ["westerhoff", "default", "recommended"]
LOOPS = [name for name in PEERS if name.endswith("one thread")]
REPEATS = 5


def fit(method, X, y, n_proxies, seed):
    """Fit and predict once: what a setting shares is computed by then."""
    params = {"n_proxies": n_proxies, "random_state": seed, "n_jobs": 1}
    if method == "default":
        clf = ImprintClassifier(**params)
    else:
        clf = ImprintClassifier.from_method(method, **params)
    clf.fit(X, y).predict(X[:1])


def loop(peer, X, y, n_proxies, seed):
    """Do what "westerhoff" does by a loop over classes: the weights of a layer."""
    X = normalize(X)
    centers = peer([X[y == label] for label in np.unique(y)], n_proxies, seed)
    normalize(np.concatenate(centers))


def compare(X, y, n_proxies):
    """Seconds of each method and loop, in rounds of the same seeds."""
    seeds = {}

    def run(name):
        seed = seeds[name] = seeds.get(name, -1) + 1
        if name in PEERS:
            loop(PEERS[name], X, y, n_proxies, seed)
        else:
            fit(name, X, y, n_proxies, seed)

    names = [*METHODS, *LOOPS]
    return interleave({name: lambda name=name: run(name) for name in names}, REPEATS)


def compare_means(X, y):
    """Seconds of a fit of means, and of other ways to the same."""
    one_hot = csr_matrix((np.ones(len(y), X.dtype), (y, np.arange(len(y)))))
    clf = ImprintClassifier.from_method("qi", n_jobs=1)
    return interleave(
        {
            "skimprint": lambda: clf.fit(X, y).predict(X[:1]),
            "product": lambda: normalize(one_hot @ normalize(X)),
            "scikit-learn": lambda: NearestCentroid().fit(normalize(X), y),
        },
        REPEATS,
    )


def row(name, seconds):
    """Time the first contender takes, and how many times as long the others do."""
    ours, *others = seconds.values()
    return [name, duration(ours), *(ratio(each, ours) for each in others)]


def main():
    heading(
        "A fit: time against a loop over classes",
        "`ImprintClassifier.fit` and the prediction of one query, which is when what "
        "classes share is computed: `from_method` of the paper's method and of the "
        "recommended setting, and the default, with as many proxies. Beside them the "
        "loop that one would write: rows are normalised, each class is clustered, the "
        "centres are normalised. All with one thread. Ratios say how many times as "
        "long as the paper's method each takes: medians within "
        f"{REPEATS} interleaved rounds of different seeds, and their range.",
        *MISSING,
    )
    rows = []
    for n_classes, n, d, k in CASES:
        name = f"{n_classes} x {n}, d {d}, k {k}"
        progress(name)
        rows.append(row(name, compare(*embeddings_like(n_classes, n, d, k), k)))
    for dataset, X, y in real_sets():
        n = int(np.median(np.bincount(y)))
        name = f"{dataset}: 10 x {n}, d {X.shape[1]}, k 20"
        rows.append(row(name, compare(X, y, 20)))
    header = ["classes x samples, features, proxies", *METHODS]
    table([*header, *(f"loop: {name.partition(',')[0]}" for name in LOOPS)], rows)
    print(
        'Of means (`from_method("qi")`), against the product of the classes and the '
        "normalised rows as SciPy's sparse matrices do it, and scikit-learn's "
        "`NearestCentroid` of normalised rows:\n"
    )
    rows = []
    for n_classes, n, d in MEANS:
        name = f"{n_classes} x {n}, d {d}"
        progress(name)
        rows.append(row(name, compare_means(*embeddings_like(n_classes, n, d, 4))))
    table(["classes x samples, features", "qi", "product", "NearestCentroid"], rows)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
