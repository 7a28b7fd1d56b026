"""Learn from dask collections."""

import warnings
from collections import Counter
from dataclasses import replace
from operator import getitem
from typing import Any

import numpy as np
from dask._task_spec import List
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from .._arrays.groups import offsets_of
from .._memory.learner import common_label_dtype, united
from .._memory.state import State
from .._plan import Plan
from .._validation import shortened
from ..classifier import ImprintClassifier
from ..classifier._fitted import Fitted
from ..classifier._learning import plan_and_state, replanned
from ._buckets import buckets, chunks_by_parts
from ._collections import Chunks, check_ours, features_like
from ._graph import Tasks, optimized, parts_of
from ._tasks import checker_of, how_to_learn, labels_of_chunk, learn_bucket, split
from ._workers import computed, workers_of


def fit(
    estimator: ImprintClassifier,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    client: Any = None,
) -> ImprintClassifier:
    """Imprint the classes of a dask collection.

    Parameters
    ----------
    estimator : ImprintClassifier
        Has the parameters; it stays as it is.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The support embeddings, in chunks of any, also unknown sizes.
    y : dask array, dask Series or array-like of shape (n_samples,)
        Their labels. Where sizes of chunks are unknown, in as many chunks as ``X``.
    sample_weight : dask array, dask Series or array-like, default=None
        Weights, as in `ImprintClassifier.fit`.
    client : distributed.Client, default=None
        Where to compute.

    Returns
    -------
    classifier : ImprintClassifier
        Fitted: a plain one, in this process.

    Raises
    ------
    ValueError
        If a parameter, the embeddings, the labels or the weights are not valid; the
        message names the chunk and the row.

    Notes
    -----
    All samples of a class should fit in the memory of one worker: a class that is too
    large is learnt by parts, as by `partial_fit`, with a warning. Temperatures, kernel
    regressions and whitenings are found here, of what is known of the classes, when
    they are needed.

    Examples
    --------
    >>> import dask.array as da
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.datasets import load_digits_embeddings
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> X, y = da.from_array(X, chunks=(500, 1024)), da.from_array(y, chunks=500)
    >>> clf = skimprint.dask.fit(ImprintClassifier(random_state=0), X, y)
    >>> labels = skimprint.dask.predict(clf, X)
    >>> bool((labels == y).mean().compute() > 0.95)
    True
    """
    check_ours(estimator, "estimator")
    clf = clone(estimator)
    clf._validate_params()
    chunks = Chunks.of(X, y, sample_weight)
    if clf.head is None:
        # Each plan draws the same seed, also from a random state.
        plans = Plan.of(clone(clf), False), Plan.of(clone(clf), True)
        state = State()
    else:
        plan, state = plan_and_state(clf, None)
        plans = plan, plan
    plan, state, n_features = _learnt(plans, state, clf, chunks, client)
    clf._adopt(Fitted(plan, state), features_like(X, n_features))
    return clf


def partial_fit(
    model: ImprintClassifier,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    client: Any = None,
) -> ImprintClassifier:
    """Learn new classes of a dask collection, and more of known ones.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted. An error leaves it as it was.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        More support embeddings.
    y : dask array, dask Series or array-like of shape (n_samples,)
        Their labels, known or new.
    sample_weight : dask array, dask Series or array-like, default=None
        Weights, as in `ImprintClassifier.fit`.
    client : distributed.Client, default=None
        Where to compute.

    Returns
    -------
    model : ImprintClassifier
        The same, which knows more: as after its own `partial_fit` of all rows at once.

    Raises
    ------
    ValueError
        As for `fit`.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0]], ["up"])
    >>> X = da.from_array(np.array([[1.0, 0.0], [-1.0, 0.0]]), chunks=(1, 2))
    >>> skimprint.dask.partial_fit(clf, X, np.array(["right", "left"])).classes_
    array(['left', 'right', 'up'], dtype='<U5')
    """
    check_ours(model, "model")
    check_is_fitted(model, "_fitted")  # it may have forgotten all classes
    fitted = model._fitted
    chunks = Chunks.of(X, y, sample_weight)
    if fitted.knows_classes:
        plans = fitted.plan, fitted.plan
    else:
        plans = replanned(model, False), replanned(model, True)
    plan, state, _ = _learnt(plans, fitted.learnt_state, model, chunks, client)
    if not fitted.knows_classes:
        fitted = Fitted(plan, fitted.learnt_state)
    model._set_fitted(fitted.extended(state))
    return model


def _learnt(plans, state, clf, chunks, client):
    """Learn all chunks, class by class, beside what is known.

    Each chunk of rows is computed once: where they go is found by the labels, and how
    they are learnt, by all of them, where they are learnt.

    Parameters
    ----------
    plans : tuple of Plan
        How to learn rows with negative values, and rows without.
    state : State
        What is known.
    clf : ImprintClassifier
        Has the parameters.
    chunks : Chunks
        The samples.
    client : Client or None
        Where to compute.

    Returns
    -------
    plan : Plan
        That of the two by which they were learnt.
    state : State
        What is known after.
    n_features : int
        Of the rows.
    """
    checker = checker_of(clf)
    counted = _counted(checker, chunks.y, client)
    counts, label_dtype = _all_labels(state, counted)
    plans[0].n_proxies_of(list(counts))  # an error if the number of one is missing
    starts = offsets_of([some.n_rows for some in counted])
    n_samples = state.n_samples + int(starts[-1])
    bucket_of, large, most = buckets(counts, chunks.row_bytes, *workers_of(client))
    if large:
        warnings.warn(
            f"The samples of {shortened(sorted(large))} are too many for one worker, "
            f"more than {int(most)}: these classes are learnt by parts, as by "
            "partial_fit. With fewer threads or more memory each worker would hold "
            "more.",
            UserWarning,
            stacklevel=3,
        )
    n_buckets = max(bucket_of.values()) + 1
    tasks = Tasks(chunks.collections)
    there, where, plans_there = map(tasks.share, (checker, bucket_of, plans))
    found = []  # of each chunk: its look, and its piece for each bucket
    for number, its_parts in enumerate(chunks.parts):
        result = tasks.add_with_parts(
            split,
            there,
            number,
            *its_parts,
            int(starts[number]),
            where,
            plans[0].chooses_norm,
        )
        found.append([tasks.add(getitem, result, i) for i in range(1 + n_buckets)])
    looks, *pieces_of = zip(*found, strict=True)
    looks = List(*looks)
    how = tasks.add(how_to_learn, plans_there, state.n_features, label_dtype, looks)
    labels_of = [set() for _ in range(n_buckets)]
    for label, bucket in bucket_of.items():
        labels_of[bucket].add(label)
    states = []
    for labels, pieces in zip(labels_of, pieces_of, strict=True):
        runs = [range(len(pieces))]
        if labels <= large:
            runs = chunks_by_parts(counted, *labels, most)
        learnt = tasks.share(_part_of(state, labels))
        for run in runs:
            some = List(*(pieces[number] for number in run))
            learnt = tasks.add(
                learn_bucket, how, learnt, some, state.n_samples, n_samples, clf.device
            )
        states.append(learnt)
    looks, *states = computed(tasks.delayed([tasks.add(list, looks), *states]), client)
    # Functions of the user's are those that were passed, not copies from a worker.
    how = how_to_learn(plans, state.n_features, label_dtype, looks)
    state = united(how.plan.needs, state, states, label_dtype, n_samples)
    return how.plan, state, how.n_features


def _counted(checker, y, client):
    """Count the labels of each chunk: list of Labels."""
    labels = optimized([y])
    tasks = Tasks(labels)
    there = tasks.share(checker)
    results = [
        tasks.add_with_parts(labels_of_chunk, there, number, part)
        for number, part in enumerate(parts_of(*labels))
    ]
    return computed(tasks.delayed(results), client)


def _all_labels(state, counted):
    """Count the labels of all chunks, and find the dtype that they have together."""
    counts = Counter()
    for some in counted:
        labels = some.classes.tolist()
        if labels:
            label_dtype = common_label_dtype(state, labels, some.classes.dtype)
            absent = state.absent.union(labels)
            state = replace(state, label_dtype=label_dtype, absent=absent)
        counts.update(dict(zip(labels, some.counts.tolist(), strict=True)))
    if not counts:
        raise ValueError("X has no rows: there is nothing to learn.")
    return counts, state.label_dtype


def _part_of(state, labels):
    """Take what is known of some classes, and nothing of the sum over all."""
    pooled = None if state.pooled is None else np.zeros_like(state.pooled)
    others = [label for label in state.places if label not in labels]
    return state.changed(others, absent=frozenset(), pooled=pooled)
