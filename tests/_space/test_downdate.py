"""The whitened space without a sample: against one that is made without it."""

import numpy as np
import pytest

from skimprint._space.downdate import Downdate, Vectors, shift_without
from skimprint._space.whitening import Scatter, Whitening


def test_how_far_a_mean_moves_from_a_sample_that_goes():
    X, weights = np.random.default_rng(0).normal(size=(6, 2)), np.arange(1.0, 7)
    mean = np.average(X, axis=0, weights=weights)
    shift = shift_without(weights.sum(), weights)
    for i in range(6):
        left = np.arange(6) != i
        expected = np.average(X[left], axis=0, weights=weights[left])
        np.testing.assert_allclose(mean + shift[i] * (mean - X[i]), expected)
    assert np.isfinite(shift_without(np.ones(1), np.ones(1))).all()


@pytest.mark.parametrize("n, d", [(60, 5), (12, 40)])
def test_a_whitening_loses_an_outer_product(n, d):
    """Products, cosines and coordinates are those of the smaller covariance."""
    rng = np.random.default_rng(n)
    R, P, X = (rng.normal(size=(rows, d)) for rows in (n, 7, n))
    scatter, lost = Scatter.of_rows(R, n), np.full(n, 0.5 / n)
    whitening = Whitening.of(scatter, np.zeros(d), 0.3)
    x, p, r = whitening(X), whitening(P), whitening(R)
    downdate = Downdate(np.einsum("ij,ij->i", r, r), lost)
    shift = rng.normal(size=n)
    vectors = Vectors(np.einsum("ij,ij->i", p, p)[:, None], p @ r.T, shift)
    queries = Vectors(
        np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", x, r), 0 * shift
    )
    products = downdate.products(vectors, queries, p @ x.T)
    cosines = downdate.cosines(vectors, queries, p @ x.T)
    squares = downdate.squared_lengths(vectors)
    moved = downdate.moved(x, r, 0 * shift)
    for i in range(n):
        inverse = np.linalg.inv(
            scatter.covariance(0.3) - lost[i] * np.outer(R[i], R[i])
        )
        shifted = P + shift[i] * R[i]
        expected = shifted @ inverse @ X[i]
        np.testing.assert_allclose(products[:, i], expected, rtol=1e-8)
        lengths = np.einsum("ij,jk,ik->i", shifted, inverse, shifted)
        np.testing.assert_allclose(squares[:, i], lengths, rtol=1e-8)
        expected /= np.sqrt(lengths * (X[i] @ inverse @ X[i]))
        np.testing.assert_allclose(cosines[:, i], expected, rtol=1e-8)
        which = np.full(7, i)
        near = downdate.moved(p, r[which], shift[which], which)
        np.testing.assert_allclose(near @ moved[i], products[:, i], rtol=1e-8)
        back = downdate.moved_back(near, r[which], which)
        np.testing.assert_allclose(back, p + shift[i] * r[i], atol=1e-10)
