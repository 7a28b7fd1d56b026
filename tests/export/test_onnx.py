"""Graphs of ONNX say what the classifier says."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from exported import assert_close, classifier_of, run, session_of
from settings import plain_classifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skimprint
from skimprint import Rejection, export
from skimprint._scoring.similarity import METRICS
from skimprint.normalization import NORMS

SHARED = Path(__file__).parents[3] / "shared"


@pytest.mark.parametrize("metric", METRICS)
def test_batches_of_any_size(data, metric):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    clf, X = classifier_of(data, {"metric": metric, "n_proxies": 2})
    session = session_of(export.to_onnx(clf))
    whole = session.run(["probabilities"], {"X": X})[0]
    for n in (1, 7):
        (some,) = session.run(["probabilities"], {"X": X[:n]})
        assert_close(some, whole[:n])


@pytest.mark.parametrize("with_steps", [False, True])
@pytest.mark.parametrize(
    "setting",
    [{"metric": metric, "whitening": 0.5} for metric in METRICS]
    + [{"kernel_weight": 0.25, "whitening": 0.5}, {"aggregation": "mnn"}],
    ids=str,
)
def test_the_same_model_gives_the_same_bytes(data, setting, with_steps):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    clf, X = classifier_of(data, {"n_proxies": 2, "rejection": Rejection(-1)} | setting)
    model = clf
    if with_steps:
        model = make_pipeline(StandardScaler(), clf).fit(X, clf.predict(X))
    kept = [export.to_onnx(model) for _ in range(6)]  # so that addresses differ
    assert len({each.SerializeToString() for each in kept}) == 1


@pytest.mark.parametrize(
    "labels",
    [[5, 2], [True, False], [1.0, 2.0], np.array([2**63, 1], np.uint64)],
    ids=str,
)
def test_labels_of_every_kind(labels):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    X = np.eye(2, dtype=np.float32)
    clf = plain_classifier("mean").fit(X, labels)
    found = run(export.to_onnx(clf), X)["label"]
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == np.asarray(labels).dtype


@pytest.mark.parametrize("where", ["class", "rejection"])
def test_half_a_surrogate_pair_has_no_form(where):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    labels = ["a", "b\udcff" if where == "class" else "b"]
    rejection = Rejection("b\udcff", threshold=0.5) if where == "rejection" else None
    clf = plain_classifier("mean", rejection=rejection).fit(np.eye(2), labels)
    with pytest.raises(ValueError, match=r"'b\\udcff' has half a surrogate pair"):
        export.to_onnx(clf)


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
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
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
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
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
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    clf, X = classifier_of(data, {"norm": "l2"})
    X = np.stack([X[0] * 1e30, X[1] * 1e-30, X[2] * 0]).astype(np.float32)
    found = run(export.to_onnx(clf), X)
    assert_close(found["probabilities"], clf.predict_proba(X))


def test_graphs_say_what_made_them():
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
    alone = plain_classifier("mean")
    for model in (alone, make_pipeline(StandardScaler(), alone)):
        made = export.to_onnx(model.fit(np.eye(3), [0, 1, 2]))
        producer = made.producer_name, made.producer_version
        assert producer == ("skimprint", skimprint.__version__)
        (opset,) = made.opset_import
        assert (made.ir_version, opset.domain, opset.version) == (8, "", 18)


def test_a_compact_model_exports_the_same(data):
    pytest.importorskip("skl2onnx", reason="needs skimprint[export]")
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
