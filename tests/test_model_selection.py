import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.model_selection import (
    GridSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.neighbors import KNeighborsClassifier

from skimprint import ImprintClassifier
from skimprint.model_selection import NShotSplit

SEEDS = st.integers(0, 2**31 - 1)


@st.composite
def labelled(draw, at_least=6):
    """Labels in any order, at_least samples of each class."""
    names = draw(st.sets(st.sampled_from("abcdef"), min_size=1))
    sizes = [draw(st.integers(at_least, 12)) for _ in names]
    y = np.repeat(sorted(names), sizes)
    return draw(st.permutations(y.tolist()).map(np.array))


def splits(n_shots, y, **params):
    return list(NShotSplit(n_shots, **params).split(np.zeros((len(y), 1)), y))


def series(y):
    return pytest.importorskip("pandas", reason="needs pandas").Series(y)


@given(labelled(), st.integers(1, 3), SEEDS, st.sampled_from([0.25, 0.5, None]))
def test_has_n_shots_of_each_class_and_tests_on_others(y, n_shots, seed, test_size):
    params = {"test_size": test_size, "random_state": seed, "n_splits": 3}
    for train, test in splits(n_shots, y, **params):
        _, counts = np.unique(y[train], return_counts=True)
        np.testing.assert_array_equal(counts, np.full(len(set(y)), n_shots))
        assert not set(train) & set(test)
        classes, sizes = np.unique(y, return_counts=True)
        tested = [np.sum(y[test] == c) for c in classes]
        expected = sizes - n_shots if test_size is None else np.ceil(test_size * sizes)
        np.testing.assert_array_equal(tested, expected)


@example(7, 100)
@given(st.integers(1, 99), st.integers(2, 2000))
def test_a_share_of_whole_samples_is_not_rounded_up(percent, size):
    """Nor where the product of floats is a little more, as 0.07 * 100 is."""
    n_test = -(-percent * size // 100)
    assume(n_test < size)
    ((_, test),) = splits(1, np.zeros(size), n_splits=1, test_size=percent / 100)
    assert len(test) == n_test


@given(labelled(), SEEDS, st.sampled_from([0.25, 0.5, None]))
def test_supports_are_nested_and_test_sets_the_same(y, seed, test_size):
    params = {"test_size": test_size, "random_state": seed, "n_splits": 3}
    one, three = (splits(n, y, **params) for n in (1, 3))
    for (train_1, test_1), (train_3, test_3) in zip(one, three, strict=True):
        np.testing.assert_array_equal(train_3[: len(train_1)], train_1)
        if test_size is None:
            assert set(test_3) < set(test_1)
        else:
            np.testing.assert_array_equal(test_3, test_1)


@given(labelled(), SEEDS)
def test_all_shots_contain_any_number(y, seed):
    params = {"random_state": seed, "n_splits": 2}
    for (train, test), (few, same) in zip(
        splits("all", y, **params), splits(3, y, **params), strict=True
    ):
        np.testing.assert_array_equal(np.sort([*train, *test]), np.arange(len(y)))
        np.testing.assert_array_equal(train[: len(few)], few)
        np.testing.assert_array_equal(test, same)


@given(labelled(), SEEDS)
def test_the_support_is_the_same_for_any_test_set(y, seed):
    supports = [
        [train for train, _ in splits(2, y, test_size=size, random_state=seed)]
        for size in (0.1, 0.5, None)
    ]
    np.testing.assert_array_equal(supports[0], supports[1])
    np.testing.assert_array_equal(supports[0], supports[2])


@given(labelled(), SEEDS, st.randoms(use_true_random=False))
def test_a_class_does_not_depend_on_the_others(y, seed, random):
    """Each class by itself, and the classes in another order, give the same draws."""
    drawn = splits(2, y, random_state=seed, n_splits=2)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        alone = splits(2, y[rows], random_state=seed, n_splits=2)
        for (train, test), (train_alone, test_alone) in zip(drawn, alone, strict=True):
            np.testing.assert_array_equal(train[y[train] == label], rows[train_alone])
            np.testing.assert_array_equal(test[y[test] == label], rows[test_alone])

    names = list(np.unique(y))
    random.shuffle(names)
    order = np.concatenate([np.flatnonzero(y == name) for name in names])
    moved = splits(2, y[order], random_state=seed, n_splits=2)
    for (train, test), (train_moved, test_moved) in zip(drawn, moved, strict=True):
        assert set(train) == set(order[train_moved])
        assert set(test) == set(order[test_moved])


@given(labelled(), st.data())
def test_an_int_is_the_size_of_the_test_set(y, data):
    classes, sizes = np.unique(y, return_counts=True)
    total = data.draw(st.integers(len(classes), len(y) // 2))
    for _, test in splits(1, y, test_size=total, n_splits=2):
        assert len(test) == total
        tested = np.array([np.sum(y[test] == c) for c in classes])
        assert np.all(np.abs(tested - total * sizes / len(y)) < 1)


def test_draws_differ_and_seeds_repeat_them():
    y = np.repeat([0, 1], 500)
    first, again = splits(5, y, random_state=0), splits(5, y, random_state=0)
    assert len(first) == 10
    for (train, test), (train_2, test_2) in zip(first, again, strict=True):
        np.testing.assert_array_equal(train, train_2)
        np.testing.assert_array_equal(test, test_2)
    supports = {tuple(train) for train, _ in first}
    supports |= {tuple(train) for train, _ in splits(5, y, random_state=1)}
    assert len(supports) == 20
    # Nor do two classes draw in step.
    assert any(set(train[::2] % 500) != set(train[1::2] % 500) for train, _ in first)


def test_without_a_seed_each_call_draws_anew():
    y = np.repeat([0, 1], 500)
    for random_state in (None, np.random.RandomState(0)):
        cv = NShotSplit(5, n_splits=1, random_state=random_state)
        (a, _), (b, _) = next(cv.split(y, y)), next(cv.split(y, y))
        assert set(a) != set(b)


@pytest.mark.parametrize("as_labels", [list, series, lambda y: y.astype(np.uint8)])
def test_takes_labels_of_any_kind(as_labels):
    y = np.repeat([3, 1, 2], 8)
    for (train, test), (train_2, test_2) in zip(
        splits(2, y, random_state=0),
        splits(2, as_labels(y), random_state=0),
        strict=True,
    ):
        np.testing.assert_array_equal(train, train_2)
        np.testing.assert_array_equal(test, test_2)


@pytest.mark.parametrize(
    "y, kinds",
    [
        ([1, 0], [bool, float, np.float16, np.uint8, str, bytes, "Int64", "category"]),
        ([2**40, 0], [float, np.uint64, str, bytes, "Float64"]),
        (["no", "yes"], [object, bytes, "string", "category"]),
        (["na\xefve", "plain"], [object, "category"]),
        (["na\xefve", "lone \udcff"], [object]),  # which pandas with pyarrow refuses
    ],
)
def test_the_draws_depend_on_labels_and_not_on_their_type(y, kinds):
    y = np.repeat(y, 20)
    expected = splits(3, y, random_state=0)
    for kind in kinds:
        typed = series(y) if kind in ("Int64", "Float64", "string", "category") else y
        found = splits(3, typed.astype(kind), random_state=0)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])


def test_splits_tensors_under_dispatch(xp, digits):
    X, y = digits
    cv = NShotSplit(3, n_splits=2, random_state=0)
    for ours, theirs in zip(cv.split(xp(X), xp(y)), cv.split(X, y), strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1], theirs[1])
    found = cross_validate(ImprintClassifier("mean"), xp(X), xp(y), cv=cv)
    expected = cross_validate(ImprintClassifier("mean"), X, y, cv=cv)
    np.testing.assert_allclose(found["test_score"], expected["test_score"], atol=0.01)


def test_every_sample_is_as_likely():
    y = np.zeros(20, dtype=int)
    cv = NShotSplit(5, n_splits=2000, test_size=None, random_state=0)
    counts = sum(np.bincount(train, minlength=20) for train, _ in cv.split(y, y))
    assert np.all(np.abs(counts / 2000 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000))


def test_cross_validates(digits):
    X, y = digits
    cv = NShotSplit(3, n_splits=4, random_state=0)
    scores = cross_val_score(KNeighborsClassifier(1), X, y, cv=cv)
    expected = [
        KNeighborsClassifier(1).fit(X[train], y[train]).score(X[test], y[test])
        for train, test in cv.split(X, y)
    ]
    np.testing.assert_array_equal(scores, expected)
    assert cv.get_n_splits(X, y) == cv.get_n_splits() == 4


def test_searches_a_grid(digits):
    X, y = digits
    cv = NShotSplit(10, n_splits=3, random_state=0)
    search = GridSearchCV(ImprintClassifier(), {"generator": ["mean", "fps"]}, cv=cv)
    assert search.fit(X, y).n_splits_ == 3
    assert search.best_score_ > 0.6


def test_learning_curve_sweeps_the_shots(digits):
    X, y = digits
    clf = ImprintClassifier("mean")
    shots = [1, 2, 8]
    cv = NShotSplit(8, n_splits=3, random_state=0)
    sizes, _, scores = learning_curve(
        clf, X, y, cv=cv, train_sizes=[10 * n for n in shots]
    )
    np.testing.assert_array_equal(sizes, [10, 20, 80])
    for n_shots, row in zip(shots, scores, strict=True):
        cv = NShotSplit(n_shots, n_splits=3, random_state=0)
        np.testing.assert_array_equal(row, cross_val_score(clf, X, y, cv=cv))


def test_works_with_metadata_routing(digits):
    X, y = digits
    cv = NShotSplit(3, n_splits=2, random_state=0)
    clf = ImprintClassifier("mean")
    expected = cross_validate(clf, X, y, cv=cv)["test_score"]
    with config_context(enable_metadata_routing=True):
        clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        weights = {"sample_weight": np.ones(len(y))}
        found = cross_validate(clf, X, y, cv=cv, params=weights)["test_score"]
    np.testing.assert_array_equal(found, expected)


def test_warns_of_groups():
    y = np.repeat([0, 1], 5)
    with pytest.warns(UserWarning, match="ignores groups") as warned:
        next(NShotSplit(1).split(y, y, groups=y))
    assert "[" not in str(warned[0].message)  # not all of the groups


def test_names_the_class_with_too_few_samples_and_the_cure():
    y = ["cat"] * 9 + ["dog"] * 4 + ["elk"] * 20
    with pytest.raises(
        ValueError, match=r"'cat' has 9 and needs 11, 'dog' has 4 and ne"
    ):
        splits(8, y)
    for n_shots in (3, "all"):  # what the error recommends
        assert len(splits(n_shots, y)) == 10
    with pytest.raises(ValueError, match="use n_shots=3 or fewer, add samples to"):
        splits(4, y)
    with pytest.raises(ValueError, match="use n_shots=2 or fewer, use a smaller test_"):
        splits(3, y, test_size=0.5)
    with pytest.raises(ValueError, match=r"'dog' has 4 and needs 5\. To go on, use n_"):
        splits(4, y, test_size=None)
    assert len(splits(3, y, test_size=None)) == 10
    with pytest.raises(
        ValueError, match=r"'dog' has 1 and needs 2\. To go on, add samp"
    ):
        splits("all", ["cat", "cat", "dog"], test_size=0.5)
    with pytest.raises(ValueError, match="and so on: 7 classes in all"):
        splits(2, list("abcdefg"))


@pytest.mark.parametrize(
    "params, message",
    [
        ({"n_shots": 0}, "n_shots must be an int of at least 1 or 'all'; got 0"),
        ({"n_shots": 1.5}, "n_shots must be"),
        ({"n_shots": True}, "n_shots must be"),
        ({"n_shots": "some"}, "n_shots must be .* got 'some'"),
        ({"n_shots": None}, "n_shots must be"),
        ({"n_shots": [1, 2]}, "n_shots must be"),
        ({"n_shots": np.array([1, 2])}, r"n_shots must be .* got array\(\[1, 2\]\)"),
        ({"n_shots": 1, "n_splits": 0}, "n_splits must be"),
        ({"n_shots": 1, "test_size": 0}, "test_size must be a float between"),
        ({"n_shots": 1, "test_size": 1.0}, "test_size must be .* got 1.0"),
        ({"n_shots": 1, "test_size": "rest"}, "test_size must be .* got 'rest'"),
        ({"n_shots": "all", "test_size": None}, "leaves nothing to test on"),
    ],
)
def test_refuses_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        NShotSplit(**params)


@pytest.mark.parametrize(
    "y, params, message",
    [
        (None, {}, "pass y; got None"),
        ([0.5, 1.5, 2.5], {}, "Unknown label type"),
        ([[0, 1], [1, 1]], {}, "1d array"),
        ([0, 0, 1, 1], {"test_size": 1}, "at least the number of classes, 2"),
        ([0, 0, 1, 1], {"test_size": 4}, "less than the number of samples, 4"),
        ([], {}, "found no samples"),
    ],
)
def test_refuses_labels(y, params, message):
    with pytest.raises(ValueError, match=message):
        next(
            NShotSplit(1, **params).split(np.zeros((4 if y is None else len(y), 1)), y)
        )


def test_prints_its_parameters():
    assert repr(NShotSplit(5, random_state=0)) == (
        "NShotSplit(n_shots=5, n_splits=10, random_state=0, test_size=0.25)"
    )
