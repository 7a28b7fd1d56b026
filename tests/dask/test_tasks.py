"""Chunks are split as one, by what is known of all of them."""

import numpy as np
import pytest
from chunks import chunked
from settings import plain_classifier
from sklearn.base import clone

from skimprint import ImprintClassifier
from skimprint._memory.learner import Batch

dask = pytest.importorskip("dask", reason="needs skimprint[dask]")
da = pytest.importorskip("dask.array", reason="needs skimprint[dask]")
on_dask = pytest.importorskip("skimprint.dask", reason="needs skimprint[dask]")


def test_dask_is_told_how_large_samples_and_what_is_known_of_them_are(data):
    X, y, *_ = data
    batch = Batch(X, *np.unique(y, return_inverse=True))
    state = ImprintClassifier(random_state=0).fit(X, y)._fitted.state
    for each in (batch, state):  # which has kept the samples
        assert X.nbytes < dask.sizeof.sizeof(each) < 10 * X.nbytes


class TestNorms:
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


class TestErrors:
    def test_labels_that_are_others_when_they_are_computed_again(self, data):
        X, y = data
        times = iter(range(9))
        y_of_each_time = da.from_delayed(
            dask.delayed(lambda: y + 10 * next(times))(), (500,), y.dtype
        )
        with pytest.raises(ValueError, match=r"In chunk 0: y has \[10, .*persist"):
            on_dask.fit(plain_classifier("mean"), chunked(X, [500]), y_of_each_time)

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

    def test_nothing(self, data):
        X, y = data
        none = da.zeros(500, dtype=bool, chunks=250)
        nothing, labels = (chunked(values, [250, 250])[none] for values in (X, y))
        with pytest.raises(ValueError, match="X has no rows"):
            on_dask.fit(plain_classifier("mean"), nothing, labels)
