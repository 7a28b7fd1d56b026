"""Least squares whose regularisation is chosen by the samples."""

import pickle
from copy import copy, deepcopy

import numpy as np
import pytest
from settings import plain_classifier
from sklearn.base import clone
from sklearn.linear_model import Ridge

from skimprint import persistence
from skimprint._space.likelihood import fit_temperature
from skimprint._space.regularization import ALPHAS
from skimprint.generation import LeastSquaresProxies


def least_squares(alpha, **params):
    norms = {"proxy_norm": None, "query_norm": None}
    params = norms | {"n_proxies": 1} | params
    return plain_classifier(LeastSquaresProxies(alpha=alpha), **params)


def alpha_of(clf):
    clf.predict(np.zeros((1, clf.n_features_in_)))
    return clf.generator_.alpha_


@pytest.mark.parametrize("n_proxies", [1, 3])
@pytest.mark.parametrize("n_samples", [60, 3000])
def test_proxies_of_a_class_sum_to_ridge_on_one_hot_targets(n_samples, n_proxies):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, 100))
    y = np.minimum(rng.geometric(0.4, n_samples), 5)  # unbalanced
    weights = rng.uniform(0.5, 2, n_samples)
    clf = least_squares(0.1, n_proxies=n_proxies, support_norm=None, random_state=0)
    clf.fit(X, y, sample_weight=weights)
    found = clf.proxies_.reshape(5, n_proxies, 100).sum(axis=1)
    ridge = Ridge(alpha=0.1 * weights.sum(), fit_intercept=False)
    ridge.fit(X, np.eye(5)[y - 1], sample_weight=weights)
    np.testing.assert_allclose(found, ridge.coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_features", [5, 80])
def test_the_best_is_that_of_ridge_regressions_without_each_sample(
    n_features, weighted
):
    rng = np.random.default_rng(n_features)
    y = rng.integers(0, 3, 60)
    X = rng.normal(size=(60, n_features)) + 2 * rng.normal(size=(3, n_features))[y]
    weight = rng.integers(1, 4, 60).astype(float) if weighted else np.ones(60)
    total = weight.sum()
    candidates = np.array(ALPHAS) * (weight @ X**2).sum() / n_features / total
    values = []
    for alpha in candidates:
        scores = np.empty((60, 3))
        for i in range(60):
            kept = np.arange(60) != i
            ridge = Ridge(alpha=alpha * total, fit_intercept=False)
            ridge.fit(X[kept], np.eye(3)[y[kept]], sample_weight=weight[kept])
            scores[i] = ridge.predict(X[[i]])[0]
        values.append(fit_temperature(scores, y, weight)[0])
    clf = least_squares("auto", support_norm=None).fit(X, y, sample_weight=weight)
    chosen = values[np.abs(candidates / alpha_of(clf) - 1).argmin()]
    assert chosen >= max(values) - 2e-4
    given = least_squares(alpha_of(clf), support_norm=None)
    given.fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(given.proxies_, clf.proxies_)


@pytest.mark.parametrize("whitening", [None, 0.5])
def test_any_parts_and_order_choose_the_same(digits, whitening):
    X, y = digits
    clf = least_squares("auto", whitening=whitening)
    whole = clone(clf).fit(X, y)
    for rows in np.array_split(np.random.default_rng(0).permutation(len(y)), 5):
        clf.partial_fit(X[rows], y[rows])
    np.testing.assert_allclose(alpha_of(clf), alpha_of(whole), rtol=1e-4)
    clf.forget([3, 4])
    rest = clone(clf).fit(X[~np.isin(y, [3, 4])], y[~np.isin(y, [3, 4])])
    np.testing.assert_allclose(alpha_of(clf), alpha_of(rest), rtol=1e-4)


@pytest.mark.parametrize("n_proxies", [1, 3])
@pytest.mark.parametrize(
    "length, whitening", [(1, 0), (1, 0.01), (1e4, None), (1e8, None)]
)
def test_of_few_samples_nothing_but_their_directions_counts(
    length, whitening, n_proxies
):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 5
    X, queries = 3 * rng.normal(size=(5, 200))[y] + rng.normal(size=(2, 60, 200))
    params = {"whitening": whitening, "n_proxies": n_proxies, "random_state": 0}
    params |= dict.fromkeys(
        ["support_norm", "query_norm"], None if whitening is None else "l2"
    )
    single, double = (
        least_squares(0.01, **params).fit(X.astype(dtype), y)
        for X, dtype in ((length * X.astype("f"), "f"), (length * X.astype("f"), "d"))
    )
    found, expected = (
        clf.decision_function((length * queries).astype("f"))
        for clf in (single, double)
    )
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    if n_proxies == 1 and whitening is None:
        samples = length * X.astype("f").astype("d")
        ridge = Ridge(0.01 * len(y), fit_intercept=False, solver="svd")
        expected = ridge.fit(samples, np.eye(5)[y]).predict(length * queries)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("n_features", [4, 6, 9])
def test_whitening_of_float32_leaves_something_to_solve(n_features):
    # Whitened with little shrinkage, what rounding leaves of zero is more than alpha.
    rng = np.random.default_rng(0)
    for n_samples in range(2, 12):
        X = rng.normal(size=(n_samples, n_features)).astype(np.float32)
        y = np.arange(n_samples) % 2
        clf = least_squares(0.01, whitening=0, support_norm=None)
        clf.partial_fit(X[:1], y[:1]).partial_fit(X[1:], y[1:])
        assert np.isfinite(clf.proxies_).all()


@pytest.mark.parametrize("n_features", [1, 2, 40])
@pytest.mark.parametrize("alpha", ["auto", 0.01])
def test_equal_samples_leave_nothing_but_rounding_errors(n_features, alpha):
    def learner(value, seed):
        weights = np.random.default_rng(seed).uniform(0.001, 100, 9)
        clf = plain_classifier(
            LeastSquaresProxies(alpha),
            n_proxies=2,
            whitening=1.0,
            support_norm=None,
            proxy_norm=None,
        )
        X = np.full((9, n_features), value, np.float32)
        return clf.fit(X, np.arange(9) % 2, sample_weight=weights)

    for value in np.random.default_rng(0).uniform(0.001, 1, 10):
        clf = learner(value, 0).merge(learner(value, 1))
        assert np.abs(clf.proxies_).max() < 1e-4


def test_is_chosen_by_each_of_two_copies(digits):
    X, y = digits
    clf = least_squares("auto").fit(X[:40], y[:40])
    chosen = alpha_of(clf)
    other = copy(clf).partial_fit(X[40:], y[40:])
    assert alpha_of(other) != chosen
    assert alpha_of(clf) == chosen


def test_one_sample_per_class_says_nothing():
    clf = least_squares("auto").fit(np.eye(3), [0, 1, 2])
    assert alpha_of(clf) == pytest.approx(10 / 3)
    np.testing.assert_array_equal(clf.predict(np.eye(3)), [0, 1, 2])


def test_is_as_good_as_the_best_of_the_papers(digits):
    X, y = digits
    train, test = np.arange(len(y)) % 3 == 0, np.arange(len(y)) % 3 == 1

    def accuracy(alpha):
        return least_squares(alpha).fit(X[train], y[train]).score(X[test], y[test])

    best = max(accuracy(alpha) for alpha in (4e-5, 1e-3, 1e-2))
    assert accuracy("auto") > best - 0.005


@pytest.mark.parametrize("alpha", [0, -1.0, "best"])
def test_other_alphas_are_refused(alpha):
    with pytest.raises(ValueError, match="alpha"):
        least_squares(alpha).fit(np.eye(3), [0, 1, 2])


@pytest.mark.parametrize("alpha", [0.5, "auto"])
@pytest.mark.parametrize("compact", [False, True])
def test_what_was_chosen_comes_back(digits, alpha, compact, tmp_path):
    clf = least_squares(alpha).fit(*digits)
    chosen = clf.generator_.alpha_
    clf = clf.compact() if compact else clf
    copies = [clf, copy(clf), deepcopy(clf), pickle.loads(pickle.dumps(clf))]
    pytest.importorskip("safetensors", reason="needs skimprint[files]")
    persistence.save(clf, tmp_path / "model")
    for other in (*copies, persistence.load(tmp_path / "model")):
        assert other.generator_.alpha_ == chosen
        assert other.generator.get_params() == clf.generator.get_params()
