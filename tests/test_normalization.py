import pickle
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import csr_array
from sklearn.preprocessing import normalize

from skimprint.normalization import (
    IDENTITY,
    NORMS,
    PROXY_NORMS,
    Norm,
    l2_normalize,
    lengths,
    make_norm,
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


@pytest.mark.parametrize("normalize", [l2_normalize, power_normalize])
@pytest.mark.parametrize("scale", [1e-6, 1e-4, 1, 5e4])
def test_half_precision_has_the_directions_of_single(normalize, scale):
    X = np.random.default_rng(0).uniform(-1, 1, (6, 40)) * scale
    X = X.astype(np.float16)
    X[2] = 0
    found = normalize(X)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, normalize(X.astype(np.float32)), atol=2e-3)


@pytest.mark.parametrize("normalize", [l2_normalize, power_normalize])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64])
def test_squares_of_integers_do_not_overflow(normalize, dtype):
    info = np.iinfo(dtype)
    X = np.array([[info.max, info.max // 2, info.min], [1, 2, 3], [0, 0, 0]], dtype)
    found = normalize(X)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, normalize(X.astype(np.float64)))


@pytest.mark.parametrize(
    "normalize",
    [l2_normalize, power_normalize, lambda X: quantile_normalize(X, [0.0, 3.0])],
)
@pytest.mark.parametrize("kind", [list, "bool", "pandas", "polars"])
def test_rows_come_in_any_container(normalize, kind):
    """As scikit-learn's `normalize` takes them, so that a pipeline can have these."""
    X = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    if kind in ("pandas", "polars"):
        given = pytest.importorskip(kind).DataFrame(X)
    else:
        given = X.tolist() if kind is list else X.astype(kind)
    found = normalize(given)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, normalize(X))


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [[3], [2, 1, 2], [1] * 20, [7, 3, 5, 1, 4]], ids=str)
def test_quantile_by_class_takes_all_before_as_reference(sizes, dtype):
    proxies = np.random.default_rng(0).normal(size=(sum(sizes), 6)).astype(dtype)
    proxies = np.round(proxies, 1)  # some values are equal
    offsets = np.cumsum([0, *sizes])
    expected = proxies.copy()
    for start, stop in pairwise(offsets[1:]):
        expected[start:stop] = quantile_normalize(proxies[start:stop], expected[:start])
    found = quantile_normalize_by_class(proxies, offsets)
    assert found is proxies
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quantile_keeps_the_dtype(dtype):
    X = np.ones((2, 3), dtype=dtype)
    assert quantile_normalize(X, [1.0, 2.0]).dtype == dtype


def test_quantiles_of_integers_are_not_cut():
    found = quantile_normalize(np.array([[5, -1, 2]]), [0, 1, 2.5])
    np.testing.assert_allclose(found, quantile_normalize(found, [0, 1, 2.5]))
    assert found.dtype == np.float64


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16, np.float32, float])
@pytest.mark.parametrize("n", [1, 2, 3, 20, 1001])
def test_quantiles_are_those_of_interpolation(dtype, n):
    rng = np.random.default_rng(0)
    X, reference = rng.normal(size=(3, 7)), (9 * rng.random(n)).astype(dtype)
    positions = (np.arange(7) + 0.5) / 7 * (n - 1)
    expected = np.interp(positions, np.arange(n), np.sort(reference))
    found = np.sort(quantile_normalize(X, reference), axis=1)
    np.testing.assert_array_equal(found, [expected] * 3)


def test_no_reference_has_no_quantiles():
    with pytest.raises(ValueError, match="reference must have one value at least"):
        quantile_normalize(np.ones((2, 3)), [])


@pytest.mark.parametrize(
    "normalize",
    [l2_normalize, power_normalize, lambda X: quantile_normalize(X, [0.0, 3.0])],
)
@pytest.mark.parametrize(
    "X",
    [
        None,
        "X.npy",
        1.0,
        [1.0, 2.0],
        np.ones((2, 2, 2)),
        np.eye(2) * 1j,
        csr_array(np.eye(2)),
    ],
    ids=str,
)
def test_what_is_no_matrix_of_real_numbers_is_refused(normalize, X):
    with pytest.raises(
        ValueError, match=r"^X must be .*real numbers, of shape \(n, d\)"
    ):
        normalize(X)


def test_quantiles_have_an_order():
    """NaN would come last, and get the largest of them."""
    for X in ([[1.0, np.nan]], [[1.0, None]], [[1.0, np.inf]]):
        with pytest.raises(ValueError, match="X contains"):
            quantile_normalize(X, [1.0, 2.0])
    for reference in ([1.0, np.nan], [1.0, None], [[-np.inf], [np.inf]]):
        with pytest.raises(ValueError, match="reference contains"):
            quantile_normalize([[1.0, 2.0]], reference)
    with pytest.raises(ValueError, match=r"reference must be .* dtype complex128"):
        quantile_normalize([[1.0, 2.0]], [1j])


EVERY = {**NORMS, **PROXY_NORMS, None: IDENTITY, "function": make_norm(np.tanh, "f")}


@pytest.mark.parametrize("name", EVERY)
def test_equal_norms_are_equal(name):
    norm = EVERY[name]
    for same in (deepcopy(norm), pickle.loads(pickle.dumps(norm))):
        assert same == norm
        assert hash(same) == hash(norm)
    assert sum(other == norm for other in {*EVERY.values()}) == 1


def test_every_way_to_name_a_norm():
    assert make_norm(None, "f") == IDENTITY
    assert make_norm("quantile", "f", PROXY_NORMS) is PROXY_NORMS["quantile"]
    assert make_norm(NORMS["power"], "f") is NORMS["power"]
    assert make_norm(np.tanh, "f") == make_norm(np.tanh, "f") != make_norm(np.sin, "f")


@pytest.mark.parametrize("name", [*NORMS, None])
@pytest.mark.parametrize("library", ["numpy", "array_api_strict", "torch"])
def test_on_devices_as_on_the_host(name, library):
    xp = pytest.importorskip(library, reason=f"needs {library}")
    X = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    X[2] = 0
    norm = make_norm(name, "f")
    expected = norm(X)
    there = xp.asarray(X)
    np.testing.assert_allclose(norm.on_device(xp, there), expected, rtol=1e-5)
    np.testing.assert_array_equal(there, X)


@pytest.mark.parametrize("name", EVERY)
def test_writes_only_where_it_is_told(name):
    X = np.random.default_rng(0).normal(size=(5, 7))
    before, other, itself = X.copy(), np.empty_like(X), X.copy()
    norm = EVERY[name]
    found = norm(X)
    np.testing.assert_array_equal(X, before)
    assert norm(X, out=other) is other
    assert norm(itself, out=itself) is itself
    np.testing.assert_array_equal(other, found)
    np.testing.assert_array_equal(itself, found)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (
            lambda X: X[:1],
            r"^f must return an array of shape \(2, 3\); got \(1, 3\)",
        ),
        (lambda X: X / 0, "^f must return finite values; got NaN or infinity"),
        (lambda X: X * 1j, "^f must return an array of numbers .*imaginary parts"),
    ],
)
def test_what_a_function_returns_is_checked(wrong, message):
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
        make_norm(wrong, "f")(np.ones((2, 3)))


def test_a_function_may_write_on_what_it_gets():
    X = np.ones((2, 3))
    np.testing.assert_array_equal(make_norm(lambda X: np.exp(X, out=X), "f")(X), np.e)
    np.testing.assert_array_equal(X, 1)


@pytest.mark.parametrize("head", [None, 0, 2])
@pytest.mark.parametrize("name", [*PROXY_NORMS, None])
def test_what_takes_the_place_of_a_proxy_is_normalised_as_it_is(name, head):
    vectors = np.random.default_rng(0).normal(size=(7, 4))
    offsets, is_head = np.array([0, 2, 3, 7]), np.arange(3) == head
    norm = make_norm(name, "f", PROXY_NORMS)
    proxies = norm.of_proxies(vectors.copy(), offsets, is_head)
    own = np.array([6, 0, 2, 3])
    if norm.is_pointwise:
        np.testing.assert_array_equal(proxies, norm(vectors))
    else:
        from_head = np.repeat(is_head, np.diff(offsets))
        expected = quantile_normalize_by_class(vectors.copy(), offsets)
        if head is not None:
            own = own[~from_head[own]]
            expected = quantile_normalize(vectors, vectors[from_head])
            expected[from_head] = vectors[from_head]
        np.testing.assert_array_equal(proxies, expected)
    codes = np.repeat(np.arange(3), np.diff(offsets))
    found = norm.in_place_of(vectors[own], own, proxies, codes, is_head)
    np.testing.assert_array_equal(found, proxies[own])


def test_a_norm_is_what_it_does_before_and_its_length():
    X = np.random.default_rng(0).normal(size=(5, 7))
    cubes = Norm("cubes", before=lambda xp, X: X**3)
    np.testing.assert_array_equal(cubes(X), X**3)
    unit = Norm("cubes", before=lambda xp, X: X**3, unit_length=True)
    np.testing.assert_array_equal(unit(X), l2_normalize(X**3))
    assert [norm.is_scaling for norm in (cubes, unit, NORMS["l2"])] == [0, 0, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("other", ["l2", "power"])
@pytest.mark.parametrize("name", ["l2", "power"])
def test_each_of_two_norms_follows_from_the_other(name, other, dtype):
    X = np.random.default_rng(0).lognormal(sigma=3, size=(50, 7)).astype(dtype)
    X[::2] *= -1
    X[3] = 0
    found = NORMS[other](NORMS[name].undone(NORMS[name](X)))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, NORMS[other](X), 20 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(X))


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("library", ["numpy", "array_api_strict", "torch"])
def test_rows_whose_squares_are_too_large(library):
    """They have the directions that they have; rows beside them keep their bits."""
    xp = pytest.importorskip(library, reason=f"needs {library}")
    xp = array_namespace(xp.asarray(0))
    X = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    X[4] = 0
    huge = X * np.array([1, 1e30, 1, 1e25, 1], np.float32)[:, None]
    for name in NORMS:
        found = np.asarray(NORMS[name].on_device(xp, xp.asarray(huge)))
        expected = np.asarray(NORMS[name].on_device(xp, xp.asarray(X)))
        np.testing.assert_array_equal(found[::2], expected[::2])
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("normalize", [l2_normalize, power_normalize])
def test_rows_whose_lengths_are_too_large(normalize, dtype):
    rows = np.full((2, 64), np.finfo(dtype).max / 2, dtype)
    np.testing.assert_allclose(normalize(rows), 1 / 8, rtol=1e-6)
