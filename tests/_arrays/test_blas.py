import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skimprint._arrays import blas
from skimprint._arrays.blas import squared_distances


@pytest.mark.parametrize("n", [1, 2, 30, 100])
def test_squared_distances_within_groups(n):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, n, 20)) + 5
    exact = np.square(rows[:, :, None] - rows[:, None]).sum(axis=-1)
    alone = squared_distances(rows[1:2].copy())
    distances = squared_distances(rows)
    np.testing.assert_allclose(distances, exact, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(distances[1:2], alone)


def test_blas_keeps_to_one_thread_while_a_small_matrix_is_decomposed(monkeypatch):
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
