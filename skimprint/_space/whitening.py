"""Shrunk within-class covariance of the support set, and the space it whitens."""

from copy import copy
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import linalg

from .._arrays.blas import eigh
from ..cluster._kmeans.sums import cluster_sums

# The smallest shrinkage: 0 would divide by the eigenvalues that are zero.
_MIN_SHRINKAGE = 1e-6

# Squared singular values below this share of the largest one are rounding errors.
_RANK_TOLERANCE = 1e-12


class ScatterSpectrum(NamedTuple):
    """Eigenvalues and eigenvectors of a scatter matrix: of a sum, not of a mean.

    With fewer samples than features only the directions in which there is anything are
    kept; in all others the scatter is zero.

    Attributes
    ----------
    eigenvalues : ndarray of shape (n_directions,)
        Not negative, of dtype float64.
    basis : ndarray of shape (n_features, n_directions)
        Orthonormal columns.
    total_weight : float
        Sum of the weights of the samples.
    """

    eigenvalues: np.ndarray
    basis: np.ndarray
    total_weight: float

    @property
    def variance(self):
        """Mean variance of a feature."""
        return self.eigenvalues.sum() / len(self.basis) / self.total_weight

    def project(self, X):
        """Compute coordinates of the rows of X, in the dtype of X."""
        return X @ self.basis.astype(X.dtype, copy=False)

    def covariance(self, shrinkage):
        """Compute the shrunk covariance, of shape (n_features, n_features)."""
        scales = (1 - shrinkage) / self.total_weight * self.eigenvalues
        covariance = (self.basis * scales) @ self.basis.T
        covariance[np.diag_indices(len(covariance))] += shrinkage * self.variance
        return covariance

    def precision(self, shrinkage):
        """Invert the eigenvalues of the shrunk covariance, of shape (n_directions,).

        Parameters
        ----------
        shrinkage : float
            Share of the mean variance, in [0, 1]; the inverse needs at least 1e-6.

        Returns
        -------
        precision : ndarray of shape (n_directions,)
            All ones where nothing varies.
        """
        variance = self.variance
        if variance == 0:
            return np.ones(len(self.eigenvalues))
        shrinkage = max(shrinkage, _MIN_SHRINKAGE)
        covariance = (1 - shrinkage) / self.total_weight * self.eigenvalues
        return 1 / (covariance + shrinkage * variance)


def spectrum_of_scatter(scatter, total_weight):
    """Compute the spectrum of a scatter matrix, in all directions.

    Parameters
    ----------
    scatter : ndarray of shape (n_features, n_features)
        Symmetric and positive semi-definite, of dtype float64.
    total_weight : float
        Sum of the weights of the samples.

    Returns
    -------
    spectrum : ScatterSpectrum
        With ``n_directions = n_features``.
    """
    eigenvalues, basis = eigh(scatter, check_finite=False)
    return ScatterSpectrum(np.maximum(eigenvalues, 0), basis, float(total_weight))


def spectrum_of_rows(residuals, total_weight, others=None):
    """Compute the spectrum of the scatter of few rows, without the matrix of features.

    Parameters
    ----------
    residuals : ndarray of shape (n_rows, n_features)
        Rows whose scatter is meant: centred, and times the root of their weights.
    total_weight : float
        Sum of the weights of the samples.
    others : ndarray of shape (n_others, n_features), default=None
        More rows that the basis has to span, such as the class means less their mean.

    Returns
    -------
    spectrum : ScatterSpectrum
        With at most ``n_rows + n_others`` directions.
    """
    residuals = residuals.astype(np.float64, copy=False)
    values, vectors = eigh(residuals @ residuals.T)
    kept = values > _RANK_TOLERANCE * max(values.max(), 0)
    values = values[kept]
    basis = residuals.T @ (vectors[:, kept] / np.sqrt(values))
    if others is not None:
        rest = others.astype(np.float64, copy=False)
        for _ in range(2):  # once more, for what rounding left
            rest = rest - (rest @ basis) @ basis.T
        more, triangle, _ = linalg.qr(rest.T, mode="economic", pivoting=True)
        size = np.linalg.norm(others)
        new = np.abs(np.diag(triangle)) > np.sqrt(_RANK_TOLERANCE) * size
        basis = np.hstack([basis, more[:, new]])
        values = np.concatenate([values, np.zeros(new.sum())])
    return ScatterSpectrum(values, basis, float(total_weight))


def within_class_spectrum(moments, origin, means):
    """Compute the spectrum of the scatter within classes, in the smaller space.

    Parameters
    ----------
    moments : PooledMoments
        Of the support embeddings.
    origin : ndarray of shape (n_features,)
        Where the means are seen from.
    means : ndarray of shape (n_classes, n_features)
        Of the classes, those without moments included.

    Returns
    -------
    spectrum : ScatterSpectrum
        Without any direction where no class varies.
    """
    total = float(moments.weights.sum())
    if not moments.varies:
        return ScatterSpectrum(np.empty(0), np.empty((len(origin), 0)), total)
    if moments.factor is None:
        return spectrum_of_scatter(moments.scatter, total)
    return spectrum_of_rows(moments.factor, total, means - origin)


def spectrum_without(spectrum, class_weight, means, rows, codes, weights):
    """Compute the spectrum of the scatter within classes without some samples.

    Parameters
    ----------
    spectrum : ScatterSpectrum
        With them; its basis spans samples and means.
    class_weight : ndarray of shape (n_classes,)
        Sum of the weights of each class.
    means : ndarray of shape (n_classes, n_features)
        The class means.
    rows : ndarray of shape (n, n_features)
        The samples to do without, but not all that a class has.
    codes : ndarray of shape (n,)
        The class of each.
    weights : ndarray of shape (n,)
        The weight of each.

    Returns
    -------
    spectrum : ScatterSpectrum
        Of the other samples.
    means : ndarray of shape (n_classes, n_features)
        Of the other samples.
    """
    left = class_weight - np.bincount(codes, weights, minlength=len(means))
    left = np.maximum(left, _RANK_TOLERANCE * class_weight)[:, None]
    residuals = rows - means[codes]
    sums = cluster_sums(residuals, [codes.astype(np.int32)], [weights], len(means))
    # The class mean moves too, away from what it loses.
    lost = [np.sqrt(weights)[:, None] * residuals, sums / np.sqrt(left)]
    coordinates = spectrum.project(np.concatenate(lost))
    scatter = -coordinates.T @ coordinates
    scatter[np.diag_indices(len(scatter))] += spectrum.eigenvalues
    found = spectrum_of_scatter(scatter, spectrum.total_weight - weights.sum())
    values, basis = found.eigenvalues, spectrum.basis @ found.basis
    values[values < _RANK_TOLERANCE * spectrum.eigenvalues.max()] = 0
    return ScatterSpectrum(values, basis, found.total_weight), means - sums / left


class Whitening:
    """Map embeddings to the space where the shrunk covariance is the identity.

    The whitening is the symmetric one, ``(X - origin) covariance^(-1/2)``, with
    ``covariance = (1 - s) S / N + s variance I``.

    Parameters
    ----------
    spectrum : ScatterSpectrum
        Of the scatter ``S`` within the classes.
    origin : ndarray of shape (n_features,)
        What becomes zero.
    shrinkage : float
        The share ``s``. With 1, only the origin and the scale change.
    """

    def __init__(self, spectrum, origin, shrinkage):
        self.origin = origin
        variance = spectrum.variance
        # The factor of all directions that the basis leaves out.
        self.outside = 1.0
        if variance > 0:
            self.outside = float(1 / np.sqrt(max(shrinkage, _MIN_SHRINKAGE) * variance))
        self.basis = spectrum.basis
        self.inside = np.sqrt(spectrum.precision(shrinkage)) - self.outside

    def __call__(self, X):
        """Rows in the whitened space.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
            Rows, or proxies.

        Returns
        -------
        whitened : ndarray of shape (n, n_features)
            In the dtype of ``X``. Where nothing varies, ``X - origin``.
        """
        return self.apply(X - self.origin.astype(X.dtype, copy=False))

    def apply(self, X):
        """Whiten differences of rows, which have no origin."""
        n_features, n_directions = self.basis.shape
        if 2 * n_directions > n_features and len(X) > n_features:
            return X @ self.matrix.astype(X.dtype, copy=False)
        basis = self.basis.astype(X.dtype, copy=False)
        inside = self.inside.astype(X.dtype, copy=False)
        return self.outside * X + ((X @ basis) * inside) @ basis.T

    @cached_property
    def matrix(self):
        """Of all features: for many rows, one product costs less than two."""
        matrix = (self.basis * self.inside) @ self.basis.T
        matrix[np.diag_indices(len(matrix))] += self.outside
        return matrix

    def astype(self, dtype):
        """Prepare the same whitening for rows of a dtype."""
        other = copy(self)
        vars(other).pop("matrix", None)
        for name in ("origin", "basis", "inside"):
            setattr(other, name, getattr(self, name).astype(dtype, copy=False))
        return other


def within_class_covariance(moments):
    """Estimate the pooled within-class covariance with Ledoit-Wolf shrinkage.

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
    shrinkage : float
        The share ``s``.

    References
    ----------
    .. [1] O. Ledoit, M. Wolf, "A well-conditioned estimator for large-dimensional
       covariance matrices", Journal of Multivariate Analysis 88, 2004.
    """
    total, d = moments.weights.sum(), moments.means.shape[1]
    if not moments.varies:
        return np.eye(d), 1.0
    covariance = moments.scatter / total
    variance = np.trace(covariance) / d
    # |S - variance I|^2 and the expected squared error of S: Ledoit and Wolf's d^2, b^2
    squares = (covariance**2).sum()
    dispersion = squares - d * variance**2
    error = (moments.fourth / total - squares) / total
    shrinkage = np.clip(error / dispersion, 0, 1) if dispersion > 0 else 1.0
    covariance *= 1 - shrinkage
    covariance[np.diag_indices(d)] += shrinkage * variance
    return covariance, float(shrinkage)


def precision_cholesky(covariance):
    """Factor the inverse covariance: |F^T x| is the Mahalanobis length of x.

    Parameters
    ----------
    covariance : ndarray of shape (n_features, n_features)
        Positive definite, or nearly so.

    Returns
    -------
    factor : ndarray of shape (n_features, n_features)
        ``X @ factor`` has the Euclidean distances that ``X`` has under Mahalanobis. The
        identity where nothing varies.
    """
    d = len(covariance)
    if not covariance.any():
        return np.eye(d)
    # Shrinkage of 0 on rank-deficient data: a floor far below any real variance, but
    # above what rounding of the samples, in their dtype, has left of zero.
    floor = np.finfo(covariance.dtype).eps * np.trace(covariance)
    lower = None
    while lower is None:
        try:
            lower = linalg.cholesky(covariance + floor * np.eye(d), lower=True)
        except linalg.LinAlgError:
            floor *= 10
    return linalg.solve_triangular(lower, np.eye(d), lower=True).T
