"""Clusterers of scikit-learn in place of a generator."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from settings import plain_classifier
from sklearn.cluster import DBSCAN, BisectingKMeans, KMeans, MiniBatchKMeans
from sklearn.naive_bayes import GaussianNB

from skimprint.generation import ClustererProxies, FunctionProxies

SEEN = []


class WeightsSeen(KMeans):
    """Notes the weights of each fit."""

    def fit(self, X, y=None, sample_weight=None):
        SEEN.append(sample_weight)
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize("sizes", [[5, 8], [5, 90]])  # all are remembered, or not
@pytest.mark.parametrize("weight", [None, 2.0])
def test_a_clusterer_gets_weights_where_there_are_some(sizes, weight):
    SEEN.clear()
    y = np.repeat([0, 1], sizes)
    X = np.random.default_rng(0).normal(size=(len(y), 3))
    weights = None if weight is None else np.full(len(y), weight)
    plain_classifier(WeightsSeen(n_init=1), n_proxies=2).fit(X, y, weights)
    assert len(SEEN) == 2
    for found, size in zip(SEEN, sizes, strict=True):
        assert_array_equal(found, weight and np.full(size, weight))


@pytest.mark.parametrize("clusterer", [KMeans, BisectingKMeans])
def test_a_clusterer_is_fitted_to_each_class(split, clusterer):
    X, _, y, _ = split
    clf = plain_classifier(
        clusterer(n_init=1), 3, support_norm=None, proxy_norm=None, random_state=0
    ).fit(X, y)
    for label in range(10):
        alone = clusterer(3, n_init=1, random_state=0).fit(X[y == label])
        np.testing.assert_allclose(
            clf.proxies_[clf.proxy_labels_ == label],
            alone.cluster_centers_,
            rtol=1e-5,
        )


def test_a_minibatch_clusterer_takes_part(split):
    X, X_query, y, y_query = split
    clf = plain_classifier(MiniBatchKMeans(n_init=1), 3, random_state=0).fit(X, y)
    assert clf.score(X_query, y_query) > 0.8


@pytest.mark.parametrize(
    "clusterer, message",
    [
        (None, "'clusterer' parameter of ClustererProxies must be an object implement"),
        ("kmeans", "'clusterer' parameter of ClustererProxies must be an object"),
        (KMeans, r"clusterer must be an instance; .* clusterer=KMeans\(\)"),
        (DBSCAN(), "must have a parameter n_clusters, .*; DBSCAN has none"),
        (GaussianNB(), "must have a parameter n_clusters, .*; GaussianNB has none"),
    ],
    ids=str,
)
def test_what_is_no_clusterer_is_refused_before_any_class(clusterer, message):
    with pytest.raises(TypeError, match=message):
        plain_classifier(ClustererProxies(clusterer)).fit(np.eye(4), [0, 0, 1, 1])
    if hasattr(clusterer, "fit"):  # the same without its component
        with pytest.raises(TypeError, match=message.replace("clusterer", "generator")):
            plain_classifier(clusterer).fit(np.eye(4), [0, 0, 1, 1])


@pytest.mark.parametrize("function", [None, "mean", 3, [len]])
def test_what_is_no_function_is_refused_before_any_class(function):
    wanted = "'function' parameter of FunctionProxies must be a callable"
    with pytest.raises(TypeError, match=wanted):
        plain_classifier(FunctionProxies(function)).fit(np.eye(4), [0, 0, 1, 1])
