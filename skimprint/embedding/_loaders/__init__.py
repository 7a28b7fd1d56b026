"""From the `model` parameter to a `Backbone`: by library and name, module or callable.

A library is one module here with a subclass of `Loader`, and one entry in `LOADERS`.
"""

import contextlib
import importlib
import os
import threading
from collections import OrderedDict
from difflib import get_close_matches

from ..._arrays.threads import ForkSafeLock
from .._backbone import Backbone
from .._extras import require
from .._fingerprint import UncacheableError, digest
from .._items import SettingError
from .._sounds import resampled
from ._module import module_backbone

# Where the loader of each library is, imported when it is asked for.
LOADERS = {
    "timm": f"{__name__}._timm:Timm",
    "torchvision": f"{__name__}._torchvision:Torchvision",
    "transformers": f"{__name__}._transformers:Transformers",
    "sentence-transformers": f"{__name__}._sentence_transformers:SentenceTransformers",
    "open_clip": f"{__name__}._open_clip:OpenClip",
    "model2vec": f"{__name__}._model2vec:Model2Vec",
    "onnx": f"{__name__}._onnx:Onnx",
}

# Models that were loaded with others of these, or of `model_kwargs`, are not shared.
_OPTIONS_OF_LOADING = ("device", "revision", "local_files_only", "trust_remote_code")

# Named models of this process, so that clones share them; the oldest makes way.
_MAX_LOADED = 4
_LOADED = OrderedDict()
_LOADED_LOCK = ForkSafeLock(threading.RLock)


def backbone_for(model, options, preprocess=None):
    """Make the `Backbone` that embeds with a model.

    Parameters
    ----------
    model : str, torch.nn.Module or callable
        The `model` of `FoundationEmbedder`.
    options : Options
        Its other settings that concern the model.
    preprocess : callable, default=None
        From one item to a tensor, for a module.

    Returns
    -------
    backbone : Backbone
        Ready to run.
    """
    is_module = hasattr(model, "named_parameters") and hasattr(model, "modules")
    if is_module and isinstance(model, type):
        raise TypeError(
            f"model must be a module; got the class {model.__name__}. Write "
            f"model={model.__name__}(...)."
        )
    if preprocess is not None and not is_module:
        raise ValueError(
            "preprocess is for a torch.nn.Module; "
            + (
                "a named model brings its own."
                if isinstance(model, str)
                else "a callable gets the items and does its own preprocessing."
            )
        )
    if not isinstance(model, str):
        why = "is for models that are loaded by name"
        options.refuse("revision", "model_kwargs", why=why)
    if isinstance(model, str):
        backbone = _named_backbone(model, options)
    elif is_module:
        backbone = module_backbone(model, options, preprocess)
    elif callable(model):
        backbone = _callable_backbone(model, options)
    else:
        raise TypeError(
            "model must be a string '<library>:<name or path>', a torch.nn.Module or a "
            f"callable from a list of items to an array, got {type(model).__name__}."
        )
    backbone.apply_common(options)
    return backbone


def parse_model_name(model):
    """Split ``"<library>:<name or path>"``.

    Parameters
    ----------
    model : str
        As the user wrote it.

    Returns
    -------
    library : str
        One that there is a loader for.
    name : str
        The rest.
    """
    library, colon, name = model.partition(":")
    known = {key.replace("-", "_"): key for key in LOADERS}
    key = known.get(library.replace("-", "_"))
    if colon and key and name:
        return key, name
    is_misspelt = name and get_close_matches(library, LOADERS)
    name = (name if key or is_misspelt else model) or "<name or path>"
    choices = ", ".join(repr(f"{library}:{name}") for library in LOADERS)
    raise ValueError(
        f"model={model!r} does not say which library and model to load. Write one of "
        f"{choices}, or pass a torch.nn.Module with preprocess=, or a callable."
    )


def _named_backbone(model, options):
    library, name = parse_model_name(model)
    module, _, loader = LOADERS[library].partition(":")
    loader = getattr(importlib.import_module(module), loader)
    require(loader.library, f"model={model!r}", loader.package)
    path = os.path.expanduser(name).rstrip("/")  # noqa: PTH111 (faster)
    stamp = _files_stamp(path, loader)
    name = name if stamp is None else path
    options = loader.resolve(options)
    given = (getattr(options, each) for each in _OPTIONS_OF_LOADING)
    key = (library, name, stamp, *given, digest(options.model_kwargs))
    with _LOADED_LOCK:
        if key not in _LOADED:
            with _naming(model, library, OSError, ValueError):
                _LOADED[key] = loader(name, options)
        _LOADED.move_to_end(key)
        while len(_LOADED) > _MAX_LOADED:
            _LOADED.popitem(last=False)
        with _naming(model, library):
            return _LOADED[key].backbone(options)


@contextlib.contextmanager
def _naming(model, library, *kinds):
    """Name the model in errors of some kinds, and of libraries, which seldom do.

    Those of libraries are of many kinds where a file is damaged. What memory runs out
    of is a RuntimeError, and no fault of the model.
    """
    try:
        yield
    except SettingError:
        raise
    except Exception as error:
        module = type(error).__module__.partition(".")[0]
        is_ours = module in ("builtins", __name__.partition(".")[0])
        is_foreign = not (is_ours or isinstance(error, RuntimeError))
        is_named = f"model={model!r}" in str(error)
        if is_named or not (is_foreign or isinstance(error, kinds)):
            raise
        kinds = (FileNotFoundError, OSError, ValueError)
        raise next((kind for kind in kinds if isinstance(error, kind)), ValueError)(
            f"model={model!r} cannot be loaded. Write its name as {library} knows it, "
            "or the path of a folder that is there, with whole files in it: "
            f"{type(error).__name__}: {error}"
        ) from error


def _files_stamp(path, loader):
    """Sizes and times of local files, so that changed ones are loaded again."""
    if not os.path.exists(path):  # noqa: PTH110 (faster, as below)
        return None
    files, stats = [path, *loader.files_beside(path)], []
    for folder, _, names in os.walk(path):
        files += [os.path.join(folder, name) for name in names]  # noqa: PTH118
    for file in files:
        with contextlib.suppress(OSError):  # not there
            stat = os.stat(file)  # noqa: PTH116
            stats.append((str(file), stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(stats))


def _callable_backbone(model, options):
    why = "has no effect on a callable, which does as it likes"
    options.refuse("device", "dtype", "pooling", why=why)
    rate = getattr(model, "sampling_rate", None)

    def resample(sound):
        return {"array": resampled(sound, rate), "sampling_rate": rate}

    backbone = Backbone(
        model=model,
        modality="any" if options.modality == "auto" else options.modality,
        forward=lambda function, items: function(items),
        fingerprint=lambda: digest(_callable_fingerprint(model, options), rate),
    )
    if options.modality == "audio" and rate is not None:
        backbone.load = resample
    return backbone


def _callable_fingerprint(model, options):
    fingerprint = getattr(model, "fingerprint", None)
    if isinstance(fingerprint, str) and options.modality != "auto":
        return fingerprint
    raise UncacheableError(
        "To cache what a callable returns, say what it is and what it takes: set "
        "model.fingerprint to a string that you change whenever its results do, "
        "and modality='image', 'text' or 'audio'. A method takes no attributes: pass a "
        "function that calls it."
    )
