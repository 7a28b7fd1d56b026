"""How many proxies a class needs, by samples of it that are held out."""

from copy import copy
from itertools import pairwise

import numpy as np

from .._arrays.groups import offsets_of, row_keys

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
    made, held, classes = [], [], []
    for group, (first, second) in enumerate(_halves(support)):
        if min(len(first), len(second)) <= N_PROXIES[1]:
            continue
        both_ways = support.sizes[group] < _BOTH_WAYS
        made += [first, second] if both_ways else [first]
        held += [second, first] if both_ways else [second]
        classes += [group] * (1 + both_ways)
    if not made:
        return np.ones(len(support), dtype=np.intp)

    made, held, classes = (
        _grouped(support, made),
        _grouped(support, held),
        np.array(classes),
    )
    candidates = np.array(N_PROXIES)
    possible = candidates < np.minimum(made.sizes, held.sizes)[:, None]
    possible[:, 0] = True
    candidates = candidates[possible.any(axis=0)]
    possible = possible[:, : len(candidates)]
    # A half with too few samples for a number makes one proxy in its place.
    trials = list(np.where(possible, candidates, 1).T)
    proxies = generator.generate_each(made, trials, seed=seed, n_jobs=n_jobs)
    distortions = np.zeros((len(support), len(candidates)))
    for bucket, found in _distortions(held, proxies):
        np.add.at(distortions, classes[bucket], found)
    excluded = np.ones(distortions.shape, bool)
    excluded[classes] = ~possible
    excluded[:, 0] = False
    distortions[excluded] = np.inf
    return candidates[distortions.argmin(axis=1)]


def _halves(support):
    """Yield row numbers of the halves of each class, equal rows in the same one."""
    keys = np.empty(len(support.order), np.uint64)
    for slab in support.slabs(_MAX_SAMPLES):
        part = slice(support.offsets[slab.start], support.offsets[slab.stop])
        keys[part] = row_keys(support.take(support.order[part]), seed=0)
    codes = np.repeat(np.arange(len(support)), support.sizes)
    order = np.lexsort((keys, codes))
    starts_anew = np.ones(len(order), bool)
    starts_anew[1:] = (np.diff(keys[order]) != 0) | (np.diff(codes) != 0)
    which = np.cumsum(starts_anew)
    index = support.order[order]
    for start, stop in pairwise(support.offsets):
        part = slice(start, min(stop, start + _MAX_SAMPLES))
        second = (which[part] - which[start]) % 2 == 1
        yield index[part][~second], index[part][second]


def _grouped(support, parts):
    """A group of each array of row numbers."""
    groups = copy(support)
    groups.order = np.concatenate(parts)
    groups.sizes = np.array([len(part) for part in parts])
    groups.offsets = offsets_of(groups.sizes)
    return groups


def _distortions(held, proxies):
    """Sums of squared distances of held-out samples to their nearest proxies.

    Parameters
    ----------
    held : GroupedRows
        The samples.
    proxies : list of Proxies
        Several sets of proxies of the same groups.

    Yields
    ------
    bucket : ndarray of shape (n,)
        Some of the groups.
    distortions : ndarray of shape (n, n_sets)
        Theirs, by each set of proxies.
    """
    counts = [np.diff(each.offsets) for each in proxies]
    row_bytes = held.n_features * held.dtype.itemsize
    for bucket in held.buckets(counts, lambda size: row_bytes):
        numbers = [each[bucket[0]] for each in counts]
        vectors = np.concatenate(
            [
                each.vectors[each.offsets[bucket][:, None] + np.arange(number)]
                for each, number in zip(proxies, numbers, strict=True)
            ],
            axis=1,
        )
        origin = vectors.mean(axis=1, keepdims=True)  # less is lost to rounding near it
        rows, vectors = held.stack(bucket) - origin, vectors - origin
        distances = -2 * rows @ vectors.swapaxes(1, 2)
        distances += np.einsum("bkd,bkd->bk", vectors, vectors)[:, None]
        distances += np.einsum("bnd,bnd->bn", rows, rows)[:, :, None]
        nearest = np.minimum.reduceat(distances, offsets_of(numbers)[:-1], axis=2)
        yield bucket, np.einsum("bn,bnk->bk", held.stack_weights(bucket), nearest)
