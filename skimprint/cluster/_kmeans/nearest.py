"""Say which row stands for a centre, and for how many rows a centre stands."""

from typing import NamedTuple

import numpy as np


class Nearest(NamedTuple):
    """Hold what rows and centres of groups of one size are to each other."""

    rows: np.ndarray  # (n_groups, k): the row nearest to a centre, within its group
    counts: np.ndarray  # (n_groups, k): weight of the rows that it is nearest to
    spreads: np.ndarray  # (n_groups, k): its squared distance from that row


def nearest_of(distances, weights, spreads):
    """Relate centres and rows, given their distances.

    Parameters
    ----------
    distances : ndarray of shape (n_groups, k, n)
        Squared distances between the centres and the rows of groups of one size;
        overwritten.
    weights : ndarray of shape (n_groups, n)
        Weights of the rows.
    spreads : ndarray of shape (n_groups, n)
        Squared distance of what a row stands for from the row itself.

    Returns
    -------
    nearest : Nearest
        Of several rows, or centres, at the same distance the first.
    """
    n_groups, k, _ = distances.shape
    if k == 1:
        counts = weights.sum(axis=1, keepdims=True, dtype=np.float64)
    else:
        keys = distances.argmin(axis=1) + np.arange(0, n_groups * k, k)[:, None]
        counts = np.bincount(keys.ravel(), weights.ravel(), n_groups * k)
    # Of what a row stands for, a sample is farther away than the row.
    distances += spreads[:, None]
    rows = distances.argmin(axis=2)
    apart = np.take_along_axis(distances, rows[:, :, None], axis=2)[:, :, 0]
    return Nearest(rows, counts.reshape(n_groups, k), np.maximum(apart, 0))
