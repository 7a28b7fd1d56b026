"""Learn from more than the memory is to hold: time of each part, and peak memory."""

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from _side_by_side import embeddings_like, heading, progress, table, write_files

N_CLASSES, N_SAMPLES, N_FEATURES, N_FILES = 1000, 2000, 384, 20

FIRST_PARTS = 5

SETTINGS = {
    "mean": {"method": "qi"},
    "k-means, k 4": {"method": "westerhoff", "n_proxies": 4},
    "westerhoff (k 20)": {"method": "westerhoff"},
    "least squares": {"method": "least_squares"},
    "default": {},
    "recommended": {"method": "recommended"},
}

# Peak resident memory is that of the whole life of a process: that of Python, the
# libraries and a part of the data is in it.
CHILD = """
import json, resource, sys, time
import numpy as np
from skimprint import ImprintClassifier

job, params, folders = json.loads(sys.argv[1])
method = params.pop("method", None)

def classifier():
    if method is None:
        return ImprintClassifier(random_state=0, n_jobs=2, **params)
    return ImprintClassifier.from_method(method, random_state=0, n_jobs=2, **params)

def read(folder):
    return np.load(folder + "/X.npy"), np.load(folder + "/y.npy")

def timed(call, *args):
    start = time.perf_counter()
    result = call(*args)
    return result, time.perf_counter() - start

def learnt(folders):
    clf, seconds = classifier(), []
    for folder in folders:  # without names, the last part is gone when one is read
        seconds.append(timed(clf.partial_fit, *read(folder))[1])
    return clf, seconds

queries = read(folders[0])[0][:1000].copy()  # a view would keep the file
found = {}
if job == "parts":
    clf, found["parts"] = learnt(folders)
elif job == "merge":
    clf, _ = learnt(folders[:3])
    other, _ = learnt(folders[3:6])
    found["merge"] = timed(clf.merge, other)[1]
else:
    labels = [np.load(folder + "/y.npy") for folder in folders]
    y = np.concatenate(labels)
    X, start = np.empty((len(y), queries.shape[1]), np.float32), 0
    for folder, some in zip(folders, labels):
        X[start : start + len(some)] = np.load(folder + "/X.npy")
        start += len(some)
    clf, found["fit"] = timed(classifier().fit, X, y)
found["predict"] = timed(clf.predict, queries)[1]
found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(found))
"""


def in_fresh_process(job, params, folders):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([job, params, folders])],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout)


def write(folder):
    """Make the data, and write it: the folders of the files."""
    X, y = embeddings_like(N_CLASSES, N_SAMPLES, N_FEATURES, 4)
    return list(map(str, write_files(folder, X, y, N_FILES)))


def gigabytes(n_bytes):
    return f"{n_bytes / 1e9:.2f} GB"


def main():
    size = N_CLASSES * N_SAMPLES * N_FEATURES * 4
    heading(
        "Larger than memory",
        f"{N_CLASSES:,} classes x {N_SAMPLES:,} samples of {N_FEATURES} features, "
        f"float32: {gigabytes(size)}, in random order in {N_FILES} files that "
        "`partial_fit` learns one by one, with two threads, each setting in a fresh "
        "process. The peak is that of the whole process, as the operating system has "
        f"it, a part of {gigabytes(size / N_FILES)} included. In memory, `fit` has "
        "everything at once. A first prediction makes the proxies of classes that "
        "have learnt more; that of 1,000 queries is in both sums. The merge is of "
        "two models that have learnt three files each. Of the first part, the median "
        f"of {FIRST_PARTS} processes.",
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: the peak of this one would be that of all it starts.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            folders = pool.submit(write, Path(folder)).result()
        for name, params in SETTINGS.items():
            progress(name)
            parts = in_fresh_process("parts", params, folders)
            firsts = [
                in_fresh_process("parts", params, folders[:1])["parts"][0]
                for _ in range(FIRST_PARTS - 1)
            ]
            merged = in_fresh_process("merge", params, folders)
            whole = in_fresh_process("fit", params, folders)
            first, *later = parts["parts"]
            first = np.median([first, *firsts])
            total = sum(parts["parts"]) + parts["predict"]
            rows.append(
                [
                    name,
                    f"{first:.2f} s",
                    f"{np.median(later):.2f} s ({max(later):.2f})",
                    f"{np.median(later) / first:.2f}x",
                    f"{parts['predict']:.2f} s",
                    f"{total:.1f} s",
                    f"{total / (whole['fit'] + whole['predict']):.2f}x",
                    gigabytes(parts["peak"]),
                    gigabytes(whole["peak"]),
                    f"{merged['merge']:.2f} s",
                ]
            )
    table(
        [
            "setting",
            "first part",
            "later parts (longest)",
            "later / first",
            "first prediction",
            "all",
            "all / in memory",
            "peak",
            "peak in memory",
            "merge",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
