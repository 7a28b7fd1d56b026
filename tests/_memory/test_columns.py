"""Columns of ragged records: taking, joining and grouping, against plain lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skimprint._arrays.groups import row_keys
from skimprint._memory.columns import (
    Points,
    Ragged,
    Samples,
    joined,
    n_bytes,
    sorted_by_key,
    take,
)

N_FEATURES = 3

sizes_of_classes = st.lists(st.integers(0, 5), min_size=1, max_size=7)


def points(n, seed=0):
    """Points that differ from each other."""
    rng = np.random.default_rng(seed)
    return Points(
        rng.normal(size=(n, N_FEATURES)),
        rng.uniform(1, 2, n),
        rng.integers(-1, 100, n),
        rng.random(n),
    )


def ragged(sizes, seed=0):
    """A column, and the record of each class."""
    records = [points(n, [seed, i]) for i, n in enumerate(sizes)]
    return Ragged.of(records), records


def assert_equal(column, records):
    """A column has these records, in this order."""
    assert len(column) == len(records)
    assert column.offsets[0] == 0
    assert column.sizes.tolist() == [len(record[0]) for record in records]
    for place, (found, record) in enumerate(zip(column, records, strict=True)):
        for a, b, c in zip(found, column.one(place), record, strict=True):
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, c)


def two_halves(values):
    """Two arrays whose memory lies side by side, but is not that of one array."""
    half = len(values) // 2
    return [np.frombuffer(values, offset=start, count=half // 8) for start in (0, half)]


class TestRagged:
    @given(sizes_of_classes)
    def test_has_the_records_that_it_is_made_of(self, sizes):
        column, records = ragged(sizes)
        assert_equal(column, records)
        codes = [i for i, n in enumerate(sizes) for _ in range(n)]
        np.testing.assert_array_equal(column.codes, codes)

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1))
    def test_joins_the_records_of_each_class(self, sizes):
        firsts, seconds = zip(*sizes, strict=True)
        column, records = ragged(firsts)
        other, others = ragged(seconds, seed=1)
        expected = [joined(pair) for pair in zip(records, others, strict=True)]
        assert_equal(column.followed_by(other), expected)

    @given(sizes_of_classes, st.data())
    def test_replaces_the_records_of_some_classes(self, sizes, data):
        column, records = ragged(sizes)
        chosen = sorted(data.draw(st.sets(st.integers(0, len(sizes) - 1))))
        others = [points(i, [9, i]) for i in chosen]
        if chosen:
            column = column.replaced(np.array(chosen), Ragged.of(others))
        for place, other in zip(chosen, others, strict=True):
            records[place] = other
        assert_equal(column, records)

    @given(sizes_of_classes, st.data())
    def test_takes_classes_in_any_order_and_more_than_once(self, sizes, data):
        column, records = ragged(sizes)
        places = st.lists(st.integers(0, len(sizes) - 1), max_size=8)
        chosen = np.array(data.draw(places), dtype=np.intp)
        assert_equal(column.take(chosen), [records[i] for i in chosen])
        most = data.draw(st.integers(0, 4))
        expected = [take(record, slice(most)) for record in records]
        assert_equal(column.first(most), expected)

    @given(sizes_of_classes, st.data())
    def test_takes_another_number_of_each(self, sizes, data):
        column, records = ragged(sizes)
        most = [data.draw(st.integers(0, 4)) for _ in sizes]
        found = column.first(np.array(most))
        expected = [take(r, slice(n)) for r, n in zip(records, most, strict=True)]
        assert_equal(found, expected)

    @given(st.lists(sizes_of_classes, min_size=1, max_size=4))
    def test_joins(self, parts):
        made = [ragged(sizes, seed) for seed, sizes in enumerate(parts)]
        records = [record for _, records in made for record in records]
        assert_equal(joined(column for column, _ in made), records)

    @given(sizes_of_classes, st.data())
    def test_what_is_cut_and_joined_is_the_same(self, sizes, data):
        column, records = ragged(sizes)
        cut = data.draw(st.integers(0, len(sizes)))
        parts = [range(cut), range(cut, len(sizes))]
        parts = [take(column, np.arange(len(sizes))[part]) for part in parts]
        assert_equal(joined(parts), records)

    @given(sizes_of_classes.filter(sum), st.data())
    def test_what_is_split_and_joined_is_not_copied(self, sizes, data):
        column, records = ragged(sizes)
        cut = data.draw(st.integers(0, len(sizes)))
        both = joined([take(column, slice(cut)), take(column, slice(cut, len(sizes)))])
        assert_equal(both, records)
        assert np.shares_memory(both.values.vectors, column.values.vectors)

    @given(st.data())
    def test_views_of_one_array_in_any_order(self, data):
        whole = data.draw(
            st.sampled_from(
                [
                    np.arange(12.0).reshape(6, 2).copy(),
                    np.arange(12.0).reshape(6, 2),  # a view itself
                    np.arange(12.0).reshape(2, 6).copy().T,  # not contiguous
                    np.arange(4).astype(object),
                    np.array(7.0).reshape(1),
                ]
            )
        )
        n = len(whole)
        cuts = st.tuples(st.integers(0, n), st.integers(0, n), st.sampled_from([1, 2]))
        cuts = st.one_of(st.just(slice(None)), cuts.map(lambda c: slice(*c)))
        parts = data.draw(st.lists(cuts.map(lambda c: whole[c]), min_size=1))
        found = joined(parts)
        assert found.dtype == whole.dtype
        np.testing.assert_array_equal(found, np.concatenate(parts))

    @pytest.mark.parametrize(
        "parts",
        [
            lambda rows: [rows[:4:2], rows[2:4]],
            lambda rows: [rows.T[:2], rows.T[2:]],
            lambda rows: [np.asfortranarray(rows).T[:2], np.asfortranarray(rows).T[2:]],
            lambda rows: np.split(np.asfortranarray(rows).T, 2),
            lambda rows: [rows.reshape(12, 3)[:2], rows.reshape(12, 3)[:0]],
            lambda rows: np.split(rows.view(np.int64), 2),
            lambda rows: [rows[:2], rows.view(np.int64)[2:]],
            lambda rows: [rows[:2], rows.view(np.int64)[2:], rows[2:]],
            lambda rows: two_halves(rows.tobytes()),
            lambda rows: [half[:] for half in two_halves(rows.tobytes())],
        ],
    )
    def test_parts_that_only_look_like_rows_of_one_array(self, parts):
        """They share memory, but are no consecutive rows of it."""
        parts = parts(np.arange(36.0).reshape(6, 6).copy())
        expected = np.concatenate(parts)
        found = joined(parts)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)

    def test_what_is_taken_is_a_copy(self):
        column, records = ragged([2, 3])
        found = column.take(np.array([1]))
        found.values.vectors[:] = 0
        assert_equal(column, records)

    def test_groups_points(self):
        column, records = ragged([2, 1, 3])
        groups = column.grouped()
        assert len(groups) == 3
        for group, record in enumerate(records):
            np.testing.assert_array_equal(groups.rows(group), record.vectors)
            weights = groups.weights_at(groups.indices(group))
            np.testing.assert_array_equal(weights, record.counts)

    def test_replaces_arrays(self):
        column, records = ragged([2, 1])
        found = column.with_values(counts=np.array([7.0, 8, 9]))
        assert found.one(1).counts == 9
        assert_equal(column, records)


class TestColumns:
    def tree(self, sizes, seed=0):
        """An array, a ragged column, a pair of these, and nothing."""
        column, _ = ragged(sizes, seed)
        array = np.random.default_rng(seed).normal(size=(len(sizes), 2))
        return array, column, (array + 1, column), None

    def assert_equal(self, found, array, records):
        np.testing.assert_array_equal(found[0], array)
        assert_equal(found[1], records)
        np.testing.assert_array_equal(found[2][0], array + 1)
        assert_equal(found[2][1], records)
        assert found[3] is None

    def test_are_taken_and_joined_alike(self):
        some, others = self.tree([1, 0, 2]), self.tree([3, 1], seed=1)
        both = joined([some, others])
        array = np.concatenate([some[0], others[0]])
        records = [*some[1], *others[1]]
        self.assert_equal(both, array, records)
        order = np.array([4, 0, 3])
        self.assert_equal(take(both, order), array[order], [records[i] for i in order])

    def test_a_single_one_is_not_copied(self):
        column, _ = ragged([1, 2])
        assert joined([column]) is column

    def test_nothing_beside_something_is_nothing(self):
        column, _ = ragged([1, 2])
        assert joined([column, None]) is None
        assert joined([None, column]) is None

    def test_bytes(self):
        array, column, pair, _ = tree = self.tree([2, 1])
        of_column = column.offsets.nbytes + sum(a.nbytes for a in column.values)
        assert n_bytes(column) == of_column
        assert n_bytes(pair) == of_column + array.nbytes
        assert n_bytes(tree) == 2 * (of_column + array.nbytes)


class TestPoints:
    def test_join(self):
        some, others = points(2), points(3, seed=1)
        both = joined([some, others])
        for first, second in (
            (take(both, slice(2)), some),
            (take(both, [2, 3, 4]), others),
        ):
            for a, b in zip(first, second, strict=True):
                np.testing.assert_array_equal(a, b)


def one_class(samples):
    """A column of one class."""
    return Ragged(samples, np.array([0, len(samples.keys)]))


class TestSamples:
    @given(
        n=st.integers(0, 12),
        size=st.one_of(st.none(), st.integers(0, 14)),
        seed=st.integers(0, 99),
    )
    def test_those_with_the_smallest_keys_are_kept(self, n, size, seed):
        rng = np.random.default_rng(seed)
        rows, weights = rng.normal(size=(n, 2)), rng.random(n)
        found = Samples.of(rows, weights, size)
        order = np.argsort(row_keys(rows, seed=0), kind="stable")[:size]
        np.testing.assert_array_equal(found.rows, rows[order])
        np.testing.assert_array_equal(found.weights, weights[order])
        np.testing.assert_array_equal(found.keys, row_keys(found.rows, seed=0))
        np.testing.assert_array_equal(found.indices, order)

    @given(
        cuts=st.lists(st.integers(0, 30), max_size=4),
        size=st.integers(1, 12),
        order=st.permutations(range(5)),
    )
    def test_parts_in_any_order_keep_the_same(self, cuts, size, order):
        rng = np.random.default_rng(0)
        rows, weights = rng.normal(size=(30, 2)), rng.random(30)
        cuts = sorted(cuts)
        columns = (rows, weights, np.arange(30))
        parts = list(zip(*(np.split(each, cuts) for each in columns), strict=True))
        found = Samples.of(rows[:0])
        for i in order:
            if i < len(parts):
                of_part, weights_of_part, indices = parts[i]
                part = Samples.of(of_part, weights_of_part, size, indices)
                both = one_class(found).followed_by(one_class(part))
                found = sorted_by_key(both).first(size).values
        for a, b in zip(found, Samples.of(rows, weights, size), strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_keep_their_dtype_and_weigh_one_by_default(self, dtype):
        rows = np.arange(6).reshape(3, 2).astype(dtype)
        found = Samples.of(rows)
        assert found.rows.dtype == dtype
        assert found.weights.tolist() == [1, 1, 1]

    def test_samples_of_one_key_are_told_apart_by_their_values(self):
        rows = np.array([[1.0], [2.0], [2.0], [3.0], [3.0]])
        keys = np.array([7, 7, 7, 7, 1], np.uint64)
        samples = Samples(rows, np.arange(1.0, 6.0), keys, np.arange(5))
        found = sorted_by_key(one_class(samples)).values
        assert found.rows.tolist() == [[3], [1], [2], [3]]
        assert found.weights.tolist() == [5, 1, 5, 4]
