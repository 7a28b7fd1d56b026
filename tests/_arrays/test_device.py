"""Arrays of other namespaces and devices, with NumPy as the oracle."""

import pickle
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
import sklearn
from array_api_compat import array_namespace
from settings import plain_classifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skimprint import Rejection
from skimprint._arrays.device import (
    DeviceArray,
    have_negative,
    in_halves,
    like_input,
    readable,
    to_host,
)
from skimprint.metrics import neural_collapse_score, variability_collapse_index

SETTINGS = {
    "default": {},
    "mean": {"generator": "mean"},
    "least squares": {"generator": "least_squares", "n_proxies": 1},
    "ragged": {"n_proxies": {c: 1 + 3 * (c % 3) for c in range(10)}},
    "very ragged": {"n_proxies": {c: 1 if c else 20 for c in range(10)}},
    "whitened": {"whitening": 0.3, "mean_weight": 0.5, "n_proxies": 3},
    "whitened, roots": {
        "whitening": "auto",
        "support_norm": "auto",
        "query_norm": "auto",
    },
    "whitened, no norm": {"generator": "mean", "whitening": 0.5, "query_norm": None},
    "kernel": {"kernel_weight": 0.5, "n_proxies": 3},
    "cosine": {"metric": "cosine", "query_norm": None},
    "whitened, cosine": {"metric": "cosine", "whitening": 0.5},
    "euclidean": {"metric": "euclidean"},
    "whitened, euclidean": {"metric": "euclidean", "whitening": 0.9, "n_proxies": 2},
    "mahalanobis": {"generator": "mean", "metric": "mahalanobis"},
    "manhattan": {"metric": "manhattan", "n_proxies": 2},
    "votes": {"generator": "all", "aggregation": "mnn"},
    "function": {"query_norm": lambda X: X / np.abs(X).max(axis=1, keepdims=True)},
    "calibrated": {"generator": "mean", "temperature": "auto"},
    "outliers": {"rejection": Rejection(-1, threshold=0.6)},
    "contrast": {"rejection": Rejection(-1, threshold=0.3, score="contrast")},
}
METHODS = (
    "predict",
    "decision_function",
    "predict_proba",
    "predict_log_proba",
    "score_samples",
    "kproxies",
)


@pytest.fixture(scope="module")
def split(digits):
    X, y = digits
    return train_test_split(X[:, ::8], y, test_size=0.4, stratify=y, random_state=0)


def results(clf, X):
    """What each method returns, one array after the other."""
    found = {name: getattr(clf, name)(X) for name in METHODS}
    found["similarities"], found["kproxies"] = found["kproxies"]
    return found


def in_numpy(params, X, y, queries):
    with sklearn.config_context(array_api_dispatch=False):
        clf = plain_classifier(random_state=0, **params).fit(X, y)
        return clf, results(clf, queries)


@pytest.mark.parametrize("setting", SETTINGS)
def test_results_follow_X_and_equal_those_of_numpy(xp, setting, split):
    X, queries, y, _ = split
    reference, expected = in_numpy(SETTINGS[setting], X, y, queries)
    clf = plain_classifier(random_state=0, **SETTINGS[setting]).fit(xp(X), xp(y))
    np.testing.assert_allclose(clf.proxies_, reference.proxies_, rtol=1e-4, atol=1e-6)
    for name, result in results(clf, xp(queries)).items():
        assert xp.owns(result), name
        assert to_host(result).dtype == expected[name].dtype, name
        np.testing.assert_allclose(
            to_host(result), expected[name], rtol=2e-4, atol=2e-5, err_msg=name
        )


@pytest.mark.parametrize("setting", SETTINGS)
def test_torch_as_if_elsewhere(nothing_on_host, setting, split, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, queries, y, _ = split
    _, expected = in_numpy(SETTINGS[setting], X, y, queries)
    with sklearn.config_context(array_api_dispatch=True):
        clf = plain_classifier(random_state=0, **SETTINGS[setting])
        clf.fit(torch.asarray(X), torch.asarray(y))
        found = results(clf, torch.asarray(queries))
    for name, result in found.items():
        assert isinstance(result, torch.Tensor)
        np.testing.assert_allclose(
            result.numpy(), expected[name], rtol=2e-4, atol=2e-5, err_msg=name
        )


def test_whitening_in_few_directions(nothing_on_host, split, monkeypatch):
    """Of few samples, the basis of what varies is smaller than all features."""
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, queries, y, _ = split
    X, y = X[:30], y[:30]
    params = {"whitening": 0.5, "metric": "euclidean"}
    _, expected = in_numpy(params, X, y, queries)
    with sklearn.config_context(array_api_dispatch=True):
        clf = plain_classifier(random_state=0, **params)
        clf.fit(torch.asarray(X), torch.asarray(y))
        scores = clf.decision_function(torch.asarray(queries))
    np.testing.assert_allclose(
        scores.numpy(), expected["decision_function"], rtol=2e-4, atol=2e-5
    )


def test_text_labels_give_numpy_predictions(xp, split):
    X, queries, y, y_queries = split
    names = np.array(list("abcdefghij"))
    clf = plain_classifier(random_state=0).fit(xp(X), names[y])
    predicted = clf.predict(xp(queries))
    assert isinstance(predicted, np.ndarray)
    assert clf.score(xp(queries), names[y_queries]) > 0.8
    assert xp.owns(clf.predict_proba(xp(queries)))


@pytest.mark.parametrize("dtype", ["i4", "u2", "f4", "f8"])
def test_labels_of_any_byte_order(xp, split, dtype):
    X, queries, y, _ = split
    y = y.astype(np.dtype(dtype).newbyteorder())
    clf = plain_classifier("mean").fit(xp(X), y)
    assert clf.classes_.dtype == dtype
    expected = plain_classifier("mean").fit(X, y).predict(queries)
    np.testing.assert_array_equal(to_host(clf.predict(xp(queries))), expected)


def test_learns_and_forgets(xp, split):
    X, queries, y, _ = split
    first, last = y < 5, y >= 5
    clf = plain_classifier("mean").partial_fit(xp(X[first]), xp(y[first]))
    weights = np.ones(last.sum(), np.float32)
    clf.partial_fit(xp(X[last]), xp(y[last]), xp(np.arange(10)), xp(weights))
    clf.forget(xp(np.array([3, 4])))
    kept = ~np.isin(y, [3, 4])
    expected = plain_classifier("mean").fit(X[kept], y[kept])
    np.testing.assert_allclose(clf.proxies_, expected.proxies_, rtol=1e-5, atol=1e-7)
    predicted = clf.predict(xp(queries))
    np.testing.assert_array_equal(to_host(predicted), expected.predict(queries))


def test_labels_and_weights_may_be_anywhere(xp, split):
    """Only ``X`` says where results go; a class without any weight has no proxies."""
    X, queries, y, _ = split
    weights = 1.0 + np.arange(len(y)) % 3
    expected = plain_classifier("mean").fit(X, y, weights).decision_function(queries)
    for y_there, weights_there in ((y, xp(weights)), (xp(y), weights)):
        clf = plain_classifier("mean").fit(xp(X), y_there, weights_there)
        np.testing.assert_allclose(
            to_host(clf.decision_function(xp(queries))), expected, rtol=2e-4, atol=2e-5
        )
    np.testing.assert_allclose(
        clf.decision_function(queries), expected, rtol=2e-4, atol=2e-5
    )
    weights[y == 4] = 0
    clf.fit(xp(X), xp(y), xp(weights))
    np.testing.assert_array_equal(clf.classes_, np.arange(10))
    assert 4 not in clf.proxy_labels_
    expected = plain_classifier("mean").fit(X[y != 4], y[y != 4], weights[y != 4])
    np.testing.assert_array_equal(
        to_host(clf.predict(xp(queries))), expected.predict(queries)
    )


def test_what_was_learnt_goes_anywhere(xp, split):
    """Fitted on any device, pickled, and loaded where there is only NumPy."""
    X, queries, y, _ = split
    clf = plain_classifier(random_state=0).fit(xp(X), xp(y))
    there = to_host(clf.predict(xp(queries)))
    with sklearn.config_context(array_api_dispatch=False):
        loaded = pickle.loads(pickle.dumps(clf))
        np.testing.assert_array_equal(loaded.predict(queries), there)
    assert xp.owns(loaded.predict(xp(queries)))


def test_pipeline(xp, split):
    X, queries, y, _ = split
    clf = make_pipeline(plain_classifier("mean")).fit(xp(X), xp(y))
    assert xp.owns(clf.predict(xp(queries)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtypes_of_scores(xp, dtype, split):
    X, queries, y, _ = split
    if not hasattr(xp.xp, dtype):
        pytest.skip(f"{xp.xp.__name__} has no {dtype}")
    clf = plain_classifier("mean").fit(xp(X.astype(dtype)), xp(y))
    scores = clf.decision_function(xp(queries.astype(dtype)))
    expected = np.float64 if dtype == "float64" else np.float32
    assert to_host(scores).dtype == expected


def as_table(library, dtype):
    """A function that makes a table of an array, whose columns have a dtype."""

    def make(X):
        module = pytest.importorskip(library)
        if library == "polars":
            return module.DataFrame(X.astype(dtype))
        pytest.importorskip("pyarrow")
        return module.DataFrame(X).astype(dtype)

    return make


def as_tensor(dtype):
    def make(X):
        torch = pytest.importorskip("torch", reason="needs torch")
        return torch.from_numpy(X).to(getattr(torch, dtype))

    return make


@pytest.mark.parametrize(
    "make, expected",
    [
        (list, "float32"),
        (np.ndarray.tolist, "float64"),
        (lambda X: list(X.astype(float)), "float64"),
        (lambda X: [*X[:-1], X[-1].astype(float)], "float64"),
        (as_table("polars", "float32"), "float32"),
        (as_table("polars", "float64"), "float64"),
        (as_table("pandas", "float32"), "float32"),
        (as_table("pandas", "float64"), "float64"),
        (as_table("pandas", "float32[pyarrow]"), "float32"),
        (as_table("pandas", "float64[pyarrow]"), "float64"),
        (as_tensor("float32"), "float32"),
        (as_tensor("float16"), "float32"),
        (as_tensor("float64"), "float64"),
    ],
)
def test_float32_stays_float32_in_tables_tensors_and_lists(split, make, expected):
    X, _, y, _ = split
    X = X[:, ::32].astype(np.float32)
    clf = plain_classifier("mean").fit(make(X), y)
    assert clf.proxies_.dtype == expected
    assert clf.decision_function(make(X)).dtype == expected


def test_bfloat16_counts_as_float32(split, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, queries, y, _ = split
    X, queries = (torch.asarray(rows).to(torch.bfloat16) for rows in (X, queries))
    expected = plain_classifier("mean").fit(X.float(), y).predict(queries.float())
    with sklearn.config_context(array_api_dispatch=True):
        clf = plain_classifier("mean").fit(X, y)
        assert clf.proxies_.dtype == np.float32
        np.testing.assert_array_equal(clf.predict(queries).numpy(), expected)


def test_labels_and_weights_may_be_bfloat16(split, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    X, queries, y, _ = split
    weights = torch.asarray(1.0 + np.arange(len(y)) % 3)
    expected = plain_classifier("mean").fit(X, y, weights.numpy()).predict(queries)
    for dispatch in (False, True):
        with sklearn.config_context(array_api_dispatch=dispatch):
            clf = plain_classifier("mean").fit(
                torch.asarray(X),
                torch.asarray(y).to(torch.bfloat16),
                weights.to(torch.bfloat16),
            )
            predicted = clf.predict(torch.asarray(queries))
        np.testing.assert_array_equal(to_host(predicted), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite_is_an_error(xp, method, value, split):
    X, queries, y, _ = split
    clf = plain_classifier("mean").fit(xp(X), xp(y))
    queries = queries.copy()
    queries[3, 5] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        getattr(clf, method)(xp(queries))
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        clf.fit(xp(queries), xp(np.arange(len(queries)) % 3))
    assert len(clf.classes_) == 10


def test_wrong_width_is_an_error(xp, split):
    X, queries, y, _ = split
    clf = plain_classifier("mean").fit(xp(X), xp(y))
    with pytest.raises(ValueError, match="features"):
        clf.predict(xp(queries[:, :-1]))


@pytest.mark.parametrize("metric", [neural_collapse_score, variability_collapse_index])
def test_metrics(xp, metric, split):
    X, _, y, _ = split
    assert metric(xp(X), xp(y)) == pytest.approx(metric(X, y), rel=1e-6)
    each = metric(xp(X), xp(y), average=None)
    assert xp.owns(each)
    np.testing.assert_allclose(to_host(each), metric(X, y, average=None), rtol=1e-6)


def test_rows_elsewhere_come_when_asked_for(xp):
    X = np.arange(12, dtype=np.float32).reshape(4, 3)
    rows = readable(xp(X))
    if isinstance(rows, DeviceArray):
        assert rows.shape == X.shape
        assert len(rows) == 4
        assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows[1:3], X[1:3])
    np.testing.assert_array_equal(rows[np.array([3, 0])], X[[3, 0]])


def test_without_dispatch_results_are_numpy(split):
    torch = pytest.importorskip("torch", reason="needs torch")
    X, queries, y, _ = split
    clf = plain_classifier("mean").fit(torch.asarray(X), torch.asarray(y))
    assert isinstance(clf.predict(torch.asarray(queries)), np.ndarray)
    assert like_input(torch.asarray(X), np.ones(2)).__class__ is np.ndarray


class TestProxiesStayOnTheDevice:
    @pytest.fixture
    def fitted(self, nothing_on_host, split, monkeypatch):
        """A classifier, queries of PyTorch, and the bytes that are sent to it."""
        torch = pytest.importorskip("torch", reason="needs torch")
        monkeypatch.setenv("SCIPY_ARRAY_API", "1")
        X, queries, y, _ = split
        sent = []
        bring = DeviceArray.bring

        def counted(self, array):
            sent.append(0 if array is None else array.nbytes)
            return bring(self, array)

        monkeypatch.setattr(DeviceArray, "bring", counted)
        with sklearn.config_context(array_api_dispatch=True):
            clf = plain_classifier("mean", whitening=0.3)
            yield clf.fit(X[y < 8], y[y < 8]), torch.asarray(queries), sent

    def test_and_are_sent_once(self, fitted):
        clf, queries, sent = fitted
        clf.predict(queries[:1])
        clf.score_samples(queries[:1])
        assert sum(sent) > clf.proxies_.nbytes
        sent.clear()
        clf.predict(queries[:1])
        clf.decision_function(queries[:1])
        clf.score_samples(queries[:1])
        assert sum(sent) < 1000

    def test_until_more_is_learnt_or_asked_for(self, fitted, split):
        clf, queries, _ = fitted
        X, _, y, _ = split
        for change in (
            lambda: clf.partial_fit(X[y >= 8], y[y >= 8]),
            lambda: clf.forget(3),
            lambda: clf.set_params(metric="euclidean").fit(X, y),
            lambda: clf.set_params(query_norm=None).fit(X, y),
        ):
            clf.decision_function(queries)
            change()
            np.testing.assert_allclose(
                clf.decision_function(queries).numpy(),
                clf.decision_function(queries.numpy()),
                rtol=1e-3,
                atol=2e-4,
            )

    def test_but_are_not_pickled(self, fitted):
        clf, queries, _ = fitted
        scores = clf.decision_function(queries)
        assert b"torch" not in pickle.dumps(clf)
        again = pickle.loads(pickle.dumps(clf)).decision_function(queries)
        np.testing.assert_array_equal(again.numpy(), scores.numpy())


class TestDevice:
    @pytest.fixture
    def gpu(self, monkeypatch):
        """PyTorch's CPU in the place of a GPU."""
        torch = pytest.importorskip("torch", reason="needs torch")
        found = []

        def find(number):
            found.append(number)
            return array_namespace(torch.empty(0)), "cpu"

        monkeypatch.setattr("skimprint._arrays.device._find_gpu", find)
        return found

    @pytest.mark.parametrize("setting", SETTINGS)
    @pytest.mark.parametrize("device", ["cuda", "auto"])
    def test_numpy_in_numpy_out(self, gpu, device, setting, split):
        X, queries, y, _ = split
        _, expected = in_numpy(SETTINGS[setting], X, y, queries)
        clf = plain_classifier(random_state=0, device=device, **SETTINGS[setting])
        found = results(clf.fit(X, y), queries)
        assert gpu
        for name, result in found.items():
            assert isinstance(result, np.ndarray)
            np.testing.assert_allclose(
                result, expected[name], rtol=2e-4, atol=2e-5, err_msg=name
            )

    def test_number_of_the_gpu(self, gpu, split):
        X, _, y, _ = split
        plain_classifier("mean", device="cuda:3").fit(X, y)
        assert set(gpu) == {3}

    def test_what_is_not_finite_is_an_error(self, gpu, split):
        X, queries, y, _ = split
        clf = plain_classifier("mean", device="cuda").fit(X, y)
        queries = queries.copy()
        queries[0, 0] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            clf.predict(queries)

    def test_a_missing_gpu_is_an_error_and_auto_does_without(self, split, monkeypatch):
        monkeypatch.setattr("skimprint._arrays.device._find_gpu", lambda number: None)
        X, queries, y, _ = split
        with pytest.raises(RuntimeError, match="pip install cupy"):
            plain_classifier("mean", device="cuda").fit(X, y)
        clf = plain_classifier("mean", device="auto").fit(X, y)
        expected = plain_classifier("mean", device="cpu").fit(X, y).predict(queries)
        np.testing.assert_array_equal(clf.predict(queries), expected)

    def test_learnt_on_a_gpu_predicts_without(self, gpu, split, monkeypatch):
        X, queries, y, _ = split
        clf = plain_classifier("mean", device="auto").fit(X, y)
        expected = clf.predict(queries)
        monkeypatch.setattr("skimprint._arrays.device._find_gpu", lambda number: None)
        loaded = pickle.loads(pickle.dumps(clf))
        np.testing.assert_array_equal(loaded.predict(queries), expected)

    @pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "mps"])
    def test_a_device_of_no_kind(self, device, split):
        X, _, y, _ = split
        with pytest.raises(ValueError, match="device must be"):
            plain_classifier(device=device).fit(X, y)

    @pytest.mark.parametrize("device", ["gpu", "", 0, 5, False, ["cpu"]])
    def test_a_device_of_no_kind_that_is_set_after_fit(self, device, split):
        X, _, y, _ = split
        clf = plain_classifier("mean").fit(X, y).set_params(device=device)
        with pytest.raises(ValueError, match="device must be"):
            clf.predict(X)


class TestMemory:
    """A device that has memory for a few items only."""

    @staticmethod
    def scarce(work, most):
        """The work, which fails where it is for more items than that."""
        done = []

        def run(items):
            if len(items) > most:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
            done.extend(items)
            return work(items)

        return run, done

    @pytest.mark.parametrize("most", [1, 3, 100])
    def test_halves_of_halves(self, most):
        run, done = self.scarce(list, most)
        found = in_halves(run, range(10))
        assert done == [item for part in found for item in part] == list(range(10))

    def test_not_even_one(self):
        run, _ = self.scarce(lambda items: None, 0)
        with pytest.raises(
            MemoryError, match="not have enough memory for a class or query"
        ):
            in_halves(run, range(4))

    @pytest.mark.parametrize("is_available", [False, True])
    def test_cupy_gives_memory_back_where_there_is_a_gpu(
        self, is_available, monkeypatch
    ):
        cupy = MagicMock()
        cupy.cuda.is_available.return_value = is_available
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        run, done = self.scarce(list, 1)
        in_halves(run, range(2))
        assert done == [0, 1]
        assert cupy.get_default_memory_pool.called == is_available

    def test_other_errors_stay(self):
        def fail(items):
            raise RuntimeError("illegal memory access")

        with pytest.raises(RuntimeError, match="illegal"):
            in_halves(fail, range(4))

    def test_fit_and_predict(self, nothing_on_host, split, monkeypatch):
        torch = pytest.importorskip("torch", reason="needs torch")
        monkeypatch.setenv("SCIPY_ARRAY_API", "1")
        X, queries, y, _ = split
        _, expected = in_numpy({}, X, y, queries)
        attempts = []

        def scarcely(work, items):
            run, done = self.scarce(work, 4)
            found = in_halves(run, items)
            attempts.append(done)
            return found

        monkeypatch.setattr("skimprint.cluster._kmeans.on_device.in_halves", scarcely)
        monkeypatch.setattr("skimprint._scoring.similarity.in_halves", scarcely)
        with sklearn.config_context(array_api_dispatch=True):
            clf = plain_classifier(random_state=0)
            clf.fit(torch.asarray(X), torch.asarray(y))
            scores = clf.decision_function(torch.asarray(queries))
        assert attempts
        np.testing.assert_allclose(
            scores.numpy(), expected["decision_function"], rtol=2e-4, atol=2e-5
        )

    def test_an_error_leaves_the_old_model(self, nothing_on_host, split, monkeypatch):
        torch = pytest.importorskip("torch", reason="needs torch")
        monkeypatch.setenv("SCIPY_ARRAY_API", "1")
        X, queries, y, _ = split
        clf = plain_classifier(random_state=0).fit(X, y)
        expected = clf.predict(queries)

        def fail(*args):
            raise torch.OutOfMemoryError("CUDA out of memory.")

        monkeypatch.setattr("skimprint.cluster._kmeans.on_device._gather", fail)
        with sklearn.config_context(array_api_dispatch=True):
            for learn in (clf.fit, clf.partial_fit):
                with pytest.raises(MemoryError, match="not have enough memory"):
                    learn(torch.asarray(X), torch.asarray(y + 100))
        np.testing.assert_array_equal(clf.predict(queries), expected)


@pytest.mark.parametrize("library", ["numpy", "array_api_strict", "torch"])
def test_which_rows_have_a_negative_value(library):
    xp = pytest.importorskip(library, reason=f"needs {library}")
    X = np.array([[0.0, 1.0], [-1.0, 2.0], [3.0, -0.0], [4.0, 5.0]])
    there = X if xp is np else DeviceArray(xp.asarray(X))
    assert have_negative(there, slice(0, 3)).tolist() == [False, True, False]
    assert have_negative(there, slice(2, 4)).tolist() == [False, False]
