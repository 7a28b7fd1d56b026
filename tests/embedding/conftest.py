"""Small models for the tests of the embedder, and no network."""

import socket

import pytest
from embedders import LETTERS, SMALL, import_or_skip


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test may ask a network for anything here."""

    def refuse(*args, **kwargs):
        raise AssertionError("a test tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """Directories of randomly initialised models of transformers, by kind."""
    transformers = import_or_skip("transformers", "transformers")
    import torch

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    words = [*LETTERS, *(f"##{letter}" for letter in LETTERS[5:])]
    (root / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(
        vocab=dict(zip(words, range(len(words)), strict=True))
    )
    vision = SMALL | {"image_size": 32, "patch_size": 8}
    text = SMALL | {"vocab_size": len(words), "max_position_embeddings": 40}
    models = {
        "text": transformers.BertModel(transformers.BertConfig(**text)),
        "no-pooler": transformers.BertModel(
            transformers.BertConfig(**text), add_pooling_layer=False
        ),
        "image": transformers.ViTModel(transformers.ViTConfig(**vision)),
        "image-no-pooler": transformers.ViTModel(
            transformers.ViTConfig(**vision), add_pooling_layer=False
        ),
        "pair": transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config=text | {"eos_token_id": 3},
                vision_config=vision,
                projection_dim=8,
            )
        ),
        "siglip": transformers.SiglipModel(
            transformers.SiglipConfig(
                text_config=text | {"projection_size": 16}, vision_config=vision
            )
        ),
        "half": transformers.BertModel(transformers.BertConfig(**text)).bfloat16(),
    }
    size = {"height": 32, "width": 32}
    processors = {
        "image": transformers.ViTImageProcessorPil(size=size),
        "image-no-pooler": transformers.ViTImageProcessorPil(size=size),
        "pair": transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size=size
        ),
    }
    for kind, model in models.items():
        model.save_pretrained(root / kind)
        if kind in processors:
            processors[kind].save_pretrained(root / kind)
        if not kind.startswith("image"):
            tokenizer.save_pretrained(root / kind)
    return root
