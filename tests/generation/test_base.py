"""What every generator keeps when somebody derives from it."""

import inspect
import pickle

import numpy as np
import pytest
from joblib import parallel_config
from numpy.testing import assert_array_equal
from settings import plain_classifier

from skimprint import ImprintClassifier, ImprintClassifierCV
from skimprint._arrays.groups import GroupedRows
from skimprint.generation import (
    GENERATORS,
    KMeansProxies,
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
    # Processes look for a class of a module there; one of a script they are sent.
    made = type("Derived", (parent,), {"__init__": __init__, "__module__": "__main__"})
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
    with parallel_config("loky"):
        clf = plain_classifier(generator, n_jobs=2, **params).fit(X[:90], y[:90])
    once = plain_classifier(name, **params).fit(X[:90], y[:90])
    assert_array_equal(clf.proxies_, once.proxies_)


# What is drawn at random stands for itself.
@pytest.mark.parametrize("name", [n for n in GENERATORS if n != "random"])
def test_points_stand_for_all_samples(name):
    """Of a class of which points are remembered beside one whose proxies will do."""
    sizes = np.array([1, 3, 40, 90])
    X = np.random.default_rng(0).normal(size=(sizes.sum(), 3))
    generator = GENERATORS[name]()
    support = GroupedRows(X, np.repeat(np.arange(4), sizes), 4)
    (imprint,) = generator.learn_each(support, [np.full(4, 3)])
    found = [points.counts.sum() for points in generator.points(imprint)]
    np.testing.assert_allclose(found, sizes)


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        *(name for name in GENERATORS if name != "least_squares"),
        KMeansProxies(spherical=True),
    ],
    ids=str,
)
def test_a_large_class_leaves_the_others_as_they_are(name, is_weighted):
    """What is remembered of small classes is found together, or beside large ones."""
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


FIRST = np.arange(0, 120, 30)  # the first row of each class


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda s: np.zeros((4, 6)), TypeError, "of Own must return .*; got ndarray"),
        (lambda s: None, TypeError, "of Own must return .*; got NoneType"),
        (
            lambda s: synthesized(s, np.zeros((4, 5)), np.arange(5)),
            ValueError,
            r"generate must return an array of shape \(n_proxies, 6\); got \(4, 5\)",
        ),
        (
            lambda s: synthesized(s, np.full((4, 6), np.nan), np.arange(5)),
            ValueError,
            "generate must return finite values",
        ),
        (
            lambda s: synthesized(s, np.zeros((4, 6)) * 1j, np.arange(5)),
            ValueError,
            "generate must return an array of numbers .*imaginary parts",
        ),
        *(
            (made, ValueError, rf"each of 4 classes start, .* to \d, .*; got {got}")
            for offsets, got in [
                ([0, 1, 2], r"\[0 1 2\]"),  # fewer classes
                ([0, 1, 3, 2, 4], r"\[0 1 3 2 4\]"),
                ([0, 0, 1, 2, 3], r"\[0 0 1 2 3\]"),  # a class without any
                ([1, 2, 3, 4, 5], r"\[1 2 3 4 5\]"),
                ([0, 1, 2, 3, 5], r"\[0 1 2 3 5\]"),  # more than there are
                ([0.0, 1.0, 2.0, 3.0, 4.0], r"\[0\. 1\. 2\. 3\. 4\.\]"),
            ]
            for made in (
                lambda s, offsets=offsets: synthesized(s, np.zeros((4, 6)), offsets),
                lambda s, offsets=offsets: selected(s, FIRST, offsets),
            )
        ),
        *(
            (
                lambda s, rows=rows: selected(s, rows, np.arange(5)),
                ValueError,
                "of Own must select rows of each class .*support.indices",
            )
            # Places within a class, another class, from the end.
            for rows in ([0, 0, 0, 0], FIRST[::-1], [-120, -90, -60, -30])
        ),
    ],
)
def test_what_a_generator_of_the_user_returns(data, make, error, message):
    class Own(ProxyGenerator):
        def generate(self, support, n_proxies, **options):
            return make(support)

    with pytest.raises(error, match=message):
        plain_classifier(Own()).fit(*data)


@pytest.mark.parametrize(
    "selects, in_parts", [(True, False), (True, True), (False, True)]
)
def test_a_condense_that_returns_too_many_points_is_named(data, selects, in_parts):
    class Own(ProxyGenerator):
        points_per_proxy = 2

        def generate(self, support, n_proxies, **options):
            return selected(support, support.order[support.offsets[:-1]], np.arange(5))

        def condense(self, points, bound):
            return points

    Own.selects = selects
    X, y = data
    clf = plain_classifier(Own(), n_proxies=1)
    if in_parts:
        clf.fit(X[::15], y[::15])  # two of each class
    with pytest.raises(ValueError, match=r"condense of Own .* at most 4 .*returned 3"):
        clf.partial_fit(X, y).predict(X)


@pytest.mark.parametrize("kind", [list, np.asarray])
def test_selected_and_synthesized_take_lists(data, kind):
    class Own(ProxyGenerator):
        def generate(self, support, n_proxies, **options):
            offsets = kind([0, 1, 2, 3, 4])
            if self.selects:
                return selected(support, kind([0, 30, 60, 90]), offsets)
            return synthesized(support, kind(support.take(FIRST)), offsets)

    for selects in (True, False):
        Own.selects = selects
        clf = plain_classifier(Own()).fit(*data)
        assert_array_equal(clf.proxy_indices_, FIRST)


class Cast(ProxyGenerator):
    """Means of some dtype."""

    def __init__(self, dtype):
        self.dtype = dtype

    def generate(self, support, n_proxies, **options):
        groups = range(len(support))
        means = np.stack([8 * support.rows(group).mean(axis=0) for group in groups])
        offsets = np.arange(len(support) + 1)
        return synthesized(support, means.astype(self.dtype), offsets)


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4", "f8", "g", "O"])
def test_what_is_synthesized_may_have_any_dtype(data, dtype):
    """Pickles, which hold float32 and float64, read as they were written."""
    X, y = data
    clf = plain_classifier(Cast(dtype)).fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    for each in (clf, again):
        each.partial_fit(X[:50], y[:50])
    assert_array_equal(again.decision_function(X), clf.decision_function(X))


@pytest.mark.parametrize(
    "generator", [*sorted(GENERATORS), KMeansProxies(spherical=True)], ids=str
)
@pytest.mark.parametrize("whitening", [None, "auto"])
@pytest.mark.parametrize("n_parts", [1, 3])
@pytest.mark.parametrize("exponent", [-45, 40])
def test_the_unit_of_weights_does_not_matter(
    data, generator, whitening, n_parts, exponent
):
    X, y = data
    weights = np.random.default_rng(0).uniform(0.5, 2, len(y))
    found = []
    for unit in (1.0, 2.0**exponent):
        clf = ImprintClassifier(
            generator, n_proxies=2, whitening=whitening, random_state=0
        )
        for part in np.array_split(
            np.random.default_rng(1).permutation(len(y)), n_parts
        ):
            clf.partial_fit(X[part], y[part], sample_weight=unit * weights[part])
        found.append([clf.proxies_, clf.predict_proba(X)])
    for expected, scaled in zip(*found, strict=True):
        np.testing.assert_allclose(scaled, expected, atol=1e-5)
