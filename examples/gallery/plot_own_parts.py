"""
Use parts of your own, and search over their parameters
=======================================================

A generator, a norm, a metric and an aggregation may be yours. If they are objects with
parameters, a grid reaches these by scikit-learn's double underscores, as it does those
of a pipeline.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV

from skimprint import ImprintClassifier
from skimprint.datasets import load_digits_embeddings
from skimprint.generation import ProxyGenerator, synthesized
from skimprint.model_selection import NShotSplit

X, y = load_digits_embeddings(return_X_y=True)

# %%
# A generator: means of the samples that are left when the ones farthest from the mean
# are set aside. It gets the samples by class, and returns what
# `~skimprint.generation.synthesized` makes.


class TrimmedMean(ProxyGenerator):
    """Average a class without its outliers."""

    def __init__(self, trim=0.1):
        self.trim = trim

    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
        """Make one proxy for each class."""
        means = []
        for group in range(len(n_proxies)):
            rows = support.rows(group)
            distances = np.linalg.norm(rows - rows.mean(axis=0), axis=1)
            n_kept = max(1, round((1 - self.trim) * len(rows)))
            means.append(rows[np.argsort(distances)[:n_kept]].mean(axis=0))
        offsets = np.arange(len(means) + 1)
        return synthesized(support, np.stack(means), offsets, n_jobs=n_jobs)


# %%
# A norm: a power of each value, then unit length. Any function of rows will do.


class Power(BaseEstimator):
    """Raise values to a power, and scale rows to unit length."""

    def __init__(self, exponent=0.5):
        self.exponent = exponent

    def __call__(self, X):
        """Normalise rows."""
        X = np.sign(X) * np.abs(X) ** self.exponent
        return X / np.linalg.norm(X, axis=1, keepdims=True)


# %%
# A metric: a sum of differences, none of which counts more than a limit. It returns
# similarities, so distances are negated. Any function of queries and proxies will do,
# such as the kernels of scikit-learn.


class Clipped(BaseEstimator):
    """Sum differences of features, each up to a limit, and negate."""

    def __init__(self, limit=0.1):
        self.limit = limit

    def __call__(self, queries, proxies):
        """Compare queries with proxies."""
        distances = [
            np.minimum(np.abs(queries - proxy), self.limit).sum(axis=1)
            for proxy in proxies
        ]
        return -np.stack(distances, axis=1)


# %%
# One grid
# --------
#
# ``query_norm="auto"`` is the norm of the support, whatever that is.

trims, exponents = [0, 0.1, 0.3, 0.5], [0.25, 0.5, 0.75, 1]
of_both = {"generator__trim": trims, "support_norm__exponent": exponents}
search = GridSearchCV(
    ImprintClassifier.from_method(
        "qi", generator=TrimmedMean(), support_norm=Power(), query_norm="auto"
    ),
    [
        {"metric": ["dot", "mahalanobis"], **of_both},
        {"metric": [Clipped()], "metric__limit": [0.01, 0.03, 0.1], **of_both},
    ],
    cv=NShotSplit(20, n_splits=3, random_state=0),
).fit(X, y)
print(search.best_params_)

# %%
# The metric matters most here: Mahalanobis distances whiten the space. Of the limits,
# the best one is shown.

found: dict[tuple, float] = {}
for p, accuracy in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    metric = p["metric"] if isinstance(p["metric"], str) else "Clipped()"
    key = metric, p["generator__trim"], p["support_norm__exponent"]
    found[key] = max(accuracy, found.get(key, 0))
metrics = ["dot", "Clipped()", "mahalanobis"]
figure, axes = plt.subplots(1, 3, figsize=(11, 3.9), sharey=True, layout="constrained")
for ax, metric in zip(axes, metrics, strict=True):
    accuracies = np.array([[found[metric, t, e] for e in exponents] for t in trims])
    image = ax.imshow(accuracies, vmin=0.79, vmax=0.94)
    for (row, column), value in np.ndenumerate(accuracies):
        colour = "w" if value < 0.88 else "k"
        ax.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour)
    ax.set_xticks(range(4), exponents)
    ax.set_yticks(range(4), trims)
    ax.set(xlabel="support_norm__exponent", title=f"metric: {metric}")
axes[0].set_ylabel("generator__trim")
figure.colorbar(image, ax=axes, label="accuracy at 20 shots")

# %%
# The generator also learns in parts and forgets, because its base class does:

clf = search.best_estimator_.fit(X[y < 8], y[y < 8])
print(clf.partial_fit(X[y >= 8], y[y >= 8]).forget(3).classes_)
