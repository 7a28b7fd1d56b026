"""How long the report of 10,000 queries takes."""

import pickle
import time

import numpy as np
from _side_by_side import duration, embeddings_like, heading, progress, table

from skimprint import ImprintClassifier
from skimprint.inspection import report

# Classes, training samples of each, features.
CASES = [(10, 600, 1024), (77, 130, 384)]
SETTINGS = ["westerhoff", "default", "recommended"]
N_QUERIES = 10_000
ROUNDS = 3


def problem(n_classes, n, d):
    """Training samples and queries of the same classes, with their labels."""
    n_queries = -(-N_QUERIES // n_classes)
    X, y = embeddings_like(n_classes, n + n_queries, d, 20)
    learns = np.arange(len(y)) % (n + n_queries) < n
    return X[learns], y[learns], X[~learns][:N_QUERIES], y[~learns][:N_QUERIES]


def seconds(model, X, y, queries, labels):
    """How long a report takes of a model that has answered nothing yet."""
    clf = pickle.loads(model)
    start = time.perf_counter()
    report(clf, queries, labels, X_train=X, y_train=y)
    return time.perf_counter() - start


def main():
    heading(
        "The report",
        f"Time of `report` for {N_QUERIES:,} queries that are row numbers, with "
        "`X_train` and `y_train`, in the threads that BLAS takes by default. At first "
        "the temperature of the classifier is found too; `predict_proba` would have "
        f"found it. Data as embeddings are, float32; medians of {ROUNDS} and their "
        "range.",
    )
    rows = []
    for case in CASES:
        progress(case)
        X, y, *queries = problem(*case)
        for setting in SETTINGS:
            clf = ImprintClassifier(random_state=0)
            if setting != "default":
                clf = ImprintClassifier.from_method(setting, random_state=0)
            models = [pickle.dumps(clf.fit(X, y))]
            clf.predict_proba(X[:1])
            models.append(pickle.dumps(clf))
            found = [
                [seconds(model, X, y, *queries) for model in models]
                for _ in range(ROUNDS)
            ]
            name = " x ".join(map(str, case))
            rows.append([name, setting, *map(duration, np.transpose(found))])
    table(["classes x samples x features", "setting", "at first", "again"], rows)


if __name__ == "__main__":
    main()
