"""One recipe has every setting, for each runtime."""

import itertools

import numpy as np
import pytest
from exported import assert_close, assert_says_the_same, classifier_of, run
from settings import plain_classifier
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skimprint import ImprintClassifier, ImprintClassifierCV, Rejection, export
from skimprint._scoring.similarity import METRICS
from skimprint.aggregation import AGGREGATIONS, Votes
from skimprint.generation import GENERATORS
from skimprint.normalization import NORMS, PROXY_NORMS

# Each value of each parameter that an export sees.
VALUES = {
    "generator": [*GENERATORS, KMeans(random_state=0, n_init=1)],
    "n_proxies": [1, 4, {label: 1 + label for label in range(10)}],
    "norm": [*NORMS, "auto", None],
    "proxy_norm": [*PROXY_NORMS, None],
    "aggregation": [*AGGREGATIONS, Votes(3, "distance"), Votes(2)],
    "metric": list(METRICS),
    "whitening": [None, 0.0, 0.4, "auto"],
    "mean_weight": [0.0, 0.3, "auto"],
    "kernel_weight": [0.0, 0.5, 1.0],
    "temperature": [1.0, 0.05, "auto"],
    "rejection": [None, Rejection(-1, rate=0.3), Rejection(-1, score="contrast")],
    "labels": ["numbers", "text"],
    "dtype": ["float32", "float64"],
}


def is_possible(setting):
    """Leave out what `fit` refuses."""
    name = setting.get
    calibrates = name("temperature") == "auto" or name("rejection") is not None
    kernel = name("kernel_weight")
    distance = getattr(name("aggregation"), "weights", None) == "distance"
    return not (
        (name("generator") == "least_squares" and (calibrates or name("mean_weight")))
        or (name("proxy_norm") == "quantile" and name("mean_weight"))
        or (distance and name("metric") == "dot")
        or (kernel and name("aggregation", "max") != "max")
        or (kernel and name("metric", "dot") not in ("dot", "cosine"))
        or (kernel and name("norm", "l2") is None)
    )


def _ordered(first, second, keys):
    return tuple(sorted([first, second], key=lambda pair: keys.index(pair[0])))


def settings():
    """Choose settings so that every possible pair of values is in one of them."""
    keys = list(VALUES)
    index = {key: range(len(values)) for key, values in VALUES.items()}

    def values_of(numbers):
        return {key: VALUES[key][i] for key, i in numbers.items()}

    missing = {
        ((a, i), (b, j))
        for a, b in itertools.combinations(keys, 2)
        for i, j in itertools.product(index[a], index[b])
        if is_possible(values_of({a: i, b: j}))
    }
    rng = np.random.default_rng(0)
    while missing:
        chosen = dict(min(missing))
        for key in rng.permutation([key for key in keys if key not in chosen]):
            options = [
                i for i in index[key] if is_possible(values_of(chosen | {key: i}))
            ]

            others = list(chosen.items())
            pairs_of = {
                i: {_ordered((key, i), other, keys) for other in others}
                for i in options
            }
            gains = {i: len(pairs & missing) for i, pairs in pairs_of.items()}
            chosen[key] = max(options, key=gains.get)
        pairs = itertools.combinations([(key, chosen[key]) for key in keys], 2)
        missing -= set(pairs)
        yield values_of(chosen)


@pytest.mark.filterwarnings("ignore:n_neighbors=", "ignore:No class has proxies")
def test_onnx_and_torch_over_all_pairs_of_settings(data):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    torch = pytest.importorskip("torch", reason="needs torch")
    n_settings = 0
    for setting in settings():
        clf, X = classifier_of(data, setting)
        found = run(export.to_onnx(clf, nearest=True), X)
        assert_says_the_same(found, clf, X)
        similarities, indices = clf.kproxies(X, min(2, len(clf.proxies_)))
        lead = similarities[:, 0] - similarities[:, -1] > 1e-5 * np.abs(
            similarities[:, 0]
        )
        np.testing.assert_array_equal(found["proxy"][lead], indices[lead, 0])
        rows = clf.proxy_indices_[found["proxy"]]
        np.testing.assert_array_equal(found["training_row"], rows)
        scores = export.to_torch(clf)(torch.from_numpy(X)).numpy()
        assert scores.dtype == clf.proxies_.dtype
        assert_close(scores, clf.decision_function(X), str(setting))
        n_settings += 1
    assert n_settings > 40


@pytest.mark.parametrize("metric", sorted(set(METRICS) - {"manhattan", "chebyshev"}))
@pytest.mark.parametrize("n_proxies", [1, 3, {label: 1 + label for label in range(10)}])
@pytest.mark.parametrize("aggregation", ["max", "mnn"])
@pytest.mark.parametrize("score", ["auto", "similarity", "contrast"])
def test_batches_without_queries(data, metric, n_proxies, aggregation, score):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    torch = pytest.importorskip("torch", reason="needs torch")
    rejection = Rejection(-1, threshold=0.5, score=score)
    setting = {"metric": metric, "n_proxies": n_proxies, "aggregation": aggregation}
    clf, X = classifier_of(data, setting | {"rejection": rejection})
    found = run(export.to_onnx(clf, nearest=True), X[:0])
    shapes = [found[name].shape for name in ("label", "probabilities", "training_row")]
    assert shapes == [(0,), (0, 10), (0,)]
    assert export.to_torch(clf)(torch.from_numpy(X[:0])).shape == (0, 10)


@pytest.mark.parametrize("n_classes", [1, 2, 4])
def test_classes_without_weight_and_few_classes(n_classes):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    torch = pytest.importorskip("torch", reason="needs torch")
    X = np.eye(5, dtype=np.float32)
    weights = np.arange(5) < n_classes
    clf = plain_classifier("mean", rejection=Rejection(-1, score="contrast"))
    clf.set_params(rejection__threshold=0.3).fit(X, [3, 5, 9, 7, 1], weights)
    found = run(export.to_onnx(clf), X)
    assert_says_the_same(found, clf, X)
    scores = export.to_torch(clf)(torch.from_numpy(X)).numpy()
    assert scores.shape == (5, 5)
    np.testing.assert_allclose(scores, clf.decision_function(X), rtol=1e-5)


class Sub(ImprintClassifier):
    """Predicts as its base does, and can do more."""

    def explain(self, X, **params):
        return "because"


class SubCV(ImprintClassifierCV):
    """The same of a search."""


SUBCLASSES = {
    "alone": lambda sub: sub,
    "search": lambda sub: ImprintClassifierCV(sub, {"metric": ["cosine"]}, cv=2),
    "own_search": lambda sub: SubCV(sub, {"metric": ["cosine"]}, cv=2),
    "grid": lambda sub: GridSearchCV(sub, {}, cv=2),
    "pipeline": lambda sub: make_pipeline(StandardScaler(), sub),
    "nested": lambda sub: make_pipeline(StandardScaler(), make_pipeline(PCA(9), sub)),
    "searched_pipeline": lambda sub: GridSearchCV(make_pipeline(PCA(9), sub), {}, cv=2),
    "last_search": lambda sub: make_pipeline(PCA(9), SubCV(sub, {}, cv=2)),
}


@pytest.mark.parametrize("wrap", SUBCLASSES.values(), ids=SUBCLASSES)
@pytest.mark.parametrize("nearest", [False, True])
def test_subclasses_that_predict_as_their_base_does(data, wrap, nearest):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    X, y, queries = data
    model = wrap(Sub("mean")).fit(X, y)
    found = run(export.to_onnx(model, nearest=nearest), queries)
    np.testing.assert_array_equal(found["label"], model.predict(queries))
    assert_close(found["probabilities"], model.predict_proba(queries))


@pytest.mark.parametrize("wrap", SUBCLASSES.values(), ids=SUBCLASSES)
@pytest.mark.parametrize(
    "method",
    ["predict", "predict_proba", "decision_function", "score_samples", "kproxies"],
)
def test_subclasses_that_predict_in_their_own_way_are_refused(data, wrap, method):
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    pytest.importorskip("torch", reason="needs torch")

    class Own(Sub):
        pass

    def own(self, X, **params):
        return getattr(super(Own, self), method)(X, **params)

    setattr(Own, method, own)
    X, y, _ = data
    model = wrap(Own("mean")).fit(X, y)
    refused = pytest.raises(
        ValueError, match=f"the method {method} of ImprintClassifier, .*Own overrides"
    )
    with refused:
        export.to_onnx(model, nearest=True)
    if method == "kproxies":
        export.to_onnx(model)  # has no proxies
    elif isinstance(model, Pipeline):
        with refused:
            skl2onnx.to_onnx(model, X[:1], target_opset=18)
    if isinstance(model, ImprintClassifier | ImprintClassifierCV):
        if method in ("score_samples", "kproxies"):
            export.to_torch(model)  # has scores of classes alone
        else:
            with refused:
                export.to_torch(model)


def test_searches_that_predict_in_their_own_way_are_refused(data):
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    pytest.importorskip("torch", reason="needs torch")

    class Own(ImprintClassifierCV):
        def predict(self, X):
            return super().predict(X)

    X, y, _ = data
    search = Own(ImprintClassifier("mean"), {}, cv=2)
    pipeline = make_pipeline(PCA(9), search).fit(X, y)
    for refused in (
        lambda: export.to_torch(pipeline[-1]),
        lambda: export.to_onnx(pipeline[-1]),
        lambda: export.to_onnx(pipeline),
        lambda: skl2onnx.to_onnx(pipeline, X[:1], target_opset=18),
    ):
        with pytest.raises(ValueError, match=r"predict of ImprintClassifierCV, .*Own"):
            refused()


def double(X):
    return 2 * X


@pytest.mark.parametrize(
    "params, name",
    [
        ({"query_norm": double}, "query_norm"),
        ({"support_norm": double, "query_norm": "auto"}, "support_norm"),
        ({"aggregation": lambda s, c: s}, "aggregation"),
        ({"metric": lambda X, P: X @ P.T}, "metric"),
    ],
)
def test_functions_have_no_form(params, name):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    pytest.importorskip("torch", reason="needs torch")
    clf = plain_classifier("mean", **params).fit(np.eye(3), [0, 1, 2])
    for function in (export.to_onnx, export.to_torch):
        with pytest.raises(ValueError, match=f"^{name} must have a form outside"):
            function(clf)


def test_functions_that_have_done_their_work_do_not_matter():
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    clf = plain_classifier(
        lambda X, n, seed: X[:n], n_proxies=1, support_norm=double, proxy_norm=double
    )
    X = np.eye(3)
    found = run(export.to_onnx(clf.fit(X, [0, 1, 2])), X)
    assert_says_the_same(found, clf, X)
