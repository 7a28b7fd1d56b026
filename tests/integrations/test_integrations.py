"""One real use of each library around us: ``make test-integrations``."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skimprint import ImprintClassifier, ImprintClassifierCV, Rejection
from skimprint.datasets import load_intents
from skimprint.methods import RECOMMENDED
from skimprint.persistence import TRUSTED_TYPES

# What these libraries warn of is their own affair.
pytestmark = pytest.mark.filterwarnings("ignore")


def library(name):
    """Import a library, or skip the test."""
    return pytest.importorskip(
        name, reason=f"needs {name.split('.')[0]}: make test-integrations"
    )


@pytest.fixture
def parts(digits):
    """Support and queries of digits, and the labels of both."""
    X, y = digits
    return train_test_split(X[:, ::4], y, test_size=150, random_state=0)


@pytest.fixture(params=["default", "recommended", "rejecting"])
def clf(request, parts):
    X, _, y, _ = parts
    params = {
        "default": {},
        "recommended": RECOMMENDED,
        "rejecting": {"rejection": Rejection(-1), "whitening": 0.5},
    }[request.param]
    clf = ImprintClassifier(**params, random_state=0)
    return clf.fit(X[:300], y[:300]).partial_fit(X[300:], y[300:])


def test_mlflow_saves_and_serves_a_model(clf, parts, tmp_path):
    mlflow = library("mlflow.sklearn")
    _, queries, _, _ = parts
    mlflow.save_model(clf, tmp_path / "model", skops_trusted_types=TRUSTED_TYPES)
    again = mlflow.load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(
        again.predict_proba(queries), clf.predict_proba(queries)
    )
    served = library("mlflow.pyfunc").load_model(str(tmp_path / "model"))
    np.testing.assert_array_equal(served.predict(queries), clf.predict(queries))


def test_skops_writes_a_file_that_goes_on_learning(clf, parts, tmp_path):
    skops = library("skops.io")
    _, queries, _, y = parts
    skops.dump(clf, tmp_path / "model.skops")
    again = skops.load(tmp_path / "model.skops", trusted=TRUSTED_TYPES)
    for each in (again, clf):
        each.partial_fit(queries, y)
    np.testing.assert_array_equal(
        again.predict_proba(queries), clf.predict_proba(queries)
    )


def test_skl2onnx_and_onnxruntime_know_a_pipeline(parts):
    skl2onnx, onnxruntime = library("skl2onnx"), library("onnxruntime")
    X, queries, y, _ = parts
    model = make_pipeline(StandardScaler(), ImprintClassifier(**RECOMMENDED))
    model.fit(X, y)
    converted = skl2onnx.to_onnx(model, X[:1])
    session = onnxruntime.InferenceSession(
        converted.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    labels, probabilities = session.run(["label", "probabilities"], {"X": queries})
    np.testing.assert_array_equal(labels, model.predict(queries))
    np.testing.assert_allclose(probabilities, model.predict_proba(queries), atol=1e-4)


def test_cleanlab_finds_wrong_labels(parts):
    cleanlab = library("cleanlab.classification")
    X, _, y, _ = parts
    wrong = np.arange(0, len(y), 20)
    given = y.copy()
    given[wrong] = (given[wrong] + 1) % 10
    clf = ImprintClassifier.from_method("recommended", random_state=0)
    found = cleanlab.CleanLearning(clf, seed=0).find_label_issues(X, given)
    is_wrong = np.isin(np.arange(len(y)), wrong)
    assert roc_auc_score(is_wrong, -found["label_quality"]) > 0.95


def test_mapie_covers_the_true_class(parts):
    mapie = library("mapie.classification")
    X, queries, y, expected = parts
    clf = ImprintClassifier("mean", temperature="auto").fit(X[:200], y[:200])
    sets = mapie.SplitConformalClassifier(clf, confidence_level=0.9, prefit=True)
    sets.conformalize(X[200:], y[200:])
    _, covered = sets.predict_set(queries)
    assert covered[np.arange(len(queries)), expected, 0].mean() > 0.85


def test_skore_reports_on_a_search(parts):
    skore = library("skore")
    X, queries, y, expected = parts
    clf = ImprintClassifierCV(param_grid={"n_proxies": [1, 5]}, cv=2).fit(X, y)
    report = skore.EstimatorReport(clf, X_test=queries, y_test=expected)
    assert report.metrics.accuracy() == clf.score(queries, expected)
    assert report.metrics.summarize().frame() is not None
    folds = skore.CrossValidationReport(ImprintClassifier("mean"), X=X, y=y, splitter=3)
    assert folds.metrics.accuracy().iloc[0, 0] > 0.5


def test_skrub_turns_a_table_into_embeddings():
    skrub, pandas = library("skrub"), library("pandas")
    texts, intents = load_intents(return_X_y=True)
    table = pandas.DataFrame({"text": texts, "length": [len(text) for text in texts]})
    encode = skrub.TableVectorizer(high_cardinality=skrub.StringEncoder(200))
    model = make_pipeline(encode, StandardScaler(), ImprintClassifier(**RECOMMENDED))
    # Parts of words tell little of 24 intents, but more than chance does.
    assert model.fit(table[::2], intents[::2]).score(table[1::2], intents[1::2]) > 0.2


def test_imbalanced_learn_samples_in_a_pipeline(parts):
    pipeline, samplers = library("imblearn.pipeline"), library("imblearn.over_sampling")
    X, queries, y, expected = parts
    rare = np.flatnonzero(y == 3)[5:]
    X, y = np.delete(X, rare, axis=0), np.delete(y, rare)
    model = pipeline.make_pipeline(
        samplers.SMOTE(k_neighbors=3, random_state=0),
        ImprintClassifier(whitening="auto", random_state=0),
    )
    model.fit(X, y)
    assert (model[-1].class_count_ == max(np.bincount(y))).all()
    assert model.score(queries, expected) > 0.8
