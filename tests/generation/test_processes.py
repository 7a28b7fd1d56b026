"""Proxies are the same, to the bit, whoever of joblib's workers generates them."""

import pickle

import numpy as np
import pytest
from joblib import parallel_config
from numpy.testing import assert_array_equal
from sklearn.cluster import BisectingKMeans

from skimprint import ImprintClassifier
from skimprint._arrays.groups import GroupedRows
from skimprint.generation import KMeansProxies, _processes


def last(X, n_proxies, random_state):
    """A generator of the user's own."""
    return X[-n_proxies:]


GENERATORS = [
    "kmeans",
    "kmedoids",
    "fps",
    "least_squares",
    "all",
    BisectingKMeans(random_state=0),
    last,
]


@pytest.fixture(autouse=True)
def small_is_enough(monkeypatch):
    monkeypatch.setattr(_processes, "_LEAST_BYTES", 0)


@pytest.fixture
def calls(monkeypatch):
    """Number of processes that classes were spread over, call by call."""
    found = []
    generate = _processes.generate_in_processes

    def noted(generator, support, numbers, n, **options):
        found.append(n)
        return generate(generator, support, numbers, n, **options)

    monkeypatch.setattr("skimprint.generation._base.generate_in_processes", noted)
    return found


def blobs(n_classes=7, n=30, d=5, dtype=np.float32):
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n_classes * n)
    X = rng.normal(size=(len(y), d)) + y[:, None]
    return X.astype(dtype), y, rng.integers(3, size=len(y))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "generator", GENERATORS, ids=lambda each: getattr(each, "__name__", str(each))
)
def test_processes_give_the_same_bits(generator, dtype, calls):
    X, y, weights = blobs(dtype=dtype)
    clf = ImprintClassifier(generator, n_proxies=3, random_state=0)
    one = clf.fit(X, y, sample_weight=weights)
    expected = one.proxies_, one.proxy_indices_, one.predict_proba(X)
    with parallel_config("loky", n_jobs=2):
        two = clf.fit(X, y, sample_weight=weights)
    assert calls == ([] if generator == "all" else [2])
    for found, known in zip(
        (two.proxies_, two.proxy_indices_, two.predict_proba(X)), expected, strict=True
    ):
        assert_array_equal(found, known)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_processes_that_joblib_forks(calls):
    X, y, _ = blobs()
    expected = ImprintClassifier(random_state=0).fit(X, y)
    with parallel_config("multiprocessing", n_jobs=2):
        found = ImprintClassifier(random_state=0).fit(X, y)
    assert calls == [2]
    assert_array_equal(found.proxies_, expected.proxies_)


def test_processes_learn_parts(calls):
    X, y, _ = blobs()
    half = len(X) // 2

    def learnt(n_jobs):
        clf = ImprintClassifier(n_proxies=3, random_state=0, n_jobs=n_jobs)
        for part in (slice(half), slice(half, None)):
            clf.partial_fit(X[part], y[part], classes=np.unique(y))
        return clf.predict_proba(X)

    expected = learnt(1)
    with parallel_config("loky"):
        assert_array_equal(learnt(2), expected)
    assert set(calls) == {2}


def test_rows_of_a_file_are_mapped(tmp_path, calls):
    X, y, _ = blobs()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = ImprintClassifier(random_state=0).fit(X, y)
    with parallel_config("loky", n_jobs=2):
        found = ImprintClassifier(random_state=0).fit(mapped, y)
    assert calls == [2]
    assert_array_equal(found.proxies_, expected.proxies_)


def test_rows_are_arguments_themselves(monkeypatch, calls):
    """Joblib's backend of dask would send what is in an argument with each part."""
    sizes = []

    class Noted(_processes.Parallel):
        def __call__(self, tasks):
            tasks = list(tasks)
            for _, args, _ in tasks:
                rest = [arg for arg in args if arg is not X]
                sizes.append(len(pickle.dumps(rest)))
            return super().__call__(tasks)

    monkeypatch.setattr(_processes, "Parallel", Noted)
    X, y, _ = blobs(n=60, d=50)
    with parallel_config("loky", n_jobs=2):
        KMeansProxies().learn_each(GroupedRows(X, y, 7), [np.full(7, 2)], seed=0)
    assert calls == [2]
    assert max(sizes) < X.nbytes / 4


@pytest.mark.parametrize("backend, n_jobs", [("threading", 2), ("loky", 1), (None, 2)])
def test_threads_do_the_rest(backend, n_jobs, calls):
    X, y, _ = blobs()
    settings = {"n_jobs": n_jobs} if backend is None else {"backend": backend}
    with parallel_config(**settings):
        ImprintClassifier(random_state=0, n_jobs=n_jobs).fit(X, y)
    assert calls == []


def test_small_fits_stay_here(monkeypatch, calls):
    monkeypatch.setattr(_processes, "_LEAST_BYTES", blobs()[0].nbytes + 1)
    X, y, _ = blobs()
    with parallel_config("loky", n_jobs=2):
        ImprintClassifier(random_state=0).fit(X, y)
    assert calls == []


def test_errors_of_a_process_come_through():
    def wrong(X, n_proxies, random_state):
        raise ZeroDivisionError("of mine")

    X, y, _ = blobs()
    with (
        parallel_config("loky", n_jobs=2),
        pytest.raises(ZeroDivisionError, match="of"),
    ):
        ImprintClassifier(wrong, random_state=0).fit(X, y)


def test_several_numbers_of_proxies(calls):
    X, y, _ = blobs()
    groups, numbers, done = GroupedRows(X, y, 7), [np.full(7, 2), np.full(7, 4)], []
    expected = KMeansProxies().learn_each(groups, numbers, seed=0)
    with parallel_config("loky", n_jobs=2):
        found = KMeansProxies().learn_each(
            groups, numbers, seed=0, progress=done.append
        )
    assert calls == [2]
    assert sum(done) == 7 * len(numbers)
    for one, other in zip(found, expected, strict=True):
        for few, same in zip(one, other, strict=True):
            assert_array_equal(few.offsets, same.offsets)
            for array, known in zip(few.values, same.values, strict=True):
                assert_array_equal(array, known)
