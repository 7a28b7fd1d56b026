"""
Search the whole framework in one grid
======================================

Every step of imprinting is a parameter, so that one grid covers all published methods
and what lies between them. `~skimprint.ImprintClassifierCV` finds what a
:class:`~sklearn.model_selection.GridSearchCV` would find, and makes the proxies of a
fold once for all candidates that share them.
"""

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np

from skimprint import ImprintClassifier, ImprintClassifierCV
from skimprint.aggregation import Votes
from skimprint.datasets import load_digits_embeddings
from skimprint.model_selection import NShotSplit

X, y = load_digits_embeddings(return_X_y=True)

# %%
# Generators, norms, aggregations and whitening
# ---------------------------------------------

norms = {
    "support_norm": [None, "l2", "power"],
    "query_norm": ["auto"],
    "proxy_norm": [None, "l2"],
    "whitening": [None, "auto"],
}
grid = [
    {"generator": ["mean"], **norms},
    {"generator": ["kmeans"], "n_proxies": [3, 10], "mean_weight": [0, 0.5], **norms},
    {"generator": ["kmedoids"], "n_proxies": [3, 10], **norms},
    {"generator": ["all"], "aggregation": ["max", Votes(5)], **norms},
]
start = perf_counter()
search = ImprintClassifierCV(
    ImprintClassifier.from_method("qi", random_state=0),
    grid,
    cv=NShotSplit(20, n_splits=2, random_state=0),
).fit(X, y)
candidates = search.cv_results_["params"]
print(f"{len(candidates)} candidates in {perf_counter() - start:.0f} s")
print(search.best_params_)

# %%
# What each choice is worth
# -------------------------
#
# One point for each candidate, side by side with those that differ in one step.

accuracy = search.cv_results_["mean_test_score"]
steps = {
    "generator": lambda p: f"{p['generator']} {p.get('n_proxies', '')}",
    "support_norm": lambda p: p["support_norm"],
    "proxy_norm": lambda p: p["proxy_norm"],
    "whitening": lambda p: p["whitening"],
}
figure, axes = plt.subplots(
    1, 4, figsize=(12, 4.2), sharey=True, width_ratios=[6, 3, 2, 2]
)
for ax, (step, choice) in zip(axes, steps.items(), strict=True):
    chosen = np.array([str(choice(params)) for params in candidates])
    for position, name in enumerate(dict.fromkeys(chosen)):
        of_this = accuracy[chosen == name]
        spread = np.linspace(-0.2, 0.2, len(of_this))
        ax.plot(position + spread, of_this, "o", alpha=0.6)
        ax.hlines(of_this.max(), position - 0.3, position + 0.3, color="k")
    ax.set_xticks(range(position + 1), dict.fromkeys(chosen), rotation=40, ha="right")
    ax.set_title(step)
axes[0].set_ylabel("accuracy at 20 shots")
figure.tight_layout()
