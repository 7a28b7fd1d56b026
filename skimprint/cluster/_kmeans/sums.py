"""Sum over the rows of clusters."""

import numpy as np
import scipy.sparse as sp

from ..._arrays.groups import blocks_of_rows

# Inertia relative to the scatter of a group below which rounding spoils a difference of
# large sums.
CANCELLED = 1e-3

# Rows whose residuals are taken at a time.
_BLOCK = 1024


def cluster_sums(X, labels, weights, n_clusters, rows=None):
    """Sum what rows add to clusters.

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


def inertia_of(rows, labels, weights, centers):
    """Sum the weighted squared distances of the rows of a group to their centres.

    It takes longer than a difference of sums that are known, but loses nothing where
    rows lie close to centres that are far from each other.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        The rows.
    labels, weights : ndarrays of shape (n,)
        Cluster and weight of each row.
    centers : ndarray of shape (n_clusters, d)
        Centres of the clusters.

    Returns
    -------
    inertia : float
        Their sum, in double precision.
    """
    inertia = 0.0
    for block in blocks_of_rows(len(rows), _BLOCK):
        residuals = rows[block] - centers[labels[block]]
        sq_distances = np.einsum("ij,ij->i", residuals, residuals)
        inertia += np.dot(sq_distances.astype(np.float64), weights[block])
    return inertia
