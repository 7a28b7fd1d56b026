"""AGG, the aggregation step of the framework: from similarities to class scores.

What the parameter `aggregation` may name is an entry of `AGGREGATIONS`. A new one is a
subclass of `Aggregation`, an instance of which is one entry. Similarities have the
proxies as rows, class by class, and the queries as columns.
"""

from itertools import pairwise
from numbers import Integral
from types import ModuleType
from typing import Any, Literal

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions

from ._arrays.device import to_host
from ._arrays.groups import offsets_of
from ._scoring.similarity import largest_first, largest_rows
from ._validation import check_instance, check_returned

__all__ = ["Votes", "max_scores", "vote_shares"]


def max_scores(similarities: Any, offsets: np.ndarray, xp: ModuleType = np) -> Any:
    """Take the largest value over the proxies of each class.

    Parameters
    ----------
    similarities : array of shape (n_proxies, n_queries)
        Larger means closer: any values that order as similarities do.
    offsets : ndarray of shape (n_classes + 1,)
        The proxies of class ``c`` are rows ``offsets[c]`` to ``offsets[c + 1]``.
    xp : module, default=numpy
        The array namespace of the similarities.

    Returns
    -------
    scores : array of shape (n_classes, n_queries)
        The maximum of each class; ``similarities`` itself where each has one proxy.

    Raises
    ------
    ValueError
        If a class has no proxy, or the offsets are not those of all proxies.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.aggregation import max_scores
    >>> max_scores(np.array([[1.0, 5.0], [3.0, 2.0], [2.0, 2.0]]), np.array([0, 2, 3]))
    array([[3., 5.],
           [2., 2.]])
    """
    if xp is np:
        similarities = np.asarray(similarities)
    offsets = np.asarray(offsets)
    counts = np.diff(offsets)
    n_classes, n_proxies = len(counts), similarities.shape[0]
    is_list = counts.ndim == 1 and n_classes > 0
    is_whole = is_list and offsets[0] == 0 and offsets[-1] == n_proxies
    if not is_whole or (least := int(counts.min())) < 1:
        raise ValueError(
            "Each class must have a proxy: offsets must rise from class to class, from "
            f"0 to {n_proxies}, the number of rows, which are proxies; got {offsets}."
        )
    largest = int(counts.max())
    if largest == 1:
        return similarities
    if xp is np:
        similarities = np.ascontiguousarray(similarities)
    if least == largest:
        return xp.max(xp.reshape(similarities, (n_classes, largest, -1)), axis=1)
    # `np.maximum.reduceat` takes ten times as long. Going through the classes, or
    # the first, second, ... proxies of all, takes sqrt(n_proxies) steps at most.
    if n_classes <= largest:
        ends = pairwise(offsets.tolist())
        return xp.stack([xp.max(similarities[a:b, :], axis=0) for a, b in ends])

    def rows(array, index):
        return xp.take(array, _on_device_of(similarities, xp, index), axis=0)

    order = np.argsort(-counts, kind="stable")  # those with most proxies come first
    firsts, counts = offsets[order], counts[order]
    scores = rows(similarities, firsts)
    for i in range(1, largest):
        n = int(np.count_nonzero(counts > i))
        scores[:n, :] = xp.maximum(scores[:n, :], rows(similarities, firsts[:n] + i))
    return rows(scores, np.argsort(order))


def _first_best(scores, xp):
    """Find the row with the largest value of each column, the first of several."""
    if xp is np:
        return scores.argmax(axis=0)
    # On a device, `argmax` may find any of several.
    n_classes = scores.shape[0]
    classes = _on_device_of(scores, xp, np.arange(n_classes))[:, None]
    is_best = scores == xp.max(scores, axis=0, keepdims=True)
    return to_host(xp.min(xp.where(is_best, classes, n_classes), axis=0))


def keep_winners(scores, winners):
    """Let winners stay ahead where rounding has evened out their scores.

    Parameters
    ----------
    scores : ndarray of shape (n_classes, n_queries)
        Changed in place, by the least possible amount.
    winners : ndarray of shape (n_queries,)
        The class that is to have the first largest score of each query.

    Returns
    -------
    scores : ndarray of shape (n_classes, n_queries)
    """
    lost = np.flatnonzero(scores.argmax(axis=0) != winners)
    best = scores[:, lost].max(axis=0)
    scores[winners[lost], lost] = np.nextafter(best, np.inf)
    return scores


def _on_device_of(array, xp, index):
    return index if xp is np else xp.asarray(index, device=array.device)


def codes_of(offsets):
    """Find the index of the class of each proxy: (n_proxies,)."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def nearest_of_class(similarities, offsets, codes):
    """Find the proxy of a class that each query is most similar to.

    Parameters
    ----------
    similarities : ndarray of shape (n_proxies, n_queries)
        Distances negated.
    offsets : ndarray of shape (n_classes + 1,)
        As for `max_scores`.
    codes : ndarray of shape (n_queries,)
        The class of each query.

    Returns
    -------
    proxies : ndarray of shape (n_queries,)
        The first of several.
    """
    of_class = codes_of(offsets)[:, None] == codes
    return np.where(of_class, similarities, -np.inf).argmax(axis=0)


def vote_shares(
    distances: np.ndarray,
    codes: np.ndarray,
    n_classes: int,
    weights: Literal["uniform", "distance"] = "uniform",
    voters: np.ndarray | None = None,
) -> np.ndarray:
    """Count the votes of the nearest proxies, as shares.

    Parameters
    ----------
    distances : ndarray of shape (n_queries, n_neighbors)
        Distances of the nearest proxies, smallest first; read if votes are weighted.
    codes : ndarray of shape (n_queries, n_neighbors)
        Their classes, in ``range(n_classes)``.
    n_classes : int
        Number of classes.
    weights : {"uniform", "distance"}, default="uniform"
        Whether all votes count alike, or by the inverse of the distance; then proxies
        at distance zero outvote all others.
    voters : ndarray of shape (n_queries, n_neighbors), default=None
        Which of the neighbours vote, if not all of them.

    Returns
    -------
    shares : ndarray of shape (n_queries, n_classes)
        Non-negative, with sum 1 up to rounding, or 0 where nobody votes. Of classes
        with equally many votes the one whose nearest voter is closest is larger by the
        least possible amount, so that the largest share is the prediction.

    Raises
    ------
    ValueError
        If there are no such weights, if there is not a code for each distance, or if a
        code is not in ``range(n_classes)``.

    Examples
    --------
    One vote each: the nearer one decides.

    >>> import numpy as np
    >>> from skimprint.aggregation import vote_shares
    >>> shares = vote_shares(np.array([[0.1, 0.2]]), np.array([[1, 0]]), n_classes=2)
    >>> shares.argmax(axis=1)
    array([1])
    """
    if not (isinstance(weights, str) and weights in ("uniform", "distance")):
        raise ValueError(f"weights must be 'uniform' or 'distance'; got {weights!r}.")
    distances, codes = np.asarray(distances), np.asarray(codes)
    if (
        codes.ndim != 2
        or codes.shape != distances.shape
        or codes.dtype.kind not in "iu"
    ):
        raise ValueError(
            "distances must be numbers and codes ints, both of shape (n_queries, "
            f"n_neighbors); got the shapes {distances.shape} and {codes.shape}, and "
            f"codes of {codes.dtype}."
        )
    n_queries, n_neighbors = codes.shape
    if codes.min(initial=0) < 0 or codes.max(initial=0) >= n_classes:
        raise ValueError(
            f"codes must be from 0 to n_classes - 1, {n_classes - 1}; got "
            f"{codes.min()} to {codes.max()}."
        )
    distances = np.asarray(distances, np.result_type(distances, np.float16))
    ranks = np.broadcast_to(np.arange(n_neighbors), codes.shape)
    if voters is None:
        votes = _votes(distances, weights)
    else:
        ranks = np.where(voters, ranks, n_neighbors)
        votes = _votes(np.where(voters, distances, np.inf), weights) * voters
    rows = np.arange(n_queries)[:, None]
    shares = np.bincount(
        (rows * n_classes + codes).ravel(), votes.ravel(), n_queries * n_classes
    ).reshape(n_queries, n_classes)
    totals = votes.sum(axis=1, keepdims=True)
    shares = (shares / np.where(totals > 0, totals, 1)).astype(distances.dtype)

    nearest = np.full(shares.shape, n_neighbors)  # rank of each class's nearest voter
    np.minimum.at(nearest, (rows, codes), ranks)
    best = shares.max(axis=1, keepdims=True)
    tied = shares >= best * (1 - 4 * np.finfo(shares.dtype).eps)
    tied &= nearest < n_neighbors
    winner = np.where(tied, nearest, n_neighbors).argmin(axis=1)[:, None]
    shares[rows, winner] = np.where(
        tied.sum(axis=1, keepdims=True) > 1, np.nextafter(best, 2), best
    )
    return shares


def _votes(distances, weights):
    """Say how much each neighbour's vote counts: (n_queries, n_neighbors)."""
    if weights == "uniform":
        return np.ones(distances.shape)
    with np.errstate(divide="ignore", over="ignore"):
        votes = 1 / distances.astype(np.float64)
    exact = np.isinf(votes)
    votes[exact.any(axis=1)] = 0
    votes[exact] = 1
    return votes


class Aggregation:
    """Make class scores of similarities.

    A subclass overrides `scores`, and more where it knows a shorter way.

    Attributes
    ----------
    is_callable : bool
        Whether it is a user's function, which may be unsafe in threads.
    has_device_form : bool
        Whether `of_queries` and `winners` take a similarity on a device.
    shows_non_finite : bool
        Whether NaN or infinity in all similarities of a query reach its scores.
    """

    is_callable = False
    has_device_form = False
    shows_non_finite = False

    # Whether the nearest proxies vote; and how many do, or are what `kproxies` finds.
    votes = False
    n_neighbors = 5

    def check(self, metric):
        """Refuse a metric that the aggregation does not go together with.

        Parameters
        ----------
        metric : type[Similarity]
            The metric.

        Raises
        ------
        ValueError
            If it is of no use here; the message says what is.
        """

    def scores(self, similarities, offsets, metric):
        """Aggregate the similarities of queries to all proxies.

        Parameters
        ----------
        similarities : ndarray of shape (n_proxies, n_queries)
            Distances negated.
        offsets : ndarray of shape (n_classes + 1,)
            The proxies of class ``c`` are rows ``offsets[c]`` to ``offsets[c + 1]``.
        metric : Similarity or type[Similarity]
            The metric.

        Returns
        -------
        scores : ndarray of shape (n_classes, n_queries)
            In the dtype of the similarities.
        """
        raise NotImplementedError

    def without(self, similarities, gone, offsets, metric):
        """Aggregate the similarities of queries, each to the proxies that it leaves.

        Parameters
        ----------
        similarities : ndarray of shape (n_proxies, n_queries)
            Distances negated. Those to what is gone may be written on.
        gone : tuple of ndarrays (proxies, queries)
            Which proxies there are not, and for which query.
        offsets, metric : ndarray and Similarity
            As for `scores`.

        Returns
        -------
        scores : ndarray of shape (n_classes, n_queries)
            By `scores` of the rows that are left, for each set of them. A class may
            have none.
        """
        is_gone, alike = np.zeros(similarities.shape, bool), {}
        is_gone[gone] = True
        for query, column in enumerate(np.packbits(is_gone, axis=0).T):
            alike.setdefault(column.tobytes(), []).append(query)
        scores = np.empty((len(offsets) - 1, similarities.shape[1]), similarities.dtype)
        codes = codes_of(offsets)
        for queries in alike.values():
            left = ~is_gone[:, queries[0]]
            counts = np.bincount(codes[left], minlength=len(scores))
            some = similarities[left][:, queries]
            scores[:, queries] = self.scores(some, offsets_of(counts), metric)
        return scores

    def of_queries(self, similarity, queries, offsets, get_raw=None):
        """Score queries.

        Parameters
        ----------
        similarity : Similarity
            Compares them with the proxies.
        queries : array of shape (n_queries, n_features)
            Prepared queries.
        offsets : ndarray of shape (n_classes + 1,)
            As for `scores`.
        get_raw : callable, default=None
            In place of ``similarity.raw``.

        Returns
        -------
        scores : ndarray of shape (n_classes, n_queries)
        """
        raw = (get_raw or similarity.raw)(queries)
        return self.scores(similarity.finish(raw, queries), offsets, similarity)

    def winners(self, similarity, queries, offsets, get_raw=None):
        """Find the class with the best score of each query, the first of several.

        Parameters
        ----------
        similarity, queries, offsets, get_raw : as for `of_queries`
            The same.

        Returns
        -------
        winners : ndarray of shape (n_queries,)
            Index of a class.
        """
        return self.of_queries(similarity, queries, offsets, get_raw).argmax(axis=0)

    def contributions(self, similarity, queries, similarities, offsets, codes):
        """Take the score of one class for each query apart, proxy by proxy.

        Parameters
        ----------
        similarity : Similarity
            Compares queries with the proxies.
        queries : ndarray of shape (n_queries, n_features)
            Prepared queries.
        similarities : ndarray of shape (n_proxies, n_queries)
            To all proxies.
        offsets : ndarray of shape (n_classes + 1,)
            As for `scores`.
        codes : ndarray of shape (n_queries,)
            The class of each query.

        Returns
        -------
        proxies : ndarray of shape (n_queries, n)
            Those that the score of the class comes from; none where that cannot be
            told, as of a function.
        contributions : ndarray of shape (n_queries, n)
            They sum to the score, or are none.
        """
        none = np.empty((similarities.shape[1], 0), similarities.dtype)
        return none.astype(np.intp), none


class _Max(Aggregation):
    """The largest similarity of each class; without any proxy left, minus infinity."""

    has_device_form = True
    shows_non_finite = True

    def scores(self, similarities, offsets, metric):
        return max_scores(similarities, offsets)

    def without(self, similarities, gone, offsets, metric):
        similarities[gone] = -np.inf
        return max_scores(similarities, offsets)

    def of_queries(self, similarity, queries, offsets, get_raw=None):
        raw = (get_raw or similarity.raw)(queries)
        scores = max_scores(raw, offsets, similarity.xp)
        winners = _first_best(scores, similarity.xp)
        return keep_winners(to_host(similarity.finish(scores, queries)), winners)

    def winners(self, similarity, queries, offsets, get_raw=None):
        raw = (get_raw or similarity.raw)(queries)
        xp = similarity.xp
        if xp is np and raw.flags.f_contiguous:
            # It is the class of the best proxy, which is found query by query.
            return codes_of(offsets)[raw.argmax(axis=0)]
        return _first_best(max_scores(raw, offsets, xp), xp)

    def contributions(self, similarity, queries, similarities, offsets, codes):
        proxies = nearest_of_class(similarities, offsets, codes)
        return proxies[:, None], similarities[proxies, np.arange(len(codes))][:, None]


class Votes(Aggregation, BaseEstimator):
    """Let the proxies that are nearest to a query vote for their classes.

    The aggregation `m`-nearest neighbours of the framework, ``aggregation="mnn"``.
    Scores are shares of the votes.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of proxies that vote; at most all of them.
    weights : {"uniform", "distance"}, default="uniform"
        Whether votes count alike or by the inverse of their distance
        (``1 - similarity`` for ``metric="cosine"``).

    See Also
    --------
    vote_shares : The votes of given neighbours.

    Examples
    --------
    >>> from skimprint.aggregation import Votes
    >>> Votes(n_neighbors=3, weights="distance")
    Votes(n_neighbors=3, weights='distance')
    """

    _parameter_constraints: dict = {  # noqa: RUF012 (scikit-learn's convention)
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "weights": [StrOptions({"uniform", "distance"})],
    }

    votes = True

    def __init__(
        self,
        n_neighbors: int = 5,
        weights: Literal["uniform", "distance"] = "uniform",
    ) -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights

    def check(self, metric):
        """Refuse votes by distance with a metric that is no distance.

        Parameters
        ----------
        metric : type[Similarity]
            The metric.

        Raises
        ------
        ValueError
            If it has no distances.
        """
        if self.weights == "distance" and metric.zero_distance is None:
            raise ValueError(
                f"weights='distance' needs a distance, which metric={metric.name!r} is "
                "not. Use metric='cosine' or 'euclidean', or weights='uniform'."
            )

    def scores(self, similarities, offsets, metric):
        """Count the votes of the proxies that are most similar to each query.

        Parameters
        ----------
        similarities : ndarray of shape (n_proxies, n_queries)
            Distances negated.
        offsets : ndarray of shape (n_classes + 1,)
            The proxies of class ``c`` are rows ``offsets[c]`` to ``offsets[c + 1]``.
        metric : Similarity or type[Similarity]
            The metric.

        Returns
        -------
        scores : ndarray of shape (n_classes, n_queries)
            Shares of the votes.
        """
        nearest = largest_rows(similarities, self.n_neighbors)
        values = np.take_along_axis(similarities, nearest, axis=0)
        return self._shares(*largest_first(values, nearest), offsets, metric)

    def without(self, similarities, gone, offsets, metric):
        """Count the votes of the most similar proxies among those that are left.

        Parameters
        ----------
        similarities : ndarray of shape (n_proxies, n_queries)
            Distances negated. Those to what is gone may be written on.
        gone : tuple of ndarrays (proxies, queries)
            Which proxies there are not, and for which query, and do not vote.
        offsets, metric : ndarray and Similarity
            As for `scores`.

        Returns
        -------
        scores : ndarray of shape (n_classes, n_queries)
            Shares of the votes.
        """
        similarities[gone] = -np.inf
        return self.scores(similarities, offsets, metric)

    def of_queries(self, similarity, queries, offsets, get_raw=None):
        """Count the votes of the proxies that are nearest to each query.

        Parameters
        ----------
        similarity : Similarity
            Compares them with the proxies.
        queries : ndarray of shape (n_queries, n_features)
            Prepared queries.
        offsets : ndarray of shape (n_classes + 1,)
            As for `scores`.
        get_raw : callable, default=None
            Not used: distances are more exact.

        Returns
        -------
        scores : ndarray of shape (n_classes, n_queries)
            Shares of the votes.
        """
        found = similarity.nearest(queries, self.n_neighbors)
        return self._shares(*found, offsets, similarity)

    def contributions(self, similarity, queries, similarities, offsets, codes):
        """Find the votes that a class gets, proxy by proxy.

        Parameters
        ----------
        similarity : Similarity
            Compares queries with the proxies.
        queries : ndarray of shape (n_queries, n_features)
            Prepared queries.
        similarities : ndarray of shape (n_proxies, n_queries)
            Not used: distances are more exact.
        offsets : ndarray of shape (n_classes + 1,)
            The proxies of class ``c`` are rows ``offsets[c]`` to ``offsets[c + 1]``.
        codes : ndarray of shape (n_queries,)
            The class of each query.

        Returns
        -------
        proxies : ndarray of shape (n_queries, n_neighbors)
            Those that vote.
        contributions : ndarray of shape (n_queries, n_neighbors)
            Their share of the votes; 0 for votes for other classes.
        """
        found, nearest = similarity.nearest(queries, self.n_neighbors)
        votes = _votes((similarity.zero_distance or 0) - found, self.weights)
        votes /= votes.sum(axis=1, keepdims=True)
        votes *= codes_of(offsets)[nearest] == codes[:, None]
        return nearest, votes.astype(found.dtype)

    def _shares(self, similarities, nearest, offsets, metric):
        """Count the votes of proxies, of shape (n_queries, n_neighbors).

        None votes whose similarity is minus infinity.
        """
        distances = (metric.zero_distance or 0) - similarities
        codes, voters = codes_of(offsets)[nearest], similarities > -np.inf
        n_classes = len(offsets) - 1
        return vote_shares(distances, codes, n_classes, self.weights, voters).T


class _Function(Aggregation):
    """A user's function of similarities, of shape (n_queries, n_proxies), and classes.

    Parameters
    ----------
    function : callable
        ``f(similarities, proxy_classes)`` returns scores of shape (n_queries,
        n_classes).
    """

    is_callable = True

    def __init__(self, function):
        self.function = function

    def scores(self, similarities, offsets, metric):
        shape = similarities.shape[1], len(offsets) - 1
        scores = self.function(similarities.T, codes_of(offsets))
        return check_returned(scores, shape, similarities.dtype, "aggregation").T


AGGREGATIONS = {"max": _Max(), "mnn": Votes()}


def make_aggregation(value):
    """Find the aggregation that a parameter stands for.

    Parameters
    ----------
    value : str, Aggregation or callable
        The parameter `aggregation`.

    Returns
    -------
    aggregation : Aggregation
        With valid parameters.
    """
    if isinstance(value, str):
        return AGGREGATIONS[value]
    check_instance(value, "aggregation")
    if not isinstance(value, Aggregation):
        return _Function(value)
    if isinstance(value, BaseEstimator):
        value._validate_params()
    return value
