"""Several processes learn what one does, though one of them is killed."""

import asyncio
import os
import signal
import threading
import time

import joblib
import numpy as np
import pytest
from chunks import assert_same, chunked, read_rows
from settings import plain_classifier
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skimprint import FoundationEmbedder, ImprintClassifier, ImprintClassifierCV

dask = pytest.importorskip("dask", reason="needs skimprint[dask]")
da = pytest.importorskip("dask.array", reason="needs skimprint[dask]")
distributed = pytest.importorskip("distributed", reason="needs skimprint[dask]")
on_dask = pytest.importorskip("skimprint.dask", reason="needs skimprint[dask]")


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

    def test_clients_that_are_none(self, data):
        X, y = data
        for client in ("tcp://127.0.0.1:8786", object()):
            with pytest.raises(TypeError, match=r"a distributed\.Client, such as"):
                on_dask.fit(plain_classifier(), chunked(X, [500]), y, client=client)
