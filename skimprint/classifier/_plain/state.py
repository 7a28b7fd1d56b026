"""What is known of classes, as plain values and arrays, and back."""

from dataclasses import replace

import numpy as np

from ..._arrays.groups import numbers_within, row_keys
from ..._memory.columns import Points, Ragged, Samples
from ..._memory.state import Block, State, split
from ..._space.moments import MomentColumns, Triangles
from ..._validation import as_objects
from .arrays import count, in_order, proxy_offsets, read_labels, write_labels

# Of rows, in files and pickles.
_ROW_DTYPES = ("float32", "float64")

# The last axis of each array of a record.
_AXES = {"triangle": ("f", "triangle"), "indices": ("i",), "keys": ("u",)}

# Of those whose bits are hashed, or that are indices.
_DTYPES = {"indices": np.intp, "keys": np.uint64, "weights": np.float64}


def write_state(state, arrays, *, derived):
    """Turn what is known of classes into plain values and arrays.

    Parameters
    ----------
    state : State
        What is known, with nothing waiting.
    arrays, derived
        As for `write_fitted`.

    Returns
    -------
    plain : dict
    """
    # `order` needs a class; of none, the arrays would be none.
    plain = {
        "n_samples": state.n_samples,
        "dtype": None if state.dtype is None else np.dtype(state.dtype).name,
        "absent": write_labels(sorted(state.absent), state.label_dtype),
        "classes": write_labels([], state.label_dtype),
    }
    if not state.places:
        return plain
    block = state.column(lambda block: block)
    plain["classes"] = write_labels(block.labels.tolist(), state.label_dtype)
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
    rows["proxies"] = block.proxies.values.vectors
    plain["rows"] = _write_rows(rows, arrays, plain["dtype"])
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


def read_state(plain, arrays, plan, n_features):
    """Make what is known of classes of what `write_state` returned.

    Parameters
    ----------
    plain, arrays
        As for `read_fitted`.
    plan : Plan
        Says what must be there.
    n_features : int
        Number of features.

    Returns
    -------
    state : State
    """
    labels, absent = read_labels(plain["classes"]), read_labels(plain["absent"])
    dtype = plain["dtype"]
    if dtype not in (_ROW_DTYPES if len(labels) else (None, *_ROW_DTYPES)):
        raise ValueError(f"dtype must be float32 or float64; got {dtype!r}.")
    both = np.concatenate([labels, absent]) if len(absent) else labels
    state = State(
        label_dtype=both.dtype,
        dtype=dtype and np.dtype(dtype),
        n_features=n_features,
        n_samples=count(plain["n_samples"], "n_samples"),
        absent=frozenset(absent.tolist()),
    )
    if not len(labels):
        return state
    n_classes = len(labels)
    proxies = proxy_offsets(arrays, n_classes)
    vectors = _read_rows(plain["rows"], arrays, dtype)
    points = Points(
        vectors["proxies"],
        arrays.take("proxy_counts", "f", "proxies"),
        arrays.take("proxy_indices", "i", "proxies"),
        arrays.take("spreads", "f", "proxies", finite=False),
    )
    samples = None
    if "samples" in vectors:
        samples = _read_ragged(
            Samples, arrays, "samples", n_classes, rows=vectors["samples"]
        )
    elif any(plan.needs):
        raise ValueError("samples are missing, which the parameters need.")
    moments = pooled = None
    if plan.needs.moments:
        arrays.sizes["triangle"] = n_features * (n_features + 1) // 2
        if arrays.has("pooled"):
            pooled = arrays.take("pooled", "f", "triangle").astype(np.float64)
        has_scatters = plan.needs.moments == 2 and pooled is None
        moments = _read_moments(arrays, n_classes, samples, has_scatters)
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


def _write_rows(parts, arrays, of_most):
    """Write each row once, and for each part the numbers of its rows.

    Means are in float64, beside samples in float32: rows of another dtype stand apart.
    """
    dtypes = {name: part.dtype.name for name, part in parts.items()}
    for each in dict.fromkeys(dtypes.values()):
        alike = {name: part for name, part in parts.items() if dtypes[name] == each}
        _write_alike(alike, arrays, _rows_name(each, of_most))
    return dtypes


def _rows_name(dtype, of_most):
    """Name the array of rows of a dtype."""
    return "rows" if dtype == of_most else f"rows.{dtype}"


def _write_alike(parts, arrays, rows_name):
    """Write rows of one dtype."""
    rows = np.concatenate(list(parts.values()))
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
    arrays.add(rows_name, kept)
    for name, of_part in zip(parts, np.split(numbers, stops), strict=True):
        arrays.of(name).add("numbers", of_part.astype(np.int32))


def _made_unique(keys):
    """Count up equal keys of a part, so that none of its rows is left out."""
    order = np.argsort(keys, kind="stable")
    keys[order] += numbers_within(keys[order]).astype(np.uint64)
    return keys


def _read_rows(dtypes, arrays, of_most):
    """Read the rows of each part."""
    known, parts = {}, {}
    for name, dtype in dtypes.items():
        if dtype not in _ROW_DTYPES:
            raise ValueError(f"rows must be float32 or float64; got {dtype!r}.")
        rows_name = _rows_name(dtype, of_most)
        if dtype not in known:
            known[dtype] = arrays.take(rows_name, "f", rows_name, "features")
        rows, numbers = known[dtype], arrays.take(f"{name}.numbers", "i", name)
        if len(numbers) > len(rows):
            raise ValueError(f"{name} has more rows than there are.")
        if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= max(len(rows), 1):
            raise ValueError(f"{name}.numbers are not those of rows.")
        first = int(numbers[0]) if len(numbers) else 0
        if (numbers == np.arange(first, first + len(numbers))).all():
            numbers = slice(first, first + len(numbers))
        parts[name] = rows[numbers].astype(dtype, copy=False)
    return parts


# -- Columns


def _read_ragged(record, arrays, part, n_classes, **known):
    offsets = in_order(arrays.take(f"{part}.offsets", "i", n_classes + 1), part)
    if arrays.sizes.setdefault(part, int(offsets[-1])) != offsets[-1]:
        raise ValueError(f"{part}.offsets do not fit the rows.")
    for name in [name for name in record._fields if name not in known]:
        kind, *axes = _AXES.get(name, ("f",))
        finite = name != "spreads"
        known[name] = arrays.take(f"{part}.{name}", kind, part, *axes, finite=finite)
        if name in _DTYPES:
            known[name] = known[name].astype(_DTYPES[name], copy=False)
    return Ragged(record(**known), offsets)


def _read_moments(arrays, n_classes, samples, has_scatters):
    if not arrays.has("moments.weights"):
        return MomentColumns.of_few(samples)
    names, triangles = [("weights",), ("means", "features"), ("variances",)], None
    if has_scatters:
        names += [("thirds", "features"), ("fourths",)]
        triangles = _read_ragged(Triangles, arrays, "moments", n_classes)
    columns = {
        name: arrays.take(f"moments.{name}", "f", "classes", *axes)
        for name, *axes in names
    }
    return MomentColumns(**columns, triangles=triangles)
