import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "page", ["README.md", "docs/index.md", "docs/guide/own_parts.md"]
)
def test_python_blocks_run_one_after_the_other(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    namespace = {}
    for block in blocks:
        if "FoundationEmbedder" not in block:  # those need models from a hub
            exec(compile(block, page, "exec"), namespace)
