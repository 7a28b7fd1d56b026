"""Models of timm, with random weights."""

import pytest
from embedders import check_image_library


@pytest.mark.parametrize(
    "model, pooling",
    [
        ("timm:resnet10t", "auto"),
        ("timm:resnet10t", "mean"),
        ("timm:vit_tiny_patch16_224", "cls"),
        ("timm:test_vit", "max"),
    ],
)
def test_image_libraries(model, pooling, tmp_path):
    check_image_library(model, pooling, tmp_path)
