"""Exported models say what the classifier says."""

import itertools
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from settings import plain_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

import skimprint
from skimprint import (
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
    export,
)
from skimprint._scoring.similarity import METRICS
from skimprint.aggregation import AGGREGATIONS, Votes
from skimprint.classifier._steps import last_step
from skimprint.generation import GENERATORS
from skimprint.normalization import NORMS, PROXY_NORMS

SHARED = Path(__file__).parents[3] / "shared"


def text_of(y):
    """Labels that are text."""
    return np.array(["zero", "één", "two", "3", "4", "5", "6", "7", "8", "nine"])[y]


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


@pytest.fixture(scope="module")
def data():
    """Raw digits: 64 features, and labels."""
    X, y = load_digits(return_X_y=True)
    X = X + np.random.default_rng(0).normal(0, 0.1, X.shape)  # no ties
    return X[:200], y[:200], X[200:320]


def classifier_of(data, setting):
    """A fitted classifier, and queries."""
    X, y, queries = data
    params = {"norm": "l2", "labels": "numbers", "dtype": "float32"} | setting
    norm, dtype = params.pop("norm"), params.pop("dtype")
    if params.pop("labels") == "text":
        y = text_of(y)
        if isinstance(params.get("n_proxies"), dict):
            counts = params["n_proxies"].items()
            params["n_proxies"] = {str(text_of(k)): v for k, v in counts}
        if params.get("rejection") is not None:
            rejection = params["rejection"].get_params() | {"label": "unknown"}
            params["rejection"] = Rejection(**rejection)
    clf = plain_classifier(**params, support_norm=norm, query_norm=norm, random_state=0)
    return clf.fit(X.astype(dtype), y), queries.astype(dtype)


def session_of(onnx_model):
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 2
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(
        onnx_model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(onnx_model, X):
    session = session_of(onnx_model)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def is_tied(clf, X, found):
    """Tell where classes are ahead by no more than rounding."""
    scores = np.sort(clf.predict_proba(X), axis=1)
    tied = scores[:, -1] - scores[:, -2] < 1e-5
    if clf.rejection is not None:
        familiarity = clf.score_samples(X)
        scale = np.abs(familiarity).max()
        tied |= np.abs(familiarity - clf.rejection_threshold_) < 1e-5 * scale
    return tied


def assert_close(first, second, name=""):
    scale = max(1, np.abs(second).max())
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-4 * scale, err_msg=name)


def assert_says_the_same(found, clf, X):
    expected = clf.predict(X)
    assert found["label"].dtype.kind == {"U": "O"}.get(expected.dtype.kind, "i")
    same = (found["label"] == expected) | is_tied(clf, X, found)
    assert same.all()
    assert_close(found["probabilities"], clf.predict_proba(X), "probabilities")
    assert_close(found["familiarity"], clf.score_samples(X), "familiarity")


@pytest.mark.filterwarnings("ignore:n_neighbors=", "ignore:No class has proxies")
def test_onnx_and_torch_over_all_pairs_of_settings(data):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
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


@pytest.mark.parametrize("metric", METRICS)
def test_batches_of_any_size(data, metric):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    clf, X = classifier_of(data, {"metric": metric, "n_proxies": 2})
    session = session_of(export.to_onnx(clf))
    whole = session.run(["probabilities"], {"X": X})[0]
    for n in (1, 7):
        (some,) = session.run(["probabilities"], {"X": X[:n]})
        assert_close(some, whole[:n])


@pytest.mark.parametrize("metric", sorted(set(METRICS) - {"manhattan", "chebyshev"}))
@pytest.mark.parametrize("n_proxies", [1, 3, {label: 1 + label for label in range(10)}])
@pytest.mark.parametrize("aggregation", ["max", "mnn"])
@pytest.mark.parametrize("score", ["auto", "similarity", "contrast"])
def test_batches_without_queries(data, metric, n_proxies, aggregation, score):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    torch = pytest.importorskip("torch", reason="needs torch")
    rejection = Rejection(-1, threshold=0.5, score=score)
    setting = {"metric": metric, "n_proxies": n_proxies, "aggregation": aggregation}
    clf, X = classifier_of(data, setting | {"rejection": rejection})
    found = run(export.to_onnx(clf, nearest=True), X[:0])
    shapes = [found[name].shape for name in ("label", "probabilities", "training_row")]
    assert shapes == [(0,), (0, 10), (0,)]
    assert export.to_torch(clf)(torch.from_numpy(X[:0])).shape == (0, 10)


@pytest.mark.parametrize(
    "labels",
    [[5, 2], [True, False], [1.0, 2.0], np.array([2**63, 1], np.uint64)],
    ids=str,
)
def test_labels_of_every_kind(labels):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    X = np.eye(2, dtype=np.float32)
    clf = plain_classifier("mean").fit(X, labels)
    found = run(export.to_onnx(clf), X)["label"]
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == np.asarray(labels).dtype


@pytest.mark.parametrize("where", ["class", "rejection"])
def test_half_a_surrogate_pair_has_no_form(where):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    labels = ["a", "b\udcff" if where == "class" else "b"]
    rejection = Rejection("b\udcff", threshold=0.5) if where == "rejection" else None
    clf = plain_classifier("mean", rejection=rejection).fit(np.eye(2), labels)
    with pytest.raises(ValueError, match=r"'b\\udcff' has half a surrogate pair"):
        export.to_onnx(clf)


@pytest.mark.parametrize("n_classes", [1, 2, 4])
def test_classes_without_weight_and_few_classes(n_classes):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
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


@pytest.mark.parametrize(
    "dtype, label",
    [
        (bool, -1),
        (np.int64, 0.5),
        (np.int64, np.nan),
        (np.uint8, -1),
        (np.uint8, np.int8(-1)),
        (np.uint64, 2**63 + 1),
        (np.float32, -1),
        (str, "none of the classes"),
    ],
    ids=str,
)
def test_a_rejection_has_its_label(data, dtype, label):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    X, y = data[0], (data[1] % 2).astype(dtype)
    clf = plain_classifier("mean", rejection=Rejection(label, rate=0.5)).fit(X, y)
    expected = clf.predict(X).astype(object)
    found = run(export.to_onnx(clf), X)["label"].astype(object)
    same = (found == expected) | ((found != found) & (expected != expected))
    assert same.mean() > 0.99
    assert len(set(map(str, found))) == 3


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("norm", [*NORMS, None])
@pytest.mark.parametrize("score", ["auto", "similarity", "contrast"])
def test_a_rejection_is_of_all_that_is_not_finite(data, metric, norm, score):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    rejection = Rejection(-1, score=score, rate=0.05)
    clf, X = classifier_of(
        data, {"metric": metric, "norm": norm, "rejection": rejection, "n_proxies": 1}
    )
    session = session_of(export.to_onnx(clf))
    (before,) = session.run(["label"], {"X": X})
    for value in (np.nan, np.inf, -np.inf):
        for columns in (0, 20, 63, slice(None)):
            spoilt = X.copy()
            spoilt[::2, columns] = value
            (found,) = session.run(["label"], {"X": spoilt})
            assert (found[::2] == -1).all()
            np.testing.assert_array_equal(found[1::2], before[1::2])


def test_large_values_and_zeros_stay_finite(data):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    clf, X = classifier_of(data, {"norm": "l2"})
    X = np.stack([X[0] * 1e30, X[1] * 1e-30, X[2] * 0]).astype(np.float32)
    found = run(export.to_onnx(clf), X)
    assert_close(found["probabilities"], clf.predict_proba(X))


def test_pipelines_and_searches_through_skl2onnx(data):
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    X, y, queries = (np.float32(part) for part in data)
    y = text_of(y.astype(int))
    search = ImprintClassifierCV(plain_classifier("mean"), {"metric": ["cosine"]})
    for final in (plain_classifier("kmeans", 2), search):
        model = make_pipeline(StandardScaler(), PCA(20), final).fit(X, y)
        found = run(export.to_onnx(model, nearest=True), queries)
        assert list(found)[3:] == ["proxy", "training_row"]
        best = getattr(model[-1], "best_estimator_", model[-1])
        reduced = model[:-1].transform(queries)
        assert_says_the_same(found, best, reduced)
        again = skl2onnx.to_onnx(model, queries[:1], target_opset=18)
        assert list(run(again, queries)) == ["label", "probabilities", "familiarity"]
        with pytest.raises(ValueError, match=r"target_opset must be at least 18"):
            skl2onnx.to_onnx(model, queries[:1], target_opset=15)
    assert_says_the_same(
        run(export.to_onnx(search.fit(X, y)), queries), search.best_estimator_, queries
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: make_pipeline("passthrough", clf),
        lambda clf: make_pipeline(None, StandardScaler(), "passthrough", clf),
        lambda clf: make_pipeline(StandardScaler(), make_pipeline(PCA(9), clf)),
        lambda clf: make_pipeline(make_pipeline(StandardScaler(), None), clf),
        lambda clf: make_pipeline(PCA(9), make_pipeline(PCA(5), make_pipeline(clf))),
        lambda clf: make_pipeline(PCA(9), GridSearchCV(make_pipeline(None, clf), {})),
        lambda clf: GridSearchCV(make_pipeline(StandardScaler(), clf), {}),
    ],
)
def test_pipelines_of_every_shape(data, wrap):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    X, y, queries = data
    for clf in (
        ImprintClassifier("mean"),
        ImprintClassifierCV(ImprintClassifier("mean"), {"metric": ["cosine"]}, cv=2),
    ):
        model = wrap(clf).fit(X, y)
        found = run(export.to_onnx(model, nearest=True), queries)
        assert list(found)[3:] == ["proxy", "training_row"]
        np.testing.assert_array_equal(found["label"], model.predict(queries))
        assert_close(found["probabilities"], model.predict_proba(queries))


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


@pytest.mark.parametrize(
    "last", [StandardScaler(), LogisticRegression(max_iter=9999), None]
)
def test_pipelines_that_end_with_another_model(data, last):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    X, y, _ = data
    for steps in ([last], [PCA(2), last], [PCA(2), Pipeline([("last", last)])]):
        model = make_pipeline(*steps).fit(X, y)
        with pytest.raises(TypeError, match=r"ends with one; the last step here is"):
            export.to_onnx(model)


@pytest.mark.parametrize("vectorizer", [CountVectorizer(), TfidfVectorizer()])
def test_pipelines_of_text_need_inputs_of_their_own(vectorizer):
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    text = skl2onnx.common.data_types.StringTensorType([None, 1])
    texts, y = (
        ["good day", "fine day", "bad night", "awful night"],
        ["+", "+", "-", "-"],
    )
    svd = TruncatedSVD(2, random_state=0)
    model = make_pipeline(vectorizer, svd, plain_classifier("mean")).fit(texts, y)
    name = type(vectorizer).__name__.lower()
    with pytest.raises(ValueError, match=f"'{name}', does not .*initial_types"):
        export.to_onnx(model)
    options = {type(vectorizer): {"tokenexp": "[a-z]+", "locale": "C"}}
    graph = skl2onnx.to_onnx(
        model, initial_types=[("X", text)], target_opset=18, options=options
    )
    found = run(graph, np.array(texts)[:, None])
    assert found["label"].tolist() == y
    assert_close(found["probabilities"], model.predict_proba(texts))


def test_skl2onnx_finds_out_by_itself(data, monkeypatch):
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    from skl2onnx import _parse, _supported_operators

    for kind in (ImprintClassifier, ImprintClassifierCV):
        maps = (
            _parse.sklearn_parsers_map,
            _supported_operators.sklearn_operator_name_map,
        )
        for registered in maps:
            monkeypatch.delitem(registered, kind, raising=False)
    X, y, queries = (np.float32(part) for part in data)
    search = ImprintClassifierCV(plain_classifier("mean"), {"metric": ["cosine"]})
    for final in (plain_classifier(n_proxies=2, kernel_weight=0.5), search):
        model = make_pipeline(StandardScaler(), final).fit(X, y.astype(int))
        found = run(skl2onnx.to_onnx(model, X[:1]), queries)
        assert list(found) == ["label", "probabilities", "familiarity"]
        np.testing.assert_array_equal(found["label"], model.predict(queries))
        assert_close(found["probabilities"], model.predict_proba(queries))


AROUND = {
    "sigmoid": lambda clf: CalibratedClassifierCV(clf, cv=2),
    "one_calibrated": lambda clf: CalibratedClassifierCV(clf, cv=2, ensemble=False),
    "voting": lambda clf: VotingClassifier(
        [("a", clf), ("b", clf)], voting="soft", flatten_transform=False
    ),
    "stacking": lambda clf: StackingClassifier([("a", clf)], cv=2),
    "last_of_a_stack": lambda clf: StackingClassifier(
        [("a", LogisticRegression(max_iter=1000))], clf, cv=2
    ),
    "bagging": lambda clf: BaggingClassifier(clf, 2, max_features=0.9, random_state=0),
    "one_vs_rest": OneVsRestClassifier,
    "grid": lambda clf: GridSearchCV(clf, {}, cv=2),
}


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
@pytest.mark.parametrize("inside", ["classifier", "search", "pipeline", "nested"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_models_around_ours_through_skl2onnx(data, around, inside, n_classes):
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    export.register_skl2onnx()
    clf = ImprintClassifier("mean", temperature=0.2)
    if inside == "search":
        clf = ImprintClassifierCV(clf, {"metric": ["cosine"]}, cv=2)
    elif inside != "classifier":
        clf = make_pipeline(StandardScaler(), clf)
    if inside == "nested":
        clf = make_pipeline(Normalizer(), clf)
    X, y, queries = data
    known = y < n_classes
    for dtype, label_of in ((np.float32, np.int64), (np.float64, text_of)):
        model = around(clf).fit(X[known].astype(dtype), label_of(y[known]))
        for given in {dtype, np.float32}:  # also narrower queries than were learnt
            asked = queries.astype(given)
            options = {id(model): {"zipmap": False}}
            found = run(skl2onnx.to_onnx(model, asked[:1], options=options), asked)
            expected = model.predict_proba(queries.astype(dtype))
            assert_close(found["probabilities"], expected)
            if around is not OneVsRestClassifier:  # skl2onnx decides by probabilities
                first_two = np.sort(expected, axis=1)[:, -2:]
                is_tied = np.diff(first_two)[:, 0] < 1e-4
                predicted = model.predict(queries.astype(dtype))
                assert ((found["label"] == predicted) | is_tied).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_modules_in_another_precision(data, dtype):
    torch = pytest.importorskip("torch", reason="needs torch")
    X, y, queries = data
    numbers = {label: 1 + label for label in range(10)}
    clf = plain_classifier("kmeans", numbers, random_state=0).fit(X, y)
    module = export.to_torch(clf).to(getattr(torch, dtype))
    scores = module(torch.from_numpy(queries))
    assert scores.dtype == getattr(torch, dtype)
    expected = clf.decision_function(queries)
    np.testing.assert_allclose(scores.double().numpy(), expected, atol=0.02)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("norm", [*NORMS, None])
@pytest.mark.parametrize("whitening", [None, "auto"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_finite(data, metric, norm, whitening, dtype):
    torch = pytest.importorskip("torch", reason="needs torch")
    clf, X = classifier_of(
        data, {"metric": metric, "norm": norm, "whitening": whitening, "n_proxies": 2}
    )
    X = np.abs(X[:4])  # of one sign, as square roots are for
    X[0] = 0
    X[1, ::2] = 0
    X[2] = clf.proxies_[0]  # with no distance from it, where there is no norm
    module = export.to_torch(clf).to(getattr(torch, dtype))
    queries = torch.from_numpy(X).to(getattr(torch, dtype)).requires_grad_()
    module(queries).sum().backward()
    assert torch.isfinite(queries.grad).all()
    assert queries.grad[1:].any()


def test_torch_programs_and_linear_heads(data):
    torch = pytest.importorskip("torch", reason="needs torch")
    clf, X = classifier_of(data, {"metric": "manhattan", "aggregation": "mnn"})
    module, X = export.to_torch(clf), torch.from_numpy(X)
    any_size = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(module, (X,), dynamic_shapes=any_size)
    for n in (3, 50):
        torch.testing.assert_close(program.module()(X[:n]), module(X[:n]))
    assert module.labels == clf.classes_.tolist()
    assert module.temperature == clf.temperature_
    with pytest.raises(AttributeError, match="weight exists only where a score is a"):
        _ = module.weight

    clf, _ = classifier_of(data, {"generator": "mean", "labels": "text"})
    head = export.to_torch(clf)
    again = ImprintClassifier.from_head(head, head.labels, generator="mean")
    np.testing.assert_allclose(again.proxies_, clf.proxies_, atol=1e-6)
    np.testing.assert_array_equal(again.predict(X.numpy()), clf.predict(X.numpy()))


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
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    pytest.importorskip("torch", reason="needs torch")
    clf = plain_classifier("mean", **params).fit(np.eye(3), [0, 1, 2])
    for function in (export.to_onnx, export.to_torch):
        with pytest.raises(ValueError, match=f"^{name} must have a form outside"):
            function(clf)


def test_functions_that_have_done_their_work_do_not_matter():
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    clf = plain_classifier(
        lambda X, n, seed: X[:n], n_proxies=1, support_norm=double, proxy_norm=double
    )
    X = np.eye(3)
    found = run(export.to_onnx(clf.fit(X, [0, 1, 2])), X)
    assert_says_the_same(found, clf, X)


def test_what_is_no_classifier_is_refused():
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    embedder = FoundationEmbedder(list)
    model = make_pipeline(embedder, plain_classifier("mean"))
    model.fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])
    with pytest.raises(ValueError, match=r"'foundationembedder' .*model\[1:\]"):
        export.to_onnx(model)
    with pytest.raises(TypeError, match="the last step here is PCA"):
        export.to_onnx(PCA(1).fit(np.eye(3)))
    with pytest.raises(NotFittedError):
        export.to_onnx(plain_classifier())


@pytest.mark.parametrize(
    "name, around",
    [
        ("to_onnx", "nothing"),
        ("to_onnx", "pipeline"),
        ("to_onnx", "search"),
        ("to_torch", "nothing"),
        ("to_torch", "search"),
    ],
)
def test_what_knows_no_classes_is_refused(name, around):
    pytest.importorskip(name.removeprefix("to_"), reason="needs what it converts to")
    clf = plain_classifier("mean")
    model = {
        "nothing": clf,
        "pipeline": make_pipeline(StandardScaler(), make_pipeline(clf)),
        "search": ImprintClassifierCV(clf, {"mean_weight": [0.0]}, cv=2),
    }[around]
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(export, name)(model)
    model.fit(np.eye(4), [0, 0, 1, 1])
    last_step(model).forget([0, 1])
    with pytest.raises(NotFittedError, match="forgotten all classes: learn some"):
        getattr(export, name)(model)


def test_modules_are_made_of_classifiers_alone():
    pytest.importorskip("torch", reason="needs torch")
    with pytest.raises(TypeError, match="last step of a pipeline; got Pipeline"):
        export.to_torch(make_pipeline(plain_classifier("mean")))
    with pytest.raises(NotFittedError):
        export.to_torch(plain_classifier())


@pytest.mark.parametrize(
    "library, call, purpose, package",
    [
        ("onnx", "to_onnx", "to_onnx", "skimprint[export]"),
        ("skl2onnx", "to_onnx", "to_onnx of a pipeline", "skimprint[export]"),
        ("skl2onnx", "register_skl2onnx", "register_skl2onnx", "skimprint[export]"),
        ("torch", "to_torch", "to_torch", "torch>=2.4"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, library, call, purpose, package):
    if library == "skl2onnx":
        pytest.importorskip("onnx", reason="needs skimprint[export]")
    model = make_pipeline(StandardScaler(), plain_classifier("mean"))
    model.fit(np.eye(3), [0, 1, 2])
    monkeypatch.setitem(sys.modules, library, None)
    given = {"to_onnx": [model], "to_torch": [model[-1]]}.get(call, [])
    with pytest.raises(ImportError) as caught:
        getattr(export, call)(*given)
    assert str(caught.value) == (
        f"{purpose} needs the library {library!r}, which is not installed: "
        f'pip install "{package}"'
    )


def test_graphs_say_what_made_them():
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    alone = plain_classifier("mean").fit(np.eye(3), [0, 1, 2])
    made = export.to_onnx(alone)
    assert (made.producer_name, made.producer_version) == (
        "skimprint",
        skimprint.__version__,
    )
    pipeline = make_pipeline(StandardScaler(), alone).fit(np.eye(3), [0, 1, 2])
    made = export.to_onnx(pipeline)
    assert made.producer_name == "skl2onnx"
    assert made.producer_version


def test_a_compact_model_exports_the_same(data):
    pytest.importorskip("onnx", reason="needs skimprint[export]")
    clf, _ = classifier_of(data, {"whitening": "auto", "temperature": "auto"})
    whole, compact = export.to_onnx(clf), export.to_onnx(clf.compact())
    assert whole.SerializeToString() == compact.SerializeToString()


def test_an_image_backbone_and_a_head_become_one_file(tmp_path):
    """From pixels to labels, as docs/guide/export.md does."""
    onnx = pytest.importorskip("onnx", reason="needs skimprint[export]")
    torch = pytest.importorskip("torch", reason="needs torch")
    folder = SHARED / "foundation_models"
    if not folder.is_dir():
        pytest.skip("needs the model in ../shared/foundation_models")
    sys.path.insert(0, str(folder))
    try:
        import mobilenet_v1
    finally:
        sys.path.remove(str(folder))
    backbone = mobilenet_v1.load()
    rng = torch.Generator().manual_seed(0)
    pixels = torch.rand(8, 3, 224, 224, generator=rng) * 2 - 1
    pixels[::2] = pixels[::2].sort(dim=2).values
    embeddings = backbone(pixels).numpy()
    clf = plain_classifier("mean", temperature=0.1)
    clf.fit(embeddings[:6], ["sorted", "noise"] * 3)
    path = tmp_path / "backbone.onnx"
    with warnings.catch_warnings():  # it is to be by dynamo, which needs onnxscript
        warnings.simplefilter("ignore")
        torch.onnx.export(
            backbone,
            (pixels[:1],),
            path,
            input_names=["pixels"],
            output_names=["embedding"],
            dynamic_axes={"pixels": {0: "n"}, "embedding": {0: "n"}},
            opset_version=18,
            dynamo=False,
        )
    whole = onnx.compose.merge_models(
        onnx.version_converter.convert_version(onnx.load(path), 18),
        export.to_onnx(clf),
        io_map=[("embedding", "X")],
    )
    session = session_of(whole)
    found = session.run(["label", "probabilities"], {"pixels": pixels.numpy()})
    np.testing.assert_array_equal(found[0], clf.predict(embeddings))
    assert_close(found[1], clf.predict_proba(embeddings))
