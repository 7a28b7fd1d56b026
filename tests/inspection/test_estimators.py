"""Estimators of all kinds have a classifier, and what it is to be given."""

import numpy as np
import pytest
from embedders import Lengths
from reports import fitted
from scipy.sparse import csr_array
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skimprint import (
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
)
from skimprint.inspection import (
    ExplanationDisplay,
    FamiliarityDisplay,
    ProxyDisplay,
    report,
)


def test_labels_of_another_type(data):
    with pytest.raises(ValueError, match=r"such as 'digit 0'; got 3"):
        report(fitted(data), data[2][:2], [3, 4])


def test_texts_in_a_pipeline_and_in_searches():
    texts = [f"{'long ' * (i % 2)}text {i}" for i in range(12)]
    y = ["short", "long"] * 6
    model = make_pipeline(
        FoundationEmbedder(Lengths(), modality="text"), ImprintClassifier("mean")
    )
    expected = report(model.fit(texts, y), texts, y).html
    assert "long text 1" in expected
    grid = {"imprintclassifier__generator": ["mean"]}
    assert report(GridSearchCV(model, grid, cv=2).fit(texts, y), texts, y).html == (
        expected
    )
    X = model[:-1].transform(texts)
    search = ImprintClassifierCV(ImprintClassifier(), {"generator": ["mean"]}, cv=2)
    assert report(search.fit(X, y), X, y, texts).findings.n_known == 12


@pytest.mark.parametrize(
    "wrap, embedder",
    [
        (lambda clf: make_pipeline(clf), None),
        (lambda clf: make_pipeline(None, make_pipeline("passthrough", clf)), None),
        (
            lambda clf: make_pipeline(StandardScaler(), make_pipeline(PCA(9), clf)),
            "StandardScaler, PCA",
        ),
        (
            lambda clf: make_pipeline(PCA(9), make_pipeline(PCA(5), clf)),
            "PCA, PCA",
        ),
    ],
)
def test_pipelines_of_every_shape(data, wrap, embedder):
    X, y, queries, labels = data
    model = wrap(ImprintClassifier("mean")).fit(X, y)
    findings = report(model, queries, labels, X_train=X, y_train=y).findings
    assert findings.embedder == embedder
    known = np.isin(labels, model.classes_)
    right = model.predict(queries) == labels
    assert findings.accuracy == pytest.approx(right[known].mean())


def test_frames_and_their_names(data):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    pytest.importorskip("matplotlib", reason="needs matplotlib").use("Agg")
    X, y, queries, labels = data
    names = [f"f{i}" for i in range(X.shape[1])]
    X, queries = pd.DataFrame(X, columns=names), pd.DataFrame(queries, columns=names)
    clf = ImprintClassifier("mean").fit(X, y)
    made = report(clf, queries, labels, X_train=X, y_train=pd.Series(y))
    expected = report(
        ImprintClassifier("mean").fit(X.to_numpy(), y),
        queries.to_numpy(),
        labels,
        X_train=X.to_numpy(),
        y_train=y,
    )
    assert made.html == expected.html
    assert hasattr(clf, "feature_names_in_")
    for display in (ExplanationDisplay, FamiliarityDisplay, ProxyDisplay):
        display.from_estimator(clf, queries[:5], labels[:5])
    with pytest.raises(ValueError, match="feature names"):
        report(clf, queries.rename(columns={"f0": "other"}), labels)


def test_tables_in_a_pipeline_are_features(data):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    X, y, queries, labels = data
    model = make_pipeline(StandardScaler(), ImprintClassifier("mean"))
    expected = report(model.fit(X, y), queries, labels, X_train=X, y_train=y)
    X, queries = pd.DataFrame(X), pd.DataFrame(queries)
    found = report(model.fit(X, y), queries, labels, X_train=X, y_train=y)
    assert found.html == expected.html


@pytest.mark.parametrize("kind", ["frame", "sparse"])
def test_tables_in_a_pipeline_are_no_items(data, kind):
    pytest.importorskip("matplotlib", reason="needs matplotlib").use("Agg")
    X, y, queries, labels = data
    model = make_pipeline(TruncatedSVD(9), ImprintClassifier("mean"))
    expected = report(model.fit(X, y), queries, labels, X_train=X, y_train=y)
    pd = pytest.importorskip("pandas", reason="needs pandas")
    table = pd.DataFrame if kind == "frame" else csr_array
    found = report(model, table(queries), labels, X_train=table(X), y_train=y)
    assert found.findings.accuracy == expected.findings.accuracy
    for display in (ExplanationDisplay, FamiliarityDisplay, ProxyDisplay):
        display.from_estimator(model, table(queries[:5]), labels[:5])


def test_what_is_no_table_is_named(data):
    X, y, queries, labels = data
    clf = ImprintClassifier("mean").fit(X, y)
    with pytest.raises(TypeError, match="Expected sequence or array-like, got"):
        report(clf, (row for row in queries), labels)
    with pytest.raises(TypeError, match=r"Sparse data was passed .* Use .\.toarray"):
        report(clf, csr_array(queries), labels)


def test_other_estimators(data):
    with pytest.raises(TypeError, match="ends with one; got Rejection"):
        report(Rejection("x"), data[2], data[3])


def test_arguments_in_another_order(data):
    with pytest.raises(TypeError, match="ends with one; got ndarray"):
        report(data[2], data[3], fitted(data))
