"""Fit classifiers to the same samples together, doing once what they have in common."""

import time
from collections import defaultdict
from contextlib import suppress
from copy import copy
from functools import cached_property, reduce
from operator import or_

import numpy as np

from .._memory.learner import completed, learn, learn_each
from .._scoring.scorer import Scorer
from .._scoring.similarity import largest_rows
from .._space.space import Space
from ._fitted import Fitted
from ._head import Head
from ._learning import checked_batch, features_of, start

# Parameters that make a difference to the proxies, but not to the moments of samples;
# to neither, but to what all classes have in common; to predictions alone. All others
# make a difference to everything, or may.
_ONLY_PROXIES = {"generator", "n_proxies", "random_state"}
_ONLY_HEAD = {"kernel_weight", "mean_weight", "metric", "proxy_norm", "whitening"}
_ONLY_PREDICTION = {
    "aggregation",
    "n_jobs",
    "query_norm",
    "rejection",
    "temperature",
    "verbose",
}

# Classifiers that differ in no others learn together.
_TOGETHER = {"n_proxies"} | _ONLY_HEAD | _ONLY_PREDICTION


class Candidate:
    """A classifier to be fitted with others.

    Parameters
    ----------
    number : int
        Its place among the candidates.
    clf : ImprintClassifier
        Not fitted.
    """

    def __init__(self, number, clf):
        self.number = number
        self.clf = clf

    @cached_property
    def _parameters(self):
        params = self.clf.get_params(deep=False)
        return {name: _key(value) for name, value in params.items()}

    def key(self, but_for):
        """Make something hashable of all parameters but some."""
        return tuple((k, v) for k, v in self._parameters.items() if k not in but_for)


def learning_together(candidates):
    """List the candidates that can be fitted together."""
    return _agreeing(candidates, _TOGETHER)


def fitted_together(candidates, X, y, sample_weight, *, queries, spaces):
    """Fit candidates to the same samples.

    Parameters
    ----------
    candidates : list of Candidate
        One list of `learning_together`, with valid parameters.
    X, y, sample_weight
        As in `ImprintClassifier.fit`.
    queries : array-like
        What is found near each of these is found once for all candidates.
    spaces : dict of {tuple: Space}
        The spaces of the same samples so far. It is added to.

    Yields
    ------
    number : int
        That of a candidate; none of one whose parameters do not go together.
    clf : ImprintClassifier
        Fitted.
    fit_time : float
        Seconds, with those of what it shares with others.
    """
    began = time.perf_counter()
    batch = checked_batch(candidates[0].clf, X, y, sample_weight)
    started = {}
    for candidate in candidates:
        with suppress(Exception):  # its own fit says why
            started[candidate.number] = start(candidate.clf, batch)
    candidates = [each for each in candidates if each.number in started]
    # All remember what any of them needs.
    needs = reduce(or_, (plan.needs for plan, _ in started.values()))
    plans = {number: plan.with_needs(needs) for number, (plan, _) in started.items()}
    with_same_proxies = _agreeing(candidates, _ONLY_HEAD | _ONLY_PREDICTION)
    firsts = [some[0].number for some in with_same_proxies]
    if candidates[0].clf.head is None:
        states = learn_each([plans[number] for number in firsts], batch)
    else:
        states = [
            completed(plans[number], learn(plans[number], started[number][1], batch))
            for number in firsts
        ]
    features = features_of(X)
    learn_time = time.perf_counter() - began

    of_samples = candidates[0].key(_ONLY_PROXIES | _ONLY_HEAD | _ONLY_PREDICTION)
    for some, state in zip(with_same_proxies, states, strict=True):
        for alike in _agreeing(some, _ONLY_PREDICTION):
            began = time.perf_counter()
            space = Space(state).sharing(spaces.get(of_samples))
            head = Head(plans[alike[0].number], space)
            spaces[of_samples] = space
            head_time = learn_time + time.perf_counter() - began
            known = _Known(
                queries,
                max(plans[each.number].aggregation.n_neighbors for each in alike),
            )
            for candidate in alike:
                began = time.perf_counter()
                clf = copy(candidate.clf)
                plan = plans[candidate.number]
                scorer = Scorer(head, plan)
                if not plan.query_norm.is_callable:
                    scorer.similarity = known.remembering(scorer.similarity)
                fitted = Fitted(plan, state)
                fitted.space, fitted.scorer = space, scorer
                clf._adopt(fitted, features)
                fit_time = head_time + time.perf_counter() - began
                yield candidate.number, clf, fit_time


def _agreeing(candidates, but_for):
    """List the candidates that differ in certain parameters only."""
    lists = defaultdict(list)
    for candidate in candidates:
        lists[candidate.key(but_for)].append(candidate)
    return list(lists.values())


def _key(value):
    """Make something hashable that is equal for equal values: or else the identity."""
    if hasattr(value, "get_params") and not isinstance(value, type):
        params = sorted(value.get_params(deep=False).items())
        return type(value), tuple((name, _key(param)) for name, param in params)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


class _Known:
    """Remember what is found near some queries, for all that prepare them alike.

    Parameters
    ----------
    queries : array-like of shape (n_queries, n_features)
        Those to remember results of, recognised as the array that they are.
    n_neighbors : int
        Most neighbours that will be asked for.
    """

    def __init__(self, queries, n_neighbors):
        self.queries = queries
        self.n_neighbors = n_neighbors
        self.found = defaultdict(dict)

    def remembering(self, similarity):
        """Let a similarity remember: one of the proxies that all others have, too."""
        # By products, queries are ranked alike whether their length is 1 or not.
        found = self.found[similarity.query_norm, similarity.last_norm]
        return _Remembering(similarity, self, found)


class _Remembering:
    """A `Similarity` that compares known queries once.

    Parameters
    ----------
    similarity : Similarity
        What compares them.
    known : _Known
        The queries.
    found : dict of {tuple: _Found}
        What is known of each block of them.
    """

    def __init__(self, similarity, known, found):
        self.similarity = similarity
        self.queries = known.queries
        self.n_remembered = min(known.n_neighbors, len(similarity.proxies))
        self.found = found

    def __getattr__(self, name):
        if name == "similarity":  # while it is being copied or unpickled
            raise AttributeError(name)
        return getattr(self.similarity, name)

    def to(self, X):
        there = self.similarity.to(X)
        return self if there is self.similarity else there

    def prepare(self, X, block=slice(None)):
        if X is not self.queries:
            return self.similarity.prepare(X, block)
        key = block.start, block.stop
        if key not in self.found:
            self.found[key] = _Found(self.similarity.prepare(X, block))
        return self.found[key].prepared

    def _found(self, X):
        """Look up what is known of prepared queries, or None."""
        known = (found for found in self.found.values() if found.prepared is X)
        return next(known, None)

    def ranks(self, X):
        found = self._found(X)
        # What takes more memory than the queries is not kept.
        if found is None or len(self.proxies) > X.shape[1]:
            return self.similarity.ranks(X)
        if found.ranks is None:
            found.ranks = self.similarity.ranks(X)
        return found.ranks.copy(order="K")

    def nearest(self, X, n_neighbors):
        found = self._found(X)
        if found is None or n_neighbors > self.n_remembered:
            return self.similarity.nearest(X, n_neighbors)
        if found.best is None:
            ranks = self.ranks(X)
            indices = largest_rows(ranks, self.n_remembered)
            values = np.take_along_axis(ranks, indices, axis=0)
            order = np.argsort(-values, axis=0, kind="stable")
            found.best = tuple(
                np.take_along_axis(array, order, axis=0) for array in (indices, values)
            )
        indices, values = found.best
        divides = self.similarity.divide_by_length
        if divides not in found.similarities:
            similarities = self.similarity.exact(X, indices, values.copy())
            found.similarities[divides] = similarities
        # By rank, so that fewer neighbours come first. By rounding, their similarities
        # may be equal or, where they are exact, in another order.
        similarities = found.similarities[divides][:n_neighbors]
        indices = indices[:n_neighbors]
        order = np.lexsort((indices, -similarities), axis=0)
        return (
            np.take_along_axis(similarities, order, axis=0).T,
            np.take_along_axis(indices, order, axis=0).T,
        )


class _Found:
    """What is known of a block of queries.

    Parameters
    ----------
    prepared : ndarray of shape (n_queries, n_features)
        The queries as they are compared.

    Attributes
    ----------
    ranks : ndarray of shape (n_proxies, n_queries) or None
        What `Similarity.ranks` returns.
    best : tuple of two ndarrays of shape (n_remembered, n_queries) or None
        The nearest proxies of each query, in this order, and their ranks.
    similarities : dict of {bool: ndarray of shape (n_remembered, n_queries)}
        What is made of these ranks, divided by the length of the query or not.
    """

    def __init__(self, prepared):
        self.prepared = prepared
        self.ranks = self.best = None
        self.similarities = {}
