"""The model card: what people read of a folder."""

import json

from .. import __version__
from ..classifier._steps import last_step

_CARD = """---
library_name: skimprint
tags:
- skimprint
- weight-imprinting
- few-shot-learning
---

# A classifier of skimprint

{summary}

```python
from skimprint import persistence

model = persistence.load(".")  # the folder of this file
model.predict(X)
```

Loading runs no code of this folder's. `config.json` has the parameters and the classes,
`model.safetensors` the arrays{steps}. Written by skimprint {version}.

## Settings

```json
{settings}
```

## Classes

| class | training samples |
|---|---|
{classes}
"""

# Rows of the table, and letters of a setting: a card is read by people.
_MAX_ROWS = 200
_MAX_LETTERS = 2000

# What models have in them that a card is about: in the config, and as an attribute.
_INNER = {
    "AdaptedClassifier": ("imprint", "imprint_"),
    "FrozenEstimator": ("estimator", "estimator"),
    "ImprintClassifierCV": ("best", "best_estimator_"),
}


def card_of(model, config, files):
    """Write a model card.

    Parameters
    ----------
    model : ImprintClassifier, ImprintClassifierCV, AdaptedClassifier or Pipeline
        Is fitted.
    config : dict
        What is written of it.
    files : collection of str
        Names of the files that skops has written.

    Returns
    -------
    card : str
        Markdown.
    """
    steps = [step for _, step in config.get("steps", []) if isinstance(step, dict)]
    final, estimator = (steps[-1], model[-1]) if steps else (config, model)
    defaults = {}
    rows = []
    lines = [
        f"Items are embedded by `{step['parameters']['model']}`, revision "
        f"`{step['parameters']['revision']}`, fingerprint `{step['fingerprint']}`."
        for step in steps
        if step["class"] == "FoundationEmbedder"
    ]
    while final["class"] in _INNER:
        if type(estimator).__name__ == "AdaptedClassifier":
            adapted = type(last_step(estimator.estimator_)).__name__
            lines.append(f"`{adapted}`, adapted to a few samples of its classes.")
        key, attribute = _INNER[final["class"]]
        final, estimator = final[key], getattr(estimator, attribute, estimator)
    settings = final.get("parameters", {})
    if type(estimator).__name__ == "ImprintClassifier":
        classes = getattr(estimator, "classes_", [])
        shots = getattr(estimator, "class_count_", [])
        defaults = type(estimator)().get_params(deep=False)
        n_features = estimator.n_features_in_
        lines.append(f"{len(classes)} classes of embeddings of {n_features} features.")
        if not final["learning"]:
            lines.append("It predicts, and cannot learn more.")
        rows = [
            f"| {_cell(label)} | {shot:.12g} |"
            for label, shot in zip(classes[:_MAX_ROWS], shots, strict=False)
        ]
        if len(classes) > _MAX_ROWS:
            rows.append(f"| ... and {len(classes) - _MAX_ROWS} more | |")
    changed = {
        name: value if len(json.dumps(value)) <= _MAX_LETTERS else "see config.json"
        for name, value in settings.items()
        if value != defaults.get(name, ...)
    }
    return _CARD.format(
        summary=" ".join(lines),
        steps=", `*.skops` the estimators of scikit-learn" if files else "",
        version=__version__,
        settings=json.dumps(changed, indent=1, ensure_ascii=False),
        classes="\n".join(rows),
    )


def _cell(label):
    """Write a label so that it stays in its cell, and is no Markdown."""
    text = " ".join(str(label).split()).replace("|", "\\|")
    fence = "`" * (1 + text.count("`"))  # more than there are in a row
    space = " " * ("`" in text)
    return f"{fence}{space}{text}{space}{fence}" if text else text
