"""Kernel ridge regression from support samples to their labels, in closed form.

The kernel is that of Tip-Adapter (Zhang et al., "Tip-Adapter: Training-free Adaption of
CLIP for Few-shot Classification", ECCV 2022), ``exp(b (cosine - 1))``: for embeddings
of unit length a Gaussian one. Solving for the weights of the samples, in place of
taking their labels, follows Bendou et al. ("ProKeR: A Kernel Perspective on Few-Shot
Adaptation of Large Vision-Language Models", CVPR 2025).
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg
from sklearn.utils import gen_batches

from .._arrays.blas import dot_transposed
from .._arrays.groups import offsets_of, row_keys
from ..normalization import l2_normalize

# The kernel and its regularisation, per sample. Cross-validation on the samples of
# several data sets finds both to matter little: half and twice of either are as good.
SHARPNESS = 4.0
ALPHA = 0.01

# Samples remembered of each class, where the regression is wanted.
SAMPLE_SIZE = 1000

# Up to so many samples, each has a weight of its own. Of more, some are landmarks,
# whose weights are fitted to all (Nystroem's method), or to as many as can be afforded.
_MAX_EXACT = 8000
_MAX_LANDMARKS = 4000
_MAX_ROWS = 50_000

_BLOCK_SIZE = 2**22  # values of the kernel at a time

# Added to the diagonal of normal equations, relatively: above what rounding does.
_JITTER = 1e-10


class Support(NamedTuple):
    """Samples of all classes, class by class.

    Attributes
    ----------
    rows : ndarray of shape (n, n_features)
        The samples, of unit length.
    codes : ndarray of shape (n,)
        The class of each.
    weights : ndarray of shape (n,)
        The weight of the samples that each stands for.
    landmarks : ndarray of shape (n_landmarks,)
        Which of them are landmarks.
    n_classes : int
        Number of classes.
    """

    rows: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    landmarks: np.ndarray
    n_classes: int

    @classmethod
    def of(cls, parts, dtype):
        """What is remembered of each class: a Support, or None if that is nothing.

        Parameters
        ----------
        parts : list of ClassMemory
            The classes. Of one that came from a head, the row is the sample.
        dtype : dtype
            Of the rows.
        """
        n_classes = len(parts)
        known = [_samples_of(part, _MAX_ROWS // n_classes) for part in parts]
        if None in known:
            return None
        rows, weights = map(np.concatenate, zip(*known, strict=True))
        offsets = offsets_of([len(rows) for rows, _ in known])
        codes = np.repeat(np.arange(n_classes), np.diff(offsets))
        landmarks = np.arange(len(rows))
        if len(rows) > _MAX_EXACT:  # the keys that samples are sorted by are random
            within = landmarks - offsets[codes]
            landmarks = np.flatnonzero(within < max(1, _MAX_LANDMARKS // n_classes))
        return cls(rows.astype(dtype, copy=False), codes, weights, landmarks, n_classes)

    @property
    def is_exact(self):
        """Whether each sample is a landmark."""
        return len(self.landmarks) == len(self.rows)

    def targets(self, block=slice(None)):
        """Labels of some samples as what is regressed on, of shape (n, n_classes)."""
        codes = self.codes[block]
        targets = np.full((len(codes), self.n_classes), -1 / self.n_classes)
        targets[np.arange(len(codes)), codes] += 1
        return targets


def _samples_of(part, most):
    """Rows and weights of the samples of a class, at most so many; None for none."""
    if part.sample is None:
        if not part.is_head:
            return None
        return l2_normalize(part.vectors), part.counts
    rows, weights = (values[: max(1, most)] for values in part.sample[:2])
    return rows, weights * (part.weight / weights.sum())


class KernelRidge:
    """Class scores by kernel ridge regression on one-hot labels.

    Parameters
    ----------
    support : Support
        The samples.

    Attributes
    ----------
    landmarks : ndarray of shape (n_landmarks, n_features)
        The samples that queries are compared with.
    coefficients : ndarray of shape (n_classes, n_landmarks)
        Their weights in the scores, in the dtype of the landmarks.
    """

    def __init__(self, support):
        self.landmarks = support.rows[support.landmarks]
        if support.is_exact:
            factor = _factor(support)
            targets = support.targets().astype(factor[0].dtype)
            found = linalg.cho_solve(factor, targets, check_finite=False)
        else:
            factor, right = _normal_equations(support, self.landmarks)
            found = linalg.cho_solve(factor, right, check_finite=False)
        self.coefficients = np.ascontiguousarray(found.T, self.landmarks.dtype)

    def scores(self, X):
        """Scores of queries, near 1 for their class and near 0 for others.

        Parameters
        ----------
        X : ndarray of shape (n_queries, n_features)
            Queries of unit length, in the dtype of the landmarks.

        Returns
        -------
        scores : ndarray of shape (n_classes, n_queries)
        """
        n_classes = len(self.coefficients)
        scores = np.empty((n_classes, len(X)), self.coefficients.dtype)
        for block in _blocks(len(X), len(self.landmarks)):
            kernel = _kernel(X[block], self.landmarks)
            scores[:, block] = dot_transposed(self.coefficients, kernel)
        return scores + 1 / n_classes

    def scores_without(self, support, rows):
        """Scores of samples as they would be without the sample itself.

        Parameters
        ----------
        support : Support
            What the regression was fitted to.
        rows : ndarray of shape (n, n_features)
            Some of its samples, in any order.

        Returns
        -------
        scores : ndarray of shape (n_classes, n)
        """
        left_out = self._all_without(support)
        keys = row_keys(support.rows, seed=0)
        order = np.argsort(keys, kind="stable")
        which = order[np.searchsorted(keys[order], row_keys(rows, seed=0))]
        return left_out[which].T + 1 / support.n_classes

    def _all_without(self, support):
        """Scores less 1 / n_classes of each sample without it, (n, n_classes)."""
        if support.is_exact:
            factor = _factor(support)
            return support.targets() - self.coefficients.T / _inverse_diagonal(factor)
        factor, _ = _normal_equations(support, self.landmarks)
        own = _inverse_diagonal(factor)
        position = np.full(len(support.rows), -1)
        position[support.landmarks] = np.arange(len(support.landmarks))
        found = np.empty((len(support.rows), support.n_classes))
        for block in _blocks(len(found), len(self.landmarks)):
            kernel = _kernel(support.rows[block], self.landmarks).astype(np.float64)
            solved = linalg.cho_solve(factor, kernel.T, check_finite=False).T
            leverage = np.einsum("ij,ij->i", kernel, solved)[:, None]
            scores = kernel @ self.coefficients.T
            # A landmark goes as such too: as one, but with no sample near it, it would
            # serve those of others.
            (among,) = np.nonzero(position[block] >= 0)
            which = position[block][among]
            reach = solved[among, which][:, None]
            scores[among] -= reach / own[which] * self.coefficients.T[which]
            leverage[among] -= reach**2 / own[which]
            leverage *= support.weights[block][:, None]
            leverage = np.minimum(leverage, 1 - _JITTER)
            targets = support.targets(block)
            found[block] = (scores - leverage * targets) / (1 - leverage)
        return found


def _inverse_diagonal(factor):
    """Diagonal of the inverse of what was factored, as a column."""
    matrix, lower = factor
    matrix = matrix.copy()
    (invert,) = linalg.get_lapack_funcs(("potri",), (matrix,))
    return np.diag(invert(matrix, lower=lower, overwrite_c=True)[0])[:, None]


def _blocks(n_rows, n_columns):
    return gen_batches(n_rows, max(1, _BLOCK_SIZE // n_columns))


def _kernel(A, B):
    """Kernel between rows of unit length, of shape (n_a, n_b)."""
    products = dot_transposed(A, B)
    products -= 1
    products *= SHARPNESS
    return np.exp(products, out=products)


def _factor(support):
    """Cholesky factor of the regularised kernel of all samples, for `cho_solve`."""
    matrix = _triangle(support.rows)
    penalty = np.maximum(ALPHA / support.weights, _rounding(support.rows))
    matrix[np.diag_indices(len(matrix))] += penalty.astype(matrix.dtype)
    return linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)


def _rounding(rows):
    """What rounding may do to the eigenvalues of the kernel of rows.

    Those of equal rows are zero, and only what is added keeps them positive.
    """
    return len(rows) * np.finfo(rows.dtype).eps


def _triangle(rows):
    """Kernel between rows, the lower triangle in LAPACK's order: half of the work."""
    (multiply,) = linalg.get_blas_funcs(("syrk",), (rows,))
    matrix = multiply(SHARPNESS, rows.T, trans=1, lower=1)
    matrix -= SHARPNESS
    return np.exp(matrix, out=matrix)


def _normal_equations(support, landmarks):
    """Cholesky factor and right side of the equations for the landmarks' weights."""
    # In double precision: squared, the kernel has not enough digits left in single.
    matrix = ALPHA * _triangle(landmarks).astype(np.float64)
    right = np.zeros((len(landmarks), support.n_classes))
    for block in _blocks(len(support.rows), len(landmarks)):
        root = np.sqrt(support.weights[block])[:, None]
        kernel = root * _kernel(support.rows[block], landmarks)
        matrix = linalg.blas.dsyrk(
            1.0, kernel.T, beta=1.0, c=matrix, lower=1, overwrite_c=1
        )
        right += kernel.T @ (root * support.targets(block))
    matrix[np.diag_indices(len(matrix))] *= 1 + _JITTER
    matrix[np.diag_indices(len(matrix))] += ALPHA * _rounding(landmarks)
    factor = linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    return factor, right
