"""Sufficient statistics: any parts, in any order, give those of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from states import learnt, plan_of, with_moments

from skimprint._space import moments
from skimprint._space.moments import CommonMoments, joined_moments, moments_of


def samples(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + rng.normal(size=d), rng.uniform(0.5, 2, n)


def scatter(found):
    return moments._symmetric(found.scatter_triangle, len(found.mean))


def assert_same(moments, expected, rtol=1e-9):
    np.testing.assert_allclose(moments.weight, expected.weight, rtol)
    np.testing.assert_allclose(moments.mean, expected.mean, rtol, 1e-9)
    np.testing.assert_allclose(
        moments.scatter_triangle, expected.scatter_triangle, rtol, 1e-9
    )
    np.testing.assert_allclose(moments.variance, expected.variance, rtol)
    np.testing.assert_allclose(moments.third, expected.third, rtol, 1e-8)
    np.testing.assert_allclose(moments.fourth, expected.fourth, rtol)


@pytest.mark.parametrize("n, d", [(1, 4), (3, 5), (40, 5)])
def test_moments_by_their_definition(n, d):
    X, weights = samples(n, d)
    moments = moments_of(X, weights)
    mean = np.average(X, axis=0, weights=weights)
    residuals = X - mean
    squares = (residuals**2).sum(axis=1)
    np.testing.assert_allclose(moments.mean, mean)
    expected = (residuals * weights[:, None]).T @ residuals
    np.testing.assert_allclose(scatter(moments), expected, atol=1e-12)
    np.testing.assert_allclose(moments.variance, np.trace(expected), atol=1e-12)
    third = (weights * squares) @ residuals
    np.testing.assert_allclose(moments.third, third, atol=1e-12)
    np.testing.assert_allclose(moments.fourth, weights @ squares**2, atol=1e-12)


@pytest.mark.parametrize("cut", [1, 3, 20, 37, 39])
@pytest.mark.parametrize("d", [2, 8, 39])
def test_parts_make_the_whole(cut, d):
    """Of which one, at least, is of so many samples that they are not kept."""
    X, weights = samples(40, d)
    parts = [moments_of(X[p], weights[p]) for p in (slice(cut), slice(cut, None))]
    assert any(part.rows is None for part in parts)
    whole = moments_of(X, weights)
    assert_same(joined_moments(*parts), whole)
    assert_same(joined_moments(*parts[::-1]), whole)


def test_memory_is_never_more_than_the_samples():
    X, _ = samples(40, 8)
    few, many = moments_of(X[:4]), moments_of(X)
    assert few.rows.shape == (4, 8)
    assert few.triangle is None
    assert many.triangle.shape == (8 * 9 / 2,)
    assert many.rows is None
    assert moments_of(X[:5]).rows is None
    assert joined_moments(few, many).triangle.shape == (8 * 9 / 2,)


@pytest.mark.parametrize("d", [3, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pooled_moments_follow_what_comes_and_goes(d, dtype, monkeypatch):
    monkeypatch.setattr("skimprint._memory.state.BLOCK_BYTES", 10_000)
    X, _ = samples(500, d)
    X, y = X.astype(dtype), np.repeat(np.arange(20), 25)
    plan = plan_of(metric="mahalanobis")
    state = learnt(plan, X, y)
    pooled = CommonMoments(state)
    changed = learnt(plan, X[:9] + 1, np.full(9, 4), state=state.changed([3]))
    changed = learnt(plan, X[9:11], np.array([99, 99]), state=changed)
    found, expected = CommonMoments(changed, pooled), CommonMoments(changed)
    # Products of rows have their precision.
    rounding = 1e-6 if dtype == np.float32 else 1e-12
    most = np.abs(expected.scatter).max()
    np.testing.assert_allclose(found.scatter, expected.scatter, 0, rounding * most)
    np.testing.assert_allclose(found.columns.weights, expected.columns.weights)
    rows = np.concatenate([X[y == 4], X[:9] + 1])
    parts = [X[y == c] for c in range(20) if c not in (3, 4)] + [rows, X[9:11]]
    expected = sum(scatter(moments_of(part.astype(float))) for part in parts)
    tolerance = {"rtol": 1e-4, "atol": 1e-3} if dtype == np.float32 else {"atol": 1e-8}
    np.testing.assert_allclose(found.scatter, expected, **tolerance)


def test_a_class_more_is_all_that_is_added_where_blocks_are_joined(monkeypatch):
    X, _ = samples(100, 5)
    plan = plan_of(metric="mahalanobis")
    state = learnt(plan, X[:80], np.repeat(np.arange(4), 20))
    state = learnt(plan, X[80:90], np.full(10, 4), state=state)
    before, first = CommonMoments(state), state.blocks
    state = learnt(plan, X[90:], np.full(10, 5), state=state)
    assert [len(block.labels) for block in state.blocks] == [4, 2]
    lost, changed = moments._differences(first, state.blocks)
    assert not lost
    assert [part.weight for part in changed] == [10]
    monkeypatch.delattr(moments.Pool, "empty")  # nothing is summed anew
    CommonMoments(state, before)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_class_that_comes_back_turned_is_another(weighted):
    """Its mean and its third and fourth moments are what they were, not its scatter."""
    X, y = samples(60, 12)[0], np.repeat(np.arange(6), 10)
    rows = np.eye(12)[[0, 0, 1, 1]] * np.array([1, -1, 1, -1.0])[:, None]
    before, after = (rows[:2], None), (rows[2:], None)
    if weighted:
        before, after = (
            (rows, np.array([1, 1, 2, 2.0])),
            (rows, np.array([2, 2, 1, 1.0])),
        )
    plan = plan_of(metric="mahalanobis")
    state = learnt(plan, X, y)

    def with_class(rows, weights):
        return learnt(plan, rows, np.full(len(rows), 9), weights, state=state)

    pooled = CommonMoments(with_class(*before))
    first = pooled.scatter.copy()
    changed = with_class(*after)
    found, expected = CommonMoments(changed, pooled), CommonMoments(changed)
    np.testing.assert_allclose(found.scatter, expected.scatter, atol=1e-9)
    np.testing.assert_array_equal(pooled.scatter, first)


def test_blocks_that_stay_are_not_looked_at(monkeypatch):
    monkeypatch.setattr("skimprint._memory.state.BLOCK_BYTES", 10_000)
    X, _ = samples(500, 30)
    plan = plan_of(metric="mahalanobis")
    state = learnt(plan, X, np.repeat(np.arange(100), 5))
    before, seen = CommonMoments(state), []
    by_content = moments._by_content

    def record(blocks):
        blocks = list(blocks)
        seen.extend(label for block in blocks for label in block.labels)
        return by_content(blocks)

    monkeypatch.setattr(moments, "_by_content", record)
    CommonMoments(learnt(plan, X[:5] + 1, np.full(5, 100), state=state), before)
    assert len(seen) < 20


@pytest.mark.parametrize("ratio, n_classes", [(8.0, 12), (2.0, 36)])
def test_rounding_does_not_grow_while_large_classes_go(ratio, n_classes):
    """Each leaves a hundredth, or a fourth, and the rounding errors of the whole."""
    scales = ratio ** np.arange(n_classes)
    X = [scale * samples(200, 16, seed=i)[0] for i, scale in enumerate(scales)]
    y = np.repeat(np.arange(n_classes), 200)
    state = learnt(plan_of(metric="mahalanobis"), np.concatenate(X), y)
    pooled = CommonMoments(state)
    for label in range(n_classes - 1, 1, -1):
        state = state.changed([label])
        pooled = CommonMoments(state, pooled)
    np.testing.assert_allclose(
        pooled.scatter, CommonMoments(state).scatter, rtol=1e-9, atol=1e-6
    )


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    d=st.sampled_from([2, 9, 40]),
    weighted=st.booleans(),
)
def test_pooled_moments_by_their_definition(sizes, d, weighted):
    X, weights = samples(sum(sizes), d)
    y = np.repeat(np.arange(len(sizes)), sizes)
    weights = weights if weighted else np.ones(len(y))
    pooled = CommonMoments(with_moments(X, y, weights))
    totals = np.bincount(y, weights)
    means = np.stack([np.bincount(y, weights * column) for column in X.T], 1)
    means /= totals[:, None]
    residuals = X - means[y]
    expected = (residuals * weights[:, None]).T @ residuals
    np.testing.assert_allclose(pooled.columns.weights, totals)
    np.testing.assert_allclose(pooled.columns.means, means)
    np.testing.assert_allclose(pooled.scatter, expected, atol=1e-9)
    np.testing.assert_allclose(pooled.variance, np.trace(expected), atol=1e-9)
    fourth = weights @ (residuals**2).sum(axis=1) ** 2
    np.testing.assert_allclose(sum(pooled.columns.fourths), fourth, atol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 63, 64, 65, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_triangle_makes_the_matrix_to_the_bit(d, dtype):
    """Squares of 64 rows are turned at a time."""
    values = np.random.default_rng(0).normal(size=(d, d)).astype(dtype)
    matrix = np.triu(values) + np.triu(values, 1).T
    again = moments._symmetric(moments._triangle(matrix), d)
    np.testing.assert_array_equal(again, matrix)
    assert again.dtype == dtype
    assert again.flags.c_contiguous


def test_few_samples_stay_a_factor():
    X, _ = samples(4, 9)
    pooled = CommonMoments(with_moments(X, np.array(["a", "a", "b", "b"])))
    assert pooled.factor.shape == (2, 9)  # the residuals of a class sum to zero
    expected = sum(scatter(moments_of(part)) for part in (X[:2], X[2:]))
    np.testing.assert_allclose(pooled.scatter, expected, atol=1e-12)


def test_a_factor_does_not_depend_on_the_blocks(monkeypatch):
    monkeypatch.setattr("skimprint._memory.state.BLOCK_BYTES", 1)
    X, _ = samples(6, 30)
    y, plan = np.repeat([0, 1, 2], 2), plan_of(metric="mahalanobis")
    state = learnt(plan, X[2:], y[2:])
    state = learnt(plan, X[:2], y[:2], state=state)
    assert [block.labels.tolist() for block in state.blocks] == [[1, 2], [0]]
    expected = CommonMoments(learnt(plan, X, y)).factor
    np.testing.assert_array_equal(CommonMoments(state).factor, expected)
