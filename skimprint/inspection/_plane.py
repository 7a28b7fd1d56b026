"""Project proxies into a plane that shows the classes."""

import numpy as np

from ..embedding._extras import require

# Added to the scatter within classes, relatively: few proxies vary in few directions.
_RIDGE = 0.1


def plane_of(proxies, labels, queries=None, projection="linear"):
    """Project proxies, and queries with them.

    Parameters
    ----------
    proxies : ndarray of shape (n_proxies, n_features)
        The proxies.
    labels : ndarray of shape (n_proxies,)
        Their classes.
    queries : ndarray of shape (n_queries, n_features), default=None
        In the space of the proxies.
    projection : {"linear", "umap"}, default="linear"
        How.

    Returns
    -------
    proxies : ndarray of shape (n_proxies, 2)
        In the plane.
    queries : ndarray of shape (n_queries, 2) or None
        In the same plane.
    """
    if projection == "umap":
        umap = require("umap", 'projection="umap"', "umap-learn")
        both = proxies if queries is None else np.concatenate([proxies, queries])
        n_neighbors = min(15, len(both) - 1)
        reducer = umap.UMAP(n_neighbors=n_neighbors, metric="cosine", random_state=0)
        found = reducer.fit_transform(both)
        n = len(proxies)
        return found[:n], None if queries is None else found[n:]
    if projection != "linear":
        raise ValueError(f"projection must be 'linear' or 'umap'; got {projection!r}.")
    origin, axes = discriminant_plane(proxies, labels)
    return (
        (proxies - origin) @ axes,
        None if queries is None else (queries - origin) @ axes,
    )


def discriminant_plane(vectors, labels):
    """Find the plane in which the class means are furthest apart.

    Parameters
    ----------
    vectors : ndarray of shape (n, n_features)
        Some vectors.
    labels : ndarray of shape (n,)
        Their classes.

    Returns
    -------
    origin : ndarray of shape (n_features,)
        The mean of the class means.
    axes : ndarray of shape (n_features, 2)
        Two directions of unit length.

    Notes
    -----
    Fisher's discriminants: with the scatter between the class means ``B`` and that
    within the classes ``W``, shrunk towards a multiple of the identity, they are the
    first eigenvectors of ``W^-1 B``. All vectors lie in the span of the centred ones,
    of at most as many dimensions as vectors, in which this is solved.
    """
    vectors = np.asarray(vectors, np.float64)
    classes, codes = np.unique(labels, return_inverse=True)
    counts = np.bincount(codes)
    means = np.zeros((len(classes), vectors.shape[1]))
    np.add.at(means, codes, vectors)
    means /= counts[:, None]
    origin = means.mean(axis=0)
    _, sizes, basis = np.linalg.svd(vectors - origin, full_matrices=False)
    basis = basis[sizes > 1e-9 * max(sizes.max(initial=0), 1e-300)]
    between = (means - origin) @ basis.T
    inside = (vectors - means[codes]) @ basis.T
    scatter = inside.T @ inside / len(vectors)
    total = np.trace(scatter) + np.trace(between.T @ between) / len(classes)
    d = max(1, len(basis))
    scatter[np.diag_indices(len(basis))] += _RIDGE * total / d + 1e-12
    factor = np.linalg.cholesky(scatter)
    _, _, found = np.linalg.svd(
        np.linalg.solve(factor, between.T).T, full_matrices=True
    )
    n_means = min(2, max(len(classes) - 1, 0))
    axes = [basis.T @ np.linalg.solve(factor.T, row) for row in found[:n_means]]
    axes = _orthonormal([*axes, *basis, *np.eye(vectors.shape[1], 3).T])
    return origin, axes


def _orthonormal(candidates):
    """Take the first two directions that differ, at right angles: (n_features, 2)."""
    axes = []
    for axis in candidates:
        for other in axes:
            axis = axis - (axis @ other) * other
        length = np.linalg.norm(axis)
        if length > 1e-9:
            axis = axis / length
            # Of both signs the one whose largest value is positive: always the same.
            axes.append(axis * np.sign(axis[np.abs(axis).argmax()]))
        if len(axes) == 2:
            break
    while len(axes) < 2:  # of a single feature
        axes.append(np.zeros_like(candidates[0]))
    return np.stack(axes, axis=1)
