"""The per-class k-means engine against its definition and against scikit-learn."""

import threading

import numpy as np
import pytest
from clusters import RAGGED, assert_same_bits, blobs, of_group, squared_distances
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib import parallel_config
from sklearn.cluster import KMeans, kmeans_plusplus
from threadpoolctl import threadpool_info

from skimprint._arrays.groups import GroupedRows
from skimprint._arrays.threads import one_blas_thread
from skimprint.cluster._kmeans import (
    gram,
    grouped_kmeans,
    lloyd,
    routes,
)
from skimprint.normalization import l2_normalize


def test_shapes_and_dtypes():
    X, codes = blobs(RAGGED, 6, 3)
    result = grouped_kmeans(GroupedRows(X, codes, len(RAGGED)), 4, seed=0)
    n_centers = np.minimum(RAGGED, 4)
    np.testing.assert_array_equal(np.diff(result.offsets), n_centers)
    assert result.centers.shape == (n_centers.sum(), 6)
    assert result.centers.dtype == np.float32
    assert result.labels.shape == (len(X),)
    assert result.inertia.shape == result.n_iter.shape == (len(RAGGED),)
    assert result.inertia.dtype == np.float64
    assert np.isfinite(result.centers).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_result_is_a_fixed_point(route, dtype):
    """Labels are the nearest centres, and centres the means of their members."""
    X, codes = blobs([150, 90, 90, 300], 20, 5, dtype=dtype)
    groups = GroupedRows(X, codes, 4)
    result = grouped_kmeans(groups, 5, seed=0, tol=0)
    assert result.centers.dtype == groups.dtype
    rtol = 1e-4 if groups.dtype == np.float32 else 1e-9
    for group in range(4):
        rows = X[codes == group]
        centers, labels, inertia = of_group(result, codes, group)
        distances = squared_distances(rows, centers)
        own = distances[np.arange(len(rows)), labels]
        np.testing.assert_allclose(own, distances.min(axis=1), rtol=rtol)
        np.testing.assert_allclose(inertia, own.sum(), rtol=rtol)
        means = [rows[labels == j].mean(axis=0, dtype=np.float64) for j in range(5)]
        np.testing.assert_allclose(centers, means, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("sizes", [[6], [40, 9, 40], [1500]])
@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("spread, rtol", [(1e-3, 1e-3), (1e-4, 1e-2)])
def test_inertia_of_tight_clusters_far_apart(route, sizes, spherical, spread, rtol):
    X, codes = blobs(sizes, 20, 5, spread=spread)
    X *= 30
    groups = GroupedRows(X, codes, len(sizes))
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    groups.sample_weight = weights
    result = grouped_kmeans(groups, 5, seed=0, n_init=5, spherical=spherical)
    for group in range(len(sizes)):
        rows = X[codes == group].astype(np.float64)
        rows = l2_normalize(rows) if spherical else rows
        centers, labels, inertia = of_group(result, codes, group)
        own = squared_distances(rows, centers)[np.arange(len(rows)), labels]
        exact = own @ weights[codes == group]
        assert 0 < exact < 0.1 * len(rows)
        np.testing.assert_allclose(inertia, exact, rtol=rtol)


@settings(max_examples=60)
@given(data=st.data())
def test_centres_are_means_labels_nearest_and_no_iteration_hurts(data):
    draw = data.draw
    n = draw(st.integers(1, 60), label="n")
    k = draw(st.integers(1, 8), label="k")
    seed = draw(st.integers(0, 10**6), label="seed")
    gram_limit = draw(st.sampled_from([0, 10_000]), label="gram_limit")
    distinct = draw(st.integers(1, n), label="distinct rows")
    scale = draw(st.sampled_from([1e-3, 1.0, 1e3]), label="scale")
    offset = draw(st.sampled_from([0.0, 10.0]), label="offset")
    weighted = draw(st.booleans(), label="weighted")
    spherical = draw(st.booleans(), label="spherical")

    rng = np.random.default_rng(seed)
    X = rng.standard_normal((distinct, 7))[rng.integers(distinct, size=n)]
    X = (scale * (X + offset)).astype(np.float64)
    w = rng.integers(0, 4, size=n).astype(np.float64) if weighted else None
    groups = GroupedRows(X, np.zeros(n, int), 1, sample_weight=w)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routes, "_SMALL", gram_limit)
        patch.setattr(routes, "_MAX_GRAM", gram_limit)
        runs = [
            grouped_kmeans(groups, k, seed=seed, max_iter=m, tol=0, spherical=spherical)
            for m in (1, 2, 3, 300)
        ]
    inertia = [run.inertia[0] for run in runs]
    rows = X / np.linalg.norm(X, axis=1, keepdims=True) if spherical else X
    if w is None or not w.any():
        w = np.ones(n)
    spread = w.sum() * np.square(rows - rows.mean(axis=0)).sum(axis=1).max()
    spread = max(spread, w.sum() * np.square(rows).sum(axis=1).max() * 1e-3)
    # More iterations never make it worse.
    assert all(np.diff(inertia) <= 1e-9 * spread)

    centers, labels = runs[-1].centers, runs[-1].labels
    assert np.isfinite(centers).all()
    distances = squared_distances(rows, centers)
    own = distances[np.arange(n), labels]
    assert np.all(own <= distances.min(axis=1) + 1e-9 * spread)
    np.testing.assert_allclose(inertia[-1], own @ w, atol=1e-8 * spread)
    for j in np.unique(labels[w > 0]):
        mean = np.average(rows[labels == j], axis=0, weights=w[labels == j])
        length = np.linalg.norm(mean)
        if spherical and length > 1e-6:
            mean /= length
        np.testing.assert_allclose(centers[j], mean, atol=1e-8 * np.abs(rows).max())


@pytest.mark.parametrize("spherical", [False, True])
def test_same_bits_for_any_company_order_threads_and_layout(spherical):
    sizes = [*RAGGED, 1200]
    X, codes = blobs(sizes, 33, 6)
    C = len(sizes)
    n_clusters = np.array([7 + g % 3 for g in range(C)])
    options = {"seed": 3, "n_init": 2, "spherical": spherical}
    expected = grouped_kmeans(GroupedRows(X, codes, C), n_clusters, **options)

    for n_jobs in (2, 3):
        threaded = grouped_kmeans(
            GroupedRows(X, codes, C), n_clusters, n_jobs=n_jobs, **options
        )
        assert_same_bits(threaded, expected)

    padded = np.zeros((2 * len(X), 40), np.float32)
    padded[::2, 3:36] = X
    for layout in (np.asfortranarray(X), padded[::2, 3:36], X[::-1].copy()[::-1]):
        again = grouped_kmeans(GroupedRows(layout, codes, C), n_clusters, **options)
        assert_same_bits(again, expected)

    reverse = grouped_kmeans(
        GroupedRows(X, C - 1 - codes, C), n_clusters[::-1], **options
    )
    np.testing.assert_array_equal(reverse.labels, expected.labels)
    np.testing.assert_array_equal(reverse.inertia[::-1], expected.inertia)
    for group in range(C):
        left = of_group(reverse, C - 1 - codes, C - 1 - group)
        assert_same_bits(left[:2], of_group(expected, codes, group)[:2])

    for subset in ([4], [5, 7], [8, 13], [0, 9, 10, 12]):
        keep = np.isin(codes, subset)
        groups = GroupedRows(X[keep], np.searchsorted(subset, codes[keep]), len(subset))
        part = grouped_kmeans(groups, n_clusters[subset], **options)
        for i, group in enumerate(subset):
            left = of_group(part, np.searchsorted(subset, codes[keep]), i)
            assert_same_bits(left[:2], of_group(expected, codes, group)[:2])
            assert left[2] == expected.inertia[group]


@pytest.mark.parametrize("max_iter", [1, 300])
@pytest.mark.parametrize("spherical, n_init", [(False, 1), (True, 1), (False, 3)])
@pytest.mark.parametrize("k", [1, 6])
@pytest.mark.parametrize("is_weighted, has_spread", [(False, False), (True, True)])
def test_rows_and_centers_are_related(
    route, is_weighted, has_spread, k, spherical, n_init, max_iter
):
    X, codes = blobs(RAGGED, 6, 4, dtype=np.float64)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 4, len(X)) / 8 if is_weighted else None
    spread = rng.random(len(X)) if has_spread else None
    groups = GroupedRows(X, codes, len(RAGGED), sample_weight=weights, spread=spread)
    groups = groups.without_weightless()
    options = {"spherical": spherical, "n_init": n_init, "max_iter": max_iter}
    result = grouped_kmeans(groups, k, seed=0, **options)
    for group in range(len(groups)):
        index, slots = groups.indices(group), slice(*result.offsets[group : group + 2])
        rows = l2_normalize(X[index]) if spherical else X[index]
        distances = squared_distances(rows, result.centers[slots])
        nearest = distances.argmin(axis=1)
        counts = np.bincount(
            nearest, groups.weights_at(index), slots.stop - slots.start
        )
        np.testing.assert_array_equal(result.counts[slots], counts)
        if has_spread:
            distances += spread[index][:, None]
        if len(index) > k:
            least = distances.min(axis=0)
        else:  # its rows as they are
            least = distances.diagonal()
        places = np.searchsorted(index, result.indices[slots])
        np.testing.assert_array_equal(index[places], result.indices[slots])
        found = distances[places, np.arange(len(places))]
        np.testing.assert_allclose(found, least, atol=1e-12)
        np.testing.assert_allclose(result.spreads[slots], least, atol=1e-12)


@pytest.mark.parametrize("spread", [1.0, 30.0], ids=["structured", "unstructured"])
def test_inertia_is_that_of_scikit_learn(route, spread):
    """On average: a single run may end in either direction."""
    sizes = np.arange(100, 116)
    X, codes = blobs(sizes, 24, 6, spread=spread)
    groups = GroupedRows(X, codes, len(sizes))
    ours, theirs = [], []
    for seed in range(6):
        ours.extend(grouped_kmeans(groups, 6, seed=seed).inertia)
        for group in range(len(sizes)):
            peer = KMeans(6, n_init=1, random_state=seed).fit(X[codes == group])
            theirs.append(peer.inertia_)
    assert np.sum(ours) <= 1.02 * np.sum(theirs)


def test_iterations_are_those_of_scikit_learn(route, monkeypatch):
    """From the seeds that its random stream gives, KMeans comes to the same centres."""
    sizes = np.arange(60, 90)
    X, codes = blobs(sizes, 12, 6, spread=0.8, dtype=np.float64)
    # A group is known by its size to the function that draws its seeds.
    centred = {n: X[codes == g] - X[codes == g].mean(0) for g, n in enumerate(sizes)}

    def from_stream(n, k):
        rows = centred[n]
        seeds = kmeans_plusplus(rows, k, random_state=0)[1]
        return seeds, squared_distances(rows[seeds], rows)

    def seed_rows(X, sq_norms, weights, k, rng, lock):
        return from_stream(len(X), k)[0]

    def seed_batch(distances, weights, k, rng, trials):
        seeds, to_seeds = from_stream(weights.shape[1], k)
        labels = to_seeds.argmin(axis=0).astype(np.int32)
        return seeds[None], labels[None], to_seeds.min(axis=0)[None]

    monkeypatch.setattr(lloyd, "seed_rows", seed_rows)
    monkeypatch.setattr(gram, "seed_batch", seed_batch)
    result = grouped_kmeans(GroupedRows(X, codes, len(sizes)), 6, seed=0)
    for group in range(len(sizes)):
        peer = KMeans(6, n_init=1, random_state=0).fit(X[codes == group])
        centers, labels, inertia = of_group(result, codes, group)
        np.testing.assert_array_equal(labels, peer.labels_)
        np.testing.assert_allclose(centers, peer.cluster_centers_, atol=1e-12)
        np.testing.assert_allclose(inertia, peer.inertia_)
        assert result.n_iter[group] == peer.n_iter_


def test_more_runs_are_not_worse(route):
    X, codes = blobs([80] * 20, 10, 8)
    groups = GroupedRows(X, codes, 20)
    one = grouped_kmeans(groups, 8, seed=0).inertia
    five = grouped_kmeans(groups, 8, seed=0, n_init=5).inertia
    assert np.all(five <= one)
    assert five.sum() < one.sum()


def test_fewer_distinct_rows_than_clusters(route):
    """Centres repeat, without a warning."""
    rng = np.random.default_rng(0)
    distinct = rng.standard_normal((3, 12)).astype(np.float32) + 5
    X = distinct[rng.integers(3, size=100)]
    result = grouped_kmeans(GroupedRows(X, np.zeros(100, int), 1), 6, seed=0)
    assert result.centers.shape == (6, 12)
    nearest = squared_distances(result.centers, distinct).min(axis=1)
    np.testing.assert_allclose(nearest, 0, atol=1e-8)
    assert len(np.unique(result.labels)) == 3
    np.testing.assert_allclose(result.inertia, 0, atol=1e-3)
    np.testing.assert_allclose(X[result.indices], result.centers, atol=1e-4)
    np.testing.assert_allclose(result.spreads, 0, atol=1e-4)
    assert sorted(result.counts)[:3] == [0, 0, 0]
    assert result.counts.sum() == 100
    assert result.n_iter[0] < 10


def test_spherical_maximises_cosine(route):
    X, codes = blobs([90, 60], 15, 4)
    result = grouped_kmeans(GroupedRows(X, codes, 2), 4, seed=0, spherical=True)
    np.testing.assert_allclose(np.linalg.norm(result.centers, axis=1), 1, rtol=1e-5)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    for group in range(2):
        centers, labels, inertia = of_group(result, codes, group)
        cosine = unit[codes == group] @ centers.T
        np.testing.assert_array_equal(labels, cosine.argmax(axis=1))
        np.testing.assert_allclose(inertia, (2 - 2 * cosine.max(axis=1)).sum(), 1e-4)
        sums = [unit[codes == group][labels == j].sum(axis=0) for j in range(4)]
        sums = np.array(sums) / np.linalg.norm(sums, axis=1, keepdims=True)
        np.testing.assert_allclose(centers, sums, atol=1e-5)
    normalized = grouped_kmeans(GroupedRows(unit, codes, 2), 4, seed=0, spherical=True)
    np.testing.assert_array_equal(normalized.labels, result.labels)


def test_normalised_rows_are_clustered_as_such():
    X, codes = blobs([50, 300], 12, 4)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    a = grouped_kmeans(GroupedRows(X, codes, 2, transform=l2_normalize), 4, seed=0)
    b = grouped_kmeans(GroupedRows(unit, codes, 2), 4, seed=0)
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_allclose(a.centers, b.centers, atol=1e-6)


def test_blas_threads_are_restored_after_concurrent_fits():
    def blas_threads():
        info = threadpool_info()
        return [lib["num_threads"] for lib in info if lib["user_api"] == "blas"]

    before = blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def first():
        with one_blas_thread():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with one_blas_thread():
        leave.set()
        thread.join()
        # The first to come has left; the second still works.
        assert set(blas_threads()) <= {1}  # none is known of macOS' Accelerate
    assert blas_threads() == before


def test_threads_come_from_the_context_of_joblib():
    """None means what surrounds the fit allows: 1 inside a worker of a grid search."""
    X, codes = blobs([300] * 6, 16, 4)
    groups = GroupedRows(X, codes, 6)
    threads = set()
    take = GroupedRows.take

    def spy(self, *args, **kwargs):
        threads.add(threading.get_ident())
        return take(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GroupedRows, "take", spy)
        alone = grouped_kmeans(groups, 4, seed=0)
        assert threads == {threading.get_ident()}
        with parallel_config("threading", n_jobs=2):
            inside = grouped_kmeans(groups, 4, seed=0)
    assert_same_bits(inside, alone)
