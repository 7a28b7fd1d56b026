"""Modules of torch that a user passes, and how items become batches of tensors."""

import numpy as np
import pytest
from embedders import (
    TEXTS,
    import_or_skip,
    onnx_model,
    pictures,
    tiny_vision,
    to_tensor,
)

from skimprint import FoundationEmbedder
from skimprint.testing import check_embedder


@pytest.mark.parametrize("cached", [False, True])
def test_modules_pass_the_checks(cached, tmp_path):
    embedder = FoundationEmbedder(
        tiny_vision(),
        preprocess=to_tensor,
        batch_size=2,
        cache_dir=tmp_path if cached else None,
    )
    check_embedder(embedder, pictures())


def test_module_without_preprocess_takes_tensors():
    torch = pytest.importorskip("torch", reason="needs torch")
    module = tiny_vision().eval()
    X = torch.rand(4, 3, 16, 16)
    rows = FoundationEmbedder(module).transform(X)
    np.testing.assert_allclose(rows, module(X).detach(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"Item 0, .*pass preprocess="):
        FoundationEmbedder(module).transform(pictures())


def test_preprocess_that_fails_names_the_item():
    def picky(image):
        if image.size[1] == 22:
            raise RuntimeError("no 22")
        return to_tensor(image)

    embedder = FoundationEmbedder(tiny_vision(), preprocess=picky)
    with pytest.raises(ValueError, match=r"Item 2, .*RuntimeError: no 22"):
        embedder.transform(pictures())


@pytest.mark.parametrize("made", [{"input_ids": [1, 2]}, "text", None, [[1], [1, 2]]])
def test_a_preprocess_that_makes_no_tensor_is_told_so(made):
    embedder = FoundationEmbedder(tiny_vision(), preprocess=lambda text: made)
    kind = type(made).__name__
    with pytest.raises(ValueError, match=rf"Item 0, .*return one tensor, got {kind};"):
        embedder.set_params(modality="text").transform(["a"])


def test_text_module():
    torch = pytest.importorskip("torch", reason="needs torch")

    def codes(text):
        return torch.tensor([ord(letter) for letter in text.ljust(64)[:64]])

    module = torch.nn.EmbeddingBag(256, 4, mode="mean")
    embedder = FoundationEmbedder(module, preprocess=codes, modality="text")
    check_embedder(embedder, TEXTS)
    with pytest.raises(ValueError, match="needs preprocess="):
        FoundationEmbedder(module, modality="text").transform(TEXTS)


@pytest.mark.parametrize("library", ["transformers", "onnx"])
def test_pictures_of_one_batch_are_not_padded(library, tmp_path):
    transformers = import_or_skip("transformers", "transformers")
    if library == "onnx":
        folder, _ = onnx_model(tmp_path / "model", of_images=True)
    else:
        folder = tmp_path / "model"
        config = transformers.YolosConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=[32, 48],
            patch_size=8,
            num_detection_tokens=2,
        )
        transformers.YolosModel(config).save_pretrained(folder)
    size = {"shortest_edge": 32, "longest_edge": 64}
    transformers.YolosImageProcessorPil(size=size).save_pretrained(folder)
    rng = np.random.default_rng(0)
    shapes = (40, 40), (40, 60), (80, 40), (40, 40)
    items = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    check_embedder(FoundationEmbedder(f"{library}:{folder}"), items)


def test_a_module_of_transformers(tiny_models):
    transformers = import_or_skip("transformers", "transformers")
    module = transformers.AutoModel.from_pretrained(tiny_models / "image")

    def preprocess(image):
        return to_tensor(image)

    embedder = FoundationEmbedder(module, preprocess=preprocess, pooling="pooler")
    check_embedder(embedder, pictures())
    with pytest.raises(ValueError, match="pooling='auto' does not fit"):
        embedder.set_params(pooling="auto").transform(pictures())
