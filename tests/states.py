"""What a classifier knows, made without one."""

import numpy as np
from settings import plain_classifier

from skimprint._memory.learner import Batch, learn
from skimprint._memory.state import State
from skimprint._plan import Plan


def plan_of(generator="mean", **params):
    """A plan that learns embeddings as they are."""
    clf = plain_classifier(generator, **{"support_norm": None, **params})
    return Plan.of(clf, True)


def learnt(plan, X, y, weights=None, *, state=None):
    """What is known after learning some samples, by default before any others."""
    batch = Batch(X, *np.unique(y, return_inverse=True), weights)
    return learn(plan, State() if state is None else state, batch)


def with_moments(X, y, weights=None):
    """What is known where moments are wanted."""
    return learnt(plan_of(metric="mahalanobis"), X, y, weights)
