"""Tasks share what they can, and read chunks where they need them."""

import numpy as np
import pytest
from chunks import assert_same, chunked
from settings import plain_classifier

dask = pytest.importorskip("dask", reason="needs skimprint[dask]")
da = pytest.importorskip("dask.array", reason="needs skimprint[dask]")
on_dask = pytest.importorskip("skimprint.dask", reason="needs skimprint[dask]")


class TestTasks:
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
