"""
Use parts of your own, and search over their parameters
=======================================================

A generator, a norm and an aggregation may be yours. If they are objects with
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
# One grid
# --------
#
# ``query_norm="auto"`` is the norm of the support, whatever that is.

search = GridSearchCV(
    ImprintClassifier.from_method(
        "qi", generator=TrimmedMean(), support_norm=Power(), query_norm="auto"
    ),
    {
        "generator__trim": [0, 0.1, 0.3, 0.5],
        "support_norm__exponent": [0.25, 0.5, 0.75, 1],
    },
    cv=NShotSplit(20, n_splits=5, random_state=0),
).fit(X, y)
print(search.best_params_)

# %%

accuracy = search.cv_results_["mean_test_score"].reshape(4, 4)
figure, ax = plt.subplots(figsize=(5, 4))
image = ax.imshow(accuracy, cmap="viridis")
for (row, column), value in np.ndenumerate(accuracy):
    ax.text(
        column,
        row,
        f"{value:.3f}",
        ha="center",
        va="center",
        color="w" if value < 0.82 else "k",
    )
ax.set_xticks(range(4), [0.25, 0.5, 0.75, 1])
ax.set_yticks(range(4), [0, 0.1, 0.3, 0.5])
ax.set(xlabel="support_norm__exponent", ylabel="generator__trim")
ax.set_title("accuracy at 20 shots")
figure.colorbar(image)
figure.tight_layout()

# %%
# The generator also learns in parts and forgets, because its base class does:

clf = search.best_estimator_.fit(X[y < 8], y[y < 8])
print(clf.partial_fit(X[y >= 8], y[y >= 8]).forget(3).classes_)
