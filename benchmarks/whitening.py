"""What whitening costs: time, memory, and learning beside many classes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from _side_by_side import duration, heading, progress, table

# Classes, samples of each, features.
CASES = [
    (10, 600, 1024),
    (100, 1300, 768),
    (300, 1300, 768),
    (10, 16, 768),
    (100, 16, 768),
    (1000, 16, 768),
]

# In a process of its own, for peak memory is that of the whole life of a process. X is
# made before, and a small fit loads what a fit needs.
CHILD = """
import copy, json, pickle, resource, sys, time
import numpy as np
from _side_by_side import embeddings_like
from skimprint import ImprintClassifier
from skimprint.methods import PUBLISHED_METHODS

n_classes, n, d, method, repeats = json.loads(sys.argv[1])
params = {} if method == "default" else PUBLISHED_METHODS["westerhoff"]
X, y = embeddings_like(n_classes, n, d, 20)
clf = ImprintClassifier(**params, random_state=0)
clf.fit(X[:150, :16], np.arange(150) % 3)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
start = time.perf_counter()
clf.fit(X, y)
seconds = [time.perf_counter() - start]
growth = peak() - before
start = time.perf_counter()
clf.predict(X[:1])
first = time.perf_counter() - start
buffers = []
size = len(pickle.dumps(clf, protocol=5, buffer_callback=buffers.append))
size += sum(len(buffer.raw()) for buffer in buffers)
for _ in range(repeats - 1):
    start = time.perf_counter()
    copy.copy(clf).fit(X, y)
    seconds.append(time.perf_counter() - start)

steps = {"learn": [], "with": [], "forget": [], "after": []}
for _ in range(3):
    more = copy.copy(clf)
    for step, action in {
        "learn": lambda: more.partial_fit(X[:n], np.full(n, -1)),
        "with": lambda: more.predict(X[:1]),
        "forget": lambda: more.forget(0),
        "after": lambda: more.predict(X[:1]),
    }.items():
        start = time.perf_counter()
        try:
            action()
        except ValueError:  # only the sum of the scatters is kept
            continue
        steps[step].append(time.perf_counter() - start)
print(json.dumps([X.nbytes, seconds, growth, size, first, steps]))
"""


def measure(*case):
    """What the child measures, with one BLAS thread."""
    output = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(case)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    ).stdout
    return json.loads(output)


def mebibytes(size):
    return f"{size / 2**20:.3g} MiB"


def main(cases):
    heading(
        "Whitening: time and memory",
        "The default (20 k-means proxies, whitened, that "
        "lean to the mean) and the paper's setting (20 k-means proxies), float32, one "
        "BLAS thread, a fresh process for each row. Beyond X: growth of its peak "
        "memory during the fit. Pickle: without what follows from the rest; in memory "
        "the fitted model takes more, most where samples are few. One class more: "
        "`partial_fit` to as many samples as each of the others has. Where the "
        "scatters of single classes would take more than 128 MiB, the "
        "default keeps their sum alone, and cannot forget. It chooses its shrinkage "
        "again when a class is forgotten, and not for one class more.",
    )
    rows = []
    for n_classes, n, d in cases:
        for method in ("paper", "default"):
            name = f"{n_classes} x {n} x {d}, {method}"
            progress(name)
            repeats = 1 if n_classes * n > 10_000 and n > 1000 else 5
            size, seconds, growth, pickled, first, steps = measure(
                n_classes, n, d, method, repeats
            )
            rows.append(
                [
                    name,
                    mebibytes(size),
                    duration(seconds),
                    mebibytes(growth),
                    mebibytes(pickled),
                    duration([first]).split(" (")[0],
                    *(duration(each) if each else "-" for each in steps.values()),
                ]
            )
    header = ["classes x samples x features", "X", "fit", "beyond X", "pickle"]
    header += ["first prediction", "one class more", "prediction with it"]
    header += ["one forgotten", "prediction without it"]
    table(header, rows)


if __name__ == "__main__":
    main([tuple(map(int, case.split("x"))) for case in sys.argv[1:]] or CASES)
