"""
Use parts of your own, and search over their parameters
=======================================================

A generator, a norm and an aggregation may be yours. If they are objects with
parameters, a grid reaches these by scikit-learn's double underscores, as it does those
of a pipeline. A metric is chosen by its name, in the same grid.
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
# A norm: a power of each value, then unit length. Any function of rows will do. What
# compares rows after each has been transformed is a norm, too: with an exponent of one
# half, the dot product of two histograms is the Bhattacharyya coefficient.


class Power(BaseEstimator):
    """Raise values to a power, and scale rows to unit length."""

    def __init__(self, exponent=0.5):
        self.exponent = exponent

    def __call__(self, X):
        """Normalise rows."""
        X = np.sign(X) * np.abs(X) ** self.exponent
        return X / np.linalg.norm(X, axis=1, keepdims=True)


# %%
# One grid
# --------
#
# ``query_norm="auto"`` is the norm of the support, whatever that is.

metrics = ["dot", "manhattan", "mahalanobis"]
trims, exponents = [0, 0.1, 0.3, 0.5], [0.25, 0.5, 0.75, 1]
search = GridSearchCV(
    ImprintClassifier.from_method(
        "qi", generator=TrimmedMean(), support_norm=Power(), query_norm="auto"
    ),
    {
        "metric": metrics,
        "generator__trim": trims,
        "support_norm__exponent": exponents,
    },
    cv=NShotSplit(20, n_splits=3, random_state=0),
).fit(X, y)
print(search.best_params_)

# %%
# The metric matters most here: Mahalanobis distances whiten the space.

found = {
    (p["metric"], p["generator__trim"], p["support_norm__exponent"]): score
    for p, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    )
}
figure, axes = plt.subplots(1, 3, figsize=(11, 3.9), sharey=True, layout="constrained")
for ax, metric in zip(axes, metrics, strict=True):
    accuracy = np.array([[found[metric, t, e] for e in exponents] for t in trims])
    image = ax.imshow(accuracy, vmin=0.79, vmax=0.94)
    for (row, column), value in np.ndenumerate(accuracy):
        colour = "w" if value < 0.88 else "k"
        ax.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour)
    ax.set_xticks(range(4), exponents)
    ax.set_yticks(range(4), trims)
    ax.set(xlabel="support_norm__exponent", title=f"metric={metric!r}")
axes[0].set_ylabel("generator__trim")
figure.colorbar(image, ax=axes, label="accuracy at 20 shots")

# %%
# The generator also learns in parts and forgets, because its base class does:

clf = search.best_estimator_.fit(X[y < 8], y[y < 8])
print(clf.partial_fit(X[y >= 8], y[y >= 8]).forget(3).classes_)
