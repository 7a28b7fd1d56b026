"""Generators that select samples of each group: farthest points, largest covariance.

All of them take no more arithmetic than their definitions ask for, and work on groups
of one size together. Rows without weight are never selected; apart from that, weights
do not matter.
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
        From rows of groups of one size, of shape (n_groups, n, d), and the number k
        to their selected rows, of shape (n_groups, k); k is less than n.
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
            index = np.take_along_axis(index, pick(rows, int(k)), axis=1)
        indices[offsets[bucket][:, None] + np.arange(k)] = index

    def row_bytes(n):
        return max(groups.n_features, n * needs_gram) * groups.dtype.itemsize

    tasks = groups.buckets(counts, row_bytes, _BATCH_BYTES)
    costs = [len(task) * groups.sizes[task[0]] ** 2 for task in tasks]
    run_tasks(solve, tasks, costs, n_jobs=n_jobs)
    return Selection(indices, offsets)


def grouped_cov_max(groups, n_selected, *, n_jobs=None):
    """Rows whose covariances with all rows of their group sum up highest.

    The covariance of two rows is taken over features. The n x n matrix of a group is
    not needed: with centred rows, the sum over j of ``x_i @ x_j`` is ``x_i @ s`` with
    the sum s of all rows, and centring s alone comes to the same.

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

    def pick(rows, k):
        # For groups this small, einsum is twice as fast as a product.
        sums = np.einsum("bnd->bd", rows)
        sums -= sums.mean(axis=1, keepdims=True)
        scores = np.einsum("bnd,bd->bn", rows, sums)
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]

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

    def pick(rows, k):
        n_groups, n, _ = rows.shape
        groups = np.arange(n_groups)
        # All inner products are few operations, unless there are many more of them
        # than the selected rows have.
        if n <= 8 * k:
            distances = squared_distances(rows)
            sq_norms = np.einsum("bnd,bnd->bn", rows, rows)

            def to_row(chosen):
                return distances[groups, chosen]

        else:
            rows -= np.einsum("bnd->bd", rows)[:, None] / n
            sq_norms = np.einsum("bnd,bnd->bn", rows, rows)

            def to_row(chosen):
                found = (rows @ rows[groups, chosen][:, :, None])[:, :, 0]
                found *= -2
                found += sq_norms
                found += sq_norms[groups, chosen][:, None]
                return found

        selected = np.empty((n_groups, k), np.intp)
        if start == "random":
            selected[:, 0] = np.random.default_rng(seed).integers(n)
        else:
            selected[:, 0] = sq_norms.argmax(axis=1)
        closest = np.full((n_groups, n), np.inf, rows.dtype)
        for c in range(1, k):
            previous = selected[:, c - 1]
            np.minimum(closest, to_row(previous), out=closest)
            # Rounding and copies of selected rows must not bring one back.
            closest[groups, previous] = -1
            selected[:, c] = closest.argmax(axis=1)
        return selected

    return select(groups, n_selected, pick, needs_gram=True, n_jobs=n_jobs)
