"""Classifiers come back to the bit, and go on learning."""

import json
import pickle

import numpy as np
import pytest
from saved_models import assert_same, edit, edit_arrays, through
from settings import plain_classifier
from sklearn import config_context
from sklearn.cluster import BisectingKMeans
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from skimprint import FoundationEmbedder, ImprintClassifier, Rejection, persistence
from skimprint.aggregation import Votes
from skimprint.generation import FarthestPointProxies, KMeansProxies
from skimprint.methods import METHODS
from skimprint.normalization import l2_normalize

safetensors = pytest.importorskip("safetensors.numpy", reason="needs skimprint[files]")

SETTINGS = {
    **{name: dict(method) for name, method in METHODS.items()},
    "mahalanobis": {"metric": "mahalanobis", "generator": "mean"},
    "whitened": {"whitening": 0.3, "n_proxies": 3, "metric": "cosine"},
    "votes": {"aggregation": Votes(3, "distance"), "metric": "euclidean"},
    "component": {"generator": KMeansProxies(n_init=2, spherical=True), "n_proxies": 2},
    "selected": {"generator": FarthestPointProxies("random"), "n_proxies": 4},
    "clusterer": {"generator": BisectingKMeans(random_state=0), "n_proxies": 2},
    "numbers": {"n_proxies": {label: 1 + label % 3 for label in range(10)}},
    "kernel": {"kernel_weight": 0.25, "generator": "mean"},
    "calibrated": {
        "temperature": "auto",
        "rejection": Rejection(-1, score="contrast", rate=0.2),
        "generator": "all",
    },
    "scatters summed": {"whitening": "auto", "n_proxies": 3, "forgettable": False},
    "NumPy's numbers": {"n_proxies": np.int32(3), "temperature": np.float32(0.1)},
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("setting", SETTINGS)
def test_all_comes_back_and_goes_on_learning(digits, folder, setting, dtype):
    X, y = digits
    X = X.astype(dtype)
    clf = plain_classifier(**({"random_state": 0} | SETTINGS[setting]))
    clf.fit(X[:300], y[:300])
    again = through(clf, folder)
    assert repr(again) == repr(clf)
    assert_same(clf, again, X[300:])
    other = plain_classifier(**({"random_state": 0} | SETTINGS[setting]))
    other.fit(X[450:], y[450:])
    for model in (clf, again):
        model.partial_fit(X[300:400], y[300:400])
        if model.forgettable:
            model.forget([3])
        model.merge(other)
    assert_same(clf, again, X[400:450])


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_model_that_cannot_learn_predicts_the_same(digits, folder, setting):
    X, y = digits
    clf = plain_classifier(**({"random_state": 0} | SETTINGS[setting]))
    clf.fit(X[:300], y[:300])
    for compact in (
        clf.compact(),
        pickle.loads(pickle.dumps(clf.compact())),
        through(clf, folder, learning=False),
        through(clf.compact(), folder),
        clf.compact().compact(),
    ):
        # Compact ones name no training samples.
        assert_same(clf, compact, X[300:], n_reasons=0)
        for learn, *samples in (
            (compact.partial_fit, X[:10], y[:10]),
            (compact.forget, [3]),
            (compact.merge, clf),
            (clf.merge, compact),
        ):
            with pytest.raises(ValueError, match=r"cannot learn more .* call fit"):
                learn(*samples)
        assert_same(clf, compact, X[300:], n_reasons=0)
    compact.fit(X[:300], y[:300])
    assert_same(clf, compact, X[300:])


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"generator": "mean"},
        {"whitening": "auto", "metric": "cosine"},
        {"metric": "mahalanobis", "generator": "mean"},
        METHODS["recommended"],
    ],
)
def test_a_compact_model_has_what_predictions_read_and_no_more(digits, folder, params):
    X, y = digits
    clf = plain_classifier(**params, random_state=0).fit(X, y)
    compact = clf.compact()
    similarity, head = compact._fitted.scorer.similarity, compact._fitted.scorer.head
    read = [
        compact.proxies_,
        similarity.factor if similarity.needs_covariance else None,
    ]
    if head.whitening is not None:
        whitening = head.whitening
        read += [whitening.origin, whitening.cholesky, whitening.basis]
    if head.kernel is not None:
        read += [head.kernel.landmarks, head.kernel.coefficients]
    n_bytes = sum(array.nbytes for array in read if array is not None)
    compact.predict(X)
    assert len(pickle.dumps(compact)) < 1.05 * n_bytes + 5000
    persistence.save(compact, folder)
    files = sum(path.stat().st_size for path in folder.iterdir())
    assert files < 1.05 * n_bytes + 8000


def test_a_parameter_that_is_wrong_is_not_written(digits, folder):
    X, y = digits
    clf = plain_classifier("mean").fit(X, y).set_params(n_proxies=0)
    with pytest.raises(InvalidParameterError, match="n_proxies"):
        persistence.save(clf, folder)
    assert not folder.exists()


def test_scores_follow_from_the_arrays_of_a_file(digits, folder):
    """As docs/guide/files.md has it, with safetensors, JSON and NumPy alone."""
    X, y = digits[0].astype(np.float64), digits[1]
    clf = ImprintClassifier.from_method("recommended", random_state=0).fit(X, y)
    persistence.save(clf, folder, learning=False)
    arrays = safetensors.load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text("utf-8"))["model"]
    queries = l2_normalize(np.sqrt(X[:50]))
    kernel = np.exp(
        2 * config["kernel_gamma"] * (queries @ arrays["kernel.landmarks"].T - 1)
    )
    of_kernel = kernel @ arrays["kernel.coefficients"].T + 1 / 10
    whitened = queries - arrays["whitening.origin"]
    if "whitening.cholesky" in arrays:
        whitened = whitened @ np.linalg.inv(arrays["whitening.cholesky"])
    else:
        basis, inside = arrays["whitening.basis"], arrays["whitening.inside"]
        outside = config["whitening_outside"]
        whitened = outside * whitened + (whitened @ basis * inside) @ basis.T
    similarities = l2_normalize(whitened) @ arrays["proxies"].T
    best = np.maximum.reduceat(similarities, arrays["proxy_offsets"][:-1], axis=1)
    share = clf.kernel_weight
    np.testing.assert_allclose(
        share * of_kernel + (1 - share) * best,
        clf.decision_function(X[:50]),
        atol=1e-9,
    )


def test_a_compact_model_says_what_it_cannot_find_out(digits):
    X, y = digits
    compact = plain_classifier("mean").fit(X, y).compact()
    compact.set_params(temperature="auto")
    with pytest.raises(NotFittedError, match="call fit again"):
        compact.predict_proba(X)
    with pytest.raises(AttributeError, match="covariance_"):
        _ = compact.covariance_
    assert compact.set_params(temperature=0.5).predict_proba(X).shape == (500, 10)


@pytest.mark.parametrize(
    "labels",
    [
        ["b", "a\n|`x`", "ä" * 40],
        ["a\udcff", "\ufeff\u202e", "a\0b"],
        [3, -1, 2**62],
        np.array([2**63, 1, 5], np.uint64),
        np.array([1, 0, 0], bool),
        np.array([2.0, 1.0, 3.0], np.float32),
        np.array(["x", "y", "z"], object),
        np.array([1, 2, 3], np.int8),
    ],
    ids=ascii,
)
def test_labels_of_every_kind(folder, labels):
    X = np.eye(3)
    clf = plain_classifier("mean", temperature=2).fit(X, labels)
    assert_same(clf, through(clf, folder), X)
    assert_same(clf, through(clf.compact(), folder), X)


def test_names_weights_and_absent_classes(folder):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(np.eye(4), columns=list("abcd"))
    clf = plain_classifier("mean")
    clf.fit(X, ["p", "q", "r", "s"], sample_weight=[1, 2.5, 0, 3])
    for again in (through(clf, folder), through(clf, folder, learning=False)):
        assert_same(clf, again, X)
        np.testing.assert_array_equal(again.feature_names_in_, clf.feature_names_in_)
        with pytest.raises(ValueError, match="feature names"):
            again.predict(X[list("bacd")])


@pytest.mark.parametrize("kind", ["array", "module"])
def test_a_head_that_a_model_started_from(folder, kind):
    weight = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
    if kind == "module":
        torch = pytest.importorskip("torch")
        given = torch.nn.Linear(2, 2)
        given.weight = torch.nn.Parameter(torch.from_numpy(weight))
    else:
        given = weight
    clf = ImprintClassifier.from_head(given, ["up", "right"], generator="mean")
    clf.partial_fit(np.array([[-1, 0.1]], np.float32), ["left"])
    again = through(clf, folder)
    assert_same(clf, again, weight)
    np.testing.assert_array_equal(again.head[0], weight)
    assert_same(clf, through(clf, folder, learning=False), weight)


def test_a_head_in_any_container(folder):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    weight = np.array([[0.0, 1.0], [1.0, 0.0]])
    names, numbers = ["up", "right"], [2, 1]
    for given, labels in (
        (pandas.DataFrame(weight), pandas.Series(names, index=[5, 6])),
        (pandas.DataFrame(weight, dtype="Float64"), names),
        (weight.astype(object), names),
        (weight.astype(np.longdouble), names),
        (pandas.Series(weight.tolist()), pandas.Index(names)),
        (weight.tolist(), pandas.Categorical(names)),
        (list(weight), pandas.Series(numbers, dtype="Int64")),
        (weight, range(2)),
        (weight, tuple(numbers)),
        (weight, np.array(names, object)),
        (weight, None),
    ):
        clf = ImprintClassifier.from_head(given, labels, generator="mean")
        again = through(clf, folder)
        assert_same(clf, again, weight)
        y = clf.predict(weight)
        assert again.fit(weight, y).predict(weight).tolist() == y.tolist()
        assert again.classes_.dtype == clf.classes_.dtype


def test_parameters_that_were_set_after_fit_act_with_the_next_one(digits, folder):
    X, y = digits
    clf = plain_classifier("mean", random_state=0).fit(X[:200], y[:200])
    clf.set_params(metric="euclidean", generator="kmeans", n_proxies=2)
    for again in (through(clf, folder), through(clf.compact(), folder)):
        assert_same(clf, again, X)
        assert again.metric == "euclidean"
    again = through(clf, folder).partial_fit(X[200:], y[200:])
    assert_same(clf.partial_fit(X[200:], y[200:]), again, X)
    assert_same(clf.fit(X, y), again.fit(X, y), X)


def test_text_of_forgotten_classes_leaves_no_trace(folder):
    clf = plain_classifier("mean").fit(np.eye(3), ["a", "b", "a secret name"])
    clf.forget("a secret name")
    again = through(clf, folder)
    assert again.classes_.dtype == clf.classes_.dtype == "<U1"
    for path in folder.iterdir():
        assert b"secret" not in path.read_bytes()


@pytest.mark.parametrize("learning", [True, False])
def test_what_is_set_for_metadata_and_output_comes_back(digits, folder, learning):
    X, y = digits
    with config_context(enable_metadata_routing=True):
        clf = plain_classifier("mean").set_fit_request(sample_weight=True)
        clf.set_score_request(sample_weight="shares").fit(X, y)
        again = through(clf, folder, learning=learning)
        assert str(again.get_metadata_routing()) == str(clf.get_metadata_routing())
        make_pipeline(again).fit(X, y, sample_weight=np.ones(len(y)))
    embedder = FoundationEmbedder("timm:some").set_output(transform="pandas")
    model = Pipeline([("embed", embedder), ("classify", again)])
    assert through(model, folder)[0]._sklearn_output_config == {"transform": "pandas"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [130, 256, 1024])
def test_a_whitening_of_few_samples_keeps_its_bits(digits, folder, n_features, dtype):
    """Its arrays lie in memory as those that are read: BLAS rounds by that, too."""
    X, y = digits
    X = X[:, :: 1024 // n_features].astype(dtype)
    clf = ImprintClassifier(random_state=0).fit(X[:60], y[:60])
    persistence.save(clf, folder)
    compact = clf.compact()
    for again in (clf, compact):
        assert_same(pickle.loads(pickle.dumps(again)), again, X, attributes=[])
    assert_same(persistence.load(folder), clf, X)
    persistence.save(clf, folder, learning=False)
    assert_same(persistence.load(folder), compact, X, attributes=[])


def test_numpy_and_safetensors_alone_read_a_file(digits, folder):
    X, y = digits
    clf = plain_classifier("kmeans", 3, whitening=0.5).fit(X, y)
    persistence.save(clf, folder, learning=False)
    arrays = safetensors.load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text("utf-8"))["model"]
    queries = X / np.linalg.norm(X, axis=1, keepdims=True) - arrays["whitening.origin"]
    queries = np.linalg.solve(arrays["whitening.cholesky"].T, queries.T).T
    similarities = queries @ arrays["proxies"].T
    best = np.maximum.reduceat(similarities, arrays["proxy_offsets"][:-1], axis=1)
    labels = np.array(config["classes"]["labels"])[best.argmax(axis=1)]
    np.testing.assert_array_equal(labels, clf.predict(X))


def test_labels_that_would_fill_the_memory(digits, folder):
    clf = plain_classifier("mean").fit(np.eye(3), list("abc"))
    persistence.save(clf, folder)
    labels = [f"{i:06}" for i in range(10**5)] + ["z" * 10**6]
    edit(folder, lambda whole, model: model["classes"].update(labels=labels))
    with pytest.raises(ValueError, match="labels are too long"):
        persistence.load(folder)


def test_a_metric_without_its_factor_is_refused(digits, folder):
    clf = plain_classifier("mean", metric="mahalanobis").fit(*digits)
    persistence.save(clf, folder)
    edit_arrays(folder, lambda arrays: arrays.pop("factor"))
    with pytest.raises(ValueError, match="factor is missing"):
        persistence.load(folder)
