"""One mean per class."""

import numpy as np
import pytest
from settings import plain_classifier
from sklearn.neighbors import NearestCentroid

from skimprint.methods import PUBLISHED_METHODS


@pytest.mark.filterwarnings("ignore:self.within_class_std_dev_")  # dead features
def test_mean_without_norms_is_nearest_centroid(split):
    X, X_query, y, _ = split
    clf = plain_classifier(**PUBLISHED_METHODS["janson"]).fit(X, y)
    centroid = NearestCentroid().fit(X, y)
    np.testing.assert_allclose(clf.proxies_, centroid.centroids_, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(clf.predict(X_query), centroid.predict(X_query))


def test_indices_of_means_are_the_nearest_samples_of_the_class(split):
    X, _, y, _ = split
    clf = plain_classifier("mean", support_norm=None, proxy_norm=None).fit(X, y)
    for proxy, label, index in zip(
        clf.proxies_, clf.proxy_labels_, clf.proxy_indices_, strict=True
    ):
        distances = np.linalg.norm(X - proxy, axis=1)
        assert distances[index] == distances[y == label].min()
