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


@pytest.mark.parametrize("n_classes, is_shown", [(3, True), (500, False)])
def test_a_setting_of_many_classes_is_left_to_the_config(folder, n_classes, is_shown):
    labels = [f"class {i}" for i in range(n_classes)]
    clf = plain_classifier(n_proxies=dict.fromkeys(labels, 2), random_state=0)
    persistence.save(clf.fit(np.eye(n_classes), labels), folder)
    card = (folder / "README.md").read_text("utf-8")
    assert ('"n_proxies": "see config.json"' in card) != is_shown
    assert '"random_state": 0' in card
    assert ('"class 2",' in card) == is_shown
    assert persistence.load(folder).n_proxies == clf.n_proxies
