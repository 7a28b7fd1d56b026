import importlib

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skimprint import FoundationEmbedder, ImprintClassifier, _progress
from skimprint.cluster import GroupedKMeans

X = np.random.default_rng(0).normal(size=(60, 4))
y = np.repeat(np.arange(6), 10)


@pytest.fixture
def no_delay(monkeypatch):
    monkeypatch.setattr(_progress, "_DELAY", 0)


@pytest.mark.usefixtures("no_delay")
@pytest.mark.parametrize("estimator", [ImprintClassifier, GroupedKMeans])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_bar_counts_the_classes(capsys, estimator, n_jobs):
    pytest.importorskip("tqdm", reason="needs tqdm")
    estimator(verbose=1, n_jobs=n_jobs, random_state=0).fit(X, y)
    assert "6/6" in capsys.readouterr().err
    estimator(verbose=0, random_state=0).fit(X, y)
    assert not capsys.readouterr().err


@pytest.mark.usefixtures("no_delay")
def test_lines_without_tqdm(capsys, monkeypatch):
    monkeypatch.setitem(importlib.sys.modules, "tqdm", None)
    monkeypatch.setitem(importlib.sys.modules, "tqdm.auto", None)
    ImprintClassifier(n_proxies=2, verbose=1).fit(X, y)
    assert "classes: 6 of 6" in capsys.readouterr().err


@pytest.mark.usefixtures("no_delay")
@pytest.mark.parametrize("n_proxies", [1, 2, dict(enumerate([1, 2] * 3))])
def test_more_of_known_classes_counts_too(capsys, n_proxies):
    """Also where their proxies wait until they are needed."""
    pytest.importorskip("tqdm", reason="needs tqdm")
    clf = ImprintClassifier(n_proxies=n_proxies, random_state=0).fit(X, y)
    clf.set_params(verbose=1).partial_fit(X, y)
    assert "6/6" in capsys.readouterr().err


@pytest.mark.usefixtures("no_delay")
def test_classes_without_weight_are_not_waited_for(capsys):
    pytest.importorskip("tqdm", reason="needs tqdm")
    clf = ImprintClassifier(verbose=1, random_state=0)
    clf.fit(X, y, np.where(y == 2, 0, 1))
    assert "5/5" in capsys.readouterr().err
    clf.partial_fit(X, y, range(9), np.where(y == 4, 0, 1))
    assert "5/5" in capsys.readouterr().err


class Recorder:
    """A callback in scikit-learn's protocol."""

    def __init__(self):
        self.events = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context):
        self.events.append(f"end {context.task_name}")

    def teardown(self, estimator, context):
        self.events.append("teardown")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_callbacks_are_told_of_each_class(n_jobs):
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    recorder = Recorder()
    clf = ImprintClassifier(n_jobs=n_jobs).set_callbacks(recorder)
    clf.fit(X, y)
    each = ["begin class", "end class"] * 6
    assert recorder.events == ["setup", "begin fit", *each, "end fit", "teardown"]
    np.testing.assert_array_equal(clf.predict(X).shape, (60,))

    failing = Recorder()
    clf.set_callbacks(failing).set_params(generator=lambda X_c, k, seed: X_c[0])
    with pytest.raises(ValueError, match="generator <lambda> must return"):
        clf.set_params(n_proxies=2).fit(X, y)
    assert failing.events == ["setup", "begin fit", "teardown"]


def test_callbacks_reach_into_a_pipeline():
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    recorder = Recorder()
    pipeline = make_pipeline(StandardScaler(), ImprintClassifier())
    pipeline[-1].set_callbacks(recorder)
    pipeline.fit(X, y)
    assert recorder.events.count("end class") == 6


def lengths(texts):
    return [[len(text)] for text in texts]


lengths.fingerprint = "lengths"


def test_an_embedder_tells_callbacks_of_each_batch(tmp_path):
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    texts = ["one", "two", "three", "four", "three", "fifteen"]
    recorder = Recorder()
    embedder = FoundationEmbedder(
        lengths, modality="text", batch_size=2, cache_dir=tmp_path
    ).set_callbacks(recorder)

    def events_of(method):
        recorder.events.clear()
        method(texts)
        return recorder.events

    around = ["setup", "begin fit"], ["end fit", "teardown"]
    each = ["begin batch", "end batch"] * 3  # of the five texts that differ
    assert events_of(embedder.fit_transform) == [*around[0], *each, *around[1]]
    assert events_of(embedder.fit_transform) == [*around[0], *around[1]]  # all cached
    assert events_of(embedder.fit) == [*around[0], *around[1]]
    assert events_of(embedder.transform) == []

    pipeline = make_pipeline(embedder.set_params(cache_dir=None), StandardScaler())
    pipeline.fit_transform(texts)
    assert recorder.events.count("end batch") == 3


def test_callbacks_of_an_embedder_are_released_after_an_error():
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    recorder = Recorder()
    embedder = FoundationEmbedder(lengths, modality="text").set_callbacks(recorder)
    with pytest.raises(ValueError, match="expected a text"):
        embedder.fit([3])
    assert recorder.events == ["setup", "begin fit", "teardown"]
