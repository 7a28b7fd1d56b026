"""Collections of all kinds are cut alike, and what is wrong in them is named."""

import numpy as np
import pytest
from chunks import assert_same, chunked, lengths
from scipy.sparse import csr_array
from settings import plain_classifier
from sklearn.base import clone

from skimprint import FoundationEmbedder, ImprintClassifier, ImprintClassifierCV

dask = pytest.importorskip("dask", reason="needs skimprint[dask]")
da = pytest.importorskip("dask.array", reason="needs skimprint[dask]")
on_dask = pytest.importorskip("skimprint.dask", reason="needs skimprint[dask]")


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


class ErrorOfTwo(ValueError):
    """What cannot be made of a message alone."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def colours(pictures):
    return [np.asarray(picture).mean(axis=(0, 1)) for picture in pictures]


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
                call(clf, chunked(X, [500]), csr_array(np.eye(500)))
            with pytest.raises(ValueError, match="y must have a value for each"):
                call(clf, chunked(X, [500]), None)
            for rows in (da.ones(500), da.ones(()), da.ones((500, 8, 8))):
                with pytest.raises(ValueError, match=f"got .* with {rows.ndim} dim"):
                    call(clf, rows, y)
            for name in ("y", "sample_weight"):
                given = {"y": y, name: da.ones(())}
                with pytest.raises(ValueError, match=f"^{name} must have a value for"):
                    call(clf, chunked(X, [500]), **given)
        for rows in (later, bag):
            with pytest.raises(TypeError, match="X must be a dask array"):
                on_dask.predict(clf, rows)
        with pytest.raises(ValueError, match="got an array with 1 dimensions"):
            on_dask.predict(clf, da.ones(64))

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
