import doctest
from pathlib import Path

import pytest

PAGES = [
    page
    for page in sorted((Path(__file__).parents[1] / "docs").glob("*.md"))
    if ">>>" in page.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_in_the_documentation(page):
    pytest.importorskip("PIL", reason="needs pillow")
    text = page.read_text(encoding="utf-8")
    for library in ("torch", "transformers", "onnxruntime", "safetensors"):
        if f">>> import {library}" in text or f">>> from {library}" in text:
            pytest.importorskip(library, reason=f"needs {library}")
    failed, _ = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert failed == 0
