"""Make blocks of what is remembered of classes: proxies, moments and samples.

`learn` and `merge` call `blocks_of` when a generator has made the proxies.
"""

from itertools import pairwise

import numpy as np

from .._arrays.groups import late_rows, offsets_of, row_keys
from .._arrays.threads import run_blocks
from .._space.moments import MomentColumns, are_few, joined_moments, moments_of
from .._validation import as_objects
from .columns import Ragged, Samples, n_bytes, sorted_by_key, take
from .state import BLOCK_BYTES, Block, split

# Rows and scatters of classes that are looked at side by side.
_AHEAD_BYTES = 2**26


def blocks_of(
    needs,
    labels,
    source,
    imprint,
    before=None,
    training_rows=None,
    *,
    signed=(),
    pool=None,
):
    """Make blocks of what a generator made of classes, and of their statistics.

    Parameters
    ----------
    needs : Needs
        What to remember.
    labels : list
        The classes.
    source : GroupedRows or Block
        Their samples, or what another classifier knows of them.
    imprint : Imprint
        Of the generator.
    before : State, default=None
        What was known of the classes.
    training_rows : ndarray of shape (n_samples,), default=None
        The training row that each row of the source is; by default its place there.
    signed : set of label, default=()
        Classes of which a sample has a negative value; a block says so itself.
    pool : Pool, default=None
        What scatters are added to that are not kept one by one.

    Returns
    -------
    blocks : list of Block
        Of consecutive classes, in the order of the labels.
    """
    if isinstance(source, Block):
        weights, n_samples, is_signed = _totals_of(source)
    else:
        weights, n_samples = _weights(source), source.sizes
        is_signed = np.array([label in signed for label in labels], bool)
    if before is not None:
        known = before.gather(labels, _totals_of)
        weights, n_samples = known[0] + weights, known[1] + n_samples
        is_signed = known[2] | is_signed
    is_head = np.zeros(len(labels), bool)
    whole = Block(as_objects(labels), weights, n_samples, is_head, is_signed, *imprint)
    if not any(needs):
        return split(whole)
    gets_scatters = before is not None and pool is None
    found = _statistics(needs, source, len(labels), training_rows, pool, gets_scatters)
    blocks, start = [], 0
    for columns in found:
        part = slice(start, start + len(columns[1]))
        if before is not None:
            known = before.gather(
                labels[part], lambda block: (block.moments, block.samples)
            )
            columns = _joined_with_known(needs, known, columns, pool)
        moments, samples = columns
        blocks.append(take(whole, part)._replace(moments=moments, samples=samples))
        start = part.stop
    return blocks


def _totals_of(block):
    """Take what adds up over parts of the samples of each class."""
    return block.weights, block.n_samples, block.is_signed


def with_imprint(blocks, imprint):
    """Replace the proxies in blocks of the same classes."""
    found, start = [], 0
    for block in blocks:
        stop = start + len(block.labels)
        proxies, memory = take(imprint, slice(start, stop))
        found.append(block._replace(proxies=proxies, memory=memory))
        start = stop
    return found


def _statistics(needs, source, n_classes, training_rows, pool, gets_scatters):
    """Find the statistics of all classes, one block after the other.

    Classes of few samples are looked at side by side, and those of many, or what
    another classifier knows, one by one.

    Yields
    ------
    moments : MomentColumns or None
        Of consecutive classes that fill a block.
    samples : Ragged of Samples
        Of these.
    """
    ahead = {}  # statistics of classes by their places, before these have their turn

    def find(place):
        ahead[place] = _statistics_of(needs, source, place, training_rows)

    start = 0
    while start < n_classes:
        stop = _end_of_few(needs, source, start, gets_scatters)
        if stop > start:
            yield _statistics_of_few(needs, source, start, stop, training_rows, pool)
            start = stop
            continue
        found, size = [], 0
        while start < n_classes and size <= BLOCK_BYTES:
            if start not in ahead:
                run_blocks(find, _with_next(needs, source, start))
            moments, samples = ahead.pop(start)
            if pool is not None:
                moments, samples = pool.absorb(moments), samples.smallest(needs.samples)
            found.append((moments, samples))
            size += n_bytes((samples, moments and moments.triangle))
            start += 1
        moments, samples = zip(*found, strict=True)
        columns = None
        if needs.moments:
            columns = MomentColumns.of(moments, samples[0].rows.dtype)
        yield columns, Ragged.of(samples)


def _end_of_few(needs, source, start, gets_scatters):
    """Find the end of consecutive classes that are to be looked at together.

    They fill a block, and of each, all samples are kept or no moments are needed. With
    what was known of them, each may get a scatter, which takes its place in the block.
    """
    if isinstance(source, Block):
        return start  # what another classifier knows is looked at one by one
    rows = source.offsets[start] + max(BLOCK_BYTES // source.row_bytes, 1)
    stop = int(np.searchsorted(source.offsets, rows, side="right")) - 1
    if needs.moments:
        d = source.n_features
        (many,) = np.nonzero(~are_few(source.sizes[start:stop], d))
        stop = min(stop, start + many.min(initial=stop))
        if gets_scatters:
            scatter_bytes = d * (d + 1) // 2 * source.dtype.itemsize
            stop = min(stop, start + max(1, BLOCK_BYTES // scatter_bytes))
    return stop


def _statistics_of_few(needs, source, start, stop, training_rows, pool):
    """Find the moments (or None) and the samples of consecutive classes, in columns."""
    index = source.order[source.offsets[start] : source.offsets[stop]]
    rows = source.take(index)
    indices = index if training_rows is None else training_rows[index]
    samples = Samples(rows, source.weights_at(index), row_keys(rows, seed=0), indices)
    samples = Ragged(samples, offsets_of(source.sizes[start:stop]))
    if not needs.moments:
        return None, sorted_by_key(samples, needs.samples)
    samples = sorted_by_key(samples)
    moments = MomentColumns.of_few(samples, pool)
    if pool is None:  # their scatters follow from all of them
        return moments, samples
    return moments, samples.first(needs.samples)


def _with_next(needs, source, place):
    """List a class and the next ones of which scatters are to be made."""
    if isinstance(source, Block) or not (needs.moments and source.is_safe_in_threads):
        return [place]
    d = source.n_features
    few = np.flatnonzero(are_few(source.sizes[place:], d))
    rows_and_scatters = source.dtype.itemsize * d * source.sizes[place:] + 8 * d * d
    n = np.searchsorted(rows_and_scatters.cumsum(), _AHEAD_BYTES)
    return list(range(place, place + max(1, min([n, *few[:1]]))))


def _weights(source):
    """Sum the weights of the samples of each class."""
    if source.sample_weight is None:
        return source.sizes.astype(float)
    weights = source.sample_weight[source.order]
    return np.array([weights[a:b].sum() for a, b in pairwise(source.offsets)])


def _statistics_of(needs, source, place, training_rows):
    """Find the moments (or None) and the samples of one class."""
    if isinstance(source, Block):
        samples = source.samples.one(place)
        if not needs.moments:
            return None, samples
        return source.moments.one(place, source.samples), samples
    index = source.indices(place)
    few = needs.moments and are_few(len(index), source.n_features)
    rows = source.rows(place) if few else late_rows(source, place)
    weights = source.weights_at(index)
    indices = index if training_rows is None else training_rows[index]
    samples = Samples.of(rows, weights, len(rows) if few else needs.samples, indices)
    if few:
        rows, weights = samples.rows, samples.weights
    if not needs.moments:
        return None, samples
    return moments_of(rows, weights, needs.moments), samples


def _joined_with_known(needs, known, more, pool):
    """Join what was known of classes and what there is more: moments and samples."""
    (before, kept), (moments, samples) = known, more
    both = kept.followed_by(samples)
    if pool is not None or not needs.moments:
        moments = pool and pool.join_means(before, moments)
        return moments, sorted_by_key(both, needs.samples)
    both = sorted_by_key(both)
    found = [
        _joined_moments_of(before.one(i, kept), moments.one(i, samples), both.one(i))
        for i in range(len(both))
    ]
    most = np.full(len(both), needs.samples)
    most[[one.triangle is None for one in found]] = both.sizes.max()
    return MomentColumns.of(found, both.values.rows.dtype), both.first(most)


def _joined_moments_of(first, second, samples):
    """Join the moments of one class, whose samples are those of both that are kept."""
    # A class of a head has no samples of its own.
    if first.weight == 0:
        return second
    if first.rows is None or second.rows is None:
        return joined_moments(first, second)
    if are_few(*samples.rows.shape):
        return moments_of(samples.rows, samples.weights)
    return moments_of(
        np.concatenate([first.rows, second.rows]),
        np.concatenate([first.row_weights, second.row_weights]),
    )
