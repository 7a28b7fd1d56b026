"""What people read of a folder."""

import numpy as np
import pytest
from settings import plain_classifier

from skimprint import persistence

pytest.importorskip("safetensors", reason="needs skimprint[files]")


def test_a_card_has_all_digits_of_the_numbers_of_samples(folder):
    weight = np.array([1234567, 0.1, 0.2, 1e-3])
    clf = plain_classifier("mean").fit(np.eye(4), list("abbc"), sample_weight=weight)
    persistence.save(clf, folder)
    card = (folder / "README.md").read_text("utf-8")
    for row in ("| `a` | 1234567 |", "| `b` | 0.3 |", "| `c` | 0.001 |"):
        assert row in card


def test_labels_in_a_card_are_no_markdown(folder):
    labels = ["a`b", "``<i>", "|", "<b>", "`"]
    persistence.save(plain_classifier("mean").fit(np.eye(5), labels), folder)
    card = (folder / "README.md").read_text("utf-8")
    for shown in ("`` a`b ``", "``` ``<i> ```", r"`\|`", "`<b>`", "`` ` ``"):
        assert f"| {shown} | 1 |" in card
