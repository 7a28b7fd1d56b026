"""What is kept of classes: samples or scatters, as much as is needed, in blocks."""

import numpy as np
import pytest
from states import assert_same_samples, learnt, plan_of, samples

from skimprint._memory import blocks, state
from skimprint._memory.columns import n_bytes
from skimprint._memory.state import Needs


def test_few_samples_have_the_same_bits_in_any_order():
    X, y, weights = samples(9, 30)
    plan = plan_of(metric="mahalanobis")
    first = learnt(plan, X, y, weights)
    second = learnt(plan, X[::-1], y[::-1], weights[::-1])
    some, others = (each.gather([0, 1, 2]) for each in (first, second))
    assert_same_samples(some.samples, others.samples, np.arange(9)[::-1])
    for place in range(3):
        for a, b in zip(
            some.moments.one(place, some.samples),
            others.moments.one(place, others.samples),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("d", [4, 40])
def test_samples_or_a_triangle_are_kept_whichever_takes_less(d):
    X, y, _ = samples(60, d)
    known = learnt(plan_of(metric="mahalanobis"), X, y).gather([0, 1, 2])
    few = d + 1 > 2 * 20
    assert known.samples.sizes.tolist() == 3 * [20 if few else 0]
    assert known.moments.triangles.sizes.tolist() == 3 * [0 if few else 1]


def test_only_what_is_needed_is_kept():
    X, y, _ = samples(30, 40)
    plan = plan_of()
    assert plan.needs == Needs()
    known = learnt(plan, X, y).gather([0, 1, 2])
    assert known.moments is None
    assert known.samples is None
    known = learnt(plan.with_needs(Needs(samples=4)), X, y).gather([0, 1, 2])
    assert known.samples.sizes.tolist() == [4, 4, 4]
    assert known.moments is None


@pytest.mark.parametrize("n_parts", [1, 3])
def test_blocks_are_bounded_however_large_moments_are(n_parts, monkeypatch):
    """Classes of too few samples for a scatter in each part get one with the others."""
    for module in (blocks, state):
        monkeypatch.setattr(module, "BLOCK_BYTES", 30_000)
    X, y, _ = samples(800, 50, n_classes=20)
    plan, known = plan_of(metric="mahalanobis"), state.State()
    for part in range(n_parts):
        known = learnt(plan, X[part::n_parts], y[part::n_parts], state=known)
    n_scatters = sum(block.moments.triangles.sizes.sum() for block in known.blocks)
    assert n_scatters == 20
    a_class = 8 * 50 * 51 // 2
    for block in known.blocks:
        assert n_bytes(block[1:]) < 30_000 + 2 * a_class


def test_samples_are_counted_whatever_their_weights():
    X, y, weights = samples(40, 3)
    state = None
    for part in (slice(10), slice(10, 40)):
        state = learnt(plan_of(), X[part], y[part], weights[part], state=state)
    n_samples = state.column(lambda block: block.n_samples)
    np.testing.assert_array_equal(n_samples, np.bincount(y))
