"""How familiar queries are, by definition."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skimprint._scoring.familiarity import FAMILIARITIES, contrast, nearest_similarity

SIMILARITIES = np.array([[5.0, 1], [3, 2], [4, 0], [1, 9]])
OFFSETS = np.array([0, 2, 4])


@pytest.mark.parametrize("n_nearest", [1, 2])
def test_similarity_is_that_of_the_nearest(n_nearest):
    found = nearest_similarity(SIMILARITIES, OFFSETS, n_nearest)
    np.testing.assert_array_equal(found, [5, 9])


@pytest.mark.parametrize(
    "n_nearest, expected",
    [(1, [5 - 4 / 3, 9 - 2 / 3]), (2, [4 - 2.5 / 3, 4.5 - 1.5 / 3])],
)
def test_contrast_takes_a_third_of_the_second_class_away(n_nearest, expected):
    found = contrast(SIMILARITIES, OFFSETS, n_nearest)
    np.testing.assert_allclose(found, expected)


def test_of_a_single_class_there_is_nothing_to_take_away():
    found = contrast(SIMILARITIES, np.array([0, 4]), 2)
    np.testing.assert_allclose(found, [4.5, 5.5])


@settings(max_examples=50)
@given(
    sizes=st.lists(st.integers(2, 4), min_size=2, max_size=4),
    n_nearest=st.integers(1, 2),
    name=st.sampled_from(sorted(FAMILIARITIES)),
)
def test_proxies_that_are_gone_do_not_count(sizes, n_nearest, name):
    """As if they were not there."""
    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *sizes])
    similarities = rng.normal(size=(offsets[-1], 5))
    gone = [rng.integers(*pair) for pair in pairwise(offsets)]
    left = np.delete(similarities, gone, axis=0)
    similarities[gone] = -np.inf
    of_left = np.cumsum([0, *(size - 1 for size in sizes)])
    familiarity = FAMILIARITIES[name]
    np.testing.assert_allclose(
        familiarity(similarities, offsets, n_nearest),
        familiarity(left, of_left, n_nearest),
    )
