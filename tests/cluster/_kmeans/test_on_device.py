"""k-means on another device, by any library of the array API."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from skimprint._arrays.device import DeviceArray
from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import grouped_kmeans, on_device
from skimprint.cluster._kmeans.on_device import kmeans_on_device
from skimprint.normalization import NORMS

SIZES = [90, 100, 5, 400, 430, 1, 3000]
FIELDS = ("centers", "indices", "counts", "spreads", "inertia")


@pytest.fixture(params=["array_api_strict", "torch"])
def there(request):
    """From an ndarray to rows that count as being on another device."""
    xp = pytest.importorskip(request.param, reason=f"needs {request.param}")
    return lambda X: DeviceArray(xp.asarray(X))


def data(sizes=SIZES, d=12, seed=0, dtype=np.float64):
    """Blobs, eight in each group, in mixed order."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    blobs = rng.normal(size=(len(sizes), 8, d)) * 3
    X = blobs[codes, rng.integers(8, size=len(codes))]
    return (X + rng.normal(size=X.shape)).astype(dtype), codes


def grouped(X, codes, **options):
    return GroupedRows(X, codes, codes.max() + 1, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transform", [None, *NORMS.values()])
def test_what_it_returns_belongs_together(there, transform, dtype):
    X, codes = data(dtype=dtype)
    found = kmeans_on_device(grouped(there(X), codes, transform=transform), 7, seed=0)
    assert found.centers.dtype == dtype
    groups = grouped(X, codes, transform=transform)
    for c in range(len(SIZES)):
        part = slice(found.offsets[c], found.offsets[c + 1])
        rows, centers = groups.rows(c), found.centers[part]
        distances = ((rows[:, None] - centers) ** 2).sum(axis=2)
        atol = 1e-3 if dtype == np.float32 else 1e-9
        np.testing.assert_allclose(
            found.inertia[c], distances.min(axis=1).sum(), rtol=1e-4, atol=atol
        )
        np.testing.assert_allclose(
            found.spreads[part], distances.min(axis=0), rtol=1e-3, atol=atol
        )
        nearest = groups.indices(c)[distances.argmin(axis=0)]
        np.testing.assert_array_equal(found.indices[part], nearest)
        counts = np.bincount(distances.argmin(axis=1), minlength=len(centers))
        assert np.abs(found.counts[part] - counts).sum() <= 2  # ties in float32


def test_small_groups_get_the_centres_of_the_host(there):
    """The same draws in the same way, so the same clusters, but for rounding."""
    X, codes = data(sizes=[60, 64, 70, 4])
    found = kmeans_on_device(grouped(there(X), codes), 6, seed=3, n_init=2)
    expected = grouped_kmeans(grouped(X, codes), 6, seed=3, n_init=2)
    np.testing.assert_allclose(found.centers, expected.centers, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.inertia, expected.inertia, rtol=1e-9)


def test_inertia_is_that_of_scikit_learn(there):
    X, codes = data(sizes=[1500], d=16)
    groups = grouped(there(X), codes)
    ours = [kmeans_on_device(groups, 20, seed=s).inertia[0] for s in range(6)]
    theirs = [KMeans(20, random_state=s).fit(X).inertia_ for s in range(6)]
    assert np.mean(ours) <= 1.01 * np.mean(theirs)


def test_more_runs_are_no_worse(there):
    X, codes = data()
    groups = grouped(there(X), codes)
    once = kmeans_on_device(groups, 6, seed=0).inertia
    best = kmeans_on_device(groups, 6, seed=0, n_init=4).inertia
    assert (best <= once * (1 + 1e-9)).all()
    assert best.sum() < once.sum()


def test_same_bits_in_two_runs(there):
    X, codes = data(dtype=np.float32)
    groups = grouped(there(X), codes)
    first, second = (kmeans_on_device(groups, 9, seed=1) for _ in range(2))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_buckets_change_rounding_only(there, monkeypatch):
    X, codes = data()
    whole = kmeans_on_device(grouped(there(X), codes), 5, seed=0)
    monkeypatch.setattr(on_device, "_BUCKET_BYTES", 1)  # every group by itself
    single = kmeans_on_device(grouped(there(X), codes), 5, seed=0)
    for name in FIELDS:
        np.testing.assert_allclose(
            getattr(whole, name), getattr(single, name), rtol=1e-7, atol=1e-9
        )


def test_weights_are_repetitions(there):
    X, codes = data(sizes=[50, 60])
    weights = np.random.default_rng(1).integers(1, 4, len(X))
    weighted = kmeans_on_device(
        grouped(there(X), codes, sample_weight=weights.astype(float)), 1, seed=0
    )
    repeated = kmeans_on_device(
        grouped(there(np.repeat(X, weights, axis=0)), np.repeat(codes, weights)),
        1,
        seed=0,
    )
    np.testing.assert_allclose(weighted.centers, repeated.centers, rtol=1e-10)
    np.testing.assert_allclose(weighted.inertia, repeated.inertia, rtol=1e-10)
    np.testing.assert_allclose(weighted.counts, repeated.counts)


def test_spherical_centres_have_unit_length(there):
    X, codes = data()
    found = kmeans_on_device(grouped(there(X), codes), 5, seed=0, spherical=True)
    np.testing.assert_allclose(np.linalg.norm(found.centers, axis=1), 1)
    expected = grouped_kmeans(grouped(X, codes), 5, seed=0, spherical=True)
    assert found.inertia.sum() <= 1.05 * expected.inertia.sum()


def test_spherical_centres_of_little_weight_have_unit_length(there):
    kind = np.arange(30) % 3
    weights = np.array([1, 1e-10, 1e-20])[kind]
    groups = grouped(there(np.eye(3)[kind]), np.zeros(30, int), sample_weight=weights)
    found = kmeans_on_device(groups, 3, seed=0, spherical=True)
    np.testing.assert_allclose(found.centers.sum(axis=0), 1)


def test_fewer_distinct_rows_than_clusters(there):
    X = np.repeat(np.eye(3), 20, axis=0)
    codes = np.zeros(60, int)
    found = kmeans_on_device(grouped(there(X), codes), 5, seed=0)
    assert np.isfinite(found.centers).all()
    np.testing.assert_allclose(found.inertia, 0, atol=1e-12)


def test_empty_clusters_are_refilled(there, monkeypatch):
    """Seeds that all are one row leave clusters empty, which then get rows."""
    X, codes = data(sizes=[80], d=4)
    monkeypatch.setattr(
        on_device,
        "_seed",
        lambda stack, k, rng: stack.xp.zeros(stack.weights.shape, dtype=stack.xp.int64),
    )
    found = kmeans_on_device(grouped(there(X), codes), 6, seed=0)
    assert (found.counts > 0).all()


def test_progress_counts_all_groups(there):
    X, codes = data()
    told = []
    kmeans_on_device(grouped(there(X), codes), 5, seed=0, progress=told.append)
    assert sum(told) == len(SIZES)


def test_functions_of_the_user_need_the_host(there):
    X, codes = data(sizes=[10])
    assert on_device.is_possible(grouped(there(X), codes, transform=NORMS["l2"]))
    assert not on_device.is_possible(grouped(there(X), codes, transform=np.sqrt))
    assert not on_device.is_possible(grouped(X, codes))
