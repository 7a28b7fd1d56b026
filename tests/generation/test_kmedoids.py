"""Several medoids per class."""

import numpy as np
from settings import plain_classifier
from sklearn.preprocessing import normalize
from states import known

from skimprint._arrays.groups import row_keys
from skimprint.generation import KMedoidsProxies


def test_more_iterations_do_not_hurt_medoids(split):
    X, _, y, _ = split

    def total_distance(max_iter):
        clf = plain_classifier(
            KMedoidsProxies(max_iter=max_iter), 5, proxy_norm=None, random_state=0
        ).fit(X, y)
        rows = normalize(X)
        return sum(
            np.linalg.norm(
                rows[y == c][:, None] - clf.proxies_[clf.proxy_labels_ == c], axis=2
            ).min(axis=1).sum()
            for c in range(10)
        )  # fmt: skip

    assert total_distance(300) < total_distance(0)


def test_of_medoids_a_sample_of_all_samples_is_remembered():
    """Those with the smallest keys, in whatever order and parts they came."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4))
    keys = row_keys(X, seed=0)
    expected = set(np.argsort(keys)[:90])  # thirty for each of three proxies
    for n_parts in (1, 7):
        clf = plain_classifier("kmedoids", 3, support_norm=None, random_state=0)
        for rows in np.array_split(np.arange(500), n_parts):
            clf.partial_fit(X[rows], np.zeros(len(rows), int))
        points = known(clf).memory.values
        assert set(points.indices) == expected
        np.testing.assert_array_equal(points.vectors, X[points.indices])
        assert (points.counts == 1).all()
