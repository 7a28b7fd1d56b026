"""What a classifier knows, in blocks: random changes against a plain dict."""

import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from settings import plain_classifier
from states import plan_of

from skimprint._memory import state as state_module
from skimprint._memory.columns import Points, Ragged, Samples, n_bytes, take
from skimprint._memory.learner import block_of_head
from skimprint._memory.state import Block, Needs, State, split
from skimprint._validation import as_objects

N_FEATURES = 4
LABELS = [f"class {number:02}" for number in range(30)]


def points_of(rng, n):
    return Points(
        rng.normal(size=(n, N_FEATURES)),
        rng.uniform(1, 2, n),
        rng.integers(0, 1000, n),
        rng.random(n),
    )


def block_of(labels, seed):
    """A block of classes, of one to four proxies and up to three samples each."""
    rng = np.random.default_rng(seed)
    proxies = [points_of(rng, rng.integers(1, 5)) for _ in labels]
    memory = [points_of(rng, rng.integers(0, 3)) for _ in labels]
    samples = [Samples.of(rng.normal(size=(2, N_FEATURES))) for _ in labels]
    return Block(
        as_objects(labels),
        rng.random(len(labels)),
        rng.integers(1, 9, len(labels)),
        rng.random(len(labels)) < 0.5,
        rng.random(len(labels)) < 0.5,
        Ragged.of(proxies),
        Ragged.of(memory),
        None,
        Ragged.of(samples),
    )


def record(block, place):
    """All that a block says of one class, as bytes."""
    columns = (block.proxies, block.memory, block.samples)
    arrays = [array for column in columns for array in column.one(place)]
    names = "n_samples", "is_signed", "weights", "is_head"
    arrays += [getattr(block, name)[place] for name in names]
    return [np.asarray(array).tobytes() for array in arrays]


def records(block):
    """What a block says of each of its classes."""
    labels = block.labels.tolist()
    return {label: record(block, place) for place, label in enumerate(labels)}


def size(block):
    return n_bytes(block[1:])


class Program(RuleBasedStateMachine):
    """Changes a state beside a dict from labels to what is known of them."""

    def __init__(self):
        super().__init__()
        self.state = State(label_dtype=np.dtype("U8"))
        self.known = {}

    def change(self, gone, labels, seed):
        new = split(block_of(sorted(labels), seed)) if labels else []
        before, known = self.state, dict(self.known)
        self.state = self.state.changed(sorted(gone), new, n_samples=seed)
        assert self.state.n_samples == seed
        for label in gone:
            del self.known[label]
        for block in new:
            self.known |= records(block)
        # The state that it comes from stays as it was.
        assert before.places.keys() == known.keys()
        for label, (block, place) in before.places.items():
            assert record(block, place) == known[label]

    @rule(data=st.data(), seed=st.integers(1, 2**16))
    def learn_new_classes(self, data, seed):
        unknown = [label for label in LABELS if label not in self.known]
        if unknown:
            labels = data.draw(st.sets(st.sampled_from(unknown), min_size=1), "new")
            self.change((), labels, seed)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), seed=st.integers(1, 2**16))
    def learn_more_of_known_classes(self, data, seed):
        labels = data.draw(st.sets(st.sampled_from(sorted(self.known))), "more")
        self.change(labels, labels, seed)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), seed=st.integers(1, 2**16))
    def forget(self, data, seed):
        labels = data.draw(st.sets(st.sampled_from(sorted(self.known))), "gone")
        self.change(labels, (), seed)

    @rule()
    def pickle(self):
        dump = pickle.dumps(self.state)
        for label in LABELS:
            assert dump.count(label.encode()) == (label in self.known)
        self.state = pickle.loads(dump)

    @invariant()
    def each_class_has_one_place(self):
        state = self.state
        assert state.places.keys() == self.known.keys()
        assert sum(len(block.labels) for block in state.blocks) == len(self.known)
        for label, (block, place) in state.places.items():
            assert any(block is each for each in state.blocks)
            assert block.labels[place] == label
            assert record(block, place) == self.known[label]

    @invariant()
    def blocks_are_bounded(self):
        """By so many bytes, and one class that has room no longer."""
        for block in self.state.blocks:
            classes = [take(block, [place]) for place in range(len(block.labels))]
            largest = max(map(size, classes))
            beside = 40 * len(classes)  # weights and offsets, next to nothing
            assert size(block) <= state_module.BLOCK_BYTES + largest + beside

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def gather(self, data):
        labels = st.lists(st.sampled_from(sorted(self.known)), min_size=1, unique=True)
        labels = data.draw(labels, "gathered")
        found = self.state.gather(labels)
        assert found.labels.tolist() == labels
        for place, label in enumerate(labels):
            assert record(found, place) == self.known[label]

    @precondition(lambda self: self.known)
    @invariant()
    def columns_are_sorted(self):
        order = sorted(self.known)
        labels, weights = self.state.column(lambda block: (block.labels, block.weights))
        assert labels.tolist() == order
        assert [weight.tobytes() for weight in weights] == [
            self.known[label][-2] for label in order
        ]
        proxies = self.state.column(lambda block: block.proxies)
        for found, label in zip(proxies, order, strict=True):
            assert [array.tobytes() for array in found] == self.known[label][:4]


@pytest.mark.parametrize("block_bytes", [1, 1500, 5000, 2**22])
def test_random_programs(block_bytes, monkeypatch):
    monkeypatch.setattr(state_module, "BLOCK_BYTES", block_bytes)
    run_state_machine_as_test(
        Program,
        settings=settings(
            max_examples=20,
            stateful_step_count=12,
            suppress_health_check=list(HealthCheck),
        ),
    )


def alike(label):
    """A block of one class, of as many bytes as any other."""
    rng = np.random.default_rng(0)
    none = Ragged(points_of(rng, 0), np.zeros(2, np.intp))
    one = Ragged(points_of(rng, 1), np.arange(2))
    numbers = np.ones(1), np.ones(1, int), np.zeros(1, bool), np.zeros(1, bool)
    return Block(as_objects([label]), *numbers, one, none)


def test_classes_that_come_one_by_one_are_in_few_blocks(monkeypatch):
    monkeypatch.setattr(state_module, "BLOCK_BYTES", 40 * size(alike(0)))
    state, most = State(label_dtype=np.dtype(int)), 0
    copied = 0
    for label in range(1000):
        before = {id(block) for block in state.blocks}
        state = state.changed(new=[alike(label)])
        full = sum(2 * size(b) > state_module.BLOCK_BYTES for b in state.blocks)
        most = max(most, len(state.blocks) - full)
        copied += sum(len(b.labels) for b in state.blocks if id(b) not in before)
    assert most <= np.log2(40) + 1
    assert len(state.blocks) <= 1000 / 20 + np.log2(40) + 1
    assert copied <= 1000 * (np.log2(40) + 2)


def test_classes_that_are_learnt_again_and_again_stay_in_few_blocks():
    rng = np.random.default_rng(0)
    state, most = State(label_dtype=np.dtype(int)), 0
    for label in range(64):
        state = state.changed(new=[alike(label)])
    for step, label in enumerate(rng.integers(0, 64, 1000)):
        state = state.changed([label], [alike(label)])
        if step > 100:
            most = max(most, len(state.blocks))
    assert len(state.places) == 64
    assert most <= 2 * np.log2(64)


def test_classes_that_follow_each_other_in_a_block_are_not_copied():
    block = block_of(LABELS[:5], 0)
    state = State(label_dtype=np.dtype("U8")).changed(new=[block])
    vectors = block.proxies.values.vectors
    of_all = state.column(lambda block: block.proxies)
    assert np.shares_memory(of_all.values.vectors, vectors)
    for labels, is_view in ((LABELS[2:4], True), ([LABELS[3], LABELS[1]], False)):
        found = state.gather(labels).proxies.values.vectors
        assert np.shares_memory(found, vectors) == is_view


def test_blocks_may_be_replaced_by_others_of_the_same_classes():
    state = State(label_dtype=np.dtype("U8")).changed(new=[block_of(LABELS[:5], 0)])
    other = state.with_blocks([block._replace(samples=None) for block in state.blocks])
    assert other.places.keys() == state.places.keys()
    assert other.gather(LABELS[:2]).samples is None
    assert state.gather(LABELS[:2]).samples is not None


def test_rows_of_a_head_are_one_proxy_each():
    rows = np.arange(6.0).reshape(2, 3)
    block = block_of_head(plan_of().with_needs(Needs(samples=1)), ["b", "a"], rows)
    assert block.labels.tolist() == ["b", "a"]
    assert block.is_head.all()
    np.testing.assert_array_equal(block.proxies.values.vectors, rows)
    assert block.proxies.values.indices.tolist() == [-1, -1]
    assert block.memory.sizes.tolist() == block.samples.sizes.tolist() == [0, 0]
    assert block.moved(7).proxies.values.indices.tolist() == [-1, -1]
    both = block._replace(proxies=block.proxies.with_values(indices=np.array([-1, 3])))
    assert both.moved(7).proxies.values.indices.tolist() == [-1, 10]
    assert both.proxies.values.indices.tolist() == [-1, 3]
    assert block.moments is None
    assert block_of_head(plan_of(), ["a"], rows[:1]).samples is None


def test_needs_of_two_parts():
    none, moments, samples = Needs(), Needs(moments=2, samples=5), Needs(samples=9)
    assert none | samples == samples
    assert moments | samples == Needs(2, 9)
    assert moments & samples == Needs(0, 5)
    some, more = Needs(2, scatter_bytes=3), Needs(scatter_bytes=4)
    assert some | more == Needs(2, scatter_bytes=4)
    assert some & more == Needs(scatter_bytes=3)
    assert moments & none == none


def test_labels_keep_their_types():
    labels = [1, True, "a", 2.5]
    assert [type(label) for label in as_objects(labels)] == [int, bool, str, float]
    assert as_objects([(1, 2), (3, 4)]).shape == (2,)


D, K, B = 40, 3, 4
POINT = B * D + 24
SUMS, SCATTER = 16 * D + 8, B * D * (D + 1) // 2
CLUSTERED = K * POINT + 20 * K * POINT


@pytest.mark.parametrize(
    "params, most",
    [
        ({"generator": "mean"}, 16 * D + 64),
        ({"generator": "kmeans"}, CLUSTERED),
        ({"generator": "fps"}, CLUSTERED),
        ({"generator": "kmedoids"}, K * POINT + 30 * K * POINT),
        ({"generator": "least_squares", "n_proxies": 1}, 8 * D + 32 + SUMS + SCATTER),
        ({"whitening": 0.1}, CLUSTERED + SUMS + SCATTER),
        ({"whitening": 0.1, "forgettable": False}, CLUSTERED + SUMS),
        ({"whitening": "auto"}, CLUSTERED + SUMS + SCATTER + 200 * POINT),
        ({"temperature": "auto"}, CLUSTERED + 200 * POINT),
        ({"kernel_weight": 0.5}, CLUSTERED + SUMS + SCATTER + 1000 * POINT),
        (
            {"kernel_weight": 0.5, "whitening": 0.1, "forgettable": False},
            CLUSTERED + SUMS + 6000 // 7 * POINT,
        ),
    ],
)
def test_no_more_bytes_than_the_guide_says(params, most):
    """The table of ``docs/guide/memory.md``; offsets of columns come on top."""
    rng = np.random.default_rng(0)
    clf = plain_classifier(**({"n_proxies": K, "random_state": 0} | params))
    for _ in range(4):
        X = rng.normal(size=(7 * 400, D)).astype(np.float32)
        clf.partial_fit(X, np.arange(len(X)) % 7)
        clf.predict(X[:1])
        blocks = clf._fitted.state.blocks
        found = sum(
            n_bytes(column)
            for block in blocks
            for column in (block.proxies, block.memory, block.moments, block.samples)
        )
        assert found / 7 <= most + 64
    assert found / 7 >= most / 2  # it is no guess
