"""Leave-one-out scores in closed form: what the data say about shrinkage and alpha.

Everything is computed in the eigenbasis of a scatter matrix, where each amount of
regularisation only changes the weights of the coordinates. Leaving a row out changes
the scatter by one outer product, so its scores follow from those of all rows together
(Sherman and Morrison).
"""

import numpy as np
from scipy.special import logsumexp


def whitened_mean_scores(
    spectrum, class_weight, means, rows, codes, shrinkages, *, row_weight=None
):
    r"""Cosine of each row to the whitened class means, all made without that row.

    The space is whitened by the shrunk covariance :math:`(1 - s) S / N + s v I`, for
    the scatter :math:`S` within the classes, and its origin is the mean of the class
    means. Each row is forgotten by its class mean, the origin and :math:`S`. What
    depends on it hardly, the weight :math:`N` and the variance :math:`v`, stays.

    Parameters
    ----------
    spectrum : ScatterSpectrum
        Of the scatter within the classes; its basis spans rows and means.
    class_weight : ndarray of shape (n_classes,)
        Sum of the weights of each class.
    means : ndarray of shape (n_classes, n_features)
        The class means, of dtype float64.
    rows : ndarray of shape (n_rows, n_features)
        Rows that scatter and means were made from, not necessarily all of them.
    codes : ndarray of shape (n_rows,)
        The class of each row, in ``range(n_classes)``.
    shrinkages : array-like of shape (n_shrinkages,)
        Shrinkages ``s`` to compare, between 0 and 1.
    row_weight : ndarray of shape (n_rows,), default=None
        The weight that each row has in its class; it is left out with all of it.

    Yields
    ------
    scores : ndarray of shape (n_rows, n_classes)
        Cosines for one shrinkage after the other. They mean nothing for a row that is
        its whole class: see `can_be_left_out`.

    Notes
    -----
    After the projection to the eigenbasis, each shrinkage takes one product of
    (n_rows, n_features) and (n_features, n_classes).
    """
    shift = _share_of_rest(class_weight, codes, row_weight)  # of r, in the class mean
    lost = shift * class_weight[codes] / spectrum.total_weight  # of r r^T, in S / N
    origin_shift = shift / len(means)
    own = np.arange(len(rows)), codes

    origin = means.mean(axis=0)
    centred = means - origin
    points = spectrum.project(centred)
    coordinates = spectrum.project(rows - origin.astype(rows.dtype))
    squares = coordinates**2
    # Of each class mean, once row i is gone, relative to the origin: moves[i, c] * r_i
    moves = np.repeat(origin_shift[:, None], len(means), axis=1)
    moves[own] -= shift

    for shrinkage in shrinkages:
        scale = spectrum.precision(shrinkage)
        weighted = (points * scale).astype(coordinates.dtype)
        products = (coordinates @ weighted.T).astype(np.float64)
        gram = (points * scale) @ points.T
        lengths = squares @ scale.astype(squares.dtype)
        # Products with the residual r = x - mean of its class
        r_means = products - gram[codes]
        r_x = lengths - products[own]
        r_r = np.maximum(r_x - r_means[own], 0)
        # x and the means move along r ...
        x_x = lengths + origin_shift * (2 * r_x + origin_shift * r_r)
        x_means = products + origin_shift[:, None] * r_means
        x_means += moves * (r_x + origin_shift * r_r)[:, None]
        means_means = np.diag(gram) + moves * (2 * r_means + moves * r_r[:, None])
        # ... and the inverse grows by the outer product of what r became.
        factor = (1 - shrinkage) * lost
        gain = factor / np.maximum(1 - factor * r_r, _EPS)
        x_r = r_x + origin_shift * r_r
        means_r = r_means + moves * r_r[:, None]
        x_x += gain * x_r**2
        x_means += (gain * x_r)[:, None] * means_r
        means_means += gain[:, None] * means_r**2
        norms = np.sqrt(np.maximum(means_means * x_x[:, None], _TINY))
        yield x_means / norms


def ridge_scores(spectrum, class_sums, rows, codes, alphas, *, row_weight=None):
    r"""Predictions of ridge regression on one-hot targets, each made without its row.

    Parameters
    ----------
    spectrum : ScatterSpectrum
        Of the second moment of all rows, :math:`\sum_i w_i x_i x_i^T`.
    class_sums : ndarray of shape (n_classes, n_features)
        The weighted sum of the rows of each class, of dtype float64.
    rows : ndarray of shape (n_rows, n_features)
        Rows that the sums were made from, not necessarily all of them.
    codes : ndarray of shape (n_rows,)
        The class of each row, in ``range(n_classes)``.
    alphas : array-like of shape (n_alphas,)
        Regularisations, per unit of weight: the penalty is ``alpha`` times the sum of
        all weights, and stays when a row is left out.
    row_weight : ndarray of shape (n_rows,), default=None
        The weight of each row.

    Yields
    ------
    scores : ndarray of shape (n_rows, n_classes)
        Predictions, for one alpha after the other.
    """
    weight = np.ones(len(rows)) if row_weight is None else row_weight
    sums = spectrum.project(class_sums)
    coordinates = spectrum.project(rows)
    squares = coordinates**2
    own = np.arange(len(rows)), codes
    for alpha in alphas:
        scale = 1 / (spectrum.eigenvalues + alpha * spectrum.total_weight)
        predictions = (coordinates @ (sums * scale).T.astype(coordinates.dtype)).astype(
            np.float64
        )
        leverage = weight * (squares @ scale.astype(squares.dtype))
        predictions[own] -= leverage
        predictions /= np.maximum(1 - leverage, _EPS)[:, None]
        yield predictions


def can_be_left_out(class_weight, codes, row_weight=None):
    """Which rows leave something of their class when they go.

    Parameters
    ----------
    class_weight : ndarray of shape (n_classes,)
        Sum of the weights of each class.
    codes : ndarray of shape (n_rows,)
        The class of each row.
    row_weight : ndarray of shape (n_rows,), default=None
        The weight of each row.

    Returns
    -------
    mask : ndarray of bool of shape (n_rows,)
        False for the only row of a class.
    """
    weight = 1.0 if row_weight is None else row_weight
    return class_weight[codes] - weight > 1e-9 * class_weight[codes]


def log_likelihood(scores, codes, *, row_weight=None):
    """Mean log-probability of the true classes, at the temperature that suits best.

    The probabilities are the softmax of the scores over a temperature. The likelihood
    is concave in the inverse temperature, which Newton's method finds.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_classes)
        Scores, the larger the better.
    codes : ndarray of shape (n_rows,)
        The true classes.
    row_weight : ndarray of shape (n_rows,), default=None
        The weight of each row in the mean.

    Returns
    -------
    value : float
        At most 0, and at least ``-log(n_classes)``.
    temperature : float
        The best temperature; infinite if the scores are worse than chance.
    """
    margins = scores - scores[np.arange(len(scores)), codes][:, None]
    spread = margins.std()
    if spread == 0:
        return -np.log(scores.shape[1]), np.inf
    margins = margins / spread
    log_inverse, bound = 1.0, 8.0

    def evaluate(log_inverse):
        scaled = np.exp(log_inverse) * margins
        log_sum = logsumexp(scaled, axis=1)
        probabilities = np.exp(scaled - log_sum[:, None])
        slopes = (probabilities * scaled).sum(axis=1)
        curvatures = (probabilities * scaled**2).sum(axis=1) - slopes**2
        average = np.average
        return (
            average(log_sum, weights=row_weight),
            average(slopes, weights=row_weight),
            average(curvatures + slopes, weights=row_weight),
            average(curvatures, weights=row_weight),
        )

    loss, slope, curvature, safe = evaluate(log_inverse)
    for _ in range(30):
        # In the logarithm: positive, and well scaled. Where it is not convex, the
        # Gauss-Newton curvature is.
        step = -slope / max(curvature, safe, _TINY)
        target = np.clip(log_inverse + np.clip(step, -1, 1), -bound, bound)
        if abs(target - log_inverse) < 1e-3:
            break
        new = evaluate(target)
        if new[0] > loss:
            break
        log_inverse = target
        loss, slope, curvature, safe = new
    if loss > np.log(scores.shape[1]):
        return -np.log(scores.shape[1]), np.inf
    return -loss, spread / np.exp(log_inverse)


_EPS = 1e-9  # of a leverage: below it, a row is all that there is in its direction
_TINY = np.finfo(np.float64).tiny


def _share_of_rest(class_weight, codes, row_weight):
    """Weight of each row, as a share of its class without it.

    1 for a row that is its whole class: finite, and not to be used.
    """
    weight = np.ones(len(codes)) if row_weight is None else row_weight
    rest = class_weight[codes] - weight
    return weight / np.where(can_be_left_out(class_weight, codes, weight), rest, weight)
