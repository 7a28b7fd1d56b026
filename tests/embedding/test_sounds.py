import io
import shutil
import subprocess
import wave

import numpy as np
import pytest
from embedders import tone

from skimprint import FoundationEmbedder
from skimprint.embedding._inputs import Sounds
from skimprint.embedding._items import ItemError
from skimprint.embedding._sounds import resampled
from skimprint.testing import check_embedder

RATE = 16_000


def encoded(array, rate):
    """A sound as the bytes of a WAV file of 16 bits."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1 if array.ndim == 1 else array.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((array * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def load(item):
    return Sounds([item]).load(0)


def spectrum(sounds):
    """Embed sounds of one rate by a few bands of their spectrum, and their length."""
    rows = []
    for sound in sounds:
        assert sound["sampling_rate"] == 8000
        power = np.abs(np.fft.rfft(sound["array"], 8000)) ** 2
        rows.append([*power[:4000].reshape(8, -1).sum(1), len(sound["array"])])
    return rows


spectrum.sampling_rate = 8000
spectrum.fingerprint = "spectrum 1"


def test_all_that_a_sound_can_be(tmp_path):
    pytest.importorskip("soundfile", reason="needs skimprint[audio]")
    array, rate = tone(440)
    data = encoded(array, rate)
    (tmp_path / "a.wav").write_bytes(data)
    stereo = np.stack([array, array], axis=1)
    items = [
        (array, rate),
        {"array": array, "sampling_rate": rate},
        {"array": array.astype(float), "sampling_rate": rate, "path": "a.wav"},
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(tmp_path / "a.wav")},
        ((array * 32767).astype(np.int16), rate),
        (stereo, rate),
        (stereo.T, np.int64(rate)),
        data,
        io.BytesIO(data),
        str(tmp_path / "a.wav"),
        tmp_path / "a.wav",
        encoded(stereo, rate),
    ]
    for item in items:
        sound = load(item)
        assert (sound["array"].dtype, sound["array"].shape) == (np.float32, array.shape)
        assert sound["sampling_rate"] == rate
        np.testing.assert_allclose(sound["array"], array, atol=1e-4)


@pytest.mark.parametrize(
    "item, message",
    [
        (np.zeros(9, np.float32), "does not say its sampling rate"),
        ((np.zeros(9, np.float32), 0), "expected a sampling rate"),
        ((np.zeros(9, np.float32), "fast"), "expected a sampling rate"),
        ((np.zeros(9, np.float32), 16000.0), "expected a sampling rate that is an int"),
        ({"bytes": None, "path": None}, "expected a path, .* got NoneType"),
        ((8000, np.zeros(9, np.float32)), "got the number first, .*: turn the two"),
        ((np.zeros(0, np.float32), 8000), "no samples"),
        ((np.zeros((0, 2), np.float32), 8000), "no samples"),
        ((np.zeros((2, 0), np.int16), 8000), "no samples"),
        ((np.full(9, np.nan), 8000), "NaN or infinite"),
        ((np.zeros((2, 2, 2)), 8000), "an array of numbers"),
        ((np.array(["a"]), 8000), "an array of numbers"),
        (([0, 120, -3], 8000), "got int64, which does not say what is loudest"),
        ((np.array([0, 3], np.uint64), 8000), "cast them to int16"),
        ((np.array([0.0, -32768.0]), 8000), "some of 32768: divide them"),
        (3, "expected a path, bytes, an open file, a pair"),
        ("no/such/file.wav", "no such file"),
        ("https://example.com/a.wav", "URLs are not fetched"),
    ],
)
def test_items_that_are_no_sounds(item, message):
    with pytest.raises(ItemError, match=message):
        load(item)


@pytest.mark.parametrize("data", [b"", b"no sound at all", encoded(*tone(440))[:30]])
def test_bytes_that_are_no_sounds(data):
    pytest.importorskip("soundfile", reason="needs skimprint[audio]")
    with pytest.raises(ItemError, match=r"no audio that|is empty|no samples"):
        load(data)


@pytest.mark.parametrize("rate", [1, 15, 50_000_017, 2**31 - 1])
def test_a_false_rate_takes_no_memory(rate):
    with pytest.raises(ItemError, match=f"rate of {rate} cannot be turned into {RATE}"):
        resampled({"array": np.zeros(8), "sampling_rate": rate}, RATE)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
def test_resampling_keeps_the_tone(rate):
    array, _ = tone(440, 1.0, rate)
    changed = resampled({"array": array, "sampling_rate": rate}, RATE)
    assert changed.dtype == np.float32
    inner = slice(200, -200)  # the ends ring
    expected, _ = tone(440, 1.0)
    np.testing.assert_allclose(changed[inner], expected[inner], atol=2e-3)


def test_resampling_removes_what_is_too_high():
    array, rate = tone(7000, 1.0)
    assert np.abs(resampled({"array": array, "sampling_rate": rate}, 8000)).max() < 0.2


def test_callables_of_sounds(tmp_path):
    sounds = [tone(440), tone(1000, 0.7), tone(440, rate=44_100)]
    embedder = FoundationEmbedder(spectrum, modality="audio", cache_dir=tmp_path)
    check_embedder(embedder, sounds)
    assert embedder.cache_info().items == 3
    loudest = embedder.transform(sounds)[:, :8].argmax(1)
    assert loudest.tolist() == [0, 2, 0] or loudest.tolist() == [0, 1, 0]


def test_one_bad_sound_among_good_ones(tmp_path):
    embedder = FoundationEmbedder(spectrum, modality="audio", on_error="skip")
    with pytest.warns(UserWarning, match=r"1 of 3 items .*\[1\].*no such file"):
        rows = embedder.transform([tone(440), tmp_path / "none.wav", tone(500)])
    assert np.isnan(rows).all(1).tolist() == [False, True, False]


def test_spoken_words(tmp_path):
    pytest.importorskip("soundfile", reason="needs skimprint[audio]")
    if shutil.which("espeak-ng") is None:
        pytest.skip("needs espeak-ng")
    files = []
    for word in ("yes", "no", "perhaps"):
        files.append(tmp_path / f"{word}.wav")
        subprocess.run(["espeak-ng", "-w", files[-1], word], check=True)
    check_embedder(FoundationEmbedder(spectrum, modality="audio"), files)
