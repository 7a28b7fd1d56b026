"""Sounds of all kinds to one channel of float32 with its sampling rate."""

import io
import math

import numpy as np

from .._arrays.device import to_host
from ._extras import require
from ._items import ItemError

# Samples lie between -1 and 1, but for what a decoder overshoots. Larger ones are whole
# numbers that somebody has made floats of.
_LOUDEST = 100

# A filter from one sampling rate to another takes 160 bytes for each part of the ratio.
_MAX_RATIO = 2**20


def as_sound(item):
    """Decode or convert one item.

    Parameters
    ----------
    item : bytes-like, dict or tuple
        Encoded, or an array with its sampling rate.

    Returns
    -------
    sound : dict
        ``array``, of float32 between -1 and 1 with the channels averaged, and
        ``sampling_rate``, in samples per second.
    """
    if isinstance(item, (bytes, bytearray, memoryview)):
        library = require("soundfile", "Reading audio", "skimprint[audio]")
        try:
            array, rate = library.read(io.BytesIO(item), dtype="float32")
        except Exception as error:
            reason = "these bytes are no audio that soundfile can decode"
            raise ItemError(
                f"{reason}: {error}" if len(item) else "the file is empty"
            ) from error
    else:
        array, rate = _array_and_rate(item)
        if isinstance(array, (int, np.integer)):
            raise ItemError(
                "expected a pair (array, sampling_rate), got the number first, as "
                "scipy.io.wavfile.read returns them: turn the two around"
            )
    array = _one_channel(array)
    if not isinstance(rate, (int, np.integer)) or not 0 < rate < 2**31:
        raise ItemError(
            "expected a sampling rate that is an int, in samples per second, got "
            f"{rate!r}"
        )
    if not np.isfinite(array).all():
        raise ItemError("the sound has samples that are NaN or infinite")
    if (loudest := np.abs(array).max()) > _LOUDEST:
        raise ItemError(
            f"expected samples between -1 and 1, got some of {loudest:.6g}: divide "
            "them by the largest that there can be, such as 32768 of 16 bits"
        )
    return {"array": array, "sampling_rate": int(rate)}


def _array_and_rate(item):
    """Take apart what datasets of Hugging Face hold, or a pair."""
    try:
        if isinstance(item, tuple):
            array, rate = item
        else:
            array, rate = item["array"], item["sampling_rate"]
    except Exception:  # whatever the item makes of a key that it does not have
        raise ItemError(
            "expected a path, bytes, an open file, a pair (array, sampling_rate) or "
            "{'array': ..., 'sampling_rate': ...}, got "
            f"{type(item).__name__}; an array does not say its sampling rate"
        ) from None
    return array, rate


def _one_channel(array):
    array = np.asarray(to_host(array))
    if array.dtype.kind in "iu":  # of full scale
        if array.dtype.itemsize == 8:
            raise ItemError(
                f"expected samples as a sound has them, got {array.dtype}, which does "
                "not say what is loudest: cast them to int16 or what they have been, "
                "or scale them to -1..1"
            )
        half = 2.0 ** (8 * array.dtype.itemsize - 1)
        array = array / half - (array.dtype.kind == "u")
    if array.dtype.kind != "f" or array.ndim not in (1, 2):
        raise ItemError(
            "expected an array of numbers, of shape (n_samples,) or with channels, got "
            f"shape {array.shape} and dtype {array.dtype}"
        )
    if array.size == 0:
        raise ItemError("the sound has no samples")
    if array.ndim == 2:  # channels are fewer than samples
        array = array.mean(axis=int(np.argmin(array.shape)))
    return np.ascontiguousarray(array, dtype=np.float32)


def resampled(sound, rate):
    """Change the sampling rate of a sound.

    Parameters
    ----------
    sound : dict
        From `as_sound`.
    rate : int
        Wanted, in samples per second.

    Returns
    -------
    array : ndarray
        Samples at that rate.
    """
    array, own = sound["array"], sound["sampling_rate"]
    if own == rate:
        return array
    from scipy.signal import resample_poly

    divisor = math.gcd(own, rate)
    if max(own, rate) // divisor > _MAX_RATIO or rate > 1000 * own:
        raise ItemError(
            f"a sampling rate of {own} cannot be turned into {rate}, the model's: "
            "resample the sound before, or correct its rate"
        )
    return resample_poly(array, rate // divisor, own // divisor).astype(np.float32)


def probe_sounds(rate):
    """Make sounds to try a preprocessing on, of different length."""
    rng = np.random.default_rng(0)
    time = np.arange(rate) / rate
    chirp = np.sin(2 * np.pi * (200 + 1000 * time) * time)
    noise = rng.uniform(-0.5, 0.5, rate // 2)
    sounds = chirp, noise, np.tile(noise, 62)
    return [array.astype(np.float32) for array in sounds]
