import numpy as np
import pytest

from skimprint._blas import _WORTH_IT, dot_transposed

LAYOUTS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda A: np.repeat(A, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 4, 5), (20, 300, 200)])
@pytest.mark.parametrize("layout_a", LAYOUTS)
@pytest.mark.parametrize("layout_b", LAYOUTS)
def test_product_in_any_layout(layout_a, layout_b, shape, dtype):
    n, m, d = shape
    assert (n * m * d >= _WORTH_IT) == (shape != (3, 4, 5))
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(n, d)).astype(dtype), rng.normal(size=(m, d)).astype(dtype)
    product = dot_transposed(LAYOUTS[layout_a](A), LAYOUTS[layout_b](B), -2.0)
    np.testing.assert_allclose(product, -2 * A @ B.T, rtol=1e-5, atol=1e-4)
