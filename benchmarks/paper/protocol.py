"""The paper's protocol: data sets, tasks, draws, and the cells that make them up."""

import hashlib
import json
import re
import time
import warnings
from functools import cache
from itertools import islice
from typing import NamedTuple

import numpy as np
from conditions import (
    BLURRED,
    CLEAN,
    CONDITIONS,
    LONG_TAIL,
    UNKNOWN,
    balance,
    long_tail,
)
from costs import Costs
from methods import METHODS, PROBABILISTIC, is_seeded
from scipy.linalg import LinAlgError
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from skimprint.model_selection import NShotSplit

SHOTS = (1, 2, 5, 10, 20, 50, 100, 200)
PROBABILITY_SHOTS = (5, 20, 100)  # where probabilities are measured too
MOST_DRAWS = 10
N_QUERIES = 2000  # but on all training data
INTENTS_PER_LABEL = (1, 2, 3, 5, 10)
N_MERGED_LABELS = 7
HALF = "half"


class Cell(NamedTuple):
    """One fit and its accuracy: what is stored, and what is found again."""

    data: str
    task: str
    condition: str
    shots: int | str
    draw: int
    method: str


class DataSet(NamedTuple):
    """Embeddings as they are, float32, and labels as indices of the sorted classes.

    Queries of no known class have the label -1.
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    X_blurred: np.ndarray | None = None

    @property
    def n_classes(self):
        return int(self.y_train.max()) + 1


def merged(d, n_classes, draw):
    """Seven labels of d random classes each; the other classes are left out."""
    labels = np.full(n_classes, -1)
    chosen = np.random.default_rng(draw).permutation(n_classes)[: d * N_MERGED_LABELS]
    labels[chosen] = np.arange(len(chosen)) // d
    return labels


def half(n_classes, draw):
    """A random half of the classes."""
    known = np.random.default_rng(draw).permutation(n_classes)[: n_classes // 2]
    return np.where(np.isin(np.arange(n_classes), known), np.arange(n_classes), -1)


def _keep(condition):
    def labels_of(n_classes, draw):
        classes = np.arange(n_classes)
        return np.where(condition(classes), classes, -1)

    return labels_of


MERGED_TASKS = {f"{d} in one": d for d in INTENTS_PER_LABEL}
# From the number of classes and a draw to the new label of each class, -1 for none.
TASKS = {
    "all": _keep(lambda classes: classes >= 0),
    "even": _keep(lambda classes: classes % 2 == 0),
    "odd": _keep(lambda classes: classes % 2 == 1),
    "0-1-2": _keep(lambda classes: classes <= 2),
    HALF: half,
    **{
        name: lambda n, draw, d=d: merged(d, n, draw)
        for name, d in MERGED_TASKS.items()
    },
}


class Data:
    """The data sets of a folder, loaded when they are needed.

    Parameters
    ----------
    paths : list of Path
        Files with ``X_train``, ``y_train``, ``X_test`` and ``y_test``; those with
        ``X_test_blur``, the same queries blurred, take part in one more condition.
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
            blurred = file.get("X_test_blur")
        return DataSet(
            X_train.astype(np.float32),
            y_train,
            X_test.astype(np.float32),
            y_test,
            None if blurred is None else blurred.astype(np.float32),
        )

    def tasks(self, name):
        """The paper's four for data sets of ten classes, else one."""
        if self[name].n_classes == 10:
            return ["all", "even", "odd", "0-1-2"]
        return ["all"]

    def shots(self, name):
        """The numbers of shots that each class has samples for."""
        smallest = np.bincount(self[name].y_train).min()
        return [n for n in SHOTS if n < smallest]

    def n_support(self, cell):
        """About how many samples a cell is fitted to."""
        labels = TASKS[cell.task](self[cell.data].n_classes, cell.draw)
        if cell.shots == "all":
            return int(np.sum(labels[self[cell.data].y_train] >= 0))
        return int(cell.shots * np.sum(labels >= 0))

    def problem(self, cell):
        """Support and test set of a cell."""
        data = self[cell.data]
        seed = [cell.draw, *cell.condition.encode()]
        rng = np.random.default_rng(seed)
        X, y = data.X_train, data.y_train
        if cell.condition == LONG_TAIL:
            support = long_tail(y, cell.shots, rng)
        elif cell.shots == "all":
            support = np.arange(len(y))
        else:
            splitter = NShotSplit(
                cell.shots, MOST_DRAWS, test_size=None, random_state=0
            ).split(X, y)
            support = next(islice(splitter, cell.draw, None))[0]
        queries = np.arange(len(data.y_test))
        if cell.shots != "all":
            queries = np.random.default_rng(0).permutation(queries)[:N_QUERIES]
        X_test = data.X_blurred if cell.condition == BLURRED else data.X_test

        labels = TASKS[cell.task](data.n_classes, cell.draw)
        support = support[labels[y[support]] >= 0]
        if cell.condition != UNKNOWN:
            queries = queries[labels[data.y_test[queries]] >= 0]
        classes, codes = np.unique(labels[y[support]], return_inverse=True)
        found = labels[data.y_test[queries]]
        codes_test = np.where(found >= 0, np.searchsorted(classes, found), -1)
        problem = DataSet(X[support], codes, X_test[queries], codes_test)
        return CONDITIONS[cell.condition](problem, rng)


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
            for line in path.read_text("utf-8").splitlines():
                try:
                    row = json.loads(line)
                except ValueError:  # a line that was being written when it was stopped
                    continue
                cell = Cell(*(row[field] for field in Cell._fields))
                self.rows[cell, row["setting"]] = row

    def add(self, cell, setting, values):
        row = {**cell._asdict(), **values, "setting": setting}
        with self.path.open("a", encoding="utf-8") as file:
            if file.tell() and self.path.read_bytes()[-1:] != b"\n":
                file.write("\n")
            file.write(json.dumps(row) + "\n")
        self.rows[cell, setting] = row

    def of(self, cells, settings):
        """The rows of those cells that have been computed."""
        return {
            cell: self.rows[cell, settings[cell]]
            for cell in cells
            if (cell, settings[cell]) in self.rows
        }


def run(cells, data, results, methods, *, redo=()):
    """Compute the cells that are missing, with one thread, and say how long it takes.

    Parameters
    ----------
    cells : list of Cell
        In the order in which to compute them.
    data : Data
        The data sets.
    results : Results
        What there is; each cell is stored as soon as it is done.
    methods : dict of {str: callable}
        From the name of a method to what makes the estimator of a seed.
    redo : collection of str
        Methods to compute again.
    """
    settings = settings_of(cells, methods)
    missing = [
        cell
        for cell in cells
        if (cell, settings[cell]) not in results.rows or cell.method in redo
    ]
    print(f"{len(missing)} of {len(cells)} fits are to be done.", flush=True)
    if not missing:
        return
    costs = Costs(data)
    for cell, row in results.of(cells, settings).items():
        costs.add(cell, row)
    first = costs.unknown(missing)

    def compute(cell):
        row = measure(cell, data, methods)
        results.add(cell, settings[cell], row)
        costs.add(cell, row)

    with threadpool_limits(1):
        for cell in (bar := tqdm(first, "First fits, to time them", unit="fit")):
            bar.set_postfix_str(" ".join(map(str, cell)))
            compute(cell)
        done = set(first)
        missing = [cell for cell in missing if cell not in done]
        seconds = [costs.estimate(cell) for cell in missing]
        print(
            f"{len(missing)} fits will take about {sum(seconds) / 60:.1f} minutes of a "
            "processor: estimated from fits of the same methods, by their size.",
            flush=True,
        )
        # The bar is in estimated seconds, and what remains is corrected by how long
        # those that are done have taken.
        form = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
        with tqdm(total=sum(seconds), bar_format=form, mininterval=1) as bar:
            for cell, expected in zip(missing, seconds, strict=True):
                bar.set_postfix_str(" ".join(map(str, cell)), refresh=False)
                compute(cell)
                bar.update(expected)


def settings_of(cells, methods):
    """The digest of each cell's settings."""
    pairs = {(cell.method, cell.draw) for cell in cells}
    digests = {pair: digest(methods[pair[0]](pair[1])) for pair in pairs}
    return {cell: digests[cell.method, cell.draw] for cell in cells}


def digest(estimator):
    """Digest of what an estimator sets, so that a change of it shows.

    Defaults are left out, or a new parameter would make all that is stored worthless.
    """
    text = estimator.__repr__(N_CHAR_MAX=10**6)
    text = re.sub(" at 0x[0-9a-f]+", "", text)  # of a function
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def measure(cell, data, methods):
    """Fit, and measure what the cell is for.

    Parameters
    ----------
    cell : Cell
        What to fit.
    data : Data
        The data sets.
    methods : dict of {str: callable}
        From the name of a method to what makes the estimator of a seed.

    Returns
    -------
    row : dict
        ``accuracy``, or ``auroc`` where some queries are unknown; ``log_loss`` of
        probabilities at some shots; processor seconds of the fit, and of all.
        A method that fails has an ``error`` in their place.
    """
    start = time.process_time()
    problem = data.problem(cell)
    estimator = methods[cell.method](cell.draw)
    if cell.condition == LONG_TAIL:
        balance(estimator, problem.n_classes)
    fit_start = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.fit(problem.X_train, problem.y_train)
            fit_seconds = time.process_time() - fit_start
            row = scores_of(estimator, cell, problem)
            row["fit_seconds"] = round(fit_seconds, 4)
    except (ValueError, LinAlgError) as error:  # a peer that needs more samples
        row = {"error": str(error)}
    row["seconds"] = round(time.process_time() - start, 4)
    return row


def scores_of(estimator, cell, problem):
    """Accuracy, or the area under the ROC curve; and the log loss."""
    X, y = problem.X_test, problem.y_test
    if cell.condition == UNKNOWN:
        return {"auroc": float(roc_auc_score(y >= 0, familiarity(estimator, X)))}
    row = {"accuracy": float(np.mean(estimator.predict(X) == y))}
    is_asked = cell.shots in PROBABILITY_SHOTS and cell.condition == CLEAN
    has_probabilities = cell.method in PROBABILISTIC or cell.method not in METHODS
    if is_asked and has_probabilities and hasattr(estimator, "predict_proba"):
        probabilities = estimator.predict_proba(X).astype(np.float64)
        row["log_loss"] = log_loss(y, probabilities, labels=estimator.classes_)
    return row


def familiarity(estimator, X):
    """How familiar queries are; without `score_samples`, their largest score."""
    if hasattr(estimator, "score_samples"):
        return estimator.score_samples(X)
    for name in ("decision_function", "predict_proba"):
        if hasattr(estimator, name):
            scores = getattr(estimator, name)(X)
            return np.abs(scores) if scores.ndim == 1 else scores.max(axis=1)
    raise ValueError("has no score_samples, decision_function or predict_proba")


def without_repeats(cells, methods):
    """Leave out draws that only a seed would tell apart, of methods without one.

    Parameters
    ----------
    cells : iterable of Cell
        Some may be there more than once.
    methods : dict of {str: callable}
        From the name of a method to what makes the estimator of a seed.

    Returns
    -------
    cells : list of Cell
        In the same order.
    """
    seeded = cache(lambda method: is_seeded(methods[method](0)))
    return [
        cell
        for cell in dict.fromkeys(cells)
        if cell.draw == 0
        or cell.shots != "all"
        or cell.task in MERGED_TASKS
        or seeded(cell.method)
    ]
