"""Learn and forget: random programs against a model that refits from what is left."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skimprint import ImprintClassifier
from skimprint.generation import KMeansProxies

# What any chunks and orders give alike, and what is approximate for a class that is
# learnt more than once.
EXACT = {
    "mean": ImprintClassifier("mean"),
    "all": ImprintClassifier("all"),
    "random": ImprintClassifier("random", n_proxies=2, random_state=0),
    "least_squares": ImprintClassifier("least_squares", n_proxies=1, proxy_norm=None),
    "mean, mahalanobis": ImprintClassifier("mean", metric="mahalanobis"),
    "all, mahalanobis": ImprintClassifier("all", metric="mahalanobis"),
    "mean, whitened": ImprintClassifier("mean", shrinkage=0.3),
    "all, whitened": ImprintClassifier("all", shrinkage="auto", metric="euclidean"),
    "least_squares, whitened": ImprintClassifier(
        "least_squares", n_proxies=1, shrinkage=0.5, query_norm=None, proxy_norm=None
    ),
}
CLUSTERED = {
    "kmeans": ImprintClassifier("kmeans", n_proxies=2, random_state=0),
    "kmedoids": ImprintClassifier("kmedoids", n_proxies=2, random_state=0),
    "fps": ImprintClassifier("fps", n_proxies=2),
    "cov_max": ImprintClassifier("cov_max", n_proxies=2),
    "least_squares": ImprintClassifier("least_squares", n_proxies=2, random_state=0),
    "kmeans, mahalanobis": ImprintClassifier(
        KMeansProxies(n_init=2), n_proxies=3, metric="mahalanobis", random_state=0
    ),
    "kmeans, whitened": ImprintClassifier(
        n_proxies=2, shrinkage="auto", random_state=0
    ),
}
N_FEATURES = 4
QUERIES = np.random.default_rng(99).normal(size=(30, N_FEATURES))

some_labels = st.lists(st.sampled_from(["a", "bb", "ccc", "d" * 9]), min_size=1)
seeds = st.integers(0, 2**16)
weightings = st.sampled_from([None, "some zero"])


def samples(labels, seed, weighting):
    """Rows about a centre of each class, and weights that leave no class out."""
    rng = np.random.default_rng(seed)
    y = np.array(labels)
    centers = np.array([[len(label), ord(label[0]) % 5, 1, -2] for label in labels])
    X = centers + rng.normal(size=(len(y), N_FEATURES))
    if weighting is None:
        return X, y, None
    weights = rng.integers(0, 3, len(y)).astype(float)
    weights[np.unique(y, return_index=True)[1]] = 1.5
    return X, y, weights


def without(batch, gone):
    """A batch of samples without those of some classes."""
    X, y, weights = batch
    left = ~np.isin(y, list(gone))
    return X[left], y[left], None if weights is None else weights[left]


def proxies_by_class(clf):
    return {label: clf.proxies_[clf.proxy_labels_ == label] for label in clf.classes_}


class Program(RuleBasedStateMachine):
    """Runs a classifier beside the list of all that it should know."""

    def __init__(self, clf, *, exact):
        super().__init__()
        self.clf = clone(clf)
        self.exact = exact
        # Whether proxies depend on other classes.
        self.shared = clf.generator == "least_squares" or clf.shrinkage is not None
        # What has been learnt since fit, step by step: how, and from what.
        self.steps = []
        self.rows = []  # label of each training row, forgotten ones included
        self.counts = {}
        self.pieces = {}  # in how many steps a class has been learnt

    def note(self, step, batch):
        self.steps.append((step, batch))
        self.rows += batch[1].tolist()
        weights = np.ones(len(batch[1])) if batch[2] is None else batch[2]
        for label in np.unique(batch[1]).tolist():
            more = weights[batch[1] == label].sum()
            self.counts[label] = self.counts.get(label, 0) + more
            self.pieces[label] = self.pieces.get(label, 0) + 1

    @rule(labels=some_labels, seed=seeds, weighting=weightings)
    def fit(self, labels, seed, weighting):
        X, y, weights = batch = samples(labels, seed, weighting)
        self.clf.fit(X, y, sample_weight=weights)
        self.steps, self.rows, self.counts, self.pieces = [], [], {}, {}
        self.note("partial_fit", batch)

    @rule(labels=some_labels, seed=seeds, weighting=weightings)
    def partial_fit(self, labels, seed, weighting):
        X, y, weights = batch = samples(labels, seed, weighting)
        self.clf.partial_fit(X, y, sample_weight=weights)
        self.note("partial_fit", batch)

    @precondition(lambda self: self.counts)
    @rule(labels=some_labels, seed=seeds, weighting=weightings)
    def merge(self, labels, seed, weighting):
        X, y, weights = batch = samples(labels, seed, weighting)
        other = clone(self.clf).fit(X, y, sample_weight=weights)
        self.clf.merge(other)
        self.note("merge", batch)

    @precondition(lambda self: self.counts)
    @rule(data=st.data())
    def forget(self, data):
        known = st.sampled_from(sorted(self.counts))
        gone = data.draw(st.sets(known, min_size=1), "classes")
        self.clf.forget(sorted(gone))
        for label in gone:
            del self.counts[label], self.pieces[label]
        self.steps = [(step, without(batch, gone)) for step, batch in self.steps]
        self.steps = [(step, batch) for step, batch in self.steps if len(batch[1])]
        if self.counts:
            self.assert_as_if_never_seen()

    @precondition(lambda self: self.counts)
    @rule()
    def forget_what_is_not_known(self):
        before = pickle.dumps(self.clf)
        with pytest.raises(ValueError, match="'zebra'.* are not among"):
            self.clf.forget([sorted(self.counts)[0], "zebra"])
        assert pickle.dumps(self.clf) == before

    @rule()
    def pickle(self):
        self.clf = pickle.loads(pickle.dumps(self.clf))

    def assert_as_if_never_seen(self):
        other = clone(self.clf)
        for step, (X, y, weights) in self.steps:
            if step == "merge" and hasattr(other, "classes_"):
                other.merge(clone(other).fit(X, y, sample_weight=weights))
            else:
                other.partial_fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(self.clf.classes_, other.classes_)
        assert self.clf.classes_.dtype == other.classes_.dtype
        if self.shared:
            np.testing.assert_allclose(self.clf.proxies_, other.proxies_, 1e-6, 1e-9)
        else:
            np.testing.assert_array_equal(self.clf.proxies_, other.proxies_)
        np.testing.assert_allclose(
            self.clf.decision_function(QUERIES),
            other.decision_function(QUERIES),
            rtol=1e-6,
            atol=1e-9,
        )

    @precondition(lambda self: not self.counts)
    @invariant()
    def knows_nothing(self):
        with pytest.raises(NotFittedError):
            check_is_fitted(self.clf)
        with pytest.raises(NotFittedError):
            self.clf.predict(QUERIES)

    @precondition(lambda self: self.counts)
    @invariant()
    def state_is_whole(self):
        clf = self.clf
        assert clf.classes_.tolist() == sorted(self.counts)
        expected = [self.counts[label] for label in clf.classes_.tolist()]
        np.testing.assert_allclose(clf.class_count_, expected)
        assert clf.n_samples_seen_ == len(self.rows)
        labels_of_rows = np.array(self.rows)[clf.proxy_indices_]
        np.testing.assert_array_equal(labels_of_rows, clf.proxy_labels_)
        assert np.isfinite(clf.proxies_).all()

    @precondition(lambda self: self.counts)
    @invariant()
    def same_as_a_refit(self):
        parts = [without(batch, ()) for _, batch in self.steps]
        X = np.concatenate([part[0] for part in parts])
        y = np.concatenate([part[1] for part in parts])
        weights = np.concatenate(
            [np.ones(len(part[1])) if part[2] is None else part[2] for part in parts]
        )
        refit = clone(self.clf).fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(self.clf.classes_, refit.classes_)
        every = self.exact or max(self.pieces.values()) == 1
        mine, expected = proxies_by_class(self.clf), proxies_by_class(refit)
        for label in self.clf.classes_.tolist():
            if every:
                np.testing.assert_allclose(mine[label], expected[label], 1e-6, 1e-9)
            elif self.pieces[label] == 1 and not self.shared:
                np.testing.assert_array_equal(mine[label], expected[label])
        if every:
            np.testing.assert_allclose(
                self.clf.decision_function(QUERIES),
                refit.decision_function(QUERIES),
                rtol=1e-6,
                atol=1e-9,
            )
            np.testing.assert_array_equal(
                self.clf.predict(QUERIES), refit.predict(QUERIES)
            )


@pytest.mark.parametrize(
    "clf, exact",
    [pytest.param(clf, True, id=f"exact {name}") for name, clf in EXACT.items()]
    + [pytest.param(clf, False, id=f"{name}") for name, clf in CLUSTERED.items()],
)
def test_random_programs(clf, exact):
    run_state_machine_as_test(
        lambda: Program(clf, exact=exact),
        settings=settings(
            max_examples=20,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
