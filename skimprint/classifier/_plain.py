"""What a classifier knows, as plain values and arrays, and back.

Pickles and files hold it in this form, so that neither depends on private classes.
"""

from copy import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
from sklearn.base import clone

from .._arrays.groups import numbers_within, row_keys
from .._memory.columns import Points, Ragged, Samples
from .._memory.points import nearest_to
from .._memory.state import Block, Needs, State, as_objects, split
from .._plan import Plan
from .._scoring.scorer import Scorer
from .._space.kernel_ridge import KernelRidge
from .._space.moments import MomentColumns, Triangles
from .._space.whitening import Whitening
from ..cluster._kmeans.sums import cluster_sums
from ._calibration import Calibration
from ._compact import PredictOnly, space_of
from ._fitted import Fitted, Kept
from ._head import Head

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


class Arrays:
    """Arrays by name, of a part of a model.

    Parameters
    ----------
    arrays : dict of {str: ndarray}, default=None
        Those of the whole model; a new dict by default.
    prefix : str, default=""
        What the names of the part start with.
    """

    def __init__(self, arrays=None, prefix=""):
        self.all = {} if arrays is None else arrays
        self.prefix = prefix

    def of(self, part):
        """Find the arrays of a part of the part."""
        return Arrays(self.all, f"{self.prefix}{part}.")

    def add(self, name, array):
        """Keep an array, and return its whole name."""
        name = self.prefix + name
        self.all[name] = np.ascontiguousarray(array)
        return name

    def update(self, **arrays):
        """Keep several arrays."""
        for name, array in arrays.items():
            self.add(name, array)


def state_of(clf, state):
    """Replace what a classifier knows by plain values, for a pickle.

    Parameters
    ----------
    clf : ImprintClassifier
        The classifier.
    state : dict
        Its attributes.

    Returns
    -------
    state : dict
        Without anything that follows from the rest, up to what takes long to compute.
    """
    if "_fitted" not in state:
        return state
    arrays = Arrays()
    plain = write_fitted(clf, arrays, derived=False)
    plain |= {"arrays": arrays.all, "parameters_then": parameters_then(clf)}
    return state | {"_fitted": plain}


def fitted_in(clf, state):
    """Find what a classifier knows in what `state_of` returned."""
    plain = state.get("_fitted")
    if plain is None:
        return state
    arrays = Checked(plain["arrays"].__getitem__, plain["arrays"], is_trusted=True)
    return state | {
        "_fitted": read_fitted(clf, plain, arrays, plain["parameters_then"])
    }


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
        inner = {k: v for k, v in then.items() if k.startswith(f"{name}__")}
        inner = {k.removeprefix(f"{name}__"): v for k, v in inner.items()}
        found[name] = clone(then[name]).set_params(**inner)
    return found


def write_fitted(clf, arrays, *, derived):
    """Turn what a classifier knows into plain values and arrays.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted; it may have forgotten all classes.
    arrays : Arrays
        Gets the arrays.
    derived : bool
        Whether to write what follows from the rest, and is faster to read than made.

    Returns
    -------
    plain : dict
        Is JSON, unless the norm of the support is a function.
    """
    fitted = clf._fitted
    plan, learns = fitted.plan, isinstance(fitted, Fitted)
    plain = {
        "support_norm": plan.support_norm_value,
        "seed": plan.seed,
        "learning": learns,
        "derived": derived,
    }
    if learns:
        plain |= {"needs": list(plan.needs)}
        plain |= _write_state(fitted.state, arrays, derived=derived)
    if fitted.knows_classes:
        scorer = fitted.scorer
        plain |= _write_head(scorer.head, arrays, learns=learns, derived=derived)
        if learns and plan.whitening == "auto":
            plain["chosen_by"] = fitted.weight
        plain["temperatures"] = {}
        for name, found in scorer.calibrations.items():
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
    plan = _plan(clf, plain, then)
    if plain["learning"]:
        state = _read_state(plain, arrays, plan, clf.n_features_in_)
        fitted = Fitted(plan, state)
        if not state.places:
            return fitted
        if plan.whitening == "auto" and plain["shrinkage"] is not None:
            fitted.kept = Kept(float(plain["shrinkage"]), float(plain["chosen_by"]))
        space, classes = fitted.space, _labels(plain["classes"])
    else:
        space, classes = _read_space(plain, arrays)
        fitted = PredictOnly(plan, None)
    scorer = Scorer(_read_head(plain, arrays, plan, space, classes))
    for name, temperature in plain["temperatures"].items():
        n = f"{name} samples"
        scorer.calibrations[name] = Calibration(
            float(temperature),
            arrays.take(f"calibration.{name}.familiarities", "f", n),
            arrays.take(f"calibration.{name}.weights", "f", n),
        )
    fitted.scorer = scorer
    return fitted


def with_parameters(clf, changes):
    """Copy a classifier, with other values of some parameters.

    A subclass may have set some of them itself, so that its own ``__init__`` takes
    fewer.
    """
    other = copy(clf)
    vars(other).update(changes)
    return other


def _plan(clf, plain, then):
    """Resolve parameters as `fit` did, of samples that are not there any more."""
    given = with_parameters(clf, then)
    given._validate_params()
    chosen = plain["support_norm"]
    if given.support_norm != "auto" and chosen != given.support_norm:
        raise ValueError(f"support_norm cannot be {chosen!r}.")
    resolved = with_parameters(given, {"support_norm": chosen, "random_state": 0})
    resolved._validate_params()
    needs = Needs(*plain["needs"]) if plain["learning"] else Needs()
    return replace(
        Plan.of(resolved, None),
        chooses_norm=given.support_norm == "auto",
        parameters=given.get_params(),
        seed=count(plain["seed"], "seed"),
        needs=Needs(
            bool(needs.moments),
            count(needs.samples, "needs"),
            count(needs.scatter_bytes, "needs"),
        ),
    )


# -- What is known of classes


def _write_state(state, arrays, *, derived):
    # `order` needs a class; of none, the arrays would be none.
    plain = {
        "n_samples": state.n_samples,
        "dtype": None if state.dtype is None else np.dtype(state.dtype).name,
        "absent": _write_labels(sorted(state.absent), state.label_dtype),
        "classes": _write_labels([], state.label_dtype),
    }
    if not state.places:
        return plain
    block = state.column(lambda block: block)
    plain["classes"] = _write_labels(block.labels.tolist(), state.label_dtype)
    arrays.update(
        spreads=block.proxies.values.spreads,
        class_sizes=block.n_samples,
        is_signed=block.is_signed,
    )
    rows = {}
    for name, part in (("samples", block.samples), ("memory", block.memory)):
        if part is not None:
            rows[name], *_ = part.values
            others = part.values._asdict()
            del others[part.values._fields[0]]
            if state.n_samples < 2**31:
                others["indices"] = others["indices"].astype(np.int32)
            arrays.of(name).update(offsets=part.offsets, **others)
    proxies = block.proxies.values.vectors
    if not derived:
        labels, is_mean = _means_among(block)
        arrays.of("memory").add("labels", labels)
        arrays.of("proxies").add("is_mean", is_mean)
        proxies = proxies[~is_mean]
    rows["proxies"] = proxies
    plain["rows"] = _write_rows(rows, arrays)
    moments = block.moments
    if moments is not None and (derived or not _follow_from_samples(block)):
        columns = {k: v for k, v in moments._asdict().items() if v is not None}
        triangles = columns.pop("triangles", None)
        if triangles is not None:
            columns |= {"offsets": triangles.offsets, **triangles.values._asdict()}
        arrays.of("moments").update(**columns)
    if state.pooled is not None:
        arrays.add("pooled", state.pooled)
    return plain


def _follow_from_samples(block):
    """Tell whether moments are those of the samples that are kept."""
    triangles = block.moments.triangles
    return triangles is not None and not (triangles.offsets[-1] or block.is_head.any())


def _read_state(plain, arrays, plan, n_features):
    labels, absent = _labels(plain["classes"]), _labels(plain["absent"])
    dtype = plain["dtype"]
    if dtype not in (None, *_ROW_DTYPES):
        raise ValueError(f"dtype must be float32 or float64; got {dtype!r}.")
    n_samples = count(plain["n_samples"], "n_samples")
    both = np.concatenate([labels, absent]) if len(absent) else labels
    state = State(
        {},
        (),
        both.dtype,
        dtype and np.dtype(dtype),
        n_features,
        n_samples,
        frozenset(absent.tolist()),
    )
    if not len(labels):
        return state
    n_classes = len(labels)
    proxies = _read_proxies(arrays, n_classes)
    arrays.sizes["proxies"] = int(proxies[-1])
    vectors = _read_rows(plain["rows"], arrays)
    points = Points(
        _read_generated(arrays, vectors, derived=plain["derived"]),
        arrays.take("proxy_counts", "f", "proxies"),
        arrays.take("proxy_indices", "i", "proxies"),
        arrays.take("spreads", "f", "proxies", finite=False),
    )
    samples = None
    if "samples" in vectors:
        samples = _read_ragged(
            Samples, arrays, "samples", n_classes, rows=vectors["samples"]
        )
    elif plan.needs != Needs():
        raise ValueError("samples are missing, which the parameters need.")
    moments = pooled = None
    if plan.needs.moments:
        arrays.sizes["triangle"] = n_features * (n_features + 1) // 2
        if arrays.has("pooled"):
            pooled = arrays.take("pooled", "f", "triangle").astype(np.float64)
        moments = _read_moments(
            arrays,
            n_classes,
            samples,
            derived=plain["derived"],
            are_pooled=pooled is not None,
        )
    block = Block(
        as_objects(labels.tolist()),
        arrays.take("class_weights", "f", "classes"),
        arrays.take("class_sizes", "i", "classes"),
        arrays.take("is_head", "b", "classes"),
        arrays.take("is_signed", "b", "classes"),
        Ragged(points, proxies),
        _read_ragged(Points, arrays, "memory", n_classes, vectors=vectors["memory"]),
        moments,
        samples,
    )
    return replace(state, pooled=pooled).with_blocks(split(block))


# -- Rows, of which the same may be sample, point and proxy

_ROW_DTYPES = ("float32", "float64")


def _write_rows(parts, arrays):
    """Write each row once, and for each part the numbers of its rows."""
    some = [rows for rows in parts.values() if len(rows)]
    rows = np.concatenate(some, dtype=np.result_type(*some))
    stops = np.cumsum([len(part) for part in parts.values()])[:-1]
    keys = np.concatenate(
        [_made_unique(part) for part in np.split(row_keys(rows, seed=0), stops)]
    )
    _, first, places = np.unique(keys, return_index=True, return_inverse=True)
    is_first = np.zeros(len(rows), bool)
    is_first[first] = True
    kept, numbers = rows[is_first], (np.cumsum(is_first) - 1)[first[places]]
    bits = np.dtype(f"u{rows.itemsize}")
    if not np.array_equal(kept.view(bits)[numbers], rows.view(bits)):
        kept, numbers = rows, np.arange(len(rows))  # different rows have the same key
    arrays.add("rows", kept)
    for name, of_part in zip(parts, np.split(numbers, stops), strict=True):
        arrays.of(name).add("numbers", of_part.astype(np.int32))
    return {name: part.dtype.name for name, part in parts.items()}


def _made_unique(keys):
    """Count up equal keys of a part, so that none of its rows is left out."""
    order = np.argsort(keys, kind="stable")
    keys[order] += numbers_within(keys[order]).astype(np.uint64)
    return keys


def _read_rows(dtypes, arrays):
    """Read the rows of each part."""
    rows, parts = arrays.take("rows", "f", "rows", "features"), {}
    for name, dtype in dtypes.items():
        # Proxies may be means, which are not among the rows.
        n = "other proxies" if name == "proxies" else name
        numbers = arrays.take(f"{name}.numbers", "i", n)
        if dtype not in _ROW_DTYPES or len(numbers) > len(rows):
            raise ValueError(f"{name} has more rows than there are.")
        if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= max(len(rows), 1):
            raise ValueError(f"{name}.numbers are not those of rows.")
        first = int(numbers[0]) if len(numbers) else 0
        if (numbers == np.arange(first, first + len(numbers))).all():
            numbers = slice(first, first + len(numbers))
        parts[name] = rows[numbers].astype(dtype, copy=False)
    return parts


# -- Proxies that are means of the points that are nearest to them, as those of k-means


def _means_among(block):
    """Find the nearest proxy of each point, and the proxies that are the means of them.

    Returns
    -------
    labels : ndarray of shape (n_points,)
        Numbers of proxies.
    is_mean : ndarray of bool, of shape (n_proxies,)
        Whether a proxy is the mean to the bit.
    """
    proxies, memory = block.proxies, block.memory
    labels = np.zeros(memory.offsets[-1], np.int32)
    for place in np.flatnonzero(memory.sizes):
        part = slice(*memory.offsets[place : place + 2])
        with np.errstate(over="ignore", invalid="ignore"):
            nearest = nearest_to(memory.one(place).vectors, proxies.one(place).vectors)
        labels[part] = proxies.offsets[place] + nearest
    vectors = proxies.values.vectors
    means = _means(memory.values.vectors, labels, len(vectors), vectors.dtype)
    bits = np.dtype(f"u{vectors.itemsize}")
    is_mean = (means.view(bits) == vectors.view(bits)).all(axis=1)
    return labels, is_mean & (np.bincount(labels, minlength=len(vectors)) > 0)


def _means(points, labels, n, dtype):
    """Average the points of each label, added in their order as k-means does."""
    labels = labels.astype(np.int32, copy=False)
    weights = np.ones(len(points), points.dtype)
    sums = cluster_sums(np.ascontiguousarray(points), [labels], [weights], n)
    counts = np.maximum(np.bincount(labels, minlength=n), 1).astype(points.dtype)
    return (sums / counts[:, None]).astype(dtype, copy=False)


def _read_generated(arrays, vectors, *, derived):
    """Read the proxies as they were generated, or make the means again."""
    proxies, n = vectors["proxies"], arrays.sizes["proxies"]
    if not derived:
        labels = arrays.take("memory.labels", "i", "memory")
        is_mean = arrays.take("proxies.is_mean", "b", "proxies")
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= n:
            raise ValueError("memory.labels are not those of proxies.")
        means = _means(vectors["memory"], labels, n, proxies.dtype)
        means[~is_mean] = proxies
        return means
    if len(proxies) != n:
        raise ValueError("proxies.numbers do not fit the proxies.")
    return proxies


# The last axis of each array of a record.
_AXES = {
    "triangle": ("f", "triangle"),
    "indices": ("i",),
    "keys": ("u",),
}


def _read_ragged(record, arrays, part, n_classes, **known):
    offsets = _offsets(arrays.take(f"{part}.offsets", "i", n_classes + 1), part)
    if arrays.sizes.setdefault(part, int(offsets[-1])) != offsets[-1]:
        raise ValueError(f"{part}.offsets do not fit the rows.")
    values = []
    for name in record._fields:
        if name not in known:
            kind, *axes = _AXES.get(name, ("f",))
            finite = name != "spreads"
            known[name] = arrays.take(
                f"{part}.{name}", kind, part, *axes, finite=finite
            )
            if name == "indices":
                known[name] = known[name].astype(np.intp, copy=False)
        values.append(known[name])
    return Ragged(record(*values), offsets)


def _read_moments(arrays, n_classes, samples, *, derived, are_pooled):
    if not (derived or arrays.has("moments.weights")):
        return MomentColumns.of_few(samples)
    names = [("weights",), ("means", "features"), ("variances",)]
    if not are_pooled:
        names += [("thirds", "features"), ("fourths",)]
    columns = {
        name: arrays.take(f"moments.{name}", "f", "classes", *axes)
        for name, *axes in names
    }
    if are_pooled:
        return MomentColumns(**columns)
    return MomentColumns(
        **columns, triangles=_read_ragged(Triangles, arrays, "moments", n_classes)
    )


# -- What predictions need


def _write_head(head, arrays, *, learns, derived):
    if derived or not (learns and _follow_from_points(head)):
        arrays.add("proxies", head.proxies)
    arrays.update(
        proxy_offsets=head.offsets,
        proxy_counts=head.counts,
        proxy_indices=head.indices,
        class_weights=head.space.class_weights,
        is_head=head.space.is_head,
    )
    known = set(head.classes.tolist())
    absent = [label for label in head.all_classes.tolist() if label not in known]
    plain = {
        "classes": _write_labels(head.classes.tolist(), head.classes.dtype),
        "absent": _write_labels(absent, head.classes.dtype),
        "n_samples": head.space.state.n_samples,
        "shrinkage": head.shrinkage,
        "covariance_shrinkage": head.covariance_shrinkage,
    }
    if head.whitening is not None:
        whitening, of_whitening = head.whitening, arrays.of("whitening")
        plain["whitening_outside"] = whitening.outside
        of_whitening.add("origin", whitening.origin)
        if whitening.cholesky is not None:
            _write_square(whitening.cholesky, "cholesky", of_whitening, whole=derived)
        else:
            of_whitening.update(basis=whitening.basis, inside=whitening.inside)
    if not learns and "mean_directions" in vars(head):
        arrays.add("mean_directions", head.mean_directions)
    if head.factor is not None:
        _write_square(head.factor, "factor", arrays, whole=derived)
    if head.covariance is not None:
        _write_square(head.covariance, "covariance", arrays, whole=derived)
    if head.kernel is not None:
        plain["kernel_alpha"] = float(head.kernel.alpha)
        arrays.of("kernel").add("coefficients", head.kernel.coefficients)
        if not learns:  # else they are among the samples
            arrays.of("kernel").add("landmarks", head.kernel.landmarks)
    return plain


def _follow_from_points(head):
    """Tell whether proxies are quickly made again of what was generated."""
    return not (head.plan.generator.combines or head.plan.proxy_norm.is_callable)


def _write_square(matrix, name, arrays, *, whole):
    """Write a matrix, or its upper triangle if the rest is zeros or the same."""
    is_upper = not (whole or np.tril(matrix, -1).any())
    if is_upper or not (whole or (matrix != matrix.T).any()):
        name += ".upper" if is_upper else ".symmetric"
        matrix = matrix[_is_upper(len(matrix))]
    arrays.add(name, matrix)


def _read_square(name, arrays, n_features):
    """Read a matrix that `_write_square` has written, or None."""
    if arrays.has(name):
        return arrays.take(name, "f", n_features, n_features)
    for kind in (".upper", ".symmetric"):
        if arrays.has(name + kind):
            triangle = arrays.take(name + kind, "f", n_features * (n_features + 1) // 2)
            matrix = np.zeros((n_features, n_features), triangle.dtype)
            matrix[_is_upper(n_features)] = triangle
            if kind == ".symmetric":
                matrix.T[_is_upper(n_features)] = triangle
            return matrix
    return None


def _is_upper(n):
    return np.tri(n, dtype=bool).T


def _read_head(plain, arrays, plan, space, classes):
    head = Head.__new__(Head)
    head.plan, head.space = plan, space
    head.classes = head.all_classes = classes
    absent = _labels(plain["absent"])
    if len(absent):
        head.all_classes = np.unique(np.concatenate([classes, absent]))
        head.classes = classes.astype(head.all_classes.dtype)
        if len(head.all_classes) != len(classes) + len(absent):
            raise ValueError("a class is known and absent at once.")
    head.offsets = _read_proxies(arrays, len(classes))
    head.codes = np.repeat(np.arange(len(classes)), np.diff(head.offsets))
    head.counts = arrays.take("proxy_counts", "f", "proxies")
    head.indices = arrays.take("proxy_indices", "i", "proxies")
    head.shrinkage = plain["shrinkage"]
    head.covariance_shrinkage = plain["covariance_shrinkage"]
    head.whitening = head.covariance = head.factor = head.kernel = None
    n_features = arrays.sizes["features"]
    if "whitening_outside" in plain:
        origin = arrays.take("whitening.origin", "f", "features")
        cholesky = _read_square("whitening.cholesky", arrays, n_features)
        if cholesky is not None:
            head.whitening = Whitening(origin, cholesky)
        else:
            head.whitening = Whitening(
                origin,
                outside=float(plain["whitening_outside"]),
                basis=arrays.take("whitening.basis", "f", "features", "directions"),
                inside=arrays.take("whitening.inside", "f", "directions"),
            )
    if plain["derived"] or arrays.has("proxies"):
        head.proxies = arrays.take("proxies", "f", "proxies", "features")
        head.dtype = head.proxies.dtype
    else:
        head.dtype = space.state.dtype
        head.place()
    if arrays.has("mean_directions"):
        head.mean_directions = arrays.take(
            "mean_directions", "f", "classes", "features"
        )
    if plan.metric.needs_covariance:
        head.factor = _read_square("factor", arrays, n_features)
    head.covariance = _read_square("covariance", arrays, n_features)
    if plan.kernel_weight:
        head.kernel = kernel = KernelRidge.__new__(KernelRidge)
        kernel.alpha = float(plain["kernel_alpha"])
        kernel.coefficients = arrays.take(
            "kernel.coefficients", "f", "classes", "landmarks"
        )
        if plain["learning"]:
            kernel.landmarks = space.support().rows
        else:
            kernel.landmarks = arrays.take(
                "kernel.landmarks", "f", "landmarks", "features"
            )
        if len(kernel.landmarks) != kernel.coefficients.shape[1]:
            raise ValueError("kernel.coefficients do not fit the samples.")
    return head


def _read_space(plain, arrays):
    classes = _labels(plain["classes"])
    if not len(classes):
        raise ValueError("it has no classes.")
    arrays.sizes["classes"] = len(classes)
    space = space_of(
        arrays.take("class_weights", "f", "classes"),
        arrays.take("is_head", "b", "classes"),
        count(plain["n_samples"], "n_samples"),
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


def count(value, name):
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


def _labels(plain):
    """Make a sorted array of labels, of NumPy's own choice of width for text."""
    kind, labels = plain["dtype"], plain["labels"]
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
    is_trusted : bool, default=False
        Whether no array has NaN or infinity, so that none has to be read for that.

    Attributes
    ----------
    sizes : dict of {str: int}
        Of axes by name, as far as they are known.
    """

    def __init__(self, read, names, prefix="", *, is_trusted=False):
        self.read, self.names, self.prefix = read, names, prefix
        self.is_trusted = is_trusted
        self.sizes = {}

    def of(self, part):
        """Find the arrays of a part."""
        prefix = f"{self.prefix}{part}."
        return Checked(self.read, self.names, prefix, is_trusted=self.is_trusted)

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
        array = np.asarray(self.any(self.prefix + name))
        if array.dtype.kind != kind or array.ndim != len(axes):
            raise ValueError(f"{name} has {array.ndim} axes of {array.dtype}.")
        for axis, size in zip(axes, array.shape, strict=True):
            known = axis if isinstance(axis, int) else self.sizes.setdefault(axis, size)
            if size != known:
                raise ValueError(f"{name} has the shape {array.shape}: not {known}.")
        if self.is_trusted:
            return array
        is_good = np.isfinite if finite else lambda values: ~np.isnan(values)
        if kind == "f" and not is_good(array).all():
            raise ValueError(f"{name} has NaN or infinity.")
        return array
