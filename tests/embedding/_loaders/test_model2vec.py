"""Models of model2vec."""

import numpy as np
import pytest
from embedders import import_or_skip
from sklearn.base import clone

from skimprint import FoundationEmbedder
from skimprint.testing import check_embedder


def static_model(tmp_path, seed=0):
    """Save a small model of model2vec."""
    model2vec = import_or_skip("model2vec", "model2vec")
    tokenizers = import_or_skip("tokenizers", "model2vec")
    words = ["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz", "one", "two", "three"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            dict(zip(words, range(len(words)), strict=True)), unk_token="[UNK]"
        )
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(seed).standard_normal((len(words), 12))
    model = model2vec.StaticModel(vectors.astype(np.float32), tokenizer)
    model.save_pretrained(tmp_path)
    return model


def test_model2vec(tmp_path):
    model = static_model(tmp_path / "model")
    cached = FoundationEmbedder(f"model2vec:{tmp_path / 'model'}", cache_dir=tmp_path)
    texts = ["one two", "a b c", "three", "one two three " * 500]
    for embedder in (clone(cached).set_params(cache_dir=None), cached):
        check_embedder(embedder, texts)
    np.testing.assert_allclose(cached.transform(texts), model.encode(texts), atol=1e-6)
    before = cached.fit(texts).fingerprint_
    static_model(tmp_path / "model", seed=1)
    assert cached.fit(texts).fingerprint_ != before
    with pytest.raises(ValueError, match="averages vectors of texts"):
        clone(cached).set_params(pooling="cls").transform(texts)
