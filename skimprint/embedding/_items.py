"""What one item is, and what is wrong with it."""

from .._arrays.device import is_out_of_memory

# Items that are looked at together: more cost memory, fewer cost time.
WINDOW = 2**14


class ItemError(ValueError):
    """One item that cannot be embedded; the message says why."""


class ItemMemoryError(ItemError, MemoryError):
    """One item that does not fit into memory."""


class SettingError(ValueError):
    """A setting that no item can be embedded with; no item is to blame."""


def item_error(error, what):
    """Turn any error into one that is about an item.

    Parameters
    ----------
    error : Exception
        What was raised.
    what : str
        What failed with it.

    Returns
    -------
    error : ItemError
        With the same text, and the error's type in it.
    """
    if isinstance(error, ImportError | SettingError):
        raise error  # a library that is missing is no fault of the item
    if isinstance(error, ItemError):
        return error
    if is_out_of_memory(error):
        made = ItemMemoryError(
            f"{what} runs out of memory with a single item: use a smaller model or "
            f"dtype='bfloat16'. ({error})"
        )
    else:
        text = f": {error}" if str(error) else ""
        made = ItemError(f"{what} failed with {type(error).__name__}{text}")
    made.__cause__ = error
    return made


def describe(item, limit=200):
    """Name an item in an error message, in a few words."""
    if hasattr(item, "shape"):
        shape = tuple(item.shape)
        return f"{type(item).__name__} of shape {shape} and dtype {item.dtype}"
    if isinstance(item, tuple):
        return f"({', '.join(map(describe, item))})"
    if isinstance(item, dict):
        return f"{{{', '.join(f'{k!r}: {describe(v)}' for k, v in item.items())}}}"
    if isinstance(item, bytes):
        return f"bytes of length {len(item)}"
    if is_pil(item):
        return f"{item.mode} image of size {item.size}"
    text = repr(item)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def is_pil(item):
    """Whether an item is a picture of Pillow."""
    return hasattr(item, "getexif") and hasattr(item, "mode")
