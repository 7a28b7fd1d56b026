"""Names for a model and its preprocessing that change when either changes.

A module's name is made of its weights, its settings, the code of its own classes and,
where somebody else may change it, what it makes of probe items.
"""

import contextlib
import dis
import functools
import hashlib
import importlib.util
import logging
import re
import sys
import types
from pathlib import Path

import numpy as np
from array_api_compat import is_torch_array

from ._sounds import probe_sounds

# Texts that a tokenizer's settings show on: case, accents, signs, emptiness, length.
_TEXTS = [
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
        for part in tensor_parts(value):
            hasher.update(part)
    elif isinstance(value, np.ndarray):
        hasher.update(f"array {value.dtype} {value.shape} ".encode())
        hasher.update(np.ascontiguousarray(value))
    else:
        _update(hasher, repr(value))


def tensor_parts(tensor):
    """Say what tells a tensor from every other, in bytes: its kind, and its values."""
    import torch

    kind = f"tensor {tensor.dtype} {tuple(tensor.shape)} ".encode()
    if tensor.device.type == "meta":
        return (kind,)
    values = tensor.detach().cpu().contiguous().reshape(-1)
    return kind, values.view(torch.uint8).numpy()


def weights_digest(module):
    """Digest the parameters and buffers of a module."""
    return digest(dict([*module.named_parameters(), *module.named_buffers()]))


# Their objects are described by their settings, not by their code.
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
# Where a model was read from, by which version, and what is said of it, does not
# matter; nor how rows are compared, which sentence-transformers looks up once asked.
_ORIGIN = {
    *("name_or_path", "transformers_version", "model_card_data"),
    *("_similarity", "_similarity_pairwise", "_similarity_fn_name"),
}


def structure_digest(module):
    """Digest how a module is made, apart from its weights.

    Its parts with their classes and attributes, its configuration if it has one. What
    it calls elsewhere is not followed: that shows in what it makes of probe items.
    """
    return digest(_module_parts(module, {}))


def _module_parts(module, seen):
    import torch

    common = vars(torch.nn.Module())  # weights, parts, hooks and the mode
    parts = [re.sub(r"\b0x[0-9a-f]+", "", repr(module))]
    for name, part in module.named_modules(remove_duplicate=False):
        if isinstance(part, torch.jit.ScriptModule):
            raise UncacheableError(
                f"The settings of {type(part).__name__} {part.original_name}, compiled "
                "by torch.jit, cannot be told, so that nothing can be cached: use the "
                "module that it was made of, or leave cache_dir=None"
            )
        seen.setdefault(id(part), (part, f"part {name}"))
        settings = {
            key: value
            for key, value in vars(part).items()
            if key not in common and key not in _ORIGIN
        }
        hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]
        held = _parts([settings, hooks], seen)
        parts.append([name, _class_parts(type(part), seen), held])
    return parts


def _parts(value, seen):
    """Reduce an object to what a digest can be made of."""
    if isinstance(value, _PLAIN):
        return value
    if id(value) in seen:  # it may refer to itself
        return seen[id(value)][1]
    seen[id(value)] = value, f"seen {len(seen)}"  # which keeps it, and so its id
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        return f"{getattr(value, '__module__', '')} {value.__name__}"
    if isinstance(value, logging.Logger):  # it knows all others, which come and go
        return f"logger {value.name}"
    if hasattr(value, "named_modules"):
        return [_module_parts(value, seen), weights_digest(value)]
    if hasattr(value, "untyped_storage") or (
        isinstance(value, np.ndarray) and value.dtype != object
    ):
        return digest(value)
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        held = value.items() if isinstance(value, dict) else value
        if isinstance(value, (set, frozenset)):
            # Numbers of what is seen again must not follow the order of a set, which
            # differs from process to process.
            held = sorted(value, key=lambda part: digest(_parts(part, {})))
        parts = [_parts(part, seen) for part in held]
        return parts if isinstance(value, (list, tuple)) else sorted(map(digest, parts))
    if isinstance(value, types.FunctionType):
        held = [value.__defaults__, value.__kwdefaults__, _enclosed(value)]
        return [_code_parts(value.__code__), _parts(held, seen)]
    if isinstance(value, types.MethodType):
        return _parts([value.__func__, value.__self__], seen)
    if isinstance(value, functools.partial):
        return _parts([value.func, value.args, value.keywords], seen)
    return [type(value).__qualname__, _parts(_settings(value), seen)]


def _settings(value):
    """Attributes of an object; of one from a known library those that are plain."""
    if hasattr(value, "get_vocab"):
        return None  # a tokenizer has its own digest; calls change its settings
    settings = getattr(value, "__dict__", None)
    if settings is None:
        return re.sub(r"\b0x[0-9a-f]+", "", repr(value))
    if type(value).__module__.partition(".")[0] not in _KNOWN:
        return settings
    if isinstance(config := getattr(value, "to_dict", dict)(), dict) and config:
        settings = config
    return {
        key: part
        for key, part in settings.items()
        if not str(key).startswith("_")
        and key not in _ORIGIN
        and (settings is config or isinstance(part, _PLAIN))
    }


def _enclosed(function):
    """List what a function uses of those around it, but for what is no more."""
    held = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):  # it was deleted
            held.append(cell.cell_contents)
    return held


def _class_parts(cls, seen):
    """Describe a class and those that it inherits from by what they define.

    Of a known library that is code, of others also what functions have for defaults
    or from around them, and what data there is.
    """
    parts = []
    for base in cls.__mro__:
        parts.append(base.__qualname__)
        library = base.__module__.partition(".")[0]
        if library in ("torch", "builtins"):
            continue
        for name, value in sorted(vars(base).items()):
            if name.startswith("__annotat"):  # it knows its line, since Python 3.14
                continue
            function = _function_of(value)
            is_data = not name.startswith("__") and (
                _is_plain(value)
                or isinstance(value, (set, frozenset, np.ndarray))
                or is_torch_array(value)
            )
            if library in _KNOWN:
                if isinstance(function, types.FunctionType):
                    parts.append([name, _code_parts(function.__code__)])
                elif is_data and isinstance(value, _PLAIN):
                    parts.append([name, None])
            elif isinstance(value, functools.partialmethod):
                held = value.func, value.args, value.keywords
                parts.append([name, _parts(held, seen)])
            elif is_data or isinstance(function, types.FunctionType):
                parts.append([name, _parts(value if is_data else function, seen)])
    return parts


def _function_of(value):
    """Find what a method of any kind, a property or what is cached calls."""
    for name in ("fget", "__func__", "__wrapped__", "func"):
        if isinstance(value, types.FunctionType):
            break
        value = getattr(value, name, value)
    return value


def code_digest(called):
    """Digest the code of a callable, and of what it calls of the user's.

    Of what these work with, values that cannot change in place count.

    Parameters
    ----------
    called : callable
        A function, a method, a ``partial``, or an object of a class of the user's. What
        belongs to a library does not count.

    Returns
    -------
    name : str
        Hexadecimal digest.
    """
    parts, todo, seen = [], [called], {}
    while todo:
        value = todo.pop()
        if isinstance(value, (*_PLAIN, tuple)):
            parts.append(value if _is_plain(value) else None)
        elif isinstance(value, functools.partial):
            todo += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, types.MethodType):
            todo += [value.__func__, value.__self__]
        elif not isinstance(value, types.FunctionType) and hasattr(
            value, "__wrapped__"
        ):
            todo.append(value.__wrapped__)  # of functools.cache, say
        elif id(value) in seen:
            continue
        elif isinstance(value, types.FunctionType):
            seen[id(value)] = value
            if _is_library(value.__module__):
                continue
            parts.append(_code_parts(value.__code__))
            known = value.__globals__
            names = sorted(_names(value) & known.keys())
            todo += [*(value.__defaults__ or ()), *_enclosed(value)]
            todo += (value.__kwdefaults__ or {}).values()
            todo += [known[name] for name in names]
        elif not isinstance(value, type) and not _is_library(type(value).__module__):
            seen[id(value)] = value
            parts.append(_class_parts(type(value), {}))
            todo += [held for _, held in sorted(getattr(value, "__dict__", {}).items())]
    return digest(parts)


def _names(function):
    """List the global names in a function's code, inner functions included."""
    names, todo = set(), [function.__code__]
    while todo:
        code = todo.pop()
        for step in dis.get_instructions(code):
            if step.opname.endswith(("_GLOBAL", "_NAME")):
                names.add(step.argval)
        todo += [value for value in code.co_consts if isinstance(value, types.CodeType)]
    return names


def _is_plain(value):
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.items()))
    return isinstance(value, _PLAIN)


def _is_library(name):
    """Whether a module comes with Python or was installed, and changes with that."""
    root = (name or "").partition(".")[0]
    if root in sys.stdlib_module_names:
        return True
    try:
        spec = importlib.util.find_spec(root)
    except ValueError:  # of a module that was read from no file
        spec = None
    if spec is None:
        return False
    places = spec.submodule_search_locations or [spec.origin or ""]
    packages = {"site-packages", "dist-packages"}
    return all(packages & {*Path(place).parts} for place in places)


def _code_parts(code):
    constants = [
        _code_parts(value) if isinstance(value, types.CodeType) else value
        for value in code.co_consts
    ]
    return [code.co_code, code.co_names, constants]


def probe_items(modality):
    """Make items to try a model or its preprocessing on.

    Parameters
    ----------
    modality : {"image", "text", "audio"}
        Pictures, texts or sounds; the last is large enough to tell where it is cut.

    Returns
    -------
    items : list
        As a preprocessing gets them.
    """
    if modality == "text":
        return [*_TEXTS, _LONG_TEXT]
    if modality == "audio":
        rate = 16_000
        return [{"array": each, "sampling_rate": rate} for each in probe_sounds(rate)]
    from PIL import Image

    rng = np.random.default_rng(0)
    probes = []
    for width, height in ((317, 241), (181, 263)):
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        probes.append(Image.fromarray(coarse).resize((width, height)))
    return [*probes, probes[0].resize((1057, 803), Image.Resampling.NEAREST)]


def _attempt(process, item, failures):
    """Process an item that may be refused: then the name of the error counts."""
    try:
        return process(item)
    except Exception as error:
        failures.append(error)
        return type(error).__name__


def preprocessing_digest(preprocess, modality):
    """Digest what a preprocessing does to probe items.

    Asking what it does, and not how it is written, sees through closures, library
    versions and the files that it reads.

    Parameters
    ----------
    preprocess : callable
        From one item to tensors or arrays; it may refuse some items.
    modality : {"image", "text", "audio"}
        What items are.

    Returns
    -------
    name : str
        Hexadecimal digest.
    """

    failures, (*small, large) = [], probe_items(modality)
    first, second = (
        digest([_attempt(preprocess, item, failures) for item in small])
        for _ in range(2)
    )
    # Once, since it takes long.
    name = digest(first, _attempt(preprocess, large, failures))
    if len(failures) > 2 * len(small):
        raise UncacheableError(
            f"preprocess fails for each {modality} that it was tried on, so that "
            f"nothing can be cached; the last error was {failures[-1]!r}"
        )
    if first != second:
        raise UncacheableError(
            f"preprocess gives different results for the same {modality}, so that "
            "nothing can be cached: take random augmentation out of it, or leave "
            "cache_dir=None"
        )
    return name
