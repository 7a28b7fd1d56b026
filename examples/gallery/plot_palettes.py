"""
Find the colours of many photographs at once
============================================

A shop wants the five main colours of every product photograph. That is k-means in many
small problems: `~skimprint.cluster.GroupedKMeans` solves all of them in one call, each
by itself, so that a photograph's palette does not depend on the others.
"""

import matplotlib.pyplot as plt
import numpy as np
from skimage import data, transform

from skimprint.cluster import GroupedKMeans

names = ["chelsea", "coffee", "rocket", "astronaut", "retina", "immunohistochemistry"]
photographs = [
    transform.resize(getattr(data, name)(), (90, 90), anti_aliasing=True)
    for name in names
]

# %%
# One row per pixel, and one label per row that says which photograph it belongs to.

X = np.concatenate([photograph.reshape(-1, 3) for photograph in photographs])
groups = np.repeat(names, 90 * 90)
palettes = GroupedKMeans(n_clusters=5, random_state=0).fit(X, groups)
print(palettes.cluster_centers_.shape)

# %%
# The clusters come group by group. Each bar is as long as its colour has pixels.

sizes = np.bincount(palettes.labels_)
figure, axes = plt.subplots(2, 6, figsize=(12, 3), height_ratios=[4, 1])
for (above, below), name, photograph in zip(axes.T, names, photographs, strict=True):
    above.imshow(photograph)
    above.set_title(name if len(name) < 12 else "stained tissue")
    of_this = palettes.cluster_groups_ == name
    ends = np.cumsum(sizes[of_this])
    colours = palettes.cluster_centers_[of_this].clip(0, 1)
    below.barh(0, sizes[of_this], left=ends - sizes[of_this], color=colours)
    below.set_xlim(0, ends[-1])
for ax in axes.flat:
    ax.axis("off")
