"""What every generator keeps when somebody derives from it."""

import inspect

import numpy as np
import pytest
from joblib import parallel_config
from numpy.testing import assert_array_equal
from settings import plain_classifier

from skimprint import ImprintClassifierCV
from skimprint._arrays.groups import GroupedRows
from skimprint.generation import (
    GENERATORS,
    ProxyGenerator,
    _processes,
    selected,
    synthesized,
)


def derived(name):
    """Make a generator of a subclass that has a parameter of its own."""
    parent = GENERATORS[name]
    own = inspect.signature(parent).parameters.values()
    extra = inspect.Parameter("extra", inspect.Parameter.KEYWORD_ONLY, default=None)

    def __init__(self, *args, extra=None, **params):
        parent.__init__(self, *args, **params)
        self.extra = extra

    __init__.__signature__ = inspect.Signature(
        [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY), *own, extra]
    )
    made = type("Derived", (parent,), {"__init__": __init__, "__module__": __name__})
    globals()["Derived"] = made  # where processes look for it
    return made(extra="of the user")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 30)
    return (rng.normal(size=(120, 6)) + y[:, None]).astype(np.float32), y


@pytest.mark.parametrize("name", GENERATORS)
def test_a_subclass_may_have_parameters_of_its_own(name, data, monkeypatch):
    """It generates what its parent does, in every way there is."""
    X, y = data
    generator = derived(name)
    assert generator.get_params()["extra"] == "of the user"
    k = 1 if name in ("mean", "cov_max") else 3
    params = {"n_proxies": k, "random_state": 0}
    found, expected = (
        plain_classifier(each, **params).fit(X[:90], y[:90])
        for each in (generator, name)
    )
    assert_array_equal(found.proxies_, expected.proxies_)
    for clf in (found, expected):
        clf.partial_fit(X[90:], y[90:]).partial_fit(X[:5], y[:5])
    assert_array_equal(found.proxies_, expected.proxies_)

    support = GroupedRows(X, y, 4)
    numbers = [np.full(4, 2), np.full(4, 3)]
    for ours, theirs in zip(
        generator.learn_each(support, numbers, seed=0),
        GENERATORS[name]().learn_each(support, numbers, seed=0),
        strict=True,
    ):
        assert_array_equal(ours.proxies.values.vectors, theirs.proxies.values.vectors)
    search = ImprintClassifierCV(
        plain_classifier(generator, random_state=0), {"n_proxies": [1, 2]}, cv=2
    ).fit(X, y)
    assert search.best_estimator_.generator.extra == "of the user"

    if not found._fitted.plan.generator.is_slow:
        return
    monkeypatch.setattr(_processes, "_LEAST_BYTES", 0)
    with parallel_config("multiprocessing"):
        clf = plain_classifier(generator, n_jobs=2, **params).fit(X[:90], y[:90])
    once = plain_classifier(name, **params).fit(X[:90], y[:90])
    assert_array_equal(clf.proxies_, once.proxies_)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize(
    "name", [name for name in GENERATORS if name != "least_squares"]
)
def test_a_large_class_leaves_the_others_as_they_are(name, is_weighted):
    """Small classes alone are normalised once, beside a large one for each use."""
    rng = np.random.default_rng(0)
    sizes = [1, 2, 3, 8, 25, 90]  # of the last alone, not all are remembered
    y = np.repeat(np.arange(len(sizes)), sizes)
    X = (rng.normal(size=(len(y), 6)) + y[:, None]).astype(np.float32)
    weights = rng.choice([0, 1, 2.5], len(y)) if is_weighted else np.ones(len(y))
    order = rng.permutation(len(y))
    X, y, weights = X[order], y[order], weights[order]
    (small,) = np.nonzero(y < 5)
    k = 1 if name in ("mean", "cov_max") else 2
    alone, beside = (
        plain_classifier(name, n_proxies=k, random_state=0).fit(
            X[rows], y[rows], sample_weight=weights[rows]
        )
        for rows in (small, np.arange(len(y)))
    )
    for step in ("fit", "partial_fit"):
        own = beside.proxy_labels_ < 5
        rows = beside.proxy_indices_[own]
        if step == "fit":
            assert_array_equal(small[alone.proxy_indices_], rows)
        assert_array_equal(alone.proxies_, beside.proxies_[own])
        assert_array_equal(alone.class_count_, beside.class_count_[: len(sizes) - 1])
        for clf in (alone, beside):
            clf.partial_fit(X[small[:20]], y[small[:20]])


@pytest.mark.parametrize("name", GENERATORS)
def test_a_subclass_may_call_what_it_overrides(name, data):
    class Louder(GENERATORS[name]):
        def generate(self, *args, **options):
            return super().generate(*args, **options)

    found, expected = (
        plain_classifier(each, n_proxies=1, random_state=0).fit(*data)
        for each in (Louder(), name)
    )
    assert_array_equal(found.proxies_, expected.proxies_)


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda s: np.zeros((4, 6)), TypeError, "of Own must return .*; got ndarray"),
        (lambda s: None, TypeError, "of Own must return .*; got NoneType"),
        (
            lambda s: synthesized(s, np.zeros((4, 5)), np.arange(5)),
            ValueError,
            r"generate must return an array of shape \(4, 6\); got \(4, 5\)",
        ),
        (
            lambda s: synthesized(s, np.full((4, 6), np.nan), np.arange(5)),
            ValueError,
            "generate must return finite values",
        ),
        (
            lambda s: synthesized(s, np.zeros((2, 6)), np.arange(3)),
            ValueError,
            "each of 4 classes start, .*; got 3",
        ),
        (
            lambda s: selected(s, np.arange(2), np.arange(3)),
            ValueError,
            "each of 4 classes start, .*; got 3",
        ),
    ],
)
def test_what_a_generator_of_the_user_returns(data, make, error, message):
    class Own(ProxyGenerator):
        def generate(self, support, n_proxies, **options):
            return make(support)

    with pytest.raises(error, match=message):
        plain_classifier(Own()).fit(*data)
