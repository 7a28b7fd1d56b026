"""What samples of all classes say together, and what of it is taken over."""

import numpy as np
import pytest
from states import learnt, plan_of

from skimprint._memory.state import Needs, State
from skimprint._space import space as module
from skimprint._space.moments import CommonMoments
from skimprint._space.space import Space


def samples(n=60, d=5, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return rng.normal(size=(n, d)) + y[:, None], y, rng.uniform(0.5, 2, n)


@pytest.fixture
def plan():
    return plan_of().with_needs(Needs(2, 100, scatter_bytes=2**40))


def test_means_and_weights_by_definition(plan):
    X, y, weights = samples()
    space = Space(learnt(plan, X, y, weights))
    np.testing.assert_allclose(space.class_weights, np.bincount(y, weights))
    means = [np.average(X[y == c], axis=0, weights=weights[y == c]) for c in range(4)]
    np.testing.assert_allclose(space.means, means)
    np.testing.assert_allclose(space.origin, np.mean(means, axis=0))
    assert not space.is_head.any()


def test_classes_are_sorted_in_however_many_parts_they_came(plan):
    X, y, weights = samples()
    whole, state = Space(learnt(plan, X, y, weights)), State()
    for label in (2, 0, 3, 1):
        rows = y == label
        state = learnt(plan, X[rows], y[rows], weights[rows], state=state)
    parts = Space(state)
    np.testing.assert_allclose(parts.means, whole.means)
    np.testing.assert_allclose(parts.class_weights, whole.class_weights)
    # Their rows are those of the part that they came in.
    both = (each.left_out()._replace(indices=()) for each in (parts, whole))
    for a, b in zip(*both, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(parts.covariance[0], whole.covariance[0], atol=1e-12)
    assert parts.shrinkage == whole.shrinkage


def test_a_single_class_is_seen_from_zero(plan):
    X, y, _ = samples(n_classes=1)
    np.testing.assert_array_equal(Space(learnt(plan, X, y)).origin, np.zeros(5))
    X = np.array([[1.0, 2], [3, 4]])
    np.testing.assert_array_equal(Space(learnt(plan, X, np.arange(2))).origin, [2, 3])


class TestOneSampleOfEachClass:
    """Nothing varies within the classes: the means tell in which directions."""

    @pytest.mark.parametrize("n_classes", [2, 3, 9])
    @pytest.mark.parametrize("times", [1, 3])
    def test_whitens_by_the_covariance_of_the_means(self, plan, n_classes, times):
        X = np.random.default_rng(0).normal(size=(n_classes, 5))
        y = np.arange(n_classes)
        space = Space(learnt(plan, np.tile(X, (times, 1)), np.tile(y, times)))
        covariance = np.cov(X, rowvar=False, bias=True)
        expected = 0.7 * covariance + 0.3 * np.trace(covariance) / 5 * np.eye(5)
        np.testing.assert_allclose(space.scatter.covariance(0.3), expected, atol=1e-12)
        whitened = space.whitening(0.3)(X)
        products = (X - X.mean(0)) @ np.linalg.solve(expected, (X - X.mean(0)).T)
        np.testing.assert_allclose(whitened @ whitened.T, products, atol=1e-9)

    def test_the_shrinkage_at_most_triples_the_typical_variance(self, plan):
        for n, d in ((2, 5), (3, 400), (10, 400), (40, 400)):
            X = np.random.default_rng(0).normal(size=(n, d))
            space = Space(learnt(plan, X, np.arange(n)))
            shrinkage, variance = space.shrinkage, space.scatter.variance
            of_directions = np.trace(np.cov(X, rowvar=False, bias=True)) / (n - 1)
            gain = (1 - shrinkage) * of_directions / (shrinkage * variance)
            assert shrinkage > 0.96999
            assert gain == pytest.approx(2) if shrinkage > 0.97001 else gain < 2

    def test_a_second_sample_is_enough_to_choose_by(self, plan):
        X = np.random.default_rng(0).normal(size=(8, 5))
        space = Space(learnt(plan, X, [0, 1, 2, 3, 0, 1, 2, 3]))
        residuals = (X[:4] - X[4:]) / 2
        expected = 2 * residuals.T @ residuals
        np.testing.assert_allclose(space.scatter.matrix, expected, atol=1e-12)

    @pytest.mark.parametrize("X", [np.ones((3, 5)) / 3, np.zeros((3, 5))])
    def test_equal_samples_tell_nothing(self, plan, X):
        space = Space(learnt(plan, X, [0, 1, 2]))
        assert space.scatter.variance == 0
        np.testing.assert_allclose(space.whitening(0.5)(X), 0, atol=1e-12)

    def test_nor_does_a_single_class(self, plan):
        space = Space(learnt(plan, np.ones((1, 5)), [0]))
        assert space.scatter.variance == 0


class TestLeftOut:
    def test_all_where_they_are_few(self, plan):
        X, y, weights = samples()
        left_out = Space(learnt(plan, X, y, weights)).left_out()
        assert np.bincount(left_out.codes).tolist() == [15] * 4
        np.testing.assert_allclose(left_out.weights, left_out.counts)
        assert left_out.numbers.tolist() == 4 * list(range(15))

    def test_bounded_and_standing_for_their_class(self, plan, monkeypatch):
        X, y, weights = samples()
        space = Space(learnt(plan, X, y, weights))
        monkeypatch.setattr(module, "_MAX_LEFT_OUT", 13)
        left_out = space.left_out()
        assert np.bincount(left_out.codes).tolist() == [3] * 4
        np.testing.assert_allclose(
            np.bincount(left_out.codes, left_out.counts), space.class_weights
        )
        monkeypatch.setattr(module, "_MAX_LEFT_OUT", 2)
        assert np.bincount(space.left_out().codes).tolist() == [1] * 4


class TestReusing:
    def test_takes_over_what_has_been_computed(self, plan):
        X, y, weights = samples()
        first = Space(learnt(plan, X, y, weights))
        covariance = first.covariance
        other = Space(learnt(plan_of("all").with_needs(plan.needs), X, y, weights))
        assert other.reusing(first) is other
        assert other.covariance is covariance
        assert len(other.proxies.values.counts) == 60  # but its own proxies
        assert len(first.proxies.values.counts) == 4
        assert other.reusing(None) is other

    def test_moments_follow_those_before_once(self, plan, monkeypatch):
        X, y, _ = samples()
        state = learnt(plan, X, y)
        before = Space(state)
        _ = before.moments
        after = Space(learnt(plan, X[:8] + 1, y[:8] + 2, state=state), before)
        seen = []

        class Watched(CommonMoments):
            def __init__(self, state, previous=None):
                seen.append(previous)
                super().__init__(state, previous)

        monkeypatch.setattr(module, "CommonMoments", Watched)
        found = after.moments
        assert seen == [before.moments]
        assert after._previous is None  # of forgotten classes nothing remains
        np.testing.assert_allclose(
            found.scatter, CommonMoments(after.state).scatter, atol=1e-9
        )
