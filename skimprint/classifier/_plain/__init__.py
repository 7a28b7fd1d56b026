"""What a classifier knows, as plain values and arrays, and back.

Pickles and files hold it in this form, so that neither depends on private classes.
"""

from ..._scoring.scorer import Scorer
from .._calibration import Calibration
from .._fitted import Fitted, KeptShrinkage, PredictOnly
from .arrays import POSITIVE, SHARE, Arrays, Checked, flag, number
from .head import read_head, read_space, write_head
from .parameters import parameters_then, plan_then
from .state import read_state, write_state


def write_pickled(clf, *, derived=False, learning=True):
    """Turn what a classifier knows into plain values for a pickle, arrays included.

    By default without anything that follows from the rest, up to what takes long to
    compute.
    """
    arrays = Arrays()
    plain = write_fitted(clf, arrays, derived=derived, learning=learning)
    return plain | {"arrays": arrays.all, "parameters_then": parameters_then(clf)}


def read_pickled(clf, plain):
    """Make what a classifier knows of what `write_pickled` returned."""
    arrays = Checked(plain["arrays"].__getitem__, plain["arrays"], is_trusted=True)
    return read_fitted(clf, plain, arrays, plain["parameters_then"])


def write_fitted(clf, arrays, *, derived, learning=True):
    """Turn what a classifier knows into plain values and arrays.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted; it may have forgotten all classes.
    arrays : Arrays
        Gets the arrays.
    derived : bool
        Whether to write what follows from the rest, and is faster to read than made.
    learning : bool, default=True
        Whether to write what is known of classes, if it is there, to learn more.

    Returns
    -------
    plain : dict
        Is JSON, unless the norm of the support is a function.
    """
    fitted = clf._fitted
    plan, learns = fitted.plan, learning and isinstance(fitted, Fitted)
    plain = {
        "support_norm": plan.support_norm_value,
        "seed": plan.seed,
        "learning": learns,
    }
    if learns:
        plain |= {"needs": list(plan.needs)}
        plain |= write_state(fitted.state, arrays, derived=derived)
    if fitted.knows_classes:
        scorer = fitted.scorer
        plain |= write_head(scorer.head, arrays, learns=learns, derived=derived)
        if not learns and scorer.tells_by_means:
            arrays.add("mean_directions", scorer.head.mean_directions)
        if learns and plan.whitening == "auto":
            plain["chosen_by"] = fitted.weight
        plain["temperatures"] = {}
        # Another thread may find one meanwhile.
        for name, found in list(scorer.calibrations.items()):
            plain["temperatures"][name] = float(found.temperature)
            arrays.of("calibration").of(name).update(
                familiarities=found.familiarities, weights=found.weights
            )
    return plain


def read_fitted(clf, plain, arrays, then):
    """Make what a classifier knows of what `write_fitted` returned.

    Parameters
    ----------
    clf : ImprintClassifier
        Has its parameters and the number of features.
    plain : dict
        The plain values.
    arrays : Checked
        The arrays.
    then : dict
        Of `parameters_then`.

    Returns
    -------
    fitted : Fitted or PredictOnly
    """
    arrays.sizes["features"] = clf.n_features_in_
    plan = plan_then(clf, plain, then)
    if flag(plain["learning"], "learning"):
        state = read_state(plain, arrays, plan, clf.n_features_in_)
        fitted = Fitted(plan, state)
        if not state.places:
            return fitted
        if plan.whitening == "auto" and plain["shrinkage"] is not None:
            fitted.kept = KeptShrinkage(
                number(plain["shrinkage"], "shrinkage", SHARE),
                number(plain["chosen_by"], "chosen_by", POSITIVE),
            )
        space = fitted.space
    else:
        space = read_space(plain, arrays)
        fitted = PredictOnly(plan)
    scorer = Scorer(read_head(plain, arrays, plan, space))
    if not plain["learning"] and scorer.tells_by_means:
        scorer.head.mean_directions = arrays.take(
            "mean_directions", "f", "classes", "features"
        )
    for name, temperature in plain["temperatures"].items():
        n = f"{name} samples"
        scorer.calibrations[name] = Calibration(
            number(temperature, "temperatures", POSITIVE),
            arrays.take(f"calibration.{name}.familiarities", "f", n),
            arrays.take(f"calibration.{name}.weights", "f", n),
        )
    fitted.scorer = scorer
    return fitted
