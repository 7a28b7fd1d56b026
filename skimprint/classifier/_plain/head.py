"""What predictions need, as plain values and arrays, and back."""

import numpy as np

from ..._memory.state import State
from ..._space.kernel_ridge import KernelRidge
from ..._space.space import Space
from ..._space.whitening import Whitening
from .._head import Head
from .arrays import (
    FINITE,
    POSITIVE,
    SHARE,
    count,
    number,
    proxy_offsets,
    read_labels,
    write_labels,
)


def write_head(head, arrays, *, learns, derived):
    """Turn what predictions need into plain values and arrays.

    Parameters
    ----------
    head : Head
        Has it.
    learns : bool
        Whether what is known of classes is written too.
    arrays, derived
        As for `write_fitted`.

    Returns
    -------
    plain : dict
    """
    if derived or not (learns and _follow_from_points(head)):
        arrays.add("proxies", head.proxies)
    arrays.update(
        proxy_offsets=head.offsets,
        proxy_counts=head.counts,
        proxy_indices=head.indices,
        class_weights=head.space.class_weights,
        is_head=head.space.is_head,
    )
    # Not by `setdiff1d`, which overflows for labels beyond int64 in NumPy 2.0.
    known = set(head.classes.tolist())
    absent = [label for label in head.all_classes.tolist() if label not in known]
    plain = {
        "classes": write_labels(head.classes.tolist(), head.classes.dtype),
        "absent": write_labels(absent, head.classes.dtype),
        "n_samples": head.space.state.n_samples,
        "shrinkage": head.shrinkage,
        "covariance_shrinkage": head.covariance_shrinkage,
        "chosen_by_generator": _numbers_chosen(head.generator),
    }
    follows = learns and not derived and _whitening_follows(head)
    if head.whitening is not None and not follows:
        whitening, of_whitening = head.whitening, arrays.of("whitening")
        plain["whitening_outside"] = whitening.outside
        of_whitening.add("origin", whitening.origin)
        if whitening.cholesky is not None:
            _write_square(whitening.cholesky, "cholesky", of_whitening, whole=derived)
        else:
            of_whitening.update(basis=whitening.basis, inside=whitening.inside)
    if head.factor is not None:
        factor = head.factor if learns else head.factor.astype(head.dtype)
        _write_square(factor, "factor", arrays, whole=derived)
    if head.kernel is not None:
        plain["kernel_gamma"] = float(head.kernel.gamma)
        plain["kernel_alpha"] = float(head.kernel.alpha)
        arrays.of("kernel").add("coefficients", head.kernel.coefficients)
        if not learns:  # else they are among the samples
            arrays.of("kernel").add("landmarks", head.kernel.landmarks)
    return plain


def _numbers_chosen(generator):
    """Find the numbers that a generator has chosen, with names as ``alpha_``."""
    return {
        name[:-1]: float(value)
        for name, value in vars(generator).items()
        if name.endswith("_") and FINITE.is_satisfied_by(value)
    }


def _follow_from_points(head):
    """Tell whether proxies are quickly made again of what was generated."""
    return not (head.plan.generator.combines or head.plan.proxy_norm.is_callable)


def _whitening_follows(head):
    """Tell whether the whitening is quickly made again, to the bit, of few samples.

    Of many, a sum of scatters depends on the order in which classes came.
    """
    return head.shrinkage is not None and head.space.moments.factor is not None


def _write_square(matrix, name, arrays, *, whole):
    """Write a matrix, or its upper triangle if the rest is zeros."""
    if not (whole or np.tril(matrix, -1).any()):
        name, matrix = f"{name}.upper", matrix[_is_upper(len(matrix))]
    arrays.add(name, matrix)


def _read_square(name, arrays, n_features):
    """Read a matrix that `_write_square` has written, or None."""
    if arrays.has(name):
        return arrays.take(name, "f", n_features, n_features)
    if not arrays.has(f"{name}.upper"):
        return None
    triangle = arrays.take(f"{name}.upper", "f", n_features * (n_features + 1) // 2)
    matrix = np.zeros((n_features, n_features), triangle.dtype)
    matrix[_is_upper(n_features)] = triangle
    return matrix


def _is_upper(n):
    return np.tri(n, dtype=bool).T


def read_head(plain, arrays, plan, space):
    """Make a head of what `write_head` returned.

    Parameters
    ----------
    plain, arrays
        As for `read_fitted`.
    plan : Plan
        Of the head.
    space : Space
        Of the head: that of what is known, or of `read_space`.

    Returns
    -------
    head : Head
    """
    head = Head.__new__(Head)
    head.plan, head.space = plan, space
    head.classes, head.all_classes = _read_classes(plain)
    n_classes, n_features = len(head.classes), arrays.sizes["features"]
    head.offsets = proxy_offsets(arrays, n_classes)
    # Before memory is taken for so many proxies as the offsets say.
    head.counts = arrays.take("proxy_counts", "f", "proxies")
    head.codes = np.repeat(np.arange(n_classes), np.diff(head.offsets))
    head.indices = arrays.take("proxy_indices", "i", "proxies")
    for name in ("shrinkage", "covariance_shrinkage"):
        value = plain[name]
        setattr(head, name, None if value is None else number(value, name, SHARE))
    head.whitening = None
    is_whitened = plan.whitening is not None and not space.is_head.all()
    if is_whitened != (head.shrinkage is not None):
        raise ValueError(f"shrinkage cannot be {head.shrinkage}, by the parameters.")
    if is_whitened and "whitening_outside" in plain:
        head.whitening = _read_whitening(plain, arrays)
    elif is_whitened:
        head.whitening = space.whitening(head.shrinkage)
    if arrays.has("proxies") or not plain["learning"]:
        head.proxies = arrays.take("proxies", "f", "proxies", "features")
        head.dtype = head.proxies.dtype
    else:
        head.dtype = space.state.dtype
        head.make_proxies(space.proxies.values.vectors)
    for name, value in plain.get("chosen_by_generator", {}).items():
        vars(head.generator)[f"{name}_"] = number(value, name, FINITE)
    head.factor = None
    if plan.metric.needs_covariance:
        head.factor = _read_square("factor", arrays, n_features)
        if head.factor is None:
            raise ValueError("factor is missing.")
    head.kernel = _read_kernel(plain, arrays, space) if plan.kernel_weight else None
    return head


def _read_classes(plain):
    """Read the labels that can be predicted, and those with the absent ones."""
    classes, absent = read_labels(plain["classes"]), read_labels(plain["absent"])
    if not len(absent):
        return classes, classes
    all_classes = np.unique(np.concatenate([classes, absent]))
    if len(all_classes) != len(classes) + len(absent):
        raise ValueError("a class is known and absent at once.")
    return classes.astype(all_classes.dtype), all_classes


def _read_whitening(plain, arrays):
    origin = arrays.take("whitening.origin", "f", "features")
    cholesky = _read_square("whitening.cholesky", arrays, arrays.sizes["features"])
    if cholesky is not None:
        return Whitening(origin, cholesky)
    return Whitening(
        origin,
        outside=number(plain["whitening_outside"], "outside", POSITIVE),
        basis=arrays.take("whitening.basis", "f", "features", "directions"),
        inside=arrays.take("whitening.inside", "f", "directions"),
    )


def _read_kernel(plain, arrays, space):
    """Read the regression: its landmarks are among the samples if these are known."""
    kernel = KernelRidge.__new__(KernelRidge)
    kernel.gamma = number(plain["kernel_gamma"], "kernel_gamma", POSITIVE)
    kernel.alpha = number(plain["kernel_alpha"], "kernel_alpha", POSITIVE)
    kernel.coefficients = arrays.take(
        "kernel.coefficients", "f", "classes", "landmarks"
    )
    if plain["learning"]:
        kernel.landmarks = space.support().rows
    else:
        kernel.landmarks = arrays.take("kernel.landmarks", "f", "landmarks", "features")
    if len(kernel.landmarks) != kernel.coefficients.shape[1]:
        raise ValueError("kernel.coefficients do not fit the samples.")
    return kernel


def read_space(plain, arrays):
    """Make the space of a classifier that cannot learn.

    Parameters
    ----------
    plain, arrays
        As for `read_fitted`.

    Returns
    -------
    space : Space
        Knows nothing but how much was learnt.
    """
    arrays.sizes["classes"] = len(read_labels(plain["classes"]))
    if not arrays.sizes["classes"]:
        raise ValueError("it has no classes.")
    space = Space.__new__(Space)
    space.state = State(n_samples=count(plain["n_samples"], "n_samples"))
    space.class_weights = arrays.take("class_weights", "f", "classes")
    space.is_head = arrays.take("is_head", "b", "classes")
    return space
