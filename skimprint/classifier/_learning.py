"""Learn, forget and merge: from samples and what is known to what is known then."""

import warnings
from dataclasses import replace

import numpy as np

from .._memory.learner import block_of_head, common_label_dtype, learn, renormalized
from .._memory.state import State
from .._plan import Plan, checked_head, chosen_norm, resolved_support_norm
from .._progress import progress_bar
from ._checks import check_fits
from ._fitted import Fitted
from ._plain.parameters import parameters_then, with_parameters


def plan_and_state(clf, batch, *, plan=None):
    """Make a plan, and know nothing yet, or the classes of the head.

    Parameters
    ----------
    clf : ImprintClassifier
        Has valid parameters.
    batch : Batch or None
        The first samples; None if there is only a head.
    plan : Plan, default=None
        What the parameters mean, perhaps with more needs, where it is known.

    Returns
    -------
    plan : Plan
        What the parameters mean.
    state : State
        What is known before any sample.
    """
    if clf.head is None:
        # If it has a name, there is no need to look.
        is_chosen = resolved_support_norm(clf.support_norm, clf.query_norm) == "auto"
        return plan or Plan.of(clf, is_chosen and not batch.signed_labels), State()
    weight, classes = checked_head(clf.head)
    plan = plan or Plan.of(clf, np.min(weight) >= 0)
    if plan.generator.combines:
        raise ValueError(
            f"{type(plan.generator).__name__} cannot start from a head: it needs the "
            "samples of all classes. Use another generator, such as 'mean'."
        )
    if batch is not None and batch.X.shape[1] != weight.shape[1]:
        raise ValueError(
            f"X has {batch.X.shape[1]} features, but the head has {weight.shape[1]}."
        )
    block = block_of_head(plan, classes.tolist(), weight)
    state = State(
        label_dtype=classes.dtype,
        dtype=block.proxies.values.vectors.dtype,
        n_features=weight.shape[1],
    ).changed(new=[block])
    if batch is not None:
        common_label_dtype(state, batch.classes.tolist(), batch.classes.dtype)
        check_fits(batch.X, state.dtype)
    return plan, state


def learnt_more(clf, fitted, batch):
    """Learn samples beside what is known.

    Parameters
    ----------
    clf : ImprintClassifier
        Has valid parameters.
    fitted : Fitted or None
        What is known; None if nothing has been learnt.
    batch : Batch
        The samples.

    Returns
    -------
    fitted : Fitted
        What is known then. The samples may wait there to be learnt.
    """
    labels = batch.classes.tolist()
    if fitted is None:
        fitted = Fitted(*plan_and_state(clf, batch))
    elif not fitted.knows_classes:
        fitted = Fitted(replanned(clf, not batch.signed_labels), fitted.learnt_state)
    fitted.plan.n_proxies_of(labels)  # an error if the number of one is missing
    after = fitted.enqueued(batch) if fitted.knows_classes else None
    if after is not None:
        return after
    n_there = np.count_nonzero(~batch.is_absent)
    plan, state = fitted.plan, fitted.learnt_state
    with progress_bar(n_there, "classes", verbose=clf.verbose) as progress:
        state = learn(plan, state, batch, n_jobs=clf.n_jobs, progress=progress)
    return fitted.extended(state)


def replanned(clf, is_nonnegative):
    """Make the plan of the last fit again, with norms chosen by other samples.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted; it may know no class.
    is_nonnegative : bool
        Whether none of these samples has a negative value.

    Returns
    -------
    plan : Plan
    """
    plan = clf._fitted.plan
    if not plan.chooses_norm or plan.support_norm_value == chosen_norm(is_nonnegative):
        return plan
    again = Plan.of(with_parameters(clf, parameters_then(clf)), is_nonnegative)
    return replace(again, seed=plan.seed, parameters=plan.parameters)


def fitted_without(clf, labels):
    """Forget classes, and choose the norms again by those that are left.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted.
    labels : list
        Some of its classes.

    Returns
    -------
    fitted : Fitted
        If not all samples are kept, the norms stay, with a warning.
    """
    fitted = clf._fitted
    state = fitted.learnt_state.changed(labels)
    after = _in_chosen_norm(clf, state, state.is_nonnegative)
    if after is None:
        warnings.warn(
            f"support_norm_ stays {fitted.plan.support_norm_value!r}, which 'auto' "
            "would not choose for the classes that are left: not all of their samples "
            "are kept, to be normalised again. Fit again without what is forgotten, or "
            "pass support_norm='l2' or 'power' beforehand.",
            UserWarning,
            stacklevel=3,
        )
    elif after is not fitted:
        return after
    return fitted.replaced(state)


def in_one_norm(first, second):
    """Bring what two classifiers know to one norm.

    Parameters
    ----------
    first, second : ImprintClassifier
        Of the same parameters. They stay as they are.

    Returns
    -------
    mine, theirs : Fitted
        What each knows, in the norm that all samples together choose, or in the other
        one, if only that can be.

    Raises
    ------
    ValueError
        If their norms differ, and neither has kept all its samples.
    """
    # Parts that came later may have other signs than the first, so that two that have
    # the same norm may both have to follow.
    pair = first._fitted, second._fitted
    wanted = all(fitted.learnt_state.is_nonnegative for fitted in pair)
    for is_nonnegative in (wanted, not wanted):
        found = [
            _in_chosen_norm(clf, clf._fitted.learnt_state, is_nonnegative)
            for clf in (first, second)
        ]
        if None not in found:
            return found
    mine, theirs = (fitted.plan.support_norm_value for fitted in pair)
    raise ValueError(
        f"other must have the same support_norm_; it is {theirs!r} instead of "
        f"{mine!r}, and neither has kept all its samples, to normalise them again. Fit "
        f"both with support_norm={mine!r}, or both with {theirs!r}."
    )


def _in_chosen_norm(clf, state, is_nonnegative):
    """Find what is known in the norm that samples choose; None where that cannot be."""
    fitted = clf._fitted
    plan = replanned(clf, is_nonnegative)
    if plan is fitted.plan:
        return fitted
    norm = fitted.plan.support_norm
    state = renormalized(plan, state, norm, n_jobs=clf.n_jobs)
    return None if state is None else Fitted(plan, state)
