"""Models of open_clip, with random weights."""

import pytest
from embedders import TEXTS, check_image_library, import_or_skip

from skimprint import FoundationEmbedder
from skimprint.testing import check_embedder


@pytest.mark.parametrize(
    "model, pooling",
    [
        ("open_clip:RN50", "auto"),
    ],
)
def test_image_libraries(model, pooling, tmp_path):
    check_image_library(model, pooling, tmp_path)


def test_open_clip_texts():
    import_or_skip("open_clip", "open-clip")
    embedder = FoundationEmbedder(
        "open_clip:RN50", modality="text", model_kwargs={"pretrained": None}
    )
    check_embedder(embedder, TEXTS)
    with pytest.raises(ValueError, match="choose modality='image' or 'text'"):
        embedder.set_params(modality="auto").transform(TEXTS)
    with pytest.raises(ValueError, match="names no weights"):
        embedder.set_params(model_kwargs=None).transform(TEXTS)
