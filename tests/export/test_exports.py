"""What cannot be exported is refused, and what is missing is named."""

import sys

import numpy as np
import pytest
from settings import plain_classifier
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skimprint import (
    AdaptedClassifier,
    FoundationEmbedder,
    ImprintClassifierCV,
    export,
)
from skimprint.classifier._steps import last_step


@pytest.mark.parametrize(
    "last", [StandardScaler(), LogisticRegression(max_iter=9999), None]
)
def test_pipelines_that_end_with_another_model(data, last):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    X, y, _ = data
    for steps in ([last], [PCA(2), last], [PCA(2), Pipeline([("last", last)])]):
        model = make_pipeline(*steps).fit(X, y)
        with pytest.raises(TypeError, match=r"ends with one; the last step here is"):
            export.to_onnx(model)


def test_what_is_no_classifier_is_refused():
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
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
    library = {"to_onnx": "skl2onnx", "to_torch": "torch"}[name]
    pytest.importorskip(library, reason="needs what converts it")
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
    with pytest.raises(
        TypeError, match=r"got AdaptedClassifier\. Convert its imprint_"
    ):
        export.to_torch(AdaptedClassifier(plain_classifier("mean")))
    with pytest.raises(NotFittedError):
        export.to_torch(plain_classifier())


@pytest.mark.parametrize(
    "library, call, purpose, package",
    [
        ("skl2onnx", "to_onnx", "to_onnx", "skimprint[export]"),
        ("skl2onnx", "register_skl2onnx", "register_skl2onnx", "skimprint[export]"),
        ("torch", "to_torch", "to_torch", "torch>=2.4"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, library, call, purpose, package):
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
