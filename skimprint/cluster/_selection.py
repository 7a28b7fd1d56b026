"""Select samples of each group: farthest points, largest covariance.

They work on groups of one size together. Rows without weight are never selected. Apart
from that, weights matter for the sums of covariances, and for the mean that the
farthest points start from: there, a row counts as often as its weight says. Rows with a
spread are means. They count, but are not selected.
"""

from typing import NamedTuple

import numpy as np

from .._arrays.groups import offsets_of
from .._arrays.threads import run_tasks

# Bytes of rows, or of distances, of a few small groups that are worked on together.
_BATCH_BYTES = 2**23


class Selection(NamedTuple):
    """Hold the selected rows of every group."""

    indices: np.ndarray  # (k_total,): row numbers in X, in order of selection
    offsets: np.ndarray  # (n_groups + 1,): where each group's rows begin


def select(groups, n_selected, pick, *, n_jobs=None):
    """Pick rows of each group, for groups of one size together.

    Parameters
    ----------
    groups : GroupedRows
        Rows by group, none of them without weight.
    n_selected : int or ndarray of shape (n_groups,)
        Number of rows to pick. A group that has no more keeps all, in their order.
    pick : callable
        From groups of one size, of shape (n_groups,), the number k, less than that
        size, and memory, to the numbers of the selected rows within their group, of
        shape (n_groups, k).
    n_jobs : int, default=None
        Number of threads over groups, resolved as joblib does.

    Returns
    -------
    selection : Selection
        The selected rows.
    """
    counts = np.minimum(n_selected, groups.sizes)
    offsets = offsets_of(counts)
    indices = np.empty(offsets[-1], np.intp)

    def solve(bucket):
        k = int(counts[bucket[0]])
        index = groups.stack_indices(bucket)
        if k < index.shape[1]:
            index = np.take_along_axis(index, pick(bucket, k), axis=1)
        indices[offsets[bucket][:, None] + np.arange(k)] = index

    tasks = groups.buckets(counts, _BATCH_BYTES)
    costs = [len(task) * groups.sizes[task[0]] ** 2 for task in tasks]
    run_tasks(solve, tasks, costs, n_jobs=n_jobs)
    return Selection(indices, offsets)


def covariance_sums(rows, weights):
    """Sum the covariances of each row with all rows of its group.

    The covariance of two rows is taken over features. The n x n matrix of a group is
    not needed: with centred rows, the sum over j of ``x_i @ x_j`` is ``x_i @ s`` with
    the sum s of all rows, and centring s alone comes to the same.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, n, d)
        Rows by group.
    weights : ndarray of shape (n_groups, n)
        How often each row counts.

    Returns
    -------
    sums : ndarray of shape (n_groups, n)
        But for a factor that all of a group have in common.
    """
    # A product is faster than `sum`.
    sums = weights.astype(rows.dtype)[:, None] @ rows
    sums -= sums.mean(axis=2, keepdims=True)
    # No product here: it rounds equal rows differently, and their order must stay.
    return np.einsum("bnd,bd->bn", rows, sums[:, 0])


def grouped_cov_max(groups, n_selected, *, n_jobs=None):
    """Select the rows whose covariances with all rows of their group sum up highest.

    Parameters
    ----------
    groups : GroupedRows
        Rows by group.
    n_selected : int or ndarray of shape (n_groups,)
        Number of rows to select.
    n_jobs : int, default=None
        Number of threads over groups, resolved as joblib does.

    Returns
    -------
    selection : Selection
        Highest sum first; of equal ones, the first row.
    """

    groups = groups.without_weightless()
    spreads = groups.spread

    def pick(bucket, k):
        sums = covariance_sums(groups.stack(bucket), groups.stack_weights(bucket))
        if spreads is not None:
            sums[spreads[groups.stack_indices(bucket)] > 0] = -np.inf
        return np.argsort(-sums, axis=1, kind="stable")[:, :k]

    return select(groups, n_selected, pick, n_jobs=n_jobs)


def grouped_fps(groups, n_selected, *, start="farthest", seed=0, n_jobs=None):
    """Select rows greedily: each new one is farthest from those before it.

    Parameters
    ----------
    groups : GroupedRows
        Rows by group.
    n_selected : int or ndarray of shape (n_groups,)
        Number of rows to select.
    start : {"farthest", "random"}, default="farthest"
        First row of each group: the one farthest from the mean, or any.
    seed : int, default=0
        Seed of the random start, the same for each group.
    n_jobs : int, default=None
        Number of threads over groups, resolved as joblib does.

    Returns
    -------
    selection : Selection
        Of equally far rows, the first is taken.
    """

    groups = groups.without_weightless()
    weights, spreads = groups.sample_weight, groups.spread

    def pick(bucket, k):
        index = groups.stack_indices(bucket)
        n_groups, n = index.shape
        each = np.arange(n_groups)
        rows = groups.stack(bucket)
        rows -= np.einsum("bnd->bd", rows)[:, None] / n
        sq_norms = np.einsum("bnd,bnd->bn", rows, rows)
        merit = sq_norms.copy()
        if weights is not None:
            shares = weights[index] / weights[index].sum(axis=1, keepdims=True)
            means = np.einsum("bnd,bn->bd", rows, shares.astype(groups.dtype))
            merit -= 2 * np.einsum("bnd,bd->bn", rows, means)
        selected = np.empty((n_groups, k), np.intp)
        closest = np.full((n_groups, n), np.inf, groups.dtype)
        if start == "random":
            merit = np.tile(np.random.default_rng(seed).random(n), (n_groups, 1))
        if spreads is not None:
            merit[spreads[index] > 0] = -np.inf
            closest[spreads[index] > 0] = -1
        selected[:, 0] = merit.argmax(axis=1)
        for c in range(1, k):
            previous = selected[:, c - 1]
            distances = -2 * (rows @ rows[each, previous][:, :, None])[:, :, 0]
            distances += sq_norms
            distances += sq_norms[each, previous][:, None]
            np.minimum(closest, distances, out=closest)
            # Rounding and copies of selected rows must not bring one back.
            closest[each, previous] = -1
            selected[:, c] = closest.argmax(axis=1)
        return selected

    return select(groups, n_selected, pick, n_jobs=n_jobs)
