"""Sufficient statistics: any parts, in any order, give those of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skimprint._space.moments import PooledMoments, joined, moments_of


def samples(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + rng.normal(size=d), rng.uniform(0.5, 2, n)


def scatter(moments):
    return PooledMoments({"a class": moments}).scatter


def assert_same(moments, expected, rtol=1e-9):
    np.testing.assert_allclose(moments.weight, expected.weight, rtol)
    np.testing.assert_allclose(moments.mean, expected.mean, rtol, 1e-9)
    np.testing.assert_allclose(scatter(moments), scatter(expected), rtol, 1e-9)
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
    vector = np.arange(d) - 1.0
    np.testing.assert_allclose(moments.times(vector), expected @ vector, atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(
    cuts=st.lists(st.integers(1, 39), min_size=1, max_size=5, unique=True),
    order=st.permutations(range(6)),
    d=st.sampled_from([2, 8, 60]),
)
def test_parts_in_any_order_make_the_whole(cuts, order, d):
    X, weights = samples(40, d)
    parts = [
        moments_of(rows, some)
        for rows, some in zip(
            np.split(X, sorted(cuts)), np.split(weights, sorted(cuts)), strict=True
        )
    ]
    parts = [parts[i] for i in order if i < len(parts)]
    together = parts[0]
    for part in parts[1:]:
        together = joined(together, part)
    assert_same(together, moments_of(X, weights))


def test_memory_is_never_more_than_the_samples():
    X, _ = samples(40, 8)
    few, many = moments_of(X[:4]), moments_of(X)
    assert few.rows.shape == (4, 8)
    assert few.triangle is None
    assert many.triangle.shape == (8 * 9 / 2,)
    assert many.rows is None
    assert moments_of(X[:5]).rows is None
    assert joined(few, few).triangle.shape == (8 * 9 / 2,)


@pytest.mark.parametrize("d", [3, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pooled_moments_follow_what_comes_and_goes(d, dtype):
    rng = np.random.default_rng(0)
    moments = {c: moments_of(rng.normal(size=(25, d)).astype(dtype)) for c in range(20)}
    pooled = PooledMoments(moments)
    changed = dict(moments)
    del changed[3]
    changed[4] = joined(changed[4], moments_of(rng.normal(size=(9, d)).astype(dtype)))
    changed[99] = moments_of(rng.normal(size=(2, d)).astype(dtype))
    np.testing.assert_allclose(
        PooledMoments(changed, pooled).scatter,
        PooledMoments(changed).scatter,
        rtol=1e-9,
        atol=1e-9,
    )


def test_few_samples_give_the_same_bits_in_any_order():
    X, weights = samples(5, 30)
    first, second = moments_of(X, weights), moments_of(X[::-1], weights[::-1])
    for some, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(some, other)


def test_few_samples_stay_a_factor():
    moments = {
        label: moments_of(samples(2, 9, seed)[0]) for seed, label in enumerate("ab")
    }
    pooled = PooledMoments(moments)
    assert pooled.factor.shape == (4, 9)
    expected = sum(scatter(part) for part in moments.values())
    np.testing.assert_allclose(pooled.scatter, expected)
