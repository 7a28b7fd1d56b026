"""What a classifier knows, as arrays and JSON, and back."""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from .._arrays.device import to_host
from .._memory.columns import Points, Ragged, Samples
from .._memory.state import Block, Needs, State, as_objects, split
from .._plan import Plan
from .._scoring.scorer import Scorer
from .._space.kernel_ridge import KernelRidge
from .._space.moments import MomentColumns, Triangles
from .._space.space import Space
from .._space.whitening import Whitening
from ..classifier._calibration import Calibration
from ..classifier._classifier import ImprintClassifier
from ..classifier._compact import PredictOnly, calibrate_now, space_of
from ..classifier._fitted import Fitted
from ..classifier._head import Head
from ._values import Arrays, decode, encode

# Text takes as much memory for each label as for the longest.
_MAX_LABEL_BYTES = 2**30

# Types of labels in JSON, by their dtype.
_PLAIN = {
    "text": {str},
    "bool": {bool},
    "int": {int},
    "float": {int, float},
    "object": {str, bool, int, float},
}


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
    params = _encoded(clf.get_params(deep=False), arrays)
    fitted = clf._fitted
    plan, learns = fitted.plan, isinstance(fitted, Fitted)
    then = {k: v for k, v in plan.parameters.items() if "__" not in k}
    # Parameters that were set after fit do not act, but are those of the next one.
    then = {k: v for k, v in then.items() if v is not getattr(clf, k)}
    then = _encoded(then, arrays.of("then"))
    config = {
        "class": "ImprintClassifier",
        "parameters": params,
        "parameters_then": {k: v for k, v in then.items() if v != params[k]},
        "support_norm": plan.support_norm_value,
        "seed": plan.seed,
        "n_features": int(clf.n_features_in_),
        "feature_names": _names(clf),
        "learning": learns,
    }
    if learns:
        config |= {"needs": list(plan.needs)} | _write_state(fitted.state, arrays)
    if fitted.knows_classes:
        scorer = fitted.scorer
        calibrate_now(clf, scorer)
        config |= _write_head(scorer.head, arrays, learns=learns)
        config["temperatures"] = {}
        for name, found in scorer.calibrations.items():
            config["temperatures"][name] = encode(found.temperature, name, arrays)
            arrays.of("calibration").of(name).update(
                familiarities=found.familiarities, weights=found.weights
            )
    return config


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
    params = _decoded(config["parameters"], arrays)
    clf = ImprintClassifier(**params)
    clf._validate_params()
    n_features = _count(config["n_features"], "n_features")
    arrays.sizes["features"] = n_features
    clf.n_features_in_ = n_features
    if config["feature_names"] is not None:
        names = as_objects(config["feature_names"])
        if len(names) != n_features or not all(isinstance(n, str) for n in names):
            raise ValueError("feature_names must have a text for each feature.")
        clf.feature_names_in_ = names
    plan = _plan(config, params | _decoded(config["parameters_then"], arrays))
    if not config["learning"]:
        plan = replace(plan, needs=Needs())
        space, classes = _read_space(config, arrays)
        clf._fitted = PredictOnly(plan, None)
    else:
        state = _read_state(config, arrays, plan)
        clf._fitted = Fitted(plan, state)
        if not state.places:
            return clf
        space, classes = Space(state), _labels(config["classes"])
    scorer = Scorer(_read_head(config, arrays, plan, space, classes))
    for name, temperature in config["temperatures"].items():
        n = f"{name} samples"
        scorer.calibrations[name] = Calibration(
            float(decode(temperature, arrays)),
            arrays.take(f"calibration.{name}.familiarities", "f", n),
            arrays.take(f"calibration.{name}.weights", "f", n),
        )
    clf._fitted.scorer = scorer
    return clf


def _encoded(params, arrays):
    return {name: encode(_plain_head(v), name, arrays) for name, v in params.items()}


def _plain_head(value):
    """Take the weights of a module, and its labels, as arrays."""
    if not isinstance(value, tuple):
        return value
    weight, *classes = value
    weight = to_host(getattr(weight, "weight", weight))
    return weight, *(None if each is None else to_host(each) for each in classes)


def _decoded(encoded, arrays):
    return {name: decode(value, arrays.any) for name, value in encoded.items()}


def _names(clf):
    names = getattr(clf, "feature_names_in_", None)
    return None if names is None else names.tolist()


def _plan(config, then):
    """Resolve parameters as `fit` did, of samples that are not there any more."""
    given = ImprintClassifier(**then)
    given._validate_params()
    chosen = config["support_norm"]
    if given.support_norm != "auto" and chosen != given.support_norm:
        raise ValueError(f"support_norm cannot be {chosen!r}.")
    resolved = ImprintClassifier(**(then | {"support_norm": chosen, "random_state": 0}))
    resolved._validate_params()
    needs = Needs(*config["needs"]) if config["learning"] else Needs()
    plan = Plan.of(resolved, None)
    return replace(
        plan,
        parameters=given.get_params(),
        seed=_count(config["seed"], "seed"),
        needs=Needs(bool(needs.moments), _count(needs.samples, "needs")),
    )


# -- What is known of classes


def _write_state(state, arrays):
    # `order` needs a class; of none, the arrays would be none.
    config = {
        "n_samples": state.n_samples,
        "dtype": None if state.dtype is None else np.dtype(state.dtype).name,
        "absent": _write_labels(sorted(state.absent), state.label_dtype),
        "classes": _write_labels([], state.label_dtype),
    }
    if not state.places:
        return config
    block = state.column(lambda block: block)
    config["classes"] = _write_labels(block.labels.tolist(), state.label_dtype)
    arrays.update(
        generated=block.proxies.values.vectors, spreads=block.proxies.values.spreads
    )
    _write_ragged(block.memory, arrays.of("memory"))
    if block.moments is not None:
        columns = block.moments._asdict()
        triangles = columns.pop("triangles")
        arrays.of("moments").update(**columns)
        _write_ragged(triangles, arrays.of("moments"))
    if block.samples is not None:
        _write_ragged(block.samples, arrays.of("samples"))
    return config


def _read_state(config, arrays, plan):
    labels, absent = _labels(config["classes"]), _labels(config["absent"])
    dtype = config["dtype"]
    if dtype not in (None, "float32", "float64"):
        raise ValueError(f"dtype must be float32 or float64; got {dtype!r}.")
    n_samples = _count(config["n_samples"], "n_samples")
    both = np.concatenate([labels, absent]) if len(absent) else labels
    state = State(
        {},
        (),
        both.dtype,
        dtype and np.dtype(dtype),
        config["n_features"],
        n_samples,
        frozenset(absent.tolist()),
    )
    if not len(labels):
        return state
    proxies = _read_proxies(arrays, len(labels))
    points = Points(
        arrays.take("generated", "f", "proxies", "features"),
        arrays.take("proxy_counts", "f", "proxies"),
        arrays.take("proxy_indices", "i", "proxies"),
        arrays.take("spreads", "f", "proxies", finite=False),
    )
    moments = samples = None
    if plan.needs.moments:
        moments = _read_moments(arrays, len(labels))
    if arrays.has("samples.rows"):
        samples = _read_ragged(Samples, arrays, "samples", len(labels))
    block = Block(
        as_objects(labels.tolist()),
        arrays.take("class_weights", "f", "classes"),
        arrays.take("is_head", "b", "classes"),
        Ragged(points, proxies),
        _read_ragged(Points, arrays, "memory", len(labels)),
        moments,
        samples,
    )
    if plan.needs != Needs() and samples is None:
        raise ValueError("samples are missing, which the parameters need.")
    return state.with_blocks(split(block))


def _write_ragged(ragged, arrays):
    arrays.update(offsets=ragged.offsets, **ragged.values._asdict())


# The last axis of each array of a record.
_AXES = {
    "vectors": ("f", "features"),
    "rows": ("f", "features"),
    "triangle": ("f", "triangle"),
    "indices": ("i",),
    "keys": ("u",),
}


def _read_ragged(record, arrays, part, n_classes):
    offsets = _offsets(arrays.take(f"{part}.offsets", "i", n_classes + 1), part)
    arrays.sizes[part] = int(offsets[-1])
    values = []
    for name in record._fields:
        kind, *axes = _AXES.get(name, ("f",))
        finite = name != "spreads"
        values.append(arrays.take(f"{part}.{name}", kind, part, *axes, finite=finite))
    return Ragged(record(*values), offsets)


def _read_moments(arrays, n_classes):
    d = arrays.sizes["features"]
    arrays.sizes["triangle"] = d * (d + 1) // 2
    columns = {
        name: arrays.take(f"moments.{name}", "f", "classes", *axes)
        for name, *axes in (
            ("weights",),
            ("means", "features"),
            ("variances",),
            ("thirds", "features"),
            ("fourths",),
        )
    }
    return MomentColumns(
        **columns, triangles=_read_ragged(Triangles, arrays, "moments", n_classes)
    )


# -- What predictions need


def _write_head(head, arrays, *, learns):
    arrays.update(
        proxies=head.proxies,
        proxy_offsets=head.offsets,
        proxy_counts=head.counts,
        proxy_indices=head.indices,
        class_weights=head.space.class_weights,
        is_head=head.space.is_head,
    )
    absent = head.all_classes[~np.isin(head.all_classes, head.classes)].tolist()
    config = {
        "classes": _write_labels(head.classes.tolist(), head.classes.dtype),
        "absent": _write_labels(absent, head.classes.dtype),
        "n_samples": head.space.state.n_samples,
        "shrinkage": head.shrinkage,
        "covariance_shrinkage": head.covariance_shrinkage,
    }
    if head.whitening is not None:
        whitening = head.whitening
        config["whitening_outside"] = whitening.outside
        arrays.of("whitening").update(
            origin=whitening.origin, basis=whitening.basis, inside=whitening.inside
        )
    if head.factor is not None:
        arrays.add("factor", head.factor)
    if head.covariance is not None:
        arrays.add("covariance", head.covariance)
    if head.kernel is not None:
        config["kernel_alpha"] = head.kernel.alpha
        arrays.of("kernel").add("coefficients", head.kernel.coefficients)
        if not learns:  # else they are among the samples
            arrays.of("kernel").add("landmarks", head.kernel.landmarks)
    return config


def _read_head(config, arrays, plan, space, classes):
    head = Head.__new__(Head)
    head.plan, head.space = plan, space
    head.classes = head.all_classes = classes
    absent = _labels(config["absent"])
    if len(absent):
        head.all_classes = np.unique(np.concatenate([classes, absent]))
        head.classes = classes.astype(head.all_classes.dtype)
        if len(head.all_classes) != len(classes) + len(absent):
            raise ValueError("a class is known and absent at once.")
    head.offsets = _read_proxies(arrays, len(classes))
    head.codes = np.repeat(np.arange(len(classes)), np.diff(head.offsets))
    head.counts = arrays.take("proxy_counts", "f", "proxies")
    head.indices = arrays.take("proxy_indices", "i", "proxies")
    head.proxies = arrays.take("proxies", "f", "proxies", "features")
    head.dtype = head.proxies.dtype
    head.shrinkage = config["shrinkage"]
    head.covariance_shrinkage = config["covariance_shrinkage"]
    head.whitening = head.covariance = head.factor = head.kernel = None
    if "whitening_outside" in config:
        head.whitening = Whitening.__new__(Whitening)
        head.whitening.outside = float(config["whitening_outside"])
        head.whitening.origin = arrays.take("whitening.origin", "f", "features")
        head.whitening.basis = arrays.take(
            "whitening.basis", "f", "features", "directions"
        )
        head.whitening.inside = arrays.take("whitening.inside", "f", "directions")
    if plan.metric.needs_covariance and arrays.has("factor"):
        head.factor = arrays.take("factor", "f", "features", "features")
    if arrays.has("covariance"):
        head.covariance = arrays.take("covariance", "f", "features", "features")
    if plan.kernel_weight:
        head.kernel = kernel = KernelRidge.__new__(KernelRidge)
        kernel.alpha = float(config["kernel_alpha"])
        kernel.coefficients = arrays.take(
            "kernel.coefficients", "f", "classes", "landmarks"
        )
        if config["learning"]:
            support = space.support()
            kernel.landmarks = support.rows[support.landmarks]
        else:
            kernel.landmarks = arrays.take(
                "kernel.landmarks", "f", "landmarks", "features"
            )
        if len(kernel.landmarks) != kernel.coefficients.shape[1]:
            raise ValueError("kernel.coefficients do not fit the samples.")
    return head


def _read_space(config, arrays):
    classes = _labels(config["classes"])
    if not len(classes):
        raise ValueError("it has no classes.")
    arrays.sizes["classes"] = len(classes)
    space = space_of(
        arrays.take("class_weights", "f", "classes"),
        arrays.take("is_head", "b", "classes"),
        _count(config["n_samples"], "n_samples"),
    )
    return space, classes


def _read_proxies(arrays, n_classes):
    arrays.sizes["classes"] = n_classes
    offsets = _offsets(
        arrays.take("proxy_offsets", "i", n_classes + 1), "proxies", least=1
    )
    arrays.sizes["proxies"] = int(offsets[-1])
    return offsets


def _offsets(offsets, part, least=0):
    if offsets[0] != 0 or np.diff(offsets).min(initial=least) < least:
        raise ValueError(f"the offsets of {part} are not in order.")
    return offsets


def _count(value, name):
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be a number of at least 0; got {value!r}.")
    return value


# -- Labels


def _write_labels(labels, dtype):
    kind = "text" if dtype is None or dtype.kind == "U" else dtype.name
    for label in labels:
        if not isinstance(label, str | bool | int | float):
            raise ValueError(
                "labels must be numbers, text or booleans to be written; got "
                f"{label!r}. Use such labels, and fit again."
            )
    return {"dtype": kind, "labels": labels}


def _labels(config):
    """Make a sorted array of labels, of NumPy's own choice of width for text."""
    kind, labels = config["dtype"], config["labels"]
    if kind == "text":
        longest = max(map(len, labels), default=1)
        if 4 * longest * len(labels) > _MAX_LABEL_BYTES:
            raise ValueError("labels are too long.")
    plain = _PLAIN[kind.rstrip("0123456789").removeprefix("u")]
    if not all(type(label) in plain for label in labels):
        raise ValueError(f"labels are not of type {kind}.")
    if any(first >= second for first, second in pairwise(labels)):
        raise ValueError("labels are not sorted, or occur twice.")
    if kind == "object":
        return as_objects(labels)
    return np.array(labels, dtype=str if kind == "text" else kind)


class Checked(Arrays):
    """Arrays that have been read, of the right types and sizes, or an error.

    Parameters
    ----------
    read : callable
        From a whole name to the array.
    names : collection of str
        The whole names that there are.
    prefix : str, default=""
        What the names of the part start with.

    Attributes
    ----------
    sizes : dict of {str: int}
        Of axes by name, as far as they are known.
    """

    def __init__(self, read, names, prefix=""):
        self.read, self.names, self.prefix = read, names, prefix
        self.sizes = {}

    def of(self, part):
        """Find the arrays of a part."""
        return Checked(self.read, self.names, f"{self.prefix}{part}.")

    def has(self, name):
        """Tell whether there is an array."""
        return self.prefix + name in self.names

    def any(self, whole_name):
        """Read an array of any kind, by its whole name."""
        if whole_name not in self.names:
            raise ValueError(f"{whole_name} is missing.")
        return self.read(whole_name)

    def take(self, name, kind, *axes, finite=True):
        """Read an array that must be of a kind and of a shape.

        Parameters
        ----------
        name : str
            Of the array.
        kind : {"f", "i", "u", "b"}
            Of its dtype.
        *axes : str or int
            Names of its axes, whose sizes the first array of them decides; or sizes.
        finite : bool, default=True
            Whether infinity is refused; NaN always is.

        Returns
        -------
        array : ndarray
        """
        array = self.any(self.prefix + name)
        if array.dtype.kind != kind or array.ndim != len(axes):
            raise ValueError(f"{name} has {array.ndim} axes of {array.dtype}.")
        for axis, size in zip(axes, array.shape, strict=True):
            known = axis if isinstance(axis, int) else self.sizes.setdefault(axis, size)
            if size != known:
                raise ValueError(f"{name} has the shape {array.shape}: not {known}.")
        is_good = np.isfinite if finite else lambda values: ~np.isnan(values)
        if kind == "f" and not is_good(array).all():
            raise ValueError(f"{name} has NaN or infinity.")
        return array
