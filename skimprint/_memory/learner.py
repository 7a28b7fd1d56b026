"""Learn samples, class by class: from a state and more samples to the next state."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .._arrays.groups import GroupedRows, offsets_of, row_keys
from .._space.moments import MomentColumns, are_few, joined, moments_of
from .._validation import joint_label_dtype
from .columns import Ragged, Samples, n_bytes, take
from .state import BLOCK_BYTES, Block, Needs, State, as_objects, split


class Batch(NamedTuple):
    """Samples that have been checked, with their classes.

    Attributes
    ----------
    X : ndarray or DeviceArray of shape (n_samples, n_features)
        Embeddings.
    classes : ndarray of shape (n_classes,)
        The labels that occur, sorted.
    codes : ndarray of shape (n_samples,)
        The class of each sample.
    weights : ndarray of shape (n_samples,) or None
        Their weights.
    """

    X: Any
    classes: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None = None

    def joins(self, other):
        """Tell whether both can be joined as if they had come together."""
        kinds = [
            (
                batch.X.dtype,
                "U" if batch.classes.dtype.kind == "U" else batch.classes.dtype,
                batch.weights is None,
            )
            for batch in (self, other)
        ]
        return kinds[0] == kinds[1]

    @property
    def absent_labels(self):
        """The classes of no weight: list of label."""
        return self.classes[self.is_absent].tolist()

    @property
    def is_absent(self):
        """Which classes have no weight: ndarray of bool, of shape (n_classes,)."""
        if self.weights is None:
            return np.zeros(len(self.classes), bool)
        return np.bincount(self.codes, self.weights, len(self.classes)) == 0

    def copies(self):
        """Copy the arrays, whatever becomes of them."""
        weights = None if self.weights is None else self.weights.copy()
        return Batch(self.X.copy(), self.classes, self.codes, weights)


def batches_joined(batches):
    """Join batches as if they had come together."""
    X, classes, codes, weights = zip(*batches, strict=True)
    y = [some[numbers] for some, numbers in zip(classes, codes, strict=True)]
    return Batch(
        np.concatenate(X),
        *np.unique(np.concatenate(y), return_inverse=True),
        None if weights[0] is None else np.concatenate(weights),
    )


def learn(plan, state, batch, *, n_jobs=None, progress=None):
    """Learn samples of new and known classes.

    Parameters
    ----------
    plan : Plan
        How to learn.
    state : State
        What is known.
    batch : Batch
        The samples.
    n_jobs : int, default=None
        Number of threads across classes.
    progress : callable, default=None
        Called, from any thread, with the number of classes that are done since.

    Returns
    -------
    state : State
        What is known after.
    """
    labels, support = batch.classes.tolist(), _grouped(plan, batch, state.dtype)
    absent = batch.is_absent
    is_known = np.array([label in state.places for label in labels]) & ~absent
    is_new = ~is_known & ~absent
    options = {"seed": plan.seed, "n_jobs": n_jobs, "progress": progress}
    known, new = [], []
    if is_new.any():
        some, rows = _only(labels, support, is_new)
        imprint = plan.generator.learn_each(rows, [plan.numbers(some)], **options)[0]
        blocks = _blocks(plan.needs, some, rows, imprint)
        new += [block.moved(state.n_samples) for block in blocks]
    if is_known.any():
        known, rows = _only(labels, support, is_known)
        before = state.gather(known)
        training_rows = state.n_samples + np.arange(len(batch.X))
        imprint = plan.generator.update(
            before.imprint, rows, training_rows, plan.numbers(known), **options
        )
        new += _blocks(
            plan.needs, known, rows, imprint, before, first_row=state.n_samples
        )
    return state.changed(
        known,
        new,
        label_dtype=common_label_dtype(state, labels, batch.classes.dtype),
        dtype=support.dtype,
        n_features=support.n_features,
        n_samples=state.n_samples + len(batch.X),
        absent=state.absent.union(batch.absent_labels),
    )


def learn_each(plans, batch, *, n_jobs=None):
    """Learn samples from nothing by plans that differ in ``n_proxies`` alone.

    Parameters
    ----------
    plans : list of Plan
        How to learn.
    batch, n_jobs
        As for `learn`.

    Returns
    -------
    states : list of State
        What `learn` returns for each; but what they have in common is done once.
    """
    labels, support = batch.classes.tolist(), _grouped(plans[0], batch)
    labels, support = _only(labels, support, ~batch.is_absent)
    imprints = plans[0].generator.learn_each(
        support,
        [plan.numbers(labels) for plan in plans],
        seed=plans[0].seed,
        n_jobs=n_jobs,
    )
    nothing = State(
        label_dtype=batch.classes.dtype,
        dtype=support.dtype,
        n_features=support.n_features,
        n_samples=len(batch.X),
        absent=frozenset(batch.absent_labels),
    )
    states = []
    for imprint in imprints:
        if not states:
            blocks = first = _blocks(plans[0].needs, labels, support, imprint)
        else:
            blocks = _with_imprint(first, imprint)
        states.append(nothing.changed(new=blocks))
    return states


def merge(plan, mine, theirs, *, n_jobs=None):
    """Join what two classifiers know.

    Parameters
    ----------
    plan : Plan
        How the first learns. It says what both have kept.
    mine, theirs : State
        What each knows. Training rows of the second are numbered after the first's.
    n_jobs : int, default=None
        Number of threads across classes.

    Returns
    -------
    state : State
        What is known together.
    """
    new, replaced, shared = [], [], []
    for block in theirs.blocks:
        taken = []
        for place, label in enumerate(block.labels.tolist()):
            if label not in mine.places:
                taken.append(place)
            elif block.is_head[place]:
                pass  # both started from this head: it is here, with all that came
            elif _is_head(mine, label):
                taken.append(place)
                replaced.append(label)
            else:
                shared.append(label)
        if taken:
            part = block if len(taken) == len(block.labels) else take(block, taken)
            new.append(_keep(plan.needs, part.moved(mine.n_samples)))
    if shared:
        before = _keep(plan.needs, mine.gather(shared))
        others = theirs.gather(shared).moved(mine.n_samples)
        points = plan.generator.points(others.imprint)
        imprint = plan.generator.update(
            before.imprint,
            points.grouped(),
            points.values.indices,
            plan.numbers(shared),
            seed=plan.seed,
            n_jobs=n_jobs,
        )
        new += _blocks(plan.needs, shared, others, imprint, before)
    kept = [_keep(plan.needs, block) for block in mine.blocks]
    return mine.with_blocks(kept).changed(
        replaced + shared,
        new,
        label_dtype=common_label_dtype(mine, list(theirs.places), theirs.label_dtype),
        dtype=np.result_type(mine.dtype, theirs.dtype),
        n_samples=mine.n_samples + theirs.n_samples,
        absent=mine.absent | theirs.absent,
    )


def common_label_dtype(state, labels, dtype):
    """Find a dtype for the labels that are known and for more of them.

    Parameters
    ----------
    state : State
        Knows some labels.
    labels : list
        More labels.
    dtype : dtype
        Of the array that they come from.

    Returns
    -------
    dtype : dtype
        That holds both; see `joint_label_dtype`.
    """
    known = [*state.places, *state.absent]
    if not known or dtype == state.label_dtype:
        return dtype
    return joint_label_dtype(state.label_dtype, known, dtype, labels)


def _grouped(plan, batch, dtype=None):
    """Group samples by class, without those of no weight, in a dtype."""
    groups = GroupedRows(
        batch.X,
        batch.codes,
        len(batch.classes),
        sample_weight=batch.weights,
        transform=plan.support_norm,
    ).without_weightless()
    groups.dtype = dtype or groups.dtype
    return groups


def _only(labels, support, chosen):
    """Take some of the classes."""
    if chosen.all():
        return labels, support
    groups = np.flatnonzero(chosen)
    return [labels[group] for group in groups], support.only(groups)


def _is_head(state, label):
    block, place = state.places[label]
    return block.is_head[place]


def _keep(needs, block):
    """Drop what is not needed, where another classifier has kept less."""
    moments = block.moments if needs.moments else None
    samples = block.samples
    if samples is not None and not needs.moments:
        everything = np.arange(len(samples))
        samples = samples.take(everything, needs.samples) if needs.samples else None
    if moments is block.moments and samples is block.samples:
        return block
    return block._replace(moments=moments, samples=samples)


def _with_imprint(blocks, imprint):
    """Replace the proxies in blocks of the same classes."""
    found, start = [], 0
    for block in blocks:
        part = np.arange(start, start + len(block.labels))
        proxies, memory = take(imprint, part)
        found.append(block._replace(proxies=proxies, memory=memory))
        start += len(part)
    return found


def _blocks(needs, labels, source, imprint, before=None, *, first_row=0):
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
    before : Block, default=None
        What was known of the classes.
    first_row : int, default=0
        The training row that the first row of the samples is.
    """
    weights = _weights(source)
    if before is not None:
        weights = before.weights + weights
    whole = Block(as_objects(labels), weights, np.zeros(len(labels), bool), *imprint)
    if needs == Needs():
        return split(whole)
    blocks, start = [], 0
    while start < len(labels):
        stop = start
        if before is None and isinstance(source, GroupedRows):
            stop = _end_of_few(needs, source, start)
        if stop > start:
            moments, samples = _statistics_of_few(needs, source, start, stop)
        else:
            found = _statistics_of_each(needs, source, before, start, first_row)
            moments, samples = zip(*found, strict=True)
            stop = start + len(found)
            if needs.moments:
                moments = MomentColumns.of(moments, samples[0].rows.dtype)
            samples = Ragged.of(samples)
        part = take(whole, np.arange(start, stop))
        if needs.moments:
            part = part._replace(moments=moments)
        blocks.append(part._replace(samples=samples))
        start = stop
    return blocks


def _end_of_few(needs, source, start):
    """Find the end of consecutive classes that are to be looked at together.

    They fill a block, and of each, all samples are kept or no moments are needed.
    """
    row_bytes = source.n_features * source.dtype.itemsize
    rows = source.offsets[start] + max(BLOCK_BYTES // row_bytes, 1)
    stop = int(np.searchsorted(source.offsets, rows, side="right")) - 1
    if needs.moments:
        (many,) = np.nonzero(~are_few(source.sizes[start:stop], source.n_features))
        stop = min(stop, start + many.min(initial=stop))
    return stop


def _statistics_of_few(needs, source, start, stop):
    """Find the moments (or None) and the samples of consecutive classes."""
    index = source.order[source.offsets[start] : source.offsets[stop]]
    codes = np.repeat(np.arange(stop - start), source.sizes[start:stop])
    rows = source.take(index)
    weights = np.ones(len(rows))
    if source.sample_weight is not None:
        weights = source.sample_weight[index].astype(float)
    keys = row_keys(rows, seed=0)
    order = np.lexsort([keys, codes])
    samples = Ragged(
        Samples(rows[order], weights[order], keys[order], index[order]),
        offsets_of(source.sizes[start:stop]),
    )
    if needs.moments:
        return MomentColumns.of_few(samples), samples
    return None, samples.take(np.arange(stop - start), needs.samples)


def _statistics_of_each(needs, source, before, start, first_row):
    """Find the moments and the samples of some classes, one by one: a block of them."""
    found, size, n_classes = [], 0, len(_weights(source))
    while size <= BLOCK_BYTES and start + len(found) < n_classes:
        place = start + len(found)
        one = _statistics_of(needs, source, place, first_row)
        if before is not None:
            one = _joined(needs, _statistics_of(needs, before, place), one)
        found.append(one)
        moments, samples = one
        size += n_bytes(samples)
        if needs.moments and moments.triangle is not None:
            size += moments.triangle.nbytes
    return found


def _weights(source):
    """Sum the weights of the samples of each class."""
    if isinstance(source, Block):
        return source.weights
    if source.sample_weight is None:
        return source.sizes.astype(float)
    weights = source.sample_weight[source.order]
    return np.array([weights[a:b].sum() for a, b in pairwise(source.offsets)])


def _statistics_of(needs, source, place, first_row=0):
    """Find the moments (or None) and the samples of one class."""
    if isinstance(source, Block):
        samples = source.samples.one(place)
        if not needs.moments:
            return None, samples
        return source.moments.one(place, source.samples), samples
    rows, weights = source.rows(place), source.weights(place)
    few = needs.moments and are_few(*rows.shape)
    samples = Samples.of(
        rows,
        weights,
        len(rows) if few else needs.samples,
        source.indices(place) + first_row,
    )
    if few:
        rows, weights = samples.rows, samples.weights
    return moments_of(rows, weights) if needs.moments else None, samples


def _joined(needs, first, second):
    """Join moments and samples of one class."""
    (moments, some), (more_moments, more) = first, second
    samples = some.joined(more)
    if not needs.moments:
        return None, samples.smallest(needs.samples)
    # A class of a head has no samples of its own.
    if moments.weight == 0:
        return second
    if more_moments.weight == 0:
        return first
    if moments.rows is not None and more_moments.rows is not None:
        if are_few(*samples.rows.shape):
            return moments_of(samples.rows, samples.weights), samples
        moments = moments_of(
            np.concatenate([some.rows, more.rows]),
            np.concatenate([some.weights, more.weights]),
        )
    else:
        moments = joined(moments, more_moments)
    return moments, samples.smallest(needs.samples)
