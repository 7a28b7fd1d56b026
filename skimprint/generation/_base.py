"""The protocol of GEN: from the support rows of every class to its proxies.

Of new classes, `learn_each` generates proxies and chooses what to remember of the
samples. Of known ones, `update` joins the points that stand for what came before
(`points`) and the new samples, condenses them where they have become too many, and
generates proxies of them (`generate_of`): at once or, if the generator `waits`, when
`with_all_proxies` wants them. A head lets classes see each other (`combine`), and who
leaves a sample out asks `without`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from .._arrays.groups import GroupedRows, offsets_of, runs_of
from .._arrays.threads import run_tasks
from .._memory.columns import Points, Ragged, as_slice, joined, take
from .._memory.points import compressed, nearest_to, sampled, weighed_by
from .._memory.state import Imprint, Needs
from .._validation import DTYPES, check_returned
from ..cluster._kmeans.nearest import nearest_of
from ._processes import generate_in_processes, n_processes

# What is left of a count below this share is rounding.
_ROUNDING = 1e-6

# What is to be remembered of some classes, found side by side.
_AT_ONCE_BYTES = 2**23


class ProxyGenerator(BaseEstimator, ABC):
    """Base class of the generators: makes proxies of classes, and learns more of them.

    A generator holds its own parameters only. The number of proxies, the seed and
    the number of jobs belong to the classifier, which passes them on. One that only
    defines `generate` learns in parts, forgets and merges too: points that stand for
    the samples of a class, up to 20 for each proxy, join new samples, and `generate`
    is applied to both. `selected` and `synthesized` make what `generate` returns; one
    that returns what `selected` makes has to say so, by ``selects = True``.

    See Also
    --------
    FunctionProxies : A function of the embeddings of one class will do, too.

    Examples
    --------
    The first sample of each class:

    >>> import numpy as np
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.generation import ProxyGenerator, selected
    >>> class FirstProxies(ProxyGenerator):
    ...     selects = True
    ...     def generate(self, support, n_proxies, **options):
    ...         first = support.order[support.offsets[:-1]]
    ...         return selected(support, first, np.arange(len(support) + 1))
    >>> clf = ImprintClassifier(FirstProxies())
    >>> clf.fit([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["a", "b", "b"]).proxy_indices_
    array([0, 1])
    """

    _parameter_constraints: ClassVar[dict] = {}

    #: What must be remembered of each class for `combine`.
    needs = Needs()

    #: Proxies of a class where the user does not say how many.
    default_n_proxies = 20

    #: Points remembered of a class for each of its proxies; 0 where these will do.
    points_per_proxy = 10

    #: Whether `combine` makes the proxies of a class depend on all other classes.
    combines = False

    #: Whether the proxies are support samples, of which `selected` makes them. Else
    #: their counts must add up to the weight of all samples of a class.
    selects = False

    #: Whether samples in any parts, but in their order, give the same, to the bit.
    learns_in_order = False

    #: Whether to generate proxies takes long enough to be worth sending rows elsewhere.
    is_slow = True

    #: Whether proxies of points that are remembered are generated when first needed;
    #: then `update` is called from several threads, for different classes.
    waits = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # A class that generates in its own way must not inherit shortcuts of another.
        if "generate" in vars(cls):
            methods = "generate_each", "learn_each", "update"
            for name in (*methods, "learns_in_order", "waits"):
                if name not in vars(cls):
                    setattr(cls, name, vars(ProxyGenerator)[name])

    @abstractmethod
    def generate(
        self,
        support: GroupedRows,
        n_proxies: np.ndarray,
        *,
        seed: int = 0,
        n_jobs: int | None = None,
        progress: Callable[[int], Any] | None = None,
    ) -> Ragged:
        """Generate the proxies of every class.

        Parameters
        ----------
        support : GroupedRows
            The normalised support embeddings, by class.
        n_proxies : ndarray of shape (n_classes,)
            How many proxies each class gets, at most.
        seed : int, default=0
            Each class starts from this same seed, so that its proxies do not depend
            on the other classes.
        n_jobs : int, default=None
            Number of threads across classes.
        progress : callable, default=None
            Called, from any thread, with the number of classes that are done since.

        Returns
        -------
        proxies : Ragged of Points
            The proxies of each class. Their indices are rows of ``support``.
        """

    def generate_each(
        self, support: GroupedRows, numbers: Sequence[np.ndarray], **options: Any
    ) -> list[Ragged]:
        """Generate the proxies of every class several times, in several numbers.

        Parameters
        ----------
        support : GroupedRows
            The normalised support embeddings, by class.
        numbers : list of ndarray of shape (n_classes,)
            How many proxies each class gets each time, at most.
        **options : dict
            ``seed``, ``n_jobs`` and ``progress``, as for `generate`. A class is done
            once for each number.

        Returns
        -------
        proxies : list of Ragged
            What `generate` returns for each, to the bit.
        """
        return [self.generate(support, number, **options) for number in numbers]

    def learn_each(
        self, support: GroupedRows, numbers: Sequence[np.ndarray], **options: Any
    ) -> list[Imprint]:
        """Learn classes of which nothing is known, with several numbers of proxies.

        Parameters
        ----------
        support : GroupedRows
            The normalised support embeddings, by class.
        numbers : list of ndarray of shape (n_classes,)
            How many proxies each class gets each time, at most.
        **options : dict
            As for `generate_each`.

        Returns
        -------
        imprints : list of Imprint
            For each of the numbers.
        """
        made = self._generate_each(support, numbers, **options)
        return [
            Imprint(proxies, self._remember(support, proxies, number, **options))
            for proxies, number in zip(made, numbers, strict=True)
        ]

    def update(
        self,
        known: Imprint,
        support: GroupedRows,
        rows: np.ndarray,
        n_proxies: np.ndarray,
        **options: Any,
    ) -> Imprint:
        """Learn more of known classes.

        Parameters
        ----------
        known : Imprint
            Of the classes.
        support : GroupedRows
            More samples of the same classes, or points that stand for some, with their
            spreads.
        rows : ndarray of shape (n_samples,)
            The training row of each row of ``support``.
        n_proxies : ndarray of shape (n_classes,)
            How many proxies each class gets, at most.
        **options : dict
            ``seed``, ``n_jobs`` and ``progress``, as for `generate`.

        Returns
        -------
        imprint : Imprint
            Of the classes, as far as what is remembered tells. A class has no proxies
            that are to be generated when first needed.
        """
        n_classes = len(support)
        more = selected(support, support.order, support.offsets)
        more = more.with_values(indices=rows[support.order])
        points = self.points(known).followed_by(more)
        bounds = self.n_remembered(n_proxies)
        points = self._condense_each(points, bounds, options.get("n_jobs"))
        everything, remembered = np.arange(n_classes), bounds > 0
        now = np.flatnonzero(~remembered) if self.waits else everything
        proxies = points.first(0)
        if len(now):
            these = points.take(as_slice(now))
            found = self.generate_of(these, n_proxies[now], **options)
            proxies = proxies.replaced(now, found)
        if options.get("progress") is not None:
            options["progress"](n_classes - len(now))
        memory = points.first(np.where(remembered, points.sizes, 0))
        return Imprint(proxies, memory)

    def generate_of(
        self, points: Ragged, n_proxies: np.ndarray, **options: Any
    ) -> Ragged:
        """Generate the proxies of every class from points that stand for its samples.

        Parameters
        ----------
        points : Ragged of Points
            Those of each class.
        n_proxies : ndarray of shape (n_classes,)
            How many proxies each class gets, at most.
        **options : dict
            ``seed``, ``n_jobs`` and ``progress``, as for `generate`.

        Returns
        -------
        proxies : Ragged of Points
            The proxies of each class. Their indices are training rows.
        """
        groups = points.grouped().without_weightless()
        (proxies,) = self._generate_each(groups, [n_proxies], **options)
        indices = points.values.indices[proxies.values.indices]
        return proxies.with_values(indices=indices)

    def points(self, known: Imprint) -> Ragged:
        """Find the points that stand for the samples of known classes.

        Parameters
        ----------
        known : Imprint
            Of the classes.

        Returns
        -------
        points : Ragged of Points
            What is remembered of each class, or else its proxies.
        """
        n = len(known.proxies)
        remembered = known.memory.sizes > 0
        if not remembered.any():
            return known.proxies
        if remembered.all():
            return known.memory
        both = joined([known.proxies, known.memory])
        return both.take(np.where(remembered, n, 0) + np.arange(n))

    def without(
        self, proxies: Points, rows: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Leave each of some samples out of the proxies of its class.

        A proxy that is the sample is gone. A mean of samples with the weight ``n``, the
        sample ``x`` of weight ``w`` among them, becomes ``(n mean - w x) / (n - w)``.

        Parameters
        ----------
        proxies : Points
            Those of the class.
        rows : ndarray of shape (n_samples, n_features)
            The samples.
        weights : ndarray of shape (n_samples,)
            Their weights.

        Returns
        -------
        own : ndarray of shape (n_samples,)
            The proxy that changes without each sample; -1 for none.
        gone : ndarray of bool of shape (n_samples,)
            Whether that proxy is gone.
        left : ndarray of shape (n_samples, n_features)
            What it becomes, before the normalisation of proxies.
        """
        vectors, rows = proxies.vectors.astype(np.float64), rows.astype(np.float64)
        own = nearest_to(rows, vectors)
        if self.selects:
            gone = (vectors[own] == rows).all(axis=1)
            return np.where(gone, own, -1), gone, rows
        counts = proxies.counts[own]
        rest = counts - weights
        gone = rest <= _ROUNDING * counts
        rest = np.where(gone, 1, rest)[:, None]
        left = (counts[:, None] * vectors[own] - weights[:, None] * rows) / rest
        return own, gone, left

    def n_remembered(self, n_proxies: np.ndarray) -> np.ndarray:
        """Say how many points are to stand for the samples of a class.

        Parameters
        ----------
        n_proxies : ndarray of shape (n_classes,)
            How many proxies each class gets, at most.

        Returns
        -------
        n_points : ndarray of shape (n_classes,)
            About as many; 0 where the proxies themselves will do.
        """
        return n_proxies * self.points_per_proxy

    def condense(self, points: Points, bound: int) -> Points:
        """Reduce points to fewer ones that stand for the samples of a class.

        Parameters
        ----------
        points : Points
            Samples, and what stood for those before them: more than twice the bound.
        bound : int
            Of `n_remembered`.

        Returns
        -------
        points : Points
            At most twice as many as the bound.
        """
        if self.selects:
            return sampled(points, 2 * bound)
        only = Ragged(points, np.array([0, len(points.counts)]))
        return compressed(only, np.array([bound])).values

    def combine(
        self, vectors: np.ndarray, counts: np.ndarray, moments: Any, left_out: Any
    ) -> np.ndarray:
        """Let the classes see each other, where a method wants that.

        Parameters
        ----------
        vectors : ndarray of shape (n_proxies_total, n_features)
            The proxies of all classes, as `generate` made them.
        counts : ndarray of shape (n_proxies_total,)
            The weight of the samples that each stands for.
        moments : CommonMoments or None
            Of all classes, if they are among the `needs`.
        left_out : LeftOut or None
            Samples of all classes, if they are among the `needs`.

        Returns
        -------
        vectors : ndarray of shape (n_proxies_total, n_features)
            The proxies, for most generators as they were.
        """
        return vectors

    def _generate_each(self, support, numbers, **options):
        """Generate proxies several times, in processes if that is to be."""
        n = n_processes(support, options.get("n_jobs")) if self.is_slow else 0
        if n:
            found = generate_in_processes(self, support, numbers, n, **options)
        else:
            found = self.generate_each(support, numbers, **options)
        for proxies in found:
            _check_made(support, proxies, f"generate of {type(self).__name__}")
        return found

    def _remember(self, support, proxies, n_proxies, *, seed=0, n_jobs=None, **options):
        """Choose what to remember of new classes besides their proxies.

        As many samples as twice the bound are remembered as they are. Of more, some are
        drawn, and share the weight of the samples that their proxies stand for; or,
        where proxies are samples, the generator says which.
        """
        bounds = self.n_remembered(n_proxies)
        wanted = (bounds > 0) & (support.sizes > proxies.sizes)
        large = wanted & (support.sizes > 2 * bounds)
        most = np.where(wanted, support.sizes, 0)
        if not large.any():
            few = support.only(np.flatnonzero(wanted))
            found = selected(few, few.order, few.offsets)
            return Ragged(found.values, offsets_of(most))
        most[large] = (2 * bounds if self.selects else bounds + proxies.sizes)[large]

        def remember(group):
            index = support.indices(group)
            if not large[group]:
                return _points_at(support, index[: most[group]])
            if self.selects:
                return self._condensed(_points_at(support, index), bounds[group])
            drawn = np.random.default_rng(seed).permutation(len(index))[: bounds[group]]
            points = _points_at(support, index[np.sort(drawn)])
            return weighed_by(points, proxies.one(group))

        # Where they belong, a few classes at a time: so none is held twice.
        n = most.sum()
        room = Points(
            np.empty((n, support.n_features), support.dtype),
            np.empty(n),
            np.empty(n, np.intp),
            np.empty(n),
        )
        offsets = [0]
        for run in runs_of(offsets_of(most), _AT_ONCE_BYTES // support.row_bytes):
            groups = np.arange(run.start, run.stop)
            for points in run_tasks(remember, groups, most[run], n_jobs=n_jobs):
                part = slice(offsets[-1], offsets[-1] + len(points.counts))
                for array, values in zip(room, points, strict=True):
                    array[part] = values
                offsets.append(part.stop)
        return Ragged(take(room, slice(offsets[-1])), np.array(offsets))

    def _condensed(self, points, bound):
        """Reduce points by `condense`, whose result is checked."""
        points = self.condense(points, bound)
        if len(points.counts) > 2 * bound:
            raise ValueError(
                f"condense of {type(self).__name__} must return at most {2 * bound} "
                f"points for a bound of {bound}; it returned {len(points.counts)}."
            )
        return points

    def _condense_each(self, points, bounds, n_jobs):
        """Reduce the points of classes that have more than twice their bound, not 0."""
        if type(self).condense is ProxyGenerator.condense and not self.selects:
            return compressed(points, bounds, n_jobs=n_jobs)

        def condense(place):
            return self._condensed(points.one(place), bounds[place])

        over = np.flatnonzero((bounds > 0) & (points.sizes > 2 * bounds))
        if not len(over):
            return points
        found = run_tasks(condense, over, points.sizes[over], n_jobs=n_jobs)
        return points.replaced(over, Ragged.of(found))


def _check_made(support, proxies, name):
    """Refuse what a generator made, unless each class has proxies of its own rows."""
    if not isinstance(proxies, Ragged):
        raise TypeError(
            f"{name} must return what selected or synthesized makes; got "
            f"{type(proxies).__name__}."
        )
    indices = proxies.values.indices
    _check_offsets(support, proxies.offsets, len(indices))
    groups = np.full(support.X.shape[0], -1)
    groups[support.order] = np.repeat(np.arange(len(support)), support.sizes)
    if (indices < 0).any() or (groups[indices] != proxies.codes).any():
        raise ValueError(
            f"{name} must select rows of each class for it, by their numbers among "
            "those of all classes: take them from support.indices(group)."
        )


def _check_offsets(support, offsets, n_proxies):
    """Refuse proxies of other classes than there are, and classes without any."""
    if (
        offsets.shape != (len(support) + 1,)
        or offsets.dtype.kind not in "iu"
        or (offsets[0], offsets[-1]) != (0, n_proxies)
        or (offsets[1:] <= offsets[:-1]).any()
    ):
        raise ValueError(
            f"offsets must say where the proxies of each of {len(support)} classes "
            f"start, and where the last end: ints that rise from 0 to {n_proxies}, the "
            f"number of proxies, because each class has one at least; got {offsets}."
        )


def selected(support: GroupedRows, indices: ArrayLike, offsets: ArrayLike) -> Ragged:
    """Make proxies of training rows.

    Parameters
    ----------
    support : GroupedRows
        The support embeddings.
    indices : array-like of shape (n_proxies_total,)
        The row numbers of the proxies, class by class.
    offsets : array-like of shape (n_classes + 1,)
        Where the proxies of each class start, and where the last end.

    Returns
    -------
    proxies : Ragged of Points
        The rows, in the order given.

    See Also
    --------
    ProxyGenerator : Uses it in an example.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.generation import ProxyGenerator, selected
    >>> class LastProxies(ProxyGenerator):
    ...     selects = True
    ...     def generate(self, support, n_proxies, **options):
    ...         last = support.order[support.offsets[1:] - 1]
    ...         return selected(support, last, np.arange(len(support) + 1))
    >>> clf = ImprintClassifier(LastProxies())
    >>> clf.fit([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["a", "b", "b"]).proxy_indices_
    array([0, 2])
    """
    return Ragged(_points_at(support, np.asarray(indices)), np.asarray(offsets))


def _points_at(support, index):
    """Make points of rows by their numbers."""
    counts, spreads = support.weights_at(index), support.spreads_at(index)
    return Points(support.take(index), counts, index, spreads)


def synthesized(
    support: GroupedRows,
    vectors: ArrayLike,
    offsets: ArrayLike,
    *,
    n_jobs: int | None = None,
) -> Ragged:
    """Make proxies that are no training rows, with the nearest row of their class.

    Parameters
    ----------
    support : GroupedRows
        The support embeddings.
    vectors : array-like of shape (n_proxies_total, n_features)
        The proxies, class by class.
    offsets : array-like of shape (n_classes + 1,)
        Where the proxies of each class start, and where the last end.
    n_jobs : int, default=None
        Number of threads across classes.

    Returns
    -------
    proxies : Ragged of Points
        The vectors, and for each the row of its class at the smallest Euclidean
        distance (the first of several) and the weight of the rows that it is the
        nearest proxy of.

    See Also
    --------
    selected : Proxies that are training rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.generation import ProxyGenerator, synthesized
    >>> class MedianProxies(ProxyGenerator):
    ...     def generate(self, support, n_proxies, *, n_jobs=None, **options):
    ...         groups = range(len(support))
    ...         medians = [np.median(support.rows(group), axis=0) for group in groups]
    ...         offsets = np.arange(len(support) + 1)
    ...         return synthesized(support, np.stack(medians), offsets, n_jobs=n_jobs)
    >>> clf = ImprintClassifier(
    ...     MedianProxies(), support_norm=None, proxy_norm=None, whitening=None,
    ...     mean_weight=0,
    ... )
    >>> clf.fit([[0.0, 1.0], [0.0, 3.0], [0.0, 9.0]], ["a", "a", "a"]).proxies_
    array([[0., 3.]])
    """
    vectors, offsets = np.asarray(vectors), np.asarray(offsets)
    # Means may be more exact than rows are; what files cannot hold is as these are.
    dtype = vectors.dtype if vectors.dtype in DTYPES[:2] else support.dtype
    shape = "n_proxies", support.n_features
    vectors = check_returned(vectors, shape, dtype, "generate")
    _check_offsets(support, offsets, len(vectors))
    slots_of, squares = np.diff(offsets), np.einsum("ij,ij->i", vectors, vectors)
    points = Points(
        vectors,
        np.empty(len(vectors)),
        np.empty(len(vectors), dtype=np.intp),
        np.empty(len(vectors)),
    )

    def relate(bucket):
        rows, weights = support.stack(bucket, copy=False), support.stack_weights(bucket)
        slots = offsets[bucket][:, None] + np.arange(slots_of[bucket[0]])
        own = vectors[slots].astype(rows.dtype, copy=False)
        distances = rows @ own.swapaxes(1, 2)
        distances *= -2
        distances += np.einsum("bnd,bnd->bn", rows, rows)[:, :, None]
        distances += squares[slots][:, None, :]
        index = support.stack_indices(bucket)
        nearest = nearest_of(
            distances.swapaxes(1, 2), weights, support.spreads_at(index)
        )
        points.indices[slots] = np.take_along_axis(index, nearest.rows, axis=1)
        points.counts[slots], points.spreads[slots] = nearest.counts, nearest.spreads

    buckets = support.buckets(slots_of)
    costs = [support.sizes[bucket].sum() for bucket in buckets]
    run_tasks(relate, buckets, costs, n_jobs=n_jobs)
    return Ragged(points, offsets)
