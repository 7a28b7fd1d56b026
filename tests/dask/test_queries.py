"""Queries in chunks are answered as those of one array."""

import numpy as np
import pytest
from chunks import METHODS_OF_QUERIES, chunked, lengths
from settings import plain_classifier
from sklearn.exceptions import NotFittedError
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skimprint import (
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
)
from skimprint.aggregation import Votes

dask = pytest.importorskip("dask", reason="needs skimprint[dask]")
da = pytest.importorskip("dask.array", reason="needs skimprint[dask]")
on_dask = pytest.importorskip("skimprint.dask", reason="needs skimprint[dask]")


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

    @pytest.mark.parametrize("name", [*METHODS_OF_QUERIES, "explain"])
    def test_models_that_are_none_of_ours_or_know_nothing(self, data, name):
        X, y = data
        call, chunks = getattr(on_dask, name), chunked(X, [500])
        search = ImprintClassifierCV(cv=2).fit(X[:60], y[:60])
        pipeline = make_pipeline(StandardScaler(), ImprintClassifier("mean")).fit(X, y)
        for model in (
            search,
            pipeline,
            GaussianNB().fit(X, y),
            None,
            ImprintClassifier,
        ):
            with pytest.raises(TypeError, match=r"^model must be an ImprintClassifier"):
                call(model, chunks)
        clf = ImprintClassifier("mean")
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call(clf, chunks)
        with pytest.raises(NotFittedError, match="has forgotten all classes"):
            call(clf.fit(X, y).forget(clf.classes_), chunks)

    @pytest.mark.parametrize("name", [*METHODS_OF_QUERIES, "explain"])
    def test_a_wrong_width_is_told_before_anything_is_computed(self, data, name):
        frames = pytest.importorskip("dask.dataframe", reason="needs dask[dataframe]")
        X, y = data
        call, clf = getattr(on_dask, name), ImprintClassifier("mean").fit(X, y)
        narrow = chunked(X[:, :9], [500])
        for queries in (narrow, frames.from_dask_array(narrow)):
            with pytest.raises(ValueError, match=r"9 features, but .* expecting 64"):
                call(clf, queries)

    def test_a_width_that_is_not_known(self, data):
        X, y = data
        clf = ImprintClassifier("mean").fit(X, y)
        queries = da.from_delayed(dask.delayed(X), (500, np.nan), X.dtype)
        with pytest.raises(ValueError, match=r"use\s+x\.compute_chunk_sizes"):
            on_dask.predict(clf, queries)

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
