"""Classifiers to export, and what exports of them say."""

import numpy as np
import pytest
from settings import plain_classifier

from skimprint import Rejection


def text_of(y):
    """Labels that are text."""
    return np.array(["zero", "één", "two", "3", "4", "5", "6", "7", "8", "nine"])[y]


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
