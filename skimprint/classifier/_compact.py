"""Leave out of a classifier all that only learning needs."""

from copy import copy

from sklearn.base import clone

from ._calibration import temperature_of, threshold_of
from ._plain import read_pickled, write_pickled


def compacted(clf):
    """Make a classifier that predicts the same, and cannot learn.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted.

    Returns
    -------
    compact : ImprintClassifier
        Shares the arrays that predictions read.
    """
    clf = copy(clf)  # other threads may learn meanwhile
    scorer = clf._fitted.scorer
    calibrate_now(clf, scorer)
    plain = write_pickled(clf, derived=True, learning=False)
    other = clone(clf)
    other.head = None
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(clf, name):
            setattr(other, name, getattr(clf, name))
    plain["parameters_then"]["head"] = None
    other._fitted = read_pickled(other, plain)
    # What has been computed of these arrays is shared, too.
    shared = {"whitening", "twice_whitened"} & vars(scorer.head).keys()
    head = other._fitted.scorer.head
    vars(head).update({name: vars(scorer.head)[name] for name in shared})
    return other


def calibrate_now(clf, scorer):
    """Let a scorer find the temperature and the threshold, while it has samples."""
    temperature_of(clf, scorer)
    if clf.rejection is not None:
        threshold_of(clf, scorer)
