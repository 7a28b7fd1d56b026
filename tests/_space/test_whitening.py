import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from states import with_moments

from skimprint._space.moments import CommonMoments
from skimprint._space.whitening import (
    Scatter,
    Whitening,
    precision_cholesky,
    within_class_covariance,
)
from skimprint.normalization import l2_normalize


def pooled(X, y, sample_weight=None):
    return CommonMoments(with_moments(X, y, sample_weight))


def residuals(X, y):
    return np.concatenate([X[y == c] - X[y == c].mean(axis=0) for c in np.unique(y)])


def test_is_ledoit_wolf_of_the_residuals(digits):
    X, y = digits
    expected, _ = ledoit_wolf(residuals(X.astype(float), y), assume_centered=True)
    covariance = within_class_covariance(pooled(X, y))[0]
    np.testing.assert_allclose(covariance, expected, atol=1e-8)


@pytest.mark.parametrize("n, d", [(4, 1), (5, 3), (9, 20), (60, 4)])
def test_is_ledoit_wolf_where_features_vary_alike(n, d):
    """For half of such samples, all of the covariance is shrunk."""
    for seed in range(10):
        X, y = np.random.default_rng(seed).normal(size=(n, d)), np.arange(n) % 2
        expected, _ = ledoit_wolf(residuals(X, y), assume_centered=True)
        covariance, shrinkage = within_class_covariance(pooled(X, y))
        np.testing.assert_allclose(covariance, expected, atol=1e-12)
        assert 0 <= shrinkage <= 1


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    X, y, weights = rng.normal(size=(30, 4)), rng.integers(0, 3, 30), np.arange(30) % 4
    X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
    np.testing.assert_allclose(
        within_class_covariance(pooled(X, y, weights))[0],
        within_class_covariance(
            pooled(np.repeat(X, weights, axis=0), np.repeat(y, weights))
        )[0],
    )


def test_is_the_identity_where_nothing_varies():
    moments = pooled(np.eye(3), np.arange(3))
    np.testing.assert_array_equal(within_class_covariance(moments)[0], np.eye(3))
    copies = np.full((3, 3), 0.1)
    assert not np.array_equal(np.average(copies, 0, [1, 1, 1]), copies[0])
    moments = pooled(copies, np.zeros(3, int))
    np.testing.assert_array_equal(within_class_covariance(moments)[0], np.eye(3))


def test_is_the_covariance_of_lda_without_shrinkage():
    rng = np.random.default_rng(0)
    # So many samples that Ledoit and Wolf's shrinkage is negligible.
    X = rng.normal(size=(60_000, 3)) @ [[3, 0, 0], [1, 1, 0], [0, 1, 0.2]]
    y = rng.integers(0, 4, len(X))
    lda = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(X, y)
    np.testing.assert_allclose(
        within_class_covariance(pooled(X, y))[0], lda.covariance_, atol=1e-3
    )


@pytest.mark.parametrize("rank", [2, 5])
def test_factor_gives_mahalanobis_distances(rank):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, rank))
    covariance = root @ root.T
    factor = precision_cholesky(covariance)
    assert np.isfinite(factor).all()
    if rank == 5:
        X = rng.normal(size=(6, 5))
        np.testing.assert_allclose(
            cdist(X @ factor, X @ factor),
            cdist(X, X, "mahalanobis", VI=np.linalg.inv(covariance)),
            rtol=1e-6,
        )


def test_factor_of_what_rounding_has_left():
    np.testing.assert_array_equal(precision_cholesky(np.zeros((3, 3))), np.eye(3))
    rng = np.random.default_rng(0)
    for rank in range(1, 6):
        root = rng.normal(size=(6, rank))
        covariance = (root @ root.T).astype(np.float32).astype(np.float64)
        factor = precision_cholesky(covariance)
        assert np.isfinite(factor).all()
        whitened = root.T @ factor
        np.testing.assert_allclose(whitened @ whitened.T, np.eye(rank), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_of_equal_directions_do_not_vary(dtype):
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 100, (50, 1)) * rng.normal(size=5)
    X = l2_normalize(X.astype(dtype))
    assert len(np.unique(X, axis=0)) > 1
    moments = pooled(X, np.zeros(50, int))
    np.testing.assert_array_equal(within_class_covariance(moments)[0], np.eye(5))


def scattered(n, d):
    rng = np.random.default_rng(d)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 3, d)
    y = np.arange(n) % 3
    means = np.array([X[y == c].mean(axis=0) for c in range(3)])
    return X, y, means, X - means[y]


@pytest.mark.parametrize("shrinkage", [1e-3, 0.5, 1.0])
@pytest.mark.parametrize("n, d", [(60, 5), (12, 30), (12, 40)])
def test_whitened_residuals_have_the_inverse_shrunk_covariance(n, d, shrinkage):
    X, _, means, R = scattered(n, d)
    origin = means.mean(axis=0)
    covariance = R.T @ R / n
    covariance = (1 - shrinkage) * covariance + (
        shrinkage * np.trace(covariance) / d * np.eye(d)
    )
    expected = cdist(X, X, "mahalanobis", VI=np.linalg.inv(covariance))
    scatters = [Scatter(n, R[:0], R.T @ R), Scatter(n, R), Scatter.of_rows(R, n)]
    assert (scatters[-1].matrix is None) == (1.5 * n < d)
    for scatter in scatters:
        np.testing.assert_allclose(scatter.covariance(shrinkage), covariance)
        whiten = Whitening.of(scatter, origin, shrinkage)
        Z = whiten(X)
        np.testing.assert_allclose(cdist(Z, Z), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(whiten(origin[None]), 0)
        np.testing.assert_allclose(whiten.solve(X), Z, rtol=1e-9, atol=1e-9)
        products = whiten.solve_transposed(Z) @ (X - origin).T
        np.testing.assert_allclose(products, Z @ Z.T, atol=1e-9)


def test_whitening_with_all_shrinkage_only_centres_and_scales():
    X, _, means, R = scattered(60, 5)
    Z = Whitening.of(Scatter.of_rows(R, 60), means[0], 1.0)(X)
    np.testing.assert_allclose(Z * np.sqrt((R**2).mean()), X - means[0])


def test_nothing_is_whitened_where_nothing_varies():
    X = np.eye(3, 8)
    for scatter in (Scatter(3.0, np.zeros((3, 8))), Scatter(3.0, X[:0], 0 * X.T @ X)):
        Z = Whitening.of(scatter, X[0], 0.5)(X)
        np.testing.assert_allclose(Z, X - X[0], atol=1e-12)


def test_nearest_whitened_mean_is_lda_without_priors():
    X, y, means, R = scattered(60, 5)
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=[1 / 3] * 3)
    # scikit-learn scales the features before it shrinks: do so before ours does.
    X = X / R.std(axis=0)
    means, R = means / R.std(axis=0), R / R.std(axis=0)
    scatter = Scatter.of_rows(R, len(X))
    Z, P = map(Whitening.of(scatter, means.mean(axis=0), 0.3), (X, means))
    np.testing.assert_array_equal(cdist(Z, P).argmin(axis=1), lda.fit(X, y).predict(X))


@pytest.mark.parametrize("n, d", [(60, 5), (12, 40)])
def test_whitening_of_float32_stays_float32(n, d):
    X, _, means, R = scattered(n, d)
    whiten, narrow = (
        Whitening.of(Scatter.of_rows(R, n), means[0], 0.1, dtype)
        for dtype in (np.float64, np.float32)
    )
    single = X.astype(np.float32)
    assert narrow(single).dtype == np.float32
    np.testing.assert_allclose(narrow(single), whiten(X), rtol=1e-4, atol=1e-4)
    for rows in (single, X):
        assert narrow.solve(rows).dtype == np.float32
        np.testing.assert_allclose(narrow.solve(rows), whiten(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n, d", [(60, 5), (12, 40)])
def test_the_scale_of_rows_changes_no_bit(n, d, dtype):
    X, _, means, R = scattered(n, d)
    expected = Whitening.of(Scatter.of_rows(R, n), means[0], 0.1, dtype).solve(X)
    for scale in 2.0 ** np.array([-60, -50, 50, 60]):  # of which float32 has no cubes
        scatter = Scatter.of_rows(scale * R, n)
        whiten = Whitening.of(scatter, scale * means[0], 0.1, dtype)
        np.testing.assert_array_equal(whiten.solve(scale * X), expected)


@pytest.mark.parametrize("n, d", [(60, 5), (12, 40)])
def test_rows_of_which_float64_has_no_cubes(n, d):
    X, _, means, R = scattered(n, d)
    expected = Whitening.of(Scatter.of_rows(R, n), means[0], 0.1).solve(X)
    scatter = Scatter.of_rows(1e145 * R, n)
    whiten = Whitening.of(scatter, 1e145 * means[0], 0.1)
    np.testing.assert_allclose(whiten.solve(1e145 * X), expected, rtol=1e-9)


@pytest.mark.parametrize("least", [1e-3, 1e-6])
def test_a_factor_of_float32_costs_the_root_of_the_condition(least):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(200, 200)))[0]
    covariance = (turn * np.geomspace(1, least, 200)) @ turn.T
    R = rng.normal(size=(500, 200)) @ np.linalg.cholesky(covariance).T
    scatter = Scatter.of_rows(R, 500)
    exact, rounded = (
        Whitening.of(scatter, np.zeros(200), 1e-6, dtype).solve(R)
        for dtype in (np.float64, np.float32)
    )
    loss = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert loss < 1e-7 / np.sqrt(least)


@pytest.mark.parametrize("n, d", [(60, 5), (12, 40)])
def test_spectrum_makes_the_scatter_and_its_inverse(n, d):
    R = scattered(n, d)[3]
    scatter = Scatter.of_rows(R, n)
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        spectrum = scatter.spectrum(dtype)
        assert spectrum.factor.dtype == dtype
        factor = spectrum.factor.astype(np.float64)
        tolerance *= np.trace(R.T @ R)
        np.testing.assert_allclose(factor.T @ factor, R.T @ R, atol=tolerance)
        diagonal = np.diag(spectrum.eigenvalues)
        np.testing.assert_allclose(factor @ factor.T, diagonal, atol=tolerance)
    factor = scatter.spectrum().factor
    inverse = np.eye(d) / 0.7 - (
        factor.T * scatter.spectrum().correction(0.3, 0.7) @ factor
    )
    expected = np.linalg.inv(0.3 * R.T @ R + 0.7 * np.eye(d))
    np.testing.assert_allclose(inverse, expected, atol=1e-9)


def test_a_covariance_that_is_not_finite_is_refused():
    for covariance in ([[np.nan, 0], [0, 1]], [[1, np.nan], [np.nan, 1]], [[np.inf]]):
        with pytest.raises(ValueError, match="infs or NaNs"):
            precision_cholesky(np.array(covariance))
