"""Names for a model and its preprocessing that change when either changes.

A module's code is followed into the functions that it calls by name, those of its own
file and of other files that are not installed packages. It is not followed into
classes, objects and containers that are named globally, into names looked up at run
time, nor into installed code, which changes with its version.
"""

import functools
import hashlib
import pickle
import re
import sys
import types
import zlib
from pathlib import Path

import numpy as np

# Texts that a tokenizer's settings show on: case, accents, signs, emptiness, length.
_PROBE_TEXTS = [
    "",
    "Where is my ORDER?",
    "Ça coûte 12,50 € à Zürich…",
    "日本語",
    "a " * 999,
]
# Long enough to tell where a text is cut.
_LONG_TEXT = " ".join(str(number) for number in range(2000))
_PLAIN = (bool, int, float, complex, str, bytes, types.NoneType)


class UncacheableError(ValueError):
    """A model whose results cannot be cached, because no name for it can be made."""


def digest(*parts):
    """Digest a sequence of values into one hexadecimal name.

    Parameters
    ----------
    *parts : bytes, str, ndarray, tensor, or containers of these and plain values
        What to digest. The order of a dict's keys does not matter.

    Returns
    -------
    name : str
        64 hexadecimal digits.
    """
    hasher = hashlib.sha256()
    for part in parts:
        _update(hasher, part)
    return hasher.hexdigest()


def _update(hasher, value):
    if isinstance(value, _PLAIN):
        data = value if isinstance(value, bytes) else repr(value).encode()
        hasher.update(f"{type(value).__name__} {len(data)} ".encode())
        hasher.update(data)
    elif isinstance(value, (list, tuple, set, frozenset)):
        # The order of a set, and so its repr, differs from process to process.
        unordered = isinstance(value, (set, frozenset))
        values = sorted(digest(part) for part in value) if unordered else value
        hasher.update(f"sequence {len(values)} ".encode())
        for part in values:
            _update(hasher, part)
    elif hasattr(value, "items"):
        _update(hasher, sorted((str(key), part) for key, part in value.items()))
    elif hasattr(value, "untyped_storage"):
        _update_tensor(hasher, value)
    elif isinstance(value, np.ndarray):
        hasher.update(f"array {value.dtype} {value.shape} ".encode())
        hasher.update(np.ascontiguousarray(value))
    elif hasattr(value, "mode") and hasattr(value, "tobytes"):  # a PIL image
        _update(hasher, (value.mode, value.size, value.tobytes()))
    else:
        _update(hasher, repr(value))


def _update_tensor(hasher, tensor):
    import torch

    hasher.update(f"tensor {tensor.dtype} {tuple(tensor.shape)} ".encode())
    if tensor.device.type != "meta":
        data = tensor.detach().cpu().contiguous().reshape(-1)
        hasher.update(data.view(torch.uint8).numpy())


def weights_digest(module):
    """Digest the parameters and buffers of a module."""
    return digest(dict(named_tensors(module)))


def weights_stamp(module):
    """Name the state of a module's weights, much faster than by their digest.

    Where the tensors lie, how often they were written to, and a checksum of their
    bytes in order, which tells even of writes that torch does not count.
    """
    return tuple(
        (
            name,
            tensor.data_ptr(),
            None if tensor.is_inference() else tensor._version,
            _checksum(tensor),
        )
        for name, tensor in named_tensors(module)
    )


def _checksum(tensor):
    import torch

    if tensor.device.type == "meta":
        return 0
    data = tensor.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(data.view(torch.uint8).numpy())


def named_tensors(module):
    """Yield the name and tensor of each parameter and buffer."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def structure_digest(module):
    """Digest what a module computes, apart from its weights.

    Its parts with their attributes and hooks, its configuration if it has one, and the
    code of classes and functions from outside torch.
    """
    return _Describer().describe(module, "model", weights=False)


# Their objects are described by their settings, their functions by their code alone.
_KNOWN = {
    "huggingface_hub",
    "open_clip",
    "sentence_transformers",
    "timm",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
}
# Attributes of a module that are named elsewhere, or that its results do not depend on.
_NO_SETTINGS = {
    "training",
    "name_or_path",
    "_parameters",
    "_buffers",
    "_modules",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class _Describer:
    """Digests of objects of all kinds, by what they hold."""

    def __init__(self):
        self._done = {}  # of an object's id, the object, which keeps it, and its digest

    def describe(self, value, path, weights=True):
        """Digest a value; the path to it is for messages."""
        if isinstance(value, _PLAIN):
            return digest(value)
        if id(value) not in self._done:
            self._done[id(value)] = value, f"within itself, {len(self._done)}"
            parts = self._parts(value, path, weights)
            self._done[id(value)] = value, digest(type(value).__qualname__, parts)
        return self._done[id(value)][1]

    def _parts(self, value, path, weights):
        if hasattr(value, "named_modules") and not isinstance(value, type):
            return self._module(value, path, weights)
        if isinstance(value, types.FunctionType):
            return self._function(value, path)
        if isinstance(value, type):
            return self._class(value, path)
        if isinstance(value, types.ModuleType):
            return value.__name__
        if isinstance(value, types.BuiltinFunctionType):
            owner = value.__self__
            if owner is not None and not isinstance(owner, (type, types.ModuleType)):
                owner = self.describe(owner, path)
            return [value.__module__, value.__qualname__, repr(owner)]
        if isinstance(value, types.MethodType):
            return self._all([value.__func__, value.__self__], path)
        if isinstance(value, functools.partial):
            return self._all([value.func, value.args, value.keywords], path)
        if isinstance(value, (staticmethod, classmethod)):
            return self.describe(value.__func__, path)
        if isinstance(value, property):
            return self._all([value.fget, value.fset], path)
        if isinstance(value, functools.cached_property):
            return self.describe(value.func, path)
        if hasattr(value, "untyped_storage") or (
            isinstance(value, np.ndarray) and value.dtype != object
        ):
            return digest(value)
        if isinstance(value, (list, tuple)):
            return self._all(value, path)
        if isinstance(value, (set, frozenset)):
            return sorted(self._all(value, path))
        if isinstance(value, dict):
            return self._dict(value, path)
        return self._object(value, path)

    def _all(self, values, path):
        return [self.describe(value, path) for value in values]

    def _dict(self, mapping, path):
        return sorted(
            (
                key if isinstance(key, str) else self.describe(key, path),
                self.describe(value, f"{path}.{key}"),
            )
            for key, value in mapping.items()
        )

    def _module(self, module, path, weights):
        parts = [re.sub(r"\b0x[0-9a-f]+", "", repr(module))]
        for name, part in module.named_modules(remove_duplicate=False):
            place = f"{path}.{name}" if name else path
            # What parts refer back to is named by its place.
            self._done.setdefault(id(part), (part, f"part {name}"))
            settings = {
                key: [*value.values()] if key in _HOOKS else value
                for key, value in vars(part).items()
                if key not in _NO_SETTINGS
            }
            parts.append(
                [
                    name,
                    sorted(part._parameters),
                    sorted(part._buffers),
                    self.describe(type(part), place),
                    self._dict(settings, place),
                ]
            )
        if weights:
            parts.append(weights_digest(module))
        return parts

    def _class(self, cls, path):
        """Describe a class and those that it inherits from."""
        parts = []
        for base in cls.__mro__:
            library = base.__module__.partition(".")[0]
            parts.append(base.__qualname__)
            if library in ("torch", "builtins"):
                continue
            for name, value in sorted(vars(base).items()):
                own = library not in _KNOWN and not _is_internal(name)
                if own or isinstance(value, types.FunctionType):
                    parts.append((name, self.describe(value, f"{path}.{name}")))
        return parts

    def _function(self, function, path):
        code = function.__code__
        if _is_known(function):
            return [function.__qualname__, _code_parts(code)]
        cells = [
            cell.cell_contents if _is_filled(cell) else None
            for cell in function.__closure__ or ()
        ]
        # Its own module's constants and helpers are as much a part of it.
        names = _global_names(code)
        helpers = {}
        for name in names & function.__globals__.keys():
            value = function.__globals__[name]
            if isinstance(value, types.ModuleType) and _is_users(value.__name__):
                helpers |= {
                    f"{name}.{part}": getattr(value, part)
                    for part in names & vars(value).keys()
                    if _is_helper(getattr(value, part), value.__name__)
                }
            elif not _is_internal(name) and _is_helper(value, function.__module__):
                helpers[name] = value
        held = [function.__defaults__, function.__kwdefaults__, cells, helpers]
        return [_code_parts(code), *self._all(held, path)]

    def _object(self, value, path):
        if hasattr(value, "get_vocab"):
            # A tokenizer has its own digest; calls change its settings.
            return type(value).__module__
        if _is_known(value):
            settings = value.to_dict() if hasattr(value, "to_dict") else None
            if not isinstance(settings, dict):
                settings = getattr(value, "__dict__", {"repr": repr(value)})
                settings = {k: v for k, v in settings.items() if isinstance(v, _PLAIN)}
            # Where it was read from, and by which version, does not matter.
            settings = {
                key: part
                for key, part in settings.items()
                if not str(key).startswith("_")
                and key not in ("name_or_path", "transformers_version")
            }
            return [type(value).__module__, settings]
        if hasattr(value, "__dict__"):
            return self._all([type(value), vars(value)], path)
        try:
            return pickle.dumps(value, protocol=4)
        except Exception as error:
            raise UncacheableError(
                f"{path} is a {type(value).__name__}, of which it cannot be told "
                "whether it stays the same, so that nothing can be cached: keep it "
                "out of the model, or leave cache_dir=None"
            ) from error


def _is_known(value):
    """Whether a class, function or object comes from a library of models."""
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0] in _KNOWN


def _is_helper(value, module):
    """Whether a global value is followed: plain, or a function of the user's."""
    if isinstance(value, types.FunctionType):
        return value.__module__ == module or _is_users(value.__module__)
    return isinstance(value, _PLAIN)


def _is_users(module):
    """Whether a module is the user's own: a file that no installer put there."""
    library = str(module).partition(".")[0]
    if library in sys.stdlib_module_names or library in sys.builtin_module_names:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    installed = {"site-packages", "dist-packages"}
    return file is not None and not installed & set(Path(file).parts)


def _is_internal(name):
    return (name.startswith("__") and name.endswith("__")) or name == "_abc_impl"


def _is_filled(cell):
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _global_names(code):
    names = set(code.co_names)
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            names |= _global_names(value)
    return names


def _code_parts(code):
    constants = [
        _code_parts(value) if isinstance(value, types.CodeType) else value
        for value in code.co_consts
    ]
    return [code.co_code, code.co_names, constants]


def image_preprocessing_digest(preprocess):
    """Digest what a preprocessing does to two probe images, one wide, one high.

    Asking what it does, and not how it is written, sees through closures, library
    versions and the files that it reads.

    Parameters
    ----------
    preprocess : callable
        From an RGB image to tensors or arrays.

    Returns
    -------
    name : str
        Hexadecimal digest.
    """
    from PIL import Image

    rng = np.random.default_rng(0)
    probes = []
    for width, height in ((317, 241), (181, 263)):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        probes.append(Image.fromarray(coarse).resize((width, height)))
    return _repeatable(lambda: digest([preprocess(probe) for probe in probes]), "image")


def text_preprocessing_digest(preprocess):
    """Digest what a preprocessing does to probe texts, long ones among them.

    Parameters
    ----------
    preprocess : callable
        From one text to tensors or arrays; it may refuse some texts.

    Returns
    -------
    name : str
        Hexadecimal digest.
    """

    def attempt(text):
        try:
            return preprocess(text)
        except Exception as error:
            failures.append(error)
            return type(error).__name__

    failures = []
    probes = [*_PROBE_TEXTS, _LONG_TEXT]
    name = _repeatable(lambda: digest([attempt(text) for text in probes]), "text")
    if len(failures) >= 2 * len(probes):
        raise UncacheableError(
            "preprocess fails for all texts that it was tried on, so that nothing can "
            f"be cached; the last error was {failures[-1]!r}"
        )
    return name


def _repeatable(make_digest, modality):
    first, second = make_digest(), make_digest()
    if first != second:
        raise UncacheableError(
            f"preprocess gives different results for the same {modality}, so that "
            "nothing can be cached: take random augmentation out of it, or leave "
            "cache_dir=None"
        )
    return first


def tokenizer_digest(tokenizer, tokenize):
    """Digest a tokenizer: its vocabulary, and what it does to probe texts.

    Parameters
    ----------
    tokenizer : object
        With ``get_vocab`` if it has a vocabulary to tell.
    tokenize : callable
        From a list of texts to tensors, truncation and prompt included.

    Returns
    -------
    name : str
        Hexadecimal digest.
    """
    probes = [*_PROBE_TEXTS, _LONG_TEXT]
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None
    return digest(vocabulary, [tokenize([text]) for text in probes])
