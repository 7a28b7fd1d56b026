"""From a state and samples to the next state: any parts give what the whole gives."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from states import assert_same_samples, learnt, plan_of, samples

from skimprint._memory import blocks, learner, state
from skimprint._memory.columns import n_bytes
from skimprint._memory.learner import Batch, batches_joined, learn_each, merge
from skimprint._memory.state import Needs, State
from skimprint._space.moments import CommonMoments, moments_of

EACH = 2**40  # bytes of scatters: more than there are


@settings(max_examples=40)
@given(
    cuts=st.lists(st.integers(1, 59), max_size=5, unique=True),
    seed=st.integers(0, 2**16),
    d=st.sampled_from([2, 8, 25, 60]),
    kept=st.sampled_from([0, 5, 100]),
)
def test_parts_in_any_order_give_the_statistics_of_the_whole(cuts, seed, d, kept):
    X, y, weights = samples(60, d, seed)
    plan = plan_of().with_needs(Needs(2, kept, EACH))
    order = np.random.default_rng(seed).permutation(60)
    parts = State()
    for rows in np.split(order, sorted(cuts)):
        parts = learnt(plan, X[rows], y[rows], weights[rows], state=parts)
    whole = learnt(plan, X, y, weights)
    assert parts.n_samples == whole.n_samples == 60
    some, expected = (each.gather([0, 1, 2]) for each in (parts, whole))
    np.testing.assert_allclose(some.weights, expected.weights)
    assert_same_samples(some.samples, expected.samples, order)
    for place in range(3):
        found = some.moments.one(place, some.samples)
        of_all = moments_of(X[y == place], weights[y == place])
        assert (found.rows is None) == (of_all.rows is None) == (d + 1 <= 2 * 20)
        of_class = "weight", "mean", "variance", "third", "fourth"
        for name in (*of_class, "scatter_triangle"):
            np.testing.assert_allclose(
                getattr(found, name), getattr(of_all, name), 1e-8, 1e-8, err_msg=name
            )


class TestPooled:
    """Where only the sum of the scatters is kept, it is that of all of them."""

    @settings(max_examples=40)
    @given(
        cuts=st.lists(st.integers(1, 59), max_size=4, unique=True),
        seed=st.integers(0, 2**16),
        d=st.sampled_from([2, 8, 25, 60]),
        kept=st.sampled_from([0, 5]),
        limit=st.sampled_from([0, 300, 3000]),
        merged=st.booleans(),
    )
    def test_sum_is_that_of_all_classes(self, cuts, seed, d, kept, limit, merged):
        X, y, weights = samples(60, d, seed)
        order = np.random.default_rng(seed).permutation(60)
        found, expected = (
            self.in_parts(
                plan_of().with_needs(Needs(2, kept, each)),
                [(X[p], y[p], weights[p]) for p in np.split(order, sorted(cuts))],
                merged=merged,
            )
            for each in (limit, EACH)
        )
        triangles = [b.moments.triangles.values.triangle for b in expected.blocks]
        assert (found.pooled is None) == (sum(map(n_bytes, triangles)) <= limit)
        some, others = CommonMoments(found), CommonMoments(expected)
        np.testing.assert_allclose(some.scatter, others.scatter, 1e-9, 1e-9)
        np.testing.assert_allclose(some.columns.means, others.columns.means, 1e-9, 1e-9)
        np.testing.assert_allclose(some.columns.weights, others.columns.weights)
        np.testing.assert_allclose(some.variance, others.variance)
        if found.pooled is not None:
            block = found.gather([0, 1, 2])
            assert max(block.samples.sizes) <= kept
            assert block.moments.triangles is None

    @staticmethod
    def in_parts(plan, parts, *, merged):
        known = State()
        for part in parts:
            if merged and known.places:
                known = merge(plan, known, learnt(plan, *part))
            else:
                known = learnt(plan, *part, state=known)
        return known

    @pytest.mark.parametrize("first, second", [(0, EACH), (EACH, 0)])
    def test_merges_with_one_that_is_not(self, first, second):
        X, y, weights = samples(60, 8)
        plans = [plan_of().with_needs(Needs(2, 5, n)) for n in (first, second)]
        halves = [(X[i::2], y[i::2], weights[i::2]) for i in (0, 1)]
        mine, theirs = map(learnt, plans, *zip(*halves, strict=True))
        assert (mine.pooled is None) != (theirs.pooled is None)
        both = merge(plans[0], mine, theirs)
        assert both.pooled is not None
        whole = learnt(plan_of().with_needs(Needs(2, 5, EACH)), X, y, weights)
        scatters = [CommonMoments(each).scatter for each in (both, whole)]
        np.testing.assert_allclose(*scatters, atol=1e-9)

    def test_without_moments_there_is_none(self):
        X, y, _ = samples(60, 8)
        pooled = learnt(plan_of().with_needs(Needs(2)), X, y)
        assert merge(plan_of(), pooled, pooled).pooled is None

    def test_of_plans_that_learn_together(self):
        X, y, _ = samples(60, 8)
        plans = [plan_of("kmeans", n_proxies=k).with_needs(Needs(2, 5)) for k in (1, 2)]
        batch = Batch(X, *np.unique(y, return_inverse=True))
        for plan, found in zip(plans, learn_each(plans, batch), strict=True):
            np.testing.assert_array_equal(found.pooled, learnt(plan, X, y).pooled)


class TestMeansAlone:
    """Where no scatter is needed, neither one of a class nor a sum is kept."""

    @pytest.mark.parametrize("d", [8, 60])  # more samples than half of them, and fewer
    @pytest.mark.parametrize("kept", [0, 5, 100])
    def test_are_those_beside_scatters(self, d, kept):
        X, y, weights = samples(60, d)
        halves = [(X[i::2], y[i::2], weights[i::2]) for i in (0, 1)]
        ways = []
        for needs in (Needs(1, kept), Needs(2, kept, EACH)):
            plan = plan_of().with_needs(needs)
            whole = learnt(plan, X, y, weights)
            one, other = (learnt(plan, *half) for half in halves)
            parts = learnt(plan, *halves[1], state=one)
            ways.append([whole, parts, merge(plan, one, other), whole.changed([1])])
        for i, (few, all_) in enumerate(zip(*ways, strict=True)):
            (block,), (expected,) = few.blocks, all_.blocks
            assert few.pooled is None
            assert block.moments[3:] == (None, None, None)
            assert block.samples.sizes.max() <= kept
            check = np.testing.assert_array_equal
            if i in (1, 2):  # joined, which rounds
                check = np.testing.assert_allclose
            for some, others in zip(block.moments[:3], expected.moments, strict=False):
                check(some, others)

    def test_of_one_that_has_kept_more(self):
        X, y, _ = samples(60, 8)
        more, few = (learnt(plan_of().with_needs(Needs(n)), X, y) for n in (2, 1))
        both = merge(plan_of().with_needs(Needs(1)), few, more)
        assert both.pooled is None
        (block,) = both.blocks
        np.testing.assert_allclose(block.moments.means, few.blocks[0].moments.means)
        np.testing.assert_array_equal(block.moments.weights, [40, 40, 40])


class TestStates:
    """A state is replaced, never changed, and does not depend on how blocks lie."""

    @pytest.fixture(params=["small blocks", "large blocks"])
    def block_sizes(self, request, monkeypatch):
        if request.param == "small blocks":
            for module in (blocks, state):
                monkeypatch.setattr(module, "BLOCK_BYTES", 3000)

    @pytest.mark.usefixtures("block_sizes")
    @pytest.mark.parametrize("generator", ["mean", "kmeans", "all", "fps"])
    def test_classes_do_not_depend_on_each_other(self, generator):
        X, y, weights = samples(120, 6, n_classes=8)
        plan = plan_of(generator, n_proxies=2, metric="mahalanobis", random_state=0)
        together = learnt(plan, X, y, weights)
        alone, labels = State(), (3, 1, 7, 0, 2, 6, 5, 4)
        order = np.concatenate([np.flatnonzero(y == label) for label in labels])
        for label in labels:
            rows = y == label
            alone = learnt(plan, X[rows], y[rows], weights[rows], state=alone)
        for label in range(8):
            some, other = (each.gather([label]) for each in (together, alone))
            for a, b in zip(
                some.proxies.values[:2], other.proxies.values[:2], strict=True
            ):
                np.testing.assert_array_equal(a, b)
            assert_same_samples(other.samples, some.samples, order)

    @pytest.mark.usefixtures("block_sizes")
    @pytest.mark.parametrize("forgettable", [True, False])
    def test_learning_leaves_the_state_before_as_it_was(self, forgettable):
        X, y, _ = samples(120, 6, n_classes=8)
        params = {"whitening": "auto", "forgettable": forgettable, "random_state": 0}
        plan = plan_of("kmeans", n_proxies=2, query_norm=None, **params)
        before = learnt(plan, X, y)
        assert (before.pooled is None) == forgettable
        dump = pickle.dumps(before)
        learnt(plan, X[:70] + 1, y[:70] + 3, state=before)
        merge(plan, before, learnt(plan, X[:50], y[:50]))
        assert pickle.dumps(before) == dump


class TestLearnEach:
    @pytest.mark.parametrize("generator", ["mean", "kmeans", "random", "cov_max"])
    def test_is_learn_for_each(self, generator):
        X, y, weights = samples(90, 5)
        plans = [
            plan_of(generator, n_proxies=n, metric="mahalanobis", random_state=0)
            for n in (1, 4, {0: 2, 1: 1, 2: 3})
        ]
        batch = Batch(X, *np.unique(y, return_inverse=True), weights)
        for plan, found in zip(plans, learn_each(plans, batch), strict=True):
            assert pickle.dumps(found) == pickle.dumps(learnt(plan, X, y, weights))


class TestMerge:
    def test_is_one_fit_for_what_is_exact(self):
        X, y, weights = samples(80, 5, n_classes=4)
        plan = plan_of("mean", metric="mahalanobis")
        first, second = y < 3, y > 0  # two classes are known to both
        both = merge(
            plan,
            learnt(plan, X[first], y[first], weights[first]),
            learnt(plan, X[second], y[second], weights[second]),
        )
        rows = np.concatenate([np.flatnonzero(first), np.flatnonzero(second)])
        expected = learnt(plan, X[rows], y[rows], weights[rows])
        some, others = (each.gather(range(4)) for each in (both, expected))
        for a, b in zip(some.proxies.values, others.proxies.values, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
        np.testing.assert_allclose(some.weights, others.weights)
        assert both.n_samples == expected.n_samples == len(rows)

    def test_keeps_what_both_have_kept(self):
        X, y, _ = samples(60, 40)
        more, less = Needs(2, 30, EACH), Needs(2, 3, EACH)
        plan = plan_of()
        first = learnt(plan.with_needs(more), X, y)
        second = learnt(plan.with_needs(less), X + 1, y + 2)
        known = merge(plan.with_needs(more & less), first, second).gather(range(5))
        # Of few samples moments are made, so these are all kept.
        assert known.samples.sizes.tolist() == [20, 20, 3, 20, 20]
        none = merge(plan, first, second).gather(range(5))
        assert none.samples is None
        assert none.moments is None


class TestBatches:
    def test_are_joined_as_if_they_had_come_together(self):
        X, y, weights = samples(30, 4)
        names = np.array(["b", "a", "long label"])[y]
        parts = np.split(np.random.default_rng(0).permutation(30), [7, 20])
        batches = [
            Batch(X[p], *np.unique(names[p], return_inverse=True), weights[p])
            for p in parts
        ]
        assert all(batches[0].kind == batch.kind for batch in batches)
        both, order = batches_joined(batches), np.concatenate(parts)
        np.testing.assert_array_equal(both.X, X[order])
        np.testing.assert_array_equal(both.classes[both.codes], names[order])
        np.testing.assert_array_equal(both.weights, weights[order])

    @pytest.mark.parametrize(
        "change",
        [
            {"X": np.zeros((2, 3), np.float32)},
            {"classes": np.array(["a", "b"])},
            {"classes": np.array([0.0, 1.0])},
            {"weights": np.ones(2)},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_of_other_kinds_are_not_joined(self, change):
        batch = Batch(np.zeros((2, 3)), np.array([0, 1]), np.array([0, 1]))
        assert batch.kind == replace(batch).kind
        assert batch.kind != replace(batch, **change).kind

    @pytest.mark.parametrize("is_sorted", [False, True])
    @pytest.mark.parametrize("with_weights", [False, True])
    def test_tell_which_classes_have_negative_values(self, is_sorted, with_weights):
        rng = np.random.default_rng(0)
        n = 5 * learner._SIGN_ROWS // 2
        y = rng.integers(5, size=n)
        y = np.sort(y) if is_sorted else y
        X = np.abs(rng.normal(size=(n, 3)))
        X[rng.permutation(n)[:3], 1] *= -1
        X[y == 4, 2] *= -1
        weights = rng.integers(2, size=n) * 1.0 if with_weights else None
        classes = np.array(["a", "b", "c", "d", "e"])
        expected = (X < 0).any(axis=1) & (True if weights is None else weights > 0)
        found = Batch(X, classes, y, weights).signed_labels
        assert found == classes[np.unique(y[expected])].tolist()
        assert "e" in found
        assert Batch(np.abs(X), classes, y, weights).signed_labels == []

    def test_classes_without_weight_are_absent(self):
        batch = Batch(np.ones((3, 2)), np.array(["a", "b"]), np.array([0, 0, 1]))
        assert not batch.is_absent.any()
        batch = replace(batch, weights=np.array([0.0, 1, 0]))
        assert batch.classes[batch.is_absent].tolist() == ["b"]
