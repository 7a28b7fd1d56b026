"""The paper's protocol: data sets, tasks, draws, and the cells that make them up."""

import hashlib
import json
import sys
import time
import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
from methods import METHODS, is_seeded
from scipy.linalg import LinAlgError
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from skimprint.model_selection import NShotSplit

N_DRAWS = 5
SHOTS = (1, 2, 5, 10, 20, 50, 100, 200, "all")
INTENTS_PER_LABEL = (1, 2, 3, 5, 10)
N_MERGED_LABELS = 7


class Cell(NamedTuple):
    """One fit and its accuracy: what is stored, and what is found again."""

    data: str
    task: str
    shots: int | str
    draw: int
    method: str


class DataSet(NamedTuple):
    """Embeddings as they are, float32, and labels as indices of the sorted classes."""

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @property
    def n_classes(self):
        return int(self.y_train.max()) + 1


def merged(d, n_classes, draw):
    """Seven labels of d random classes each; the other classes are left out."""
    labels = np.full(n_classes, -1)
    chosen = np.random.default_rng(draw).permutation(n_classes)[: d * N_MERGED_LABELS]
    labels[chosen] = np.arange(len(chosen)) // d
    return labels


def _keep(condition):
    def labels_of(n_classes, draw):
        classes = np.arange(n_classes)
        return np.where(condition(classes), classes, -1)

    return labels_of


# From the number of classes and a draw to the new label of each class, -1 for none.
TASKS = {
    "all": _keep(lambda classes: classes >= 0),
    "even": _keep(lambda classes: classes % 2 == 0),
    "odd": _keep(lambda classes: classes % 2 == 1),
    "0-1-2": _keep(lambda classes: classes <= 2),
    **{
        f"{d} in one": lambda n, draw, d=d: merged(d, n, draw)
        for d in INTENTS_PER_LABEL
    },
}


class Data:
    """The data sets of a folder, loaded when they are needed.

    Parameters
    ----------
    paths : list of Path
        Files with ``X_train``, ``y_train``, ``X_test`` and ``y_test``.
    """

    def __init__(self, paths):
        self.paths = {path.stem: path for path in paths}
        self._load = cache(self._read)

    def __iter__(self):
        return iter(self.paths)

    def __getitem__(self, name):
        return self._load(name)

    def _read(self, name):
        with np.load(self.paths[name]) as file:
            X_train, X_test = (file[f"X_{part}"] for part in ("train", "test"))
            classes, y_train = np.unique(file["y_train"], return_inverse=True)
            unknown = np.setdiff1d(file["y_test"], classes)
            if len(unknown):
                raise ValueError(
                    f"{self.paths[name]}: y_test has labels that y_train lacks: "
                    f"{unknown.tolist()}."
                )
            y_test = np.searchsorted(classes, file["y_test"])
        return DataSet(
            X_train.astype(np.float32), y_train, X_test.astype(np.float32), y_test
        )

    def tasks(self, name):
        """The paper's four for data sets of ten classes, else one."""
        if self[name].n_classes == 10:
            return ["all", "even", "odd", "0-1-2"]
        return ["all"]

    def shots(self, name):
        """The numbers of shots that each class has samples for."""
        smallest = np.bincount(self[name].y_train).min()
        return [n for n in SHOTS if n == "all" or n < smallest]

    def task(self, cell):
        """Support and test set of a cell."""
        data = self[cell.data]
        X, y = data.X_train, data.y_train
        if cell.shots != "all":
            splitter = NShotSplit(
                cell.shots, N_DRAWS, test_size=None, random_state=0
            ).split(X, y)
            support = [train for train, _ in splitter][cell.draw]
            X, y = X[support], y[support]
        labels = TASKS[cell.task](data.n_classes, cell.draw)
        y, y_test = labels[y], labels[data.y_test]
        classes, codes = np.unique(y[y >= 0], return_inverse=True)
        return DataSet(
            X[y >= 0],
            codes,
            data.X_test[y_test >= 0],
            np.searchsorted(classes, y_test[y_test >= 0]),
        )


class Results:
    """What has been computed, in a file of one JSON object per line.

    Parameters
    ----------
    path : Path
        The file; it is only ever appended to.
    """

    def __init__(self, path):
        self.path = path
        self.rows = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:  # a line that was being written when it was stopped
                    continue
                cell = Cell(*(row[field] for field in Cell._fields))
                self.rows[cell, row["setting"]] = row

    def add(self, cell, setting, values):
        row = {**cell._asdict(), **values, "setting": setting}
        with self.path.open("a") as file:
            if file.tell() and self.path.read_bytes()[-1:] != b"\n":
                file.write("\n")
            file.write(json.dumps(row) + "\n")
        self.rows[cell, setting] = row


def run(cells, data, results, *, redo=(), fit=True):
    """Compute the cells that are missing, with one thread.

    Parameters
    ----------
    cells : iterable of Cell
        In the order in which to compute them.
    data : Data
        The data sets.
    results : Results
        What there is; each cell is stored as soon as it is done.
    redo : collection of str
        Methods to compute again.
    fit : bool, default=True
        Whether to compute any; else, the cells that are missing are left out.

    Returns
    -------
    rows : dict of {Cell: dict}
        The row of each cell.
    """
    settings = {cell: setting_of(cell.method, cell.draw) for cell in cells}
    missing = [
        cell
        for cell, setting in settings.items()
        if fit and ((cell, setting) not in results.rows or cell.method in redo)
    ]
    bar = tqdm(missing, unit="fit", disable=not missing, file=sys.stderr)
    with threadpool_limits(1):
        for cell in bar:
            bar.set_postfix_str(" ".join(map(str, cell)))
            results.add(cell, settings[cell], measure(cell, data))
    return {
        cell: results.rows[cell, setting]
        for cell, setting in settings.items()
        if (cell, setting) in results.rows
    }


def measure(cell, data):
    """Accuracy and the processor time of the fit."""
    task = data.task(cell)
    estimator = METHODS[cell.method](cell.draw)
    start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(task.X_train, task.y_train)
            seconds = time.process_time() - start
            accuracy = float(np.mean(estimator.predict(task.X_test) == task.y_test))
    except (ValueError, LinAlgError) as error:  # a peer that needs more samples
        return {"accuracy": None, "fit_seconds": None, "error": str(error)}
    return {"accuracy": accuracy, "fit_seconds": round(seconds, 4)}


@cache
def setting_of(method, draw):
    """Digest of what a method sets, so that a change of it shows.

    Defaults are left out, or a new parameter would make all that is stored worthless.
    """
    text = METHODS[method](draw).__repr__(N_CHAR_MAX=10**6)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def draws_of(method):
    """The draws that differ on the same training data."""
    return range(N_DRAWS) if is_seeded(METHODS[method](0)) else range(1)
