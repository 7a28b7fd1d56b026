"""Settings that go together badly: accuracy by samples of a class."""

import numpy as np
from _side_by_side import heading, load, progress, table

from skimprint import ImprintClassifier
from skimprint.aggregation import Votes
from skimprint.generation import LeastSquaresProxies

FILES = [
    "cifar10_mobilenet_v1",
    "cifar10_mobilenet_v2",
    "mnist_mobilenet_v1",
    "mnist_mobilenet_v2",
    "usps_mobilenet_v1",
    "usps_mobilenet_v2",
    "fashion_efflite0",
    "debian_e5small",
]
SHOTS = [1, 5, 20, 100, "long tail"]
DRAWS = 2
N_QUERIES = 1000
RAW = {"support_norm": None, "proxy_norm": None, "query_norm": None}
PLAIN = {"whitening": None, "mean_weight": 0.0}
REGRESSION = LeastSquaresProxies(alpha="auto")

# What is beside the default, or beside a published method.
SETTINGS = {
    "default": {
        "": {},
        "whitening=None": {"whitening": None},
        "whitening=0": {"whitening": 0.0},
        "mean_weight=0": {"mean_weight": 0.0},
        "mean_weight=0, whitening=0.1": {"mean_weight": 0.0, "whitening": 0.1},
        "query_norm=None": {"query_norm": None},
        "query_norm=None, whitening=0.3": {"query_norm": None, "whitening": 0.3},
        "proxy_norm='quantile'": {"proxy_norm": "quantile"},
        "aggregation='mnn'": {"aggregation": "mnn"},
        "aggregation=Votes(20)": {"aggregation": Votes(20)},
        "metric='euclidean'": {"metric": "euclidean"},
        "metric='euclidean', proxy_norm=None": {
            "metric": "euclidean",
            "proxy_norm": None,
        },
        "metric='euclidean', proxy_norm=None, whitening=0.3": {
            "metric": "euclidean",
            "proxy_norm": None,
            "whitening": 0.3,
        },
        "metric='manhattan'": {"metric": "manhattan"},
        "metric='chebyshev'": {"metric": "chebyshev"},
        "metric='mahalanobis'": {"metric": "mahalanobis"},
        "least squares": {"generator": "least_squares"},
        "least squares, n_proxies=20": {"generator": "least_squares", "n_proxies": 20},
        "least squares, proxy_norm='quantile'": {
            "generator": "least_squares",
            "proxy_norm": "quantile",
        },
        "least squares, alpha='auto'": {"generator": REGRESSION},
        "least squares, n_proxies=20, alpha='auto'": {
            "generator": REGRESSION,
            "n_proxies": 20,
        },
    },
    "qi": {
        "": {},
        "proxy_norm=None": {"proxy_norm": None},
        "no norms": RAW,
        "no norms, metric='cosine'": {**RAW, "metric": "cosine"},
    },
    "janson": {"": {}, "query_norm='l2'": {"query_norm": "l2"}},
    "hosoda": {
        "": {},
        "20 k-means": {"generator": "kmeans"},
        "20 k-means, support_norm='l2'": {"generator": "kmeans", "support_norm": "l2"},
    },
    "westerhoff": {
        "": {},
        "mean_weight='auto'": {"mean_weight": "auto"},
        "mean_weight=0.3": {"mean_weight": 0.3},
        "whitening='auto'": {"whitening": "auto"},
        "whitening=0.1": {"whitening": 0.1},
    },
    "least_squares": {
        "": {},
        "alpha='auto'": {"generator": REGRESSION},
        "n_proxies=20": {"n_proxies": 20},
        "proxy_norm='l2'": {"proxy_norm": "l2"},
        "metric='euclidean'": {"metric": "euclidean"},
        "metric='manhattan'": {"metric": "manhattan"},
        "metric='chebyshev'": {"metric": "chebyshev"},
        "metric='mahalanobis'": {"metric": "mahalanobis"},
    },
}


def draw(data, shots, seed):
    """A support with so many samples of each class, and queries of all alike."""
    X, y, X_test, y_test = data
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.unique(y))
    sizes = np.resize(shots, len(labels))
    if shots == "long tail":
        sizes = np.geomspace(100, 1, len(labels)).round().astype(int)
    rows = np.concatenate(
        [
            rng.permutation(np.flatnonzero(y == label))[:size]
            for label, size in zip(labels, sizes, strict=True)
        ]
    )
    asked = rng.permutation(len(y_test))[:N_QUERIES]
    return X[rows], y[rows], X_test[asked], y_test[asked]


def accuracy(base, changes, support):
    X, y, X_test, y_test = support
    params = {"random_state": 0, "temperature": 1.0, **changes}
    if base == "default":
        clf = ImprintClassifier(**params)
    else:
        clf = ImprintClassifier.from_method(base, **params)
    predicted = clf.fit(X, y).predict(X_test)
    # The mean over classes: they are not equally frequent in all files.
    return 100 * np.mean(
        [(predicted == y_test)[y_test == c].mean() for c in set(y_test)]
    )


def main():
    heading(
        "Settings beside each other",
        "Accuracy in %, each class having the same say, of settings beside the default "
        "of `ImprintClassifier` and beside published methods, by the samples of each "
        "class. In the long tail they fall exponentially from 100 to one. Seven files "
        "of embeddings of pictures (ten classes) and one of short texts (41 classes); "
        f"means over files and {DRAWS} draws, with {N_QUERIES} queries.",
    )
    sets = {name: data for name in FILES if (data := load(name))}
    if not sets:
        return
    found = {}
    for shots in SHOTS:
        for name, data in sets.items():
            progress(f"{shots} samples of {name}")
            for seed in range(DRAWS):
                support = draw(data, shots, seed)
                for base, settings in SETTINGS.items():
                    for text, changes in settings.items():
                        key = base, text, shots
                        value = accuracy(base, changes, support)
                        found.setdefault(key, []).append(value)
    for base, settings in SETTINGS.items():
        rows = [
            [text or "as it is"]
            + [f"{np.mean(found[base, text, shots]):.1f}" for shots in SHOTS]
            for text in settings
        ]
        table([base, *map(str, SHOTS)], rows)


if __name__ == "__main__":
    main()
