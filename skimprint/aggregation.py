"""AGG, the aggregation step of the framework: from queries and proxies to class scores.

Similarities have the proxies as rows and the queries as columns. Of many proxies they
lie in memory so, and the maximum over the proxies of a class runs along contiguous
memory, for any class sizes. Of few proxies the product is faster the other way round.
"""

from itertools import pairwise

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.utils import gen_even_slices

from ._arrays.blas import dot_transposed
from .normalization import l2_normalize, power_normalize, row_norms

__all__ = ["max_scores", "vote_shares"]

METRICS = ("chebyshev", "cosine", "dot", "euclidean", "mahalanobis", "manhattan")
_PRODUCTS = ("cosine", "dot")
_CDIST_NAMES = {"chebyshev": "chebyshev", "manhattan": "cityblock"}

# Norms whose results have unit length.
UNIT_LENGTH = (l2_normalize, power_normalize)

# Blocks of queries: their similarities stay in the last-level cache, but no block is so
# narrow that the matrix product loses its speed to packing the proxies.
_BLOCK_BYTES = 2**23
_MIN_BLOCK, _MAX_BLOCK = 256, 2048

# Few queries whose similarities fit into one block are one: threads of ours that have
# to be woken cost such a product more than BLAS's own do. Queries are copied where they
# are whitened or moved, so these are bounded too.
_QUERY_BYTES = 2**26

# Number of proxies up to which their similarities lie in memory query by query.
_FEW = 1000


class ProxySimilarity:
    """Similarity of queries to a fixed set of proxies, under one metric.

    Distances are negated, so that larger always means closer.

    Parameters
    ----------
    proxies : ndarray of shape (n_proxies, n_features)
        The proxies; queries are cast to their dtype.
    metric : {"chebyshev", "cosine", "dot", "euclidean", "mahalanobis", "manhattan"}
        Similarity (``"dot"``, ``"cosine"``) or distance.
    query_norm : callable or None, default=None
        From queries to normalised queries, both of shape (n, n_features).
    factor : ndarray of shape (n_features, n_features), default=None
        For ``metric="mahalanobis"``: ``X @ factor`` has the distances sought.
    whitening : Whitening, default=None
        What normalised queries go through. Those of a norm that gives unit length get
        it again afterwards.
    twice_whitened : tuple of ndarrays, default=None
        The proxies whitened once more, of shape (n_proxies, n_features), and their
        products with the origin of the whitening, of shape (n_proxies,). With them,
        products take less time.
    """

    def __init__(
        self,
        proxies,
        metric,
        *,
        query_norm=None,
        factor=None,
        whitening=None,
        twice_whitened=None,
    ):
        self.metric = metric
        self.whitening = whitening
        # The norm before the whitening, and the one of what is compared.
        first, last = query_norm, None
        if query_norm is l2_normalize or whitening is not None:
            unit_length = query_norm in UNIT_LENGTH
            first = query_norm if whitening is not None else None
            last = l2_normalize if unit_length else None
        self.divide_by_length = metric == "cosine"
        if metric in _PRODUCTS and last is not None:
            # The length of a query scales its products: no need to touch the query.
            last = None
            self.divide_by_length = True
        self.query_norm, self.last_norm = first, last
        self.origin = self.factor = None
        if metric in ("euclidean", "mahalanobis"):
            # Distances from afar are small differences of large products: come close.
            self.origin = proxies.mean(axis=0)
            proxies = proxies - self.origin
            if metric == "mahalanobis":
                self.factor = factor.astype(proxies.dtype)
                proxies = proxies @ self.factor
            self.half_squares = np.einsum("ij,ij->i", proxies, proxies)[:, None] / 2
        elif metric == "cosine":
            lengths = row_norms(proxies)[:, None]
            proxies = proxies / lengths
        self.proxies = self.twice_whitened = proxies
        # A product with whitened queries is one with proxies whitened once more: then
        # queries need no product of their own with a matrix of all features.
        self.folds = twice_whitened is not None and metric in _PRODUCTS
        if self.folds:
            self.twice_whitened, self.shift = twice_whitened
            if metric == "cosine":
                self.twice_whitened = self.twice_whitened / lengths
                self.shift = self.shift / lengths[:, 0]

    def blocks(self, n_queries):
        """Slices of the queries to compare at a time: one, or an even number."""
        n_proxies, n_features = self.proxies.shape
        row_bytes = max(1, n_proxies) * self.proxies.itemsize
        query_bytes = n_queries * n_features * self.proxies.itemsize
        is_small = n_queries * row_bytes <= _BLOCK_BYTES and query_bytes <= _QUERY_BYTES
        if is_small and self.metric not in _CDIST_NAMES:
            return [slice(0, n_queries)]
        size = int(np.clip(_BLOCK_BYTES // row_bytes, _MIN_BLOCK, _MAX_BLOCK))
        n_blocks = -(-n_queries // size)
        if n_blocks > 1:
            n_blocks += n_blocks % 2
        return list(gen_even_slices(n_queries, max(1, n_blocks)))

    def prepare(self, X, block=slice(None)):
        """A block of queries, cast, normalised, whitened and projected."""
        X = np.ascontiguousarray(X[block], dtype=self.proxies.dtype)
        if self.query_norm is not None:
            X = self.query_norm(X)
        if self.whitening is not None and not self.folds:
            X = self.whitening(X)
        if self.last_norm is not None:
            X = self.last_norm(X)
        if self.origin is not None:
            X = X - self.origin
        return X if self.factor is None else X @ self.factor

    def ranks(self, X, out=None):
        """Values that order the proxies of a query as their similarities do.

        Parameters
        ----------
        X : ndarray of shape (n_queries, n_features)
            Prepared queries.
        out : ndarray of shape (n_proxies * n_queries,), default=None
            Memory for the result, if it should not be new.

        Returns
        -------
        ranks : ndarray of shape (n_proxies, n_queries)
            To be made similarities by `finish`; the transpose is C-contiguous where
            there are few proxies.
        """
        if self.metric in _CDIST_NAMES:
            distances = cdist(self.proxies, X, _CDIST_NAMES[self.metric])
            return np.negative(distances, dtype=self.proxies.dtype, casting="same_kind")
        few = len(self.twice_whitened) <= _FEW
        A, B = (X, self.twice_whitened) if few else (self.twice_whitened, X)
        if out is not None:
            out = out.reshape(len(A), len(B))
        ranks = dot_transposed(A, B, out=out)
        if few:
            ranks = ranks.T
        if self.metric in ("euclidean", "mahalanobis"):
            ranks -= self.half_squares
        if self.folds:
            ranks -= self.shift[:, None]
        return ranks

    def finish(self, ranks, X):
        """Make similarities of ranks, in place; any subset of a query's will do.

        Parameters
        ----------
        ranks : ndarray of shape (any, n_queries)
            Values from `ranks`, the queries in their order.
        X : ndarray of shape (n_queries, n_features)
            Prepared queries.

        Returns
        -------
        similarities : ndarray of shape (any, n_queries)
            ``ranks``, changed.
        """
        if self.divide_by_length:
            ranks /= row_norms(self._whitened(X))
            if self.metric == "cosine":
                np.clip(ranks, -1, 1, out=ranks)  # what rounding may exceed
        elif self.metric in ("euclidean", "mahalanobis"):
            # |x - p|^2 = |x|^2 - 2 (x.p - |p|^2 / 2), which rounding may make negative.
            ranks *= -2
            ranks += np.einsum("ij,ij->i", X, X)
            np.maximum(ranks, 0, out=ranks)
            np.sqrt(ranks, out=ranks)
            np.negative(ranks, out=ranks)
        return ranks

    def _whitened(self, X):
        """Prepared queries in the space of the proxies."""
        return self.whitening(X) if self.folds else X

    def project(self, vectors):
        """Vectors in the place of proxies, as prepared queries meet them."""
        vectors = vectors.astype(self.proxies.dtype, copy=False)
        if self.origin is not None:
            vectors = vectors - self.origin
        return vectors if self.factor is None else vectors @ self.factor

    def paired(self, X, vectors):
        """Similarity of each query to one vector of its own.

        Parameters
        ----------
        X : ndarray of shape (n_queries, n_features)
            Prepared queries.
        vectors : ndarray of shape (n_queries, n_features)
            What takes the place of a proxy.

        Returns
        -------
        similarities : ndarray of shape (n_queries,)
            As to proxies.
        """
        vectors = vectors.astype(self.proxies.dtype)
        if self.metric in _PRODUCTS:
            if self.metric == "cosine":
                vectors = l2_normalize(vectors)
            products = np.einsum("ij,ij->i", self._whitened(X), vectors)
            return self.finish(products[None], X)[0]
        vectors = self.project(vectors)
        order = {"manhattan": 1, "chebyshev": np.inf}.get(self.metric, 2)
        return -np.linalg.norm(X - vectors, ord=order, axis=1)

    def nearest(self, X, n_neighbors):
        """The most similar proxies of each query.

        Parameters
        ----------
        X : ndarray of shape (n_queries, n_features)
            Prepared queries.
        n_neighbors : int
            How many, at most ``n_proxies``.

        Returns
        -------
        similarities : ndarray of shape (n_queries, n_neighbors)
            Largest first.
        indices : ndarray of shape (n_queries, n_neighbors)
            Of the proxies; of equally similar ones the first comes first.
        """
        ranks = self.ranks(X)
        indices = largest_rows(ranks, n_neighbors)
        similarities = self._exact(X, indices, np.take_along_axis(ranks, indices, 0))
        order = np.argsort(-similarities, axis=0, kind="stable")
        return (
            np.take_along_axis(similarities, order, 0).T,
            np.take_along_axis(indices, order, 0).T,
        )

    def _exact(self, X, indices, ranks):
        """Similarities of chosen proxies, without the cancellation of |x|^2 - 2 x.p."""
        if self.metric not in ("euclidean", "mahalanobis"):
            return self.finish(ranks, X)
        for chosen, values in zip(indices, ranks, strict=True):
            values[:] = -np.linalg.norm(X - self.proxies[chosen], axis=1)
        return ranks


def largest_rows(ranks, n_largest):
    """Rows that have the largest values of each column.

    Parameters
    ----------
    ranks : ndarray of shape (n_proxies, n_queries)
        Values.
    n_largest : int
        How many.

    Returns
    -------
    indices : ndarray of shape (min(n_largest, n_proxies), n_queries)
        Of the rows, ascending; of equal values the first ones are taken.
    """
    n_proxies = len(ranks)
    if n_largest >= n_proxies:
        return np.broadcast_to(np.arange(n_proxies)[:, None], ranks.shape)
    kth = n_proxies - n_largest
    indices = np.argpartition(ranks, kth, axis=0)[kth:]
    # Partitioning takes any of those that are equally far at the border.
    border = np.take_along_axis(ranks, indices[:1], axis=0)
    tied = np.count_nonzero(ranks >= border, axis=0) > n_largest
    if tied.any():
        order = np.argsort(-ranks[:, tied], axis=0, kind="stable")
        indices[:, tied] = order[:n_largest]
    indices.sort(axis=0)
    return indices


def max_scores(ranks, offsets):
    """Take the largest value over the proxies of each class.

    Parameters
    ----------
    ranks : ndarray of shape (n_proxies, n_queries)
        Similarities, or values that order as they do.
    offsets : ndarray of shape (n_classes + 1,)
        The proxies of class ``c`` are rows ``offsets[c]`` to ``offsets[c + 1]``.

    Returns
    -------
    scores : ndarray of shape (n_classes, n_queries)
        The maximum of each class; ``ranks`` itself where each has one proxy.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.aggregation import max_scores
    >>> max_scores(np.array([[1.0, 5.0], [3.0, 2.0], [2.0, 2.0]]), np.array([0, 2, 3]))
    array([[3., 5.],
           [2., 2.]])
    """
    counts = np.diff(offsets)
    largest, n_classes, n_queries = counts.max(), len(counts), ranks.shape[1]
    if largest == 1:
        return ranks
    ranks = np.ascontiguousarray(ranks)
    if counts.min() == largest:
        return ranks.reshape(n_classes, largest, n_queries).max(axis=1)
    # `np.maximum.reduceat` takes ten times as long. Going through the classes, or
    # the first, second, ... proxies of all, takes sqrt(n_proxies) steps at most.
    if n_classes <= largest:
        return np.stack([ranks[a:b].max(axis=0) for a, b in pairwise(offsets)])
    scores = ranks[offsets[:-1]]
    for i in range(1, largest):
        more = np.flatnonzero(counts > i)
        scores[more] = np.maximum(scores[more], ranks[offsets[more] + i])
    return scores


def best_class(ranks, offsets):
    """Find the class with the largest of `max_scores`, the first of several.

    Parameters
    ----------
    ranks : ndarray of shape (n_proxies, n_queries)
        As for `max_scores`.
    offsets : ndarray of shape (n_classes + 1,)
        As for `max_scores`.

    Returns
    -------
    winners : ndarray of shape (n_queries,)
        Index of a class for each query.
    """
    if not ranks.flags.f_contiguous:
        return max_scores(ranks, offsets).argmax(axis=0)
    # It is the class of the best proxy, which is found query by query.
    codes = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return codes[ranks.argmax(axis=0)]


def vote_shares(distances, codes, n_classes, weights="uniform"):
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

    Returns
    -------
    shares : ndarray of shape (n_queries, n_classes)
        Non-negative, with sum 1 but for rounding. Of classes with equally many votes
        the one whose nearest voter is closest is larger by the least possible amount,
        so that the largest share is the prediction.

    Examples
    --------
    One vote each: the nearer one decides.

    >>> import numpy as np
    >>> from skimprint.aggregation import vote_shares
    >>> shares = vote_shares(np.array([[0.1, 0.2]]), np.array([[1, 0]]), n_classes=2)
    >>> shares.argmax(axis=1)
    array([1])
    """
    n_queries, n_neighbors = codes.shape
    if weights == "uniform":
        votes = np.ones(codes.shape)
    else:
        exact = distances == 0
        with np.errstate(divide="ignore"):
            votes = 1 / distances.astype(np.float64)
        votes[exact.any(axis=1)] = 0
        votes[exact] = 1
    rows = np.arange(n_queries)[:, None]
    shares = np.bincount(
        (rows * n_classes + codes).ravel(), votes.ravel(), n_queries * n_classes
    ).reshape(n_queries, n_classes)
    shares /= votes.sum(axis=1, keepdims=True)
    shares = shares.astype(distances.dtype)

    nearest = np.full(shares.shape, n_neighbors)  # rank of each class's nearest voter
    np.minimum.at(nearest, (rows, codes), np.arange(n_neighbors))
    best = shares.max(axis=1, keepdims=True)
    tied = shares >= best * (1 - 4 * np.finfo(shares.dtype).eps)
    winner = np.where(tied, nearest, n_neighbors).argmin(axis=1)[:, None]
    shares[rows, winner] = np.where(
        tied.sum(axis=1, keepdims=True) > 1, np.nextafter(best, 2), best
    )
    return shares
