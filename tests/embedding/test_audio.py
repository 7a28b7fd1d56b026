import io
import shutil
import subprocess
import wave

import numpy as np
import pytest
from embedders import import_or_skip

from skimprint import FoundationEmbedder
from skimprint.embedding._inputs import Sounds
from skimprint.embedding._items import ItemError
from skimprint.embedding._sounds import resampled
from skimprint.testing import check_embedder

RATE = 16_000


def tone(frequency, seconds=0.5, rate=RATE):
    """A sine, as an array with its sampling rate."""
    time = np.arange(int(seconds * rate)) / rate
    return np.sin(2 * np.pi * frequency * time).astype(np.float32), rate


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


@pytest.fixture(scope="module")
def audio_models(tmp_path_factory):
    """Directories of randomly initialised audio models of transformers, by kind."""
    transformers = import_or_skip("transformers", "transformers")
    import torch

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("audio")
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    waves = small | {
        "conv_dim": (8, 8),
        "conv_stride": (5, 4),
        "conv_kernel": (10, 8),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    }
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"abcdefghijklmnopqrstuvwxyz",
    ]
    text = small | {"vocab_size": len(words), "max_position_embeddings": 40}
    whisper = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=50,
        num_mel_bins=80,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    clap = transformers.ClapConfig(
        text_config=text | {"projection_dim": 8, "pad_token_id": 0},
        audio_config={
            "hidden_size": 16,
            "patch_embeds_hidden_size": 8,
            "depths": [1, 1],
            "num_attention_heads": [2, 2],
            "num_hidden_layers": 2,
            "spec_size": 128,
            "window_size": 4,
            "projection_dim": 8,
            "num_mel_bins": 64,
        },
        projection_dim=8,
    )
    models = {
        "layer-norm": transformers.Wav2Vec2Model(
            transformers.Wav2Vec2Config(**waves, feat_extract_norm="layer")
        ),
        "group-norm": transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**waves)),
        "group-norm and mask": transformers.HubertModel(
            transformers.HubertConfig(**waves)
        ),
        "whisper": transformers.WhisperModel(whisper),
        "ast": transformers.ASTModel(
            transformers.ASTConfig(**small, max_length=100, num_mel_bins=32)
        ),
        "clap": transformers.ClapModel(clap),
    }
    extractors = {
        "layer-norm": transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True),
        "group-norm": transformers.Wav2Vec2FeatureExtractor(),
        "group-norm and mask": transformers.Wav2Vec2FeatureExtractor(
            return_attention_mask=True
        ),
        "whisper": transformers.WhisperFeatureExtractor(),
        "ast": transformers.ASTFeatureExtractor(max_length=100, num_mel_bins=32),
        "clap": transformers.ClapFeatureExtractor(
            max_length_s=1, truncation="rand_trunc"
        ),
    }
    tokenizer = transformers.BertTokenizer(
        vocab=dict(zip(words, range(len(words)), strict=True))
    )
    for kind, model in models.items():
        model.save_pretrained(root / kind)
        extractors[kind].save_pretrained(root / kind)
    tokenizer.save_pretrained(root / "clap")
    return root


@pytest.mark.parametrize(
    "kind",
    ["layer-norm", "group-norm", "group-norm and mask", "whisper", "ast", "clap"],
)
def test_audio_encoders_of_transformers(audio_models, tmp_path, kind):
    embedder = FoundationEmbedder(
        f"transformers:{audio_models / kind}",
        modality="audio" if kind == "clap" else "auto",
        batch_size=3,
        cache_dir=tmp_path,
    )
    sounds = [tone(440, 0.3), tone(1000, 0.5), tone(440, 1.5, 44_100), tone(200, 0.4)]
    check_embedder(embedder, sounds, rtol=1e-3, atol=1e-4)
    assert embedder.fit(sounds).modality_ == "audio"


def test_pairs_of_sounds_and_texts(audio_models):
    model = f"transformers:{audio_models / 'clap'}"
    with pytest.raises(ValueError, match="choose modality='audio' or 'text'"):
        FoundationEmbedder(model).transform([tone(440)])
    texts = FoundationEmbedder(model, modality="text").transform(["a b", "c"])
    assert texts.shape == (2, 8)


def test_the_mean_leaves_padding_out(audio_models):
    transformers = import_or_skip("transformers", "transformers")
    path = audio_models / "layer-norm"
    module = transformers.AutoModel.from_pretrained(path).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(path)
    sounds = [tone(440, 0.3), tone(1000, 0.5)]
    rows = FoundationEmbedder(f"transformers:{path}").transform(sounds)
    for row, (array, rate) in zip(rows, sounds, strict=True):
        inputs = extractor(array, sampling_rate=rate, return_tensors="pt")
        expected = module(**inputs).last_hidden_state.mean(1)[0].detach().numpy()
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_spoken_words(tmp_path):
    pytest.importorskip("soundfile", reason="needs skimprint[audio]")
    if shutil.which("espeak-ng") is None:
        pytest.skip("needs espeak-ng")
    files = []
    for word in ("yes", "no", "perhaps"):
        files.append(tmp_path / f"{word}.wav")
        subprocess.run(["espeak-ng", "-w", files[-1], word], check=True)
    check_embedder(FoundationEmbedder(spectrum, modality="audio"), files)
