"""Cluster every class at once by k-means: ragged groups, one call.

Each group takes the cheapest of four routes that lead to the same kind of result:
its rows as they are, a mean, Lloyd's algorithm on inner products, or Lloyd's
algorithm on rows. Every group draws from a generator of its own, with the same seed,
and its arithmetic depends on nothing but its own rows, so that neither other groups
nor the number of threads change a bit of its result.
"""

from numbers import Integral, Real

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils._param_validation import Interval

from ..._arrays.threads import PausableLock, run_tasks
from .routes import GroupedKMeansResult, Job, label_weightless, tasks_of

# Parameters of estimators that are options here, and what they may be.
OPTIONS = {
    "n_init": [Interval(Integral, 1, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "spherical": ["boolean"],
}


def grouped_kmeans(groups, n_clusters, **options):
    """Cluster the rows of each group by k-means.

    Parameters
    ----------
    groups, **options
        As for `grouped_kmeans_each`.
    n_clusters : int or ndarray of shape (n_groups,)
        Number of clusters of each group.

    Returns
    -------
    result : GroupedKMeansResult
        The clusters.
    """
    return grouped_kmeans_each(groups, [n_clusters], **options)[0]


def grouped_kmeans_each(
    groups,
    numbers,
    *,
    seed,
    n_init=1,
    max_iter=300,
    tol=1e-4,
    spherical=False,
    n_jobs=None,
    progress=None,
):
    """Cluster the rows of each group several times, into several numbers of clusters.

    Rows are gathered and centred, and their inner products made, once for all numbers;
    each result is that of a call with this number alone, to the bit.

    Parameters
    ----------
    groups : GroupedRows
        Rows by group, with their weights. Rows without weight take no part and get
        the label of the nearest centre.
    numbers : list of int or of ndarray of shape (n_groups,)
        Numbers of clusters of each group. Groups that have no more rows than that
        keep them as their centres.
    seed : int
        Seed of each group's random number generator.
    n_init : int, default=1
        Number of runs from different seeds; the one of least inertia is kept.
    max_iter : int, default=300
        Bound for the iterations of a run.
    tol : float, default=1e-4
        Squared shift of the centres at which a run has converged, relative to the
        mean variance of the features.
    spherical : bool, default=False
        Whether to maximise cosine similarity: rows and centres have unit length.
    n_jobs : int, default=None
        Number of threads over groups, resolved as joblib does.
    progress : callable, default=None
        Called, from any thread, with the number of groups that are done since; a
        group is done once for each number.

    Returns
    -------
    results : list of GroupedKMeansResult
        One for each number. Centres of a group with fewer distinct rows than clusters
        repeat.
    """
    if spherical:
        groups = groups.normalized()
    engaged, scales = groups.without_weightless().with_moderate_weights()
    results = [
        GroupedKMeansResult.empty(engaged, number)._replace(
            labels=np.zeros(len(groups.X), np.int32),
            n_iter=np.zeros(len(groups), np.intp),
        )
        for number in numbers
    ]
    options = {
        "n_init": n_init,
        "max_iter": max_iter,
        "tol": tol / groups.n_features,
        "spherical": spherical,
    }
    job = Job(engaged, results, seed, options, PausableLock())
    tasks = tasks_of(job, effective_n_jobs(n_jobs))
    run_tasks(
        lambda task: task.route(job, task.groups, task.results),
        tasks,
        [task.cost for task in tasks],
        n_jobs=n_jobs,
        progress=progress
        and (lambda task: progress(len(task.groups) * len(task.results))),
    )
    for result in results:
        result.inertia[:] *= scales
        result.counts[:] *= np.repeat(scales, np.diff(result.offsets))
    label_weightless(job, groups)
    return results
