from enum import Enum, StrEnum

import numpy as np
import pytest

from skimprint import (
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
)
from skimprint._validation import (
    check_labels,
    fit_context,
    seed_from,
    shortened,
    whole_labels,
)
from skimprint.cluster import GroupedKMeans
from skimprint.inspection import CollapseDisplay, ProxyDisplay, report
from skimprint.metrics import neural_collapse_score, variability_collapse_index
from skimprint.model_selection import NShotSplit


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


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_labels_that_are_not_finite_are_refused_without_a_warning(value, dtype):
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        check_labels(np.array([0, value, 1], dtype))


class Colour(str, Enum):  # noqa: UP042, as many write it
    RED = "red"
    BLUE = "blue"


class Name(StrEnum):
    RED = "red"


BIG = [2**63 + 1, 2**63, 5]
WHOLE = np.array(BIG, np.uint64)


def on_dask(X, y):
    pytest.importorskip("dask.array", reason="needs dask")
    import dask.array as da

    import skimprint.dask

    return skimprint.dask.fit(ImprintClassifier("mean"), da.from_array(X), y)


# What takes a list of labels beside the rows of X, or one of each.
TAKE_LABELS = [
    lambda X, y: ImprintClassifier("mean").fit(X, y),
    lambda X, y: ImprintClassifier("mean").partial_fit(X, y),
    lambda X, y: ImprintClassifier("mean").partial_fit(X, WHOLE, classes=y),
    lambda X, y: ImprintClassifier.from_head(X, y),
    lambda X, y: ImprintClassifier("mean").fit(X, WHOLE).forget(y),
    lambda X, y: ImprintClassifier("mean").fit(X, WHOLE).forget(set(y)),
    lambda X, y: ImprintClassifier("mean").fit(X, WHOLE).explain(X, y=y),
    lambda X, y: ImprintClassifier("mean").fit(X, WHOLE).assign_proxies(X, y),
    lambda X, y: report(ImprintClassifier("mean").fit(X, WHOLE), X, y),
    lambda X, y: ImprintClassifierCV(cv=3).fit(np.tile(X, (3, 1)), y * 3),
    lambda X, y: GroupedKMeans(1).fit(X, y),
    lambda X, y: neural_collapse_score(np.tile(X, (3, 1)), y * 3),
    lambda X, y: [*NShotSplit(1, 1).split(np.tile(X, (3, 1)), y * 3)],
    on_dask,
]


@pytest.mark.parametrize("call", TAKE_LABELS)
def test_labels_of_a_list_that_numpy_would_change(call):
    call(np.eye(3), BIG)
    with pytest.raises(ValueError, match=r"must be str; got Colour, of which NumPy"):
        call(np.eye(3), [Colour.RED, Colour.BLUE, "red"])


def test_labels_of_a_list_keep_their_digits():
    clf = ImprintClassifier("mean").fit(np.eye(3), BIG)
    assert clf.predict(np.eye(3)).tolist() == BIG
    why = clf.explain(np.eye(3), y=BIG)
    assert why.label.tolist() == BIG
    assert report(clf, np.eye(3), BIG).findings.accuracy == 1
    assert clf.forget([BIG[0], 5]).classes_.tolist() == [BIG[1]]
    assert ImprintClassifier.from_head(np.eye(3), BIG).classes_.tolist() == sorted(BIG)
    mixed = [np.uint64(2**53), np.int64(5), np.uint64(2**53 + 1)]
    clf = ImprintClassifier("mean").fit(np.eye(3), mixed)
    assert clf.classes_.tolist() == [5, 2**53, 2**53 + 1]
    for labels in ([1, 2.0], [-1, 2**63], [2**70, 1], ["a"], [], 2**63, None, [True]):
        assert whole_labels(labels) is labels


class Safe(str):
    """As Django and MarkupSafe have it: its `str` is itself."""

    def __str__(self):
        return self


def test_text_that_is_its_own_str_is_a_label():
    labels = [Safe("red"), Safe("blue")]
    assert whole_labels(labels) is labels


def test_members_of_an_enum_are_labels_where_their_text_is_kept():
    y = np.array([Colour.RED, Colour.BLUE, Colour.RED], object)
    clf = ImprintClassifier("mean", rejection=Rejection(Name.RED)).fit(np.eye(3), y)
    assert clf.classes_.tolist() == ["blue", "red"]
    assert report(clf, np.eye(3), y).findings.accuracy == 1
    assert clf.forget(Name.RED).classes_.tolist() == ["blue"]
    with pytest.raises(ValueError, match="got Colour, of which NumPy"):
        clf.forget(Colour.BLUE)
    with pytest.raises(ValueError, match="got Colour, of which NumPy"):
        clf.set_params(rejection=Rejection(Colour.RED)).fit(np.eye(3), y)


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
        lambda: ImprintClassifierCV().fit(lazy, y),
        lambda: ImprintClassifierCV().fit(X, y, lazy.select("a")),
        lambda: clf.predict(lazy),
        lambda: FoundationEmbedder(len).transform(lazy.select("a")),
    ):
        with pytest.raises(TypeError, match=r"Got a LazyFrame, .*call collect\(\)"):
            call()


def nc1(X, y):
    return neural_collapse_score(X, y)


def vci(X, y):
    return variability_collapse_index(X, y)


def grouped_kmeans(X, y):
    clusters = GroupedKMeans(2, random_state=0).fit(X, y)
    return clusters.transform(X)


def search(X, y):
    search = ImprintClassifierCV(ImprintClassifier("mean"), {"metric": ["dot"]}, cv=2)
    search.fit(X, y)
    return search.best_score_, search.n_features_in_, search.score(X, y)


def search_by_f1(X, y):
    search = ImprintClassifierCV(param_grid={"generator": ["mean", "all"]}, cv=2)
    return (
        search.set_params(scoring="f1_macro").fit(X, y).cv_results_["rank_test_score"]
    )


def a_report(X, y):
    found = report(ImprintClassifier("mean").fit(X, y), X, y, X_train=X, y_train=y)
    return found.findings.suspects.margins


def proxies(X, y):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    clf = ImprintClassifier("mean").fit(X, y)
    return ProxyDisplay.from_estimator(clf, X, y).queries


def collapse(X, y):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    clf = ImprintClassifier("all", random_state=0)
    return CollapseDisplay.from_estimator(clf, X, y, cv=2).gain


CALLS = [nc1, vci, grouped_kmeans, search, search_by_f1, a_report, proxies, collapse]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_of_embeddings_do_wherever_embeddings_do(call, library, digits):
    library = pytest.importorskip(library, reason=f"needs {library}")
    X, y = digits[0][:60, :9].astype(np.float64), digits[1][:60] % 3
    # As lists of numbers, which both libraries take for objects of some kind.
    found = call(library.Series(X.tolist()), y)
    np.testing.assert_allclose(found, call(X, y), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("call", CALLS)
def test_columns_of_numbers_are_no_embeddings(call):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        call(pandas.Series(np.arange(8.0)), np.arange(8) % 2)


def test_a_random_state_gives_another_seed_each_time():
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
