import numpy as np
import pytest

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint._validation import check_labels, fit_context, seed_from, shortened


@pytest.mark.parametrize(
    "y",
    [[0, 1], [True, False], ["a", "b"], [b"a", b"b"], [0.0, 1.0], [np.uint64(2**63)]],
)
def test_labels_of_each_type(y):
    check_labels(np.array(y))
    if isinstance(y[0], str):
        check_labels(np.array(y, object))


@pytest.mark.parametrize("y", [[0.5, 1.5], [None, 1], [1j, 2j]])
def test_what_are_no_labels(y):
    with pytest.raises(ValueError, match=r"Unknown label type|omplex"):
        check_labels(np.array(y))


def test_many_classes_of_a_sample_each_do_not_warn():
    check_labels(np.arange(100.0))


def test_lazy_frames_are_told_apart_from_frames():
    pl = pytest.importorskip("polars", reason="needs polars")
    lazy = pl.LazyFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    X, y = lazy.collect(), [0, 1]
    clf = ImprintClassifier().fit(X, y)
    for call in (
        lambda: ImprintClassifier().fit(lazy, y),
        lambda: ImprintClassifier().fit(X, lazy.select("a")),
        lambda: clf.predict(lazy),
        lambda: FoundationEmbedder(len).transform(lazy.select("a")),
    ):
        with pytest.raises(TypeError, match=r"Got a LazyFrame, .*call collect\(\)"):
            call()


def test_seeds():
    assert seed_from(7) == seed_from(np.int64(7)) == 7
    assert seed_from(np.random.RandomState(0)) == seed_from(np.random.RandomState(0))
    state = np.random.RandomState(0)
    assert seed_from(state) != seed_from(state)
    assert isinstance(seed_from(None), int)


def test_a_list_of_labels_in_a_message():
    assert shortened(["a", 1]) == "['a', 1]"
    assert shortened(list(range(1000)), most=2) == "[0, 1, ... (1000 in all)]"


def test_fit_context_is_that_of_scikit_learn():
    def fit(self, X):
        """Fit."""

    decorated = fit_context(prefer_skip_nested_validation=True)(fit)
    assert decorated.__wrapped__ is fit
    assert decorated.__doc__ == "Fit."
