"""Save models to folders without pickle, and load them."""

import struct
import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import check_is_fitted

from .. import __version__
from ..classifier import AdaptedClassifier, ImprintClassifier, ImprintClassifierCV
from ..classifier._adapted_classifier import check_adaptable
from ..classifier._plain.arrays import (
    FINITE,
    MAX_TEXT_BYTES,
    SHARE,
    Arrays,
    Checked,
    number,
)
from ..classifier._steps import last_step
from ..embedding._embedder import FoundationEmbedder
from ..embedding._extras import require
from ._card import card_of
from ._classifiers import (
    read_classifier,
    read_requests,
    write_classifier,
    write_requests,
)
from ._files import (
    CARD,
    CONFIG,
    FORMAT,
    STEP,
    VERSION,
    WEIGHTS,
    check_archive,
    config_as_bytes,
    read_config,
    read_undisturbed,
    regular_file,
    replacing,
)
from ._values import decode, decode_each, encode, encode_each

# Found by `fit` of an embedder; what `torch` is needed for comes with the next one.
_EMBEDDER_FACTS = ("dtype_", "pooling_", "modality_", "n_features_out_")

# Not its memory, a folder of this machine, whose pickles would be loaded.
_PIPELINE_PARAMETERS = ("verbose", "transform_input")

# Results of a search.
_RESULTS = (
    "best_index_",
    "best_params_",
    "best_score_",
    "cv_results_",
    "n_splits_",
    "refit_time_",
)

# What parameters may be: any text, "no" too, would count as true.
_SAVING = {"learning": ["boolean"]}
_TRUST = {"trusted": [list, tuple, None], "trust_remote_code": ["boolean"]}

# What reading a file that is not ours, or damaged, may raise.
_REFUSALS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    np.ma.MAError,
    struct.error,
    zipfile.BadZipFile,
)


def save(model: Any, folder: str | PathLike[str], *, learning: bool = True) -> None:
    """Save a model to a folder, without pickle.

    The folder has the layout of a model hub: ``config.json`` (parameters, classes),
    ``model.safetensors`` (arrays), ``README.md`` (a model card), and a file for each
    estimator of scikit-learn's, written by skops. Needs ``skimprint[files]``.

    Parameters
    ----------
    model : ImprintClassifier, ImprintClassifierCV, AdaptedClassifier or Pipeline
        Is fitted. The steps of a pipeline are a `FoundationEmbedder` with a named
        model, transformers of scikit-learn and a classifier. What an
        `AdaptedClassifier` adapts is any of these or a classifier of scikit-learn.
    folder : path-like
        A new or an empty folder, or a model that was saved before, which is replaced in
        one step.
    learning : bool, default=True
        Whether to write what `partial_fit`, `forget` and `merge` need. Without it, the
        file is what `ImprintClassifier.compact` returns.

    Raises
    ------
    ValueError
        If a part cannot be written, such as a function, or labels that are too long
        for `load`, or if no part is of skimprint. Nothing is written then.
    FileExistsError
        If the folder has anything else in it, or is the working directory.
    PermissionError
        If the folder is read-only, or no folder can be made beside it.
    OSError
        If the folder is a mount point, such as a volume of a container: save to a
        folder in it. Or if the disk is full: what was there stays as it is.

    See Also
    --------
    load : Load it again.

    Examples
    --------
    >>> import tempfile
    >>> from skimprint import ImprintClassifier, persistence
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     persistence.save(clf, folder)
    ...     again = persistence.load(folder)
    >>> again.partial_fit([[-1.0, 0.0]], ["left"]).predict([[-2.0, 0.1]])
    array(['left'], dtype='<U5')
    """
    validate_parameter_constraints(_SAVING, {"learning": learning}, "save")
    safetensors = require("safetensors", "skimprint.persistence")
    save_file = require("safetensors.numpy", "skimprint.persistence").save_file
    # A classifier may have forgotten all classes, which is no error here.
    if not hasattr(last_step(model), "_fitted"):
        check_is_fitted(model)
    if not _has_ours(model):
        best = getattr(model, "best_estimator_", None)
        cure = (
            "Save its best_estimator_" if _has_ours(best) else "Write it with skops.io"
        )
        raise ValueError(
            "model must be an ImprintClassifier, an ImprintClassifierCV, an "
            "AdaptedClassifier or a pipeline with one of them, not of a class derived "
            f"from these; got {type(model).__name__}. {cure}."
        )
    arrays = Arrays()
    files: dict[str, bytes] = {}  # of estimators of scikit-learn
    config = {
        "format": FORMAT,
        "format_version": VERSION,
        "skimprint_version": __version__,
        "model": _write(model, arrays, files, learning),
    }
    content = config_as_bytes(config)
    card = card_of(model, config["model"], files)
    with replacing(folder) as new:
        (new / CONFIG).write_bytes(content)
        (new / CARD).write_text(card, "utf-8", "backslashreplace", newline="\n")
        try:
            save_file(arrays.all, new / WEIGHTS, {"format": FORMAT})
        except safetensors.SafetensorError as error:  # of a full disk, for example
            raise OSError(
                f"{WEIGHTS} cannot be written to {folder}: {error}. What was there "
                "stays as it is. Make room for it, or choose another folder."
            ) from error
        for name, content in files.items():
            (new / name).write_bytes(content)


def load(
    folder: str | PathLike[str],
    *,
    trusted: list[str] | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Load a model that `save` has written.

    No code of the file's runs. A pipeline names the model that it embeds with, which is
    loaded from where it comes from when it is first used.

    Parameters
    ----------
    folder : path-like
        Of the model.
    trusted : list of str, default=None
        Types to trust in files of skops, as in ``skops.io.load``, besides those of
        scikit-learn that it trusts by itself.
    trust_remote_code : bool, default=False
        Whether an embedder may be loaded that runs code which comes with its model, or
        that passes ``model_kwargs`` to a library, which may do so.

    Returns
    -------
    model : ImprintClassifier, ImprintClassifierCV, AdaptedClassifier or Pipeline
        Predicts with the same bits, and goes on learning. While somebody saves to the
        folder, it is the model before that or the one after it.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If the folder has no such model, or it is damaged.

    See Also
    --------
    save : Save a model.

    Examples
    --------
    >>> import tempfile
    >>> from skimprint import ImprintClassifier, persistence
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     persistence.save(clf, folder, learning=False)
    ...     persistence.load(folder).predict([[0.1, 2.0]])
    array(['up'], dtype='<U5')
    """
    trust = {"trusted": trusted, "trust_remote_code": trust_remote_code}
    validate_parameter_constraints(_TRUST, trust, "load")
    safetensors = require("safetensors", "skimprint.persistence")
    folder = Path(folder)

    writer = __version__

    def read(folder):
        nonlocal writer
        config = read_config(folder)
        writer = config.get("skimprint_version", __version__)
        weights = regular_file(folder, WEIGHTS)
        _check_lengths(weights)
        with safetensors.safe_open(weights, framework="numpy") as file:
            room = weights.stat().st_size + MAX_TEXT_BYTES
            arrays = Checked(file.get_tensor, set(file.keys()), room=[room])
            model = _read(config["model"], arrays, folder, trust)
        if not _has_ours(model):
            raise ValueError(f"it is a {type(model).__name__}, and no model of ours.")
        return model

    try:
        return read_undisturbed(read, folder)
    except (*_REFUSALS, safetensors.SafetensorError) as error:
        why = str(error)
        if type(error).__module__ == "builtins" and not isinstance(error, ValueError):
            why = f"{CONFIG} or {WEIGHTS} lacks something or has something else there: "
            why += f"{type(error).__name__}: {error}"
        if writer != __version__:
            why += f" It was written by skimprint {writer!r}; this is {__version__!r}."
        raise ValueError(f"{folder} cannot be loaded as a model: {why}") from error


def _has_ours(model):
    """Whether a model is one of skimprint's, or has one as a step."""
    if type(model) is Pipeline:
        return any(_has_ours(step) for _, step in model.steps)
    if type(model) is FrozenEstimator:
        return _has_ours(model.estimator)
    return type(model).__module__.startswith("skimprint")


def _check_lengths(path):
    """Refuse a header that is longer than the file, before it is read."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > path.stat().st_size - 8:
        raise ValueError(
            f"{path.name} is shorter than it says. Copy or download all of it: of a "
            "repository of git, with git lfs pull."
        )


def _write(model, arrays, files, learning):
    """Turn a model, or a part of one, into JSON, arrays and other files."""
    if type(model) is ImprintClassifier:
        return write_classifier(model if learning else model.compact(), arrays)
    if type(model) is ImprintClassifierCV:
        if not hasattr(model, "best_estimator_"):
            raise ValueError(
                "model must have fitted its best candidate on all samples; got an "
                "ImprintClassifierCV fitted with refit=False. Save a classifier fitted "
                "with the parameters of your choice."
            )
        best = model.best_estimator_
        return {
            "class": "ImprintClassifierCV",
            "parameters": encode_each(
                model.get_params(deep=False), arrays.of("parameters")
            ),
            "results": encode_each({k: getattr(model, k) for k in _RESULTS}, arrays),
            "best": _write(best, arrays.of("best"), files, learning),
        }
    if type(model) is AdaptedClassifier:
        parts = {"estimator": model.estimator_, "imprint": model.imprint_}
        if model.estimator is not model.estimator_:  # it was set after fit
            parts["estimator_then"] = model.estimator
        for each in (model.estimator, model.estimator_):
            check_adaptable(each)
        return (
            write_requests(model)
            | {
                "class": "AdaptedClassifier",
                "parameters": encode_each(
                    {"imprint": model.imprint}, arrays.of("parameters")
                ),
                "share": model.share_,
                "weights": model.weights_.tolist(),
            }
            | {k: _write(v, arrays.of(k), files, learning) for k, v in parts.items()}
        )
    if type(model) is FrozenEstimator:
        inner = _write(model.estimator, arrays, files, learning)
        return {"class": "FrozenEstimator", "estimator": inner}
    if type(model) is Pipeline:
        steps = [
            [name, _write(step, arrays.of(name), files, learning)]
            for name, step in model.steps
        ]
        params = {k: getattr(model, k) for k in _PIPELINE_PARAMETERS}
        return {"class": "Pipeline", "steps": steps} | params
    if type(model) is FoundationEmbedder:
        # The cache is a folder of this machine.
        params = model.get_params(deep=False) | {"cache_dir": None}
        facts = {k: getattr(model, k) for k in _EMBEDDER_FACTS if hasattr(model, k)}
        return {
            "class": "FoundationEmbedder",
            "parameters": encode_each(params, arrays),
            "facts": encode(facts, "", arrays),
            "fingerprint": model.fingerprint_ if facts else None,
            "output": getattr(model, "_sklearn_output_config", {}).get("transform"),
        }
    if model is None or isinstance(model, str):
        return model
    return _write_step(model, files)


def _write_step(model, files):
    """Write an estimator of scikit-learn's to a file of its own."""
    if not type(model).__module__.startswith("sklearn."):
        raise ValueError(
            "model must be an ImprintClassifier, an ImprintClassifierCV, an "
            "AdaptedClassifier or a Pipeline of them, a FoundationEmbedder and "
            f"estimators of scikit-learn; got {model!r}. Save the parts that it is "
            "made of."
        )
    skops = require("skops.io", "Saving estimators of scikit-learn")
    # Not every file system can hold names of steps, or tells "PCA" from "pca".
    name = f"estimator_{len(files)}{STEP}"
    files[name] = skops.dumps(model)
    types = skops.get_untrusted_types(data=files[name])
    try:
        skops.loads(files[name], trusted=types)
    except (AttributeError, ImportError) as error:  # only the name is written
        raise ValueError(
            f"{type(model).__name__} has a function or class that cannot be found by "
            f"its name: {error}. Define it at the top of a module, and fit again; or "
            "pickle the model, and load it only where you trust the file, for that "
            "runs code."
        ) from error
    return {"class": "skops", "file": name, "untrusted": types}


def _read(config, arrays, folder, trust):
    """Make a model, or a part of one, of what `_write` returned."""
    if config in (None, "passthrough"):
        return config
    kind = config["class"]
    if kind == "ImprintClassifier":
        return read_classifier(config, arrays)
    if kind == "ImprintClassifierCV":
        model = ImprintClassifierCV(**decode_each(config["parameters"], arrays))
        model._validate_params()
        for name in _RESULTS:
            setattr(model, name, decode(config["results"][name], arrays))
        model.best_estimator_ = _read(config["best"], arrays.of("best"), folder, trust)
        if hasattr(model.best_estimator_, "feature_names_in_"):
            model.feature_names_in_ = model.best_estimator_.feature_names_in_
        model.scorer_ = model._made_scorers()
        model.multimetric_ = isinstance(model.scorer_, dict)
        return model
    if kind == "AdaptedClassifier":
        parts = {
            name: _read(config[name], arrays.of(name), folder, trust)
            for name in ("estimator", "estimator_then")
            if name in config
        }
        for each in parts.values():
            check_adaptable(each)
        then = parts.get("estimator_then", parts["estimator"])
        params = decode_each(config["parameters"], arrays)
        model = AdaptedClassifier(then, **params)
        # Errors name types: the repr of parts in parts takes twice as long for each.
        if not isinstance(model.imprint, ImprintClassifier | None):
            raise ValueError(f"imprint cannot be a {type(model.imprint).__name__}.")
        read_requests(model, config)
        model.estimator_ = parts["estimator"]
        model.imprint_ = read_classifier(config["imprint"], arrays.of("imprint"))
        model.share_ = number(config["share"], "share", SHARE)
        first, second = (number(w, "weights", FINITE) for w in config["weights"])
        model.weights_ = np.array([first, second])
        for name in ("classes_", "n_features_in_", "feature_names_in_"):
            if hasattr(model.imprint_, name):
                setattr(model, name, getattr(model.imprint_, name))
        return model
    if kind == "FrozenEstimator":
        inner = _read(config["estimator"], arrays, folder, trust)
        if not hasattr(inner, "fit"):
            raise ValueError(f"a FrozenEstimator must have an estimator; got {inner}.")
        return FrozenEstimator(inner)
    if kind == "Pipeline":
        steps = [
            (name, _read(step, arrays.of(name), folder, trust))
            for name, step in config["steps"]
        ]
        if not steps:
            raise ValueError("a Pipeline must end with an estimator; it has no steps.")
        return Pipeline(steps, **{k: config[k] for k in _PIPELINE_PARAMETERS})
    if kind == "FoundationEmbedder":
        return _read_embedder(config, arrays, trust)
    if kind == "skops":
        return _read_step(config["file"], folder, trust)
    raise ValueError(f"{kind!r} is no kind of a model.")


def _read_step(name, folder, trust):
    """Load an estimator of scikit-learn's from its file."""
    skops = require("skops.io", "Loading estimators of scikit-learn")
    path = regular_file(folder, name)
    try:
        check_archive(path)
        step = skops.load(path, trusted=trust["trusted"])
    except skops.exceptions.UntrustedTypesFoundException as error:
        raise ValueError(
            f"{error} Read what they are, and pass trusted=[...] with these names "
            "if you trust them."
        ) from error
    except (ImportError, ValueError):
        raise
    except Exception as error:  # archives and arrays raise what they like
        raise ValueError(
            f"{path.name} is damaged: {type(error).__name__}: {error}"
        ) from error
    # Folders with pickles that the next fit would load; no steps of that name.
    for part in (step, *step.get_params().values()):
        own = part.get_params(deep=False) if isinstance(part, BaseEstimator) else ()
        if "memory" in own:
            part.set_params(memory=None)
    return step


def _read_embedder(config, arrays, trust):
    params = decode_each(config["parameters"], arrays)
    # By arguments of their own, libraries may be told to run code, too.
    for name in ("trust_remote_code", "model_kwargs"):
        if params[name] and not trust["trust_remote_code"]:
            raise ValueError(
                f"its embedder may run code that comes with the model "
                f"{params['model']!r}, by {name}={params[name]!r}. If you trust it, "
                "pass trust_remote_code=True."
            )
    # Nobody's cache is to be read or written because a file says so.
    model = FoundationEmbedder(**params | {"cache_dir": None})
    facts = decode(config["facts"], arrays)
    for name in facts.keys() & set(_EMBEDDER_FACTS):
        setattr(model, name, facts[name])
    if "n_features_out_" in facts:
        model._n_features_out = facts["n_features_out_"]
    return model.set_output(transform=config.get("output"))
