"""ImprintClassifierCV beside GridSearchCV, on grids that share much and little."""

import warnings

import numpy as np
from _side_by_side import (
    duration,
    heading,
    interleave,
    progress,
    ratio,
    real_embeddings,
    table,
)
from sklearn.model_selection import GridSearchCV

from skimprint import ImprintClassifier, ImprintClassifierCV
from skimprint.aggregation import Votes
from skimprint.datasets import load_digits_embeddings

N_SAMPLES = 3000
REPEATS = 3

# 60 candidates each.
GRIDS = {
    "votes: 5 clusterings": {
        "n_proxies": [1, 2, 5, 10, 20],
        "proxy_norm": [None, "l2"],
        "query_norm": [None, "l2"],
        "metric": ["cosine"],
        "aggregation": [Votes(1), Votes(3), Votes(5)],
    },
    "norms and metrics: 5 clusterings": {
        "n_proxies": [1, 2, 5, 10, 20],
        "proxy_norm": [None, "l2"],
        "query_norm": [None, "l2"],
        "metric": ["dot", "cosine", "euclidean"],
    },
    "whitening: 3 clusterings, 10 shrinkages": {
        "n_proxies": [1, 5, 20],
        "whitening": [0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, "auto"],
        "proxy_norm": [None, "l2"],
    },
    "60 clusterings: 30 numbers of proxies, 2 norms": {
        "n_proxies": list(range(1, 31)),
        "support_norm": [None, "l2"],
    },
}


def main():
    data = real_embeddings("cifar10_mobilenet_v1")
    if data is None:
        data = load_digits_embeddings(return_X_y=True)
    X, y = data
    chosen = np.random.default_rng(0).permutation(len(y))[:N_SAMPLES]
    X, y = X[chosen], y[chosen]
    heading(
        "Choosing parameters by cross-validation",
        f"{len(X)} embeddings of {X.shape[1]} features, {len(np.unique(y))} classes; "
        "60 candidates and 5 folds, one worker. The same scores of all candidates in "
        f"all folds, and the same choice, are checked. {REPEATS} interleaved rounds: "
        "medians and ranges.",
    )
    rows = []
    for name, grid in GRIDS.items():
        progress(name)
        clf = ImprintClassifier.from_method("westerhoff", random_state=0)
        ours, peer = ImprintClassifierCV(clf, grid), GridSearchCV(clf, grid)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "n_neighbors=")  # more than the proxies
            seconds = interleave(
                {
                    "ours": lambda ours=ours: ours.fit(X, y),
                    "peer": lambda peer=peer: peer.fit(X, y),
                },
                REPEATS,
                rarely=("peer",) if "whitening" in grid else (),
                warm_up=False,
            )
        check_same(ours, peer)
        rows.append(
            [
                name,
                duration(seconds["ours"]),
                duration(seconds["peer"]),
                ratio(seconds["peer"], seconds["ours"]),
            ]
        )
    table(["candidates", "ImprintClassifierCV", "GridSearchCV", "ratio"], rows)


def check_same(ours, peer):
    """Both searches must have found the same scores, and choose the same."""
    assert ours.best_params_ == peer.best_params_
    for fold in range(peer.n_splits_):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(ours.cv_results_[name], peer.cv_results_[name])


if __name__ == "__main__":
    main()
