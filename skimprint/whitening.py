"""Shrunk within-class covariance of the support set, and the space it whitens."""

import numpy as np
from scipy import linalg


def within_class_covariance(moments):
    """Pooled within-class covariance with Ledoit-Wolf shrinkage.

    Samples are centred on their class mean; the shrinkage ``(1 - s) S + s tr(S) / d I``
    is the one that Ledoit and Wolf [1]_ find closest to the true covariance, for the
    residuals of all classes together.

    Parameters
    ----------
    moments : PooledMoments
        Of the support embeddings.

    Returns
    -------
    covariance : ndarray of shape (n_features, n_features)
        Of dtype float64. The identity where no class varies (one sample per class).

    References
    ----------
    .. [1] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional
       covariance matrices", Journal of Multivariate Analysis 88, 2004.
    """
    total, d = moments.weights.sum(), moments.means.shape[1]
    if not moments.varies:
        return np.eye(d)
    covariance = moments.scatter / total
    variance = np.trace(covariance) / d
    # |S - variance I|^2 and the expected squared error of S: Ledoit and Wolf's d^2, b^2
    squares = (covariance**2).sum()
    dispersion = squares - d * variance**2
    error = (moments.fourth / total - squares) / total
    shrinkage = np.clip(error / dispersion, 0, 1) if dispersion > 0 else 1.0
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
