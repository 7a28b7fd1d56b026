"""What the loaders of text models share."""

import json

import numpy as np
import pytest
from embedders import TEXTS, import_or_skip, onnx_model

from skimprint import FoundationEmbedder
from skimprint.embedding._loaders._text import cutter


@pytest.fixture
def without_special_tokens(tiny_models, tmp_path):
    """Make a model of a library whose tokenizer makes no token of an empty text."""
    transformers = import_or_skip("transformers", "transformers")
    tokenizers = import_or_skip("tokenizers", "tokenizers")
    torch = pytest.importorskip("torch")

    def make(library, pooling):
        path = tmp_path / "model"
        config = json.loads((tiny_models / "text" / "tokenizer.json").read_text())
        bare = tokenizers.Tokenizer.from_str(
            json.dumps(config | {"post_processor": None})
        )
        if library == "onnx":
            onnx_model(path, of_images=False)
            bare.save(str(path / "tokenizer.json"))
            return FoundationEmbedder(f"onnx:{path}", pooling=pooling)
        torch.manual_seed(0)
        model = transformers.GPT2Model(
            transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=64)
        )
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=bare, pad_token="[PAD]", model_max_length=40
        )
        for part in (model, tokenizer):
            part.save_pretrained(path)
        return FoundationEmbedder(f"{library}:{path}", pooling=pooling)

    return make


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("library", ["transformers", "sentence-transformers", "onnx"])
def test_texts_of_no_tokens_are_named(
    without_special_tokens, tmp_path, library, pooling
):
    # In a batch they would get rows made of padding.
    if library == "sentence-transformers":
        import_or_skip("sentence_transformers", "text")
    embedder = without_special_tokens(library, pooling)
    expected = embedder.transform(TEXTS)
    for items in (["", "one"], [""]):
        with pytest.raises(ValueError, match=r"Item 0, '', .*makes no token of it"):
            embedder.transform(items)
    embedder.set_params(on_error="skip", cache_dir=tmp_path / "cache")
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match=r"2 of 6 items .*\[0, 3\]"):
            rows = embedder.transform(["", *TEXTS[:2], " ", *TEXTS[2:]])
        assert np.isnan(rows[[0, 3]]).all()
        np.testing.assert_allclose(rows[[1, 2, 4, 5]], expected, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "t5", "opt"])
@pytest.mark.parametrize("library", ["transformers", "sentence-transformers"])
def test_a_model_without_its_tokenizer(tmp_path, library, family):
    # transformers makes one of special tokens, for which all words are the same.
    transformers = import_or_skip("transformers", "transformers")
    if library == "sentence-transformers":
        import_or_skip("sentence_transformers", "text")
    sizes = {"vocab_size": 300, "num_hidden_layers": 1, "num_attention_heads": 2}
    if family == "t5":
        sizes |= {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    else:
        sizes |= {"hidden_size": 16, "intermediate_size": 32, "ffn_dim": 32}
    config = transformers.AutoConfig.for_model(family, **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    embedder = FoundationEmbedder(f"{library}:{tmp_path}")
    with pytest.raises(ValueError, match=r"knows no words, .*\.save_pretrained\("):
        embedder.transform(TEXTS)


@pytest.mark.parametrize(
    "text",
    ["abcdefghij", "-", "- ", "日本", " ", "ab ", "\u0301", "\ufffd ", "\u200b "],
)
def test_long_texts_are_cut_before_they_are_tokenized(tiny_models, text):
    transformers = import_or_skip("transformers", "transformers")
    path = tiny_models / "text"
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    tokenizer.model_max_length = 40
    lengths = set()
    for n_letters in (1000, 10_000):
        long = f"a b {text * (n_letters // len(text))} c"
        cut = cutter(tokenizer, 40)(long)
        ids = [tokenizer(each, truncation=True).input_ids for each in (cut, long)]
        assert ids[0] == ids[1]
        lengths.add(len(cut))
    # Words that models drop are not counted, so that many of them stay.
    assert len(lengths) == (2 if text in ("\ufffd ", "\u200b ") else 1)
