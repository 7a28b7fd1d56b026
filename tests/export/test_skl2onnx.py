"""Pipelines, searches and models around ours, by skl2onnx."""

import numpy as np
import pytest
from exported import assert_close, assert_says_the_same, run, text_of
from settings import plain_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skimprint import ImprintClassifier, ImprintClassifierCV, export


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
