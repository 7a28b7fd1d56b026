"""Save models and load them, compare them, and edit their files."""

import json

import numpy as np

from skimprint import persistence

METHODS_OF_QUERIES = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
)
ATTRIBUTES = (
    "classes_",
    "proxies_",
    "proxy_labels_",
    "proxy_indices_",
    "class_count_",
    "temperature_",
    "n_samples_seen_",
    "n_features_in_",
    "support_norm_",
)


def names_in(folder):
    """List what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def through(model, folder, **options):
    """Save a model and load it again."""
    persistence.save(model, folder, **options)
    return persistence.load(folder)


def assert_same(first, second, X, attributes=ATTRIBUTES, n_reasons=5):
    """Compare what two classifiers say, to the bit."""
    for name in METHODS_OF_QUERIES:
        mine, other = getattr(first, name)(X), getattr(second, name)(X)
        assert mine.dtype == other.dtype, name
        np.testing.assert_array_equal(mine, other, name)
    why, other = (each.explain(X, n_reasons=n_reasons) for each in (first, second))
    for name, values in why.items():
        np.testing.assert_array_equal(values, other[name], name)
    for name in attributes:
        mine, other = getattr(first, name), getattr(second, name)
        assert type(mine) is type(other), name
        assert getattr(mine, "dtype", None) == getattr(other, "dtype", None), name
        np.testing.assert_array_equal(mine, other, name)


def edit(folder, change):
    """Change the config of a model."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    change(config, config["model"])
    path.write_text(json.dumps(config), "utf-8")


def edit_arrays(folder, change):
    """Change the arrays of a model."""
    from safetensors.numpy import load_file, save_file

    path = folder / "model.safetensors"
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
