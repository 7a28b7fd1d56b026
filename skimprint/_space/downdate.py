"""The whitened space as it is without a sample: a downdate of rank one.

By it a shrinkage is chosen, and samples are scored as queries (`leave_one_out`).
"""

from typing import NamedTuple

import numpy as np

# What a sample leaves of its class, and of the covariance in its own direction, is at
# least this share: the rest is rounding.
_MIN_LEFT, _EPS = 1e-6, 1e-9

#: Not to divide by zero.
TINY = float(np.finfo(np.float32).tiny)  # float32 stays so


def shift_without(class_weights, weights):
    """Compute how far class means move from a sample that goes.

    The mean ``m`` of a class of weight ``n`` becomes, without a sample ``x`` of weight
    ``w``, ``m + w / (n - w) (m - x)``: the shift is ``w / (n - w)``.
    """
    rest = np.maximum(class_weights - weights, _MIN_LEFT * class_weights)
    return weights / rest


def gain_without(squares, lost):
    """Compute what the inverse of a covariance gains from what the covariance loses.

    By the formula of Sherman and Morrison, the inverse of ``A - l r r^T`` is that of
    ``A`` and ``g (A^-1 r) (A^-1 r)^T``, with the gain ``g = l / (1 - l r^T A^-1 r)``.

    Parameters
    ----------
    squares : ndarray of shape (n,)
        ``r^T A^-1 r``.
    lost : ndarray of shape (n,)
        ``l``.

    Returns
    -------
    gain : ndarray of shape (n,)
    """
    return lost / np.maximum(1 - lost * squares, _EPS)


class Vectors(NamedTuple):
    """Whitened vectors a, and how they stand to the residual r of each of n samples.

    Attributes
    ----------
    squares : ndarray of shape (n_vectors, 1) or (n,)
        Inner products of the vectors with themselves.
    along : ndarray of shape (n_vectors, n) or (n,)
        Their inner products with the residuals.
    shift : ndarray of shape (n_vectors, n) or (n,)
        From the origin as it is without a sample, they are ``a + shift r``.
    """

    squares: np.ndarray
    along: np.ndarray
    shift: np.ndarray


class Downdate:
    r"""Inner products in a whitened space, as they are without each of some samples.

    Parameters
    ----------
    squares : ndarray of shape (n,)
        Squared lengths of the whitened residuals of the samples.
    lost : ndarray of shape (n,)
        How often the covariance loses the outer product of each residual.

    Notes
    -----
    A sample :math:`x` of weight :math:`w` leaves a class of weight :math:`n` with the
    mean :math:`m`. With :math:`r = x - m` and :math:`s = w / (n - w)`, the mean becomes
    :math:`m - s r`, the origin, a mean of :math:`C` class means, :math:`o - t r` with
    :math:`t = s / C`, and the scatter loses :math:`n s \, r r^T`. With the shrinkage
    :math:`h`, the total weight :math:`N` and the term of the variance held, the
    covariance :math:`A` becomes :math:`A - l \, r r^T`, :math:`l = (1 - h) n s / N`.
    By the formula of Sherman and Morrison its inverse gives the inner products

    .. math::

        \langle a, b \rangle' = \langle a, b \rangle
        + g \langle a, r \rangle \langle r, b \rangle, \quad
        g = \frac{l}{1 - l \langle r, r \rangle},

    where :math:`\langle a, b \rangle = a^T A^{-1} b`. Seen from the new origin, the row
    is :math:`x + t r`, other class means are :math:`p + t r`, and its own is
    :math:`p + (t - s) r`. So every product follows from those of x, r and p.

    In coordinates, with :math:`W W^T = A^{-1}` and the whitened residual
    :math:`\rho = r W`, the symmetric root of :math:`I + g \rho^T \rho` is :math:`I + k
    \rho^T \rho` with :math:`(1 + k |\rho|^2)^2 = 1 + g |\rho|^2`. So :math:`W (I + k
    \rho^T \rho)` whitens without the sample. Of all matrices that do, which differ by a
    rotation, it is the one nearest to :math:`W`.
    """

    def __init__(self, squares, lost):
        self.squares = squares
        self.gain = gain_without(squares, lost).astype(squares.dtype, copy=False)
        self._stretch = self.gain / (1 + np.sqrt(1 + self.gain * squares))

    def products(self, a, b, a_b):
        """Compute inner products of vectors, given what they are with the sample."""
        a_r = a.along + a.shift * self.squares
        b_r = b.along + b.shift * self.squares
        return a_b + a.shift * b.along + (b.shift + self.gain * b_r) * a_r

    def squared_lengths(self, a):
        r"""Compute inner products of vectors with themselves, in few steps.

        With :math:`p = \langle a, r \rangle` and :math:`\sigma = \langle r, r \rangle`,
        the vector :math:`a + t r` has :math:`\langle a, a \rangle + 2 t p + t^2 \sigma
        + g (p + t \sigma)^2`, a polynomial in :math:`p`.
        """
        of_shift = a.shift * self.squares
        slope = 2 * (a.shift + self.gain * of_shift)
        lengths = a.along * self.gain
        lengths += slope
        lengths *= a.along
        lengths += a.squares + of_shift * slope / 2
        return lengths

    def cosines(self, a, b, a_b):
        """Compute cosines of vectors, given their products with the sample."""
        squares = self.products(a, a, a.squares) * self.products(b, b, b.squares)
        cosines = self.products(a, b, a_b) / np.sqrt(np.maximum(squares, TINY))
        return np.clip(cosines, -1, 1)  # of rounding errors, where nothing is left

    def moved(self, vectors, residuals, shift, which=slice(None)):
        """Express whitened vectors in the space without one sample each.

        Parameters
        ----------
        vectors, residuals : ndarray of shape (n_vectors, n_features)
            The vectors, and the whitened residual of the sample of each.
        shift : ndarray of shape (n_vectors,)
            As in `Vectors`.
        which : ndarray of shape (n_vectors,), default=slice(None)
            The sample of each.

        Returns
        -------
        moved : ndarray of shape (n_vectors, n_features)
        """
        squares, stretch = self.squares[which], self._stretch[which]
        along = np.einsum("ij,ij->i", vectors, residuals)
        steps = shift + stretch * (along + shift * squares)
        return vectors + steps[:, None] * residuals

    def moved_back(self, vectors, residuals, which=slice(None)):
        """Express vectors of the space without a sample by the whitening with it."""
        stretch = self._stretch[which]
        along = np.einsum("ij,ij->i", vectors, residuals)
        steps = stretch * along / (1 + stretch * self.squares[which])
        return vectors - steps[:, None] * residuals
