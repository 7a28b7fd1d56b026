"""
Adapt a trained layer to a few samples
======================================

A layer was trained on some pictures, and now there are a few others of the same
classes. `AdaptedClassifier <skimprint.AdaptedClassifier>` scores queries by both, and
leaving the new samples out says how much each of the two counts. Nothing is trained.
The layer may be any fitted classifier, prompts included: see the guide,
:doc:`/guide/head`.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import cross_validate

from skimprint import AdaptedClassifier, ImprintClassifier
from skimprint.datasets import load_digits_embeddings
from skimprint.model_selection import NShotSplit

X, y = load_digits_embeddings(return_X_y=True)
layer = RidgeClassifier().fit(X[:200], y[:200])
X, y = X[200:], y[200:]
print(f"the layer alone: {layer.score(X, y):.1%}")

# %%
# `~skimprint.model_selection.NShotSplit` draws the same number of new samples of each
# digit, ten times; the other pictures are the queries.

shots = [1, 2, 3, 5, 10, 20]
classifiers = {
    "layer and samples": AdaptedClassifier(FrozenEstimator(layer)),
    "samples alone": ImprintClassifier(),
}
found = {
    name: [
        cross_validate(
            clf,
            X,
            y,
            cv=NShotSplit(n, n_splits=10, random_state=0),
            return_estimator=True,
        )
        for n in shots
    ]
    for name, clf in classifiers.items()
}

# %%

plt.style.use("tableau-colorblind10")
figure, (ax, below) = plt.subplots(
    2, figsize=(6.5, 5.5), sharex=True, height_ratios=[3, 1], layout="constrained"
)
for (name, results), style in zip(found.items(), ("o-", "s--"), strict=True):
    ax.plot(shots, [np.mean(each["test_score"]) for each in results], style, label=name)
ax.axhline(layer.score(X, y), c="k", ls=":", label="layer alone")
ax.set(ylabel="accuracy", title="Two hundred old pictures, and a few new ones")
ax.legend()
shares = [
    [clf.share_ for clf in each["estimator"]] for each in found["layer and samples"]
]
below.plot(shots, np.mean(shares, axis=1), "o-")
below.set(xlabel="new samples of each digit", ylabel="share of\nsamples", ylim=(0, 1))
below.set(xscale="log")
below.set_xticks(shots, shots)
below.minorticks_off()

# %%
# The more samples there are, the more they count. With one of each digit there is none
# to leave out, and a fifth is taken.
