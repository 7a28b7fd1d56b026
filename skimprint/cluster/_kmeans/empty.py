"""Refill clusters that lose all their members."""

import numpy as np

# Multiple of machine precision, relative to the squared length of the rows, that a
# squared distance must exceed to count as one.
_NOISE = 16


def refill(labels, distances, sq_norms, n_clusters):
    """Give each empty cluster of a group the row that is farthest from its centre.

    A row whose cluster has no other member stays, and so does everything once no
    row is off its centre: then there are fewer distinct rows than clusters.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Cluster of each row; changed in place.
    distances : ndarray of shape (n,)
        Squared distance of each row to the centre of its cluster.
    sq_norms : ndarray of shape (n,)
        Squared lengths of the rows.
    n_clusters : int
        Number of clusters.
    """
    counts = np.bincount(labels, minlength=n_clusters)
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return
    noise = _NOISE * np.finfo(distances.dtype).eps * sq_norms.max()
    farthest = iter(np.argsort(-distances, kind="stable"))
    for cluster in empty:
        for row in farthest:
            if distances[row] <= noise:
                return
            if counts[labels[row]] > 1:
                counts[labels[row]] -= 1
                labels[row] = cluster
                break
