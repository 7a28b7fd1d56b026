"""
See beforehand whether several proxies will pay
===============================================

Where the samples of a class have collapsed to a point, one proxy says all about it.
`~skimprint.metrics.neural_collapse_score` measures how far a data set is from that,
without a classifier. Here digits are merged into classes of several kinds, which is
what coarse labels do, and the gain of 20 proxies over one mean is put beside the score.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import cross_val_score

from skimprint import ImprintClassifier
from skimprint.datasets import load_digits_embeddings
from skimprint.metrics import neural_collapse_score
from skimprint.model_selection import NShotSplit

X, digits = load_digits_embeddings(return_X_y=True)
labels = {
    "ten digits": digits,
    "pairs: 01, 23, ...": digits // 2,
    "pairs: 05, 16, ...": digits % 5,
    "thirds: 0369, 147, 258": digits % 3,
    "even and odd": digits % 2,
    "below and above 5": digits // 5,
    "0, 1, 2 only": np.where(digits < 3, digits, -1),
}

# %%

names, scores, gains = [], [], []
cv = NShotSplit("all", n_splits=3, random_state=0)
for name, y in labels.items():
    rows = y >= 0
    mean, several = (
        cross_val_score(clf, X[rows], y[rows], cv=cv).mean()
        for clf in (
            ImprintClassifier.from_method("qi"),
            ImprintClassifier.from_method("westerhoff", random_state=0),
        )
    )
    names.append(name)
    scores.append(neural_collapse_score(X[rows], y[rows]))
    gains.append(100 * (several - mean))

# %%

plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(8, 4))
for name, score, gain, marker in zip(names, scores, gains, "os^vD*P", strict=True):
    ax.plot(score, gain, marker, ms=9, label=name)
ax.set(xlabel="NC1 (0 is one point for each class)", xlim=(0, None))
ax.set(ylabel="accuracy of 20 proxies less\nthat of the mean (points)", ylim=(0, None))
ax.set(title="Gain of several proxies over one")
ax.legend(title="classes", bbox_to_anchor=(1, 1))
figure.tight_layout()

# %%
# NC1 depends on the number of classes, so compare scores of the same classes through
# several models, or of data sets of about the same size.
