"""n_proxies="auto": the number of proxies of each class, by held-out samples."""

import numpy as np
import pytest

from skimprint import ImprintClassifier
from skimprint._arrays.groups import GroupedRows
from skimprint._memory.n_proxies import N_PROXIES
from skimprint.generation import GENERATORS, AllProxies
from skimprint.normalization import l2_normalize


def blobs(n_blobs, n_each=30, seed=0):
    """Samples of narrow clusters that lie in different directions."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((n_blobs, 64))
    rows = np.repeat(centers, n_each, axis=0)
    return rows + 0.1 * rng.standard_normal(rows.shape)


@pytest.fixture
def data():
    """Classes of 1, 2 and 5 clusters, in mixed order."""
    parts = [blobs(1, seed=1), blobs(2, seed=2), blobs(5, seed=3)]
    y = np.repeat([1, 2, 5], [len(part) for part in parts])
    order = np.random.default_rng(0).permutation(len(y))
    return np.concatenate(parts)[order], y[order]


def auto(generator="kmeans", **params):
    return ImprintClassifier(generator, "auto", random_state=0, **params)


def proxies_of(clf, label):
    return clf.proxies_[clf.proxy_labels_ == label]


def n_proxies_of(clf):
    labels, counts = np.unique(clf.proxy_labels_, return_counts=True)
    return dict(zip(labels.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("generator", ["kmeans", "kmedoids", "random"])
def test_one_sample_per_class_is_the_mean(digits, generator):
    X, y = digits
    first = np.unique(y, return_index=True)[1]
    clf = auto(generator).fit(X[first], y[first])
    expected = ImprintClassifier("mean").fit(X[first], y[first])
    np.testing.assert_array_equal(clf.proxies_, expected.proxies_)


@pytest.mark.parametrize("n_shots", [2, 3, 4])
def test_few_samples_get_one_proxy(digits, n_shots):
    X, y = digits
    few = np.concatenate([np.flatnonzero(y == c)[:n_shots] for c in range(10)])
    clf = auto().fit(X[few], y[few])
    expected = ImprintClassifier("mean").fit(X[few], y[few])
    np.testing.assert_allclose(clf.proxies_, expected.proxies_, atol=1e-6)


def test_finds_the_clusters_of_each_class(data):
    numbers = n_proxies_of(auto().fit(*data))
    assert numbers[1] <= 2
    assert 2 <= numbers[2] <= 5
    assert numbers[5] >= 5


@pytest.mark.parametrize("generator", sorted(set(GENERATORS) - {"all", "mean"}))
def test_every_generator(data, generator):
    numbers = n_proxies_of(auto(generator).fit(*data))
    assert set(numbers.values()) <= set(N_PROXIES)
    assert numbers[5] >= 5


@pytest.mark.parametrize("generator", sorted(GENERATORS))
def test_several_numbers_at_once_are_what_each_gives(data, generator):
    X, y = data
    support = GroupedRows(X, np.searchsorted([1, 2, 5], y), 3, transform=l2_normalize)
    numbers = [np.ones(3, int), np.array([1, 5, 2]), np.full(3, 20)]
    made = GENERATORS[generator]().generate_each(support, numbers, seed=1, n_jobs=2)
    for proxies, number in zip(made, numbers, strict=True):
        alone = GENERATORS[generator]().generate(support, number, seed=1)
        for values, expected in zip(proxies, alone, strict=True):
            np.testing.assert_array_equal(values, expected)


def test_generators_that_know_their_number(data):
    X, y = data
    assert n_proxies_of(auto("mean").fit(X, y)) == {1: 1, 2: 1, 5: 1}
    assert len(auto(AllProxies()).fit(X, y).proxies_) == len(X)


def test_a_class_is_looked_at_alone(data):
    X, y = data
    clf = auto(proxy_norm=None).fit(X, y)
    for label in np.unique(y):
        some = y == label
        alone = auto(proxy_norm=None, n_jobs=2).fit(X[some], y[some])
        np.testing.assert_array_equal(proxies_of(clf, label), alone.proxies_)


def test_order_of_samples_makes_no_difference(digits):
    X, y = digits
    expected = n_proxies_of(auto().fit(X, y))
    order = np.random.default_rng(0).permutation(len(y))
    assert n_proxies_of(auto().fit(X[order], y[order])) == expected
    assert len(set(expected.values())) > 1


def test_weightless_samples_do_not_count(data):
    X, y = data
    weights = np.where(np.arange(len(y)) % 3, 1.0, 0.0)
    expected = auto().fit(X[weights > 0], y[weights > 0])
    clf = auto().fit(X, y, sample_weight=weights)
    np.testing.assert_array_equal(clf.proxies_, expected.proxies_)


def test_repeated_samples_are_never_held_out_of_themselves():
    X = np.repeat(np.random.default_rng(0).standard_normal((4, 16)), 20, axis=0)
    # In both halves they would be as near to 2 proxies as can be.
    assert len(auto().fit(X, np.zeros(80, int)).proxies_) == 1


def test_new_classes_get_what_fit_gives(data):
    X, y = data
    clf = auto().fit(X[y != 5], y[y != 5]).partial_fit(X[y == 5], y[y == 5])
    expected = auto().fit(X, y)
    np.testing.assert_array_equal(clf.proxies_, expected.proxies_)
    clf.forget(2)
    for label in (1, 5):
        np.testing.assert_array_equal(
            proxies_of(clf, label), proxies_of(expected, label)
        )


def test_a_known_class_decides_anew():
    X = blobs(5)
    clf = auto().fit(X[:30], np.zeros(30, int))
    assert len(clf.proxies_) == 1
    clf.partial_fit(X[30:], np.zeros(len(X) - 30, int))
    assert len(clf.proxies_) >= 5


def test_merge(data):
    X, y = data
    clf = auto().fit(X[::2], y[::2]).merge(auto().fit(X[1::2], y[1::2]))
    assert clf.score(X, y) == 1


def test_other_words_are_refused(data):
    with pytest.raises(ValueError, match="'n_proxies' parameter of ImprintClassifier"):
        ImprintClassifier(n_proxies="best").fit(*data)
