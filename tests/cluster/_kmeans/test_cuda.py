"""k-means on CUDA: the kernels run on the host, thread by thread, beside our engine."""

import numpy as np
import pytest
from compilers import nvcc, nvrtc
from emulated import Emulated, kernels

from skimprint._arrays.device import DeviceArray
from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import cuda, grouped_kmeans
from skimprint.cluster._kmeans.on_device import kmeans_on_device
from skimprint.normalization import IDENTITY, NORMS


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    return Emulated(tmp_path_factory.mktemp("kernels"))


def data(sizes, d, seed=0):
    """Blobs, eight in each group."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    blobs = rng.normal(size=(len(sizes), 8, d)) * 2
    X = blobs[codes, rng.integers(8, size=len(codes))]
    return (X + rng.normal(size=X.shape)).astype(np.float32), codes


def clustered(gpu, X, codes, k, *, weights=None, norm=IDENTITY, order=None, **options):
    """The clusters by the kernels."""
    sizes = np.bincount(codes)
    settings = {"seed": 0, "n_init": 1, "max_iter": 300, "tol": 1e-4 / X.shape[1]}
    settings |= {"spherical": False, "weights": weights, "norm": norm} | options
    return cuda.cluster(gpu, X, order, sizes, k, **settings)


# What the routes of the host and the shapes of products differ in: few rows and many,
# more rows than a tile and more points than a block has, features that do not fill a
# stage. The numbers repeat, since each shape of a product is compiled. The host seeds
# the groups of a case in one way.
CASES = {
    "few rows": ([60, 64, 9], 24, 6, {}),
    "two runs": ([60, 64, 40], 24, 8, {"n_init": 2}),
    "many rows": ([900, 800], 40, 20, {}),
    "many clusters": ([256, 210], 33, 50, {}),
    "a single cluster": ([60, 30], 20, 1, {}),
    "on the sphere": ([60, 64], 24, 6, {"spherical": True}),
    "l2": ([60, 64], 24, 5, {"norm": NORMS["l2"]}),
    "square roots": ([60, 64], 24, 5, {"norm": NORMS["power"]}),
    "three iterations": ([800], 24, 20, {"max_iter": 3}),
}


@pytest.mark.parametrize("case", CASES)
def test_centres_are_those_of_the_host(gpu, case):
    sizes, d, k, options = CASES[case]
    X, codes = data(sizes, d)
    found = clustered(gpu, X, codes, k, **options)
    groups = GroupedRows(X, codes, len(sizes), transform=options.pop("norm", None))
    expected = grouped_kmeans(groups, k, seed=0, **options)
    if not {"max_iter", "n_init"} & set(options):  # of equal runs, either may be best
        np.testing.assert_allclose(found.centers, expected.centers, atol=1e-5)
    inertia = found.inertia.reshape(len(sizes), k).sum(axis=1)
    rtol = 0.05 if "max_iter" in options else 1e-5
    np.testing.assert_allclose(inertia, expected.inertia, rtol=rtol)


def test_what_it_returns_belongs_together(gpu):
    X, codes = data([80, 256], 24)
    weights = np.random.default_rng(0).integers(1, 4, len(X)).astype(float)
    order = np.random.default_rng(1).permutation(len(X))
    back = np.argsort(order)  # rows are in another order than their groups
    found = clustered(
        gpu, np.ascontiguousarray(X[back]), codes, 7, weights=weights, order=order
    )
    for g in range(2):
        rows, w = np.flatnonzero(codes == g), weights[codes == g]
        part = slice(7 * g, 7 * g + 7)
        distances = ((X[rows][:, None] - found.centers[part]) ** 2).sum(axis=2)
        nearest = distances.argmin(axis=1)
        np.testing.assert_array_equal(found.indices[part], rows[distances.argmin(0)])
        np.testing.assert_allclose(found.spreads[part], distances.min(0), rtol=1e-4)
        np.testing.assert_array_equal(
            found.counts[part], np.bincount(nearest, w, minlength=7)
        )
        np.testing.assert_allclose(
            found.inertia[part],
            np.bincount(nearest, w * distances.min(axis=1), minlength=7),
            rtol=1e-4,
        )


@pytest.mark.parametrize("spherical", [False, True])
def test_rows_whose_squares_overflow_have_unit_length(gpu, spherical):
    X, codes = data([60], 24)
    options = {"norm": IDENTITY if spherical else NORMS["l2"], "spherical": spherical}
    expected = clustered(gpu, X, codes, 5, **options)
    found = clustered(gpu, X * np.float32(1e25), codes, 5, **options)
    np.testing.assert_allclose(found.centers, expected.centers, atol=1e-5)


def test_fewer_distinct_rows_than_clusters(gpu):
    X = np.repeat(np.eye(3, 8, dtype=np.float32), 20, axis=0)
    found = clustered(gpu, X, np.zeros(60, int), 5)
    assert {tuple(center) for center in found.centers.round(6)} == set(map(tuple, X))
    assert found.counts.sum() == 60
    np.testing.assert_allclose(found.spreads, 0, atol=1e-6)


def test_empty_clusters_get_the_farthest_rows(gpu):
    """Of five equal seeds, all but one find no row, and one row is far from it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 8)).astype(np.float32)
    X[17] += 10
    work = cuda._Work(gpu, X, None, np.array([60]), 5, None, IDENTITY, False, 1e-5)
    work.seed(np.random.default_rng(0), 1)
    work.centers[:] = work.centers[0]
    work.center_squares[:] = work.center_squares[0]
    work.iterate(300)
    assert (work.members > 0).all()
    assert 17 in work.summarize().indices


def test_a_group_ends_where_its_centres_move_less_than_the_tolerance(gpu):
    X, codes = data([200], 24)
    loose = clustered(gpu, X, codes, 20, tol=1e9)
    once = clustered(gpu, X, codes, 20, max_iter=1)
    np.testing.assert_array_equal(loose.centers, once.centers)


def test_groups_do_not_depend_on_their_company(gpu):
    X, codes = data([256, 80, 250], 24)
    together = clustered(gpu, X, codes, 6)
    alone = clustered(gpu, X[codes == 2], np.zeros(250, int), 6)
    np.testing.assert_array_equal(together.centers[12:], alone.centers)


@pytest.mark.parametrize("spherical", [False, True])
def test_no_order_of_threads_changes_a_bit(gpu, spherical, monkeypatch):
    """Where threads race, what they find depends on which of them comes first."""
    X, codes = data([256, 60], 24)
    weights = np.random.default_rng(0).random(len(X)) + 0.5
    forth = clustered(gpu, X, codes, 6, weights=weights, spherical=spherical)
    monkeypatch.setattr(gpu, "reverse", True)
    back = clustered(gpu, X, codes, 6, weights=weights, spherical=spherical)
    for name in cuda.Clusters._fields:
        np.testing.assert_array_equal(getattr(forth, name), getattr(back, name))


def test_buckets_hold_every_group_once(monkeypatch):
    """Each holds groups that are seeded in one way: among all rows, or in a sample."""
    X, codes = data([300, 80, 250, 900, 81, 80], 8)
    groups = GroupedRows(X, codes, 6)
    n_centers = np.array([5, 5, 6, 5, 6, 5])
    for size in (1, 40_000, 2**31):
        monkeypatch.setattr(cuda, "_BUCKET_BYTES", size)
        buckets = list(cuda.buckets(groups, n_centers, np.arange(6), 1))
        assert sorted(np.concatenate(buckets)) == list(range(6))
        assert all(len(set(n_centers[bucket])) == 1 for bucket in buckets)
        assert size > 1 or len(buckets) == 6
        assert size < 2**31 or sorted(map(list, buckets)) == [
            [0, 1, 5],
            [2, 4],
            [3],
        ]


class Device:
    """What a CuPy array says of its device."""

    compute_capability = "90"

    def __enter__(self):
        pass

    def __exit__(self, *error):
        pass


class Array(np.ndarray):
    """An array of the host that takes itself for CuPy's."""

    device = Device()


@pytest.fixture
def on_cuda(gpu, monkeypatch):
    """From an ndarray to rows of PyTorch that seem to be on CUDA, with CuPy there."""
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setattr(
        DeviceArray, "on_cuda", lambda there: there.array.numpy().view(Array)
    )
    monkeypatch.setattr(cuda, "Cupy", lambda: gpu)
    monkeypatch.setattr(gpu, "launches", [])
    return lambda X: DeviceArray(torch.asarray(X))


@pytest.mark.parametrize("layout", ["C", "F", "float16"])
def test_engine_of_other_devices_uses_the_kernels(gpu, on_cuda, layout):
    """Classes of every kind: with few rows, no more than clusters, in any order."""
    rng = np.random.default_rng(0)
    X, codes = data([60, 4, 64, 40, 1], 24)
    mixed = rng.permutation(len(X))
    X, codes = X[mixed], codes[mixed]
    weights = rng.random(len(X)) + 0.5
    X = X.astype(layout) if layout == "float16" else np.asarray(X, order=layout)
    options = {"transform": NORMS["l2"], "sample_weight": weights}
    there = GroupedRows(on_cuda(X), codes, 5, **options)
    found = kmeans_on_device(there, 6, seed=0)
    assert "nearest" in gpu.launches
    groups = GroupedRows(X, codes, 5, **options)
    expected = grouped_kmeans(groups, 6, seed=0)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    np.testing.assert_allclose(found.centers, expected.centers, atol=1e-5)
    np.testing.assert_allclose(found.inertia, expected.inertia, rtol=1e-4, atol=1e-5)
    for g in range(5):
        part = slice(found.offsets[g], found.offsets[g + 1])
        assert set(codes[found.indices[part]]) == {g}
        total = weights[codes == g].sum()
        np.testing.assert_allclose(found.counts[part].sum(), total, rtol=1e-6)


def test_fewer_groups_at_a_time_where_memory_is_scarce(gpu, on_cuda, monkeypatch):
    X, codes = data([60, 40, 50, 45], 24)
    groups = GroupedRows(on_cuda(X), codes, 4)
    whole = kmeans_on_device(groups, 6, seed=0)
    cluster, sizes = cuda.cluster, []

    def scarcely(launch, X, order, sizes_, *args, **options):
        sizes.append(len(sizes_))
        if len(sizes_) > 1:
            raise MemoryError("out of memory")
        return cluster(launch, X, order, sizes_, *args, **options)

    monkeypatch.setattr(cuda, "cluster", scarcely)
    found = kmeans_on_device(groups, 6, seed=0)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    np.testing.assert_array_equal(found.centers, whole.centers)


def test_what_the_kernels_are_not_made_for(on_cuda, monkeypatch):
    X, codes = data([60, 64], 24)
    groups = GroupedRows(on_cuda(X), codes, 2)
    assert cuda.is_possible(groups, np.array([5, 5]))
    assert not cuda.is_possible(groups, np.array([5, 1000]))  # clusters of a block
    in_double = GroupedRows(on_cuda(X.astype(float)), codes, 2)
    assert not cuda.is_possible(in_double, np.array([5, 5]))
    monkeypatch.setattr(Device, "compute_capability", "75")
    assert not cuda.is_possible(groups, np.array([5, 5]))
    monkeypatch.setattr(DeviceArray, "on_cuda", lambda there: None)  # without CuPy
    assert not cuda.is_possible(groups, np.array([5, 5]))


def test_arguments_have_the_size_that_kernels_expect():
    for arg in (3, True, np.True_, np.int64(3), np.float32(3)):
        assert cuda._as_argument(arg).nbytes == 4
    for arg in (None, np.float64(3)):
        assert cuda._as_argument(arg).nbytes == 8


@pytest.mark.parametrize("m", [1, 4, 20, 21, 40, 41, 100, 160, 161, 1000])
def test_a_block_of_products_fits_its_memory(m):
    (columns, warps), width, shared = cuda._product(m)
    assert columns <= 8
    assert -(-m // width) == -(-m // 128)
    assert shared <= cuda._MAX_SHARED
    assert width == 2 * columns * warps


@pytest.mark.parametrize("m", [1, 20, 160])
@pytest.mark.parametrize("compiler", [nvcc, nvrtc])
def test_kernels_compile(compiler, m, tmp_path):
    code = compiler(cuda.source(), cuda._options(cuda._product(m)[0]), tmp_path)
    assert code.startswith(b"\x7fELF")
    for name in kernels():
        assert name.encode() in code
