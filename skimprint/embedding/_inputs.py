"""From what a user passes to items, what each item is, and how it is read."""

import hashlib
import os
from collections.abc import MutableSequence, Sequence, Sized

import numpy as np
from array_api_compat import is_torch_array

from .._arrays.threads import ForkSafeLock
from .._validation import refuse_collections
from ._fingerprint import tensor_parts
from ._items import WINDOW, ItemError, is_pil
from ._pictures import as_image, check_path, read_open, read_path
from ._sounds import as_sound


def as_items(X):
    """Turn any supported container into a list with one entry per item.

    Parameters
    ----------
    X : sequence, array, Series or one-column DataFrame
        Paths, bytes, PIL images, arrays, tensors or texts.

    Returns
    -------
    items : list
        The items, in order.
    """
    refuse_collections(X)
    if isinstance(X, (str, bytes, bytearray, memoryview, os.PathLike)) or is_pil(X):
        raise ValueError(
            f"Expected a list of items, got a single {type(X).__name__}. Pass [item] "
            "to embed one item."
        )
    if hasattr(X, "columns") or _has_column_names(X):
        X = _only_column(X)
    if _is_one_picture(X):
        raise ValueError(
            f"Expected a list of items, got a single image of shape {tuple(X.shape)}. "
            "Pass [item] to embed one item."
        )
    if isinstance(X, np.ndarray):
        items = _array_items(X)
    elif isinstance(X, (list, tuple)) or is_torch_array(X):
        items = list(X)
    elif convert := next(
        (name for name in ("to_pylist", "to_list", "tolist") if hasattr(X, name)), None
    ):  # columns of pandas, polars and Arrow
        items = _column(X, convert)
    elif isinstance(X, Sequence):
        # A column of a dataset decodes what it is asked for: as late as may be.
        items = list(X) if isinstance(X, MutableSequence) else X
    else:
        items = None
    if not isinstance(items, Sequence):
        raise TypeError(
            "Expected a list, array, Series or one-column DataFrame of items, got "
            f"{type(X).__name__}. Turn it into a list first."
        )
    if len(items) == 0:
        raise ValueError("Found no items: at least 1 is required, got an empty X.")
    return items


def _has_column_names(X):
    """Whether something is a table of Arrow, or a dataset of Hugging Face."""
    return isinstance(getattr(X, "column_names", None), list)


def _only_column(frame):
    names = list(frame.column_names if _has_column_names(frame) else frame.columns)
    if len(names) != 1:
        raise ValueError(
            f"Expected a DataFrame with one column, that of the items; got {len(names)}"
            f" columns: {names}. Pass X[column], or use a ColumnTransformer."
        )
    return frame[names[0]]


def _array_items(X):
    if X.ndim == 0:
        raise ValueError("Expected an array of items, got an array without dimensions.")
    if X.ndim == 2 and X.shape[1] == 1 and X.dtype.kind in "OUST":
        X = X[:, 0]
    return _column(X, "tolist") if X.ndim == 1 else list(X)


_SLICEABLE = {"numpy", "pandas", "polars", "pyarrow"}  # their slices are columns, too


def _column(X, convert):
    """Make a list, or a window of it at a time where it would be a large copy."""
    sliced = type(X).__module__.partition(".")[0] in _SLICEABLE and isinstance(X, Sized)
    of_objects = str(getattr(X, "dtype", "")).lower() == "object"  # there already
    if sliced and not of_objects and len(X) > WINDOW:
        return _Column(X, convert)
    return getattr(X, convert)()


def _is_one_picture(X):
    """Whether an array or tensor is one image of 8 bits, with the channels last."""
    if not (isinstance(X, np.ndarray) or is_torch_array(X)):
        return False
    is_uint8 = str(X.dtype).removeprefix("torch.") == "uint8"
    return is_uint8 and X.ndim == 3 and X.shape[-1] in (3, 4)


class _Column(Sequence):
    """A long column, of which a window at a time is turned into items of Python.

    Parameters
    ----------
    column : sequence
        That can be sliced.
    convert : str
        Name of the method that turns a slice into a list.
    """

    def __init__(self, column, convert):
        self.column = getattr(column, "iloc", column)
        self.convert = convert
        self.n_items = len(column)
        self._made = None, []  # where it starts, and the items
        self._lock = ForkSafeLock()

    def __len__(self):
        return self.n_items

    def __getitem__(self, index):
        start = index - index % WINDOW
        with self._lock:  # of threads that come at once, one makes the items
            if self._made[0] != start:
                part = self.column[start : start + WINDOW]
                self._made = start, getattr(part, self.convert)()
            return self._made[1][index - start]


def are_at_hand(items):
    """Whether asking for an item does not decode it, as some datasets would."""
    return isinstance(items, (list, _Column))


# Bytes of a key: no two of 10**9 contents have the same, and a longer one costs a third
# more in the cache.
_KEY_SIZE = 16


def _key_of(salt, *parts):
    """Name a content by a digest, which is another for models of another salt."""
    digest = hashlib.sha256(salt or b"")
    for part in parts:
        digest.update(part)
    return digest.digest()[:_KEY_SIZE]


class Source:
    """Items of a model: what each of them is, and how it is read.

    Parameters
    ----------
    items : sequence
        What the user passed.
    """

    version = 1  # of how items are read, to be raised when that changes
    decode_size = None  # how many pixels the shorter side of a JPEG keeps, at least

    def __init__(self, items):
        self.items = items
        self.remarks = {}  # how items were understood, where that was a guess

    def check(self, index):
        """Look at an item, as far as that takes no time beside embedding it."""

    def identify(self, index, salt):
        """Name an item by its position: nothing is known of its content."""
        return index

    def load(self, index):
        """Return the item."""
        return self.items[index]

    def order(self, indices):
        """Keep the order."""
        return list(indices)


class Texts(Source):
    """Items of a text model: strings, never paths."""

    def check(self, index):
        """Look whether an item is a text."""
        self.load(index)

    def identify(self, index, salt):
        """Name the content of an item by a digest, which holds no text."""
        return _key_of(salt, self.load(index).encode("utf-8", "surrogatepass"))

    def load(self, index):
        """Return the text."""
        text = self.items[index]
        if not isinstance(text, str):
            raise ItemError(
                f"expected a text (str), got {type(text).__name__}; a text model takes "
                "texts only, and does not read files"
            )
        return text

    def order(self, indices):
        """Sort longest first, so that texts of like length share a batch."""
        return sorted(indices, key=lambda index: -len(self.items[index]))


class Files(Source):
    """Items that may be files: paths, encoded bytes, open files, or objects.

    A subclass says in `decode` and `content` what becomes of bytes and of objects.
    """

    advice = ""

    def __init__(self, items):
        super().__init__(items)
        self._salt = None
        self._keys = {}  # of paths

    def check(self, index):
        """Look whether a path is that of a file."""
        item = file_of(self.items[index])
        if isinstance(item, (str, os.PathLike)):
            check_path(item, self.advice)

    def identify(self, index, salt):
        """Name the content of an item: a digest, or without salt itself."""
        item = file_of(self.items[index])
        is_path = isinstance(item, (str, os.PathLike))
        if salt is None and is_path:
            return os.fspath(item)
        if salt is None and isinstance(self.items, list):  # else an id is used again
            return item if isinstance(item, bytes) else (type(item), id(item))
        self._salt = salt
        encoded = encoded_of(item, self.advice)
        parts = self.content(item) if encoded is None else (b"encoded ", encoded)
        key = _key_of(salt, *parts)
        if is_path:
            self._keys[index] = key
        return key

    def load(self, index):
        """Return the item, decoded."""
        item = file_of(self.items[index])
        data = encoded_of(item, self.advice)
        # The key names what was there a while ago: embed that or nothing.
        known = self._keys.get(index)
        if known is not None and _key_of(self._salt, b"encoded ", data) != known:
            raise ItemError("the file changed while it was being embedded")

        def remark(text):
            self.remarks[index] = text

        return self.decode(item if data is None else data, remark)


def file_of(item):
    """Take what a dataset of Hugging Face has of a file that it has not decoded."""
    if isinstance(item, dict) and item.keys() == {"bytes", "path"}:
        return item["path"] if item["bytes"] is None else item["bytes"]
    return item


def encoded_of(item, advice=""):
    """Read the bytes of a file, or return None for an object that is no file."""
    if isinstance(item, (str, os.PathLike)):
        return read_path(item, advice)
    if isinstance(item, (bytes, bytearray, memoryview)):
        return item
    if hasattr(item, "read") and hasattr(item, "seek"):
        return read_open(item)
    return None


class Images(Files):
    """Items of an image model: files, PIL images, arrays, tensors."""

    version = 3  # greys by their range, transparency on white, bounded shapes
    advice = " (a text needs modality='text')"

    def content(self, item):
        """Bytes that tell a picture in memory from every other."""
        if _is_preprocessed(item):
            return tensor_parts(item)
        image = as_image(item)
        return f"pixels {image.size} ".encode(), image.tobytes()

    def decode(self, item, remark):
        """Return an upright RGB image, or a tensor that is preprocessed already."""
        if _is_preprocessed(item):
            return item
        return as_image(item, remark, self.decode_size)


def _is_preprocessed(item):
    return is_torch_array(item) and item.is_floating_point()


class Sounds(Files):
    """Items of an audio model: files, encoded bytes, arrays with their rate."""

    def content(self, item):
        """Bytes that tell a sound in memory from every other."""
        sound = as_sound(item)
        return f"sound {sound['sampling_rate']} ".encode(), sound["array"]

    def decode(self, item, remark):
        """Return a dict with an array of one channel and its sampling rate."""
        return as_sound(item)


SOURCES = {"text": Texts, "image": Images, "audio": Sounds, "any": Source}
