"""From what a user passes to items, what each item is, and how it is read."""

import hashlib
import io
import os
import sys
from pathlib import Path

import numpy as np

from ._extras import require


class ItemError(ValueError):
    """One item that cannot be embedded; the message says why."""


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
    if isinstance(X, (str, bytes, os.PathLike)) or _is_pil(X):
        raise ValueError(
            f"Expected a list of items, got a single {type(X).__name__}. Pass [item] "
            "to embed one item."
        )
    if hasattr(X, "columns"):
        X = _only_column(X)
    if _is_one_picture(X):
        raise ValueError(
            f"Expected a list of items, got a single image of shape {tuple(X.shape)}. "
            "Pass [item] to embed one item."
        )
    if hasattr(X, "to_list"):  # a Series of pandas or polars
        items = X.to_list()
    elif isinstance(X, np.ndarray):
        items = _array_items(X)
    elif isinstance(X, (list, tuple)) or _is_tensor(X):
        items = list(X)
    else:
        raise TypeError(
            "Expected a list, array, Series or one-column DataFrame of items, got "
            f"{type(X).__name__}. Turn it into a list first."
        )
    if not items:
        raise ValueError("Found no items: at least 1 is required, got an empty X.")
    return items


def _only_column(frame):
    names = list(frame.columns)
    if len(names) != 1:
        raise ValueError(
            f"Expected a DataFrame with one column, that of the items; got {len(names)}"
            f" columns: {names}. Pass X[[column]], or use a ColumnTransformer."
        )
    return frame[names[0]]


def _array_items(X):
    if X.ndim == 0:
        raise ValueError("Expected an array of items, got an array without dimensions.")
    if X.ndim == 2 and X.shape[1] == 1 and X.dtype.kind in "OUST":
        X = X[:, 0]
    return X.tolist() if X.ndim == 1 else list(X)


def _is_one_picture(X):
    """Whether an array or tensor is one image of 8 bits, with the channels last."""
    if not (isinstance(X, np.ndarray) or _is_tensor(X)):
        return False
    is_uint8 = str(X.dtype).removeprefix("torch.") == "uint8"
    return is_uint8 and X.ndim == 3 and X.shape[-1] in (3, 4)


def describe(item, limit=200):
    """Name an item in an error message, in a few words."""
    if hasattr(item, "shape"):
        shape = tuple(item.shape)
        return f"{type(item).__name__} of shape {shape} and dtype {item.dtype}"
    if isinstance(item, bytes):
        return f"bytes of length {len(item)}"
    if _is_pil(item):
        return f"{item.mode} image of size {item.size}"
    text = repr(item)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


class Texts:
    """Items of a text model: strings, never paths.

    Parameters
    ----------
    items : list
        What the user passed.
    """

    def __init__(self, items):
        self.items = items

    def identify(self, index, salt):
        """Name the content of an item: a digest, or without salt the text itself."""
        text = self.items[index]
        if not isinstance(text, str):
            text = self.load(index)  # which says what is wrong with it
        if salt is None:
            return text
        return hashlib.sha256(salt + text.encode("utf-8", "surrogatepass")).digest()

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


class Images:
    """Items of an image model: files, encoded bytes, PIL images, arrays, tensors.

    Parameters
    ----------
    items : list
        What the user passed.
    """

    def __init__(self, items):
        self.items = items
        self._salt = None
        self._digests = {}

    def identify(self, index, salt):
        """Name the content of an item: a digest, or without salt a path as it is."""
        item = self.items[index]
        if salt is None and isinstance(item, (str, os.PathLike)):
            return os.fspath(item)
        self._salt = salt or b""
        digest = self._digest(_content(item))
        if isinstance(item, (str, os.PathLike)):
            self._digests[index] = digest
        return digest

    def load(self, index):
        """Return an upright RGB image, or a tensor that is preprocessed already."""
        item = self.items[index]
        if not isinstance(item, (str, os.PathLike)):
            return item if _is_float_tensor(item) else _as_image(item)
        data = _read(item)
        # The digest names what was there a while ago: embed that or nothing.
        if (
            index in self._digests
            and self._digest(_encoded(data)) != (self._digests[index])
        ):
            raise ItemError("the file changed while it was being embedded")
        return _as_image(data)

    def order(self, indices):
        """Keep the order: images are resized to one size."""
        return list(indices)

    def _digest(self, parts):
        digest = hashlib.sha256(self._salt)
        for part in parts:
            digest.update(part)
        return digest.digest()


class Anything:
    """Items that a callable takes as they are; each counts as different.

    Parameters
    ----------
    items : list
        What the user passed.
    """

    def __init__(self, items):
        self.items = items

    def identify(self, index, salt):
        """Name an item by its position: nothing is known of its content."""
        return index

    def load(self, index):
        """Return the item."""
        return self.items[index]

    def order(self, indices):
        """Keep the order."""
        return list(indices)


SOURCES = {"text": Texts, "image": Images, "any": Anything}


def _content(item):
    """Bytes that tell an image from every other: encoded, or its pixels."""
    if isinstance(item, (str, os.PathLike)):
        return _encoded(_read(item))
    if isinstance(item, (bytes, bytearray, memoryview)):
        return _encoded(item)
    if _is_float_tensor(item):
        array = item.detach().cpu().contiguous()
        kind = f"tensor {array.dtype} {tuple(array.shape)} "
        return kind.encode(), array.reshape(-1).view(sys.modules["torch"].uint8).numpy()
    image = _as_image(item)
    return f"pixels {image.size} ".encode(), image.tobytes()


def _encoded(data):
    return b"encoded ", data


def _read(path):
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise ItemError("no such file (a text needs modality='text')") from None
    except IsADirectoryError:
        raise ItemError(
            "this is a directory, not an image file; list its files, with "
            "sorted(Path(directory).glob('*.jpg')) say"
        ) from None
    except (OSError, ValueError) as error:
        raise ItemError(f"the file cannot be read: {error}") from error


def _as_image(item):
    """Decode or convert one item to an upright RGB image."""
    Image = require("PIL.Image", "Reading images")
    if isinstance(item, (bytes, bytearray, memoryview)):
        try:
            with Image.open(io.BytesIO(item)) as image:
                return _upright_rgb(image)
        except Image.UnidentifiedImageError:
            raise ItemError(
                "these bytes are no image that Pillow can decode"
                if len(item)
                else "the file is empty"
            ) from None
        except ItemError:
            raise
        except Exception as error:  # Pillow's decoders raise errors of many kinds
            raise ItemError(f"the image cannot be decoded: {error}") from error
    if _is_pil(item):
        try:
            return _upright_rgb(item)
        except ItemError:
            raise
        except Exception as error:
            raise ItemError(f"the image cannot be decoded: {error}") from error
    if hasattr(item, "shape") and hasattr(item, "dtype"):
        return Image.fromarray(_channels_last(item)).convert("RGB")
    raise ItemError(
        "expected a path, bytes, a PIL image, a uint8 array or a tensor, got "
        f"{type(item).__name__}"
    )


def _upright_rgb(image):
    """Apply the EXIF orientation and convert any mode to RGB."""
    ImageOps = require("PIL.ImageOps", "Reading images")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel, held in 16 or 32
        return _from_wide_grey(image)
    if image.mode == "F":
        raise ItemError(
            "the image has floating-point pixels, whose range is not known; convert "
            "it to 8 bits first"
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _from_wide_grey(image):
    Image = require("PIL.Image", "Reading images")
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ItemError(
            f"the image has grey values from {pixels.min()} to {pixels.max()}, beyond "
            "16 bits; convert it to 8 bits first"
        )
    return Image.fromarray((pixels >> 8).astype(np.uint8)).convert("RGB")


def _channels_last(item):
    """View a uint8 array as grey, RGB or RGBA with the channels last."""
    array = item.detach().cpu().numpy() if _is_tensor(item) else np.asarray(item)
    if array.dtype != np.uint8:
        raise ItemError(
            f"expected an array of dtype uint8, got {array.dtype}; scale it to 0..255 "
            "and cast, or pass a floating-point torch tensor that is preprocessed"
        )
    if array.size == 0:
        raise ItemError(f"the array of shape {array.shape} has no pixels")
    if array.ndim == 2:
        return np.ascontiguousarray(array)
    if array.ndim == 3 and array.shape[-1] in (1, 3, 4):
        pass
    elif array.ndim == 3 and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    else:
        raise ItemError(
            "expected an array of shape (height, width), (height, width, channels) or "
            f"(channels, height, width) with 1, 3 or 4 channels, got {array.shape}"
        )
    return np.ascontiguousarray(array[..., 0] if array.shape[-1] == 1 else array)


def _is_tensor(item):
    torch = sys.modules.get("torch")  # no tensor without it
    return torch is not None and isinstance(item, torch.Tensor)


def _is_float_tensor(item):
    return _is_tensor(item) and item.is_floating_point()


def _is_pil(item):
    return hasattr(item, "getexif") and hasattr(item, "mode")
