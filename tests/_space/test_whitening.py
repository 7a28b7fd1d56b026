import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from states import with_moments

from skimprint._space.moments import PooledMoments
from skimprint._space.whitening import (
    Whitening,
    precision_cholesky,
    spectrum_of_rows,
    spectrum_of_scatter,
    spectrum_without,
    within_class_covariance,
    within_class_spectrum,
)
from skimprint.normalization import l2_normalize


def pooled(X, y, sample_weight=None):
    return PooledMoments(with_moments(X, y, sample_weight))


def residuals(X, y):
    return np.concatenate([X[y == c] - X[y == c].mean(axis=0) for c in np.unique(y)])


def test_is_ledoit_wolf_of_the_residuals(digits):
    X, y = digits
    expected, _ = ledoit_wolf(residuals(X.astype(float), y), assume_centered=True)
    covariance = within_class_covariance(pooled(X, y))[0]
    np.testing.assert_allclose(covariance, expected, atol=1e-8)


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
        lengths = np.linalg.norm(root.T @ factor, axis=1)
        assert (lengths < 10 * np.sqrt(rank)).all()


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
@pytest.mark.parametrize("n, d", [(60, 5), (12, 40)])
def test_whitened_residuals_have_the_inverse_shrunk_covariance(n, d, shrinkage):
    X, _, means, R = scattered(n, d)
    origin = means.mean(axis=0)
    covariance = R.T @ R / n
    covariance = (1 - shrinkage) * covariance + (
        shrinkage * np.trace(covariance) / d * np.eye(d)
    )
    expected = cdist(X, X, "mahalanobis", VI=np.linalg.inv(covariance))
    spectra = [spectrum_of_scatter(R.T @ R, n)]
    if n < d:
        spectra.append(spectrum_of_rows(R, n, means - origin))
        assert len(spectra[-1].eigenvalues) == n - 1  # n - 3 within, 2 between
        spectra.append(spectrum_of_rows(R, n))
    for spectrum in spectra:
        whiten = Whitening(spectrum, origin, shrinkage)
        Z = whiten(X)
        np.testing.assert_allclose(cdist(Z, Z), expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(whiten(origin[None]), 0)


def test_whitening_with_all_shrinkage_only_centres_and_scales():
    X, _, means, R = scattered(60, 5)
    Z = Whitening(spectrum_of_scatter(R.T @ R, 60), means[0], 1.0)(X)
    np.testing.assert_allclose(Z * np.sqrt((R**2).mean()), X - means[0])


def test_nothing_is_whitened_where_nothing_varies():
    X = np.eye(3, 8)
    for spectrum in (
        spectrum_of_rows(np.zeros((3, 8)), 3, X - X.mean(axis=0)),
        spectrum_of_scatter(np.zeros((8, 8)), 3),
    ):
        Z = Whitening(spectrum, X[0], 0.5)(X)
        np.testing.assert_allclose(Z, X - X[0], atol=1e-12)


def test_nearest_whitened_mean_is_lda_without_priors():
    X, y, means, R = scattered(60, 5)
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3, priors=[1 / 3] * 3)
    # scikit-learn scales the features before it shrinks: do so before ours does.
    X = X / R.std(axis=0)
    means, R = means / R.std(axis=0), R / R.std(axis=0)
    spectrum = spectrum_of_scatter(R.T @ R, len(X))
    Z, P = map(Whitening(spectrum, means.mean(axis=0), 0.3), (X, means))
    np.testing.assert_array_equal(cdist(Z, P).argmin(axis=1), lda.fit(X, y).predict(X))


def test_whitening_of_float32_stays_float32():
    X, _, means, R = scattered(60, 5)
    spectrum = spectrum_of_scatter(R.T @ R, 60)
    whiten = Whitening(spectrum, means[0], 0.1)
    single = X.astype(np.float32)
    assert whiten(single).dtype == np.float32
    for other in (whiten, whiten.astype(np.float32)):
        assert other(single).dtype == np.float32
        np.testing.assert_allclose(other(single), whiten(X), rtol=1e-4, atol=1e-4)


def test_few_rows_are_whitened_as_many_are():
    X, _, means, R = scattered(60, 5)
    whiten = Whitening(spectrum_of_scatter(R.T @ R, 60), means[0], 0.1)
    few = np.concatenate([whiten(rows) for rows in np.split(X, 15)])  # 4 of 5 features
    np.testing.assert_allclose(few, whiten(X), atol=1e-12)


@pytest.mark.parametrize("d", [5, 60])  # less and more than there are samples
def test_spectrum_without_some_samples(d):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [10, 15, 7])
    X = rng.normal(size=(len(y), d)) + y[:, None]
    weights = rng.uniform(0.5, 2, len(y))
    everything = pooled(X, y, weights)
    origin = everything.means.mean(axis=0)
    gone = np.isin(np.arange(len(y)), [0, 1, 2, 11, 30])
    found, means = spectrum_without(
        within_class_spectrum(everything, origin, everything.means),
        everything.weights,
        everything.means,
        X[gone],
        y[gone],
        weights[gone],
    )
    rest = pooled(X[~gone], y[~gone], weights[~gone])
    np.testing.assert_allclose(means, rest.means)
    assert found.total_weight == pytest.approx(rest.weights.sum())
    scatter = (found.basis * found.eigenvalues) @ found.basis.T
    np.testing.assert_allclose(scatter, rest.scatter, atol=1e-9)
    expected = 0.8 * rest.scatter / rest.weights.sum()
    expected += 0.2 * np.trace(rest.scatter) / rest.weights.sum() / d * np.eye(d)
    np.testing.assert_allclose(found.covariance(0.2), expected, atol=1e-9)
