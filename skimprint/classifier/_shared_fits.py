"""Fit classifiers to the same samples together, doing once what they have in common."""

import time
from collections import defaultdict
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import numpy as np

from .._arrays.threads import cached_property
from .._memory.learner import learn, learn_each, with_all_proxies
from .._plan import resolved_support_norm
from .._scoring.scorer import Scorer
from .._scoring.similarity import largest_first, largest_rows
from .._space.space import Space
from ._checks import checked_batch, features_of
from ._fitted import Fitted
from ._head import Head
from ._learning import plan_and_state

# Where a parameter makes its first difference: to the proxies that are generated, but
# not to moments of samples; to what a head makes of both; to predictions alone. All
# others make a difference to everything, or may.
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
TOGETHER = {"n_proxies"} | _ONLY_HEAD | _ONLY_PREDICTION


@dataclass(eq=False)
class Candidate:
    """A classifier to be fitted, perhaps with others.

    Parameters
    ----------
    number : int
        Its place among the candidates.
    grid : dict
        Its parameters that are in the grid.
    clf : ImprintClassifier
        With these parameters, not fitted.
    shares : bool, default=False
        Whether it is to be fitted together with others.
    """

    number: int
    grid: dict[str, Any]
    clf: Any
    shares: bool = False

    @cached_property
    def _parameters(self):
        clf = self.clf
        params = clf.get_params(deep=False)
        # What the norm of the queries decides is not of predictions alone.
        params["support_norm"] = resolved_support_norm(clf.support_norm, clf.query_norm)
        return {name: _key(value) for name, value in params.items()}

    def key(self, but_for):
        """Make something hashable of all parameters but some."""
        return tuple((k, v) for k, v in self._parameters.items() if k not in but_for)


def agreeing(candidates, but_for=TOGETHER):
    """List the candidates that differ in certain parameters only."""
    lists = defaultdict(list)
    for candidate in candidates:
        lists[candidate.key(but_for)].append(candidate)
    return list(lists.values())


def fitted_together(candidates, X, y, sample_weight, *, queries, spaces):
    """Fit candidates to the same samples, until one of them fails.

    Parameters
    ----------
    candidates : list of Candidate
        One list of `agreeing`, with valid parameters.
    X, y, sample_weight
        As in `ImprintClassifier.fit`.
    queries : array-like
        What is found near each of these is found once for all candidates.
    spaces : dict of {tuple: Space}
        The spaces of the same samples so far. It is added to.

    Yields
    ------
    candidate : Candidate
        None whose parameters do not go together, or that comes after an error: errors
        are to be those of its own fit.
    clf : ImprintClassifier
        Fitted.
    fit_time : float
        Seconds, with those of what it shares with others.
    """
    with suppress(Exception):
        yield from _fit_all(candidates, X, y, sample_weight, queries, spaces)


def _fit_all(candidates, X, y, sample_weight, queries, spaces):
    began = time.perf_counter()
    batch = checked_batch(candidates[0].clf, X, y, sample_weight)
    plans, learnt = _learnt_together(candidates, batch)
    features = features_of(X)
    learn_time = time.perf_counter() - began

    of_samples = candidates[0].key(_ONLY_PROXIES | _ONLY_HEAD | _ONLY_PREDICTION)
    for with_same_proxies, state in learnt:
        heads = defaultdict(list)
        for each in with_same_proxies:
            # Beside the norm of the samples, that of queries says whether to whiten.
            heads[each.key(_ONLY_PREDICTION), plans[each].whitening].append(each)
        for with_same_head in heads.values():
            began = time.perf_counter()
            space = Space(state).reusing(spaces.get(of_samples))
            head = Head(plans[with_same_head[0]], space)
            spaces[of_samples] = space
            head_time = learn_time + time.perf_counter() - began
            most = max(plans[each].aggregation.n_neighbors for each in with_same_head)
            similarities = {}
            for candidate in with_same_head:
                began = time.perf_counter()
                clf, plan = copy(candidate.clf), plans[candidate]
                fitted = Fitted(plan, state)
                fitted.space, fitted.scorer = space, Scorer(head, plan)
                key = candidate.key(_ONLY_PREDICTION - {"query_norm"})
                if key not in similarities:
                    compare = fitted.scorer.similarity
                    similarities[key] = _Remembering(compare, queries, most)
                fitted.scorer.similarity = similarities[key]
                clf._adopt(fitted, features)
                yield candidate, clf, head_time + time.perf_counter() - began


def _learnt_together(candidates, batch):
    """Learn samples once for all candidates that make the same proxies of them.

    Returns
    -------
    plans : dict of {Candidate: Plan}
        Those of candidates whose parameters go together.
    learnt : list of tuple (list of Candidate, State)
        Candidates that make the same proxies, and what they know.
    """
    own_plans = {}
    for candidate in candidates:
        with suppress(Exception):  # its own fit says why
            own_plans[candidate] = plan_and_state(candidate.clf, batch)[0]
    # All remember what any of them needs.
    needs = reduce(or_, (plan.needs for plan in own_plans.values()))
    plans = {each: plan.with_needs(needs) for each, plan in own_plans.items()}
    with_same_proxies = agreeing(plans, _ONLY_HEAD | _ONLY_PREDICTION)
    firsts = [some[0] for some in with_same_proxies]
    if candidates[0].clf.head is None:
        states = learn_each([plans[first] for first in firsts], batch)
    else:
        # What is remembered of the head is what any of them needs, too.
        begun = [plan_and_state(each.clf, batch, plan=plans[each]) for each in firsts]
        states = [
            with_all_proxies(plan, learn(plan, state, batch)) for plan, state in begun
        ]
    return plans, list(zip(with_same_proxies, states, strict=True))


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


class _Remembering:
    """A `Similarity` that finds the proxies near known queries once.

    Parameters
    ----------
    similarity : Similarity
        What compares them.
    queries : array-like of shape (n_queries, n_features)
        Those to remember results of, recognised as the array that they are.
    n_neighbors : int
        Most neighbours that will be asked for.
    """

    def __init__(self, similarity, queries, n_neighbors):
        self.similarity = similarity
        self.queries = queries
        self.n_neighbors = n_neighbors
        self.prepared = {}  # blocks of the queries, by start and stop
        self.ranked = {}  # what is near each of these, by its id

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
        if key not in self.prepared:
            self.prepared[key] = self.similarity.prepare(X, block)
        return self.prepared[key]

    def nearest(self, X, n_neighbors):
        is_known = any(X is each for each in self.prepared.values())
        if not is_known or n_neighbors > self.n_neighbors:
            return self.similarity.nearest(X, n_neighbors)
        if id(X) not in self.ranked:
            raw = self.similarity.raw(X)
            indices = largest_rows(raw, self.n_neighbors)
            raw = np.take_along_axis(raw, indices, axis=0)
            raw, indices = (each.T for each in largest_first(raw, indices))
            self.ranked[id(X)] = self.similarity.exact(X, indices, raw), indices
        # By rank, so that fewer neighbours come first. By rounding, their similarities
        # may be equal or, where they are exact, in another order.
        similarities, indices = (each[:n_neighbors] for each in self.ranked[id(X)])
        order = np.lexsort((indices, -similarities), axis=0)
        return tuple(
            np.take_along_axis(each, order, axis=0).T
            for each in (similarities, indices)
        )
