"""What a head says about queries: scores, familiarities, explanations, proxies."""

import threading
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from .._arrays.groups import blocks_of_rows
from .._arrays.threads import ForkSafeLock, cached_property, one_blas_thread
from .._space.kernel_ridge import LabelShares
from ..aggregation import keep_winners, nearest_of_class
from .familiarity import FAMILIARITIES, MEANS
from .similarity import METRICS, Similarity

# Scores that become probabilities at a time, so that few copies are held.
_AT_A_TIME = 2**18


class _Block(NamedTuple):
    """Some of the queries, as they are scored.

    Attributes
    ----------
    X : ndarray or DeviceArray of shape (n_queries, n_features)
        All queries.
    part : slice
        Which of them these are.
    compared : tuple (similarity, queries, offsets, get_raw)
        What `Aggregation.winners` and `Aggregation.of_queries` get: the similarity
        where the queries are, and these as it has prepared them.
    """

    X: Any
    part: slice
    compared: tuple


class Scorer:
    """Score queries by a head, as its plan says.

    Parameters
    ----------
    head : Head
        Has the proxies.
    plan : Plan, default=None
        How queries are scored: by default the plan of the head.

    Attributes
    ----------
    shows_non_finite : bool
        Whether NaN and infinity in queries are found in their scores, which is less
        work than to look through the queries.
    calibrations : dict of {str: Calibration}
        What leaving samples out has shown, by the kind of familiarity.
    lock : ForkSafeLock
        Held while that is found.
    """

    def __init__(self, head, plan=None):
        self.head = head
        self.plan = plan = plan or head.plan
        self.shows_non_finite = (
            plan.metric.shows_non_finite
            and plan.aggregation.shows_non_finite
            and not plan.query_norm.is_callable
        )
        self.calibrations = {}
        self.lock = ForkSafeLock(threading.RLock)

    @cached_property
    def similarity(self):
        """Compares queries with the proxies."""
        head, plan = self.head, self.plan
        return plan.metric(
            head.proxies,
            query_norm=plan.query_norm,
            whitening=head.whitening,
            twice_whitened=head.twice_whitened if plan.metric.is_product else None,
            factor=head.factor,
        )

    @cached_property
    def label_shares(self):
        """Takes scores of the kernel regression apart; None where nothing can.

        It is made when it is asked for: it takes as long as the regression did, and as
        much memory as the kernel between the samples.
        """
        kernel, space = self.head.kernel, self.head.space
        if kernel is None or not space.state.places:
            return None
        return LabelShares(space.support(), kernel.gamma, kernel.alpha)

    def winners(self, X, refuse):
        """Find the best class of each query, the first of several.

        Parameters
        ----------
        X : ndarray or DeviceArray of shape (n_queries, n_features)
            Validated queries; not for NaN and infinity if `shows_non_finite`.
        refuse : callable
            Gets queries whose scores are not finite and the number of the first of
            them, and raises an error.

        Returns
        -------
        winners : ndarray of shape (n_queries,)
            Indices into the classes.
        """
        return np.concatenate(self._for_each_block(self._winners_of, X, refuse))

    def scores(self, X, refuse):
        """Score each class for each query.

        Parameters
        ----------
        X, refuse
            As for `winners`.

        Returns
        -------
        scores : ndarray of shape (n_queries, n_classes)
            In the dtype of the proxies.
        """
        shape = len(X), len(self.head.classes)
        scores = np.empty(shape, dtype=self.head.proxies.dtype)

        def score(block):
            scores[block.part] = self._scores_of(block).T

        self._for_each_block(score, X, refuse)
        return scores

    def _for_each_block(self, work, X, refuse=None):
        """Call a function for blocks of queries, several at a time.

        Parameters
        ----------
        work : callable
            Gets a `_Block`.
        X, refuse
            As for `winners`; nothing is refused by default.

        Returns
        -------
        results : list
            What it has returned for each block.
        """
        aggregation, has_kernel = self.plan.aggregation, self.plan.kernel_weight > 0
        compare = self.similarity
        if aggregation.has_device_form and not has_kernel:
            compare = compare.to(X)
        # Of few proxies, looking through all queries would be a large part of the work.
        # NaN and infinity spread to the scores, where one look per query finds them.
        looks = refuse is not None and self.shows_non_finite and compare.xp is np

        def work_on(part):
            def get_raw(queries):
                raw = compare.raw(queries)
                if looks and not np.isfinite(raw[0]).all():
                    refuse(X[part], part.start)
                return raw

            queries, offsets = compare.prepare(X, part), self.head.offsets
            return work(_Block(X, part, (compare, queries, offsets, get_raw)))

        # Where another process keeps a core busy, BLAS's threads take milliseconds for
        # products of one query with many samples, which take one thread a tenth of one.
        with one_blas_thread() if has_kernel and len(X) == 1 else nullcontext():
            in_threads = not aggregation.is_callable
            return compare.for_each_block(work_on, X, in_threads=in_threads)

    def _winners_of(self, block):
        """Find the best class of each query of a block: (n_block,)."""
        if self.plan.kernel_weight and len(block.X) != 1:
            return self._scores_of(block).argmax(axis=0)
        winners = self.plan.aggregation.winners(*block.compared)
        of_kernel = self._of_kernel(block.X, block.part)
        # Where proxies and kernel agree on the only query, the shares make no
        # difference: the length of a whitened query takes as long as all the rest.
        if of_kernel is None or winners == of_kernel.argmax(axis=0):
            return winners
        return self._scores_of(block, of_kernel).argmax(axis=0)

    def _scores_of(self, block, of_kernel=None):
        """Score the queries of a block, by the kernel too: (n_classes, n_block)."""
        scores = self.plan.aggregation.of_queries(*block.compared)
        if of_kernel is None:
            of_kernel = self._of_kernel(block.X, block.part)
        return self.with_kernel(scores, of_kernel)

    def familiarities(self, X, kind):
        """Tell how familiar each query is.

        Parameters
        ----------
        X : ndarray or DeviceArray of shape (n_queries, n_features)
            Validated queries.
        kind : str
            One of `FAMILIARITIES`, or ``"auto"`` if it `tells_by_means`.

        Returns
        -------
        familiarities : ndarray of shape (n_queries,)
            Larger is more familiar.
        """
        if kind == "auto":

            def find_best(block):
                return self._scores_of(block).max(axis=0)

            best = np.concatenate(self._for_each_block(find_best, X))
            return self._with_means(best.astype(self.head.proxies.dtype, copy=False), X)
        compare = self.similarity
        if kind == "similarity":
            compare = compare.to(X)

        def tell(part):
            queries = compare.prepare(X, part)
            if compare.xp is not np:
                return compare.best(queries)
            similarities = compare.finish(compare.raw(queries), queries)
            return self.familiarity(similarities, kind)

        return np.concatenate(compare.for_each_block(tell, X))

    @property
    def tells_by_means(self):
        """Whether familiarities can be told by class scores and class means."""
        return self.plan.compares_means and self.head.whitening is not None

    @cached_property
    def _of_means(self):
        """Compares queries with the class means before the whitening."""
        # Products of unit vectors: another norm would make a direction of rounding,
        # where the samples of a class cancel each other out.
        means = self.head.mean_directions
        return METRICS["dot"](means, query_norm=self.plan.query_norm)

    def _with_means(self, best, X):
        """Add to the best scores the share of the cosine to the nearest class mean."""
        compare = self._of_means.to(X)

        def find(part):
            return compare.best(compare.prepare(X, part))

        return best + MEANS * np.concatenate(compare.for_each_block(find, X))

    def familiarity(self, similarities, kind):
        """Tell how familiar queries are by similarities, of (n_proxies, n_queries)."""
        n_nearest = 2 if self.plan.generator.selects else 1
        return FAMILIARITIES[kind](similarities, self.head.offsets, n_nearest)

    def nearest(self, X, n_neighbors):
        """Find the proxies that each query is most similar to.

        Parameters
        ----------
        X : ndarray or DeviceArray of shape (n_queries, n_features)
            Validated queries.
        n_neighbors : int
            How many, at most all of them.

        Returns
        -------
        similarities, indices : ndarray of shape (n_queries, n_neighbors)
            Largest first.
        """
        compare = self.similarity

        def find(part):
            return compare.nearest(compare.prepare(X, part), n_neighbors)

        found = compare.for_each_block(find, X)
        return tuple(map(np.concatenate, zip(*found, strict=True)))

    def explain(self, X, kind, n_reasons=0, codes=None, temperature=None):
        """Say why each query gets its class.

        Parameters
        ----------
        X : ndarray or DeviceArray of shape (n_queries, n_features)
            Validated queries.
        kind : str
            As for `familiarities`.
        n_reasons : int, default=0
            How many proxies and samples to name of those that the score comes from.
        codes : ndarray of shape (n_queries,), default=None
            The classes to explain; by default those with the best score.
        temperature : float, default=None
            What scores are divided by for probabilities, if they are wanted.

        Returns
        -------
        explanation : dict of {str: ndarray of shape (n_queries, ...)}
            Indices of the class (``explained``), of the best other one (``runner_up``)
            and of the nearest ``proxy`` of the class; its ``similarity``; the ``score``
            of the class, and its ``margin`` to the other; the ``familiarity``; the
            ``probability`` of the class, with a temperature; and what `_reasons`
            returns.
        """
        head, aggregation = self.head, self.plan.aggregation
        compare = self.similarity

        def look(part):
            queries = compare.prepare(X, part)
            raw = compare.raw(queries)
            # As `scores` has them: one ranking decides.
            scores = aggregation.of_queries(
                compare, queries, head.offsets, lambda _: raw.copy(order="K")
            )
            similarities = compare.finish(raw, queries)
            scores = self.with_kernel(scores, self._of_kernel(X, part))
            columns = np.arange(scores.shape[1])
            explained = scores.argmax(axis=0) if codes is None else codes[part]
            best, others = scores[explained, columns], scores.copy()
            others[explained, columns] = -np.inf
            proxy = nearest_of_class(similarities, head.offsets, explained)
            found = {
                "explained": explained,
                "runner_up": others.argmax(axis=0),
                "proxy": proxy,
                "similarity": similarities[proxy, columns],
                "score": best,
                "margin": best - others.max(axis=0),
                "familiarity": scores.max(axis=0)
                if kind == "auto"
                else self.familiarity(similarities, kind),
            }
            if temperature is not None:
                probabilities = probabilities_of(scores.T, temperature, softmax)
                found["probability"] = probabilities[columns, explained]
            proxies = rows = np.empty((len(explained), 0), np.intp)
            shares = np.empty((len(explained), 0), best.dtype)
            if n_reasons:
                contributions = aggregation.contributions(
                    compare, queries, similarities, head.offsets, explained
                )
                proxies, rows, shares = self._reasons(
                    *contributions, self._kernel_queries(X, part), explained, n_reasons
                )
            return found | {"proxies": proxies, "rows": rows, "shares": shares}

        if n_reasons:
            self.label_shares  # noqa: B018 - once, and not by each of the threads
        in_threads = not aggregation.is_callable
        found = compare.for_each_block(look, X, in_threads=in_threads)
        found = {
            name: np.concatenate([part[name] for part in found]) for name in found[0]
        }
        if kind == "auto":
            found["familiarity"] = self._with_means(found["familiarity"], X)
        return found

    def _reasons(self, proxies, of_proxies, kernel_queries, codes, n_reasons):
        """Find the largest contributions to the score of one class for each query.

        Parameters
        ----------
        proxies, of_proxies : ndarray of shape (n_queries, n)
            What the aggregation says of proxies.
        kernel_queries : ndarray of shape (n_queries, n_features) or None
            What the kernel regression is asked.
        codes : ndarray of shape (n_queries,)
            The class of each query.
        n_reasons : int
            How many to find.

        Returns
        -------
        proxies, rows : ndarray of shape (n_queries, n_reasons)
            Proxies, or -1 for training samples, and the training rows of both.
        shares : ndarray of shape (n_queries, n_reasons)
            What each adds to the score, the largest first; 0 where there are no more.
        """
        share, of_labels = self.plan.kernel_weight, self.label_shares
        proxies, rows, shares = _largest(
            proxies, self.head.indices[proxies], (1 - share) * of_proxies, n_reasons
        )
        if of_labels is None:
            return proxies, rows, shares
        indices = of_labels.support.indices
        for part, found in of_labels.of_classes(kernel_queries, codes):
            found = (share * found).astype(shares.dtype, copy=False)
            which = np.argpartition(-found, min(n_reasons, found.shape[1]) - 1, axis=1)
            which = which[:, :n_reasons]
            found = np.take_along_axis(found, which, axis=1)
            both = (
                (proxies[part], np.full(which.shape, -1)),
                (rows[part], indices[which]),
                (shares[part], found),
            )
            both = [np.concatenate(pair, axis=1) for pair in both]
            proxies[part], rows[part], shares[part] = _largest(*both, n_reasons)
        return proxies, rows, shares

    def in_space_of_proxies(self, X):
        """Move queries to the space of the proxies: (n_queries, n_features)."""
        head, norm = self.head, self.plan.query_norm
        plain = Similarity(head.proxies, query_norm=norm, whitening=head.whitening)
        return plain.prepare(X)

    def with_kernel(self, scores, of_kernel):
        """Give the scores of the kernel regression their share, if there are any."""
        if of_kernel is None:
            return scores
        share = self.plan.kernel_weight
        return (1 - share) * scores + share * of_kernel

    def _of_kernel(self, X, part):
        """Score a part of the queries by the kernel: (n_classes, n_part), or None."""
        queries = self._kernel_queries(X, part)
        return None if queries is None else self.head.kernel.scores(queries)

    def _kernel_queries(self, X, part):
        """Normalise a part of the queries for the kernel regression, or None."""
        if not self.plan.kernel_weight:
            return None
        queries = np.ascontiguousarray(X[part], dtype=self.head.proxies.dtype)
        return self.plan.query_norm(queries)


def _largest(proxies, rows, shares, n):
    """Sort reasons by their shares, the largest first, and take so many of them.

    Shares of 0 are no reasons; where there are fewer, -1 and 0 take their places.
    """
    missing = max(0, n - shares.shape[1])
    proxies, rows, shares = (
        np.pad(values, ((0, 0), (0, missing))) for values in (proxies, rows, shares)
    )
    # What is none comes last, also after negative shares.
    order = np.argsort(np.where(shares == 0, np.inf, -shares), axis=1, kind="stable")
    proxies, rows, shares = (
        np.take_along_axis(values, order[:, :n], axis=1)
        for values in (proxies, rows, shares)
    )
    is_none = shares == 0
    return np.where(is_none, -1, proxies), np.where(is_none, -1, rows), shares


def replace_by_probabilities(scores, temperature, softmax):
    """Do what `probabilities_of` does in place, some queries at a time."""
    for part in blocks_of_rows(len(scores), max(1, _AT_A_TIME // scores.shape[1])):
        scores[part] = probabilities_of(scores[part], temperature, softmax)


def probabilities_of(scores, temperature, softmax):
    """Make probabilities of scores, or their logarithms.

    Parameters
    ----------
    scores : ndarray of shape (n_queries, n_classes)
        The larger, the better.
    temperature : float
        What they are divided by.
    softmax : callable
        SciPy's `softmax` or `log_softmax`.

    Returns
    -------
    probabilities : ndarray of shape (n_queries, n_classes)
        The class with the best score stays ahead where rounding evens it out.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scaled = scores / temperature
    largest = np.finfo(scores.dtype).max / 2  # so that differences are finite, too
    if not (np.abs(scaled) <= largest).all():  # of a tiny temperature, the lead decides
        lead = scores - scores.max(axis=1, keepdims=True)
        with np.errstate(over="ignore"):
            lowest = np.finfo(scores.dtype).min / 2  # logarithms are finite
            scaled = np.maximum(lead.astype(np.float64) / temperature, lowest)
    probabilities = softmax(scaled, axis=1).astype(scores.dtype, copy=False)
    keep_winners(probabilities.T, scores.argmax(axis=1))
    return probabilities
