"""What is learnt of dask collections is what one machine learns; faults are named."""

import asyncio
import os
import pickle
import signal
import threading
import time

import joblib
import numpy as np
import pytest
from settings import plain_classifier, spelt
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skimprint import (
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
)
from skimprint._memory.learner import Batch
from skimprint.aggregation import Votes
from skimprint.generation import GENERATORS
from skimprint.methods import METHODS

dask = pytest.importorskip("dask", reason="needs skimprint[dask]")
da = pytest.importorskip("dask.array", reason="needs skimprint[dask]")
distributed = pytest.importorskip("distributed", reason="needs skimprint[dask]")
on_dask = pytest.importorskip("skimprint.dask", reason="needs skimprint[dask]")

# Whose classes are independent, to the bit; and what all classes have in common.
INDEPENDENT = [
    *(
        {"generator": name, "n_proxies": 2}
        for name in GENERATORS
        if name != "least_squares"
    ),
    {"generator": "kmeans", "n_proxies": {c: 1 + c % 3 for c in range(10)}},
    {"generator": "mean", "support_norm": "auto", "query_norm": "auto"},
    {"generator": "mean", "metric": "euclidean", "support_norm": None},
]
SHARED = [
    {"generator": "least_squares", "n_proxies": 1},
    {"generator": "mean", "whitening": 0.3},
    {"generator": "mean", "whitening": 0.3, "forgettable": False},
    {"generator": "mean", "metric": "mahalanobis"},
    {"generator": "mean", "proxy_norm": "quantile"},
    {"n_proxies": 2, "kernel_weight": 0.5, "temperature": "auto"},
]
METHODS_OF_QUERIES = [
    "predict",
    "predict_proba",
    "decision_function",
    "score_samples",
]


@pytest.fixture(scope="module")
def data(digits):
    """Fewer features, for what moves is what matters here."""
    X, y = digits
    return X[:, ::16].copy(), y


def chunked(values, sizes):
    """A dask array in chunks of these sizes, of all features each."""
    rest = tuple((n,) for n in values.shape[1:])
    return da.from_array(values, chunks=(tuple(sizes), *rest))


def assert_same(found, expected, X, tolerance=0.0):
    for name in ("classes_", "proxy_labels_", "proxy_indices_", "class_count_"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.proxies_, expected.proxies_, tolerance, tolerance)
    for name in METHODS_OF_QUERIES:
        mine, other = getattr(found, name)(X), getattr(expected, name)(X)
        assert mine.dtype == other.dtype
        if name != "predict":
            np.testing.assert_allclose(mine, other, tolerance, tolerance)
    assert found.n_samples_seen_ == expected.n_samples_seen_
    assert repr(found) == repr(expected)


class TestFit:
    @pytest.mark.parametrize("params", INDEPENDENT, ids=spelt)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_same_bits(self, data, params, dtype):
        X, y = data
        clf = plain_classifier(**params, random_state=0)
        X = X.astype(dtype)
        found = on_dask.fit(clf, chunked(X, [70, 230, 200]), chunked(y, [250, 250]))
        assert not hasattr(clf, "_fitted")
        assert_same(found, clf.fit(X, y), X)

    @pytest.mark.parametrize("params", SHARED, ids=spelt)
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_up_to_rounding(self, data, params, dtype):
        X, y = data
        clf = plain_classifier(**params, random_state=0)
        X = X.astype(dtype)
        found = on_dask.fit(clf, chunked(X, [70, 230, 200]), y)
        assert_same(found, clf.fit(X, y), X, 1e-6)

    @pytest.mark.parametrize("name", [*METHODS, "default"])
    def test_published_methods(self, data, name):
        X, y = data
        clf = ImprintClassifier() if name == "default" else None
        clf = clf or ImprintClassifier.from_method(name)
        clf.set_params(random_state=0)
        found = on_dask.fit(clf, chunked(X, [500]), chunked(y, [500]))
        assert_same(found, clf.fit(X, y), X, 1e-3)

    def test_weights_and_classes_without_any(self, data):
        X, y = data
        weights = np.random.default_rng(0).uniform(0, 2, len(y))
        weights[y == 3] = 0
        weights[:100] = 0
        clf = plain_classifier("kmeans", n_proxies=2, random_state=0)
        for some in (weights, chunked(weights, [100, 400])):
            found = on_dask.fit(clf, chunked(X, [100, 400]), y, some)
            expected = clone(clf).fit(X, y, weights)
            assert_same(found, expected, X)
            assert (found.predict_proba(X)[:, 3] == 0).all()

    def test_of_a_random_state_that_all_draw_from(self, data):
        X, y = data
        params = {"n_proxies": 2, "support_norm": "auto", "query_norm": "auto"}
        clf, other = (
            plain_classifier(**params, random_state=np.random.RandomState(3))
            for _ in range(2)
        )
        found = on_dask.fit(clf, chunked(X, [500]), y)
        np.testing.assert_array_equal(found.proxies_, other.fit(X, y).proxies_)

    @pytest.mark.parametrize("support_norm", ["auto", "l2"])
    def test_rows_are_computed_once(self, data, support_norm):
        X, y = data
        computed = []

        def noted(block):
            computed.append(len(block))
            return block

        rows = chunked(X, [200, 200, 100]).map_blocks(noted, meta=X[:0])
        clf = plain_classifier("mean", support_norm=support_norm)
        with dask.config.set(scheduler="synchronous"):
            on_dask.partial_fit(on_dask.fit(clf, rows, y), rows, y)
        assert sorted(computed) == 2 * [100] + 4 * [200]

    def test_rows_and_labels_of_the_same_tasks(self, data):
        """They are computed twice: first for the labels, then for both."""
        frames = pytest.importorskip("dask.dataframe", reason="needs dask[dataframe]")
        pandas = pytest.importorskip("pandas")
        X, y = data
        computed = []

        def rows_of(number):
            computed.append(number)
            part = slice(100 * number, 100 * (number + 1))
            return np.column_stack([X[part], y[part]])

        def frame_of(number):
            return pandas.DataFrame(rows_of(number)).rename(columns=str)

        numbers = list(range(5))
        parts = [
            da.from_delayed(dask.delayed(rows_of)(number), (100, 65), float)
            for number in numbers
        ]
        array = da.concatenate(parts)
        frame = frames.from_map(frame_of, numbers, meta=frame_of(0)[:0])
        columns = list(map(str, range(64)))
        clf = plain_classifier("mean")
        with dask.config.set(scheduler="synchronous"):
            for rows, labels in (
                (array[:, :64], array[:, 64].astype(int)),
                (frame[columns], frame["64"].astype(int)),
            ):
                computed.clear()
                found = on_dask.fit(clf, rows, labels, labels * 0 + 1.0)
                assert sorted(computed) == sorted(2 * numbers)
                assert found.classes_.tolist() == list(range(10))

    @pytest.mark.parametrize("annotations", [{}, {"resources": {"GPU": 1}}], ids=str)
    def test_a_chunk_is_read_by_the_task_that_needs_it(
        self, data, monkeypatch, annotations
    ):
        """But where a user has said which workers may read it."""
        X, y = data
        tasks_of = []

        def noted(tasks, client):
            keys = [task.key for task in tasks]
            graph, _ = dask.optimization.cull(dict(tasks[0].dask), keys)
            layers = tasks[0].dask.layers.values()
            marked = [set(layer) for layer in layers if layer.annotations]
            tasks_of.append((set(graph), set().union(*marked)))
            return list(dask.compute(*tasks))

        monkeypatch.setattr("skimprint.dask._fit.computed", noted)
        signed = chunked(X, [200, 300])
        with dask.annotate(**annotations):
            rows = signed.map_blocks(np.abs, dtype=X.dtype)
        found = on_dask.fit(plain_classifier("mean"), rows, y)
        np.testing.assert_array_equal(
            found.proxies_, plain_classifier("mean").fit(np.abs(X), y).proxies_
        )
        _, (keys, marked) = tasks_of
        chunks_of_X = {key for key in keys if "absolute" in str(key)}
        assert chunks_of_X == keys & marked
        assert len(chunks_of_X) == (2 if annotations else 0)

    def test_what_tasks_share_is_in_none_of_them(self, data, monkeypatch):
        """It is sent to each worker once, the bucket of each label included."""
        X, y = data
        graphs = []

        def noted(tasks, client):
            graphs.append(dict(tasks[0].dask))
            return list(dask.compute(*tasks))

        monkeypatch.setattr("skimprint.dask._fit.computed", noted)
        clf = plain_classifier("mean")
        on_dask.fit(clf, chunked(X, [200, 300]), y)
        for graph, name, n_shared in zip(
            graphs, ("labels", "split"), (1, 2), strict=True
        ):
            [*splits] = [graph[key] for key in graph if str(key[0]).startswith(name)]
            assert len(splits) == 2
            common = frozenset.intersection(*(task.dependencies for task in splits))
            shared = {key for key in common if isinstance(key, str)}  # no chunks
            assert len(shared) == n_shared

    def test_chunks_that_other_chunks_need(self, data):
        """Each is computed once, but for the labels, which are counted before."""
        X, y = data
        computed = []

        def noted(block, name):
            computed.append(name)
            return block

        rows = chunked(X, [250, 250]).map_blocks(noted, "X", meta=X[:0])
        weights = (rows[:, 0] * 0 + 1)[::-1]  # of the other chunk each
        with dask.config.set(scheduler="synchronous"):
            found = on_dask.fit(plain_classifier("mean"), rows, y, weights)
            assert computed == ["X", "X"]
            assert_same(found, plain_classifier("mean").fit(X, y), X, 1e-12)

    def test_time_does_not_grow_with_the_square_of_the_pieces(self, data, monkeypatch):
        """One layer of a graph, however many tasks there are."""
        X, y = data
        layers = []
        for n_chunks in (2, 50):
            rows = chunked(X, [500 // n_chunks] * n_chunks)
            found = on_dask.predict(plain_classifier("mean").fit(X, y), rows)
            layers.append(len(found.dask.layers))
        assert layers[0] == layers[1]

        def noted(tasks, client):
            layers.append(len(tasks[0].dask.layers))
            return list(dask.compute(*tasks))

        monkeypatch.setattr("skimprint.dask._fit.computed", noted)
        for n_chunks in (2, 50):
            sizes = [500 // n_chunks] * n_chunks
            on_dask.fit(plain_classifier("mean"), chunked(X, sizes), chunked(y, sizes))
        assert layers[2:4] == layers[4:]

    def test_errors_of_parameters_come_before_rows_are_computed(self, data):
        X, y = data
        rows = chunked(X, [500]).map_blocks(lambda block: 1 / 0, meta=X[:0])
        for params, match in (
            ({"mean_weight": 0.5, "proxy_norm": "quantile"}, "mean_weight needs"),
            ({"n_proxies": {0: 1}}, "it has none for"),
        ):
            clf = ImprintClassifier(**params)
            with pytest.raises(ValueError, match=match):
                on_dask.fit(clf, rows, y)

    def test_the_norm_of_queries_is_that_of_the_support(self, data):
        X, y = data
        clf = ImprintClassifier("mean", query_norm="l2", kernel_weight=0.5)
        for rows in (X, X - X.mean(axis=0)):
            found = on_dask.fit(clf, chunked(rows, [250, 250]), y)
            assert found.support_norm_ == "l2"
            assert_same(found, clone(clf).fit(rows, y), rows, 1e-6)

    def test_beside_a_head(self, data):
        X, y = data
        head = X[:3] - 1, np.array([1, 2, 99])
        clf = plain_classifier("mean", head=head)
        found = on_dask.fit(clf, chunked(X, [300, 200]), y)
        assert_same(found, clf.fit(X, y), X)
        with pytest.raises(ValueError, match="Chunk 0 has 60 features; 64 were"):
            on_dask.fit(clf, chunked(X[:, :60], [300, 200]), y)

    @pytest.mark.parametrize("limit", [0, 5 * 64 * 65 // 2 * 4, 2**40])
    def test_scatters_are_bounded_for_all_classes_together(
        self, data, limit, monkeypatch
    ):
        X, y = data
        sizes = {True: 2**40, "auto": limit, False: 0}
        monkeypatch.setattr("skimprint._plan._SCATTER_BYTES", sizes)
        clf = ImprintClassifier("mean", random_state=0)
        found = on_dask.fit(clf, chunked(X, [300, 200]), y)
        expected = clf.fit(X, y)
        assert (found._fitted.state.pooled is None) == (limit == 2**40)
        assert (expected._fitted.state.pooled is None) == (limit == 2**40)
        assert_same(found, expected, X, 1e-3)
        for model in (found, expected):
            model.partial_fit(X[::7] + 1, y[::7] + 5)
        assert_same(found, expected, X, 1e-3)

    def test_goes_on_learning_and_forgetting(self, data):
        X, y = data
        clf = plain_classifier("kmeans", n_proxies=2, random_state=0)
        found = on_dask.fit(clf, chunked(X[:300], [200, 100]), y[:300])
        expected = clone(clf).fit(X[:300], y[:300])
        for model in (found, expected):
            model.partial_fit(X[300:400], y[300:400]).forget([2])
            model.merge(clone(clf).fit(X[400:], y[400:]))
        assert_same(found, expected, X)
        again = pickle.loads(pickle.dumps(found))
        assert_same(again, expected, X)


class TestPartialFit:
    @pytest.mark.parametrize("params", [*INDEPENDENT, *SHARED], ids=spelt)
    def test_as_one_machine(self, data, params):
        X, y = data
        clf = plain_classifier(**params, random_state=0)
        first = y != 7
        first[400:] = False
        found, expected = (clone(clf).fit(X[first], y[first]) for _ in range(2))
        sizes = [50, (~first).sum() - 50]
        on_dask.partial_fit(found, chunked(X[~first], sizes), y[~first])
        expected.partial_fit(X[~first], y[~first])
        assert_same(found, expected, X, 1e-3 if params in SHARED else 0)

    @pytest.mark.parametrize("support_norm", ["auto", None])
    def test_of_what_has_forgotten_all(self, data, support_norm):
        X, y = data
        found, expected = (
            plain_classifier("mean", support_norm=support_norm).fit(np.abs(X), y)
            for _ in range(2)
        )
        for clf in (found, expected):
            clf.forget(clf.classes_)
        more = X - 1  # for which another norm is chosen
        on_dask.partial_fit(found, chunked(more, [250, 250]), y)
        assert_same(found, expected.partial_fit(more, y), X)

    def test_an_error_leaves_the_model(self, data):
        X, y = data
        clf = plain_classifier("mean").fit(X, y)
        before = pickle.dumps(clf)
        bad = X.copy()
        bad[450, 3] = np.nan
        with pytest.raises(ValueError, match=r"In chunk 1: .*NaN"):
            on_dask.partial_fit(clf, chunked(bad, [300, 200]), y)
        with pytest.raises(ValueError, match="Labels must be of the type"):
            on_dask.partial_fit(clf, chunked(X, [500]), y.astype(str))
        with pytest.raises(ValueError, match="In chunk 0: X is too large for float32"):
            on_dask.partial_fit(clf, chunked(1e40 * X.astype(float), [500]), y)
        assert pickle.dumps(clf) == before


class TestClassesTooLargeForAWorker:
    """They are learnt by parts, and the others as ever."""

    @pytest.fixture(autouse=True)
    def small_workers(self, data, monkeypatch):
        X, _ = data
        monkeypatch.setattr(
            "skimprint.dask._fit.workers_of", lambda client: (2, 4 * 90 * X[0].nbytes)
        )

    @pytest.fixture
    def uneven(self, data):
        X, y = data
        return X, np.where(y < 4, 0, y)

    @pytest.mark.parametrize("generator", ["mean", "kmeans", "all"])
    def test_with_a_warning(self, uneven, generator):
        X, y = uneven
        clf = plain_classifier(generator, n_proxies=2, random_state=0)
        with pytest.warns(UserWarning, match=r"The samples of \[0\] are too many"):
            found = on_dask.fit(clf, chunked(X, [50, 0, 100, 200, 150]), y)
        expected = clone(clf).fit(X, y)
        np.testing.assert_array_equal(found.class_count_, expected.class_count_)
        assert found.n_samples_seen_ == len(y)
        of_others = expected.proxy_labels_ != 0
        for name in ("proxies_", "proxy_indices_"):
            np.testing.assert_array_equal(
                getattr(found, name)[found.proxy_labels_ != 0],
                getattr(expected, name)[of_others],
            )
        rows = found.proxy_indices_[found.proxy_labels_ == 0]
        assert (y[rows] == 0).all()
        if generator != "kmeans":
            np.testing.assert_array_equal(found.proxy_indices_, expected.proxy_indices_)
            np.testing.assert_allclose(found.proxies_, expected.proxies_, 1e-6, 1e-6)

    def test_more_of_a_known_class(self, uneven):
        X, y = uneven
        clf = plain_classifier("mean").fit(X, y)
        more = X + np.random.default_rng(0).normal(0, 0.1, X.shape).astype(X.dtype)
        expected = clone(clf).fit(X, y).partial_fit(more, y)
        with pytest.warns(UserWarning, match="too many for one worker"):
            found = on_dask.partial_fit(clf, chunked(more, [250, 250]), y)
        np.testing.assert_allclose(found.proxies_, expected.proxies_, 1e-6, 1e-6)
        np.testing.assert_array_equal(found.proxy_indices_, expected.proxy_indices_)


def test_dask_is_told_how_large_samples_and_what_is_known_of_them_are(data):
    X, y, *_ = data
    batch = Batch(X, *np.unique(y, return_inverse=True))
    state = ImprintClassifier(random_state=0).fit(X, y)._fitted.state
    for each in (batch, state):  # which has kept the samples
        assert X.nbytes < dask.sizeof.sizeof(each) < 10 * X.nbytes


@pytest.mark.parametrize("thread_bytes", [2**28, 2**30, np.inf])
def test_what_is_learnt_together_fits_a_worker(thread_bytes):
    counts, row_bytes = dict.fromkeys(range(5000), 1000), 2**11
    bucket_of, large, _ = on_dask._buckets.buckets(
        counts, row_bytes, n_threads=2, thread_bytes=thread_bytes
    )
    assert not large
    rows = 1000 * np.bincount(list(bucket_of.values()))
    assert rows.max() * row_bytes <= thread_bytes / 8 * 1.1
    assert len(rows) >= 32 if thread_bytes < np.inf else len(rows) == 32


class TestCollections:
    """Chunks of any kind are what they are made of."""

    @pytest.fixture
    def clf(self):
        return plain_classifier("kmeans", n_proxies=2, random_state=0)

    @pytest.fixture
    def expected(self, clf, data):
        return clone(clf).fit(*data)

    @pytest.mark.parametrize(
        "sizes", [[500], [1] * 3 + [497], [499, 1], [50] * 10], ids=str
    )
    def test_any_sizes(self, data, clf, expected, sizes):
        X, y = data
        assert_same(on_dask.fit(clf, chunked(X, sizes), y), expected, X)

    def test_pictures_in_several_chunks(self):
        pixels = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
        embedder = FoundationEmbedder(colours, modality="image").fit(pixels[:1])
        found = on_dask.embed(embedder, da.from_array(pixels, chunks=(2, 4, 2, 1)))
        np.testing.assert_array_equal(found.compute(), embedder.transform(pixels))

    def test_features_in_several_chunks(self, data, clf, expected):
        X, y = data
        split = da.from_array(X, chunks=(200, 30))
        assert_same(on_dask.fit(clf, split, y), expected, X)
        np.testing.assert_array_equal(
            on_dask.predict(expected, split).compute(), expected.predict(X)
        )

    def test_unknown_sizes_and_empty_chunks(self, data, clf, expected):
        X, y = data
        keep = np.ones(600, bool)
        keep[100:200] = False
        more = np.concatenate([X[:100], X[:100], X[100:]])
        labels = np.concatenate([y[:100], y[:100], y[100:]])
        X_some = chunked(more, [100] * 6)[chunked(keep, [100] * 6)]
        y_some = chunked(labels, [100] * 6)[chunked(keep, [100] * 6)]
        assert_same(on_dask.fit(clf, X_some, y_some), expected, X)
        found = on_dask.predict_proba(expected, X_some)
        assert np.isnan(found.shape[0])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.compute(), expected.predict_proba(X), 1e-5)
        with pytest.raises(ValueError, match="y must have as many chunks as X"):
            on_dask.fit(clf, X_some, y)

    def test_frames_with_names(self, data, clf):
        frames = pytest.importorskip("dask.dataframe", reason="needs dask[dataframe]")
        pandas = pytest.importorskip("pandas")
        X, y = data
        names = [f"f{i}" for i in range(64)]
        frame = pandas.DataFrame(X, columns=names)
        kinds = pandas.Series(pandas.Categorical(y, categories=range(20)))
        found = on_dask.fit(
            clf,
            frames.from_pandas(frame, npartitions=3),
            frames.from_pandas(kinds, npartitions=3),
        )
        expected = clone(clf).fit(frame, y)
        assert_same(found, expected, frame)
        np.testing.assert_array_equal(found.feature_names_in_, names)
        queries = frames.from_pandas(frame, npartitions=2)
        np.testing.assert_array_equal(
            on_dask.predict(found, queries).compute(), expected.predict(frame)
        )
        turned = frame[names[::-1]]
        with pytest.raises(ValueError, match=r"In chunk 0: .*feature names"):
            on_dask.partial_fit(found, frames.from_pandas(turned, npartitions=1), y)

    def test_labels_of_several_types(self, data, clf):
        X, y = data
        first = da.from_array(y[:200].astype(np.int8), chunks=200)
        second = da.from_array(y[200:].astype(np.int64) + 2**40, chunks=300)
        labels = da.concatenate([first, second.astype(np.int64)])
        found = on_dask.fit(clf, chunked(X, [200, 300]), labels)
        expected = clone(clf).fit(X, labels.compute())
        assert found.classes_.dtype == expected.classes_.dtype == np.int64
        assert_same(found, expected, X)
        words = np.array(["a", "a much longer word"])[y % 2]
        found = on_dask.fit(clf, chunked(X, [200, 300]), words)
        assert_same(found, clone(clf).fit(X, words), X)

    def test_norms_are_chosen_by_all_chunks(self, data):
        X, y = data
        X = np.abs(X)
        clf = ImprintClassifier("mean")
        for last, norm in ((X[-1], "power"), (-X[-1], "l2")):
            rows = np.concatenate([X[:-1], last[None]])
            found = on_dask.fit(clf, chunked(rows, [400, 100]), y)
            assert found.support_norm_ == norm == clone(clf).fit(rows, y).support_norm_

    def test_rows_of_no_weight_choose_no_norm(self, data):
        X, y = data
        X, weights = np.abs(X), np.ones(len(y))
        X[7], X[450], weights[[7, 450]] = -X[7], -X[450], 0
        rows = chunked(X, [400, 100])
        found = on_dask.fit(ImprintClassifier("mean"), rows, y, weights)
        assert found.support_norm_ == "power"

    def test_norms_are_chosen_again(self, data):
        X, y = data
        X = np.where(y[:, None] == 3, 1, -1) * (1 + np.abs(X))
        clf = ImprintClassifier(random_state=0)
        found = on_dask.fit(clf, chunked(X, [400, 100]), y)
        found.forget([label for label in range(10) if label != 3])
        assert found.support_norm_ == "power"
        found = on_dask.fit(clf, chunked(X[y == 3], [10, sum(y == 3) - 10]), y[y == 3])
        found = on_dask.partial_fit(found, chunked(X, [400, 100]), y)
        assert found.support_norm_ == "power"
        assert found.forget(3).support_norm_ == "l2"


class TestQueries:
    @pytest.mark.parametrize("name", METHODS_OF_QUERIES)
    @pytest.mark.parametrize("n_classes", [2, 10])
    def test_lazy_with_right_metadata(self, data, name, n_classes):
        X, y = data
        rejection = Rejection("none of these", rate=0.2)
        clf = ImprintClassifier("mean", rejection=rejection)
        clf.fit(X[y < n_classes], y[y < n_classes].astype(str))
        found = getattr(on_dask, name)(clf, chunked(X, [120, 380]))
        expected = getattr(clf, name)(X)
        assert isinstance(found, da.Array)
        assert found.chunks[0] == (120, 380)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        if name == "predict":
            np.testing.assert_array_equal(found.compute(), expected)
        else:
            np.testing.assert_allclose(found.compute(), expected, 1e-4, 1e-5)

    def test_explanations(self, data):
        X, y = data
        clf = ImprintClassifier.from_method("recommended", random_state=0).fit(X, y)
        found = on_dask.explain(clf, chunked(X, [120, 380]), n_reasons=3)
        expected = clf.explain(X, n_reasons=3)
        assert found.keys() == expected.keys()
        for name in ("label", "rows", "training_row"):
            assert found[name].shape == expected[name].shape
            np.testing.assert_array_equal(found[name].compute(), expected[name])
        np.testing.assert_allclose(found.shares.compute(), expected.shares, 1e-3, 1e-4)

    def test_all_other_settings_too(self, data):
        X, y = data
        clf = plain_classifier("all", aggregation=Votes(3)).fit(X, y)
        found = on_dask.predict(clf, chunked(X, [250, 250]))
        np.testing.assert_array_equal(found.compute(), clf.predict(X))

    def test_functions_that_take_no_zeros(self, data):
        X, y = data

        def unit(rows):
            return rows / np.linalg.norm(rows, axis=1, keepdims=True)

        def cosine(queries, proxies):
            return unit(queries) @ unit(proxies).T

        clf = plain_classifier("mean", metric=cosine, query_norm=unit).fit(X, y)
        for name in METHODS_OF_QUERIES:
            found = getattr(on_dask, name)(clf, chunked(X, [250, 250])).compute()
            np.testing.assert_allclose(found, getattr(clf, name)(X), rtol=1e-6)

    def test_they_are_of_the_model_as_it_was(self, data):
        X, y = data
        clf = plain_classifier("mean").fit(X, y.astype(str))
        expected = clf.predict(X)
        found = on_dask.predict(clf, chunked(X, [250, 250]))
        clf.partial_fit(X[:5], ["a longer label"] * 5).forget("3")
        np.testing.assert_array_equal(found.compute(), expected)
        assert found.compute().dtype == found.dtype


class ErrorOfTwo(ValueError):
    """What cannot be made of a message alone."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def read_rows(texts):
    """An embedder of rows that are written as text."""
    return np.stack([np.frombuffer(bytes.fromhex(text), np.float32) for text in texts])


def colours(pictures):
    return [np.asarray(picture).mean(axis=(0, 1)) for picture in pictures]


def lengths(texts):
    return np.array([[len(text), 1.0] for text in texts])


class TestEmbed:
    texts = ("a", "bc", "def", "", "some more words")

    @pytest.fixture
    def embedder(self):
        return FoundationEmbedder(lengths).fit(self.texts[:1])

    def test_arrays_frames_and_bags(self, embedder):
        bags = pytest.importorskip("dask.bag", reason="needs dask")
        frames = pytest.importorskip("dask.dataframe", reason="needs dask[dataframe]")
        pandas = pytest.importorskip("pandas")
        expected = embedder.transform(self.texts)
        array = da.from_array(np.array(self.texts, object), chunks=2)
        series = frames.from_pandas(pandas.Series(list(self.texts)), npartitions=2)
        bag = bags.from_sequence(self.texts, npartitions=3).filter(lambda text: True)
        for items in (array, series, bag):
            found = on_dask.embed(embedder, items)
            assert found.shape[1] == 2
            np.testing.assert_array_equal(found.compute(), expected)
        found = on_dask.embed(embedder, bag.filter(lambda text: len(text) > 2))
        np.testing.assert_array_equal(found.compute(), expected[[2, 4]])

    @pytest.mark.parametrize("output", ["torch", "pandas"])
    def test_of_embedders_of_other_outputs(self, embedder, output):
        pytest.importorskip(output)
        expected = embedder.transform(self.texts)
        items = da.from_array(np.array(self.texts, object), chunks=2)
        if output == "pandas":
            embedder.set_output(transform="pandas")
        else:
            embedder.set_params(output=output)
        found = on_dask.embed(embedder, items).compute()
        assert type(found) is np.ndarray
        np.testing.assert_array_equal(found, expected)

    def test_delayed_lists(self, embedder):
        texts = ["a", "bcd", "ef"]
        parts = [dask.delayed(texts[:1]), dask.delayed(list)(texts[1:])]
        rows = on_dask.embed(embedder, parts)
        np.testing.assert_array_equal(rows.compute(), embedder.transform(texts))
        for items in (dask.delayed(texts), [dask.delayed(texts), texts], texts):
            with pytest.raises(TypeError, match="a list of delayed lists; got"):
                on_dask.embed(embedder, items)

    def test_by_the_parameters_at_the_call(self, embedder):
        expected = embedder.transform(self.texts)
        items = da.from_array(np.array(self.texts, object), chunks=2)
        found = on_dask.embed(embedder, items)
        embedder.set_params(model=lambda texts: -lengths(texts))
        np.testing.assert_array_equal(found.compute(), expected)

    def test_to_a_classifier(self, embedder):
        items = da.from_array(np.array(self.texts * 4, object), chunks=7)
        y = np.array(self.texts * 4) != ""
        found = on_dask.fit(plain_classifier("mean"), on_dask.embed(embedder, items), y)
        expected = plain_classifier("mean").fit(embedder.transform(self.texts * 4), y)
        np.testing.assert_array_equal(found.proxies_, expected.proxies_)

    def test_a_bad_item_is_named_with_its_chunk(self, embedder):
        items = da.from_array(np.array([*self.texts, 3], object), chunks=2)
        with pytest.raises(ValueError, match="In chunk 2: Item 1"):
            on_dask.embed(embedder, items).compute()

    def test_of_a_width_that_is_not_known(self):
        items = da.from_array(np.array(self.texts, object), chunks=2)
        with pytest.raises(ValueError, match="call fit with an item first"):
            on_dask.embed(FoundationEmbedder(lengths), items)
        with pytest.raises(TypeError, match="must be a FoundationEmbedder; got str"):
            on_dask.embed("a-model", items)


class TestErrors:
    def test_chunks_are_named(self, data):
        X, y = data
        bad = X.copy()
        bad[[410, 433], 3] = np.inf
        clf = plain_classifier("mean")
        with pytest.raises(
            ValueError, match=r"In chunk 2: .*infinity: rows \[10, 33\]"
        ):
            on_dask.fit(clf, chunked(bad, [200, 200, 100]), y)
        clf.fit(X, y)
        found = on_dask.predict(clf, chunked(bad, [200, 200, 100]))
        with pytest.raises(ValueError, match=r"In chunk 2: .*infinity"):
            found.compute()
        # What is said to have 64 features, and has not.
        wrong = da.concatenate(
            [
                chunked(X[:300], [300]),
                da.from_delayed(dask.delayed(X[300:, :9]), (200, 64), X.dtype),
            ]
        )
        with pytest.raises(ValueError, match="Chunk 1 has 9 features; 64 were"):
            on_dask.fit(clf, wrong, y)

    def test_kinds_of_collections_that_are_none_of_rows(self, data):
        X, y = data
        clf = plain_classifier("mean").fit(X, y)
        later = dask.delayed(X)
        bags = pytest.importorskip("dask.bag", reason="needs dask")
        bag = bags.from_sequence(X.tolist(), npartitions=2)
        for call in (on_dask.fit, on_dask.partial_fit):
            for rows, name in ((later, "Delayed"), (bag, "Bag")):
                with pytest.raises(TypeError, match=f"DataFrame; got a dask {name}"):
                    call(clf, rows, y)
            with pytest.raises(TypeError, match=r"y must be .*; got a dask Delayed"):
                call(clf, chunked(X, [500]), dask.delayed(y))
            with pytest.raises(ValueError, match="y must have a value for each"):
                call(clf, chunked(X, [500]), None)
        for rows in (later, bag):
            with pytest.raises(TypeError, match="X must be a dask array"):
                on_dask.predict(clf, rows)

    def test_labels_that_are_others_when_they_are_computed_again(self, data):
        X, y = data
        times = iter(range(9))
        y_of_each_time = da.from_delayed(
            dask.delayed(lambda: y + 10 * next(times))(), (500,), y.dtype
        )
        with pytest.raises(ValueError, match=r"In chunk 0: y has \[10, .*persist"):
            on_dask.fit(plain_classifier("mean"), chunked(X, [500]), y_of_each_time)

    def test_clients_that_are_none(self, data):
        X, y = data
        for client in ("tcp://127.0.0.1:8786", object()):
            with pytest.raises(TypeError, match=r"a distributed\.Client, such as"):
                on_dask.fit(plain_classifier(), chunked(X, [500]), y, client=client)

    def test_not_aligned(self, data):
        X, y = data
        clf = plain_classifier("mean")
        with pytest.raises(ValueError, match="each of 500 samples; got 499"):
            on_dask.fit(clf, chunked(X, [200, 300]), y[1:])
        with pytest.raises(ValueError, match=r"sample_weight must .*; got 3"):
            on_dask.fit(clf, chunked(X, [200, 300]), y, np.ones(3))
        short = da.from_delayed(dask.delayed(y[:9]), (np.nan,), y.dtype)
        with pytest.raises(ValueError, match=r"In chunk 0: .*inconsistent"):
            on_dask.fit(clf, chunked(X, [500]), short)

    def test_not_aligned_within_chunks(self, data):
        X, y = data
        clf = plain_classifier("mean")
        rows = chunked(X, [250, 250])[chunked(np.arange(500) >= 250, [250, 250])]
        with pytest.raises(ValueError, match=r"In chunk 0: .*inconsistent"):
            on_dask.fit(clf, rows, chunked(y, [250, 250]))
        parts = [np.zeros(7), np.ones(250)]
        weights = da.concatenate(
            [da.from_delayed(dask.delayed(w), (np.nan,), float) for w in parts],
            allow_unknown_chunksizes=True,
        )
        with pytest.raises(ValueError, match=r"In chunk 0: .*inconsistent"):
            on_dask.fit(clf, chunked(X, [250, 250]), y, weights)

    def test_weights_that_are_none(self, data):
        X, y = data
        clf = plain_classifier("mean").fit(X, y)
        for learn in (on_dask.fit, on_dask.partial_fit):
            with pytest.raises(ValueError, match="positive for at least one sample"):
                learn(clf, chunked(X, [250, 250]), y, np.zeros(500))
            for values in ((2.0,), ("a",)):
                with pytest.raises(ValueError, match="a value for each sample; got"):
                    learn(clf, chunked(X, [250, 250]), y, *values)

    def test_errors_that_are_made_of_more_than_a_message(self, data):
        X, y = data

        def strict(rows):
            if len(rows) > 1:
                raise ErrorOfTwo("this", "that")
            return rows

        clf = plain_classifier("mean", query_norm=strict).fit(X, y)
        found = on_dask.predict(clf, chunked(X, [250, 250]))
        with pytest.raises(ValueError, match=r"In chunk .: this and that"):
            found.compute(scheduler="synchronous")

    def test_nothing(self, data):
        X, y = data
        none = da.zeros(500, dtype=bool, chunks=250)
        nothing, labels = (chunked(values, [250, 250])[none] for values in (X, y))
        with pytest.raises(ValueError, match="X has no rows"):
            on_dask.fit(plain_classifier("mean"), nothing, labels)

    def test_parameters(self, data):
        X, y = data
        with pytest.raises(ValueError, match="n_proxies"):
            on_dask.fit(plain_classifier(n_proxies=0), chunked(X, [500]), y)
        with pytest.raises(ValueError, match="it has none for"):
            on_dask.fit(plain_classifier(n_proxies={0: 1}), chunked(X, [500]), y)

    def test_collections_are_not_brought_here_without_a_word(self, data):
        X, y = data
        clf = plain_classifier("mean").fit(X, y)
        for call in (
            lambda: clone(clf).fit(chunked(X, [500]), y),
            lambda: clone(clf).fit(X, chunked(y, [500])),
            lambda: clf.predict(chunked(X, [500])),
            lambda: FoundationEmbedder(lengths).fit(chunked(X, [500])),
            lambda: clone(clf).fit(X, y, chunked(np.ones(500), [500])),
            lambda: clone(clf).partial_fit(X, y, chunked(y, [500])),
            lambda: ImprintClassifier(head=(chunked(X[:9], [9]), None)).fit(X, y),
            lambda: clf.forget(chunked(y[:1], [1])),
        ):
            with pytest.raises(TypeError, match=r"function of skimprint\.dask"):
                call()

    def test_data_in_memory(self, data):
        X, y = data
        clf = plain_classifier("mean").fit(X, y)
        with pytest.raises(TypeError, match="ImprintClassifier learns itself"):
            on_dask.fit(clf, X, y)
        search = ImprintClassifierCV(clf, {"n_proxies": [1, 2]})
        chunks = chunked(X, [500]), chunked(y, [500])
        with pytest.raises(TypeError, match=r"got ImprintClassifierCV\. .*joblib"):
            on_dask.fit(search, *chunks)
        with pytest.raises(TypeError, match=r"model must be .* got Imprint.*CV"):
            on_dask.partial_fit(search, *chunks)
        embedder = FoundationEmbedder(lengths).fit(["a"])
        with pytest.raises(TypeError, match=r"got list\. .* call embedder\.transform"):
            on_dask.embed(embedder, ["a", "b"])
        with pytest.raises(TypeError, match=r"call model\.predict"):
            on_dask.predict(clf, X)


def load_rows(path, part):
    """Read rows of a file, as a worker does."""
    return np.load(path, mmap_mode="r")[part].copy()


@pytest.fixture(scope="module")
def cluster():
    """Two processes."""
    settings = {
        "distributed.scheduler.allowed-failures": 10,
        # Where other processes keep all cores busy, a worker that was killed takes
        # longer to come back than the 15 s after which a cluster gives it up.
        "distributed.deploy.lost-worker-timeout": "60s",
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


class TestCluster:
    def test_same_bits(self, data, client):
        X, y = data
        clf = plain_classifier("kmeans", n_proxies=2, random_state=0)
        found = on_dask.fit(clf, chunked(X, [70, 230, 200]), y, client=client)
        expected = clone(clf).fit(X, y)
        assert_same(found, expected, X)
        queries = chunked(X, [100] * 5)
        np.testing.assert_array_equal(
            on_dask.predict(found, queries).compute(), expected.predict(X)
        )

    def test_more_workers_than_classes(self, data, client):
        X, _ = data
        clf = plain_classifier("mean")
        found = on_dask.fit(clf, chunked(X, [250, 250]), np.zeros(500), client=client)
        assert found.classes_.tolist() == [0]

    def test_what_is_persisted(self, data, client):
        X, y = data
        clf = plain_classifier("kmeans", n_proxies=2, random_state=0).fit(X, y)
        rows, labels = dask.persist(chunked(X, [250] * 2), chunked(y, [250] * 2))
        found = on_dask.fit(clone(clf), rows, labels, client=client)
        assert_same(found, clf, X)
        np.testing.assert_array_equal(on_dask.predict(clf, rows), clf.predict(X))
        reasons = on_dask.explain(clf, rows)
        np.testing.assert_array_equal(reasons.proxy, clf.explain(X).proxy)
        names = [each.tobytes().hex() for each in X[:9]]
        texts = client.persist(da.from_array(np.array(names, object), chunks=4))
        embedder = FoundationEmbedder(read_rows, modality="text").fit(names[:1])
        for items in (texts, [client.persist(dask.delayed(names))]):
            embedded = on_dask.embed(embedder, items).compute()
            np.testing.assert_array_equal(embedded, X[:9])

    @pytest.mark.parametrize(
        "search",
        [
            kind(ImprintClassifier(random_state=0), {"n_proxies": [1, 2]}, n_jobs=-1)
            for kind in (GridSearchCV, ImprintClassifierCV)
        ],
        ids=lambda search: type(search).__name__,
    )
    def test_searches(self, data, client, search):
        X, y = data
        here = clone(search).fit(X, y)
        with joblib.parallel_config("dask"):
            there = clone(search).fit(X, y)
        assert there.best_params_ == here.best_params_
        for name, scores in here.cv_results_.items():
            if "time" not in name:
                np.testing.assert_array_equal(there.cv_results_[name], scores)
        np.testing.assert_array_equal(there.predict(X), here.predict(X))

    def test_errors_come_from_workers(self, data, client):
        X, y = data
        bad = X.copy()
        bad[499] = np.nan
        with pytest.raises(ValueError, match=r"In chunk 1: .*NaN"):
            on_dask.fit(plain_classifier(), chunked(bad, [250] * 2), y, client=client)

    @pytest.mark.parametrize(
        "seed",
        [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 20))],
    )
    def test_a_worker_is_killed(self, data, client, seed):
        X, y = data
        X, y = np.tile(X, (20, 1)), np.tile(y, 20)
        X += np.random.default_rng(0).normal(size=X.shape).astype(X.dtype) / 10
        clf = plain_classifier("kmeans", n_proxies=5, random_state=0)
        texts = np.array([row.tobytes().hex() for row in X], object)
        items = da.from_array(texts, chunks=500)
        embedder = FoundationEmbedder(read_rows, modality="text").fit(texts[:1])

        def run():
            rows = on_dask.embed(embedder, items)
            found = on_dask.fit(clf, rows, y, client=client)
            return found, on_dask.predict(found, rows).compute()

        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        client.wait_for_workers(2, timeout=60)
        workers = client.run(os.getpid).values()
        wait = np.random.default_rng(seed).uniform(0, seconds)
        killer = threading.Timer(wait, os.kill, (min(workers), signal.SIGKILL))
        killer.start()
        found, predicted = run()
        killer.join()
        expected = clone(clf).fit(X, y)
        assert_same(found, expected, X[::50])
        np.testing.assert_array_equal(predicted, expected.predict(X))

    @pytest.mark.slow
    def test_a_worker_short_of_memory_spills(self, tmp_path):
        """It may hold half of what the rows take, and writes pieces of them to disk."""
        n_classes, n, d = 64, 125, 8192
        y = np.tile(np.arange(n_classes), n)
        X = np.random.default_rng(0).standard_normal((len(y), d), dtype=np.float32)
        X[:, 0] += y
        clf = plain_classifier("mean")
        np.save(tmp_path / "X.npy", X)
        parts = []
        for start in range(0, len(y), 500):
            part = slice(start, start + 500)
            rows = dask.delayed(load_rows)(tmp_path / "X.npy", part)
            parts.append(da.from_delayed(rows, (500, d), X.dtype))

        def spilled(dask_worker):
            return dask_worker.data.cumulative_metrics["disk-write", "count"]

        limits = {f"distributed.worker.memory.{n}": 0.2 for n in ("target", "spill")}
        with (
            dask.config.set(limits | {"distributed.worker.memory.pause": False}),
            distributed.LocalCluster(
                n_workers=1,
                threads_per_worker=1,
                memory_limit=5 * X.nbytes // 2,
                dashboard_address=":0",
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            found = on_dask.fit(clf, da.concatenate(parts), y, client=client)
            assert sum(client.run(spilled).values()) > 0
        assert_same(found, clone(clf).fit(X, y), X[::50])

    def test_a_client_that_has_gone(self, data, cluster):
        X, y = data
        client = distributed.Client(cluster)
        client.close()
        with pytest.raises(ValueError, match="client must be connected"):
            on_dask.fit(plain_classifier(), chunked(X, [500]), y, client=client)

    def test_a_client_that_does_not_wait(self, data):
        X, y = data

        async def learn():
            options = {"processes": False, "dashboard_address": None}
            async with distributed.Client(
                n_workers=1, asynchronous=True, **options
            ) as client:
                on_dask.fit(plain_classifier(), chunked(X, [500]), y, client=client)

        with pytest.raises(ValueError, match="without asynchronous=True"):
            asyncio.run(learn())

    def test_a_scheduler_that_goes_away(self, data):
        X, y = data
        clf = plain_classifier("mean").fit(X, y)
        before = clf.proxies_.copy()

        def slow(rows):
            time.sleep(1)
            return rows

        slowly = chunked(X, [100] * 5).map_blocks(slow, meta=X[:0])
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
            distributed.LocalCluster(
                n_workers=1, processes=False, dashboard_address=":0"
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            scheduler = cluster.scheduler
            end = threading.Timer(2, scheduler.loop.add_callback, (scheduler.close,))
            end.start()
            with pytest.raises(ConnectionError, match="no classifier has changed"):
                on_dask.partial_fit(clf, slowly, y, client=client)
            end.join()
        np.testing.assert_array_equal(clf.proxies_, before)
        assert clf.n_samples_seen_ == len(y)
