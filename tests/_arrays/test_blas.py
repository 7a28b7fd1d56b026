import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skimprint._arrays import blas
from skimprint._arrays.blas import (
    FEW_ROWS,
    centred_gram,
    gram_each,
    squared_distances,
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 9, 16, 17, FEW_ROWS, FEW_ROWS + 1, 130])
def test_inner_products_of_each_group(n, dtype):
    rng = np.random.default_rng(n)
    rows = rng.normal(size=(5, n, 40)).astype(dtype)
    rows.setflags(write=False)
    out = np.full((5, n, n), np.nan, dtype)
    gram_each(rows, out)
    exact = rows.astype(np.float64) @ rows.astype(np.float64).transpose(0, 2, 1)
    np.testing.assert_allclose(out, exact, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(out, out.transpose(0, 2, 1))
    alone = np.empty_like(out[2:3])
    gram_each(rows[2:3], alone)
    np.testing.assert_array_equal(alone, out[2:3])


@pytest.mark.parametrize("offset", [0, 1, 1e3])
@pytest.mark.parametrize("dtype, digits", [(np.float32, 5), (np.float64, 12)])
def test_the_mean_is_taken_from_rows_or_products(dtype, digits, offset):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 12, 30))
    rows[1] += offset
    rows[2] = 7 * np.sign(offset)  # does not vary
    rows[3] -= offset
    rows = rows.astype(dtype)
    exact = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    rows.setflags(write=False)
    out = np.empty((4, 12, 12), dtype)
    centred_gram(rows, out)
    exact = exact @ exact.transpose(0, 2, 1)
    # Of rows themselves, 1e3 has three digits less to give.
    rounding = 10.0**-digits * max(offset, 1)
    np.testing.assert_allclose(out, exact, rtol=0, atol=40 * rounding)


@pytest.mark.parametrize("n", [2, 30, FEW_ROWS, FEW_ROWS + 30])
def test_squared_distances_within_groups(n):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, n, 20)) + 5
    exact = np.square(rows[:, :, None] - rows[:, None]).sum(axis=-1)
    alone = squared_distances(rows[1:2].copy())
    distances = squared_distances(rows)
    np.testing.assert_allclose(distances, exact, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(distances[1:2], alone)


def test_blas_keeps_to_one_thread_while_a_small_matrix_is_decomposed(monkeypatch):
    if not any(library["user_api"] == "blas" for library in threadpool_info()):
        pytest.skip("needs a BLAS whose threads are known, unlike macOS' Accelerate")
    n_threads = []

    def decompose(matrix, **options):
        n_threads.append(
            max(
                library["num_threads"]
                for library in threadpool_info()
                if library["user_api"] == "blas"
            )
        )
        return np.linalg.eigh(matrix)

    monkeypatch.setattr(blas.linalg, "eigh", decompose)
    monkeypatch.setattr(blas, "_MANY_ROWS", 5)
    with threadpool_limits(2, user_api="blas"):
        for n in (4, 5):
            blas.eigh(np.eye(n))
    assert n_threads == [1, 2]
