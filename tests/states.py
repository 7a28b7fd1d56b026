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


def samples(n, d, seed=0, n_classes=3):
    """Embeddings, labels and weights; no class has no sample."""
    rng = np.random.default_rng(seed)
    y = np.sort(np.arange(n) % n_classes)
    return rng.normal(size=(n, d)) + y[:, None], y, rng.uniform(0.5, 2, n)


def assert_same_samples(found, expected, order):
    """The same samples of each class are kept, to the bit; they came in an order."""
    for some, others in zip(found, expected, strict=True):
        some = some._replace(indices=order[some.indices])
        for a, b in zip(some, others, strict=True):
            np.testing.assert_array_equal(a, b)


def known(clf, label=0):
    """What a classifier knows of a class."""
    return clf._fitted.state.gather([label])
