"""Models of transformers, made here and never trained."""

import shutil

import numpy as np
import pytest
from embedders import LETTERS, SMALL, TEXTS, import_or_skip, pictures, tone

from skimprint import FoundationEmbedder
from skimprint.testing import check_embedder


@pytest.mark.parametrize("content", [b"", b"garbage" * 30])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_with_a_damaged_file_is_named(tiny_models, tmp_path, file, content):
    """Libraries say at which byte they stopped to read, but not of which model."""
    folder = shutil.copytree(tiny_models / "text", tmp_path / "damaged")
    assert (folder / file).is_file()
    (folder / file).write_bytes(content)
    embedder = FoundationEmbedder(f"transformers:{folder}", modality="text")
    with pytest.raises((OSError, ValueError), match=f"^model=.*{folder.name}.*whole"):
        embedder.transform(["a text"])


@pytest.mark.parametrize(
    "kind, modality, pooling, width",
    [
        ("text", "auto", "auto", 16),
        ("text", "auto", "cls", 16),
        ("text", "auto", "last", 16),
        ("text", "auto", "pooler", 16),
        ("no-pooler", "text", "max", 16),
        ("image", "auto", "auto", 16),
        ("image", "image", "mean", 16),
        ("image-no-pooler", "auto", "auto", 16),
        ("pair", "image", "auto", 8),
        ("pair", "text", "auto", 8),
    ],
)
def test_transformers(tiny_models, tmp_path, kind, modality, pooling, width):
    embedder = FoundationEmbedder(
        f"transformers:{tiny_models / kind}",
        modality=modality,
        pooling=pooling,
        batch_size=3,
        local_files_only=True,
        cache_dir=tmp_path,
    )
    takes_text = modality == "text" or kind == "text"
    items = TEXTS if takes_text else pictures()
    check_embedder(embedder, items)
    embedder.fit(items)
    assert embedder.n_features_out_ == width
    assert embedder.modality_ == ("text" if takes_text else "image")


def test_transformers_ask_for_what_is_missing(tiny_models):
    def embed(kind, **parameters):
        model = f"transformers:{tiny_models / kind}"
        return FoundationEmbedder(model, **parameters).transform(["text"])

    with pytest.raises(ValueError, match="choose modality='image' or 'text'"):
        embed("pair")
    with pytest.raises(ValueError, match="takes texts, not modality='image'"):
        embed("text", modality="image")
    with pytest.raises(ValueError, match="needs a trained pooled output"):
        embed("no-pooler", pooling="pooler")
    with pytest.raises(ValueError, match=r"'pooling' parameter of .* Got 'best'"):
        embed("text", pooling="best")


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_texts_of_one_batch_do_not_change_each_other(tiny_models, tmp_path, pooling):
    transformers = import_or_skip("transformers", "transformers")
    torch = pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models / "text")
    tokenizer.padding_side = "left"
    torch.manual_seed(0)
    size = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": len(tokenizer)}
    model = transformers.GPT2Model(transformers.GPT2Config(**size))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    embedder = FoundationEmbedder(f"transformers:{tmp_path}", pooling=pooling)
    both = embedder.transform(TEXTS)
    alone = np.concatenate([embedder.transform([text]) for text in TEXTS])
    np.testing.assert_allclose(both, alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["convbert", "nystromformer", "yoso", "fnet"])
def test_models_that_padding_changes_do_not_see_it(tiny_models, tmp_path, kind):
    transformers = import_or_skip("transformers", "transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=64, hidden_size=16, num_hidden_layers=1, embedding_size=16,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models / "text")
    for part in (transformers.AutoModel.from_config(config), tokenizer):
        part.save_pretrained(tmp_path)
    embedder = FoundationEmbedder(f"transformers:{tmp_path}")
    alone = np.concatenate([embedder.transform([text]) for text in TEXTS])
    np.testing.assert_allclose(embedder.transform(TEXTS), alone, atol=1e-5)


def test_untrained_pooler_is_not_used(tiny_models):
    model = f"transformers:{tiny_models / 'image-no-pooler'}"
    rows = FoundationEmbedder(model).transform(pictures())
    means = FoundationEmbedder(model, pooling="mean").transform(pictures())
    np.testing.assert_array_equal(rows, means)


def test_texts_beyond_what_the_model_takes(tiny_models):
    model = f"transformers:{tiny_models / 'text'}"
    rows = FoundationEmbedder(model).transform(["a b " * 12_500, "a b " * 20])
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "family", ["roberta", "mpnet", "xlm-roberta-xl", "data2vec-text", "ibert", "luke"]
)
def test_positions_that_begin_after_the_padding(tiny_models, tmp_path, family):
    n_words = 36 if family == "mpnet" else 37  # whose padding is always number 1
    transformers = import_or_skip("transformers", "transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models / "text")
    assert tokenizer.model_max_length > 40
    config = transformers.AutoConfig.for_model(
        family, vocab_size=64, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, pad_token_id=0,
        max_position_embeddings=40,
    )  # fmt: skip
    for part in (transformers.AutoModel.from_config(config), tokenizer):
        part.save_pretrained(tmp_path)
    rows = FoundationEmbedder(f"transformers:{tmp_path}").transform(
        [" ".join(("ab" * n)[:n]) for n in (500, n_words, n_words - 1)]
    )
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-5, atol=1e-6)
    assert abs(rows[1] - rows[2]).max() > 1e-4  # no more than need be


def test_siglip_pads_as_it_was_trained(tiny_models):
    embedder = FoundationEmbedder(
        f"transformers:{tiny_models / 'siglip'}", modality="text"
    )
    alone, together = embedder.transform(["a b"]), embedder.transform(["a b", *TEXTS])
    np.testing.assert_allclose(alone, together[:1], atol=1e-5)


def test_transformers_take_tensors_that_are_ready(tiny_models):
    transformers = import_or_skip("transformers", "transformers")
    name = tiny_models / "image"
    embedder = FoundationEmbedder(f"transformers:{name}")
    processor = transformers.ViTImageProcessorPil.from_pretrained(name)
    images = pictures()
    ready = processor(images=images, return_tensors="pt")["pixel_values"]
    expected = embedder.transform(images)
    mixed = [image if i % 2 else ready[i] for i, image in enumerate(images)]
    for items in (ready, mixed):
        np.testing.assert_allclose(embedder.transform(items), expected, atol=1e-5)


def test_mean_of_an_image_leaves_the_class_token_out(tiny_models):
    transformers = import_or_skip("transformers", "transformers")
    name = tiny_models / "image"
    module = transformers.AutoModel.from_pretrained(name).eval()
    processor = transformers.ViTImageProcessorPil.from_pretrained(name)
    output = module(**processor(images=pictures(), return_tensors="pt"))
    expected = output.last_hidden_state[:, 1:].mean(1).detach()
    embedder = FoundationEmbedder(f"transformers:{name}", pooling="mean")
    np.testing.assert_allclose(embedder.transform(pictures()), expected, atol=1e-5)


def test_pairs_have_their_own_pooling(tiny_models):
    embedder = FoundationEmbedder(
        f"transformers:{tiny_models / 'pair'}", modality="text", pooling="mean"
    )
    with pytest.raises(ValueError, match="not available for a pair"):
        embedder.transform(TEXTS)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoders_of_encoder_decoder_models(tiny_models, tmp_path, kind):
    transformers = import_or_skip("transformers", "transformers")
    small = {"vocab_size": 60, "d_model": 16, "pad_token_id": 0, "eos_token_id": 3}
    if kind == "t5":
        config = transformers.T5Config(
            **small, d_kv=8, d_ff=32, num_layers=2, num_heads=2
        )
        module = transformers.T5Model(config)
    else:
        config = transformers.BartConfig(
            **small, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
            bos_token_id=2, decoder_start_token_id=2, max_position_embeddings=40,
        )  # fmt: skip
        module = transformers.BartModel(config)
    module.save_pretrained(tmp_path / kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models / "text")
    tokenizer.save_pretrained(tmp_path / kind)
    embedder = FoundationEmbedder(f"transformers:{tmp_path / kind}")
    check_embedder(embedder, TEXTS)
    inputs = tokenizer(TEXTS[:1], return_tensors="pt", return_token_type_ids=False)
    expected = module.eval().get_encoder()(**inputs).last_hidden_state.mean(1)
    rows = embedder.transform(TEXTS[:1])
    np.testing.assert_allclose(rows, expected.detach(), atol=1e-5)


@pytest.fixture(scope="module")
def audio_models(tmp_path_factory):
    """Directories of randomly initialised audio models of transformers, by kind."""
    transformers = import_or_skip("transformers", "transformers")
    import torch

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("audio")
    waves = SMALL | {
        "conv_dim": (8, 8),
        "conv_stride": (5, 4),
        "conv_kernel": (10, 8),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
    }
    text = SMALL | {"vocab_size": len(LETTERS), "max_position_embeddings": 40}
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
            transformers.ASTConfig(**SMALL, max_length=100, num_mel_bins=32)
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
        vocab=dict(zip(LETTERS, range(len(LETTERS)), strict=True))
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
