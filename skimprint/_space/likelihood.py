"""Fit a temperature to scores of known classes, and let all classes weigh the same.

The temperature of probabilities is such a one; and the likelihood at the best one says
which shrinkage, alpha or kernel is best.
"""

import numpy as np

from .._arrays.groups import blocks_of_rows

_TINY = np.finfo(np.float64).tiny

# Stands for a score of minus infinity, of which multiples are still finite.
_LOWEST = -1e300

# Margins that are looked at together: few enough to stay in the cache.
_AT_A_TIME = 2**16


def fit_temperature(
    scores, codes, weights=None, *, start=None, bound=8.0, no_gain=1e-7, prior=None
):
    r"""Fit the temperature that makes the true classes most likely.

    The probabilities are the softmax of the scores over a temperature, as in Guo et
    al. [1]_.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_classes)
        Scores, the larger the better. Those of a class that a row cannot have are minus
        infinity.
    codes : ndarray of shape (n_rows,)
        The true classes.
    weights : ndarray of shape (n_rows,), default=None
        The weight of each row.
    start : float, default=None
        A temperature that may be near the best one.
    bound : float, default=8.0
        The logarithm of the temperature is at most so far from that of the typical
        difference of scores.
    no_gain : float, default=1e-7
        A step that raises the likelihood by less is not taken.
    prior : tuple (mean, deviation), default=None
        Of the logarithm of the typical difference of scores over the temperature,
        where it is known to be about normal. With it the most probable temperature is
        found: rows that are all right, or worse than guessed, have no most likely one.

    Returns
    -------
    value : float
        Mean log-probability of the true classes, at most 0; less with a prior.
    temperature : float
        The best temperature; infinite if no two scores of a row differ by more than
        rounding.

    Notes
    -----
    With the margins :math:`m_{ij}` of class j over the true class of row i and an
    inverse temperature :math:`e^u`, the loss of a row is
    :math:`\log \sum_j \exp(e^u m_{ij})`. It is convex in :math:`e^u`, so that it has
    one minimum. Its derivative by u is the mean of :math:`z_j = e^u m_{ij}` under the
    softmax of z, and its second derivative that mean plus the variance of z. Newton's
    method takes steps in u, which keep the temperature positive; where the loss is not
    convex in u, it uses the variance alone. A step that raises the loss is halved. A
    prior adds :math:`(u - \mu)^2 / 2 \sigma^2 n` to the mean loss of n rows. Of rows
    of unequal weights w, n is the number of equal ones whose mean is as certain,
    :math:`(\sum w)^2 / \sum w^2` [2]_: a few rows that weigh as much as hundreds say no
    more than a few.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern
       Neural Networks", ICML 2017.
    .. [2] L. Kish, "Survey Sampling", Wiley 1965.
    """
    rounding = np.finfo(scores.dtype).eps
    own = scores[np.arange(len(scores)), codes].astype(np.float64)

    def differences():
        found = np.array(scores, np.float64, order="C")
        found -= own[:, None]
        return found

    # What `numpy.std` does, which would hold a copy.
    deviations = differences()
    there = np.isfinite(deviations)
    if not there.all():
        deviations = deviations[there]
    deviations -= deviations.mean()
    deviations *= deviations
    spread = np.sqrt(deviations.mean())
    del deviations, there
    if spread <= rounding * np.abs(own).max():
        return -np.log(scores.shape[1]), np.inf
    margins = differences()
    margins /= spread
    np.maximum(margins, _LOWEST, out=margins)
    largest = margins.max(axis=1)
    margins -= largest[:, None]
    if weights is None:
        weights = np.ones(len(scores))
    shares_of_rows = weights / weights.sum()
    centre, deviation = prior or (0.0, np.inf)
    relative = weights / weights.max()  # of equal weights, the number is exact
    n_equal = relative.sum() ** 2 / (relative @ relative)
    pull = 1 / (deviation**2 * n_equal)
    blocks = blocks_of_rows(len(margins), max(1, _AT_A_TIME // margins.shape[1]))

    def evaluate(u):
        """Compute the mean loss, its slope, and how it curves up."""
        inverse = np.exp(u)
        losses, slopes, variances = np.empty((3, len(margins)))
        for part in blocks:
            scaled = inverse * margins[part]
            shares = np.exp(scaled)
            sums = shares.sum(axis=1)
            shares *= scaled
            slopes[part] = shares.sum(axis=1) / sums
            variances[part] = np.einsum("ij,ij->i", shares, scaled) / sums
            losses[part] = np.log(sums)
        variances -= slopes**2
        losses += inverse * largest
        slope = shares_of_rows @ (slopes + inverse * largest)
        return (
            shares_of_rows @ losses + pull * (u - centre) ** 2 / 2,
            slope + pull * (u - centre),
            shares_of_rows @ variances + max(slope, 0) + pull,
        )

    u = 1.0
    if start is not None and np.isfinite(start):
        u = np.clip(np.log(spread / start), -bound, bound)
    loss, slope, curvature = evaluate(u)
    longest = 1.0
    for _ in range(50):
        step = -slope / max(curvature, _TINY)
        target = np.clip(u + np.clip(step, -longest, longest), -bound, bound)
        if abs(slope * (target - u)) < no_gain:
            break
        new = evaluate(target)
        if new[0] > loss:
            longest = abs(target - u) / 2
            continue
        u, longest = target, 1.0
        loss, slope, curvature = new
    return -loss, float(spread / np.exp(u))


def balanced(weights, codes):
    """Scale weights so that all classes weigh the same, and as much as before in all.

    Parameters
    ----------
    weights : ndarray of shape (n,)
        Of samples.
    codes : ndarray of shape (n,)
        The class of each.

    Returns
    -------
    weights : ndarray of shape (n,)
    """
    sums = np.bincount(codes, weights)
    # Shares come first: the inverse of what a class weighs may be infinite.
    return weights / sums[codes] * (weights.sum() / np.count_nonzero(sums))
