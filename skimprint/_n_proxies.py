"""How many proxies a class needs, by samples of it that are held out."""

from copy import copy

import numpy as np

from ._groups import offsets_of, row_keys

# Numbers of proxies to choose among.
N_PROXIES = (1, 2, 5, 10, 20)

# Most samples of a class to choose by: more tell little more, and cost.
_MAX_SAMPLES = 1000

# Classes with fewer samples than this use each half for both purposes in turn.
_BOTH_WAYS = 100


def choose_n_proxies(generator, support, *, seed, n_jobs=None):
    """The number of proxies of each class that is best for held-out samples.

    Half of the samples of a class make proxies, and the other half is compared with
    them; where there are few, also the other way round. The number is chosen whose
    held-out samples are the nearest to their nearest proxy, in the mean of the squared
    distances. A class is looked at alone; halves are chosen by a hash of the values,
    and so do not depend on the order of the samples.

    Parameters
    ----------
    generator : ProxyGenerator
        Makes the proxies.
    support : GroupedRows
        The normalised support embeddings, by class.
    seed : int
        Of the generator.
    n_jobs : int, default=None
        Number of threads across classes.

    Returns
    -------
    n_proxies : ndarray of shape (n_classes,)
        Each one of ``N_PROXIES``, less than half of the samples or 1.
    """
    chosen = np.ones(len(support), dtype=np.intp)
    tasks = []
    for group, size in enumerate(support.sizes):
        if size < 5:  # no half has more than two
            continue
        first, second = _halves(support, group)
        numbers = [k for k in N_PROXIES if k < min(len(first), len(second))]
        if len(numbers) > 1:
            tasks.append((group, numbers, first, second))
            if size < _BOTH_WAYS:
                tasks.append((group, numbers, second, first))
    if not tasks:
        return chosen

    # Each half as often as there are numbers to try: all are clustered in one call.
    trials = [(made, k) for _, numbers, made, _ in tasks for k in numbers]
    rows, n_proxies = zip(*trials, strict=True)
    proxies = generator.generate(
        _grouped(support, rows), np.array(n_proxies), seed=seed, n_jobs=n_jobs
    )
    distortions = {}
    start = 0
    for group, numbers, _, held in tasks:
        bounds = proxies.offsets[start : start + len(numbers) + 1]
        start += len(numbers)
        vectors = proxies.vectors[bounds[0] : bounds[-1]]
        distances = _distances(support.take(held), vectors)
        nearest = np.minimum.reduceat(distances, bounds[:-1] - bounds[0], axis=1)
        weights = support.sample_weight
        weights = np.ones(len(held)) if weights is None else weights[held]
        distortions[group] = distortions.get(group, 0) + weights @ nearest
        chosen[group] = numbers[distortions[group].argmin()]
    return chosen


def _halves(support, group):
    """Row numbers of the halves of a class; rows that are equal are in the same one."""
    index = support.indices(group)
    _, which = np.unique(row_keys(support.take(index), seed=0), return_inverse=True)
    order = np.argsort(which, kind="stable")[:_MAX_SAMPLES]
    second = which[order] % 2 == 1
    return index[order[~second]], index[order[second]]


def _grouped(support, parts):
    """A group of each array of row numbers."""
    groups = copy(support)
    groups.order = np.concatenate(parts)
    groups.sizes = np.array([len(part) for part in parts])
    groups.offsets = offsets_of(groups.sizes)
    return groups


def _distances(rows, vectors):
    """Squared distances of rows to vectors, of shape (n_rows, n_vectors)."""
    origin = vectors.mean(axis=0)  # less is lost to rounding near it
    rows, vectors = rows - origin, vectors - origin
    distances = -2 * rows @ vectors.T
    distances += np.einsum("ij,ij->i", vectors, vectors)
    distances += np.einsum("ij,ij->i", rows, rows)[:, None]
    return distances
