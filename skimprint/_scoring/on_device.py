"""Scores of queries that are on another device, computed there."""

from itertools import pairwise

import numpy as np
from sklearn.utils import gen_batches

from .._arrays.device import in_halves, lengths, normalized, to_host

# Similarities of a block: a fraction of any device's memory, and enough to fill it.
_BLOCK_BYTES = 2**28

# Padding the classes to one number of proxies may take so many times the memory.
_MAX_PADDING = 2


class ScoresElsewhere:
    """Scores by the most similar proxy of each class, by products alone.

    Parameters
    ----------
    compare : ProxySimilarity
        By a metric that comes of products, and a norm of ours for the queries.
    head : Head
        Has the proxies. It keeps what comes of them to the last device that was asked,
        so that single queries do not wait for a transfer.
    queries : DeviceArray
        Queries of shape (n_queries, n_features).
    """

    def __init__(self, compare, head, queries):
        self.compare = compare
        self.offsets = head.offsets
        self.queries = queries
        self.xp = queries.xp
        place = self.xp.__name__, str(queries.device)
        use = place, compare.metric, compare.query_norm, compare.last_norm
        kept = head.elsewhere  # once: other threads may replace it
        if kept is None or kept[0] != use:
            head.elsewhere = kept = use, self._bring(queries.bring)
        vars(self).update(kept[1])

    def _bring(self, bring):
        """What scores need of the proxies, by the names of attributes."""
        compare = self.compare
        there = {
            "twice_whitened": bring(np.ascontiguousarray(compare.twice_whitened.T)),
            "origin": bring(compare.origin),
            "factor": bring(compare.factor),
            "offset": None,  # of all similarities to a proxy
        }
        if compare.folds:
            there["offset"] = bring(compare.shift)
        elif compare.metric in ("euclidean", "mahalanobis"):
            there["offset"] = bring(compare.half_squares[:, 0])
        if compare.whitening is not None:
            n_features, n_directions = compare.whitening.basis.shape
            names = ("origin", "basis", "inside")
            if 2 * n_directions > n_features:  # then one product costs less than two
                names = ("origin", "matrix")
            there["whitening"] = {
                name: bring(getattr(compare.whitening, name)) for name in names
            }
        return there

    def for_each_block(self, score, use):
        """Score blocks of queries, smaller ones where the device lacks memory.

        Parameters
        ----------
        score : callable
            `winners`, `scores` or `nearest`.
        use : callable
            Gets the slice of a block and what the method returns for it.
        """

        def run(queries):
            block = slice(queries.start, queries.stop)
            use(block, score(block))

        row_bytes = self.twice_whitened.shape[1] * self.compare.proxies.itemsize
        step = max(1, _BLOCK_BYTES // row_bytes)
        for block in gen_batches(len(self.queries), step):
            in_halves(run, range(block.start, block.stop))

    def winners(self, block):
        """Index of the best class of each query, the first of several: (n_block,)."""
        xp, (_, ranks) = self.xp, self._ranks(block)
        scores = self._max_by_class(ranks)
        n_classes = scores.shape[1]
        best = scores == xp.max(scores, axis=1, keepdims=True)
        classes = self.queries.bring(np.arange(n_classes))
        return to_host(xp.min(xp.where(best, classes[None, :], n_classes), axis=1))

    def scores(self, block):
        """Score of each class for each query: (n_block, n_classes)."""
        queries, ranks = self._ranks(block)
        return to_host(self._finish(self._max_by_class(ranks), queries))

    def nearest(self, block):
        """Similarity of each query to its nearest proxy: (n_block,)."""
        queries, ranks = self._ranks(block)
        best = self.xp.max(ranks, axis=1, keepdims=True)
        return to_host(self._finish(best, queries)[:, 0])

    def _ranks(self, block):
        """Prepared queries, and what orders proxies as similarities do."""
        xp, compare = self.xp, self.compare
        X = self.queries.part(block)
        X = xp.astype(X, self.twice_whitened.dtype)
        X = normalized(xp, X, compare.query_norm)
        if compare.whitening is not None and not compare.folds:
            X = self._whitened(X)
        X = normalized(xp, X, compare.last_norm)
        if self.origin is not None:
            X = X - self.origin
        if self.factor is not None:
            X = X @ self.factor
        ranks = X @ self.twice_whitened
        return X, ranks if self.offset is None else ranks - self.offset

    def _whitened(self, X):
        parts = self.whitening
        X = X - parts["origin"]
        if "matrix" in parts:
            return X @ parts["matrix"]
        basis = parts["basis"]
        inside = ((X @ basis) * parts["inside"]) @ self.xp.matrix_transpose(basis)
        return self.compare.whitening.outside * X + inside

    def _finish(self, ranks, X):
        """Similarities of ranks, of shape (n_block, any)."""
        xp, compare = self.xp, self.compare
        if compare.divide_by_length:
            ranks = ranks / lengths(xp, self._whitened(X) if compare.folds else X)
            return xp.clip(ranks, -1.0, 1.0) if compare.metric == "cosine" else ranks
        if compare.metric in ("euclidean", "mahalanobis"):
            squares = xp.sum(X * X, axis=1, keepdims=True) - 2 * ranks
            return -xp.sqrt(xp.clip(squares, 0.0, None))
        return ranks

    def _max_by_class(self, ranks):
        """The largest value over the proxies of each class: (n_block, n_classes)."""
        xp, offsets = self.xp, self.offsets
        counts = np.diff(offsets)
        largest, n_classes = int(counts.max()), len(counts)
        if largest == 1:
            return ranks
        if n_classes * largest > _MAX_PADDING * ranks.shape[1]:
            parts = [slice(*ends) for ends in pairwise(offsets)]
            return xp.stack([xp.max(ranks[:, p], axis=1) for p in parts], axis=1)
        if counts.min() < largest:  # the last proxy of a class stands for those missing
            index = np.minimum(np.arange(largest), counts[:, None] - 1)
            index = self.queries.bring((index + offsets[:-1, None]).ravel())
            ranks = xp.take(ranks, index, axis=1)
        return xp.max(xp.reshape(ranks, (-1, n_classes, largest)), axis=2)
