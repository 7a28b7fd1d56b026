"""The protocol of GEN: from the support rows of every class to its proxies."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from .._arrays.groups import Buffer
from .._arrays.threads import run_tasks
from .._memory.points import compressed, sampled

# Points remembered of a class for each of its proxies.
POINTS_PER_PROXY = 10


class Proxies(NamedTuple):
    """What a generator returns, in the order of the classes.

    Attributes
    ----------
    vectors : ndarray of shape (n_proxies_total, n_features)
        The proxies.
    offsets : ndarray of shape (n_classes + 1,)
        The proxies of class ``c`` are ``vectors[offsets[c]:offsets[c + 1]]``.
    indices : ndarray of shape (n_proxies_total,)
        The training row that a proxy is, or that stands for a synthetic one.
    counts : ndarray of shape (n_proxies_total,)
        The weight of the samples that a proxy stands for.
    spreads : ndarray of shape (n_proxies_total,)
        Squared distance of a proxy from its training row.
    """

    vectors: np.ndarray
    offsets: np.ndarray
    indices: np.ndarray
    counts: np.ndarray
    spreads: np.ndarray


class ProxyGenerator(BaseEstimator, ABC):
    """Base class of the generators.

    A generator holds its own parameters only. The number of proxies, the seed and
    the number of jobs belong to the classifier, which passes them on.
    """

    _parameter_constraints: dict = {}  # noqa: RUF012 (scikit-learn's convention)

    #: Whether `combine` needs the moments of the classes.
    uses_moments = False

    #: Whether `combine` needs samples of the classes, to leave them out in turn.
    uses_sample = False

    #: Whether the proxies are support samples, rather than means of them.
    selects = False

    #: Whether samples in any parts, but in their order, give the same, to the bit.
    learns_in_order = False

    def n_remembered(self, n_proxies):
        """How many points are to stand for the samples of a class.

        More samples of a class that is known join such points, and new proxies are
        made of both.

        Parameters
        ----------
        n_proxies : ndarray of shape (n_classes,)
            How many proxies each class gets, at most.

        Returns
        -------
        n_points : ndarray of shape (n_classes,)
            About as many; 0 where the proxies themselves will do.
        """
        return n_proxies * POINTS_PER_PROXY

    def condense(self, points, bound):
        """Fewer points that stand for the samples of a class.

        Parameters
        ----------
        points : PointsOfOne
            Samples, and what stood for those before them.
        bound : int
            Of `n_remembered`.

        Returns
        -------
        points : PointsOfOne
            At most twice as many as the bound.
        """
        if self.selects:
            return sampled(points, 2 * bound)
        return compressed(points, bound)

    @abstractmethod
    def generate(self, support, n_proxies, *, seed=0, n_jobs=None, progress=None):
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
        proxies : Proxies
            Vectors, offsets and training rows.
        """

    def generate_each(self, support, numbers, *, seed=0, n_jobs=None, progress=None):
        """Generate the proxies of every class several times, in several numbers.

        Parameters
        ----------
        support : GroupedRows
            The normalised support embeddings, by class.
        numbers : list of ndarray of shape (n_classes,)
            How many proxies each class gets each time, at most.
        seed : int, default=0
            Each class starts from this same seed, each time.
        n_jobs : int, default=None
            Number of threads across classes.
        progress : callable, default=None
            As for `generate`. A class is done once for each number.

        Returns
        -------
        proxies : list of Proxies
            What `generate` returns for each, to the bit.
        """
        options = {"seed": seed, "n_jobs": n_jobs, "progress": progress}
        return [self.generate(support, number, **options) for number in numbers]

    def combine(self, vectors, counts, moments, left_out=None):
        """Let the classes see each other, where a method wants that.

        Parameters
        ----------
        vectors : ndarray of shape (n_proxies_total, n_features)
            The proxies of all classes, as `generate` made them.
        counts : ndarray of shape (n_proxies_total,)
            The weight of the samples that each stands for.
        moments : PooledMoments or None
            Of all classes, if the generator uses them.
        left_out : LeftOut or None
            Samples of all classes, if the generator uses any.

        Returns
        -------
        vectors : ndarray of shape (n_proxies_total, n_features)
            The proxies, for most generators as they were.
        """
        return vectors


def selected(support, indices, offsets):
    """Proxies that are training rows themselves.

    Parameters
    ----------
    support : GroupedRows
        The support embeddings.
    indices : ndarray of shape (n_proxies_total,)
        The row numbers of the proxies, class by class.
    offsets : ndarray of shape (n_classes + 1,)
        Where the proxies of each class start.

    Returns
    -------
    proxies : Proxies
        The rows, in the order given.
    """
    counts, spreads = np.ones(len(indices)), np.zeros(len(indices))
    if support.sample_weight is not None:
        counts = support.sample_weight[indices].astype(float)
    if support.spread is not None:
        spreads = support.spread[indices]
    return Proxies(support.take(indices), offsets, indices, counts, spreads)


def for_each_bucket(groups, counts, work, *, n_jobs):
    """Gather the rows of all groups, a few at a time, in threads.

    Parameters
    ----------
    groups : GroupedRows
        Rows by group.
    counts : ndarray of shape (n_groups,) or (n_counts, n_groups)
        Groups that go together agree in these numbers, and in size.
    work : callable
        Gets the numbers of some groups, of shape (n_alike,), and their rows, of shape
        (n_alike, n, d), which are gone when it returns.
    n_jobs : int or None
        Number of threads, resolved as joblib does.
    """
    buffer = Buffer()
    row_bytes = groups.n_features * groups.dtype.itemsize

    def run(bucket):
        shape = len(bucket), groups.sizes[bucket[0]], groups.n_features
        work(bucket, groups.stack(bucket, out=buffer.empty(shape, groups.dtype)))

    buckets = groups.buckets(counts, lambda size: row_bytes)
    costs = [groups.sizes[bucket].sum() for bucket in buckets]
    run_tasks(run, buckets, costs, n_jobs=n_jobs)


def synthesized(support, vectors, offsets, *, n_jobs=None):
    """Proxies that are no training rows, with the nearest row of their class.

    Parameters
    ----------
    support : GroupedRows
        The support embeddings.
    vectors : ndarray of shape (n_proxies_total, n_features)
        The proxies, class by class.
    offsets : ndarray of shape (n_classes + 1,)
        Where the proxies of each class start.
    n_jobs : int, default=None
        Number of threads across classes.

    Returns
    -------
    proxies : Proxies
        The vectors, and for each the row of its class at the smallest Euclidean
        distance (the first of several) and the weight of the rows that it is the
        nearest proxy of.
    """
    return synthesized_each(support, [(vectors, offsets)], n_jobs=n_jobs)[0]


def synthesized_each(support, made, *, n_jobs=None):
    """Several times the proxies of every class, each with the nearest row of its class.

    Parameters
    ----------
    support, n_jobs
        As for `synthesized`.
    made : list of tuple (vectors, offsets)
        Proxies of all classes.

    Returns
    -------
    proxies : list of Proxies
        What `synthesized` returns for each; but rows are gathered once for all.
    """
    found = [
        Proxies(
            vectors,
            offsets,
            np.empty(len(vectors), dtype=np.intp),
            np.empty(len(vectors)),
            np.empty(len(vectors)),
        )
        for vectors, offsets in made
    ]
    squares = [np.einsum("ij,ij->i", vectors, vectors) for vectors, _ in made]
    n_proxies = [np.diff(offsets) for _, offsets in made]

    def relate(bucket, rows):
        index, weights = support.stack_indices(bucket), support.stack_weights(bucket)
        sq_norms = np.einsum("bnd,bnd->bn", rows, rows)[:, :, None]
        for each, sq, numbers in zip(found, squares, n_proxies, strict=True):
            slots = each.offsets[bucket][:, None] + np.arange(numbers[bucket[0]])
            vectors = each.vectors[slots].astype(rows.dtype, copy=False)
            distances = rows @ vectors.swapaxes(1, 2)
            distances *= -2
            distances += sq_norms
            distances += sq[slots][:, None, :]
            each.counts[slots] = _weights_of_the_nearest(
                distances.argmin(axis=2), weights, slots.shape[1]
            )
            if support.spread is not None:
                # Of what a row stands for, a sample is farther away than the row.
                distances += support.spread[index][:, :, None]
            nearest = distances.argmin(axis=1)
            each.indices[slots] = np.take_along_axis(index, nearest, axis=1)
            spreads = np.take_along_axis(distances, nearest[:, None], axis=1)
            each.spreads[slots] = np.maximum(spreads[:, 0], 0)

    for_each_bucket(support, n_proxies, relate, n_jobs=n_jobs)
    return found


def _weights_of_the_nearest(labels, weights, n_proxies):
    """Sum of the weights of the rows of each label, stack by stack: (b, k)."""
    if n_proxies == 1:
        return weights.sum(axis=1, keepdims=True, dtype=np.float64)
    flat = labels + n_proxies * np.arange(len(labels))[:, None]
    size = len(labels) * n_proxies
    return np.bincount(flat.ravel(), weights.ravel(), size).reshape(-1, n_proxies)
