from collections import Counter

import pytest

from skimprint.datasets import load_intents


def test_sizes():
    intents = load_intents()
    counts = Counter(intents.target)
    assert len(counts) >= 24
    assert set(counts.values()) == {20}
    assert list(counts) == list(dict.fromkeys(intents.target))
    assert intents.target_names == sorted(counts)
    assert len(load_intents(subset="out_of_scope").data) == 100
    assert len(load_intents(subset="all").data) == len(intents.data) + 100
    assert "Larder" in intents.DESCR


def test_sentences_are_different_and_clean():
    data = load_intents(subset="all").data
    assert len({sentence.casefold() for sentence in data}) == len(data)
    assert all(sentence == " ".join(sentence.split()) for sentence in data)


def test_return_X_y():
    assert load_intents().frame is None
    data, target = load_intents(return_X_y=True)
    assert data.shape == target.shape == (480,)


def test_as_frame():
    pd = pytest.importorskip("pandas", reason="needs pandas")
    intents = load_intents(subset="out_of_scope", as_frame=True)
    assert list(intents.frame.columns) == ["text", "intent"]
    assert isinstance(intents.data, pd.Series)
    assert set(intents.target) == {"out_of_scope"}
    data, _ = load_intents(return_X_y=True, as_frame=True)
    assert data[0] == load_intents().data[0]


def test_unknown_subset():
    with pytest.raises(ValueError, match="subset='test' is not known"):
        load_intents(subset="test")
