import numpy as np
import pytest

from skimprint import FoundationEmbedder, ImprintClassifier, ImprintClassifierCV
from skimprint._validation import check_labels, fit_context, seed_from, shortened
from skimprint.cluster import GroupedKMeans
from skimprint.inspection import CollapseDisplay, ProxyDisplay, report
from skimprint.metrics import neural_collapse_score, variability_collapse_index


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
