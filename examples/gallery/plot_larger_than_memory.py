"""
Learn from more than fits in memory
===================================

Embeddings of millions of items lie in a file. ``partial_fit`` takes it part by part,
and classes may appear at any time. For means, the result is that of one fit, to the
bit, in however many parts they come; k-means keeps a bounded summary of what it has
seen.

The file here is made of the digits, each of them many times with some noise, so that it
is quick to write. It is no larger than memory, but it is read as if it were.
"""

import tempfile
import tracemalloc
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skimprint import ImprintClassifier
from skimprint.datasets import load_digits_embeddings

X, y = load_digits_embeddings(return_X_y=True)
X, y, queries, answers = X[:1400, ::4], y[:1400], X[1400:, ::4], y[1400:]

# %%
# A file of 56,000 embeddings, sorted by digit: the hardest order.

rng = np.random.default_rng(0)
path = Path(tempfile.mkdtemp()) / "embeddings.npy"
rows = np.repeat(np.argsort(y, kind="stable"), 40)
labels = y[rows]
stored = np.lib.format.open_memmap(path, "w+", np.float32, (len(rows), X.shape[1]))
for start in range(0, len(rows), 4000):
    part = rows[start : start + 4000]
    noise = rng.normal(0, 0.02, (len(part), X.shape[1]))
    stored[start : start + 4000] = np.maximum(X[part] + noise, 0)
stored.flush()
print(f"{path.stat().st_size / 1e6:.0f} MB")

# %%
# Part by part
# ------------

embeddings = np.load(path, mmap_mode="r")
models = {
    "mean": ImprintClassifier.from_method("qi"),
    "k-means": ImprintClassifier.from_method("westerhoff", n_proxies=5, random_state=0),
}
accuracy = {name: [] for name in models}
for name, clf in models.items():
    tracemalloc.start()
    for start in range(0, len(embeddings), 4000):
        clf.partial_fit(embeddings[start : start + 4000], labels[start : start + 4000])
        accuracy[name].append(clf.score(queries, answers))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(f"{name}: {accuracy[name][-1]:.1%}, at most {peak:.0f} MB at any time")

# %%
# The means are those of one fit:

whole = ImprintClassifier.from_method("qi").fit(embeddings, labels)
print("same bits:", np.array_equal(whole.proxies_, models["mean"].proxies_))

# %%

plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(7, 4))
seen = np.arange(1, len(accuracy["mean"]) + 1) * 4
for (name, values), style in zip(accuracy.items(), ("o-", "s--"), strict=True):
    ax.plot(seen, values, style, label=name)
ax.set(xlabel="thousands of embeddings seen", ylabel="accuracy on all digits")
ax.set_title("Digits come one after the other")
ax.legend()
ax.grid(alpha=0.3)
figure.tight_layout()
