"""Names for a model and its preprocessing that change when either changes."""

import hashlib
import types

import numpy as np

# Texts that a tokenizer's settings show on: case, accents, signs, emptiness, length.
_PROBE_TEXTS = [
    "",
    "Where is my ORDER?",
    "Ça coûte 12,50 € à Zürich…",
    "日本語",
    "a " * 999,
]
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
        values = (
            sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        )
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

    Where the tensors lie, how often they were written to, and the sum of their bytes
    (read as integers), which tells even of writes that torch does not count.
    """
    return tuple(
        (
            name,
            tensor.data_ptr(),
            None if tensor.is_inference() else tensor._version,
            _byte_sum(tensor),
        )
        for name, tensor in named_tensors(module)
    )


def _byte_sum(tensor):
    import torch

    if tensor.device.type == "meta":
        return 0
    flat = tensor.detach().contiguous().reshape(-1)
    n_bytes = flat.numel() * flat.element_size()
    if n_bytes % 8 or flat.storage_offset() * flat.element_size() % 8:
        return flat.view(torch.uint8).sum(dtype=torch.int64).item()
    return flat.view(torch.int64).sum().item()


def named_tensors(module):
    """Yield the name and tensor of each parameter and buffer."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def structure_digest(module):
    """Digest what a module computes, apart from its weights.

    Its parts with their plain attributes (the number of heads, say), its configuration
    if it has one, and the bytecode of classes from outside torch.
    """
    parts = [repr(module)]
    classes = {}
    for name, part in module.named_modules():
        settings = {
            key: value
            for key, value in vars(part).items()
            if key != "training" and _is_plain(value)
        }
        parts.append((name, type(part).__qualname__, settings))
        classes[type(part)] = None
    parts.extend(_class_code(cls) for cls in classes)
    config = getattr(module, "config", None)
    if hasattr(config, "to_dict"):
        # Where the configuration was read from, and by which version, does not matter.
        parts.append(
            {
                key: value
                for key, value in config.to_dict().items()
                if not key.startswith("_") and key != "transformers_version"
            }
        )
    return digest(parts)


def _is_plain(value):
    return isinstance(value, _PLAIN) or (
        isinstance(value, tuple) and all(isinstance(part, _PLAIN) for part in value)
    )


def _class_code(cls):
    if cls.__module__.partition(".")[0] == "torch":
        return None
    functions = [
        value for value in vars(cls).values() if isinstance(value, types.FunctionType)
    ]
    return [_code_parts(function.__code__) for function in functions]


def _code_parts(code):
    constants = [
        _code_parts(value) if isinstance(value, types.CodeType) else repr(value)
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
    first, second = (digest([preprocess(probe) for probe in probes]) for _ in range(2))
    if first != second:
        raise UncacheableError(
            "preprocess gives different results for the same image, so that nothing "
            "can be cached: take random augmentation out of it, or leave cache_dir=None"
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
    vocabulary = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else None
    return digest(vocabulary, [tokenize([text]) for text in _PROBE_TEXTS])
