"""Models of timm, with random weights."""

import pytest
from embedders import check_image_library, import_or_skip, pictures

from skimprint import FoundationEmbedder


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


def test_a_name_that_timm_does_not_know_is_told():
    import_or_skip("timm", "timm")
    with pytest.raises(ValueError, match=r"^model='timm:resnt18' cannot be loaded\."):
        FoundationEmbedder("timm:resnt18").transform(pictures())
