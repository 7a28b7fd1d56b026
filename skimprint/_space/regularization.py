"""Choose shrinkage and alpha by leave-one-out scores in closed form.

Where many amounts of regularisation are compared, it is in the directions of a scatter
matrix, of which each only changes the weights. Leaving a row out changes the scatter by
one outer product, so its scores follow from those of all rows together (Sherman and
Morrison).
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .._memory.columns import take
from ..normalization import squared_lengths
from .downdate import Downdate, Vectors, shift_without
from .likelihood import balanced, fit_temperature
from .whitening import Whitening

# Shrinkages to choose among, in the order in which they are tried.
SHRINKAGES = (0.97, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.03, 0.01)

# Regularisations to choose among, in units of the mean square of a feature.
ALPHAS = tuple(10.0 ** (step / 2) for step in range(-8, 5))

# Mean log-likelihoods that differ by less are equally good.
_SAME_LIKELIHOOD = 1e-4

# What likelihoods near chance are, as a share of that of chance. On real data the
# choice is the same with any; of 400 drawn data sets, with 1, 24 lost a peak that came
# after a fall, with 0.9 one, and with 0.75 none.
_NEAR_CHANCE = 0.75

# Samples of each class that are kept where something is chosen by leaving them out.
SAMPLE_SIZE = 200

# Classes whose scores tell which shrinkage is best: more tell the same.
_MAX_CLASSES = 100

# Scores by which alpha is chosen, at most: on drawn samples of 2,000 to 3,000 classes,
# those of one class in 4 to 9 choose what those of all do.
_MAX_SCORES = 2**20

# What is left of a class without a row, and of 1 without its leverage, is at least this
# share of it, or nothing.
_EPS = 1e-9


class LeftOut(NamedTuple):
    """Samples to be left out in turn.

    Attributes
    ----------
    rows : ndarray of shape (n, n_features)
        The samples.
    codes : ndarray of shape (n,)
        The class of each, in ascending order.
    weights : ndarray of shape (n,)
        The weight that each has in its class.
    counts : ndarray of shape (n,)
        The weight of the samples that each stands for, as in `Points`.
    numbers : ndarray of shape (n,)
        The place of each among the samples that are kept of its class.
    indices : ndarray of shape (n,), default=None
        The training row that each is.
    """

    rows: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    numbers: np.ndarray
    indices: np.ndarray | None = None

    @classmethod
    def of(cls, samples, class_weights):
        """Leave out samples of each class, which has so much weight in all."""
        rows, weights, _, indices = samples.values
        codes = samples.codes
        numbers = np.arange(len(rows)) - samples.offsets[codes]
        left_out = cls(rows, codes, weights, weights, numbers, indices)
        return left_out.standing_for(class_weights)

    def standing_for(self, class_weights):
        """Let the samples stand for all of their class, by their weights."""
        totals = np.bincount(self.codes, self.weights)
        of_class = class_weights[self.codes] / totals[self.codes]
        return self._replace(counts=self.weights * of_class)


def choose_shrinkage(scatter, class_weight, means, left_out):
    """Choose the shrinkage that makes left-out samples the most likely.

    Each class has the same say: its scores do not know how frequent it is, either. The
    largest shrinkage is tried first, as the best one of few samples is near it, and the
    rest until the likelihood falls. Near chance a fall says nothing: where a few
    features vary far more than what tells the classes apart, the peak comes after it.

    Parameters
    ----------
    scatter : Scatter
        Within the classes.
    class_weight : ndarray of shape (n_classes,)
        Sum of the weights of each class.
    means : ndarray of shape (n_classes, n_features)
        The class means, of dtype float64.
    left_out : LeftOut
        Samples to judge by.

    Returns
    -------
    shrinkage : float
        One of ``SHRINKAGES``; 1 if there is nothing to judge by. Of equally good ones
        the largest.
    """
    left_out = _able_to_go(class_weight, left_out)
    if len(left_out.rows) == 0 or len(means) == 1 or scatter.variance == 0:
        return 1.0
    among = np.arange(len(means))
    if len(means) > _MAX_CLASSES:
        among = np.unique(left_out.codes)
        among = among[:: -(-len(among) // _MAX_CLASSES)]
        left_out = take(left_out, np.isin(left_out.codes, among))
    scores = whitened_mean_scores(
        scatter, class_weight, means, left_out, SHRINKAGES, among
    )
    codes, values = np.searchsorted(among, left_out.codes), []
    near_chance = -_NEAR_CHANCE * np.log(len(among))
    for value in _likelihoods(scores, codes, balanced(left_out.counts, codes)):
        values.append(value)
        best = max(values)
        falls = value < best - _SAME_LIKELIHOOD
        if (falls and best > near_chance) or best >= -_SAME_LIKELIHOOD:
            break
    return SHRINKAGES[np.flatnonzero(_are_best(values))[0]]


def shrinkage_of_means(n_classes, n_features):
    """Choose the shrinkage where the class means alone tell in what samples vary.

    No sample of such classes can be left out. The means vary in ``n_classes - 1``
    directions, and so much more in each of them than in the mean of all: their share is
    small enough that this at most triples the variance there.

    Parameters
    ----------
    n_classes, n_features : int
        Number of classes and of features.

    Returns
    -------
    shrinkage : float
        At least the largest of ``SHRINKAGES``.
    """
    return max(1 / (1 + 2 * (n_classes - 1) / n_features), max(SHRINKAGES))


def choose_alpha(scatter, class_weight, means, left_out):
    """Choose the regularisation of ridge regression that makes left-out samples likely.

    Parameters
    ----------
    scatter : Scatter
        The second moment of all samples.
    class_weight : ndarray of shape (n_classes,)
        Sum of the weights of each class.
    means : ndarray of shape (n_classes, n_features)
        The class means, of dtype float64.
    left_out : LeftOut
        Samples to judge by.

    Returns
    -------
    alpha : float
        Per unit of weight. If there is nothing to judge by, ten times the mean square
        of a feature: of unit length, few samples tell each other apart best with much.
    """
    variance = scatter.variance
    left_out = _able_to_go(class_weight, left_out)
    if len(left_out.rows) == 0 or len(means) == 1 or variance == 0:
        return 10 * variance or 1.0
    step = -(-len(left_out.rows) * len(means) // _MAX_SCORES)
    left_out = take(left_out, slice(None, None, step))
    alphas = variance * np.array(ALPHAS)
    scores = ridge_scores(scatter, means * class_weight[:, None], left_out, alphas)
    return float(alphas[last_of_the_best(scores, left_out.codes, left_out.counts)])


def _able_to_go(class_weight, left_out):
    """Take the samples that leave something of their class when they go."""
    of_class = class_weight[left_out.codes]
    return take(left_out, of_class - left_out.weights > _EPS * of_class)


def last_of_the_best(candidates, codes, weights, targets=None, prior=None):
    """Find the last of the candidates whose scores are best for samples.

    Of equally good ones the last, most regularised one: rounding must not decide.

    Parameters
    ----------
    candidates : iterable of ndarray of shape (n, n_classes)
        Scores of samples that are left out.
    codes : ndarray of shape (n,)
        The class of each.
    weights : ndarray of shape (n,)
        The weight of each.
    targets : ndarray of shape (n, n_classes), default=None
        By default, the best scores have the largest mean log-likelihood; with targets,
        the mean squared error to them is taken off.
    prior : tuple (mean, deviation), default=None
        Of the temperature, as for `fit_temperature`: with it, candidates by which all
        samples are right are not equally good.

    Returns
    -------
    best : int
    """
    values = [*_likelihoods(candidates, codes, weights, targets, prior)]
    return int(np.flatnonzero(_are_best(values))[-1])


def _are_best(values):
    """Tell which values are as good as the largest."""
    return np.array(values) >= max(values) - _SAME_LIKELIHOOD


def _likelihoods(candidates, codes, weights, targets=None, prior=None):
    """Find how likely each of the candidates makes samples, less its error."""
    temperature = None
    for scores in candidates:
        value, temperature = fit_temperature(
            scores,
            codes,
            weights,
            start=temperature,
            no_gain=_SAME_LIKELIHOOD / 10,
            prior=prior,
        )
        value = max(value, -np.log(scores.shape[1]))  # no worse than chance
        if targets is not None:
            errors = np.sum((scores - targets) ** 2, axis=1)
            value -= np.average(errors, weights=weights)
        yield value


def whitened_mean_scores(scatter, class_weight, means, left_out, shrinkages, among):
    r"""Compute cosines of rows to the whitened class means, all made without the row.

    The space is whitened by the shrunk covariance :math:`(1 - s) S / N + s v I`, for
    the scatter :math:`S` within the classes, and its origin is the mean of the class
    means. Each row is forgotten by its class mean, the origin and :math:`S`. What
    depends on it hardly, the weight :math:`N` and the variance :math:`v`, stays.

    Parameters
    ----------
    scatter : Scatter
        Within the classes.
    class_weight : ndarray of shape (n_classes,)
        Sum of the weights of each class.
    means : ndarray of shape (n_classes, n_features)
        The class means, of dtype float64.
    left_out : LeftOut
        Some of the rows that scatter and means were made from. Each is left out with
        all the weight that it has in its class.
    shrinkages : array-like of shape (n_shrinkages,)
        Shrinkages ``s`` to compare, above 0 and at most 1.
    among : ndarray of shape (n_scored,)
        The classes to score, in ascending order, with those of all rows.

    Yields
    ------
    scores : ndarray of shape (n_rows, n_scored)
        Cosines for one shrinkage after the other. They mean nothing for a row that is
        its whole class.
    """
    total, (rows, codes, weight, *_) = scatter.total_weight, left_out
    if scatter.matrix is None:
        # A row that is nearly alone in its direction leaves too little for float32.
        rows = rows.astype(np.float64, copy=False)
    shift = shift_without(class_weight[codes], weight)  # of r, in the class mean
    lost = shift * class_weight[codes] / total  # of r r^T, in S / N
    origin_shift = shift / len(means)
    origin = means.mean(axis=0)
    means, codes = means[among], np.searchsorted(among, codes)
    own = codes, np.arange(len(rows))
    mean_shift = np.tile(origin_shift, (len(means), 1))
    mean_shift[own] -= shift

    # Float32 is used in units that it can hold.
    scale = 1 / np.sqrt(scatter.variance)
    centred = ((rows - origin) * scale).astype(rows.dtype, copy=False)
    points = ((means - origin) * scale).astype(rows.dtype, copy=False)
    found = _whitened_products(scatter, scale, points, centred, shrinkages)
    for s, (products, gram, lengths) in zip(shrinkages, found, strict=True):
        # Products with the residual r = x - mean of its class
        along_means = products - gram[:, codes]
        along_rows = lengths - products[own]
        downdate = Downdate(
            np.maximum(along_rows - along_means[own], 0), (1 - s) * lost
        )
        yield downdate.cosines(
            Vectors(np.diag(gram)[:, None], along_means, mean_shift),
            Vectors(lengths, along_rows, origin_shift),
            products,
        ).T


def _whitened_products(scatter, scale, points, rows, shrinkages):
    """Compute inner products in the space that each of some shrinkages whitens.

    Of a scatter of few rows, products with its directions are taken once; each
    shrinkage then takes one of (n_rows, n_directions) and (n_directions, n_points). Of
    many rows the directions take as long as five Cholesky factors and what they
    whiten, and on nine data sets five to seven shrinkages are tried, or one or two
    where few samples tell all classes apart.

    Parameters
    ----------
    scatter : Scatter
        Of samples that were not scaled.
    scale : float
        What points and rows were multiplied by, so that the mean variance is 1.
    points : ndarray of shape (n_points, n_features)
        Some points.
    rows : ndarray of shape (n_rows, n_features)
        Some rows, of the same dtype and origin.
    shrinkages : array-like of shape (n_shrinkages,)
        As for `whitened_mean_scores`.

    Yields
    ------
    products : ndarray of shape (n_points, n_rows)
        Of the points with the rows.
    gram : ndarray of shape (n_points, n_points)
        Of the points.
    lengths : ndarray of shape (n_rows,)
        Of each row with itself.
    """
    if scatter.matrix is not None:
        matrix = (scatter.matrix * scale**2).astype(rows.dtype, copy=False)
        scaled, origin = replace(scatter, matrix=matrix), np.zeros_like(rows[0])
        for s in shrinkages:
            whitening = Whitening.of(scaled, origin, s, rows.dtype)
            x, p = whitening.solve(rows), whitening.solve(points)
            found = p @ x.T, p @ p.T, squared_lengths(np, x)[:, 0]
            yield [each.astype(np.float64, copy=False) for each in found]
        return
    spectrum = scatter.spectrum(rows.dtype, scale)
    x, p = spectrum.project(rows), spectrum.project(points)
    products, gram = points @ rows.T, points @ points.T
    squares, lengths = x**2, squared_lengths(np, rows)[:, 0]
    for s in shrinkages:
        lacking = spectrum.correction((1 - s) / scatter.total_weight, s)
        weighted = p * lacking
        yield (
            products / s - weighted @ x.T,
            gram / s - weighted @ p.T,
            lengths / s - squares @ lacking,
        )


def ridge_scores(scatter, class_sums, left_out, alphas):
    r"""Predict by ridge regression on one-hot targets, each row without itself.

    Parameters
    ----------
    scatter : Scatter
        The second moment of all rows, :math:`\sum_i w_i x_i x_i^T`.
    class_sums : ndarray of shape (n_classes, n_features)
        The weighted sum of the rows of each class, of dtype float64.
    left_out : LeftOut
        Some of the rows that the sums were made from.
    alphas : array-like of shape (n_alphas,)
        Regularisations, per unit of weight: the penalty is ``alpha`` times the sum of
        all weights, and stays when a row is left out.

    Yields
    ------
    scores : ndarray of shape (n_rows, n_classes)
        Predictions, for one alpha after the other, all in the same array.
    """
    rows, codes, weight, *_ = left_out
    spectrum, rows = scatter.spectrum(), rows.astype(np.float64, copy=False)
    sums, coordinates = spectrum.project(class_sums), spectrum.project(rows)
    products_outside, squares = rows @ class_sums.T, coordinates**2
    lengths_outside = squared_lengths(np, rows)[:, 0]
    own = np.arange(len(rows)), codes
    del rows, class_sums  # which are as large as what is made of them
    spectrum = spectrum._replace(factor=None)
    predictions = np.empty_like(products_outside)
    for alpha in alphas:
        penalty = alpha * scatter.total_weight
        lacking = spectrum.correction(1.0, penalty)
        predictions = np.divide(products_outside, penalty, out=predictions)
        predictions -= (coordinates * lacking) @ sums.T
        leverage = weight * (lengths_outside / penalty - squares @ lacking)
        predictions[own] -= leverage
        predictions /= np.maximum(1 - leverage, _EPS)[:, None]
        yield predictions
