"""Parameters as they were when a classifier was fitted, and what they mean."""

from copy import copy
from dataclasses import replace

from sklearn.base import clone

from ..._memory.state import Needs
from ..._plan import Plan, same_value
from .arrays import count


def parameters_then(clf):
    """Find the parameters that a classifier was fitted with, where they differ now.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted.

    Returns
    -------
    parameters : dict
        They act until the next `fit`.
    """
    then, now = clf._fitted.plan.parameters, clf.get_params()
    changed = {name for name in then if then[name] is not now.get(name)}
    found = {name: then[name] for name in sorted(changed) if "__" not in name}
    for name in sorted({name.split("__")[0] for name in changed} - found.keys()):
        own = f"{name}__"
        inner = {k.removeprefix(own): v for k, v in then.items() if k.startswith(own)}
        found[name] = clone(then[name]).set_params(**inner)
    return found


def with_parameters(clf, changes):
    """Copy a classifier, with other values of some parameters.

    A subclass may have set some of them itself, so that its own ``__init__`` takes
    fewer.
    """
    other = copy(clf)
    vars(other).update(changes)
    return other


def plan_then(clf, plain, then):
    """Resolve parameters as `fit` did, of samples that are not there any more.

    Parameters
    ----------
    clf, plain, then
        As for `read_fitted`.

    Returns
    -------
    plan : Plan
    """
    given = with_parameters(clf, then)
    given._validate_params()
    chosen = plain["support_norm"]
    # No number is drawn from a random state that a user passed.
    plan = Plan.of(with_parameters(given, {"random_state": 0}), chosen == "power")
    if not same_value(plan.support_norm_value, chosen):
        raise ValueError(f"support_norm cannot be {chosen!r}.")
    needs = Needs()
    if plain["learning"]:
        moments, samples, scatter_bytes = plain["needs"]
        needs = Needs(
            count(moments, "needs"),
            count(samples, "needs"),
            count(scatter_bytes, "needs"),
        )
        if not plan.needs.moments <= moments <= 2:
            raise ValueError("needs lack the moments, which the parameters need.")
    return replace(
        plan,
        parameters=given.get_params(),
        seed=count(plain["seed"], "seed"),
        needs=needs,
    )
