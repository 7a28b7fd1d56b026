"""Selecting generators against their definitions, row by row, and the reference."""

from pathlib import Path

import numpy as np
import pytest

from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmedoids import grouped_kmedoids
from skimprint.cluster._selection import grouped_cov_max, grouped_fps
from skimprint.normalization import l2_normalize

REFERENCE = Path(__file__).parents[3] / "shared/data/reference"
SIZES = [1, 3, 4, 30, 30, 90, 30, 5]


@pytest.fixture(params=[np.float16, np.float32, np.float64])
def data(request):
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    X = rng.standard_normal((len(codes), 12)) + codes[:, None]
    return X.astype(request.param), codes


def naive_cov_max(X, k):
    covariance = np.cov(X)
    return np.argsort(-covariance.sum(axis=1), kind="stable")[:k]


def naive_fps(X, k):
    chosen = [np.argmax(np.linalg.norm(X - X.mean(axis=0), axis=1))]
    for _ in range(k - 1):
        distances = np.linalg.norm(X[:, None] - X[chosen], axis=2).min(axis=1)
        chosen.append(np.argmax(distances))
    return chosen


def naive_kmedoids(X, k):
    D = np.linalg.norm(X[:, None] - X, axis=2)
    medoids = np.argsort(D.sum(axis=1), kind="stable")[:k]
    while True:
        labels = D[:, medoids].argmin(axis=1)
        new = medoids.copy()
        for j in range(k):
            members = np.flatnonzero(labels == j)
            costs = D[np.ix_(members, members)].sum(axis=1)
            if costs.min() < D[medoids[j], members].sum():
                new[j] = members[costs.argmin()]
        if np.array_equal(new, medoids):
            return medoids
        medoids = new


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize(
    "select, naive",
    [
        (grouped_cov_max, naive_cov_max),
        (grouped_fps, naive_fps),
        (lambda g, k: grouped_kmedoids(g, k, init="heuristic"), naive_kmedoids),
    ],
    ids=["cov_max", "fps", "kmedoids"],
)
def test_definition(select, naive, k, data):
    X, codes = data
    selection = select(GroupedRows(X, codes, len(SIZES)), k)
    np.testing.assert_array_equal(np.diff(selection.offsets), np.minimum(SIZES, k))
    for group, n in enumerate(SIZES):
        members = np.flatnonzero(codes == group)
        expected = members
        if n > k:
            expected = members[naive(X[members].astype(np.float64), k)]
        start, stop = selection.offsets[group : group + 2]
        np.testing.assert_array_equal(selection.indices[start:stop], expected)


SELECTORS = [
    grouped_cov_max,
    grouped_fps,
    lambda g, k, **kw: grouped_fps(g, k, start="random", seed=3, **kw),
    grouped_kmedoids,
]


@pytest.mark.parametrize("select", SELECTORS)
def test_company_and_threads_do_not_matter(select, data):
    X, codes = data
    n_selected = np.array([3, 2, 3, 4, 5, 6, 5, 2])
    expected = select(GroupedRows(X, codes, len(SIZES)), n_selected)
    threaded = select(GroupedRows(X, codes, len(SIZES)), n_selected, n_jobs=2)
    np.testing.assert_array_equal(threaded.indices, expected.indices)
    for group in range(len(SIZES)):
        members = np.flatnonzero(codes == group)
        groups = GroupedRows(X[members], np.zeros(len(members), int), 1)
        alone = select(groups, int(n_selected[group]))
        start, stop = expected.offsets[group : group + 2]
        np.testing.assert_array_equal(
            members[alone.indices], expected.indices[start:stop]
        )


@pytest.mark.parametrize("select", SELECTORS)
@pytest.mark.parametrize("k", [3, 4, 11])
@pytest.mark.parametrize("scale", [0, 0.1, 1])
def test_rows_are_selected_once_even_if_alike(select, k, scale):
    X = np.repeat(np.eye(3, 8, dtype=np.float32), [5, 4, 3], axis=0)
    X[:, 3:] = scale * np.arange(5)
    selection = select(GroupedRows(X, np.zeros(12, int), 1), k)
    assert len(np.unique(selection.indices)) == k


def test_weights_count_in_sums_and_in_the_mean_to_start_from():
    X = np.random.default_rng(0).standard_normal((30, 8))
    weights = np.where(X @ X[29] > 0, 20, 1)  # row 29 is the farthest without them
    weighted = GroupedRows(X, np.zeros(30, int), 1, sample_weight=weights.astype(float))
    repeated = np.repeat(X, weights, axis=0)
    sums = np.cov(X) @ weights
    found = grouped_cov_max(weighted, 4).indices
    np.testing.assert_array_equal(found, np.argsort(-sums)[:4])
    found = grouped_fps(weighted, 4).indices
    np.testing.assert_array_equal(X[found], repeated[naive_fps(repeated, 4)])
    assert found[0] != naive_fps(X, 1)[0]


@pytest.mark.parametrize("select", SELECTORS)
def test_rows_without_weight_are_not_selected(select, data):
    X, codes = data
    w = np.random.default_rng(1).integers(0, 2, size=len(X)).astype(float)
    w[codes == 0] = 1
    groups = GroupedRows(X, codes, len(SIZES), sample_weight=w)
    selection = select(groups, 3)
    lost = np.bincount(codes, w, minlength=len(SIZES))[codes] == 0
    assert np.all((w > 0)[selection.indices] | lost[selection.indices])


@pytest.mark.skipif(not REFERENCE.exists(), reason="no reference data at ../shared")
@pytest.mark.parametrize("norm", ["none", "l2"])
@pytest.mark.parametrize("name", ["cov_max", "kmedoids"])
def test_reference_implementation(name, norm):
    data = np.load(REFERENCE / "usps_mobilenet_v1_data.npz")
    expected = np.load(REFERENCE / "usps_mobilenet_v1_reference.npz")
    transform = l2_normalize if norm == "l2" else None
    groups = GroupedRows(data["X_train"], data["y_train"], 10, transform=transform)
    if name == "cov_max":
        selection = grouped_cov_max(groups, 3)
    else:
        selection = grouped_kmedoids(groups, 3, init="heuristic")
    np.testing.assert_allclose(
        groups.take(selection.indices),
        expected[f"proxies-{norm}-{name}"],
        rtol=0,
        atol=1e-5,
    )


def test_equal_rows_are_selected_in_their_order():
    rng = np.random.default_rng(7)
    X = rng.standard_normal((9, 200)).astype(np.float32)
    X[8] = X[0]
    order = grouped_cov_max(GroupedRows(X, np.zeros(9, int), 1), 8).indices.tolist()
    assert order.index(0) + 1 == order.index(8)
