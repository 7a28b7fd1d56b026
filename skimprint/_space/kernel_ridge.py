"""Kernel ridge regression from support samples to their labels, in closed form.

The kernel is that of Tip-Adapter (Zhang et al., "Tip-Adapter: Training-free Adaption of
CLIP for Few-shot Classification", ECCV 2022), ``exp(b (cosine - 1))``. For embeddings
of unit length it is scikit-learn's ``"rbf"`` with ``gamma = b / 2``. Solving for the
weights of the samples, in place of taking their labels, follows Bendou et al. ("ProKeR:
A Kernel Perspective on Few-Shot Adaptation of Large Vision-Language Models", CVPR
2025).
"""

from itertools import chain
from typing import NamedTuple

import numpy as np
from scipy import linalg
from scipy.stats import hmean

from .._arrays.blas import eigh
from .._arrays.groups import blocks_of_rows, numbers_within
from .._arrays.threads import run_blocks
from .likelihood import balanced
from .regularization import LeftOut, last_of_the_best

# Widths of the kernel to choose among. Sharp ones are for many samples of a class that
# lies in many places, as sections of texts do; smooth ones for few samples, and tails.
GAMMAS = (8.0, 4.0, 2.0, 1.0, 0.5)

# Regularisations per sample to choose among. It is the noise of labels: small ones are
# for clean labels, large ones for wrong labels, and for classes of few samples among
# classes of many.
ALPHAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

# Samples to choose both by. The noise of a label does not depend on how many there are:
# twice as many choose the same or the next one, in four times the time. But few samples
# of a class look noisier than many, so some classes have to do if they are many.
_MAX_JUDGES = 500
_MIN_JUDGES = 50

# Samples remembered of each class, where the regression is wanted.
SAMPLE_SIZE = 1000

# Samples of all classes that the regression is fitted to. Of Banking77's 10,003 samples
# so many give the accuracy that 4,000 landmarks for all of them give, in a third of the
# time (Nystroem's method).
MAX_ROWS = 6000

# Weights less than so much of the largest one count as this: float32 holds their
# inverses, and they make no difference either way.
_LEAST = 1e-20

_BLOCK_SIZE = 2**22  # values of the kernel at a time


def most_of_each(n_classes):
    """Say how many samples of each class the regression is fitted to, at most."""
    return min(SAMPLE_SIZE, max(1, MAX_ROWS // max(1, n_classes)))


class Support(NamedTuple):
    """Samples of all classes, class by class.

    Attributes
    ----------
    rows : ndarray of shape (n, n_features)
        The samples, of unit length.
    codes : ndarray of shape (n,)
        The class of each, in ascending order.
    weights : ndarray of shape (n,)
        The weight of the samples that each stands for, times a factor of its class that
        makes all classes weigh the same: else rare ones would lose.
    n_classes : int
        Number of classes.
    indices : ndarray of shape (n,)
        The training row that each is; -1 for a row of a head.
    evenness : float
        The harmonic mean of the weights of the classes over their arithmetic mean: 1
        where they are the same, near 0 where a few classes have most of it.
    """

    rows: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    n_classes: int
    indices: np.ndarray
    evenness: float

    @classmethod
    def of(cls, samples, class_weights, dtype):
        """Take samples of each class.

        Parameters
        ----------
        samples : Ragged of Samples
            Those of each class, at most as many as `most_of_each` says.
        class_weights : ndarray of shape (n_classes,)
            Weight of the samples of each class.
        dtype : dtype
            Of the regression.

        Returns
        -------
        support : Support
        """
        kept = LeftOut.of(samples, class_weights)
        sums = np.bincount(kept.codes, kept.counts)
        weights = balanced(kept.counts, kept.codes)
        return cls(
            kept.rows.astype(dtype, copy=False),
            kept.codes,
            np.maximum(weights, _LEAST * weights.max()),
            len(samples),
            kept.indices,
            float(hmean(sums) / sums.mean()),
        )

    def judges(self):
        """Take some of the samples, to choose something by."""
        most = max(_MIN_JUDGES, _MAX_JUDGES // self.n_classes)
        enough = numbers_within(self.codes) < most
        step = -(-np.count_nonzero(enough) // max(_MAX_JUDGES, most))
        which = np.flatnonzero(enough & (self.codes % step == 0))
        codes = self.codes[which] // step
        return self._replace(
            rows=self.rows[which],
            codes=codes,
            weights=balanced(self.weights[which], codes),
            n_classes=int(codes[-1]) + 1,
            indices=self.indices[which],
        )

    def targets(self, dtype, which=slice(None)):
        """Encode labels to regress on, of some samples: of shape (n, n_classes).

        They are small where classes are uneven. A class of many samples is near to more
        queries than one of few, whatever the weights: there the regression costs up to
        a point of accuracy, and its scores have to count for less than those of
        proxies.
        """
        codes = self.codes[which]
        shape = len(codes), self.n_classes
        targets = np.full(shape, -1 / self.n_classes, dtype)
        targets[np.arange(len(codes)), codes] += 1
        targets *= self.evenness
        return targets


class KernelRidge:
    """Class scores by kernel ridge regression on one-hot labels.

    Parameters
    ----------
    support : Support
        The samples.
    gamma, alpha : float
        The width of the kernel and the regularisation per unit of weight; see
        `choose_kernel`.

    Attributes
    ----------
    landmarks : ndarray of shape (n_landmarks, n_features)
        The samples, which queries are compared with.
    coefficients : ndarray of shape (n_classes, n_landmarks)
        Their weights in the scores, in the dtype of the landmarks.
    """

    def __init__(self, support, gamma, alpha):
        self.gamma, self.alpha = gamma, alpha
        self.landmarks = support.rows
        factor = _factor(support, gamma, alpha)
        targets = support.targets(factor[0].dtype)
        found = linalg.cho_solve(factor, targets, check_finite=False)
        self.coefficients = np.ascontiguousarray(found.T, self.landmarks.dtype)

    def scores(self, X):
        """Score queries: near 1 for their class, and near 0 for others.

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

        def score(block):
            kernel = _kernel(X[block], self.landmarks, self.gamma)
            scores[:, block] = self.coefficients @ kernel.T

        run_blocks(score, _blocks(len(X), len(self.landmarks)))
        return scores + 1 / n_classes

    def scores_without(self, support, left_out, factor=None):
        """Score samples as queries that the regression was not fitted to.

        Parameters
        ----------
        support : Support
            What the regression was fitted to.
        left_out : LeftOut
            Some of its samples.
        factor : tuple, default=None
            The factored kernel of the support, where there is one already.

        Returns
        -------
        scores : ndarray of shape (n_classes, n)
            See Notes.

        Notes
        -----
        With the kernel matrix K, the diagonal penalty P and ``A = K + P``, the fitted
        coefficients are ``a = A^-1 T`` for targets T. Without sample i, its prediction
        is ``T_i - a_i / (A^-1)_ii``: the identity of leave-one-out residuals of
        Rasmussen and Williams, "Gaussian Processes for Machine Learning", Section
        5.4.2.
        """
        is_own = factor is None
        if is_own:
            factor = _factor(support, self.gamma, self.alpha)
        diagonal = _inverse_diagonal(factor, overwrite=is_own)
        which = np.searchsorted(support.codes, left_out.codes) + left_out.numbers
        residuals = self.coefficients.T[which] / diagonal[which]
        scores = support.targets(np.float64, which) - residuals
        return scores.T + 1 / support.n_classes


class LabelShares:
    """Say how much the label of each sample adds to the scores of a query.

    Parameters
    ----------
    support : Support
        What the regression was fitted to.
    gamma, alpha : float
        Its width and its regularisation.

    Notes
    -----
    The scores of a query with the kernel k to the samples are linear in their targets
    T: ``1 / n_classes + w^T T``. With ``A = K + P`` as in `KernelRidge.scores_without`,
    the weights are ``w = A^-1 k``, those of the equivalent kernel (Rasmussen and
    Williams, Section 2.6). So what a sample adds to the score of class c is ``w_i
    T_ic``: what it would lose without the label of the sample.

    The coefficients times the kernel have the same sum, but are large and cancel each
    other out where there is little regularisation.
    """

    def __init__(self, support, gamma, alpha):
        self.support = support
        self.gamma = gamma
        self.factor = _factor(support, gamma, alpha)

    def of_classes(self, X, codes):
        """Take the score of one class for each query apart, sample by sample.

        Parameters
        ----------
        X : ndarray of shape (n_queries, n_features)
            Queries of unit length, in the dtype of the samples.
        codes : ndarray of shape (n_queries,)
            The class of each.

        Yields
        ------
        block : slice
            Some of the queries.
        shares : ndarray of shape (n_block, n_samples)
            With ``1 / n_classes`` they sum to the score.
        """
        support = self.support
        for block in _blocks(len(X), len(support.rows)):
            kernel = _kernel(X[block], support.rows, self.gamma)
            weights = linalg.cho_solve(self.factor, kernel.T, check_finite=False).T
            is_of_class = support.codes == codes[block, None]
            targets = support.evenness * (is_of_class - 1 / support.n_classes)
            yield block, weights * targets


def choose_kernel(support):
    r"""Choose the width and the regularisation by samples that are left out.

    They are judged by the mean log-likelihood of the samples less the mean squared
    error of their scores. The likelihood alone, for which scores are divided by the
    best temperature, hardly sees how much regularisation there is where labels are
    clean; the error alone takes too little for wrong labels and for rare classes. Where
    classes are uneven, targets are small, and the likelihood decides.

    Parameters
    ----------
    support : Support
        Samples to judge by.

    Returns
    -------
    gamma : float
        One of ``GAMMAS``; the smoothest if each class has one sample.
    alpha : float
        One of ``ALPHAS``; the smallest if each class has one sample.

    Notes
    -----
    With the kernel :math:`K` of a width, the diagonal matrix :math:`D` of the weights
    and the decomposition :math:`D^{1/2} K D^{1/2} = U S U^T`, for each :math:`\alpha`

    .. math::

        (K + \alpha D^{-1})^{-1} = V (S + \alpha I)^{-1} V^T, \quad V = D^{1/2} U,

    which gives coefficients, the diagonal of the inverse, and with them the scores of
    `KernelRidge.scores_without`.
    """
    (left_out,) = np.nonzero(np.bincount(support.codes)[support.codes] > 1)
    if not len(left_out) or support.n_classes == 1:
        return GAMMAS[-1], ALPHAS[0]
    root = np.sqrt(support.weights).astype(support.rows.dtype)
    targets = support.targets(root.dtype)

    def scores(gamma):
        matrix = _kernel(support.rows, support.rows, gamma).T
        matrix *= root
        matrix *= root[:, None]
        values, vectors = eigh(matrix, overwrite_a=True, check_finite=False)
        values = np.maximum(values, 0)  # rounding
        vectors *= root[:, None]
        projected = vectors.T @ targets
        vectors = vectors[left_out]
        squares = vectors**2
        for alpha in ALPHAS:
            scale = 1 / (values + root.dtype.type(alpha))
            coefficients = vectors @ (projected * scale[:, None])
            yield targets[left_out] - coefficients / (squares @ scale)[:, None]

    best = last_of_the_best(
        chain.from_iterable(map(scores, GAMMAS)),
        support.codes[left_out],
        support.weights[left_out],
        targets[left_out],
    )
    return GAMMAS[best // len(ALPHAS)], ALPHAS[best % len(ALPHAS)]


def _inverse_diagonal(factor, *, overwrite):
    """Compute the diagonal of the inverse of what was factored, as a column.

    The inverse of ``L L^T`` is ``L^-T L^-1``: its diagonal has the squared lengths of
    the columns of ``L^-1``, which takes half as long as the whole inverse.
    """
    matrix, _ = factor
    (invert,) = linalg.get_lapack_funcs(("trtri",), (matrix,))
    inverse = invert(matrix, lower=True, overwrite_c=overwrite)[0]
    # Above the diagonal there is what was there before.
    columns = (inverse[i:, i] for i in range(len(inverse)))
    return np.array([column @ column for column in columns])[:, None]


def _blocks(n_rows, n_columns):
    return blocks_of_rows(n_rows, max(1, _BLOCK_SIZE // n_columns))


def _kernel(A, B, gamma):
    """Compute the kernel between rows of unit length, of shape (n_a, n_b).

    Their squared distance is ``2 - 2 cosine``. Of rows with themselves NumPy computes
    one half of the products; the transpose is in LAPACK's order.
    """
    products = A @ B.T
    products -= 1
    products *= 2 * gamma
    return np.exp(products, out=products)


def _factor(support, gamma, alpha):
    """Factor the regularised kernel of all samples, for `cho_solve`."""
    rows = support.rows
    matrix = _kernel(rows, rows, gamma).T
    # Bounds what rounding may do to the eigenvalues. Those of equal rows are zero, and
    # only what is added keeps them positive.
    rounding = len(rows) * np.finfo(rows.dtype).eps
    penalty = np.maximum(alpha / support.weights, rounding)
    matrix[np.diag_indices(len(matrix))] += penalty.astype(matrix.dtype)
    return linalg.cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
