"""One seed for all classes."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state


def seed_from(random_state):
    """Turn a random state into an int: itself if it is one, else a draw from it."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
