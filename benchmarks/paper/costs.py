"""How long fits will take, from those that are done."""

from collections import defaultdict

import numpy as np


class Costs:
    """Seconds of a cell by its method and the size of its support.

    Between sizes that have been seen, the logarithm is interpolated.

    Parameters
    ----------
    data : Data
        The data sets.
    """

    def __init__(self, data):
        self.data = data
        self.seen = defaultdict(lambda: defaultdict(list))

    def _size(self, cell):
        return self.data.n_support(cell) * self.data[cell.data].X_train.shape[1]

    def add(self, cell, row):
        """Note how long a cell took."""
        self.seen[cell.method][self._size(cell)].append(row["seconds"])

    def unknown(self, cells):
        """Choose cells to compute first, small ones first.

        These are the smallest, the largest and a middling one of each method, unless
        such sizes have been seen.
        """
        by_method = defaultdict(list)
        for cell in sorted(cells, key=self._size):
            by_method[cell.method].append(cell)
        first = set()
        for method, each in by_method.items():
            seen = self.seen[method]
            low, high = self._size(each[0]), self._size(each[-1])
            if not (seen and min(seen) <= low and high <= max(seen)):
                first |= {each[0], each[len(each) // 2], each[-1]}
        return sorted(first, key=self._size)

    def estimate(self, cell):
        """Estimate the seconds of a cell."""
        seen = sorted(self.seen[cell.method].items())
        sizes = np.log([size for size, _ in seen])
        seconds = np.log([max(np.mean(values), 1e-3) for _, values in seen])
        return float(np.exp(np.interp(np.log(self._size(cell)), sizes, seconds)))
