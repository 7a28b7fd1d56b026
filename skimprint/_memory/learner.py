"""Learn samples, class by class: from a state and more samples to the next state.

`ImprintClassifier.fit` and `classifier/_learning.py` call it, `Fitted` for samples that
have waited, and dask's workers for some of the classes.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import effective_n_jobs

from .._arrays.device import have_negative
from .._arrays.groups import GroupedRows, blocks_of_rows, offsets_of, runs_of
from .._arrays.threads import cached_property, run_tasks
from .._space.kernel_ridge import most_of_each
from .._space.moments import MomentColumns, Pool, are_few
from .._validation import as_objects, joint_label_dtype
from .blocks import blocks_of, with_imprint
from .columns import Points, Ragged, Samples, take
from .state import Block, State

# Samples and what is known of their classes that are learnt at a time; and how many
# parts that is for each thread, where threads learn side by side.
_PART_BYTES = 2**25
_PARTS_PER_THREAD = 4

# Rows whose signs are looked at together: of samples that are not sorted, the first
# tell of nearly all classes.
_SIGN_ROWS = 2**10


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples that have been checked, with their classes.

    Parameters
    ----------
    X : ndarray or DeviceArray of shape (n_samples, n_features)
        Embeddings.
    classes : ndarray of shape (n_classes,)
        The labels that occur or are expected, sorted.
    codes : ndarray of shape (n_samples,)
        The class of each sample.
    weights : ndarray of shape (n_samples,), default=None
        Their weights.
    training_rows : ndarray of shape (n_samples,), default=None
        The training row that each sample is; by default numbered on from those before.
    """

    X: Any
    classes: np.ndarray
    codes: np.ndarray
    weights: np.ndarray | None = None
    training_rows: np.ndarray | None = None

    def __sizeof__(self):
        """Count the arrays: dask places and spills by that."""
        return sum(getattr(array, "nbytes", 0) for array in vars(self).values())

    @property
    def kind(self):
        """What batches have in common that are joined as if they had come together."""
        labels = self.classes.dtype
        kind = "U" if labels.kind == "U" else labels  # text of any length
        return self.X.dtype, kind, self.weights is None

    @cached_property
    def is_absent(self):
        """Which classes have no samples or no weight: bool, of shape (n_classes,)."""
        return np.bincount(self.codes, self.weights, len(self.classes)) == 0

    @cached_property
    def signed_labels(self):
        """The classes of which a sample of some weight has a negative value: list."""
        is_signed = np.zeros(len(self.classes), bool)
        for part in blocks_of_rows(len(self.X), _SIGN_ROWS):
            codes = self.codes[part]
            if is_signed[codes].all():
                continue
            decides = have_negative(self.X, part)
            if self.weights is not None:
                decides &= self.weights[part] > 0
            is_signed[codes[decides]] = True
        return self.classes[is_signed].tolist()


def batches_joined(batches):
    """Join batches as if they had come together."""
    classes = np.unique(np.concatenate([batch.classes for batch in batches]))
    codes = [np.searchsorted(classes, each.classes)[each.codes] for each in batches]
    weights = None
    if batches[0].weights is not None:
        weights = np.concatenate([batch.weights for batch in batches])
    X = np.concatenate([batch.X for batch in batches])
    return Batch(X, classes, np.concatenate(codes), weights)


def copied_parts(plan, state, batch, *, n_jobs=None):
    """Copy samples of known classes, in parts that may be learnt one after the other.

    Parameters
    ----------
    plan, state, n_jobs
        As for `learn`.
    batch : Batch
        The samples, without weights.

    Returns
    -------
    parts : tuple of Batch
        Each of different classes. Together they give what the batch gives, to the bit.
    """
    support = _grouped(plan, batch, state.dtype)
    copies = []
    labels = batch.classes.tolist()
    for parts in _parts_of_more(plan, state, labels, support, n_jobs):
        run = slice(parts[0].start, parts[-1].stop)
        order, sizes = support.only(run).order, support.sizes[run]
        codes = np.repeat(np.arange(len(sizes)), sizes)
        X, classes = batch.X[order], batch.classes[run]
        copies.append(Batch(X, classes, codes, training_rows=state.n_samples + order))
    return tuple(copies)


def learn(plan, state, batch, *, n_jobs=None, progress=None, imprint=None):
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
    imprint : Imprint, default=None
        Of the new classes, if it has been generated before.

    Returns
    -------
    state : State
        What is known after.
    """
    classes, support = batch.classes, _grouped(plan, batch, state.dtype)
    labels, support = _only(classes.tolist(), support, ~batch.is_absent)
    is_known = np.array([label in state.places for label in labels], bool)
    needs, state, pool = _start_pool(plan.needs, state, labels, support, is_known)
    signed = set(batch.signed_labels if plan.chooses_norm else ())
    options = {"seed": plan.seed, "n_jobs": n_jobs, "progress": progress}
    known, blocks = [], []
    if not is_known.all():
        new, of_new = _only(labels, support, ~is_known)
        if imprint is None:
            numbers = [plan.n_proxies_of(new)]
            (imprint,) = plan.generator.learn_each(of_new, numbers, **options)
        found = blocks_of(needs, new, of_new, imprint, signed=signed, pool=pool)
        blocks += [block.moved(state.n_samples) for block in found]
    if is_known.any():
        known, of_known = _only(labels, support, is_known)
        rows = batch.training_rows  # as `ProxyGenerator.update` has them
        if rows is None:
            rows = state.n_samples + np.arange(len(batch.X))

        def learn_part(part, own_pool):
            few, of_few = known[part], of_known.only(part)
            numbers, before = plan.n_proxies_of(few), state.imprint(few)
            after = plan.generator.update(before, of_few, rows, numbers, **options)
            return blocks_of(
                needs, few, of_few, after, state, rows, signed=signed, pool=own_pool
            )

        parts = _parts_of_more(plan, state, known, of_known, n_jobs)
        blocks += _blocks_of_parts(learn_part, parts, pool, n_jobs)
    after = state.changed(
        known,
        blocks,
        label_dtype=common_label_dtype(state, classes.tolist(), classes.dtype),
        dtype=support.dtype,
        n_features=support.n_features,
        n_samples=state.n_samples + len(batch.X),
        absent=state.absent.union(classes[batch.is_absent].tolist()),
        pooled=pool and pool.triangle,
    )
    return pool_large_scatters(plan.needs, after)


def block_of_head(plan, labels, weight):
    """Make a block of the classes of a linear classifier: one proxy per class.

    Parameters
    ----------
    plan : Plan
        How to learn.
    labels : list
        Of the rows.
    weight : ndarray of shape (n_classes, n_features)
        The weights. Each row counts as one sample.

    Returns
    -------
    block : Block
    """
    n, needs = len(labels), plan.needs
    support = GroupedRows(weight, np.arange(n), n, transform=plan.support_norm)
    rows, none = support.take(support.order), np.zeros(n + 1, np.intp)
    points = Points(rows, np.ones(n), np.full(n, -1), np.zeros(n))
    moments = None
    if needs.moments:  # else rows are not copied in float64
        moments = MomentColumns.of_head(rows).up_to(needs.moments)
    return Block(
        labels=as_objects(labels),
        weights=np.ones(n),
        n_samples=np.ones(n, np.intp),
        is_head=np.ones(n, bool),
        is_signed=rows.min(axis=1) < 0,
        proxies=Ragged(points, np.arange(n + 1)),
        memory=Ragged(take(points, slice(0)), none),
        moments=moments,
        samples=Ragged(Samples.of(rows[:0]), none) if any(needs) else None,
    )


def learn_each(plans, batch):
    """Learn samples from nothing by plans that differ in ``n_proxies`` alone.

    Parameters
    ----------
    plans : list of Plan
        How to learn.
    batch
        As for `learn`.

    Returns
    -------
    states : list of State
        What `learn` returns for each; but what they have in common is done once.
    """
    plan, labels, support = plans[0], batch.classes.tolist(), _grouped(plans[0], batch)
    labels, support = _only(labels, support, ~batch.is_absent)
    numbers = [plan.n_proxies_of(labels) for plan in plans]
    imprints = plan.generator.learn_each(support, numbers, seed=plan.seed)
    first = learn(plan, State(), batch, imprint=imprints[0])
    return [
        first.with_blocks(with_imprint(first.blocks, imprint)) for imprint in imprints
    ]


def with_all_proxies(plan, state, *, n_jobs=None):
    """Generate the proxies that have waited until they are needed.

    Parameters
    ----------
    plan : Plan
        How to learn.
    state : State
        What is known. Points are remembered of each class that has no proxies.
    n_jobs : int, default=None
        Number of threads across classes.

    Returns
    -------
    state : State
        What is known, with proxies of all classes.
    """
    waiting = [np.flatnonzero(block.proxies.sizes == 0) for block in state.blocks]
    if not any(map(len, waiting)):
        return state
    blocks = []
    for block, places in zip(state.blocks, waiting, strict=True):
        if len(places):
            found = plan.generator.generate_of(
                block.memory.take(places),
                plan.n_proxies_of(block.labels[places].tolist()),
                seed=plan.seed,
                n_jobs=n_jobs,
            )
            block = block._replace(proxies=block.proxies.replaced(places, found))
        blocks.append(block)
    return state.with_blocks(blocks)


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
    needs, pool = plan.needs, None
    if needs.moments < 2:
        pool = Pool() if needs.moments else None
    elif mine.pooled is not None or theirs.pooled is not None:
        mine, theirs = pool_scatters(needs, mine), pool_scatters(needs, theirs)
        needs = _of_pooled(needs, len(mine.places.keys() | theirs.places.keys()))
        pool = Pool(mine.pooled + theirs.pooled)
    blocks, replaced, shared = [], [], []
    for block in theirs.blocks:
        taken = []
        for place, label in enumerate(block.labels.tolist()):
            here, its_place = mine.places.get(label, (None, None))
            if here is None:
                taken.append(place)
            elif block.is_head[place]:
                pass  # both started from this head: it is here, with all that came
            elif here.is_head[its_place]:
                taken.append(place)
                replaced.append(label)
            else:
                shared.append(label)
        if taken:
            part = block if len(taken) == len(block.labels) else take(block, taken)
            blocks.append(_keep(needs, part.moved(mine.n_samples)))
    if shared:

        def join_part(part, own_pool):
            few = shared[part]
            others = theirs.gather(few).moved(mine.n_samples)
            points = plan.generator.points(others.imprint)
            imprint = plan.generator.update(
                mine.imprint(few),
                points.grouped(),
                points.values.indices,
                plan.n_proxies_of(few),
                seed=plan.seed,
                n_jobs=n_jobs,
            )
            return blocks_of(needs, few, others, imprint, mine, pool=own_pool)

        sizes = mine.n_points(shared) + theirs.n_points(shared)
        # Beside a sum they are few, and it rounds by how they come.
        if pool is None or pool.triangle is None:
            sizes += theirs.gather(shared, _n_rows_of_statistics)
        row_bytes = mine.n_features * mine.dtype.itemsize
        parts = _parts(sizes, row_bytes, n_jobs if plan.generator.waits else 0)
        blocks += _blocks_of_parts(join_part, parts, pool, n_jobs)
    kept = [_keep(needs, block) for block in mine.blocks]
    labels = [*theirs.places, *theirs.absent]
    after = mine.with_blocks(kept).changed(
        replaced + shared,
        blocks,
        label_dtype=common_label_dtype(mine, labels, theirs.label_dtype),
        dtype=np.result_type(mine.dtype, theirs.dtype),
        n_samples=mine.n_samples + theirs.n_samples,
        absent=mine.absent | theirs.absent,
        pooled=pool and pool.triangle,
    )
    return pool_large_scatters(needs, after)


def renormalized(plan, state, norm, *, n_jobs=None):
    """Learn again what is known, from samples that are normalised in another way.

    Parameters
    ----------
    plan : Plan
        How to learn.
    state : State
        What is known.
    norm : Norm
        That of the samples so far. It loses their lengths, as that of the plan does.
    n_jobs : int, default=None
        Number of threads across classes.

    Returns
    -------
    state : State or None
        What is known of the same samples as after one `learn`, up to rounding; training
        rows keep their numbers. None if not all samples of all classes are kept.
    """
    after = replace(state, places={}, blocks=(), n_samples=0, pooled=None)
    if not state.places:
        return replace(after, n_samples=state.n_samples)
    block = state.column(lambda block: block)
    found = _all_samples(plan, block)
    if found is None:
        return None
    from_head = block.is_head[found.codes]
    points = found.values._replace(vectors=norm.undone(found.values.vectors))
    if from_head.any():
        labels = block.labels[block.is_head].tolist()
        rows = points.vectors[from_head].astype(state.dtype)
        after = after.changed(new=[block_of_head(plan, labels, rows)])
    order = np.argsort(points.indices, kind="stable")[from_head.sum() :]
    if len(order):
        vectors, counts, indices, _ = take(points, order)
        classes, codes = np.unique(found.codes[order], return_inverse=True)
        classes = block.labels.astype(state.label_dtype)[classes]
        weights = None if np.all(counts == 1) else counts
        batch = Batch(vectors, classes, codes, weights)
        after = learn(plan, after, batch, n_jobs=n_jobs).renumbered(indices)
    return replace(after, n_samples=state.n_samples)


def _all_samples(plan, block):
    """Find all samples of classes, rows of a head too, as points; None if not kept.

    They are the points of the generator, as long as there is one for each, or else the
    samples to be left out.
    """
    found = plan.generator.points(block.imprint)
    is_whole = found.sizes == block.n_samples
    if block.samples is not None:
        rows, weights, _, indices = block.samples.values
        kept = Points(rows, weights, indices, np.zeros(len(rows)))
        # Of equal samples, one is kept, with the weight of all.
        sums = np.bincount(block.samples.codes, weights, len(block.labels))
        has_all = np.isclose(sums, block.weights, rtol=1e-12, atol=0)
        has_each = block.samples.sizes == block.n_samples
        (better,) = np.nonzero(np.where(is_whole, has_each, has_all))
        found = found.replaced(better, Ragged(kept, block.samples.offsets).take(better))
        is_whole[better] = True
    is_sample = (found.values.indices >= 0) | block.is_head[found.codes]
    return found if is_whole.all() and is_sample.all() else None


def united(needs, state, parts, label_dtype, n_samples):
    """Join what has been learnt of different classes in different places.

    Parameters
    ----------
    needs : Needs
        What to remember.
    state : State
        What was known before.
    parts : list of State
        What is known now of those classes of which there were more samples; of the sum
        of scatters, what has come to it. Training rows are numbered as those of all.
    label_dtype : dtype
        Of the labels of all.
    n_samples : int
        Number of training rows of all.

    Returns
    -------
    state : State
        What is known together.
    """
    if any(part.pooled is not None for part in parts):
        state = pool_scatters(needs, replace(state, n_features=parts[0].n_features))
        parts = [pool_scatters(needs, part) for part in parts]
        total = state.pooled + sum(part.pooled for part in parts)
        state = replace(state, pooled=total)
    after = state.changed(
        [label for part in parts for label in part.places if label in state.places],
        [block for part in parts for block in part.blocks],
        label_dtype=label_dtype,
        dtype=np.result_type(*(part.dtype for part in parts)),
        n_features=parts[0].n_features,
        n_samples=n_samples,
        absent=state.absent.union(*(part.absent for part in parts)),
    )
    return pool_large_scatters(needs, after)


def pool_large_scatters(needs, state):
    """Keep only the sum of the scatters of all classes where they are too large."""
    n_scatters = sum(_n_scatters(block) for block in state.blocks)
    if _are_too_large(needs, n_scatters, state.n_features, state.dtype):
        return pool_scatters(needs, state)
    return state


def pool_scatters(needs, state):
    """Keep only the sum of the scatters of all classes."""
    if state.pooled is not None:
        return state
    needs = _of_pooled(needs, len(state.places))
    pool, blocks = Pool.empty(state.n_features), []
    for block in state.blocks:
        moments = pool.absorb_columns(block.moments, block.samples)
        samples = block.samples.first(needs.samples)
        blocks.append(block._replace(moments=moments, samples=samples))
    return replace(state.with_blocks(blocks), pooled=pool.triangle)


def _start_pool(needs, state, labels, support, is_known):
    """Sum up scatters at once where there will be too many.

    Parameters
    ----------
    needs : Needs
        Say how large they may be.
    state : State
        What is known.
    labels : list
        The classes of which there are more samples.
    support : GroupedRows
        The samples.
    is_known : ndarray of bool, of shape (n_classes,)
        Whether the state knows each of them.

    Returns
    -------
    needs : Needs
        The same, or what is needed where no class can be forgotten.
    state : State
        The same, or with the sum of the scatters.
    pool : Pool or None
        What the scatters of the samples are to be added to, if they are not kept.
    """
    if needs.moments < 2:
        return needs, state, Pool() if needs.moments else None
    d, are_many = support.n_features, ~are_few(support.sizes, support.n_features)
    known, more = _only(labels, support, is_known)
    if known and state.pooled is None:
        n_kept, n_triangles = state.gather(
            known, lambda b: (b.samples.sizes, b.moments.triangles.sizes)
        )
        # Those that have a scatter are counted in their blocks.
        are_many[is_known] = ~are_few(n_kept + more.sizes, d) & (n_triangles == 0)
    n_scatters = np.count_nonzero(are_many) + sum(map(_n_scatters, state.blocks))
    if _are_too_large(needs, n_scatters, d, support.dtype):
        state = pool_scatters(needs, replace(state, n_features=d))
    if state.pooled is None:
        return needs, state, None
    needs = _of_pooled(needs, len(state.places) + len(labels) - len(known))
    return needs, state, Pool(state.pooled)


def _of_pooled(needs, n_classes):
    """Say what is needed of so many classes, none of which will be forgotten.

    What is chosen or fitted by samples of all classes never looks at more of each.
    """
    return needs._replace(samples=min(needs.samples, most_of_each(n_classes)))


def _n_rows_of_statistics(block):
    """Count the rows that samples and scatters of each class take."""
    n_rows = np.zeros(len(block.labels), np.intp)
    if block.samples is not None:
        n_rows += block.samples.sizes
    if block.moments is not None and block.moments.triangles is not None:
        rows_of_one = (block.moments.means.shape[1] + 1) // 2
        n_rows += rows_of_one * block.moments.triangles.sizes
    return n_rows


def _n_scatters(block):
    """Count the scatters of single classes in a block."""
    if block.moments is None or block.moments.triangles is None:
        return 0
    return len(block.moments.triangles.values.triangle)


def _are_too_large(needs, n_scatters, d, dtype):
    """Tell whether scatters take too many bytes."""
    return n_scatters * (d * (d + 1) // 2) * dtype.itemsize > needs.scatter_bytes


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
    if dtype == state.label_dtype or not known:
        return dtype
    if not labels:
        return state.label_dtype
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


def _parts_of_more(plan, state, labels, support, n_jobs):
    """Split known classes of which there are more samples; see `_parts`."""
    sizes = support.sizes + state.n_points(labels)
    in_threads = plan.generator.waits and support.is_safe_in_threads
    return _parts(sizes, support.row_bytes, n_jobs if in_threads else 0)


def _parts(sizes, row_bytes, n_jobs):
    """Split classes into runs to be learnt one by one, so that little is held.

    Parameters
    ----------
    sizes : ndarray of shape (n_classes,)
        Number of points that each is learnt from.
    row_bytes : int
        Size of a point.
    n_jobs : int or None
        Number of threads, resolved as joblib does; 0 for none, where that might call a
        function of the user's.

    Returns
    -------
    parts : list of list of slice
        Those that are learnt side by side. Where a run ends does not depend on the
        number of threads.
    """
    n_rows = _PART_BYTES // row_bytes
    if n_jobs == 0:
        return [[run] for run in runs_of(offsets_of(sizes), n_rows)]
    runs = runs_of(offsets_of(sizes), n_rows // _PARTS_PER_THREAD)
    n = _PARTS_PER_THREAD * effective_n_jobs(n_jobs)
    return [runs[i : i + n] for i in range(0, len(runs), n)]


def _blocks_of_parts(learn_part, parts, pool, n_jobs):
    """Learn parts, those that are listed together in threads.

    Parameters
    ----------
    learn_part : callable
        From a slice and a pool of its own to blocks.
    parts : list of list of slice
        Of the classes.
    pool : Pool or None
        What scatters are added to, in the order of the parts.
    n_jobs : int or None
        Number of threads.

    Returns
    -------
    blocks : list of Block
        In the order of the classes.
    """

    def learn(part):
        own_pool = pool and pool.like()
        return learn_part(part, own_pool), own_pool

    blocks = []
    for some in parts:
        if len(some) == 1:  # its own threads may share it, and those of BLAS
            found = [learn(some[0])]
        else:
            found = run_tasks(learn, some, np.ones(len(some)), n_jobs=n_jobs)
        for of_part, own_pool in found:
            blocks += of_part
            if pool is not None:
                pool.join(own_pool)
    return blocks


def _keep(needs, block):
    """Drop what is not needed, where another classifier has kept less."""
    if needs.moments == 2 or block.samples is None:
        return block
    moments = block.moments and block.moments.up_to(needs.moments)
    samples = block.samples.first(needs.samples) if any(needs) else None
    return block._replace(moments=moments, samples=samples)
