"""Show an item: as a small picture, as text, or by the number of its row."""

import base64
import io
import os
from numbers import Number
from pathlib import Path

from ..embedding._extras import require
from ..embedding._inputs import as_items, encoded_of, file_of
from ..embedding._items import ItemError, is_pil
from ..embedding._pictures import as_image

# Texts that end so name pictures, or sounds.
_PICTURE_SUFFIXES = {
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jp2"),
    *(".jpe", ".jpeg", ".jpg", ".jxl", ".pgm", ".png", ".pnm", ".ppm", ".tga"),
    *(".tif", ".tiff", ".webp"),
}
_SOUND_SUFFIXES = {".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"}

# Longest side of a small picture, and the bytes that it may take: 500 of them make
# 2.9 MB of base64.
SIZE = 112
_MAX_BYTES = 4300
_QUALITIES = (80, 60, 40, 20, 5)

# Characters of a text that are shown.
MAX_TEXT = 280


def is_text(item):
    """Tell whether an item is a text that names no file."""
    known = _PICTURE_SUFFIXES | _SOUND_SUFFIXES
    return isinstance(item, str) and Path(item).suffix.lower() not in known


def picture_of(item, size=SIZE):
    """Decode an item as a small picture.

    Parameters
    ----------
    item : object
        What an embedder takes for a picture, but for preprocessed tensors; anything
        else.
    size : int
        Its longest side at most.

    Returns
    -------
    picture : PIL.Image.Image or None
        `None` for what is no picture.

    Raises
    ------
    ItemError
        If it is one, but cannot be decoded.
    """
    if is_text(item):
        return None
    path = _path_of(item)
    if path is not None and Path(path).suffix.lower() in _SOUND_SUFFIXES:
        return None
    item = file_of(item)
    if isinstance(item, (str, os.PathLike)):
        require("PIL.Image", "Showing pictures", "skimprint[inspection]")
        # A pipe would be waited for; and Path.is_file raises in a closed folder.
        if not os.path.isfile(item):  # noqa: PTH113
            raise ItemError("there is no regular file of this name")
    encoded = encoded_of(item)
    if encoded is not None:
        item = encoded
    elif not (is_pil(item) or _is_pixels(item)):
        return None
    picture = as_image(item, decode_size=2 * size)  # decodes what is needed
    picture = picture.copy()
    picture.thumbnail((size, size))
    return picture


def _path_of(item):
    """Find the path that an item is or comes with, of a dataset or an open file."""
    if hasattr(item, "read"):
        item = getattr(item, "name", None)
    elif file_of(item) is not item:
        item = item["path"]
    return item if isinstance(item, (str, os.PathLike)) else None


def _is_pixels(item):
    return getattr(item, "ndim", 0) in (2, 3) and str(item.dtype).endswith("uint8")


def jpeg_of(picture):
    """Encode a small picture in at most 4,300 bytes, in base64."""
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= _MAX_BYTES:
            break
    return base64.b64encode(file.getvalue()).decode("ascii")


def name_of(item, row, what="row"):
    """Name an item in one line: its text, the name of its file, or its row.

    Parameters
    ----------
    item : object
        `None` where there are no items.
    row : int
        Its row; -1 for a row of a head.
    what : str, default="row"
        What rows are called.

    Returns
    -------
    name : str
    """
    if row < 0:
        return "a row of the head"
    if is_text(item):
        text = " ".join(item.split())
        return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    if path := _path_of(item):
        return Path(path).name
    if isinstance(item, Number):
        return f"{what} {item}"
    return f"{what} {row}"


def item_at(items, row):
    """Take an item; None where there are none, and of a row of a head."""
    return None if items is None or row < 0 else items[row]


def listed(items, n, name):
    """Make a list of items; None stays None.

    Parameters
    ----------
    items : sequence or None
        As an embedder takes them.
    n : int or None
        How many samples there are, each with an item; None if that is told elsewhere.
    name : str
        The parameter.

    Returns
    -------
    items : list or None
    """
    if items is None:
        return None
    try:
        items = as_items(items)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} cannot be taken for items: {error}") from error
    if n is not None and len(items) != n:
        raise ValueError(
            f"{name} must have an item for each of {n} samples; got {len(items)}."
        )
    return items
