"""Sums of the rows of each cluster."""

import numpy as np
import scipy.sparse as sp


def cluster_sums(X, labels, weights, n_clusters, rows=None):
    """What rows add to the sums of clusters.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        C-contiguous rows.
    labels, weights : lists of ndarrays of shape (n_rows,)
        What each row adds, and to which cluster. Two of each can take a row out of
        one cluster and add it to another. Labels are of int32.
    n_clusters : int
        Number of clusters.
    rows : ndarray of shape (n_rows,), default=None
        The rows that count, in ascending order; `None` for all.

    Returns
    -------
    sums : ndarray of shape (n_clusters, d)
        A new array. Rows are added in their order.
    """
    n, times = len(X), len(labels)
    # A sparse column per row of X: entries are stored as they come, without sorting,
    # and X is read from front to back.
    if rows is None:
        indptr = np.arange(0, n * times + 1, times, dtype=np.int32)
    else:
        indptr = np.zeros(n + 1, np.int32)
        indptr[rows + 1] = times
        np.cumsum(indptr, out=indptr)
    membership = sp.csc_array(
        (np.stack(weights, axis=1).ravel(), np.stack(labels, axis=1).ravel(), indptr),
        shape=(n_clusters, n),
    )
    return membership @ X
