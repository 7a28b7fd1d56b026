"""Models of torchvision, with random weights."""

import pytest
from embedders import check_image_library, import_or_skip, pictures

from skimprint import FoundationEmbedder


@pytest.mark.parametrize(
    "model, pooling",
    [
        ("torchvision:resnet18", "auto"),
        ("torchvision:mobilenet_v3_small", "auto"),
        ("torchvision:shufflenet_v2_x0_5", "auto"),
    ],
)
def test_image_libraries(model, pooling, tmp_path):
    check_image_library(model, pooling, tmp_path)


def test_unsuitable_image_models():
    import_or_skip("torchvision", "torchvision")
    embedder = FoundationEmbedder(
        "torchvision:squeezenet1_0", model_kwargs={"weights": None}
    )
    with pytest.raises(ValueError, match="does not end in a linear classifier"):
        embedder.transform(pictures())
