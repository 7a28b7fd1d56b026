"""Errors that are about an item, and those that are not."""

import pytest
from embedders import pictures

from skimprint import FoundationEmbedder


def test_errors_without_a_text_are_named_by_their_type():
    def fails(image):
        raise KeyError

    torch = pytest.importorskip("torch", reason="needs torch")
    embedder = FoundationEmbedder(torch.nn.Flatten(), preprocess=fails)
    with pytest.raises(ValueError, match="failed with KeyError"):
        embedder.transform(pictures(1))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_no_item_is_blamed_for_a_setting(on_error):
    torch = pytest.importorskip("torch", reason="needs torch")
    embedder = FoundationEmbedder(
        torch.nn.Identity(), pooling="cls", on_error=on_error, modality="image"
    )
    with pytest.raises(ValueError, match=r"^pooling='cls' does not fit what the model"):
        embedder.transform(torch.ones(3, 4))
