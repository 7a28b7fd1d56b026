"""What is learnt together fits a worker."""

import numpy as np
import pytest
from chunks import chunked
from settings import plain_classifier
from sklearn.base import clone

pytest.importorskip("dask.array", reason="needs skimprint[dask]")
on_dask = pytest.importorskip("skimprint.dask", reason="needs skimprint[dask]")


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
