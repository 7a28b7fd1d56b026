"""Read rows of a matrix by group (the samples of each class), without copying it."""

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..normalization import IDENTITY, make_norm

# Words of rows that get their keys together, so that they stay in the cache.
_KEY_WORDS = 2**15

# Bytes of rows that are gathered and transformed together, so that few are held twice.
_TAKE_BYTES = 2**22

# Bytes of rows of a group from which on they are not all held at once, if possible.
_MANY_BYTES = 2**24


class GroupedRows:
    """Gather, cast and transform the rows of ``X``, group by group, when asked for.

    Generators see one class at a time, or a few classes of the same size. Gathering
    late keeps the memory beyond ``X`` at the size of what is being worked on, and
    makes every result independent of the memory layout of ``X`` and of the order in
    which the classes' rows come.

    Parameters
    ----------
    X : ndarray or DeviceArray of shape (n_samples, n_features)
        Floating point of any layout; only ever read.
    codes : ndarray of shape (n_samples,)
        Group of each row, in ``range(n_groups)``. Every group has a row.
    n_groups : int
        Number of groups.
    sample_weight : ndarray of shape (n_samples,), default=None
        Weight of each row, not negative; `None` weighs all rows alike.
    transform : Norm, callable or None, default=None
        From rows to the rows that come out, both of shape (n, n_features): the
        normalisation of the support embeddings.
    spread : ndarray of shape (n_samples,), default=None
        Squared distance of what a row stands for from the row itself, where rows are
        proxies of samples that are gone. `None` is 0 for all.

    Attributes
    ----------
    order : ndarray of shape (n_samples,)
        Row numbers of ``X``, sorted by group, within a group as in ``X``.
    offsets : ndarray of shape (n_groups + 1,)
        Group ``g`` is ``order[offsets[g]:offsets[g + 1]]``.
    sizes : ndarray of shape (n_groups,)
        Number of rows of each group.
    n_features : int
        Number of columns of ``X``.
    row_bytes : int
        Bytes of a row that comes out.
    is_safe_in_threads : bool
        Whether threads may take rows: no function of the user's, no device.
    has_unit_length : bool
        Whether rows come out l2-normalised, as far as is known.
    dtype : dtype
        Of the rows that come out: float32 for float32 and float16, else float64.

    See Also
    --------
    ProxyGenerator : Gets the support embeddings as such.
    selected, synthesized : Make proxies of them.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.generation import GroupedRows
    >>> support = GroupedRows(np.array([[0.0], [1.0], [2.0]]), np.array([1, 0, 1]), 2)
    >>> [support.rows(group).ravel().tolist() for group in range(len(support))]
    [[1.0], [0.0, 2.0]]
    >>> support.indices(1)
    array([0, 2])
    """

    def __init__(
        self,
        X: Any,
        codes: np.ndarray,
        n_groups: int,
        *,
        sample_weight: np.ndarray | None = None,
        transform: Any = None,
        spread: np.ndarray | None = None,
    ) -> None:
        self.X = X
        self.sample_weight = sample_weight
        self.transform = make_norm(transform, "transform")
        self.has_unit_length = self.transform.unit_length
        self.spread = spread
        self.order = np.argsort(codes, kind="stable")
        self.sizes = np.bincount(codes, minlength=n_groups)
        self.offsets = offsets_of(self.sizes)
        self.dtype = np.dtype(np.float64 if X.dtype == np.float64 else np.float32)

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def n_features(self) -> int:
        return self.X.shape[1]

    @property
    def row_bytes(self) -> int:
        return self.n_features * self.dtype.itemsize

    @property
    def is_safe_in_threads(self) -> bool:
        return not self.transform.is_callable and isinstance(self.X, np.ndarray)

    def indices(self, group: int) -> np.ndarray:
        """Find the row numbers of one group in ``X``.

        Parameters
        ----------
        group : int
            The group.

        Returns
        -------
        indices : ndarray of shape (n_c,)
            In ascending order.
        """
        return self.order[self.offsets[group] : self.offsets[group + 1]]

    def rows(self, group: int) -> np.ndarray:
        """Gather the rows of one group.

        Parameters
        ----------
        group : int
            The group.

        Returns
        -------
        rows : ndarray of shape (n_c, n_features)
            A new C-contiguous array, transformed.
        """
        return self.take(self.indices(group))

    def stack(self, groups: ArrayLike, *, copy: bool = True) -> np.ndarray:
        """Gather the rows of groups of one size.

        Parameters
        ----------
        groups : array-like of shape (n,)
            The groups.
        copy : bool, default=True
            Without it, the result may be a view of ``X``, which cannot be written on.

        Returns
        -------
        rows : ndarray of shape (n, n_c, n_features)
            C-contiguous and transformed.
        """
        index = self.stack_indices(groups)
        places = index.ravel()
        if copy or not self._are_there(places):
            rows = self.take(places)
        else:
            rows = self.X[places[0] : places[-1] + 1]
            rows.flags.writeable = False
        return rows.reshape(*index.shape, -1)

    def _are_there(self, places):
        """Tell whether ``X`` has rows one after the other, as they come out."""
        return (
            isinstance(self.X, np.ndarray)
            and self.X.flags.c_contiguous
            and self.X.flags.aligned
            and self.X.dtype == self.dtype
            and self.transform is IDENTITY
            and (np.diff(places) == 1).all()
        )

    def stack_indices(self, groups: ArrayLike) -> np.ndarray:
        """Find the row numbers of groups of one size in ``X``.

        Parameters
        ----------
        groups : array-like of shape (n,)
            The groups.

        Returns
        -------
        indices : ndarray of shape (n, n_c)
            Those of each group.
        """
        groups = np.asarray(groups)
        starts = self.offsets[groups][:, None]
        return self.order[starts + np.arange(self.sizes[groups[0]])]

    def stack_weights(self, groups: ArrayLike) -> np.ndarray:
        """Find the weights of the rows of groups of one size.

        Parameters
        ----------
        groups : array-like of shape (n,)
            The groups.

        Returns
        -------
        weights : ndarray of shape (n, n_c)
            In the dtype of the rows; all 1 where rows have no weights.
        """
        return self.weights_at(self.stack_indices(groups), self.dtype)

    def weights_at(self, index: ArrayLike, dtype: DTypeLike = np.float64) -> np.ndarray:
        """Find the weights of rows of ``X`` by number.

        Parameters
        ----------
        index : array-like of int
            Row numbers, of any shape.
        dtype : dtype, default=float64
            Of the result.

        Returns
        -------
        weights : ndarray of the shape of ``index``
            All 1 where rows have no weights.
        """
        if self.sample_weight is None:
            return np.ones(np.shape(index), dtype)
        return self.sample_weight[index].astype(dtype)

    def spreads_at(self, index: ArrayLike) -> np.ndarray:
        """Find the spreads of rows of ``X`` by number.

        Parameters
        ----------
        index : array-like of int
            Row numbers, of any shape.

        Returns
        -------
        spreads : ndarray of the shape of ``index``
            All 0 where rows have no spreads.
        """
        return np.zeros(np.shape(index)) if self.spread is None else self.spread[index]

    def take(self, index: np.ndarray) -> np.ndarray:
        """Take rows of ``X`` by number.

        Parameters
        ----------
        index : ndarray of shape (n,)
            Row numbers.

        Returns
        -------
        rows : ndarray of shape (n, n_features)
            A new C-contiguous array, transformed.
        """
        step = max(1, _TAKE_BYTES // max(1, self.row_bytes))
        # Neither a cast nor a norm that is more than a scaling changes rows in place.
        copies = self.X.dtype != self.dtype or self.transform.before is not None
        if len(index) <= step or not (copies and self.is_safe_in_threads):
            rows = self._at(index)
            rows = np.ascontiguousarray(rows, dtype=self.dtype)
            return self.transform(rows, out=rows)
        rows = np.empty((len(index), self.n_features), self.dtype)
        for part in blocks_of_rows(len(index), step):
            rows[part] = self.take(index[part])
        return rows

    def _at(self, index):
        X = self.X
        # `take` is faster than an index, but copies all that is laid out otherwise,
        # such as the values of a DataFrame, each time.
        if isinstance(X, np.ndarray) and X.flags.c_contiguous and X.flags.aligned:
            return X.take(index, axis=0)
        return X[index]

    def only(self, groups: np.ndarray | slice) -> "GroupedRows":
        """Take some of the groups.

        Parameters
        ----------
        groups : ndarray of int or slice
            Which, and in what order.

        Returns
        -------
        support : GroupedRows
            Of the same rows of ``X``.
        """
        other = copy(self)
        other.sizes = self.sizes[groups]
        other.offsets = offsets_of(other.sizes)
        other.order = self.order[places_from(self.offsets[groups], other.sizes)]
        return other

    def normalized(self) -> "GroupedRows":
        """Take the same groups, with rows that come out l2-normalised.

        Returns
        -------
        support : GroupedRows
            Of the same rows of ``X``.
        """
        if self.has_unit_length:  # again, rows would change by rounding
            return self
        other = copy(self)
        other.transform = replace(self.transform, unit_length=True)
        other.has_unit_length = True
        return other

    def without_weightless(self) -> "GroupedRows":
        """Leave rows of no weight out.

        Returns
        -------
        support : GroupedRows
            Of the same rows of ``X``. A group in which no row has weight keeps all of
            them, as if they had.
        """
        if self.sample_weight is None or self.sample_weight.all():
            return self
        other = copy(self)
        group = np.repeat(np.arange(len(self)), self.sizes)
        weighs = self.sample_weight[self.order] != 0
        lost = ~np.bincount(group, weighs, minlength=len(self)).astype(bool)[group]
        other.sample_weight = self.sample_weight.copy()
        other.sample_weight[self.order[lost]] = 1
        other.order = self.order[weighs | lost]
        other.sizes = np.bincount(group[weighs | lost], minlength=len(self))
        other.offsets = offsets_of(other.sizes)
        return other

    def with_moderate_weights(self) -> tuple["GroupedRows", np.ndarray]:
        """Scale the weights of each group by a power of two, to at most 2.

        That changes no digit of them, and their sums are neither lost in the dtype of
        the rows nor taken for zero.

        Returns
        -------
        support : GroupedRows
            Of the same rows of ``X``.
        scales : ndarray of shape (n_groups,)
            What the weights of each group have been divided by.
        """
        if self.sample_weight is None:
            return self, np.ones(len(self))
        other, weights = copy(self), self.sample_weight[self.order]
        _, exponents = np.frexp(np.maximum.reduceat(weights, self.offsets[:-1]))
        scales = np.ldexp(1.0, exponents - 1)
        other.sample_weight = np.zeros(len(self.sample_weight))
        other.sample_weight[self.order] = weights / np.repeat(scales, self.sizes)
        return other, scales

    def buckets(self, counts: ArrayLike, max_bytes: int = 2**20) -> list[np.ndarray]:
        """Split the groups into lists to be worked on together.

        Parameters
        ----------
        counts : array-like of shape (n_groups,) or (n_counts, n_groups)
            Groups in a list agree in these numbers, and in size.
        max_bytes : int, default=2**20
            Bound for the rows of one list and for their distances from each other, by
            default half of a second-level cache; a single group may exceed it.

        Returns
        -------
        buckets : list of ndarray of int
            Every group is in one.
        """
        buckets = []
        for same in group_by_equal(self.sizes, *np.atleast_2d(counts)):
            size = self.sizes[same[0]]
            n_bytes = size * max(size, self.n_features) * self.dtype.itemsize
            step = max(1, int(max_bytes // max(1, n_bytes)))
            buckets += [same[i : i + step] for i in range(0, len(same), step)]
        return buckets


class LateRows:
    """Rows that are gathered when they are indexed, each time.

    They take the place of an array where some rows at a time will do.

    Parameters
    ----------
    source : GroupedRows
        Where they come from.
    index : ndarray of shape (n,)
        Their row numbers there.
    """

    def __init__(self, source, index):
        self.source, self.index = source, index
        self.shape = len(index), source.n_features
        self.dtype = source.dtype

    def __len__(self):
        return len(self.index)

    def __getitem__(self, part):
        return self.source.take(self.index[part])


def late_rows(source, group):
    """Gather the rows of one group; those of a large one later, if possible.

    Parameters
    ----------
    source : GroupedRows
        Has the groups.
    group : int
        Which.

    Returns
    -------
    rows : ndarray or LateRows, of shape (n_c, n_features)
    """
    is_large = source.sizes[group] * source.row_bytes > _MANY_BYTES
    if is_large and source.is_safe_in_threads:
        return LateRows(source, source.indices(group))
    return source.rows(group)


def offsets_of(counts):
    """Find where each group's part of a stack starts, and where the last one's ends."""
    return np.concatenate([[0], np.cumsum(counts)])


def places_from(starts, counts):
    """List as many consecutive places from each start on, one list after the other."""
    ends = np.cumsum(counts)
    return np.arange(counts.sum()) + np.repeat(starts - ends + counts, counts)


def blocks_of_rows(n, step):
    """List slices of so many rows that cover n of them; the last may have fewer.

    scikit-learn's `gen_batches` takes as long to check its parameters as a query takes.
    """
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def runs_of(offsets, most):
    """Split groups into runs of consecutive ones.

    Parameters
    ----------
    offsets : ndarray of shape (n_groups + 1,)
        Of `offsets_of`.
    most : float
        How much a run has at most, unless it is a single group.

    Returns
    -------
    runs : list of slice
    """
    runs, start = [], 0
    while start < len(offsets) - 1:
        limit = offsets[start] + most
        stop = int(np.searchsorted(offsets, limit, side="right")) - 1
        runs.append(slice(start, max(stop, start + 1)))
        start = runs[-1].stop
    return runs


def numbers_within(ordered):
    """Number the elements of each run of equal values from zero, of a sorted array."""
    return np.arange(len(ordered)) - np.searchsorted(ordered, ordered)


def group_by_equal(*properties):
    """List the groups together that agree in all properties.

    Parameters
    ----------
    *properties : ndarrays of shape (n_groups,)
        Such as the size, the number of proxies.

    Returns
    -------
    lists : list of ndarray of int
        Groups in ascending order.
    """
    order = np.lexsort(properties)
    differs = np.diff(np.stack(properties)[:, order]).any(axis=0)
    return np.split(order, np.flatnonzero(differs) + 1)


def row_keys(rows, seed):
    """Give each row a number that looks random, but depends on its values only.

    Parameters
    ----------
    rows : ndarray or LateRows, of shape (n, d)
        Floating point.
    seed : int
        Other seeds give other numbers.

    Returns
    -------
    keys : ndarray of shape (n,)
        Of dtype uint64.

    Notes
    -----
    Multiply-shift hashing [1]_ of the bytes of a row: those of different rows are
    equal once in billions. Negative zeros count as zeros, to which they are equal.

    References
    ----------
    .. [1] M. Thorup, "High Speed Hashing for Integers and Strings", arXiv:1504.06804,
       Section 3.
    """
    row_bytes = rows.shape[1] * rows.dtype.itemsize
    word = np.dtype("u8" if row_bytes % 8 == 0 else f"u{rows.dtype.itemsize}")
    rng = np.random.default_rng(seed % 2**64)
    size = row_bytes // word.itemsize
    factors = rng.integers(2**64, size=size, dtype=np.uint64) | 1
    keys = np.empty(len(rows), np.uint64)
    for part in blocks_of_rows(len(rows), max(1, _KEY_WORDS // len(factors))):
        values = np.add(rows[part], 0, order="C")  # which makes -0.0 to 0.0
        some = values.view(word).astype(np.uint64, copy=False)
        some ^= some >> 32  # of round numbers, only the highest bits differ
        np.einsum("ij,j->i", some, factors, out=keys[part])
    keys ^= keys >> 32
    keys *= factors[0]
    return keys ^ (keys >> 32)
