"""Accuracy where support sets are not clean: long tails, wrong labels, blur."""

import warnings

import numpy as np
from _side_by_side import EMBEDDINGS, heading, progress, table
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from skimprint import ImprintClassifier
from skimprint.normalization import l2_normalize, power_normalize

FILES = [
    "cifar10_mobilenet_v1",
    "mnist_mobilenet_v2",
    "usps_mobilenet_v1",
    "fashion_efflite0",
    "debian_e5small",
]
N_DRAWS = 2
N_TEST = 2000

# Samples of a class: in the long tail they fall to one, exponentially.
LONGEST = 200
SHOTS = 50
SHOTS_OF_MANY = 20  # of more than 20 classes


def contenders(X, n_classes):
    """Make all heads; the peers get the norm that ours choose, and balanced classes."""
    norm = FunctionTransformer(power_normalize if X.min() >= 0 else l2_normalize)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    uniform = np.full(n_classes, 1 / n_classes)
    return {
        "recommended": ImprintClassifier.from_method("recommended", random_state=0),
        "default": ImprintClassifier(random_state=0),
        "Westerhoff, k-means 20": ImprintClassifier.from_method(
            "westerhoff", random_state=0
        ),
        "Qi": ImprintClassifier.from_method("qi"),
        "RBF SVM, cross-validated": make_pipeline(
            norm,
            GridSearchCV(
                SVC(class_weight="balanced"),
                {"C": [1, 10, 100], "gamma": [0.5, 2]},
                cv=folds,
                scoring="balanced_accuracy",
            ),
        ),
        "ridge, by leave-one-out": make_pipeline(
            norm, RidgeClassifierCV(np.logspace(-3, 2, 11), class_weight="balanced")
        ),
        "shrinkage LDA, uniform priors": make_pipeline(
            norm, LinearDiscriminantAnalysis("lsqr", shrinkage="auto", priors=uniform)
        ),
    }


def support_sets(y, rng):
    """Yield the name of a condition, samples, and their labels."""
    n_classes = y.max() + 1
    shots = SHOTS if n_classes <= 20 else SHOTS_OF_MANY
    order = [rng.permutation(np.flatnonzero(y == c)) for c in range(n_classes)]
    clean = np.concatenate([rows[:shots] for rows in order])
    yield "clean", clean, y[clean]
    sizes = np.geomspace(LONGEST, 1, n_classes).round().astype(int)
    sizes = rng.permutation(sizes)
    tail = np.concatenate([rows[:n] for rows, n in zip(order, sizes, strict=True)])
    yield f"long tail, {LONGEST} to 1 a class", tail, y[tail]
    for share in (0.1, 0.3):
        labels = y[clean].copy()
        wrong = rng.random(len(labels)) < share
        labels[wrong] += rng.integers(1, n_classes, wrong.sum())
        yield f"{share:.0%} of labels wrong", clean, labels % n_classes


def main():
    heading(
        "Not clean, not balanced",
        "Accuracy in percent on balanced test sets, mean over "
        f"{len(FILES)} files ({', '.join(FILES)}) and {N_DRAWS} draws: {SHOTS} samples "
        f"of a class, {SHOTS_OF_MANY} where classes are many. Blurred queries: "
        "fashion_efflite0 only. All peers get the norms of the recommended setting and "
        "balanced classes; hyperparameters are chosen on the support set.",
    )
    if not EMBEDDINGS.is_dir():
        print("Nothing was measured: this needs the embeddings in ../shared.")
        return
    found = {}
    for name in FILES:
        with np.load(EMBEDDINGS / f"{name}.npz") as file:
            data = dict(file)
        classes, y = np.unique(data["y_train"], return_inverse=True)
        y_test = np.searchsorted(classes, data["y_test"])
        X, X_test = (data[f"X_{part}"].astype(np.float32) for part in ("train", "test"))
        some = np.random.default_rng(0).permutation(len(y_test))[:N_TEST]
        for draw in range(N_DRAWS):
            rng = np.random.default_rng(draw)
            for condition, rows, labels in support_sets(y, rng):
                progress(f"{name}, draw {draw}, {condition}")
                for head, model in contenders(X, len(classes)).items():
                    with warnings.catch_warnings():
                        # Some classes have fewer samples than there are folds, or one.
                        for text in ("The least populated class", "Only one sample"):
                            warnings.filterwarnings("ignore", text)
                        model.fit(X[rows], labels)
                    tests = {condition: X_test}
                    if condition == "clean" and "X_test_blur" in data:
                        tests["blurred queries"] = data["X_test_blur"]
                    for test, queries in tests.items():
                        queries = queries[some].astype(np.float32)
                        accuracy = 100 * model.score(queries, y_test[some])
                        found.setdefault(test, {}).setdefault(head, []).append(accuracy)
    heads = list(found["clean"])
    table(
        ["condition", *heads],
        [
            [condition, *(f"{np.mean(accuracies[head]):.1f}" for head in heads)]
            for condition, accuracies in found.items()
        ],
    )


if __name__ == "__main__":
    main()
