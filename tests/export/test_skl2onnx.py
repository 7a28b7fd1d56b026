"""Pipelines, searches and models around ours, by skl2onnx."""

import numpy as np
import pytest
from exported import assert_close, assert_says_the_same, run, text_of
from settings import plain_classifier
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skimprint import (
    AdaptedClassifier,
    ImprintClassifier,
    ImprintClassifierCV,
    export,
)
from skimprint.classifier._steps import steps_of


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

    for kind in (AdaptedClassifier, ImprintClassifier, ImprintClassifierCV):
        maps = (
            _parse.sklearn_parsers_map,
            _supported_operators.sklearn_operator_name_map,
        )
        for registered in maps:
            monkeypatch.delitem(registered, kind, raising=False)
    X, y, queries = (np.float32(part) for part in data)
    search = ImprintClassifierCV(plain_classifier("mean"), {"metric": ["cosine"]})
    prompts = make_pipeline(StandardScaler(), plain_classifier("mean"))
    frozen = FrozenEstimator(prompts.fit(X[:60], y[:60].astype(int)))
    finals = plain_classifier(n_proxies=2, kernel_weight=0.5), search
    for final in (*finals, AdaptedClassifier(frozen)):
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


ADAPTED = {
    "prompts": ImprintClassifier.from_method("qi"),
    "search": ImprintClassifierCV(plain_classifier(), {"n_proxies": [1, 2]}, cv=2),
    "logistic": LogisticRegression(max_iter=10000),
    "ridge": RidgeClassifier(),
    "ours_after_steps": make_pipeline(Normalizer(), PCA(9), ImprintClassifier("mean")),
    "linear_after_steps": make_pipeline(
        make_pipeline(StandardScaler(), None), LogisticRegression(max_iter=1000)
    ),
}


@pytest.mark.parametrize("estimator", ADAPTED.values(), ids=ADAPTED)
@pytest.mark.parametrize("dtype, n_classes", [(np.float32, 10), (np.float64, 2)])
def test_adapted_classifiers(data, estimator, dtype, n_classes):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    X, y, queries = data
    label_of = text_of if n_classes == 10 else np.int64
    X, y = X[y < n_classes], label_of(y[y < n_classes].astype(int))
    estimator = clone(estimator).fit(np.float32(X[::2]), y[::2])
    X, y, queries = X[1::2].astype(dtype), y[1::2], queries.astype(dtype)
    imprint = plain_classifier(n_proxies=2, whitening="auto", random_state=0)
    frozen = AdaptedClassifier(FrozenEstimator(estimator), imprint)
    for model in (
        AdaptedClassifier(estimator, imprint),
        make_pipeline(None, StandardScaler(), frozen),
        GridSearchCV(frozen, {"imprint__n_proxies": [1]}, cv=2),
    ):
        found = run(export.to_onnx(model.fit(X, y), nearest=True), queries)
        names = ["label", "probabilities", "familiarity", "proxy", "training_row"]
        assert list(found) == names
        expected = model.predict_proba(queries)
        assert_close(found["probabilities"], expected)
        tied = np.diff(np.sort(expected, axis=1)[:, -2:]).ravel() < 1e-4
        assert ((found["label"] == model.predict(queries)) | tied).all()
        *before, (_, last) = steps_of(model)
        scaled = Pipeline(before).transform(queries) if before else queries
        assert_close(found["familiarity"], last.imprint_.score_samples(scaled))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_an_adapted_layer_may_be_sparse(data, n_classes):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    X, y, queries = data
    X, y = X[y < n_classes], y[y < n_classes]
    layer = SGDClassifier(penalty="l1", random_state=0).fit(X[::2], y[::2])
    clf = AdaptedClassifier(layer.sparsify()).fit(X[1::2], y[1::2])
    found = run(export.to_onnx(clf), queries.astype(clf.imprint_.proxies_.dtype))
    assert_close(found["probabilities"], clf.predict_proba(queries))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_models_around_adapted_classifiers(data, n_classes):
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    export.register_skl2onnx()
    X, y, queries = (np.float32(part) for part in data)
    y = y.astype(int)
    X, y = X[y < n_classes], y[y < n_classes]
    layer = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[::2], y[::2])
    adapted = AdaptedClassifier(FrozenEstimator(layer))
    for name in ("sigmoid", "voting", "stacking", "last_of_a_stack", "grid"):
        clf = adapted
        if name == "last_of_a_stack":
            first = AROUND[name](plain_classifier()).fit(X, y).transform(X)
            clf = AdaptedClassifier(
                FrozenEstimator(plain_classifier("mean").fit(first, y))
            )
        model = AROUND[name](clf).fit(X[1::2], y[1::2])
        options = {id(model): {"zipmap": False}}
        found = run(skl2onnx.to_onnx(model, X[:1], options=options), queries)
        assert_close(found["probabilities"], model.predict_proba(queries), name)


def test_adapted_classifiers_that_have_no_form_are_refused(data):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    X, y, _ = data

    class Own(ImprintClassifier):
        def decision_function(self, X):
            return -super().decision_function(X)

    def refused(match, estimator=None, imprint=None, kind=AdaptedClassifier):
        estimator = estimator or LogisticRegression(max_iter=10000)
        model = kind(FrozenEstimator(estimator.fit(X[:100], y[:100])), imprint)
        with pytest.raises(ValueError, match=match):
            export.to_onnx(model.fit(X[100:], y[100:]))

    refused("estimator must be .*KNeigh.*weights_ has", KNeighborsClassifier())
    kind = type("Turned", (LogisticRegression,), {})
    refused("estimator must be .*Turned", kind(max_iter=10000))
    refused("Own overrides it", Own("mean"))
    refused("Own overrides it", imprint=Own("mean"))
    refused("query_norm must have a form", plain_classifier(query_norm=np.copy))
    kind = type("Own", (AdaptedClassifier,), {"predict": AdaptedClassifier.score})
    refused("Own overrides it", kind=kind)
    estimator = plain_classifier("mean").fit(X[:100], y[:100])
    model = AdaptedClassifier(estimator).fit(X[100:], y[100:])
    estimator.forget([3]).partial_fit(X[:2], [11, 11])
    with pytest.raises(ValueError, match=r"estimator_ must have the classes"):
        export.to_onnx(model)
