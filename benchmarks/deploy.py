"""What it takes to ship a model: sizes of files, and the time of one query."""

import pickle
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from _side_by_side import heading, progress, real_embeddings, table
from sklearn.linear_model import LogisticRegression

from skimprint import ImprintClassifier, export, persistence
from skimprint.datasets import load_digits_embeddings
from skimprint.methods import PUBLISHED_METHODS, RECOMMENDED

SETTINGS = {
    "qi": PUBLISHED_METHODS["qi"],
    "westerhoff": PUBLISHED_METHODS["westerhoff"],
    "default": {},
    "recommended": RECOMMENDED,
}
CALLS = 300
LOADS = 20


def problems():
    """Support embeddings and labels, and queries, by name."""
    X, y = load_digits_embeddings(return_X_y=True)
    half = len(X) // 2
    yield "digits", X[:half].astype(np.float32), y[:half], X[half:].astype(np.float32)
    found = real_embeddings("debian_e5small")
    if found is None:
        progress("without ../shared/data/embeddings: the digits only")
        return
    X, y = found
    yield "Debian's packages", X[::2], y[::2], X[1::2]


def classifier_of(name, X, y):
    """A fitted classifier of a setting."""
    return ImprintClassifier(**SETTINGS[name], random_state=0).fit(X, y)


def size(folder):
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in Path(folder).iterdir())


def per_call(function, calls=CALLS):
    """Median milliseconds of wall and of CPU time of a call."""
    function()
    wall, cpu = [], []
    for _ in range(calls):
        start, start_cpu = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return 1e3 * np.median(wall), 1e3 * np.median(cpu)


def times(function, calls=CALLS):
    """Both times, as text."""
    return "{:.3g} ({:.3g})".format(*per_call(function, calls))


def megabytes(n_bytes):
    """Size, as text."""
    return f"{n_bytes / 1e6:.3g}"


def session_of(clf):
    """A session of ONNX Runtime, of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        export.to_onnx(clf).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )


def sizes_of(name, X, y):
    """A row of the table of sizes."""
    clf = classifier_of(name, X, y)
    row = [name, megabytes(X.nbytes), megabytes(len(pickle.dumps(clf)))]
    loading = []
    with tempfile.TemporaryDirectory() as folder:
        for learning in (True, False):
            persistence.save(clf, folder, learning=learning)
            row.append(megabytes(size(folder)))
            loading.append(per_call(lambda: persistence.load(folder), LOADS)[0])
    row.append(megabytes(len(export.to_onnx(clf).SerializeToString())))
    return [*row, *(f"{found:.3g}" for found in loading)]


def latencies_of(name, X, y, queries):
    """A row of the table of times."""
    clf = classifier_of(name, X, y)
    compact, module, session = clf.compact(), export.to_torch(clf), session_of(clf)
    query = queries[:1]
    tensor = torch.from_numpy(query)
    labels = session.run(["label"], {"X": queries})[0]
    agree = np.mean(labels == clf.predict(queries))
    row = [
        times(lambda: clf.predict(query)),
        times(lambda: compact.predict(query)),
        times(lambda: session.run(["label"], {"X": query})),
    ]
    with torch.inference_mode():
        row.append(times(lambda: module(tensor)))
    return [name, *row, f"{100 * agree:.2f} %"]


def main():
    warnings.simplefilter("ignore")
    heading(
        "Deployment",
        "Sizes in MB: of the support embeddings, of a pickle of the whole model, of "
        "the folders that `persistence.save` writes with and without `learning`, and "
        "of the ONNX file. Loading in ms: of both folders, after imports (median of "
        f"{LOADS}).",
        "One query, in ms of wall time (and of CPU time): the median of "
        f"{CALLS} calls. ONNX Runtime has one thread. The last column is the share of "
        "all queries to which it gives the label that `predict` gives.",
    )
    for problem, X, y, queries in problems():
        n_classes = len(np.unique(y))
        print(f"## {problem}: {len(X)} x {X.shape[1]}, {n_classes} classes\n")
        rows, latencies = [], []
        for name in SETTINGS:
            progress(f"{problem}, {name}")
            rows.append(sizes_of(name, X, y))
            latencies.append(latencies_of(name, X, y, queries))
        linear = LogisticRegression().fit(X, y)
        n_bytes = len(pickle.dumps(linear))
        kinds = ["pickle", "folder", "learning=False", "ONNX"]
        loads = ["load", "load, learning=False"]
        rows.append(
            ["LogisticRegression", megabytes(X.nbytes), megabytes(n_bytes), *5 * ["-"]]
        )
        table(["setting", "data", *kinds, *loads], rows)
        one = times(partial(linear.predict, queries[:1]))
        latencies.append(["LogisticRegression", one, *4 * ["-"]])
        header = [
            "predict",
            "compact().predict",
            "ONNX Runtime",
            "torch",
            "same labels",
        ]
        table(["setting", *header], latencies)


if __name__ == "__main__":
    main()
