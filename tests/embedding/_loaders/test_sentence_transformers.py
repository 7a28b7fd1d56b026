"""Models of sentence-transformers."""

import io
import shutil
import time

import numpy as np
import pytest
from embedders import TEXTS, import_or_skip, in_threads, minilm, pictures
from sklearn.base import clone

from skimprint import FoundationEmbedder
from skimprint.embedding._backbone import Options
from skimprint.embedding._fingerprint import structure_digest
from skimprint.embedding._loaders import backbone_for
from skimprint.testing import check_embedder


def test_sentence_transformers(tmp_path):
    model = minilm()
    embedder = FoundationEmbedder(model, local_files_only=True, batch_size=2)
    check_embedder(embedder, TEXTS)
    check_embedder(embedder.set_params(cache_dir=tmp_path), TEXTS)
    from sentence_transformers import SentenceTransformer

    rows = embedder.transform([*TEXTS, "a " * 25_000, ""])
    reference = SentenceTransformer(model.partition(":")[2], device="cpu")
    expected = reference.encode([*TEXTS, "a " * 25_000, ""])
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_sentence_transformers_are_told_by_what_they_are(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(minilm().partition(":")[2], folder)
    backbones = [
        backbone_for(name, Options())
        for name in (minilm(), f"sentence-transformers:{folder}")
    ]
    first, copied = (structure_digest(each.model) for each in backbones)
    assert first == copied
    backbones[0].digest()  # which looks at all that the model says of itself
    assert structure_digest(backbones[0].model) == first


@pytest.mark.parametrize("prompt", [None, "query: "])
def test_one_thread_at_a_time_uses_a_tokenizer(monkeypatch, prompt):
    model = FoundationEmbedder(minilm(), prompt=prompt)
    module, using, most = model._backbone().model, [], []
    preprocess = module.preprocess

    def slow(*args, **kwargs):
        using.append(None)
        most.append(len(using))
        time.sleep(0.05)
        using.pop()
        return preprocess(*args, **kwargs)

    monkeypatch.setattr(module, "preprocess", slow)
    in_threads(lambda: model.transform(TEXTS))
    assert most == [1] * 4


def test_sentence_transformers_truncate():
    model = minilm()
    rows = FoundationEmbedder(model).transform(TEXTS)
    cut = FoundationEmbedder(model, model_kwargs={"truncate_dim": 64})
    np.testing.assert_allclose(cut.transform(TEXTS), rows[:, :64], atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sentence_transformers_in_half_precision(dtype):
    model = minilm()
    rows = FoundationEmbedder(model).transform(TEXTS)
    for half in (
        FoundationEmbedder(model, dtype=dtype),
        FoundationEmbedder(model, model_kwargs={"model_kwargs": {"dtype": dtype}}),
    ):
        halved = half.transform(TEXTS)
        assert halved.dtype == np.float32
        assert not np.array_equal(halved, rows)
        assert ((halved * rows).sum(1) > 0.99).all()  # cosines: rows are normalised


def test_a_module_of_sentence_transformers_is_loaded_by_name():
    path = minilm().partition(":")[2]
    from sentence_transformers import SentenceTransformer

    module = SentenceTransformer(path, device="cpu")
    with pytest.raises(ValueError, match="model='sentence-transformers:<name"):
        FoundationEmbedder(module).transform(["hello"])


def test_static_models_of_sentence_transformers(tiny_models, tmp_path):
    # What they take of a batch is one sequence of tokens, and where each text begins.
    library = import_or_skip("sentence_transformers", "text")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizers = import_or_skip("tokenizers", "tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(
        str(tiny_models / "text" / "tokenizer.json")
    )
    static = StaticEmbedding(tokenizer, embedding_dim=8)
    module = library.SentenceTransformer(modules=[static], device="cpu")
    module.save(str(tmp_path / "model"))
    expected = module.encode(TEXTS)
    for batch_size in (1, 3, 32):
        embedder = FoundationEmbedder(
            f"sentence-transformers:{tmp_path / 'model'}", batch_size=batch_size
        )
        np.testing.assert_allclose(embedder.transform(TEXTS), expected, atol=1e-6)
        check_embedder(embedder, TEXTS)


def test_sentence_transformers_pooling():
    model = minilm()
    rows = FoundationEmbedder(model).fit_transform(TEXTS)
    means = FoundationEmbedder(model, pooling="mean").transform(TEXTS)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, means, atol=1e-5)
    with pytest.raises(ValueError, match="not modality='image'"):
        FoundationEmbedder(model, modality="image").transform(TEXTS)


@pytest.fixture(scope="module")
def tiny_clip(tiny_models, tmp_path_factory):
    """A pair of towers, not trained, as a model of sentence-transformers."""
    library = import_or_skip("sentence_transformers", "text")
    from sentence_transformers.sentence_transformer.modules import (
        Normalize,
        Transformer,
    )

    modules = [Transformer(str(tiny_models / "pair")), Normalize()]
    path = tmp_path_factory.mktemp("sentence-transformers") / "clip"
    library.SentenceTransformer(modules=modules, device="cpu").save(str(path))
    return path


@pytest.mark.parametrize("modality", ["image", "text"])
def test_sentence_transformers_of_two_towers(tiny_clip, tmp_path, modality):
    from sentence_transformers import SentenceTransformer

    items = pictures() if modality == "image" else TEXTS
    embedder = FoundationEmbedder(
        f"sentence-transformers:{tiny_clip}",
        modality=modality,
        batch_size=2,
        local_files_only=True,
        cache_dir=tmp_path,
    )
    check_embedder(embedder, items)
    reference = SentenceTransformer(str(tiny_clip), device="cpu")
    rows = embedder.transform(items)
    np.testing.assert_allclose(rows, reference.encode(items), atol=1e-5)
    assert rows.shape == (len(items), 8)


def test_sentence_transformers_take_images_of_all_kinds(tiny_clip, tmp_path):
    embedder = FoundationEmbedder(
        f"sentence-transformers:{tiny_clip}", modality="image"
    )
    images = pictures(2)
    images[0].save(tmp_path / "a.png")
    data = io.BytesIO()
    images[1].save(data, "PNG")
    items = [tmp_path / "a.png", data.getvalue(), *map(np.asarray, images)]
    rows = embedder.transform(items)
    np.testing.assert_allclose(rows[:2], rows[2:], atol=1e-6)
    np.testing.assert_allclose(rows[:2], embedder.transform(images), atol=1e-6)
    ready = embedder._backbone().collate(images)["pixel_values"]
    np.testing.assert_allclose(embedder.transform(ready), rows[:2], atol=1e-6)
    with pytest.raises(ValueError, match="needs the embeddings of tokens"):
        embedder.set_params(pooling="mean").transform(images)


def test_prompts_of_the_model(tmp_path):
    path = minilm().partition(":")[2]
    from sentence_transformers import SentenceTransformer

    module = SentenceTransformer(path, device="cpu", prompts={"query": "ask: "})
    module.save(str(tmp_path / "model"))
    named = FoundationEmbedder(f"sentence-transformers:{tmp_path / 'model'}")
    plain = named.transform([f"ask: {text}" for text in TEXTS])
    told = clone(named).set_params(prompt="query")
    np.testing.assert_allclose(told.transform(TEXTS), plain, atol=1e-5)
    with pytest.raises(ValueError, match=r"prompt='querry' is neither .*'query'"):
        clone(named).set_params(prompt="querry").transform(TEXTS)
