import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from skimprint._moments import PooledMoments, moments_of
from skimprint.whitening import precision_cholesky, within_class_covariance


def pooled(X, y, sample_weight=None):
    weights = np.ones(len(y)) if sample_weight is None else sample_weight
    return PooledMoments(
        {c: moments_of(X[y == c], weights[y == c]) for c in np.unique(y)}
    )


def residuals(X, y):
    return np.concatenate([X[y == c] - X[y == c].mean(axis=0) for c in np.unique(y)])


def test_is_ledoit_wolf_of_the_residuals(digits):
    X, y = digits
    expected, _ = ledoit_wolf(residuals(X.astype(float), y), assume_centered=True)
    covariance = within_class_covariance(pooled(X, y))
    np.testing.assert_allclose(covariance, expected, atol=1e-8)


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    X, y, weights = rng.normal(size=(30, 4)), rng.integers(0, 3, 30), np.arange(30) % 4
    X, y, weights = X[weights > 0], y[weights > 0], weights[weights > 0]
    np.testing.assert_allclose(
        within_class_covariance(pooled(X, y, weights)),
        within_class_covariance(
            pooled(np.repeat(X, weights, axis=0), np.repeat(y, weights))
        ),
    )


def test_is_the_identity_where_nothing_varies():
    moments = pooled(np.eye(3), np.arange(3))
    np.testing.assert_array_equal(within_class_covariance(moments), np.eye(3))
    copies = np.full((3, 3), 0.1)
    assert not np.array_equal(np.average(copies, 0, [1, 1, 1]), copies[0])
    moments = pooled(copies, np.zeros(3, int))
    np.testing.assert_array_equal(within_class_covariance(moments), np.eye(3))


def test_is_the_covariance_of_lda_without_shrinkage():
    rng = np.random.default_rng(0)
    # So many samples that Ledoit and Wolf's shrinkage is negligible.
    X = rng.normal(size=(60_000, 3)) @ [[3, 0, 0], [1, 1, 0], [0, 1, 0.2]]
    y = rng.integers(0, 4, len(X))
    lda = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(X, y)
    np.testing.assert_allclose(
        within_class_covariance(pooled(X, y)), lda.covariance_, atol=1e-3
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
