"""Shrunk within-class covariance of the support set, and the space it whitens.

A `Space` makes both. A `Head` whitens proxies, and a `Similarity` queries.
"""

from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import get_blas_funcs, get_lapack_funcs

from .._arrays.blas import eigh, one_thread_if_small
from .._arrays.threads import cached_property

# The smallest shrinkage: 0 would divide by the eigenvalues that are zero.
MIN_SHRINKAGE = 1e-6

# Rows are few if so many times their number is less than that of the features: then
# decomposing their inner products takes less time than the matrix of all features, and
# to whiten by them takes about as long.
_FEW = 1.5


@dataclass(frozen=True, eq=False)
class Scatter:
    """Scatter of samples within their classes: of a sum, not of a mean.

    Parameters
    ----------
    total_weight : float
        Sum of the weights of the samples.
    rows : ndarray of shape (n_rows, n_features)
        Of few samples, ``rows.T @ rows`` is the scatter; of many there are none.
    matrix : ndarray of shape (n_features, n_features) or None
        The scatter, of many samples.
    """

    total_weight: float
    rows: np.ndarray
    matrix: np.ndarray | None = None

    @classmethod
    def of_rows(cls, rows, total_weight):
        """Find the smaller form of the scatter of rows.

        Parameters
        ----------
        rows : ndarray of shape (n_rows, n_features)
            Residuals from the class means, times the roots of their weights.
        total_weight : float
            Sum of the weights of the samples.

        Returns
        -------
        scatter : Scatter
        """
        if _FEW * len(rows) < rows.shape[1]:
            return cls(total_weight, rows)
        return cls(total_weight, rows[:0], rows.T @ rows)

    @property
    def variance(self):
        """Mean variance of a feature."""
        trace = np.vdot(self.rows, self.rows)
        if self.matrix is not None:
            trace = np.trace(self.matrix)
        return float(trace / self.rows.shape[1] / self.total_weight)

    def covariance(self, shrinkage):
        """Compute the shrunk covariance, of shape (n_features, n_features)."""
        matrix = self.rows.T @ self.rows if self.matrix is None else self.matrix
        covariance = (1 - shrinkage) / self.total_weight * matrix
        covariance[np.diag_indices(len(covariance))] += shrinkage * self.variance
        return covariance

    def spectrum(self, dtype=np.float64, scale=1.0):
        """Decompose the scatter, in a precision.

        Parameters
        ----------
        dtype : dtype, default=float64
            In float32 it takes half of the time. Scaled, the scatter must not be so
            small or large then that float32 cannot hold it.
        scale : float, default=1.0
            Samples are meant that are multiplied by this number.

        Returns
        -------
        spectrum : Spectrum
        """
        if self.matrix is None:
            values, factor = self._spectrum_of_rows
            factor = (factor * scale).astype(dtype, copy=False)
            return Spectrum(values * scale**2, factor)
        matrix = (self.matrix * scale**2).astype(dtype, copy=False)
        values, vectors = eigh(matrix, overwrite_a=True, check_finite=False)
        values = np.maximum(values, 0)  # rounding
        return Spectrum(values.astype(np.float64), (vectors * np.sqrt(values)).T)

    @cached_property
    def _spectrum_of_rows(self):
        """Spectrum of few rows: the choice and the whitening ask for it."""
        values, vectors = eigh(self.rows @ self.rows.T, check_finite=False)
        return Spectrum(np.maximum(values, 0), vectors.T @ self.rows)


class Spectrum(NamedTuple):
    r"""Orthogonal rows :math:`F` of which a scatter is made: :math:`S = F^T F`.

    With it, the inverse of a regularised scatter is

    .. math::

        (a S + c I)^{-1} = \frac{1}{c} I - F^T \operatorname{diag}
        \left( \frac{a}{c (a \lambda + c)} \right) F,

    as both sides have the eigenvalue :math:`1 / (a \lambda + c)` in the direction of a
    row of squared length :math:`\lambda`, and :math:`1 / c` in all others. No
    eigenvalue is divided by, so that few rows need no basis of anything else.

    Attributes
    ----------
    eigenvalues : ndarray of shape (n_directions,)
        The squared lengths of the rows, not negative, of dtype float64.
    factor : ndarray of shape (n_directions, n_features)
        The rows.
    """

    eigenvalues: np.ndarray
    factor: np.ndarray

    def project(self, X):
        """Multiply rows of X with the directions, in the dtype of X."""
        return X @ self.factor.T.astype(X.dtype, copy=False)

    def correction(self, a, c):
        """Compute what the inverse lacks in each direction: (n_directions,)."""
        return a / (c * (a * self.eigenvalues + c))


class Whitening:
    """Map embeddings to a space where the shrunk covariance is the identity.

    With ``covariance = (1 - s) S / N + s variance I``, rows ``X - origin`` are
    multiplied by a matrix ``W`` for which ``W W^T`` is the inverse of the covariance:
    of many samples the inverse of its Cholesky factor, and of few its inverse symmetric
    root.

    Parameters
    ----------
    origin : ndarray of shape (n_features,)
        What becomes zero.
    cholesky : ndarray of shape (n_features, n_features) or None
        Of many samples, upper triangular: ``cholesky.T @ cholesky`` is the covariance.
    outside : float, default=1.0
        Of few, the factor of all directions in which there is no scatter.
    basis : ndarray of shape (n_features, n_directions), default=None
        Of few, the directions of the scatter, of any lengths.
    inside : ndarray of shape (n_directions,), default=None
        What is added for them: ``W = outside I + basis diag(inside) basis^T``.
    """

    def __init__(self, origin, cholesky=None, *, outside=1.0, basis=None, inside=None):
        self.origin = origin
        self.cholesky = cholesky
        self.outside, self.basis, self.inside = outside, basis, inside

    @classmethod
    def of(cls, scatter, origin, shrinkage, dtype=np.float64):
        r"""Make the whitening of a scatter.

        Parameters
        ----------
        scatter : Scatter
            The scatter ``S`` within the classes.
        origin : ndarray of shape (n_features,)
            What becomes zero.
        shrinkage : float
            The share ``s``, at least 1e-6. With 1, only the origin and the scale
            change. Where nothing varies, only the origin does.
        dtype : dtype, default=float64
            Of the rows to be whitened.

        Returns
        -------
        whitening : Whitening

        Notes
        -----
        Of few rows, with :math:`a = (1 - s) / N` and :math:`c` the share of the
        variance, the symmetric root has :math:`1 / \sqrt{c}` outside, and in a
        direction of squared length :math:`\lambda` it lacks

        .. math::

            \frac{1}{\lambda} \left( \frac{1}{\sqrt{c}}
            - \frac{1}{\sqrt{a \lambda + c}} \right)
            = \frac{a}{\sqrt{c (a \lambda + c)}
            \left( \sqrt{c} + \sqrt{a \lambda + c} \right)} .
        """
        variance, shrinkage = scatter.variance, max(shrinkage, MIN_SHRINKAGE)
        origin = origin.astype(dtype, copy=False)
        if variance == 0:
            basis = np.empty((len(origin), 0), dtype)
            return cls(origin, basis=basis, inside=np.empty(0, dtype))
        if scatter.matrix is not None:
            return cls(origin, cholesky(scatter.covariance(shrinkage), dtype))
        # Cubes of what a dtype holds may be more than it holds. Powers of two change no
        # digit.
        unit = 2.0 ** np.round(np.log2(variance) / 2)
        spectrum = scatter.spectrum(scale=1 / unit)
        share = (1 - shrinkage) / scatter.total_weight
        rest = shrinkage * (variance / unit**2)
        inner, outer = np.sqrt(share * spectrum.eigenvalues + rest), np.sqrt(rest)
        inside = -share / (outer * inner * (outer + inner)) / unit
        return cls(
            origin,
            outside=float(1 / outer / unit),
            basis=np.ascontiguousarray(spectrum.factor.T, dtype),
            inside=inside.astype(dtype, copy=False),
        )

    def __call__(self, X):
        """Move rows to the whitened space.

        Parameters
        ----------
        X : ndarray of shape (n, n_features)
            Rows, or proxies.

        Returns
        -------
        whitened : ndarray of shape (n, n_features)
            Where nothing varies, ``X - origin``.
        """
        return self.apply(X - self.origin)

    @cached_property
    def matrix(self):
        """Of many samples, ``W``: it is made when rows are first multiplied by it."""
        return None if self.cholesky is None else _inverse(self.cholesky)

    def apply(self, X):
        """Whiten differences of rows, which have no origin."""
        if self.matrix is not None:
            return X @ self.matrix
        return self.outside * X + ((X @ self.basis) * self.inside) @ self.basis.T

    def brought(self, bring):
        """Make the same whitening for rows on a device, given what brings arrays."""
        there = copy(self)
        for name in ("origin", "matrix", "basis", "inside"):
            setattr(there, name, bring(getattr(self, name)))
        return there

    def solve(self, X):
        """Whiten rows in the dtype of the whitening, for which no inverse is made.

        Of fewer rows than features, that takes half of the time. SciPy lets no other
        thread go on, so it is not for threads.
        """
        rows = (X - self.origin).astype(self.origin.dtype, copy=False)
        if self.cholesky is None:
            if not self.basis.size:  # all samples may be the same
                rows *= is_apart(X, self.origin, rows.dtype)[:, None]
            return self.apply(rows)
        return _solve(self.cholesky, rows, overwrite=True)

    def solve_transposed(self, X):
        """Multiply whitened rows by ``W^T``, which makes products with them whiten."""
        if self.cholesky is None:
            return self.apply(X)
        return _solve(self.cholesky, X, transposed=True)


def is_apart(X, origin, dtype):
    """Tell which rows differ from the origin by more than rounding errors: (n,).

    Where all samples are the same, these must not be all that there is.
    """
    apart = np.square(X - origin).sum(axis=1)
    lengths = np.einsum("ij,ij->i", X, X)
    return apart > rounding_of(dtype) * lengths


def rounding_of(dtype):
    """Take the squared relative error of a mean.

    Equal samples may be that far from it, and those of equal directions by the
    precision of their dtype.
    """
    return max(1e-24, np.finfo(dtype).eps ** 2)


def within_class_covariance(moments):
    """Estimate the pooled within-class covariance with Ledoit-Wolf shrinkage.

    Samples are centred on their class mean; the shrinkage ``(1 - s) S + s tr(S) / d I``
    is the one that Ledoit and Wolf [1]_ find closest to the true covariance, for the
    residuals of all classes together.

    Parameters
    ----------
    moments : CommonMoments
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
    total, d = moments.columns.weights.sum(), moments.columns.means.shape[1]
    if not moments.varies:
        return np.eye(d), 1.0
    covariance = moments.scatter / total
    variance = np.trace(covariance) / d
    # |S - variance I|^2 and the expected squared error of S: Ledoit and Wolf's d^2, b^2
    squares = (covariance**2).sum()
    dispersion = squares - d * variance**2
    error = (sum(moments.columns.fourths) / total - squares) / total
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
    return _inverse(cholesky(covariance))


def cholesky(covariance, dtype=np.float64):
    """Factor a covariance: ``factor.T @ factor``, upper triangular.

    Parameters
    ----------
    covariance : ndarray of shape (n_features, n_features)
        Positive definite, or nearly so, of dtype float64.
    dtype : dtype, default=float64
        Of the factor, which is computed in float64. Rounding it moves what is whitened
        by its precision times the root of the condition of the covariance.

    Returns
    -------
    factor : ndarray of shape (n_features, n_features)
        The identity where nothing varies.
    """
    d, variances = len(covariance), np.diagonal(covariance)
    if not variances.any():
        return np.eye(d, dtype=dtype)
    # Shrinkage of 0 on rank-deficient data: a floor far below any real variance, but
    # above what rounding of the samples, in their dtype, has left of zero.
    floor = np.finfo(covariance.dtype).eps * np.abs(variances).sum()
    # SciPy's own `cholesky` takes 1.6 times as long: it copies to the order of Fortran.
    factorize = get_lapack_funcs("potrf", dtype=covariance.dtype)
    is_definite = False
    while not is_definite:
        shifted = covariance.copy()
        shifted.flat[:: d + 1] += floor
        with one_thread_if_small(d):
            lower, failed = factorize(
                shifted.T, lower=True, overwrite_a=True, clean=False
            )
        if not np.isfinite(np.diagonal(lower)).all():
            raise ValueError("the covariance must not contain infs or NaNs.")
        is_definite, floor = failed == 0, 10 * floor
    return np.triu(lower.T.astype(dtype, copy=False))


def _inverse(upper):
    """Invert an upper triangular matrix."""
    invert = get_lapack_funcs("trtri", dtype=upper.dtype)
    return invert(upper.T, lower=True)[0].T


def _solve(upper, X, *, transposed=False, overwrite=False):
    """Compute ``X @ inverse(upper)``, or with the transposed inverse."""
    solve = get_blas_funcs("trsm", dtype=upper.dtype)
    options = {"lower": True, "trans_a": transposed, "overwrite_b": overwrite}
    return solve(1.0, upper.T, X.T, **options).T
