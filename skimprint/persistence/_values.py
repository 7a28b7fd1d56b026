"""Write the values of parameters as JSON and arrays, and read them again."""

import importlib
import inspect
import math
import os

import numpy as np

from .._validation import as_objects
from ..classifier._plain.arrays import n_bytes_of_text


def _components(*modules):
    """List public classes of estimators, of their parts, and of splitters, by name.

    Without the embedder, which may run code and has a folder of its own.
    """
    return {
        f"{module.__name__}.{name}": value
        for module in map(importlib.import_module, modules)
        for name in module.__all__
        if isinstance(value := vars(module).get(name), type)
        and (hasattr(value, "get_params") or hasattr(value, "split"))
        and name != "FoundationEmbedder"
    }


_OURS = (
    "skimprint",
    "skimprint.generation",
    "skimprint.aggregation",
    "skimprint.model_selection",
)

# Modules whose components may stand in a file. None of them does more than keep its
# parameters when it is made, as other public classes do. Those of scikit-learn are
# imported for files that have some: to import clusterers takes a tenth of a second.
_MODULES = (*_OURS, "sklearn.cluster", "sklearn.model_selection")

# Components within components that a file may have: a search, its classifier, a
# generator and a clusterer are four. An error about one shows all that is in it, which
# takes scikit-learn twice as long for each level.
_MAX_LEVELS = 8

TRUSTED_TYPES = [*_components(*_OURS, "skimprint.cluster")]

# What NumPy calls the numbers that a file may hold.
_SCALARS = (
    *("bool", "float16", "float32", "float64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


def encode(value, where, arrays):
    """Make JSON of a value; numbers in arrays go to the arrays.

    Parameters
    ----------
    value : object
        A parameter or a result.
    where : str
        The name of the parameter, for errors and for arrays.
    arrays : Arrays
        Gets the arrays.

    Returns
    -------
    encoded : None, bool, int, float, str, list or dict
        A dict has one key, which says what it stands for.

    Raises
    ------
    ValueError
        If the value can only be pickled.
    """
    if value is None or isinstance(value, str):
        return None if value is None else str.__str__(value)  # of an Enum's member, too
    if isinstance(value, np.generic) and value.dtype.name in _SCALARS:
        plain = encode(value.item(), where, arrays)
        return {"number": [value.dtype.name, plain]}
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"number": ["float", str(value)]}
    if isinstance(value, np.ma.MaskedArray):
        both = value.data.tolist(), np.ma.getmaskarray(value).tolist()
        return {"masked": [_dtype_name(value, where), *encode_all(both, where, arrays)]}
    if isinstance(value, np.ndarray):
        if value.dtype.name in _SCALARS:
            return {"array": arrays.add(where, value)}
        values = encode(value.tolist(), where, arrays)
        return {"objects": [_dtype_name(value, where), values]}
    if isinstance(value, list):
        return encode_all(value, where, arrays)
    if isinstance(value, tuple):
        return {"tuple": encode_all(value, where, arrays)}
    if hasattr(value, "items"):
        return {"dict": encode_all(list(value.items()), where, arrays)}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    kind = type(value)
    if kind.__module__ == "torch" and kind.__name__ in ("device", "dtype"):
        return str(value).removeprefix("torch.")  # whatever takes one takes its name
    names = [name for name, known in _components(*_MODULES).items() if known is kind]
    if not names:
        raise ValueError(_refusal(value, where))
    prefix = f"{where}__" if where else ""
    params = encode_each(parameters_of(value), arrays, prefix)
    return {"component": [names[0], params]}


def decode(encoded, arrays):
    """Make a value again of what `encode` returned.

    Parameters
    ----------
    encoded : None, bool, int, float, str, list or dict
        The JSON.
    arrays : Checked
        The arrays.

    Returns
    -------
    value : object
    """
    if isinstance(encoded, list):
        return [decode(each, arrays) for each in encoded]
    if not isinstance(encoded, dict):
        return encoded
    ((kind, content),) = encoded.items()
    if kind == "number":
        name, number = content
        if name == "float":
            return float(number)
        if name not in _SCALARS:
            raise ValueError(f"{name!r} is no type of a number.")
        return np.dtype(name).type(decode(number, arrays))
    if kind == "array":
        array = arrays.any(content)
        arrays.spend(array.nbytes)  # it may be named again and again
        return array
    if kind == "objects":
        name, values = content
        return _array(decode(values, arrays), name, arrays)
    if kind == "masked":
        name, values, mask = content
        return np.ma.MaskedArray(_array(decode(values, arrays), name, arrays), mask)
    if kind == "tuple":
        return tuple(decode(content, arrays))
    if kind == "dict":
        return dict(decode(content, arrays))
    if kind == "component":
        name, params = content
        module = name.rpartition(".")[0]
        known = _components(module) if module in _MODULES else {}
        if name not in known:
            raise ValueError(f"{name!r} is no component that a file may name.")
        if (levels := _levels_of(encoded)) > _MAX_LEVELS:
            raise ValueError(
                f"{name!r} must have at most {_MAX_LEVELS} levels of components; it "
                f"has {levels}."
            )
        params = decode_each(params, arrays)
        params.pop("memory", None)  # of a clusterer: a folder with pickles to be loaded
        return known[name](**params)
    raise ValueError(f"{kind!r} is no kind of a value.")


def _levels_of(encoded):
    """Count components within components."""
    if not isinstance(encoded, list | dict):
        return 0
    is_one = isinstance(encoded, dict) and "component" in encoded
    parts = encoded.values() if isinstance(encoded, dict) else encoded
    return is_one + max(map(_levels_of, parts), default=0)


def encode_each(values, arrays, prefix=""):
    """Encode the values of a dict, each under its own name."""
    return {name: encode(v, prefix + name, arrays) for name, v in values.items()}


def decode_each(encoded, arrays):
    """Make values again of what `encode_each` returned."""
    return {name: decode(value, arrays) for name, value in encoded.items()}


def encode_all(values, where, arrays):
    """Encode several values, each under a name of its own."""
    return [encode(v, f"{where}.{i}", arrays) for i, v in enumerate(values)]


def parameters_of(value):
    """Find the parameters of a component, those of splitters included."""
    if hasattr(value, "get_params"):
        return value.get_params(deep=False)
    names = inspect.signature(type(value).__init__).parameters
    held = vars(value).get("cvargs", {}) | vars(value)  # of one that repeats another
    return {name: held[name] for name in names if name in held}


def _dtype_name(array, where):
    if array.dtype.name in (*_SCALARS, "object"):
        return array.dtype.name
    if array.dtype.kind == "U":
        return "str"
    raise ValueError(_refusal(array, where))


def _array(values, name, arrays):
    """Make an array of lists, of the shape that the lists have."""
    if name == "object":
        return as_objects(values)
    if name == "str":
        texts = np.array(values, object).ravel().tolist()
        arrays.spend(n_bytes_of_text(texts))
    if name not in (*_SCALARS, "str"):
        raise ValueError(f"{name!r} is no dtype of an array.")
    return np.array(values, name)


def _refusal(value, where):
    if isinstance(value, np.random.RandomState):
        cure = "Pass an int, such as 0, and fit again."
    elif where in ("model", "preprocess"):
        cure = (
            "Pass the name of a model, such as 'timm:vit_small_patch14_dinov2."
            "lvd142m', which brings its own preprocessing; or save the classifier "
            "only, and embed before it."
        )
    else:
        cure = (
            "Pass one of the named values of the parameter or a component of "
            "skimprint's, and fit again; or pickle the model, and load it only where "
            "you trust the file, for that runs code."
        )
    text = repr(value)
    text = text if len(text) < 200 else f"{text[:200]}..."
    return (
        f"{where} must be a value that can be written without pickle: a number, text, "
        f"an array or a component of skimprint or scikit-learn; got {text}. {cure}"
    )
