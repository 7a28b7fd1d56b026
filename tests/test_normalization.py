import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import normalize

from skimprint.normalization import (
    l2_normalize,
    lengths,
    power_normalize,
    quantile_normalize,
    quantile_normalize_by_class,
)

matrices = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.floats(-1e3, 1e3, width=32),
)


@given(matrices)
def test_l2_is_that_of_scikit_learn(X):
    normalized = l2_normalize(X)
    tall = lengths(np, X)[:, 0] > 1e-5  # below, scikit-learn takes a row for zero
    np.testing.assert_allclose(normalized[tall], normalize(X)[tall], rtol=1e-5)
    assert normalized.dtype == X.dtype
    assert np.isfinite(normalized).all()


def test_l2_keeps_a_zero_row_and_never_writes_in_place():
    X = np.array([[0.0, 0.0], [3.0, 4.0]])
    before = X.copy()
    np.testing.assert_array_equal(l2_normalize(X), [[0, 0], [0.6, 0.8]])
    np.testing.assert_array_equal(X, before)


@given(matrices)
def test_power_is_l2_of_signed_roots(X):
    before = X.copy()
    normalized = power_normalize(X)
    roots = np.sign(X) * np.sqrt(np.abs(X))
    np.testing.assert_allclose(normalized, l2_normalize(roots), rtol=1e-5)
    np.testing.assert_array_equal(X, before)
    assert normalized.dtype == X.dtype


@given(matrices, hnp.arrays(np.float64, 20, elements=st.floats(-10, 10)))
def test_quantile_keeps_rank_order_and_takes_the_distribution(X, reference):
    normalized = quantile_normalize(X, reference)
    d = X.shape[1]
    expected = np.quantile(reference, (np.arange(d) + 0.5) / d)
    np.testing.assert_allclose(
        np.sort(normalized, axis=1),
        np.tile(expected, (len(X), 1)),
        rtol=1e-5,
        atol=1e-6,
    )
    for row, new in zip(X, normalized, strict=True):
        assert (np.diff(new[np.argsort(row, kind="stable")]) >= 0).all()


def test_quantile_onto_the_own_distribution_changes_little():
    X = np.random.default_rng(0).uniform(size=(1, 2001))
    np.testing.assert_allclose(quantile_normalize(X, X), X, atol=0.01)


def test_quantile_by_class_leaves_the_first_and_takes_all_before_as_reference():
    proxies = np.random.default_rng(0).normal(size=(5, 4))
    before = proxies.copy()
    normalized = quantile_normalize_by_class(proxies, np.array([0, 2, 3, 5]))
    np.testing.assert_array_equal(normalized[:2], proxies[:2])
    np.testing.assert_array_equal(
        normalized[2:3], quantile_normalize(proxies[2:3], normalized[:2])
    )
    np.testing.assert_array_equal(
        normalized[3:], quantile_normalize(proxies[3:], normalized[:3])
    )
    np.testing.assert_array_equal(proxies, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantile_keeps_the_dtype(dtype):
    X = np.ones((2, 3), dtype=dtype)
    assert quantile_normalize(X, [1.0, 2.0]).dtype == dtype
