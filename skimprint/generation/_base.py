"""The protocol of GEN: from the support rows of every class to its proxies."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator

from .._groups import Buffer, offsets_of
from .._threads import run_tasks


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
    """

    vectors: np.ndarray
    offsets: np.ndarray
    indices: np.ndarray


class ProxyGenerator(BaseEstimator, ABC):
    """Base class of the generators.

    A generator holds its own parameters only. The number of proxies, the seed and
    the number of jobs belong to the classifier, which passes them on.
    """

    _parameter_constraints: dict = {}  # noqa: RUF012 (scikit-learn's convention)

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


def selected(support, picks):
    """Proxies that are training rows themselves.

    Parameters
    ----------
    support : GroupedRows
        The support embeddings.
    picks : list of ndarray
        For each class, the row numbers of its proxies.

    Returns
    -------
    proxies : Proxies
        The rows, in the order given.
    """
    indices = np.concatenate(picks)
    return Proxies(support.take(indices), offsets_of([len(p) for p in picks]), indices)


def for_each_bucket(groups, counts, work, *, n_jobs):
    """Gather the rows of all groups, a few at a time, in threads.

    Parameters
    ----------
    groups : GroupedRows
        Rows by group.
    counts : ndarray of shape (n_groups,)
        Groups that go together agree in this number, and in size.
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
        distance (the first of several).
    """
    counts = np.diff(offsets)
    indices = np.empty(len(vectors), dtype=np.intp)

    def find_nearest(bucket, rows):
        slots = offsets[bucket][:, None] + np.arange(counts[bucket[0]])
        # argmin |x - p|^2 = argmax x.p - |x|^2 / 2: |p|^2 is the same for all x.
        ranks = rows @ vectors[slots].transpose(0, 2, 1)
        ranks -= np.einsum("bnd,bnd->bn", rows, rows)[:, :, None] / 2
        nearest = ranks.argmax(axis=1)
        index = support.stack_indices(bucket)
        indices[slots] = np.take_along_axis(index, nearest, axis=1)

    for_each_bucket(support, counts, find_nearest, n_jobs=n_jobs)
    return Proxies(vectors, offsets, indices)
