"""Show what skimprint does, in a minute: ``python examples/demo.py [PICTURE]``.

Real digits, embedded by a network that was trained on photographs. Compares the
published methods at several numbers of shots, searches over components, explains
three predictions by their nearest proxies, and writes a report on all of them to
``report.html`` beside the picture.
"""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skimprint import ImprintClassifier
from skimprint.aggregation import Votes
from skimprint.datasets import load_digits_embeddings
from skimprint.generation import KMeansProxies
from skimprint.inspection import report
from skimprint.methods import PUBLISHED_METHODS, RECOMMENDED

METHODS = {
    "Qi et al. 2018: one mean": PUBLISHED_METHODS["qi"],
    "Hosoda et al. 2024: quantiles": PUBLISHED_METHODS["hosoda"],
    "Janson et al. 2022: nearest mean": PUBLISHED_METHODS["janson"],
    "Westerhoff et al. 2025: 20 k-means": PUBLISHED_METHODS["westerhoff"],
    "least-squares oracle": PUBLISHED_METHODS["least_squares"],
    "the default: whitened": {},
    "recommended: with a kernel, too": RECOMMENDED,
}
SHOTS = (1, 5, 20, "all")
N_SPLITS = 5

# Colours and markers that colour-blind people tell apart, after Okabe and Ito (2008).
COLORS = ["#000000", "#56b4e9", "#009e73", "#e69f00", "#cc79a7", "#0072b2", "#d55e00"]
MARKERS = "vX^dPos"
RIGHT, WRONG = "#0072b2", "#d55e00"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", type=Path, default=Path("demo.png"))
    path = parser.parse_args().picture
    start = perf_counter()

    digits = load_digits_embeddings()
    X, y = digits.data, digits.target
    splitter = StratifiedShuffleSplit(N_SPLITS, test_size=0.5, random_state=0)
    splits = list(splitter.split(X, y))
    print(f"{len(X)} real digits, {X.shape[1]}-dimensional embeddings of a MobileNet")
    print("that was trained on photographs and has never seen a digit.\n")

    accuracies = compare_methods(X, y, splits)
    support, queries = splits[0]
    search_components(X, y, support, queries)
    clf = ImprintClassifier(random_state=0).fit(X[support], y[support])
    explained = explain_predictions(clf, X, y, support, queries)
    draw(path, accuracies, digits.images, y, explained)
    page = path.with_name("report.html")
    write_report(page, clf, X, y, digits.images, support, queries)
    print(f"\nPicture: {path}")
    print(f"Report:  {page}, one page on the classifier that was explained")
    print(f"All of it took {perf_counter() - start:.0f} seconds.")


def compare_methods(X, y, splits):
    """Print and return test accuracies of shape (n_methods, n_shots, n_splits)."""
    print(f"Top-1 accuracy in %, mean ± standard deviation over {N_SPLITS} splits")
    header = "".join(
        f"{shots if shots == 'all' else f'{shots}-shot':>15}" for shots in SHOTS
    )
    print(f"{'':36}{header}")
    accuracies = np.empty((len(METHODS), len(SHOTS), len(splits)))
    for row, (title, params) in enumerate(METHODS.items()):
        clf = ImprintClassifier(**params, random_state=0)
        for column, shots in enumerate(SHOTS):
            for i, (train, test) in enumerate(splits):
                support = few_shots(train, y, shots, seed=i)
                clf.fit(X[support], y[support])
                accuracies[row, column, i] = 100 * clf.score(X[test], y[test])
        cells = zip(
            accuracies[row].mean(axis=1), accuracies[row].std(axis=1), strict=True
        )
        print(
            f"{title:36}" + "".join(f"{mean:9.1f} ± {std:3.1f}" for mean, std in cells)
        )
    return accuracies


def few_shots(train, y, shots, seed):
    """Take the first `shots` rows of each class, in an order given by the seed."""
    if shots == "all":
        return train
    shuffled = np.random.default_rng(seed).permutation(train)
    return np.concatenate([shuffled[y[shuffled] == c][:shots] for c in np.unique(y)])


def search_components(X, y, support, queries):
    """Search over components in a scikit-learn pipeline."""
    pipeline = make_pipeline(StandardScaler(), ImprintClassifier(random_state=0))
    grid = [
        {"imprintclassifier__generator": ["mean"]},
        {
            "imprintclassifier__generator": [
                "kmeans",
                KMeansProxies(n_init=3),
                "kmedoids",
            ],
            "imprintclassifier__n_proxies": [2, 5, 20],
        },
        {
            "imprintclassifier__generator": ["all"],
            "imprintclassifier__aggregation": [Votes(1), Votes(3), Votes(5)],
        },
    ]
    search = GridSearchCV(pipeline, grid, cv=3).fit(X[support], y[support])
    best = {key.split("__")[1]: value for key, value in search.best_params_.items()}
    n_candidates = len(search.cv_results_["params"])
    print(
        "\nA pipeline, make_pipeline(StandardScaler(), ImprintClassifier()), and a grid"
    )
    print(f"search over {n_candidates} combinations of components, 3 folds each:")
    print(f"  best     {', '.join(f'{key}={value!r}' for key, value in best.items())}")
    print(
        f"  accuracy {100 * search.score(X[queries], y[queries]):.1f} % on new digits"
    )


def explain_predictions(clf, X, y, support, queries):
    """Explain a clear case, a close call and a mistake by their nearest proxies.

    Returns a list of (title, query row, proxy rows, similarities), rows being those of
    the training picture that a proxy stands for.
    """
    scores = np.sort(clf.decision_function(X[queries]), axis=1)
    margins = scores[:, -1] - scores[:, -2]
    predicted = clf.predict(X[queries])
    right = predicted == y[queries]
    cases = {
        "clear case": np.argmax(np.where(right, margins, -np.inf)),
        "close call": np.argmin(np.where(right, margins, np.inf)),
        "mistake": np.argmax(np.where(right, -np.inf, margins)),
    }
    explained = []
    print("\nWhy? Each prediction comes from the proxy most similar to the query:")
    for title, case in cases.items():
        query = queries[case]
        similarities, proxies = clf.kproxies(X[[query]], n_neighbors=4)
        neighbours = ", ".join(
            f"{label} ({similarity:.3f})"
            for label, similarity in zip(
                clf.proxy_labels_[proxies[0]], similarities[0], strict=True
            )
        )
        print(
            f"  {title + ':':12} a {y[query]}, taken for a {predicted[case]}; "
            f"nearest proxies {neighbours}"
        )
        rows = support[clf.proxy_indices_[proxies[0]]]
        explained.append((title, query, rows, similarities[0]))
    return explained


def write_report(path, clf, X, y, images, support, queries):
    """Save a page on what the classifier has learnt, and what it does with queries."""
    pictures = np.uint8(255 - 255 / 16 * images)
    report(
        clf,
        X[queries],
        y[queries],
        pictures[queries],
        X_train=X[support],
        y_train=y[support],
        train_items=pictures[support],
    ).save(path)


def draw(path, accuracies, images, y, explained):
    """Save accuracy against shots, and the explained predictions as pictures."""
    try:
        from matplotlib.figure import Figure
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'The demo draws with matplotlib: pip install "skimprint[demo]"'
        ) from error

    figure = Figure(figsize=(12, 5.2), layout="constrained")
    curves, pictures = figure.subfigures(1, 2, width_ratios=[1, 1.15])

    axes = curves.subplots()
    styles = zip(METHODS, accuracies, COLORS, MARKERS, strict=True)
    for title, accuracy, color, marker in styles:
        mean, std = accuracy.mean(axis=1), accuracy.std(axis=1)
        axes.plot(mean, marker=marker, color=color, label=title)
        axes.fill_between(
            range(len(SHOTS)), mean - std, mean + std, color=color, alpha=0.15
        )
    axes.set_xticks(range(len(SHOTS)), [str(shots) for shots in SHOTS])
    axes.set(xlabel="shots (support samples per class)", ylabel="top-1 accuracy in %")
    axes.set_title("Digits through a network that never saw one")
    axes.legend(loc="lower right", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)

    grid = pictures.subplots(len(explained), 1 + len(explained[0][2]))
    for line, (title, query, rows, similarities) in zip(grid, explained, strict=True):
        line[0].set_title(f"{title}: a {y[query]}", fontweight="bold")
        line[0].imshow(images[query], cmap="gray_r")
        for axes, row, similarity in zip(line[1:], rows, similarities, strict=True):
            color = RIGHT if y[row] == y[query] else WRONG
            axes.imshow(images[row], cmap="gray_r")
            axes.set_title(f"{y[row]}   {similarity:.3f}", color=color)
            axes.spines[:].set(color=color, linewidth=2)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    pictures.suptitle("Query, and its most similar proxies (nearest training picture)")
    figure.savefig(path, dpi=110)
    if path.suffix == ".png":  # 128 colours are enough, in a quarter of the room
        Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
