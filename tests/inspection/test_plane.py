import sys
import types

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from skimprint.inspection._plane import discriminant_plane, plane_of


def points(n_classes, d, per_class=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(n_classes), per_class)
    return rng.normal(size=(n_classes, d))[labels] * 3 + rng.normal(
        size=(len(labels), d)
    ), labels


@pytest.mark.parametrize("n_classes, d", [(5, 4), (4, 100), (3, 2)])
def test_classes_are_as_far_apart_as_they_can_be(n_classes, d):
    vectors, labels = points(n_classes, d)
    origin, axes = discriminant_plane(vectors, labels)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-9)
    placed = (vectors - origin) @ axes
    means = np.stack([placed[labels == c].mean(axis=0) for c in range(n_classes)])
    np.testing.assert_allclose(means.mean(axis=0), 0, atol=1e-9)

    def separation(directions):
        placed = (vectors - origin) @ directions
        means = np.stack([placed[labels == c].mean(axis=0) for c in range(n_classes)])
        within = placed - means[labels]
        return np.trace(
            np.linalg.solve(within.T @ within + 1e-9 * np.eye(2), means.T @ means)
        )

    rng = np.random.default_rng(1)
    for _ in range(20):
        other = np.linalg.qr(rng.normal(size=(d, 2)))[0]
        assert separation(axes) >= 0.99 * separation(other)


def test_the_first_direction_is_that_of_scikit_learn():
    vectors, labels = points(3, 3, per_class=400)
    _, axes = discriminant_plane(vectors, labels)
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.0)
    first = lda.fit(vectors, labels).scalings_[:, 0]
    cosine = first @ axes[:, 0] / np.linalg.norm(first)
    assert abs(cosine) > 0.98  # ours is shrunk


@pytest.mark.parametrize(
    "vectors",
    [np.eye(5)[:1], np.zeros((3, 4)), np.ones((2, 1)), np.eye(2), np.eye(3)[:2]],
)
def test_few_vectors_and_few_features(vectors):
    origin, axes = discriminant_plane(vectors, np.arange(len(vectors)))
    assert axes.shape == (vectors.shape[1], 2)
    assert np.isfinite((vectors - origin) @ axes).all()


def test_queries_go_where_proxies_go():
    vectors, labels = points(4, 10)
    proxies, queries = plane_of(vectors, labels, vectors)
    np.testing.assert_allclose(proxies, queries)
    assert plane_of(vectors, labels)[1] is None


def test_umap_where_it_is_installed(monkeypatch):
    class UMAP:
        def __init__(self, **params):
            assert params["n_neighbors"] == 7

        def fit_transform(self, X):
            return X[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    vectors, labels = points(2, 3, per_class=2)
    proxies, queries = plane_of(vectors, labels, vectors + 1, "umap")
    np.testing.assert_array_equal(proxies, vectors[:, :2])
    np.testing.assert_array_equal(queries, vectors[:, :2] + 1)


def test_what_is_refused(monkeypatch):
    vectors, labels = points(2, 3)
    with pytest.raises(ValueError, match="'linear' or 'umap'; got 'pca'"):
        plane_of(vectors, labels, projection="pca")
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match='pip install "umap-learn"'):
        plane_of(vectors, labels, projection="umap")
