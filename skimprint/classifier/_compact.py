"""Leave out of a classifier all that only learning needs."""

from copy import copy
from dataclasses import replace

import numpy as np
from sklearn.base import clone

from .._memory.state import Needs, State
from .._scoring.scorer import Scorer
from .._space.space import Space
from ._calibration import familiarity_of, temperature_of, threshold_of


class PredictOnly:
    """Stand in for `Fitted` where nothing more can be learnt.

    Parameters
    ----------
    plan : Plan
        How queries are scored.
    scorer : Scorer
        Scores them.
    """

    knows_classes = True

    def __init__(self, plan, scorer):
        self.plan = plan
        self.scorer = scorer

    @property
    def state(self):
        """What is known: an error here."""
        raise ValueError(
            "A compact classifier has only what predictions need: it cannot learn more "
            "with partial_fit, forget or merge, nor say which samples a proxy stands "
            "for. Do so with the classifier that it was made of, or call fit, which "
            "starts again."
        )

    last_state = learnt = state

    def enqueued(self, batch):
        """Let a batch wait to be learnt: an error here."""
        return self.state


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
    scorer = clf._fitted.scorer
    calibrate_now(clf, scorer)
    if familiarity_of(clf, scorer) == "auto":
        _ = scorer.head.mean_directions  # while there is what it is made of
    other = clone(clf)
    other.head = None
    parameters = scorer.plan.parameters | {"head": None}
    plan = replace(scorer.plan, needs=Needs(), parameters=parameters)
    head = copy(scorer.head)
    head.plan = plan
    head.space = space_of(
        head.space.class_weights, head.space.is_head, head.space.state.n_samples
    )
    head.covariance = None
    if head.factor is not None:
        head.factor = head.factor.astype(head.dtype)
    compact = Scorer(head, plan)
    compact.calibrations = dict(scorer.calibrations)
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(clf, name):
            setattr(other, name, getattr(clf, name))
    other._fitted = PredictOnly(plan, compact)
    return other


def calibrate_now(clf, scorer):
    """Let a scorer find the temperature and the threshold, while it has samples."""
    temperature_of(clf, scorer)
    if clf.rejection is not None:
        threshold_of(clf, scorer)


def space_of(class_weights, is_head, n_samples):
    """Make a space that knows nothing but how much was learnt.

    Parameters
    ----------
    class_weights : ndarray of shape (n_classes,)
        Weight of the samples of each class.
    is_head : ndarray of bool, of shape (n_classes,)
        Whether a class is as it came from a linear head.
    n_samples : int
        Number of training rows so far.

    Returns
    -------
    space : Space
    """
    space = Space.__new__(Space)
    space.state = State(n_samples=n_samples)
    space.class_weights = np.asarray(class_weights)
    space.is_head = is_head
    space._previous = None
    return space
