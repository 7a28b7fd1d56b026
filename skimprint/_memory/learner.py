"""What a classifier remembers of each class, and how it learns more of it."""

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from .._arrays.groups import GroupedRows, row_keys
from .._arrays.threads import run_tasks
from .._space.leave_one_out import LeftOut
from .._space.moments import Moments, moments_of
from ..generation.mean import MeanProxies, Sums
from .n_proxies import N_PROXIES, choose_n_proxies
from .points import PointsOfOne, sharing

# Samples of each class to choose parameters by, where any are chosen.
SAMPLE_SIZE = 200


class ClassMemory(NamedTuple):
    """One class: its proxies, before their normalisation, and its statistics.

    Attributes
    ----------
    vectors : ndarray of shape (n_proxies, n_features)
        The proxies.
    counts : ndarray of shape (n_proxies,)
        The weight of the samples that each stands for.
    indices : ndarray of shape (n_proxies,)
        The training row that each is or stands by; -1 for a row of a head.
    spreads : ndarray of shape (n_proxies,)
        Squared distance of a proxy from its training row.
    weight : float
        Number of samples, or the sum of their weights.
    moments : Moments or None
        Kept where something in the classifier needs them.
    sample : Sample or None
        Kept where something is chosen by leaving samples out.
    is_head : bool
        Whether it is as it came from a head.
    summary : PointsOfOne or None
        Stands for the samples when more is learnt, where the proxies are too few.
    total : ndarray of shape (n_features,) or None
        Weighted sum of the samples, if their mean is the proxy and they came in parts.
    """

    vectors: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    spreads: np.ndarray
    weight: float
    moments: Moments | None = None
    sample: "Sample | None" = None
    is_head: bool = False
    summary: PointsOfOne | None = None
    total: np.ndarray | None = None

    @property
    def points(self):
        """What stands for the samples: the summary, or else the proxies."""
        if self.summary is not None:
            return self.summary
        return PointsOfOne(self.vectors, self.counts, self.indices, self.spreads)

    def moved(self, n_rows):
        """The same, its training rows numbered after so many others."""
        moved = self._replace(indices=moved_indices(self.indices, n_rows))
        if self.summary is None:
            return moved
        indices = moved_indices(self.summary.indices, n_rows)
        return moved._replace(summary=self.summary._replace(indices=indices))

    @property
    def mean(self):
        """Mean of the samples, or of the proxies where no more is known."""
        if self.moments is not None:
            return self.moments.mean
        return np.average(self.vectors.astype(np.float64), axis=0, weights=self.counts)


def moved_indices(indices, n_rows):
    """Training rows numbered after so many others; -1 stays."""
    return np.where(indices < 0, -1, indices + n_rows)


class Memories(Mapping):
    """The memory of each class. It never changes, but others are derived from it.

    A copy of a dict takes the longer the more classes there are. So a few changes are
    kept beside a dict that several mappings share, until there are too many of them.

    Parameters
    ----------
    base : dict of {label: ClassMemory}
        Memories.
    changes : dict of {label: ClassMemory or None}
        Memories that replace or join those, or `None` for a class that is forgotten.
    """

    def __init__(self, base, changes=MappingProxyType({})):
        self._base = base
        self._changes = changes
        self._n_gone = sum(
            (label in base) - (memory is not None) for label, memory in changes.items()
        )

    def __getitem__(self, label):
        memory = self._changes[label] if label in self._changes else self._base[label]
        if memory is None:
            raise KeyError(label)
        return memory

    def __iter__(self):
        for label in self._base:
            if self._changes.get(label, label) is not None:
                yield label
        for label, memory in self._changes.items():
            if memory is not None and label not in self._base:
                yield label

    def __len__(self):
        return len(self._base) - self._n_gone

    def __reduce__(self):
        return Memories, (self.as_dict(),)  # of forgotten classes nothing is written

    def as_dict(self):
        """A dict of all memories."""
        merged = self._base | self._changes
        return {label: memory for label, memory in merged.items() if memory is not None}

    def with_changes(self, changes):
        """These memories, some replaced, joined or, by `None`, left out."""
        changes = self._changes | changes
        derived = Memories(self._base, changes)
        # Copying the changes and, rarely, all: both take no more than sqrt(n) steps.
        few = len(changes) ** 2 <= len(self._base)
        return derived if few else Memories(derived.as_dict())


class Sample(NamedTuple):
    """Some samples of a class: those with the smallest keys, in their order.

    The key of a sample depends on its values only, so these are the same ones in
    whatever order and parts the samples come.

    Attributes
    ----------
    rows : ndarray of shape (n, n_features)
        The samples, normalised as the generator sees them.
    weights : ndarray of shape (n,)
        Their weights.
    keys : ndarray of shape (n,)
        Their keys, in ascending order.
    """

    rows: np.ndarray
    weights: np.ndarray
    keys: np.ndarray

    @classmethod
    def of(cls, rows, weights=None, *, size=SAMPLE_SIZE):
        """A sample of the samples of one class."""
        weights = np.ones(len(rows)) if weights is None else weights.astype(float)
        return cls._smallest(rows, weights, row_keys(rows, seed=0), size)

    def joined(self, other, *, size=SAMPLE_SIZE):
        """A sample of what both are samples of."""
        both = map(np.concatenate, zip(self, other, strict=True))
        return self._smallest(*both, size)

    @classmethod
    def _smallest(cls, rows, weights, keys, size):
        kept = np.argsort(keys, kind="stable")[:size]
        return cls(rows[kept], weights[kept], keys[kept])


class Points(NamedTuple):
    """What stands for the samples of some classes: themselves, summaries, proxies.

    Attributes
    ----------
    vectors, counts, indices, spreads
        As in `ClassMemory`, one class after the other.
    codes : ndarray of shape (n,)
        The class of each.
    """

    vectors: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    spreads: np.ndarray
    codes: np.ndarray

    @classmethod
    def of(cls, memories):
        """What stands for the samples of some classes."""
        return cls.of_parts([part.points for part in memories])

    @classmethod
    def of_parts(cls, parts):
        """Points of each of some classes."""
        return cls(
            *map(np.concatenate, zip(*parts, strict=True)),
            np.repeat(np.arange(len(parts)), [len(part.counts) for part in parts]),
        )

    def grouped(self):
        """Their vectors by class, with weights and spreads."""
        return GroupedRows(
            self.vectors,
            self.codes,
            self.codes.max() + 1,
            sample_weight=self.counts,
            spread=self.spreads,
        )


class Learnt(NamedTuple):
    """All that a classifier knows. It is replaced, never changed.

    Attributes
    ----------
    memory : Memories
        What it knows of each class.
    generator : ProxyGenerator or None
        Has made the proxies.
    label_dtype, dtype : dtype
        Of the labels and of the proxies.
    n_features : int
        Number of features.
    n_samples : int, default=0
        Number of training rows so far.
    norm : {"l2", "power"}, default=None
        Normalisation of the samples, if the first of them decided on it.
    pending : Pending, default=None
        More samples, of which the rest knows nothing yet.
    """

    memory: Memories
    generator: object
    label_dtype: np.dtype
    dtype: np.dtype
    n_features: int
    n_samples: int = 0
    norm: str | None = None
    pending: "Pending | None" = None

    def settled(self):
        """The same, with nothing pending."""
        return self if self.pending is None else self.pending.learn(self)


class Batch(NamedTuple):
    """Samples that have been checked.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_features)
        Embeddings.
    y : ndarray of shape (n_samples,)
        Labels.
    weights : ndarray of shape (n_samples,) or None
        Their weights.
    """

    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None

    def grouped(self, transform):
        """Classes, in sorted order, and their samples, normalised by a transform."""
        classes, codes = np.unique(self.y, return_inverse=True)
        support = GroupedRows(
            self.X,
            codes,
            len(classes),
            sample_weight=self.weights,
            transform=transform,
        )
        return classes, support.without_weightless()

    def copies(self):
        """The same, whatever becomes of the arrays."""
        weights = None if self.weights is None else self.weights.copy()
        return Batch(self.X.copy(), self.y.copy(), weights)

    @property
    def kind(self):
        """Batches that agree in it can be joined as if they had come together."""
        text = self.y.dtype.kind in "SU"
        return (
            self.X.dtype,
            self.y.dtype.kind if text else self.y.dtype,
            self.weights is None,
        )


class Pending:
    """Small batches, to be learnt together when somebody asks for the result.

    Learning a few rows of many classes costs as much as learning many. Readers only
    write down the result here, so that they never undo what is learnt meanwhile.

    Parameters
    ----------
    learner : Learner
        Learns them.
    settings : tuple
        What else has a part in it; batches that follow agree in it.
    batches : tuple of Batch
        The samples, in the order in which they came; `None` once they are learnt.
    transform : callable or None
        Normalisation of the samples.
    norm : {"l2", "power"} or None
        The one that "auto" stands for.
    """

    def __init__(self, learner, settings, batches, transform, norm):
        self.learner = learner
        self.settings = settings
        self.batches = batches
        self.transform = transform
        self.norm = norm
        self._result = None

    def learn(self, learnt):
        """What is known once they are learnt, besides all that was known before."""
        batches = self.batches  # before the result is looked for: see below
        if self._result is None:
            X, y, weights = zip(*batches, strict=True)
            batch = Batch(
                np.concatenate(X),
                np.concatenate(y),
                None if weights[0] is None else np.concatenate(weights),
            )
            before = learnt._replace(pending=None)
            learner, transform = self.learner, self.transform
            self._result = learner.learn(before, batch, transform, self.norm)
            self.batches = None  # only once the result is there
        return self._result


NOTHING = Learnt(Memories({}), None, None, None, None)


class Learner(NamedTuple):
    """How classes are learnt: a generator and what it is passed.

    Attributes
    ----------
    generator : ProxyGenerator
        Makes the proxies.
    n_proxies : callable
        From labels to the number of proxies of each, or to `None`: to be chosen.
    seed : int
        Seed of the generator.
    n_jobs : int or None
        Number of threads.
    with_moments : bool
        Whether moments are kept.
    sample_size : int
        How many samples of each class are kept, at most.
    progress : callable or None
        Told of classes that are done.
    """

    generator: object
    n_proxies: object
    seed: int
    n_jobs: int | None
    with_moments: bool
    sample_size: int
    progress: object = None

    def learn(self, learnt, batch, transform, norm):
        """Learn samples of new and known classes.

        Parameters
        ----------
        learnt : Learnt
            What is known, nothing pending.
        batch : Batch
            The samples.
        transform : callable or None
            Their normalisation.
        norm : {"l2", "power"} or None
            The one that "auto" stands for.

        Returns
        -------
        learnt : Learnt
            What is known after.
        """
        classes, support = batch.grouped(transform)
        labels, label_dtype = classes.tolist(), classes.dtype
        dtype = support.dtype
        if learnt.memory:
            label_dtype = common_label_dtype(learnt, labels, label_dtype)
            dtype = learnt.dtype
        memory = {}
        is_known = np.array([label in learnt.memory for label in labels])
        for of_these, learn in ((is_known, self.extend), (~is_known, self.imprint)):
            groups = np.flatnonzero(of_these)
            if len(groups):
                some = [labels[group] for group in groups]
                rows = support if of_these.all() else support.only(groups)
                memory |= learn(some, rows, learnt)
        return learnt._replace(
            memory=learnt.memory.with_changes(memory),
            generator=self.generator,
            label_dtype=label_dtype,
            dtype=dtype,
            n_features=support.n_features,
            n_samples=learnt.n_samples + len(batch.X),
            norm=norm,
        )

    def learn_each(self, numbers, batch, transform, norm):
        """Learn samples from nothing several times, with several numbers of proxies.

        Parameters
        ----------
        numbers : list of callable
            Each in the place of ``n_proxies``.
        batch, transform, norm
            As for `learn`.

        Returns
        -------
        learnt : list of Learnt
            What `learn` returns for each; but what they have in common is done once.
        """
        classes, support = batch.grouped(transform)
        return [
            Learnt(
                Memories(memory),
                self.generator,
                classes.dtype,
                support.dtype,
                support.n_features,
                len(batch.X),
                norm,
            )
            for memory in self._imprint_each(numbers, classes.tolist(), support)
        ]

    def imprint(self, labels, support, learnt):
        """Learn classes of which nothing is known.

        Parameters
        ----------
        labels : list
            Of the groups of ``support``.
        support : GroupedRows
            Their support embeddings.
        learnt : Learnt
            What is known of other classes.

        Returns
        -------
        memory : dict of {label: ClassMemory}
            What to remember of each.
        """
        if isinstance(self.generator, MeanProxies):
            return self._add_up(labels, support, learnt)
        memory = self._imprint_each([self.n_proxies], labels, support)[0]
        n = learnt.n_samples
        return {label: part.moved(n) for label, part in memory.items()}

    def _imprint_each(self, numbers, labels, support):
        """Memories of classes by several numbers of proxies; see `learn_each`."""
        if isinstance(self.generator, MeanProxies):
            return [self._add_up(labels, support, NOTHING)] * len(numbers)
        statistics = [self._statistics(support, group) for group in range(len(labels))]
        chosen = [self._numbers(n_proxies, labels, support) for n_proxies in numbers]
        memories = []
        for n_proxies, made in zip(
            numbers, self._generate(support, chosen), strict=True
        ):
            bounds = self._bounds(n_proxies, labels)
            memory = {}
            for group, proxies in enumerate(_parts(made)):
                memory[labels[group]] = ClassMemory(
                    *proxies,
                    *statistics[group],
                    summary=self._summarize(support, group, proxies, bounds[group]),
                )
            memories.append(memory)
        return memories

    def extend(self, labels, support, learnt):
        """Learn more of known classes.

        Parameters
        ----------
        labels : list
            Of the groups of ``support``.
        support : GroupedRows
            More support embeddings of theirs.
        learnt : Learnt
            What is known of them, and of other classes.

        Returns
        -------
        memory : dict of {label: ClassMemory}
            What to remember of each of the labels.
        """
        if isinstance(self.generator, MeanProxies):
            return self._add_up(labels, support, learnt)
        order = support.order
        weights = support.sample_weight
        samples = Points(
            support.take(order),
            np.ones(len(order)) if weights is None else weights[order].astype(float),
            order + learnt.n_samples,
            np.zeros(len(order)),
            np.repeat(np.arange(len(support)), support.sizes),
        )
        statistics = [self._statistics(support, group) for group in range(len(labels))]
        return self.regenerate(labels, learnt, samples, statistics)

    def _add_up(self, labels, support, learnt):
        """Learn of classes whose proxy is their mean, all known or all new."""
        known = [learnt.memory.get(label) for label in labels]
        if known[0] is None:
            sums = Sums.none(len(known), support.n_features)
        else:
            sums = Sums(
                np.stack([_total_of(part) for part in known]),
                np.array([part.counts[0] for part in known]),
                np.concatenate([part.vectors for part in known]),
                np.concatenate([part.indices for part in known]),
                np.concatenate([part.spreads for part in known]),
            )
        proxies, sums, is_new = self.generator.add(support, sums, self.n_jobs)
        indices = proxies.indices + np.where(is_new, learnt.n_samples, 0)
        memory = {}
        for group, part in enumerate(_parts(proxies._replace(indices=indices))):
            statistics = self._statistics(support, group)
            if known[group] is not None:
                statistics = self._joined(known[group], statistics)
            memory[labels[group]] = ClassMemory(
                *part, *statistics, total=sums.vectors[group].copy()
            )
        if self.progress is not None:
            self.progress(len(labels))
        return memory

    def _statistics(self, support, group):
        """Weight, moments and sample of one group; None for what is not kept."""
        weights = support.weights(group)
        weight = float(support.sizes[group] if weights is None else weights.sum())
        if not (self.with_moments or self.sample_size):
            return weight, None, None
        rows = support.rows(group)
        sample = None
        if self.sample_size:
            sample = Sample.of(rows, weights, size=self.sample_size)
        moments = moments_of(rows, weights) if self.with_moments else None
        return weight, _sharing(moments, sample), sample

    def _joined(self, part, statistics):
        """Weight, moments and sample of a class and of more samples."""
        weight, moments, sample = statistics
        # What is known of some of the samples only would mislead: better none. But a
        # class of a head has no samples of its own.
        if part.moments is not None and moments is not None:
            moments = part.moments.joined(moments)
        elif not part.is_head:
            moments = None
        if part.sample is not None and sample is not None:
            size = self.sample_size or SAMPLE_SIZE
            sample = part.sample.joined(sample, size=size)
        elif not part.is_head:
            sample = None
        return part.weight + weight, _sharing(moments, sample), sample

    def regenerate(self, labels, learnt, more, statistics):
        """Generate the proxies of known classes again, from them and more points.

        Parameters
        ----------
        labels : list
            The classes.
        learnt : Learnt
            What is known of them.
        more : Points
            Samples of them, or proxies from elsewhere.
        statistics : list of tuple (weight, moments, sample)
            Of what these stand for, by class.

        Returns
        -------
        memory : dict of {label: ClassMemory}
            What to remember of each class.
        """
        known = [learnt.memory[label] for label in labels]
        points = Points(*map(np.concatenate, zip(Points.of(known), more, strict=True)))
        groups = points.grouped().without_weightless()
        bounds = self._bounds(self.n_proxies, labels)
        summaries = self._condense(groups, points.indices, bounds)
        indices = points.indices
        if self.generator.selects and None not in summaries:
            # It selects among what is remembered, which goes on to be remembered.
            points = Points.of_parts(summaries)
            groups, indices = points.grouped(), points.indices
        memory = {}
        chosen = self._numbers(self.n_proxies, labels, groups)
        made = self._generate(groups, [chosen])[0]
        for group, proxies in enumerate(_parts(made)):
            summary = summaries[group]
            memory[labels[group]] = ClassMemory(
                *proxies._replace(indices=indices[proxies.indices]),
                *self._joined(known[group], statistics[group]),
                summary=summary,
            )
        return memory

    def _bounds(self, n_proxies, labels):
        """How many points are to stand for the samples of each class."""
        n_proxies = n_proxies(labels)
        if n_proxies is None:  # however few are chosen now, later it may be more
            n_proxies = np.full(len(labels), N_PROXIES[-1])
        return self.generator.n_remembered(n_proxies)

    def _summarize(self, support, group, proxies, bound):
        """What to remember of the samples of a class besides its proxies, or None.

        As many as twice the bound are remembered as they are. Of more, some are drawn,
        and share the weight of the samples that their proxies stand for; or, where
        proxies are samples, the generator says which.
        """
        n = support.sizes[group]
        if not bound or n <= len(proxies.counts):
            return None
        index = support.indices(group)
        if n > 2 * bound and not self.generator.selects:
            drawn = np.random.default_rng(self.seed).permutation(n)[:bound]
            index = index[np.sort(drawn)]
        rows = support.take(index)
        weights = np.ones(len(index))
        if support.sample_weight is not None:
            weights = support.sample_weight[index].astype(float)
        spreads = np.zeros(len(index))
        points = PointsOfOne(rows, weights, index, spreads)
        if self.generator.selects:
            return self.generator.condense(points, bound).copies()
        return points if n <= 2 * bound else sharing(points, proxies)

    def _condense(self, groups, indices, bounds):
        """What to remember of the points of each class; a list, None for proxies only.

        Parameters
        ----------
        groups : GroupedRows
            The points, by class.
        indices : ndarray of shape (n_points,)
            Their training rows.
        bounds : ndarray of shape (n_classes,)
            About how many are to be remembered of each class; 0 for none.
        """
        found = [None] * len(groups)

        def condense(group):
            index = groups.indices(group)
            points = PointsOfOne(
                groups.take(index),
                groups.sample_weight[index],
                indices[index],
                groups.spread[index],
            )
            found[group] = self.generator.condense(points, bounds[group])

        bounded = np.flatnonzero(bounds)
        run_tasks(condense, bounded, groups.sizes[bounded], n_jobs=self.n_jobs)
        return found

    def _numbers(self, n_proxies, labels, support):
        """Number of proxies of each group, given or chosen."""
        numbers = n_proxies(labels)
        if numbers is not None:
            return numbers
        return choose_n_proxies(
            self.generator, support, seed=self.seed, n_jobs=self.n_jobs
        )

    def _generate(self, support, numbers):
        """Proxies of the groups by each of several lists of numbers."""
        options = {"seed": self.seed, "n_jobs": self.n_jobs, "progress": self.progress}
        if len(numbers) == 1:
            return [self.generator.generate(support, numbers[0], **options)]
        return self.generator.generate_each(support, numbers, **options)


def _total_of(part):
    """Sum of the samples of a class whose proxy is their mean."""
    if part.total is not None:
        return part.total
    return part.vectors[0].astype(np.float64) * part.counts[0]


def _parts(proxies):
    """Yield what `Proxies` hold of each class, as copies."""
    for start, stop in pairwise(proxies.offsets):
        yield PointsOfOne(
            proxies.vectors[start:stop],
            proxies.counts[start:stop],
            proxies.indices[start:stop],
            proxies.spreads[start:stop],
        ).copies()


def _sharing(moments, sample):
    """Moments that keep the rows of a sample, where both have the same ones."""
    if moments is None or sample is None or moments.rows is None:
        return moments
    if not np.array_equal(moments.rows, sample.rows):
        return moments
    return moments._replace(rows=sample.rows, row_weights=sample.weights)


def left_out_of(memories, max_rows):
    """Samples of all classes, to be left out in turn.

    Parameters
    ----------
    memories : list of ClassMemory
        The classes, in the order of their codes; those without a sample have no part.
    max_rows : int
        About how many samples to take; at least one of each class is.

    Returns
    -------
    left_out : LeftOut or None
        `None` if no class has a sample.
    """
    sampled = [c for c, part in enumerate(memories) if part.sample is not None]
    if not sampled:
        return None
    parts = []
    for c in sampled:
        rows, weights, _ = memories[c].sample
        rows, weights = (
            values[: min(max(max_rows // len(sampled), 1), SAMPLE_SIZE)]
            for values in (rows, weights)
        )
        share = memories[c].weight / weights.sum()
        parts.append(LeftOut(rows, np.full(len(rows), c), weights, weights * share))
    return LeftOut(*map(np.concatenate, zip(*parts, strict=True)))


def head_memory(labels, rows):
    """Memory of the classes of a linear classifier.

    Parameters
    ----------
    labels : list
        Of the rows.
    rows : ndarray of shape (n_classes, n_features)
        The weights. Each counts as one sample.

    Returns
    -------
    memory : dict of {label: ClassMemory}
        One proxy per class.
    """
    return {
        label: ClassMemory(
            row[None].copy(), np.ones(1), np.array([-1]), np.zeros(1), 1.0, is_head=True
        )
        for label, row in zip(labels, rows, strict=True)
    }


def merged(learner, mine, theirs):
    """What two classifiers know together.

    Parameters
    ----------
    learner : Learner
        Unites the memories of classes that both know.
    mine, theirs : Learnt
        What each knows. Training rows of the second are numbered after the first's.

    Returns
    -------
    learnt : Learnt
        What is known together.
    """
    moved = {label: part.moved(mine.n_samples) for label, part in theirs.memory.items()}
    new = {label: part for label, part in moved.items() if label not in mine.memory}
    shared = [
        label
        for label, part in moved.items()
        # One head that both started from is the same class, not two samples of it.
        if label not in new and not (part.is_head and mine.memory[label].is_head)
    ]
    if shared:
        theirs_of_shared = [moved[label] for label in shared]
        new |= learner.regenerate(
            shared,
            mine,
            Points.of(theirs_of_shared),
            [(part.weight, part.moments, part.sample) for part in theirs_of_shared],
        )
    return mine._replace(
        memory=mine.memory.with_changes(new),
        label_dtype=common_label_dtype(mine, list(moved), theirs.label_dtype),
        dtype=np.result_type(mine.dtype, theirs.dtype),
        n_samples=mine.n_samples + theirs.n_samples,
    )


def common_label_dtype(learnt, labels, dtype):
    """The dtype of the labels that are known and of more of them.

    Parameters
    ----------
    learnt : Learnt
        Knows some labels.
    labels : list
        More labels.
    dtype : dtype
        Of the array that they come from.

    Returns
    -------
    dtype : dtype
        That holds both.

    Raises
    ------
    ValueError
        If only one of both is text.
    """
    known = next(iter(learnt.memory))
    if isinstance(known, str) != isinstance(labels[0], str):
        raise ValueError(
            "Labels must be of the type of those that the classifier knows, such as "
            f"{known!r}; got {labels[0]!r}."
        )
    return np.result_type(learnt.label_dtype, dtype)
