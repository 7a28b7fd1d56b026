"""What is chosen by support samples that are left out: temperature and threshold."""

from typing import NamedTuple

import numpy as np
from sklearn.exceptions import NotFittedError

from .._scoring.leave_one_out import leave_one_out, scores_of_kept
from .._space.likelihood import balanced, fit_temperature
from .._space.whitening import is_apart
from .._validation import check_parameter

# Mean and deviation of the logarithm of the typical difference of scores over the best
# temperature of queries. On nine data sets, with 2 to 41 classes and 2 to 50 samples of
# each, the mean is 1.0 to 1.3 for each of three methods, and the deviation 0.2 to 0.6,
# or 1.1 to 1.5 for two classes. A prior like this one, of eight sets, serves the ninth.
PRIOR = (1.0, 0.4)


class Calibration(NamedTuple):
    """What leaving samples out has shown.

    Attributes
    ----------
    temperature : float
        The most probable one, by the classes of samples that were left out.
    familiarities, weights : ndarray of shape (n,)
        Of samples that were left out, and again as if their class had one other sample,
        for the classes that have one. The largest weight is 1.
    """

    temperature: float
    familiarities: np.ndarray
    weights: np.ndarray

    def threshold(self, rate):
        """Find the familiarity below which the given share of the samples lies."""
        if not len(self.familiarities):
            return -np.inf
        return float(
            np.quantile(
                self.familiarities, rate, weights=self.weights, method="inverted_cdf"
            )
        )


def calibrate(scorer, kind):
    """Find what scores of left-out samples show; once for each kind of familiarity.

    Parameters
    ----------
    scorer : Scorer
        Of all that is known. It keeps the result.
    kind : str
        Which familiarity to tell: as for `Scorer.familiarities`.

    Returns
    -------
    calibration : Calibration
        Of no samples, and a temperature by what they score elsewhere, if there is none
        to leave out.
    """
    with scorer.lock:  # threads that come meanwhile wait
        if kind not in scorer.calibrations:
            scorer.calibrations[kind] = _calibrated(scorer, kind)
        return scorer.calibrations[kind]


def _calibrated(scorer, kind):
    if scorer.plan.needs.samples == 0:
        raise NotFittedError(
            "temperature='auto' and Rejection(threshold='auto') need samples of each "
            "class, but were set after fit: call fit again."
        )
    found = leave_one_out(scorer, kind)
    temperature = temperature_by(scorer, found)
    if found is None:
        return Calibration(temperature, np.empty(0), np.empty(0))
    familiarities, weights = _with_one_shot(found, _share_alone(scorer, found))
    # Equal weights are 1, so that shares of them are exact.
    weights /= weights.max()
    return Calibration(temperature, familiarities, weights)


def temperature_by(scorer, found):
    """Find the most probable temperature by what is said of left-out samples.

    Parameters
    ----------
    scorer : Scorer
        Of all that is known.
    found : LeftOutScores or None
        Of `leave_one_out`, for any kind of familiarity.

    Returns
    -------
    temperature : float
        1 if classes do not differ.
    """
    if not _tells_apart(scorer.head):
        return 1.0
    if found is None:
        return _between_classes(*scores_of_kept(scorer))
    # Each class has the same say, as in what is chosen besides.
    weights = balanced(found.weights, found.codes)
    temperature = probable_temperature(found.scores, found.codes, weights)
    # So have classes of one sample, in the square, as deviations do. On eight data sets
    # with 1 sample of a tenth to nine tenths of the classes, and 5 to 60 of the others,
    # the log loss is 1.39 so, 1.42 in the logarithm, and 1.31 at best.
    share = _share_alone(scorer, found)
    if share:
        elsewhere = _between_classes(*scores_of_kept(scorer, found.is_alone))
        several, single = np.sqrt(1 - share) * temperature, np.sqrt(share) * elsewhere
        temperature = np.hypot(several, single)
    return float(temperature)


def _share_alone(scorer, found):
    """Find the share of classes that have one sample, of all that were learnt."""
    is_head = scorer.head.space.is_head
    return np.count_nonzero(found.is_alone) / np.count_nonzero(~is_head)


def probable_temperature(scores, codes, weights=None):
    """Find the most probable temperature of scores of queries; 1 if all are alike."""
    # At most a millionth and a million times the typical difference of scores.
    _, temperature = fit_temperature(
        scores, codes, weights, bound=np.log(1e6), no_gain=1e-15, prior=PRIOR
    )
    return temperature if np.isfinite(temperature) else 1.0


def _with_one_shot(found, share):
    """Give classes of one sample their share, by samples of others, scored as theirs.

    A sample of a class of several, to which one other sample of its class is all that
    is known of it, is what a query of a class of one sample is.
    """
    weights = balanced(found.weights, found.codes)
    has_other = np.isfinite(found.one_shot)
    if not has_other.any():
        return found.familiarities, weights
    of_pairs = balanced(found.weights[has_other], found.codes[has_other])
    familiarities = [found.familiarities, found.one_shot[has_other]]
    weights = [(1 - share) * weights / weights.sum(), share * of_pairs / of_pairs.sum()]
    return np.concatenate(familiarities), np.concatenate(weights)


def _tells_apart(head):
    """Tell whether classes differ by more than rounding errors."""
    proxies, origin = head.proxies, head.proxies[0]
    some = (proxies[-1:], proxies)  # nearly always, one other proxy shows it
    return head.kernel is not None or any(
        is_apart(rows, origin, head.dtype).any() for rows in some
    )


def _between_classes(scores, codes):
    """Find a temperature by what samples that cannot be left out score elsewhere.

    Where each class has one sample, the best temperature of queries is about the
    deviation of scores of other classes: on nine data sets, with 5 to 41 classes, 0.8
    to 1.3 times that. Two classes have one such score: then it is a fifth of the
    typical difference of scores (0.2 to 0.3), less than the former of more classes.
    """
    is_own = codes[:, None] == np.arange(scores.shape[1])
    if is_own.all():  # one class, or no samples
        return 1.0
    scores = scores.astype(np.float64)
    margins = scores - scores[is_own][:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        found = max(scores[~is_own].std(), margins.std() / 5)
    return float(found) if np.isfinite(found) and found > 0 else 1.0


def familiarity_kind(clf, scorer):
    """Find which kind of familiarity a classifier tells, as `Scorer` calls it."""
    kind = "auto"
    if clf.rejection is not None:
        check_parameter(clf, "rejection")
        clf.rejection._validate_params()
        kind = clf.rejection.score
    if kind == "auto" and not scorer.tells_by_means:
        return "similarity"
    return kind


def temperature_of(clf, scorer):
    """Find what scores are divided by for probabilities."""
    check_parameter(clf, "temperature")
    if clf.temperature != "auto":
        return clf.temperature
    if not scorer.plan.can_leave_out:
        return 1.0
    return calibrate(scorer, familiarity_kind(clf, scorer)).temperature


def threshold_of(clf, scorer):
    """Find the familiarity below which queries are rejected."""
    rejection = clf.rejection
    if rejection.threshold == "auto":
        scorer.plan.check_left_out()
        kind = familiarity_kind(clf, scorer)
        return calibrate(scorer, kind).threshold(rejection.rate)
    return rejection.threshold


def not_found_yet(clf):
    """Name the attributes for which samples would have to be left out first."""
    scorer = clf._fitted.scorer if clf.__sklearn_is_fitted__() else None
    if scorer is None or not scorer.plan.can_leave_out or scorer.calibrations:
        return set()
    threshold = getattr(clf.rejection, "threshold", None)
    values = {"temperature_": clf.temperature, "rejection_threshold_": threshold}
    return {name for name, value in values.items() if value == "auto"}
