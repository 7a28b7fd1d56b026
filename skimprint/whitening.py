"""Shrunk within-class covariance of the support set, and the space it whitens."""

import numpy as np
from scipy import linalg


def within_class_covariance(groups):
    """Pooled within-class covariance with Ledoit-Wolf shrinkage.

    The rows of each class are centred on their class mean; the shrinkage
    ``(1 - s) S + s tr(S) / d I`` is the one that Ledoit and Wolf [1]_ find closest to
    the true covariance, for the residuals of all classes together.

    Parameters
    ----------
    groups : GroupedRows
        The support embeddings by class.

    Returns
    -------
    covariance : ndarray of shape (n_features, n_features)
        Of dtype float64. The identity where no class varies (one sample per class).

    References
    ----------
    .. [1] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional
       covariance matrices", Journal of Multivariate Analysis 88, 2004.
    """
    d = groups.n_features
    scatter = np.zeros((d, d))
    total, fourth_powers = 0.0, 0.0
    for group in range(len(groups)):
        residuals = groups.rows(group).astype(np.float64, copy=False)
        weights = groups.weights(group)
        if weights is None:
            weights = np.ones(len(residuals))
        residuals = residuals - np.average(residuals, axis=0, weights=weights)
        scatter += residuals.T @ (residuals * weights[:, None])
        squares = np.einsum("ij,ij->i", residuals, residuals)
        fourth_powers += weights @ squares**2
        total += weights.sum()
    covariance = scatter / total
    variance = np.trace(covariance) / d
    if variance == 0:
        return np.eye(d)
    # |S - variance I|^2 and the expected squared error of S: Ledoit and Wolf's d^2, b^2
    dispersion = (covariance**2).sum() - d * variance**2
    error = (fourth_powers / total - (covariance**2).sum()) / total
    shrinkage = min(1.0, error / dispersion) if dispersion > 0 else 1.0
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(d)] += shrinkage * variance
    return covariance


def precision_cholesky(covariance):
    """Factor F of the inverse covariance: |F^T x| is the Mahalanobis length of x.

    Parameters
    ----------
    covariance : ndarray of shape (n_features, n_features)
        Positive definite, or nearly so.

    Returns
    -------
    factor : ndarray of shape (n_features, n_features)
        ``X @ factor`` has the Euclidean distances that ``X`` has under Mahalanobis.
    """
    d = len(covariance)
    # Shrinkage of 0 on rank-deficient data: a floor far below any real variance.
    floor = np.finfo(covariance.dtype).eps * np.trace(covariance)
    lower = linalg.cholesky(covariance + floor * np.eye(d), lower=True)
    return linalg.solve_triangular(lower, np.eye(d), lower=True).T
