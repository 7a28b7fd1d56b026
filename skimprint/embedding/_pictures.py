"""Pictures of all kinds to upright RGB images, as people see them."""

import errno
import io
from contextlib import contextmanager, nullcontext
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import numpy as np

from .._arrays.device import to_host
from .._arrays.threads import ForkSafeLock
from ._extras import require
from ._items import ItemError, is_pil

# How many times longer than wide a picture may be; of others the middle is taken.
_MAX_RATIO = 100
_ERROR_INVALID_NAME = 123  # of Windows
# Objects of the user's may have state, which only one thread at a time may touch: a
# picture first, then the file that it reads from. Pictures of one file share that; and
# the file alone will not do, since some decoders put another in its place.
_PICTURE_LOCKS, _FILE_LOCKS = ([ForkSafeLock() for _ in range(64)] for _ in range(2))


def _lock_of(item, locks):
    return locks[id(item) // 64 % len(locks)]


@contextmanager
def _own(picture):
    """Touch a picture, and the file that it still reads from, in this thread only."""
    with _lock_of(picture, _PICTURE_LOCKS):
        file = getattr(picture, "fp", None)  # looked up when nobody can replace it
        with nullcontext() if file is None else _lock_of(file, _FILE_LOCKS):
            yield


def as_image(item, remark=None, decode_size=None):
    """Decode or convert one item to an upright RGB image.

    Parameters
    ----------
    item : bytes-like, PIL image, uint8 array or tensor
        From the user, or read from a file.
    remark : callable, default=None
        Called with a remark on how the item was understood, if there is one.
    decode_size : int, default=None
        Decode a JPEG at a half, quarter or eighth of its size, if its shorter side has
        so many pixels even then.

    Returns
    -------
    image : PIL.Image.Image
        Upright, RGB, on white where it was transparent.
    """
    Image = require("PIL.Image", "Reading images")
    try:
        if isinstance(item, (bytes, bytearray, memoryview)):
            with Image.open(io.BytesIO(item)) as image:
                if decode_size is not None:
                    image.draft(None, (decode_size, decode_size))
                return _upright_rgb(image, remark, ours=True)
        if is_pil(item):
            with _own(item):
                return _upright_rgb(item, remark, ours=False)
        if hasattr(item, "shape") and hasattr(item, "dtype"):
            image = Image.fromarray(_channels_last(item))
            return _upright_rgb(image, remark, ours=False)
    except ItemError:
        raise
    except Image.UnidentifiedImageError:
        raise ItemError(
            "these bytes are no image that Pillow can decode"
            if len(item)
            else "the file is empty"
        ) from None
    except Image.DecompressionBombError as error:
        raise ItemError(
            f"{error} If you trust it, raise PIL.Image.MAX_IMAGE_PIXELS, which is "
            f"{Image.MAX_IMAGE_PIXELS}"
        ) from error
    except Exception as error:  # Pillow's decoders raise errors of many kinds
        text = str(error)
        if is_pil(item) and ("closed" in text or "NoneType" in text):
            text = "the picture is closed: embed it before you close it"
        raise ItemError(
            f"the image cannot be decoded: {text or type(error).__name__}"
        ) from error
    raise ItemError(
        "expected a path, bytes, an open file, a PIL image, a uint8 array or a tensor, "
        f"got {type(item).__name__}"
    )


def _upright_rgb(image, remark, ours):
    """Apply the EXIF orientation, convert any mode to RGB, and put it on white.

    A picture that is ours is not copied, which takes as long as to decode it.
    """
    from PIL import Image, ImageOps

    image.load()
    if image.mode == "F" or image.mode.startswith("I"):  # more than 8 bits a pixel
        declared = _declared_range(image)
        image = ImageOps.exif_transpose(image)
        pixels = np.asarray(image)
        if declared is not None and declared[1] >= 2**31:  # Pillow knows signed ones
            pixels = pixels.view(np.uint32)
        transparent = image.info.get("transparency")
        image = Image.fromarray(_to_8_bits(pixels, declared, remark))
        if transparent is not None:
            image.putalpha(Image.fromarray(pixels != transparent))
    elif ours and image.mode == "RGB":
        ImageOps.exif_transpose(image, in_place=True)
    else:
        image = ImageOps.exif_transpose(image)
    width, height = image.size
    if max(width, height) > _MAX_RATIO * min(width, height):
        # Else resizing by the shorter side would make a huge picture of it.
        half_width = min(width, _MAX_RATIO * height) // 2
        half_height = min(height, _MAX_RATIO * width) // 2
        x, y = width // 2, height // 2
        end = max(1, x + half_width), max(1, y + half_height)
        image = image.crop((x - half_width, y - half_height, *end))
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _declared_range(image):
    """Find the values of black and white that a file declares, and if white is zero.

    None where it declares none. The values are those before they are inverted.
    """
    from PIL.ExifTags import Base as Tag

    tags = getattr(image, "tag_v2", {})
    bits = tags.get(Tag.BitsPerSample, (None,))[0]
    # Of a raw image, or of any.
    white = tags.get(Tag.WhiteLevel, tags.get(Tag.MaxSampleValue))
    white = white[0] if isinstance(white, tuple) else white
    if image.mode == "F":
        return None if white is None else (0, white, False)
    if bits is None:
        in_16_bits = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
        return (0, 65535, False) if in_16_bits else None
    if tags.get(Tag.SampleFormat, (1,))[0] == 2:  # signed
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, False
    largest = 2**bits - 1
    is_inverted = tags.get(Tag.PhotometricInterpretation) == 0
    return 0, min(largest, white or largest), is_inverted


def _to_8_bits(pixels, declared, remark):
    """Scale grey values by the range that is declared, if they fill enough of it."""
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ItemError("the image has pixels that are NaN or infinite")
    low, high = low.item(), high.item()
    black, white, inverted = declared or (0, 0, False)
    black = max(black, min(low, 0))  # below zero only if need be
    if declared is None or 0 < high - black < (white - black) / 16:
        if pixels.dtype.kind == "f" or low < 0:
            black, white = min(low, 0), high
        else:  # of as many bits as its values need
            black, white = 0, 2 ** max(8, int(high).bit_length()) - 1
        if remark is not None:
            remark(
                f"its grey values from {low} to {high} were scaled by {black}..{white}"
            )
    bits = int(white + 1).bit_length() - 1
    if black == 0 and white == 2**bits - 1 and bits >= 8 and pixels.dtype.kind != "f":
        pixels = pixels.astype(np.int64).clip(0, white) >> (bits - 8)
    else:
        span = white - black or 1
        pixels = (pixels.astype(float).clip(black, white) - black) / span * 255 + 0.5
    pixels = pixels.astype(np.uint8)
    return 255 - pixels if inverted else pixels


def _channels_last(item):
    """View a uint8 array as grey, RGB or RGBA with the channels last."""
    array = np.asarray(to_host(item))
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


def check_path(path, advice):
    """Say what is wrong with a path, if it is not one of a file."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        if "://" in str(path):
            reason = "URLs are not fetched: download the file, and pass its path"
            raise ItemError(reason) from None
        # What cannot be a name, such as a text: Windows has an error for "Why?".
        is_no_name = getattr(error, "winerror", None) == _ERROR_INVALID_NAME
        is_too_long = getattr(error, "errno", None) == errno.ENAMETOOLONG
        if isinstance(error, FileNotFoundError) or is_no_name or is_too_long:
            raise ItemError(f"no such file{advice}") from None
        raise ItemError(f"the file cannot be read: {error}") from error
    if not str(path):
        raise ItemError("the path is empty")
    if S_ISDIR(mode):
        raise ItemError(
            "this is a directory, not a file; list its files, with "
            "sorted(Path(directory).glob('*.jpg')) say"
        )
    if not S_ISREG(mode):  # reading it might never end
        raise ItemError(
            "the file cannot be read: it is a named pipe, a device or a socket; pass "
            "its bytes"
        )


def read_path(path, advice):
    """Read a file, or say why not."""
    check_path(path, advice)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ItemError(f"the file cannot be read: {error}") from error


def read_open(file):
    """Read all of an open binary file, and leave it where it was."""
    try:
        with _lock_of(file, _FILE_LOCKS):
            place = file.tell()
            file.seek(0)
            try:
                data = file.read()
            finally:
                file.seek(place)
    except (OSError, ValueError) as error:
        raise ItemError(f"the open file cannot be read: {error}") from error
    if isinstance(data, str):
        raise ItemError("the file is open as text: open it in mode 'rb'")
    return data
