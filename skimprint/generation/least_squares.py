"""Proxies by ridge regression onto all classes together."""

from functools import partial
from numbers import Real
from typing import Literal

import numpy as np
from scipy import linalg
from sklearn.utils._param_validation import Interval, StrOptions

from .._arrays.groups import blocks_of_rows
from .._memory.state import Imprint, Needs
from .._space.regularization import SAMPLE_SIZE, choose_alpha
from .._space.whitening import Scatter
from ._base import ProxyGenerator
from .kmeans import KMeansProxies
from .mean import MeanProxies

# Proxies that are solved for together, so that little more is held.
_BLOCK_ROWS = 1024


class LeastSquaresProxies(ProxyGenerator):
    r"""Ridge-regularised linear regression onto the classes, in closed form.

    With class means :math:`\mu_c` and second moment :math:`M = S_T + m m^T` of all
    support embeddings, the proxy of class c is
    :math:`\pi_c \mu_c^T (M + \alpha I)^{-1}`. The paper [1]_ calls it its oracle:
    unlike the other generators it looks at all classes together. With ``n_proxies > 1``
    each class is first clustered by k-means and its clusters take the place of classes
    (the paper's kLS).

    Parameters
    ----------
    alpha : float or "auto", default=0.01
        Regularisation, in units of the squared embeddings: of unit length, 0.01 is much
        for more than a few samples. Must be positive. ``"auto"`` is the value of
        thirteen that makes samples the most likely that are left out in turn, by the
        regression onto the classes, which with ``n_proxies > 1`` need not be best for
        clusters; ``alpha_`` has it once it has been needed.
    prior : {"frequency", "uniform"}, default="frequency"
        The factor :math:`\pi_c`: the share of samples ``n_c / N``, which makes this
        ridge regression on one-hot targets without intercept, or ``1 / C`` for every
        class (or cluster), as published, which favours small classes and clusters.

    See Also
    --------
    sklearn.linear_model.Ridge : With ``alpha=N * alpha`` and ``fit_intercept=False``
        on one-hot targets, the same coefficients.

    Notes
    -----
    One proxy a class, the default, is mostly better than several; the paper's oracle is
    ``ImprintClassifier.from_method("least_squares")``. Proxies are weights rather than
    points; each one's ``proxy_indices_`` names the sample nearest to the mean that it
    is made of.

    References
    ----------
    .. [1] J. Westerhoff et al., "Robust Weight Imprinting: Insights from Neural
       Collapse and Proxy-Based Aggregation", TMLR 2025, arXiv:2503.14572, Section 3.

    Examples
    --------
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.generation import LeastSquaresProxies
    >>> clf = ImprintClassifier(
    ...     LeastSquaresProxies(alpha=0.5), support_norm=None, proxy_norm=None,
    ...     whitening=None,
    ... )
    >>> clf.fit([[1.0, 0.0], [0.0, 1.0]], ["a", "b"]).proxies_
    array([[0.5, 0. ],
           [0. , 0.5]])
    """

    default_n_proxies = 1
    combines = True
    waits = True

    @property
    def needs(self):
        """Moments; samples to choose ``alpha`` by."""
        return Needs(moments=2, samples=SAMPLE_SIZE if self.alpha == "auto" else 0)

    _parameter_constraints: dict = {  # noqa: RUF012
        "alpha": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "prior": [StrOptions({"frequency", "uniform"})],
    }

    def __init__(
        self,
        alpha: float | Literal["auto"] = 0.01,
        prior: Literal["frequency", "uniform"] = "frequency",
    ):
        self.alpha = alpha
        self.prior = prior

    def n_remembered(self, n_proxies):
        return np.where(n_proxies > 1, super().n_remembered(n_proxies), 0)

    def generate(self, support, n_proxies, **options):
        means = MeanProxies() if np.all(n_proxies == 1) else KMeansProxies()
        return means.generate(support, n_proxies, **options)

    def update(self, known, support, rows, n_proxies, **options):
        if np.any(n_proxies != 1):
            return super().update(known, support, rows, n_proxies, **options)
        # A mean and its weight will do: no sum is remembered beside them.
        means, sums = MeanProxies().update(known, support, rows, n_proxies, **options)
        return Imprint(means, sums.first(0))

    def combine(self, vectors, counts, moments, left_out):
        weights, means = moments.columns[:2]
        self.alpha_ = self.alpha
        if self.alpha == "auto":
            self.alpha_ = choose_alpha(
                _second_moment(moments), weights, means, left_out
            )
        if self.prior == "uniform":
            shares = np.full(len(vectors), 1 / len(vectors))
        else:
            shares = counts / weights.sum()
        (n_classes, d), factor = means.shape, moments.factor
        is_primal = factor is None or len(factor) + n_classes >= d
        solve = (_primal if is_primal else _dual)(moments, self.alpha_)
        found = np.empty_like(vectors)
        for part in blocks_of_rows(len(vectors), _BLOCK_ROWS):
            found[part] = solve(vectors[part] * shares[part, None])
        return found


def _second_moment(moments):
    """Compute the sum of the outer products of all samples."""
    total = moments.columns.weights.sum()
    means = _mean_factor(moments) * np.sqrt(total)
    if moments.factor is None:
        none = np.empty_like(means, shape=(0, means.shape[1]))
        return Scatter(total, none, moments.scatter + means.T @ means)
    return Scatter.of_rows(np.concatenate([moments.factor, means]), total)


def _mean_factor(moments):
    """Make rows whose products and the scatter are the second moment of samples."""
    weights, means = moments.columns[:2]
    return means * np.sqrt(weights / weights.sum())[:, None]


def _primal(moments, alpha):
    """Prepare targets times (second moment + alpha I)^-1, in feature space."""
    means = _mean_factor(moments)
    moment = moments.scatter / moments.columns.weights.sum() + means.T @ means
    moment[np.diag_indices_from(moment)] += alpha
    solve = _solver(moment, alpha)
    return lambda targets: solve(targets.T).T


def _dual(moments, alpha):
    r"""Prepare the same in sample space, which is smaller.

    Targets are means of samples, :math:`T = C F`, so that :math:`T (F^T F + \alpha
    I)^{-1} = C (F F^T + \alpha I)^{-1} F`. What rounding has left of targets in other
    directions than those of samples is not divided by :math:`\alpha` so.
    """
    within = moments.factor / np.sqrt(moments.columns.weights.sum())
    factor = np.concatenate([within, _mean_factor(moments)])
    gram = factor @ factor.T
    rounding = len(gram) * np.finfo(gram.dtype).eps * (np.trace(gram) or 1.0)
    find_shares, solve = (
        _solver(gram + smallest * np.eye(len(gram)), smallest)
        for smallest in (rounding, max(alpha, rounding))
    )
    return lambda targets: solve(find_shares(factor @ targets.T)).T @ factor


def _solver(matrix, smallest):
    """Prepare to solve for a symmetric matrix of no eigenvalue smaller than a number.

    Rounding may have made them smaller: the scatter of float32 is whitened, say.
    """
    try:
        return partial(linalg.cho_solve, linalg.cho_factor(matrix))
    except linalg.LinAlgError:
        values, basis = linalg.eigh(matrix)
        values = np.maximum(values, smallest)[:, None]
        return lambda targets: basis @ (basis.T @ targets / values)
