"""What a classifier knows, in blocks of columns that are replaced, never changed.

`learner.py` makes the next state of one; a `Space` and a `Head` are made of it.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np

from .._arrays.threads import cached_property
from .columns import Ragged, as_slice, joined, n_bytes, take

# Blocks of at most this size are joined. So a class is added, learnt again or forgotten
# at a cost that does not depend on how many are known: one block is written again.
BLOCK_BYTES = 2**22


class Block(NamedTuple):
    """What is known of some classes, in columns.

    Attributes
    ----------
    labels : ndarray of object, of shape (n_classes,)
        The classes.
    weights : ndarray of shape (n_classes,)
        Number of samples of each, or the sum of their weights.
    n_samples : ndarray of int, of shape (n_classes,)
        Number of samples of each, whatever their weights; a row of a head is one.
    is_head : ndarray of bool, of shape (n_classes,)
        Whether a class is as it came from a linear head.
    is_signed : ndarray of bool, of shape (n_classes,)
        Whether a sample of each has a negative value, if a norm is chosen by that.
    proxies : Ragged of Points
        The proxies, before their normalisation.
    memory : Ragged of Points
        What stands for the samples when more is learnt, where proxies are not enough;
        no points for a class whose proxies are.
    moments : MomentColumns or None
        Kept where something in the classifier needs them.
    samples : Ragged of Samples or None
        Kept where something is chosen by leaving samples out, or a scatter follows from
        them; `None` where nothing is needed besides what a generator made.
    """

    labels: np.ndarray
    weights: np.ndarray
    n_samples: np.ndarray
    is_head: np.ndarray
    is_signed: np.ndarray
    proxies: Ragged
    memory: Ragged
    moments: Any = None
    samples: Ragged | None = None

    def moved(self, n_rows):
        """Number the training rows after so many others."""
        return self.renumbered(lambda rows: rows + n_rows)

    def renumbered(self, number):
        """Number the training rows by a function of their numbers; -1 stays."""

        def changed(column):
            if column is None:
                return None
            old = column.values.indices
            return column.with_values(indices=np.where(old < 0, -1, number(old)))

        names = "proxies", "memory", "samples"
        return self._replace(**{name: changed(getattr(self, name)) for name in names})

    @property
    def imprint(self):
        """What a generator made of the classes."""
        return Imprint(self.proxies, self.memory)


class Imprint(NamedTuple):
    """What a generator makes of classes: their proxies, and what it has to remember.

    Parameters
    ----------
    proxies : Ragged of Points
        The proxies of each class; none where they are to be generated when first
        needed.
    memory : Ragged of Points
        The points that stand for the samples of a class besides its proxies; none
        where these will do.

    See Also
    --------
    ProxyGenerator : Makes one when it learns.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint.generation import GroupedRows, Imprint, KMeansProxies
    >>> support = GroupedRows(np.eye(4), np.array([0, 0, 0, 1]), 2)
    >>> (imprint,) = KMeansProxies().learn_each(support, [np.array([2, 2])])
    >>> isinstance(imprint, Imprint), imprint.proxies.sizes, imprint.memory.sizes
    (True, array([2, 1]), array([3, 0]))
    """

    proxies: Ragged
    memory: Ragged


class Needs(NamedTuple):
    """What must be remembered of each class besides what its generator remembers.

    Parameters
    ----------
    moments : {0, 1, 2}, default=0
        Up to what order moments of the samples are needed: 1 for class means, 2 for
        scatters, too.
    samples : int, default=0
        How many samples of each class are needed, at most.
    scatter_bytes : int, default=0
        How many bytes the scatters of single classes may take, which forgetting them
        needs: only the sum of larger ones is kept.

    See Also
    --------
    ProxyGenerator : Has needs, for what it combines.

    Examples
    --------
    >>> from skimprint.generation import Needs
    >>> Needs(moments=2) | Needs(samples=200)
    Needs(moments=2, samples=200, scatter_bytes=0)
    """

    moments: Literal[0, 1, 2] = 0
    samples: int = 0
    scatter_bytes: int = 0

    def __or__(self, other: "Needs") -> "Needs":
        """Combine the needs of two parts."""
        return Needs(*map(max, self, other))

    def __and__(self, other: "Needs") -> "Needs":
        """Find what two parts both need."""
        return Needs(*map(min, self, other))


def split(block):
    """Split a block where it is larger than blocks are to be.

    The parts are views of its arrays, for copies would take a seventh of a fit of few
    samples. These arrays are freed when no part of them is in use any more.
    """
    if n_bytes(block[1:]) <= BLOCK_BYTES:
        return [block]
    columns = [column for column in block[1:] if isinstance(column, Ragged)]
    ends = sum(
        column.offsets[1:] * (n_bytes(column.values) // max(1, column.offsets[-1]))
        for column in columns
    )
    cuts = np.flatnonzero(np.diff((ends - ends[0]) // BLOCK_BYTES)) + 1
    bounds = [0, *cuts.tolist(), len(ends)]
    return [take(block, slice(*part)) for part in pairwise(bounds)]


def joins(before, block):
    """Tell whether a block is to be joined with the one before it."""
    size = n_bytes(block[1:])
    return n_bytes(before[1:]) <= min(size, BLOCK_BYTES - size)


@dataclass(frozen=True)
class State:
    """What is known of all classes.

    Parameters
    ----------
    places : dict of {label: tuple (Block, int)}
        The block that a class is in, and its place there.
    blocks : tuple of Block
        All blocks, the older and larger ones first.
    label_dtype, dtype : dtype
        Of the labels and of the proxies.
    n_features : int
        Number of features.
    n_samples : int
        Number of training rows so far.
    absent : frozenset of label
        Classes of which only samples without weight have been seen.
    pooled : ndarray of shape (n_features * (n_features + 1) / 2,) or None
        Upper triangle of the sum of the scatters of all classes, where they are not
        kept one by one: then no class can be forgotten.
    """

    places: dict[Hashable, tuple[Block, int]] = field(default_factory=dict)
    blocks: tuple[Block, ...] = ()
    label_dtype: np.dtype | None = None
    dtype: np.dtype | None = None
    n_features: int | None = None
    n_samples: int = 0
    absent: frozenset = frozenset()
    pooled: np.ndarray | None = None

    def __getstate__(self):
        # Places follow from the blocks; labels are written once.
        return {k: v for k, v in vars(self).items() if k not in ("places", "order")}

    def __setstate__(self, state):
        vars(self).update(state, places=_places_in(state["blocks"]))

    def __sizeof__(self):
        """Count the arrays: dask places and spills by that."""
        return _block_bytes(self.blocks) + n_bytes(self.pooled)

    def with_blocks(self, blocks):
        """Replace the blocks, or some of them, by others of the same classes."""
        known = set(map(id, self.blocks))
        new = [block for block in blocks if id(block) not in known]
        places = self.places | _places_in(new)
        return replace(self, blocks=tuple(blocks), places=places)

    def imprint(self, labels):
        """Take what a generator made of some classes, in the order of the labels."""
        return self.gather(labels, lambda block: block.imprint)

    def gather(self, labels, get=lambda block: block):
        """Take what is known of some classes, in the order of the labels.

        Parameters
        ----------
        labels : list
            The classes.
        get : callable
            From a block to the column that is wanted; by default the block itself.

        Returns
        -------
        column : column
            Views where one block has the classes one after the other.
        """
        by_block: dict[int, list[int]] = {}
        for i, label in enumerate(labels):
            by_block.setdefault(id(self.places[label][0]), []).append(i)
        found = []
        for numbers in by_block.values():
            block = self.places[labels[numbers[0]]][0]
            places = np.array([self.places[labels[i]][1] for i in numbers])
            found.append(take(get(block), as_slice(places)))
        # What was found block by block, in the order of the labels.
        order = np.argsort(np.concatenate(list(by_block.values())), kind="stable")
        return take(joined(found), as_slice(order))

    def renumbered(self, rows, *, since=0):
        """Number training rows again, from one of them on.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            The number that each of them gets after ``since``.
        since : int, default=0
            The first of them. Those before keep their numbers.

        Returns
        -------
        state : State
        """

        def number(old):
            return np.where(old < since, old, since + rows[np.maximum(old - since, 0)])

        return self.with_blocks([block.renumbered(number) for block in self.blocks])

    def n_points(self, labels):
        """Count the proxies of some classes and what is remembered of each.

        Parameters
        ----------
        labels : list
            The classes.

        Returns
        -------
        n_points : ndarray of shape (n_classes,)
        """
        return self.gather(labels, lambda b: b.proxies.sizes + b.memory.sizes)

    def block_bytes(self, labels):
        """Count the bytes of the blocks that some classes are in."""
        blocks = {id(block): block for block, _ in map(self.places.get, labels)}
        return _block_bytes(blocks.values())

    @property
    def weight(self):
        """Weight of the samples of all classes."""
        return float(sum(block.weights.sum() for block in self.blocks))

    @property
    def is_nonnegative(self):
        """Whether no sample of any class has a negative value."""
        return not any(block.is_signed.any() for block in self.blocks)

    @cached_property
    def order(self):
        """Where each class in sorted order is among those of all blocks."""
        labels = np.concatenate([block.labels for block in self.blocks])
        return np.argsort(labels.astype(self.label_dtype), kind="stable")

    def column(self, get):
        """Join a column of all blocks, the classes in sorted order.

        Parameters
        ----------
        get : callable
            From a block to its column.

        Returns
        -------
        column : column
            Of all classes. Views where one block has them in this order.
        """
        column = joined(get(block) for block in self.blocks)
        return take(column, as_slice(self.order))

    def changed(self, gone=(), new=(), **fields):
        """Derive a state with some classes gone, replaced or joined.

        Parameters
        ----------
        gone : iterable of label
            Classes to leave out. Blocks that they are in are written again.
        new : list of Block
            More classes, or what is known now of some that are gone.
        **fields : dict
            Other attributes of the state.

        Returns
        -------
        state : State
        """
        places = dict(self.places)
        gone_of: dict[int, set[int]] = {}
        absent = set(fields.pop("absent", self.absent))
        for label in gone:
            absent.discard(label)
            if label in places:  # else it is of no weight
                block, place = places.pop(label)
                gone_of.setdefault(id(block), set()).add(place)
        blocks: list[Block] = []
        for block in self.blocks:
            lost = gone_of.get(id(block))
            if lost is not None:
                kept = np.setdiff1d(np.arange(len(block.labels)), list(lost))
                if len(kept) == 0:
                    continue
                block = take(block, kept)
                places.update(_places_in([block]))
            blocks.append(block)
        for block in new:
            # Small blocks are joined as the digits of a binary counter are carried: a
            # class is copied as often as the number of classes can be halved.
            while blocks and joins(blocks[-1], block):
                block = joined([blocks.pop(), block])
            blocks.append(block)
            places.update(_places_in([block]))
        fields |= {"blocks": tuple(blocks), "absent": frozenset(absent - places.keys())}
        return replace(self, places=places, **fields)


def _block_bytes(blocks):
    """Count the bytes of blocks, but for their labels."""
    return sum(n_bytes(block[1:]) for block in blocks)


def _places_in(blocks):
    """Say where the classes of some blocks are."""
    return {
        label: (block, place)
        for block in blocks
        for place, label in enumerate(block.labels.tolist())
    }
