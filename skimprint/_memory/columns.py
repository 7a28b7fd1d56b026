"""What is known of many classes, in columns: arrays over all classes of a block.

Blocks of a state are made of them, and so is what a generator returns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .._arrays.groups import GroupedRows, offsets_of, places_from, row_keys


class Points(NamedTuple):
    """Vectors that stand for samples: samples themselves, means of them, or proxies.

    Parameters
    ----------
    vectors : ndarray of shape (n, n_features)
        The points.
    counts : ndarray of shape (n,)
        The weight of the samples that each stands for.
    indices : ndarray of shape (n,)
        The training row that each is, or that is nearest to it; -1 for a row of a head.
    spreads : ndarray of shape (n,)
        Squared distance of each from that row.

    See Also
    --------
    Ragged : Points of several classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.generation import Points
    >>> two = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> points = Points(two, np.ones(2), np.array([4, 7]), np.zeros(2))
    >>> points.vectors[points.indices == 7]
    array([[1., 0.]])
    """

    vectors: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    spreads: np.ndarray


class Samples(NamedTuple):
    """Samples of a class, sorted by their keys.

    The key of a sample depends on its values only, so the samples with the smallest
    keys are the same ones in whatever order and parts the samples come. Equal samples
    are one, of the weight of all: whoever is left out must not be found in a copy.

    Attributes
    ----------
    rows : ndarray of shape (n, n_features)
        The samples, normalised as the generator sees them.
    weights : ndarray of shape (n,)
        Their weights.
    keys : ndarray of shape (n,)
        Their keys, in ascending order.
    indices : ndarray of shape (n,)
        The training row that each is.
    """

    rows: np.ndarray
    weights: np.ndarray
    keys: np.ndarray
    indices: np.ndarray

    @classmethod
    def of(cls, rows, weights=None, size=None, indices=None):
        """Keep those samples of one class that have the smallest keys, or all.

        They are an array, or `LateRows`.
        Their training rows are by default their places in ``rows``.
        """
        if size == 0:
            rows = rows[:0]
        n, which = len(rows), slice(None)
        weights = np.ones(n) if weights is None else weights[:n].astype(float)
        indices = np.arange(n) if indices is None else indices[:n]
        keys = row_keys(rows, seed=0)
        if size is not None and n > size:
            # Those of so many keys are enough, and sorted in less time and memory.
            distinct = np.unique(keys)
            if len(distinct) > size:
                (which,) = np.nonzero(keys < distinct[size])
        samples = cls(rows[which], weights[which], keys[which], indices[which])
        return samples.smallest(size)

    def smallest(self, size=None):
        """Sort by the keys, and take so many of the smallest, or all."""
        return sorted_by_key(Ragged(self, np.array([0, len(self.keys)])), size).values


@dataclass(frozen=True)
class Ragged:
    """A record of arrays for each class, one class after the other.

    Parameters
    ----------
    values : NamedTuple of ndarrays
        The records of all classes, such as `Points`.
    offsets : ndarray of shape (n_classes + 1,)
        Class ``c`` has the elements ``offsets[c]`` to ``offsets[c + 1]``.

    Attributes
    ----------
    sizes : ndarray of shape (n_classes,)
        Number of elements of each class.
    codes : ndarray of shape (n_elements,)
        The class of each element.

    See Also
    --------
    ProxyGenerator : Returns proxies as such.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.generation import Points, Ragged
    >>> rows = np.arange(6.0).reshape(3, 2)
    >>> points = Points(rows, np.ones(3), np.arange(3), np.zeros(3))
    >>> proxies = Ragged(points, np.array([0, 1, 3]))
    >>> proxies.sizes, proxies.one(1).vectors.tolist()
    (array([1, 2]), [[2.0, 3.0], [4.0, 5.0]])
    """

    values: Any
    offsets: np.ndarray

    @classmethod
    def of(cls, records: Sequence[Any]) -> "Ragged":
        """Make columns of the record of each class.

        Parameters
        ----------
        records : list of NamedTuple of ndarrays
            One for each class.

        Returns
        -------
        columns : Ragged
            Of all classes.
        """
        values = type(records[0])(*map(np.concatenate, zip(*records, strict=True)))
        return cls(values, offsets_of([len(record[0]) for record in records]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Any]:
        """Yield the record of each class, as views."""
        return map(self.one, range(len(self)))

    def one(self, place: int) -> Any:
        """Take the record of one class.

        Parameters
        ----------
        place : int
            The class.

        Returns
        -------
        record : NamedTuple of ndarrays
            Views of its elements.
        """
        part = slice(*self.offsets[place : place + 2])
        return take(self.values, part)

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.offsets)

    @property
    def codes(self) -> np.ndarray:
        return np.repeat(np.arange(len(self)), self.sizes)

    def take(self, classes: np.ndarray | slice) -> "Ragged":
        """Take the records of some classes.

        Parameters
        ----------
        classes : ndarray of int or slice
            Which, and in what order.

        Returns
        -------
        columns : Ragged
            Of a slice, views.
        """
        if isinstance(classes, slice):
            offsets = self.offsets[classes.start : classes.stop + 1]
            values = take(self.values, slice(offsets[0], offsets[-1]))
            return Ragged(values, offsets - offsets[0])
        return self._with_sizes(self.offsets[classes], self.sizes[classes])

    def first(self, most: int | np.ndarray) -> "Ragged":
        """Take the first elements of each class.

        Parameters
        ----------
        most : int or ndarray of shape (n_classes,)
            At most so many.

        Returns
        -------
        columns : Ragged
            The same if no class has more.
        """
        if (self.sizes <= most).all():
            return self
        return self._with_sizes(self.offsets[:-1], np.minimum(self.sizes, most))

    def _with_sizes(self, starts, sizes):
        """Take so many elements from each of some places on."""
        values = take(self.values, places_from(starts, sizes))
        return Ragged(values, offsets_of(sizes))

    def replaced(self, classes: np.ndarray, others: "Ragged") -> "Ragged":
        """Put records of others in the place of those of some classes.

        Parameters
        ----------
        classes : ndarray of int
            Which, in ascending order.
        others : Ragged
            Their new records.

        Returns
        -------
        columns : Ragged
            Of all classes.
        """
        if len(classes) == len(self):
            return others
        is_other = np.zeros(len(self), bool)
        is_other[classes] = True
        places = np.where(is_other, is_other.cumsum() - 1, np.arange(len(self)))
        cuts = np.flatnonzero(np.diff(is_other)) + 1
        return joined(
            (others if is_other[start] else self).take(
                slice(places[start], places[start] + stop - start)
            )
            for start, stop in pairwise([0, *cuts, len(self)])
        )

    def followed_by(self, other: "Ragged") -> "Ragged":
        """Join the record of each class and that of another column.

        Parameters
        ----------
        other : Ragged
            Of the same classes.

        Returns
        -------
        columns : Ragged
            Of each class, the own elements come first.
        """
        # Written where they belong: a part that is learnt later is mostly such copies.
        before = np.repeat(other.offsets[:-1], self.sizes)
        after = np.repeat(self.offsets[1:], other.sizes)
        own, others = np.arange(len(before)) + before, np.arange(len(after)) + after
        arrays = []
        for first, second in zip(self.values, other.values, strict=True):
            shape = len(own) + len(others), *first.shape[1:]
            array = np.empty(shape, np.result_type(first, second))
            array[own], array[others] = first, second
            arrays.append(array)
        return Ragged(type(self.values)(*arrays), self.offsets + other.offsets)

    def with_values(self, **changes: np.ndarray) -> "Ragged":
        """Replace some of the arrays.

        Parameters
        ----------
        **changes : ndarray
            By the name of the field.

        Returns
        -------
        columns : Ragged
            Of the same sizes.
        """
        return Ragged(self.values._replace(**changes), self.offsets)

    def grouped(self) -> GroupedRows:
        """Make rows by group of points, with their weights and spreads.

        Returns
        -------
        support : GroupedRows
            A group for each class.
        """
        points = self.values
        return GroupedRows(
            points.vectors,
            self.codes,
            len(self),
            sample_weight=points.counts,
            spread=points.spreads,
        )


def sorted_by_key(samples, most=None):
    """Sort the samples of each class by their keys; equal ones become one.

    Parameters
    ----------
    samples : Ragged of Samples
        In any order.
    most : int or ndarray of shape (n_classes,), default=None
        Keep at most so many of each class, those of the smallest keys; by default all.

    Returns
    -------
    samples : Ragged of Samples
        Of equal ones, the first, with the weight of all.
    """
    codes, values = samples.codes, samples.values
    order = np.lexsort([values.keys, codes])
    # Rows are copied once, when it is known which: they are most of what there is.
    keys = values.keys[order]
    (pairs,) = np.nonzero((np.diff(keys) == 0) & (np.diff(codes) == 0))
    is_again = np.zeros(len(order), bool)
    rows, others = (values.rows[order[pairs + i]] for i in range(2))
    is_again[pairs + 1] = (rows == others).all(axis=1)
    (first,) = np.nonzero(~is_again)
    if is_again.any():
        weights = values.weights.copy()
        weights[order[first]] = np.add.reduceat(weights[order], first)
        values = values._replace(weights=weights)
    offsets = np.searchsorted(first, samples.offsets)
    if most is not None:
        sizes = np.minimum(np.diff(offsets), most)
        first = first[places_from(offsets[:-1], sizes)]
        offsets = offsets_of(sizes)
    return Ragged(take(values, order[first]), offsets)


def take(column, classes):
    """Take some classes of a column: an array, `Ragged`, a tuple of columns, None.

    So some elements are taken of a record, too, whose arrays have an entry for each.
    """
    if column is None:
        return None
    if isinstance(column, np.ndarray):
        return column[classes]
    if isinstance(column, Ragged):
        return column.take(classes)
    return _like(column, (take(part, classes) for part in column))


def joined(columns):
    """Join columns of one kind, one after the other; None if one of them is None.

    Of parts of one array that follow each other, that is a view, not a copy.
    """
    columns = list(columns)
    first = columns[0]
    if len(columns) == 1:
        return first
    if any(column is None for column in columns):
        return None
    if isinstance(first, np.ndarray):
        return _concatenated(columns)
    if isinstance(first, Ragged):
        return Ragged(
            joined(column.values for column in columns),
            offsets_of(np.concatenate([column.sizes for column in columns])),
        )
    return _like(first, map(joined, zip(*columns, strict=True)))


def _concatenated(arrays):
    """Concatenate arrays; of parts of one array that follow each other, a view."""
    parts = [array for array in arrays if len(array)]
    if not parts or not _is_part(parts[0], parts[0].base):
        return np.concatenate(arrays)
    whole = parts[0].base
    row_bytes = whole[:1].nbytes
    first = stop = (_address(parts[0]) - _address(whole)) // row_bytes
    for part in parts:
        is_next = _address(part) == _address(whole) + stop * row_bytes
        if not (is_next and _is_part(part, whole)):
            return np.concatenate(arrays)
        stop += len(part)
    return whole[first:stop]


def _is_part(array, whole):
    """Tell whether an array is some consecutive rows of another one."""
    return (
        type(whole) is np.ndarray
        and array.base is whole
        and array.flags.c_contiguous
        and whole.flags.c_contiguous
        and array.dtype == whole.dtype
        and array.ndim == whole.ndim
        and array.shape[1:] == whole.shape[1:]
    )


def _address(array):
    return array.__array_interface__["data"][0]


def as_slice(places):
    """Turn consecutive places into a slice, by which views are taken, not copies."""
    if len(places) and np.all(np.diff(places) == 1):
        return slice(places[0], places[-1] + 1)
    return places


def _like(columns, parts):
    """Make a tuple of columns of the type of another one."""
    return type(columns)._make(parts) if hasattr(columns, "_make") else tuple(parts)


def n_bytes(column):
    """Count the bytes that a column takes."""
    if column is None:
        return 0
    if isinstance(column, np.ndarray):
        return column.nbytes
    if isinstance(column, Ragged):
        return column.offsets.nbytes + n_bytes(column.values)
    return sum(map(n_bytes, column))
