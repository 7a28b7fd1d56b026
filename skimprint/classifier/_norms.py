"""Forget and merge: choose norms again, and learn samples again in another norm."""

import warnings
from dataclasses import replace

from .._memory.learner import renormalized
from .._plan import Plan, chosen_norm, same_value
from ._fitted import Fitted
from ._plain.parameters import parameters_then, with_parameters


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
    state = fitted.learnt.changed(labels)
    followed = _followed(clf, state, state.is_nonnegative)
    if followed is None:
        warnings.warn(
            f"support_norm_ stays {fitted.plan.support_norm_value!r}, which 'auto' "
            "would not choose for the classes that are left: not all of their samples "
            "are kept, to be normalised again. Fit again without what is forgotten, or "
            "pass support_norm='l2' or 'power' beforehand.",
            UserWarning,
            stacklevel=3,
        )
    elif followed is not fitted:
        return followed
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
        If neither has kept all its samples.
    """
    pair = first._fitted, second._fitted
    mine, theirs = (fitted.plan.support_norm_value for fitted in pair)
    if same_value(mine, theirs):
        return pair
    wanted = all(fitted.learnt.is_nonnegative for fitted in pair)
    for is_nonnegative in (wanted, not wanted):
        found = [
            _followed(clf, clf._fitted.learnt, is_nonnegative)
            for clf in (first, second)
        ]
        if None not in found:
            return found
    raise ValueError(
        f"other must have the same support_norm_; it is {theirs!r} instead of "
        f"{mine!r}, and neither has kept all its samples, to normalise them again: "
        "pass one of them to both."
    )


def _followed(clf, state, is_nonnegative):
    """Go over to the norm that samples choose; None where that cannot be."""
    fitted = clf._fitted
    plan = replanned(clf, is_nonnegative)
    if plan is fitted.plan:
        return fitted
    norm = fitted.plan.support_norm
    state = renormalized(plan, state, norm, n_jobs=clf.n_jobs)
    return None if state is None else Fitted(plan, state)
