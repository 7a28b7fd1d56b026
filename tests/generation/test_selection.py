"""Proxies that are samples."""

import numpy as np
import pytest
from settings import plain_classifier
from sklearn.base import clone
from states import known

from skimprint.generation import FarthestPointProxies, ProxyGenerator


@pytest.mark.parametrize("generator", ["all", "cov_max", "fps", "kmedoids", "random"])
def test_indices_of_sample_proxies_are_the_samples(split, generator):
    X, _, y, _ = split
    clf = plain_classifier(
        generator, 3, support_norm=None, proxy_norm=None, random_state=0
    ).fit(X, y)
    np.testing.assert_array_equal(clf.proxies_, X[clf.proxy_indices_])


def test_random_state_none_differs_from_fit_to_fit(split):
    X, _, y, _ = split
    clf = plain_classifier("random", n_proxies=5)
    first = clf.fit(X, y).proxy_indices_
    assert not np.array_equal(clf.fit(X, y).proxy_indices_, first)


def test_farthest_points_start_where_they_are_told_to():
    X = np.random.default_rng(0).normal(size=(40, 3))

    def starts(start):
        clf = plain_classifier(FarthestPointProxies(start), 2, support_norm=None)
        fits = (clf.set_params(random_state=i).fit(X, np.zeros(40)) for i in range(5))
        return {fitted.proxy_indices_[0] for fitted in fits}

    assert starts("farthest") == {np.linalg.norm(X - X.mean(axis=0), axis=1).argmax()}
    assert len(starts("random")) > 1


@pytest.mark.parametrize("generator", ["cov_max", "fps"])
def test_parts_select_as_one_fit(generator):
    """Candidates and the mean of all others are enough for that."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(900, 16)), np.zeros(900, int)
    clf = plain_classifier(generator, 5, support_norm=None, random_state=0)
    whole = clone(clf).fit(X, y)
    for rows in np.array_split(np.arange(900), 6):
        clf.partial_fit(X[rows], y[rows])
    points = known(clf).memory.values
    assert len(points.counts) == 2 * 5 * ProxyGenerator.points_per_proxy
    assert points.counts.sum() == pytest.approx(900)
    np.testing.assert_array_equal(clf.proxy_indices_, whole.proxy_indices_)
    one, other = (clone(whole).fit(X[i::2], y[i::2]) for i in range(2))
    found = {row.tobytes() for row in one.merge(other).proxies_}
    assert found == {row.tobytes() for row in whole.proxies_}
