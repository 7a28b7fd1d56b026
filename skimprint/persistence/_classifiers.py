"""Classifiers as JSON and arrays, and back."""

from copy import copy

from sklearn import config_context

from .._plan import checked_head
from .._validation import as_objects
from ..classifier._classifier import ImprintClassifier
from ..classifier._compact import calibrate_now
from ..classifier._plain import read_fitted, write_fitted
from ..classifier._plain.arrays import count
from ..classifier._plain.parameters import parameters_then
from ._values import decode_each, encode_each

# Those of ours that take metadata, which a pipeline routes to them.
_METHODS = ("fit", "partial_fit", "score")


def write_classifier(clf, arrays):
    """Turn a classifier into JSON and arrays.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted; it may have forgotten all classes.
    arrays : Arrays
        Gets the arrays.

    Returns
    -------
    config : dict
    """
    clf = copy(clf)  # other threads may learn meanwhile
    clf._validate_params()
    params = _encoded(clf.get_params(deep=False), arrays)
    # Parameters that were set after fit do not act, but are those of the next one.
    then = _encoded(parameters_then(clf), arrays.of("then"))
    names = getattr(clf, "feature_names_in_", None)
    config = {
        "class": "ImprintClassifier",
        "parameters": params,
        "parameters_then": {k: v for k, v in then.items() if v != params[k]},
        "n_features": int(clf.n_features_in_),
        "feature_names": None if names is None else names.tolist(),
    }
    config |= write_requests(clf)
    if clf._fitted.knows_classes:
        calibrate_now(clf, clf._fitted.scorer)
    return config | write_fitted(clf, arrays, derived=True)


def read_classifier(config, arrays):
    """Make a classifier of what `write_classifier` returned.

    Parameters
    ----------
    config : dict
        The JSON.
    arrays : Checked
        The arrays.

    Returns
    -------
    clf : ImprintClassifier
    """
    clf = ImprintClassifier(**decode_each(config["parameters"], arrays))
    clf._validate_params()
    if clf.rejection is not None:
        clf.rejection._validate_params()
    n_features = count(config["n_features"], "n_features")
    clf.n_features_in_ = n_features
    read_requests(clf, config)
    if config["feature_names"] is not None:
        names = as_objects(config["feature_names"])
        if len(names) != n_features or not all(isinstance(n, str) for n in names):
            raise ValueError("feature_names must have a text for each feature.")
        clf.feature_names_in_ = names
    then = decode_each(config["parameters_then"], arrays)
    clf._fitted = read_fitted(clf, config, arrays, then)
    return clf


def write_requests(clf):
    """Turn what was set by ``set_fit_request`` and the like into JSON, if it was."""
    routing, found = clf.get_metadata_routing(), {}
    for method in _METHODS:
        requests = getattr(getattr(routing, method, None), "requests", {})
        found[method] = {k: v for k, v in requests.items() if v is not None}
    found = {method: requests for method, requests in found.items() if requests}
    return {"metadata_requests": found} if found else {}


def read_requests(clf, config):
    """Set what `write_requests` returned."""
    with config_context(enable_metadata_routing=True):  # which `set_..._request` needs
        for method in _METHODS:
            # Without any there must be no call, which leaves something to be pickled.
            if requests := config.get("metadata_requests", {}).get(method):
                getattr(clf, f"set_{method}_request")(**requests)


def _encoded(params, arrays):
    return encode_each({k: _plain_head(v) for k, v in params.items()}, arrays)


def _plain_head(value):
    """Take the weights of a head, of a module say, and its labels as arrays."""
    if not isinstance(value, tuple):
        return value
    weight, classes = checked_head(value)
    return weight, None if value[1] is None else classes
