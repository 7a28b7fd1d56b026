"""
See why, and report what a model knows
======================================

Ants or bees? A decision of imprinting has reasons: this photograph, because of that
one. Here some decisions are shown beside their reasons, and then all of them on one
page that can be sent to somebody who has no Python.

The photographs of ants and bees, and the MobileNet that embeds them, are not part of
skimprint. Where there is no folder ``shared`` beside the repository, the digits that
come with skimprint take their place.
"""

import sys
from pathlib import Path

import numpy as np

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.datasets import load_digits_embeddings
from skimprint.inspection import ExplanationDisplay, report

# %%
# The pictures
# ------------
#
# About sixty of each kind are learnt, others are asked about. One photograph at a time
# goes through the network, which is fastest on one core, and ``cache_dir`` keeps what
# came out of it.

folders = (folder / "shared" / "data" / "hymenoptera" for folder in Path.cwd().parents)
photographs = next((folder for folder in folders if folder.is_dir()), None)
if photographs is not None:
    sys.path.append(str(photographs.parents[1] / "foundation_models"))
    import mobilenet_v1

    embedder = FoundationEmbedder(
        mobilenet_v1.load(),
        preprocess=mobilenet_v1.preprocess,
        decode_size=448,
        cache_dir="embeddings",
    )
    train = [
        path
        for kind in ("ants", "bees")
        for path in sorted((photographs / "train" / kind).glob("*.jpg"))[:60]
    ]
    test = sorted((photographs / "val").glob("*/*.jpg"))
    X_train, X_test = embedder.fit_transform(train), embedder.transform(test)
    y_train, y_test = ([path.parent.name for path in part] for part in (train, test))
    print(
        f"{len(train)} photographs of ants and bees to learn, {len(test)} to ask about"
    )
else:
    digits = load_digits_embeddings()
    pictures = [np.uint8(255 - 255 / 16 * image) for image in digits.images]
    X_train, X_test = digits.data[:600], digits.data[600:]
    y_train, y_test = digits.target[:600], digits.target[600:]
    train, test = pictures[:600], pictures[600:]
    print(f"{len(train)} digits to learn, {len(test)} to ask about")

clf = ImprintClassifier.from_method("recommended", random_state=0)
clf.fit(X_train, y_train)
print(f"{clf.score(X_test, y_test):.1%} are right")

# %%
# Why?
# ----
#
# `~skimprint.ImprintClassifier.explain` takes the score of the winner apart: ``rows``
# are the training pictures behind it, and ``shares`` what each adds. With ``rest``,
# which is spread over the others, they sum to the score. A picture may come twice: for
# the proxy that it is closest to, and by itself.

why = clf.explain(X_test, n_reasons=4)
first = np.argmin(why.margin)  # the closest call
print(f"{why.label[first]!s} with {why.score[first]:.3f}, ahead of ", end="")
print(f"{why.runner_up[first]!s} by {why.margin[first]:.3f}")
for row, share in zip(why.rows[first], why.shares[first], strict=True):
    print(f"{share:+.3f} by picture {row}, one of {y_train[row]}")
print(f"{why.rest[first]:+.3f} by all others")

# %%
# Three decisions as pictures: the surest one that is right, the closest call, and the
# mistake that was made most surely. The reason for a mistake is often plain to see.

right = why.label == np.asarray(y_test)
chosen = [
    np.argmax(np.where(right, why.margin, -np.inf)),
    first,
    np.argmax(np.where(right, -np.inf, why.margin)),
]
display = ExplanationDisplay.from_estimator(
    clf,
    X_test[chosen],
    [y_test[i] for i in chosen],
    items=[test[i] for i in chosen],
    train_items=train,
    n_reasons=4,
)

# %%
# And why not the right one? ``y`` asks about another class than the winner: how far it
# is behind, and what speaks for it.

mistake = chosen[-1]
why_not = clf.explain(X_test[[mistake]], y=[y_test[mistake]], n_reasons=4)
print(f"{why_not.label[0]!s} is behind by {-why_not.margin[0]:.3f}")
print("For it speaks", ", ".join(f"picture {row}" for row in why_not.rows[0]))

# %%
# The report
# ----------
#
# What was learnt, how often each class is right and how sure that is, confusions that
# open to the pictures in them, and labels that look wrong: one file that loads nothing
# from the network. `Open it <../report_of_photographs.html>`_.

page = report(
    clf, X_test, y_test, test, X_train=X_train, y_train=y_train, train_items=train
)
Path("reports").mkdir(exist_ok=True)
page.save("reports/report_of_photographs.html")
low, high = page.findings.accuracy_interval
print(f"{page.findings.accuracy:.1%} are right; 95 % interval {low:.1%} to {high:.1%}")

# %%
# Its numbers are there, too. These pictures of the training set look most like another
# class than their own; an expert may look whether they are what their label says.

suspects = page.findings.suspects
print(f"{len(suspects.rows)} labels look wrong")
for row, label, other in list(
    zip(suspects.rows, suspects.labels, suspects.others, strict=True)
)[:3]:
    print(f"picture {row}: labelled {label}, looks like {other}")
