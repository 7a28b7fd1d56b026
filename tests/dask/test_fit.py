"""What is learnt of dask collections is what one machine learns."""

import pickle

import numpy as np
import pytest
from chunks import INDEPENDENT, SHARED, assert_same, chunked
from settings import plain_classifier, spelt
from sklearn.base import clone

from skimprint import ImprintClassifier
from skimprint.methods import METHODS

dask = pytest.importorskip("dask", reason="needs skimprint[dask]")
pytest.importorskip("dask.array", reason="needs skimprint[dask]")
on_dask = pytest.importorskip("skimprint.dask", reason="needs skimprint[dask]")


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

    def test_parameters(self, data):
        X, y = data
        with pytest.raises(ValueError, match="n_proxies"):
            on_dask.fit(plain_classifier(n_proxies=0), chunked(X, [500]), y)
        with pytest.raises(ValueError, match="it has none for"):
            on_dask.fit(plain_classifier(n_proxies={0: 1}), chunked(X, [500]), y)


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
