"""How familiar queries are: what decides whether a query belongs to no known class."""

from itertools import pairwise

import numpy as np

# How much of the similarity to the second best class the contrast takes away: about
# what logistic regression finds to tell samples from samples whose class is left out.
_CONTRAST = 1 / 3

# Weight of the cosine to the nearest class mean, beside the largest class score: with
# halves and wholes, unknown classes of pictures and texts are told better than without.
MEANS = 0.5


def nearest_similarity(similarities, offsets, n_nearest):
    """Take the similarity to the nearest proxy.

    Parameters
    ----------
    similarities : ndarray of shape (n_proxies, n_queries)
        Larger is closer; minus infinity where a proxy is gone.
    offsets : ndarray of shape (n_classes + 1,)
        Where the proxies of each class start.
    n_nearest : int
        Without effect here.

    Returns
    -------
    familiarities : ndarray of shape (n_queries,)
        Larger is more familiar.
    """
    return similarities.max(axis=0)


def contrast(similarities, offsets, n_nearest):
    """Take the similarity to the best class less a third of that to the second best.

    Parameters
    ----------
    similarities, offsets
        As for `nearest_similarity`.
    n_nearest : int
        Of each class, the mean similarity of so many proxies counts.

    Returns
    -------
    familiarities : ndarray of shape (n_queries,)
        Larger is more familiar.
    """
    by_class = np.stack(
        [
            _mean_of_largest(similarities[start:stop], n_nearest)
            for start, stop in pairwise(offsets)
        ]
    )
    if len(by_class) == 1:
        return by_class[0]
    second, first = np.partition(by_class, [-2, -1], axis=0)[-2:]
    return first - _CONTRAST * second


def _mean_of_largest(values, n):
    """Average the n largest finite values of each column."""
    if len(values) > n:
        values = np.partition(values, len(values) - n, axis=0)[-n:]
    there = np.isfinite(values)
    n_there = there.sum(axis=0)
    sums = np.where(there, values, 0).sum(axis=0)
    return np.where(n_there, sums / np.maximum(n_there, 1), -np.inf)


# Those that similarities to proxies tell; ``"auto"`` is told by class scores and means.
FAMILIARITIES = {"contrast": contrast, "similarity": nearest_similarity}
