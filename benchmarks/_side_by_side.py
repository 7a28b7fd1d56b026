"""What the benchmarks share: interleaved timing, embedding-like data, Markdown."""

import atexit
import os
import platform
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import scipy
import sklearn
from threadpoolctl import threadpool_info

EMBEDDINGS = Path(__file__).parents[2] / "shared/data/embeddings"


def interleave(contenders, repeats, *, rarely=(), warm_up=True, settle=None):
    """Time contenders in turn, so that what else the machine does hits all alike.

    Parameters
    ----------
    contenders : dict of {str: callable}
        What to time.
    repeats : int
        Number of rounds.
    rarely : collection of str
        Those of them that only take part in the first two rounds.
    warm_up : bool
        Whether to call each, but for these, once more beforehand.
    settle : float or None
        Seconds to wait before each turn, and then to call the contender once before
        it is timed. Threads of a BLAS go on spinning for up to 0.1 s after a product,
        and take a core from what follows.

    Returns
    -------
    seconds : dict of {str: list of float}
        Duration of each call.
    """
    if warm_up:
        for name, contender in contenders.items():
            if name not in rarely:
                contender()
    seconds = {name: [] for name in contenders}
    for i in range(repeats):
        for name, contender in contenders.items():
            if name in rarely and i >= 2:
                continue
            if settle is not None:
                time.sleep(settle)
                contender()
            start = time.perf_counter()
            contender()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(each) for name, each in seconds.items()}


def ratio(slow, fast):
    """Median of the ratios within each round, and their range, as text."""
    rounds = min(len(slow), len(fast))
    ratios = slow[:rounds] / fast[:rounds]
    low, middle, high = np.quantile(ratios, [0, 0.5, 1])
    return f"{middle:.3g}x ({low:.3g} to {high:.3g})"


def duration(seconds):
    """Median and range, as text."""
    low, middle, high = np.quantile(seconds, [0, 0.5, 1])
    unit, scale = ("s", 1) if middle >= 1 else ("ms", 1e3)
    return f"{middle * scale:.3g} {unit} ({low * scale:.3g} to {high * scale:.3g})"


def progress(case):
    """Say on stderr which case has been reached."""
    print(f"... {case}", file=sys.stderr, flush=True)


def table(header, rows):
    """Print a Markdown table."""
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    print(flush=True)


def heading(title, *paragraphs):
    """Print the title, what the numbers mean, and what they were measured on.

    Says on stderr at the end how long the whole script took.
    """
    start = time.perf_counter()
    atexit.register(lambda: progress(f"took {time.perf_counter() - start:.0f} s"))
    print(f"# {title}\n")
    for paragraph in paragraphs:
        print(paragraph + "\n")
    libraries = "; ".join(
        f"{Path(library['filepath']).name.split('-')[0]} "
        f"{library['version'] or ''} {library.get('architecture', '')} "
        f"({library['num_threads']} threads)"
        for library in threadpool_info()
    )
    print(
        f"Measured with Python {platform.python_version()}, NumPy {np.__version__}, "
        f"SciPy {scipy.__version__}, scikit-learn {sklearn.__version__}, "
        f"{os.cpu_count()} CPUs ({joblib.cpu_count()} usable), {libraries}.\n",
        flush=True,
    )


def embeddings_like(n_classes, n, d, n_clusters, *, structured=True, seed=0):
    """Unit vectors that look like embeddings, of equally many samples per class.

    Noise within a class has a spectrum that falls off as that of embeddings does. With
    structure, each class is a mixture of n_clusters sub-clusters besides.
    """
    rng = np.random.default_rng(seed)
    spectrum = (1 / np.sqrt(1 + np.arange(d))).astype(np.float32)
    spectrum *= np.sqrt(d / np.sum(spectrum**2))
    X = rng.standard_normal((n_classes * n, d), dtype=np.float32)
    for rows in np.split(X, n_classes):
        rows += rng.standard_normal(d, dtype=np.float32)
        rows *= spectrum
        if structured:
            centers = 0.7 * rng.standard_normal((n_clusters, d), dtype=np.float32)
            rows += centers[rng.integers(n_clusters, size=n)]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return X, np.repeat(np.arange(n_classes), n)


def write_files(folder, X, y, n_files):
    """Write rows in random order, in files: the folders of their X.npy and y.npy."""
    order = np.random.default_rng(0).permutation(len(X))
    folders = [folder / str(number) for number in range(n_files)]
    for rows, path in zip(np.array_split(order, n_files), folders, strict=True):
        path.mkdir()
        np.save(path / "X.npy", X[rows])
        np.save(path / "y.npy", y[rows])
    return folders


def real_sets():
    """Yield the names of the data sets that clustering is timed on, X and y."""
    for name in ("cifar10_mobilenet_v1", "mnist_mobilenet_v2", "usps_mobilenet_v1"):
        progress(name)
        found = real_embeddings(name)
        if found is None:
            print(f"{name} is not there: it is left out.\n")
        else:
            yield name, *found


def load(name):
    """Training and test sets, float32; None where there are none."""
    path = EMBEDDINGS / f"{name}.npz"
    if not path.exists():
        return None
    with np.load(path) as data:
        return [
            data[part].astype(np.float32) if part[0] == "X" else data[part]
            for part in ("X_train", "y_train", "X_test", "y_test")
        ]


def real_embeddings(name):
    """Training embeddings of unit length and labels, or None where there are none."""
    found = load(name)
    if found is None:
        return None
    X, y, *_ = found
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return X, y
