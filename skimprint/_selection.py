"""Generators that select samples of each group: farthest points, largest covariance.

All of them take no more arithmetic than their definitions ask for, and work on groups
of one size together. Rows without weight are never selected. Apart from that, weights
matter for the sums of covariances, and for the mean that the farthest points start
from: there, a row counts as often as its weight says. Rows with a spread are means.
They count, but are not selected.
"""

from typing import NamedTuple

import numpy as np

from ._blas import squared_distances
from ._groups import Buffer, offsets_of
from ._threads import run_tasks

# Bytes of rows or inner products of a few small groups that are worked on together.
_BATCH_BYTES = 2**21


class Selection(NamedTuple):
    """Selected rows of every group."""

    indices: np.ndarray  # (k_total,): row numbers in X, in order of selection
    offsets: np.ndarray  # (n_groups + 1,): where each group's rows begin


def select(
    groups, n_selected, pick, *, needs_gram=False, reads_only=False, n_jobs=None
):
    """Pick rows of each group, for groups of one size together.

    Parameters
    ----------
    groups : GroupedRows
        Rows by group.
    n_selected : int or ndarray of shape (n_groups,)
        Number of rows to pick. A group that has no more keeps all, in their order.
    pick : callable
        From rows of groups of one size, of shape (n_groups, n, d), the number k, less
        than n, and the numbers of the rows in X, of shape (n_groups, n), to those of
        the selected rows within their group, of shape (n_groups, k).
    needs_gram : bool, default=False
        Whether pick stores n x n values per group.
    reads_only : bool, default=False
        Whether pick leaves the rows as they are, so that it can do without a copy.
    n_jobs : int, default=None
        Number of threads over groups, resolved as joblib does.

    Returns
    -------
    selection : Selection
        The selected rows.
    """
    groups = groups.without_weightless()
    counts = np.minimum(n_selected, groups.sizes)
    offsets = offsets_of(counts)
    indices = np.empty(offsets[-1], np.intp)
    buffer = Buffer()

    def solve(bucket):
        k, n = counts[bucket[0]], groups.sizes[bucket[0]]
        index = groups.stack_indices(bucket)
        if k < n:
            shape = (*index.shape, groups.n_features)
            gather = groups.peek if reads_only else groups.stack
            rows = gather(bucket, out=buffer.empty(shape, groups.dtype))
            index = np.take_along_axis(index, pick(rows, int(k), index), axis=1)
        indices[offsets[bucket][:, None] + np.arange(k)] = index

    def row_bytes(n):
        return max(groups.n_features, n * needs_gram) * groups.dtype.itemsize

    tasks = groups.buckets(counts, row_bytes, _BATCH_BYTES)
    costs = [len(task) * groups.sizes[task[0]] ** 2 for task in tasks]
    run_tasks(solve, tasks, costs, n_jobs=n_jobs)
    return Selection(indices, offsets)


def covariance_sums(rows, weights=None):
    """Sums of the covariances of each row with all rows of its group.

    The covariance of two rows is taken over features. The n x n matrix of a group is
    not needed: with centred rows, the sum over j of ``x_i @ x_j`` is ``x_i @ s`` with
    the sum s of all rows, and centring s alone comes to the same.

    Parameters
    ----------
    rows : ndarray of shape (n_groups, n, d)
        Rows by group.
    weights : ndarray of shape (n_groups, n), default=None
        How often each row counts; `None` is once.

    Returns
    -------
    sums : ndarray of shape (n_groups, n)
        But for a factor that all of a group have in common.
    """
    # For groups this small, einsum is twice as fast as a product.
    if weights is None:
        sums = np.einsum("bnd->bd", rows)
    else:
        sums = np.einsum("bnd,bn->bd", rows, weights.astype(rows.dtype))
    sums -= sums.mean(axis=1, keepdims=True)
    return np.einsum("bnd,bd->bn", rows, sums)


def grouped_cov_max(groups, n_selected, *, n_jobs=None):
    """Rows whose covariances with all rows of their group sum up highest.

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

    def pick(rows, k, index):
        weights, spreads = groups.sample_weight, groups.spread
        sums = covariance_sums(rows, None if weights is None else weights[index])
        if spreads is not None:
            sums[spreads[index] > 0] = -np.inf
        return np.argsort(-sums, axis=1, kind="stable")[:, :k]

    return select(groups, n_selected, pick, reads_only=True, n_jobs=n_jobs)


def grouped_fps(groups, n_selected, *, start="farthest", seed=0, n_jobs=None):
    """Greedy farthest-point sampling: each new row is farthest from those before it.

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

    def pick(rows, k, index):
        n_groups, n, _ = rows.shape
        each = np.arange(n_groups)
        # All inner products are few operations, unless there are many more of them
        # than the selected rows have.
        if n <= 8 * k:
            distances = squared_distances(rows)
            sq_norms = np.einsum("bnd,bnd->bn", rows, rows)

            def to_row(chosen):
                return distances[each, chosen]

        else:
            rows -= np.einsum("bnd->bd", rows)[:, None] / n
            sq_norms = np.einsum("bnd,bnd->bn", rows, rows)

            def to_row(chosen):
                found = (rows @ rows[each, chosen][:, :, None])[:, :, 0]
                found *= -2
                found += sq_norms
                found += sq_norms[each, chosen][:, None]
                return found

        selected = np.empty((n_groups, k), np.intp)
        closest = np.full((n_groups, n), np.inf, rows.dtype)
        if start == "random":
            merit = np.tile(np.random.default_rng(seed).random(n), (n_groups, 1))
        elif groups.sample_weight is None:
            merit = sq_norms.copy()  # rows are centred by now
        else:
            weights = groups.sample_weight[index].astype(rows.dtype)
            means = np.einsum("bnd,bn->bd", rows, weights)
            means /= weights.sum(axis=1)[:, None]
            merit = sq_norms - 2 * np.einsum("bnd,bd->bn", rows, means)
        if groups.spread is not None:
            merit[groups.spread[index] > 0] = -np.inf
            closest[groups.spread[index] > 0] = -1
        selected[:, 0] = merit.argmax(axis=1)
        for c in range(1, k):
            previous = selected[:, c - 1]
            np.minimum(closest, to_row(previous), out=closest)
            # Rounding and copies of selected rows must not bring one back.
            closest[each, previous] = -1
            selected[:, c] = closest.argmax(axis=1)
        return selected

    return select(groups, n_selected, pick, needs_gram=True, n_jobs=n_jobs)
