"""How long fits will take, from those that are done."""

from collections import defaultdict

import numpy as np


class Costs:
    """Seconds of a cell by its method and the size of its support.

    Between sizes that have been seen, the logarithm is interpolated; beyond, the line
    goes on, as long as it grows by no more than the cube of the size.

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
        seconds = np.log(max(row["seconds"], 1e-3))
        self.seen[cell.method][np.log(self._size(cell))].append(seconds)

    def unknown(self, cells):
        """Choose cells to compute first: of each method that was seen at less than two
        sizes, the smallest cell and one of the upper quartile.
        """
        by_method = defaultdict(list)
        for cell in cells:
            if len(self.seen[cell.method]) < 2:
                by_method[cell.method].append(cell)
        first = []
        for each in by_method.values():
            each.sort(key=self._size)
            first += [each[0], each[len(each) * 3 // 4]]
        return list(dict.fromkeys(first))

    def estimate(self, cell):
        """Estimate the seconds of a cell."""
        seen = sorted(self.seen[cell.method].items())
        sizes = np.array([size for size, _ in seen])
        seconds = np.array([np.mean(values) for _, values in seen])
        size = np.log(self._size(cell))
        if len(sizes) == 1 or sizes[0] <= size <= sizes[-1]:
            return float(np.exp(np.interp(size, sizes, seconds)))
        end = slice(2) if size < sizes[0] else slice(-2, None)
        (x, z), (low, high) = sizes[end], seconds[end]
        slope = np.clip((high - low) / (z - x), 0, 3)
        return float(np.exp(low + slope * (size - x)))
