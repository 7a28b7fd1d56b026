"""Write the models in tests/data/models, which every later version has to load.

    python tools/write_models.py

It writes those that are not there, each with what it predicted beside it, and never
changes one. So a new format version, or a setting that is added to `models`, gets
folders of its own, and those of old versions stay.
"""

from pathlib import Path

import numpy as np

from skimprint import ImprintClassifier, ImprintClassifierCV, Rejection, persistence
from skimprint.aggregation import Votes
from skimprint.datasets import load_digits_embeddings
from skimprint.persistence._files import VERSION

FOLDER = Path(__file__).parents[1] / "tests" / "data" / "models"

#: What is compared; the keys of the file of predictions.
METHODS = ("predict", "decision_function", "predict_proba", "score_samples")


def models():
    """List settings that between them write every array: {name: unfitted model}."""
    method = ImprintClassifier.from_method
    return {
        "default": ImprintClassifier(random_state=0),
        "recommended": method("recommended", random_state=0),
        "westerhoff": method("westerhoff", n_proxies=3, random_state=0),
        "votes": method(
            "qi", generator="all", metric="cosine", aggregation=Votes(3, "distance")
        ),
        "least_squares": method("qi", generator="least_squares"),
        "mahalanobis": method("qi", metric="mahalanobis"),
        "rejection": ImprintClassifier(rejection=Rejection(-1), random_state=0),
        "summed": ImprintClassifier(forgettable=False, random_state=0),
        "search": ImprintClassifierCV(
            ImprintClassifier(random_state=0), {"n_proxies": [1, 2]}, cv=2
        ),
    }


def write(name, model, X, y, queries, **options):
    """Fit and write a model, unless it is there."""
    folder = FOLDER / f"{name}-{VERSION}"
    if folder.exists():
        print(f"{folder.name} stays as it is")
        return
    model.fit(X, y)
    found = {method: getattr(model, method)(queries) for method in METHODS}
    persistence.save(model, folder, **options)
    np.savez_compressed(folder.with_suffix(".npz"), queries=queries, **found)
    print(f"{folder.name} is new")


def main():
    """Write all models."""
    X, y = load_digits_embeddings(return_X_y=True)
    X, queries = np.split(X[:80], [60])
    y = y[:60]
    few = slice(None, None, 100)
    for name, model in models().items():
        write(name, model, X[:, few], y, queries[:, few])
    # A whitening of fewer samples than a third of the features, and other types.
    texts = np.array([f"digit {label}" for label in y])
    many = slice(None, None, 16)
    model = ImprintClassifier(random_state=0)
    write("few", model, X[:20, many], texts[:20], queries[:, many])
    write("float64", model, X[:, few].astype(float), y, queries[:, few].astype(float))
    model = ImprintClassifier.from_method("recommended", random_state=0)
    write("compact", model, X[:, few], y, queries[:, few], learning=False)


if __name__ == "__main__":
    main()
