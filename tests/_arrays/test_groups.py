import numpy as np
import pytest

from skimprint._arrays.groups import GroupedRows, row_keys
from skimprint.normalization import l2_normalize


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(12, 3)), np.array([2, 0, 1, 1, 2, 0, 2, 1, 2, 2, 0, 3])


def test_rows_are_those_of_the_group_in_their_order(data):
    X, codes = data
    groups = GroupedRows(X, codes, 4, sample_weight=np.arange(12.0))
    assert len(groups) == 4
    for group in range(4):
        np.testing.assert_array_equal(groups.rows(group), X[codes == group])
        np.testing.assert_array_equal(
            groups.weights_at(groups.indices(group)), np.flatnonzero(codes == group)
        )
        assert groups.rows(group).flags.c_contiguous
    np.testing.assert_array_equal(groups.stack([0, 1])[1], X[codes == 1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_cast_and_normalised_and_x_is_left_alone(data, dtype, order):
    X = np.asarray(data[0], dtype=dtype, order=order)
    X.flags.writeable = False
    groups = GroupedRows(X, data[1], 4, transform=l2_normalize)
    rows = groups.rows(2)
    assert rows.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    rows[:] = 0  # ours to write on


class TestStackWithoutCopy:
    """Groups whose rows come out as X has them, one after the other, are parts of X."""

    X = np.random.default_rng(0).normal(size=(12, 3))
    codes = np.repeat(np.arange(4), 3)

    def test_is_a_part_of_x_that_cannot_be_written_on(self):
        stack = GroupedRows(self.X, self.codes, 4).stack([1, 2], copy=False)
        assert np.shares_memory(stack, self.X)
        np.testing.assert_array_equal(stack, self.X[3:9].reshape(2, 3, 3))
        with pytest.raises(ValueError, match="read-only"):
            stack -= 1
        assert self.X.flags.writeable

    @pytest.mark.parametrize(
        "case",
        ["copy", "other order", "strided", "unaligned", "cast", "normalised", "apart"],
    )
    def test_is_a_new_array_where_that_differs(self, case):
        X, codes, options, some = self.X.copy(), self.codes, {}, [1, 2]
        if case == "other order":
            codes = np.tile(np.arange(4), 3)
        if case == "strided":
            X = np.asfortranarray(X)
        if case == "unaligned":
            X = np.frombuffer(b"." + X.tobytes(), X.dtype, offset=1).reshape(X.shape)
        if case == "cast":
            X = X.astype(np.float16)
        if case == "normalised":
            options["transform"] = l2_normalize
        if case == "apart":
            some = [0, 2]
        groups = GroupedRows(X, codes, 4, **options)
        stack = groups.stack(some, copy=case == "copy")
        expected = [groups.rows(group) for group in some]
        np.testing.assert_array_equal(stack, expected)
        assert stack.flags.aligned
        assert not np.shares_memory(stack, X)
        stack -= 1


def test_buckets_hold_groups_alike_within_their_bound(data):
    groups = GroupedRows(*data, 4)  # of sizes 3, 3, 5, 1
    two = 2 * 3 * 3 * 8  # bytes of the rows of two groups of three
    buckets = groups.buckets(np.array([2, 2, 2, 1]), two)
    assert [bucket.tolist() for bucket in buckets] == [[3], [0, 1], [2]]
    buckets = groups.buckets(np.array([2, 1, 2, 1]), two)
    assert sorted(bucket.tolist() for bucket in buckets) == [[0], [1], [2], [3]]
    buckets = groups.buckets(np.ones(4), two - 1)
    assert sorted(bucket.tolist() for bucket in buckets) == [[0], [1], [2], [3]]


class TestRowKeys:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("d", [1, 2, 3, 64])
    def test_look_random_even_for_round_numbers(self, dtype, d):
        rows = np.zeros((4000, d), dtype)
        rows[:, 0] = np.arange(4000)
        keys = row_keys(rows, seed=0)
        assert keys.dtype == np.uint64
        assert len(np.unique(keys)) == 4000
        shares = np.histogram(keys / 2.0**64, bins=8, range=(0, 1))[0] / 4000
        np.testing.assert_allclose(shares, 1 / 8, atol=0.03)

    def test_depend_on_values_and_seed_only(self):
        rows = np.random.default_rng(0).normal(size=(50, 7))
        keys = row_keys(rows, seed=3)
        np.testing.assert_array_equal(row_keys(np.asfortranarray(rows), 3), keys)
        np.testing.assert_array_equal(row_keys(rows[::-1], seed=3), keys[::-1])
        assert not np.isin(row_keys(rows, seed=4), keys).any()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("d", [1, 3, 4])
    def test_few_rows_have_the_keys_of_many(self, dtype, d):
        rows = np.random.default_rng(0).normal(size=(50, d)).astype(dtype)
        keys = row_keys(rows, seed=0)
        for some in (slice(0), slice(1), slice(0, 2, 2), slice(7, 8, 3)):
            np.testing.assert_array_equal(row_keys(rows[some], seed=0), keys[some])

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("d", [1, 4, 7])
    def test_negative_zeros_are_zeros(self, dtype, d):
        rows = np.zeros((2, d), dtype)
        keys = row_keys(rows, seed=0)
        rows[1] = -0.0
        np.testing.assert_array_equal(row_keys(rows, seed=0), keys)
        assert np.signbit(rows[1]).all()  # it writes on a copy
