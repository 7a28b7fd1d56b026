"""Fits from files on one and two workers of dask, against one process: time, bytes."""

import tempfile
from pathlib import Path

import dask
import dask.array as da
import distributed
import numpy as np
from _side_by_side import (
    duration,
    embeddings_like,
    heading,
    interleave,
    progress,
    ratio,
    table,
    write_files,
)

import skimprint.dask
from skimprint import ImprintClassifier

N_CLASSES, N_SAMPLES, N_FEATURES, N_FILES = 200, 1500, 384, 12
N_SMALL = 20  # samples of a class, for what the machinery itself takes
REPEATS = 5

# dask has workers give memory back at once, which doubles the time of a fit.
ALLOCATOR = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
}

SETTINGS = {
    "westerhoff, k 4": {"name": "westerhoff", "n_proxies": 4},
    "westerhoff": {"name": "westerhoff"},
    "default": {},
}


def classifier(name=None, **changes):
    if name is None:
        return ImprintClassifier(random_state=0, **changes)
    return ImprintClassifier.from_method(name, random_state=0, **changes)


def read(path, n_rows):
    """Read a file of rows and of labels, as dask arrays that do so later."""
    X = da.from_delayed(
        dask.delayed(np.load)(path / "X.npy"), (n_rows, N_FEATURES), np.float32
    )
    y = da.from_delayed(dask.delayed(np.load)(path / "y.npy"), (n_rows,), np.intp)
    return X, y


def received(client):
    """Bytes that workers have got from each other so far."""

    def of_worker(dask_worker):
        return sum(each["total"] for each in dask_worker.transfer_incoming_log)

    return sum(client.run(of_worker).values())


def main():
    heading(
        "More than one machine",
        f"{N_CLASSES} classes x {N_SAMPLES} samples of {N_FEATURES} features, float32, "
        f"in any order in {N_FILES} files. `skimprint.dask.fit` reads them in worker "
        "processes of one thread each, which keep memory as the guide advises; one "
        "process reads them whole, and fits with one or two threads. Each is called "
        "once more before it is timed: memory that has not been used for seconds may "
        "be slow the first time on a virtual machine. Ratios: how many times as long "
        "the contender takes as two workers.",
    )
    X, y = embeddings_like(N_CLASSES, N_SAMPLES, N_FEATURES, 4)
    small = np.concatenate([np.flatnonzero(y == c)[:N_SMALL] for c in range(N_CLASSES)])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small").mkdir()
        files = {
            f"{N_SAMPLES} a class": write_files(Path(folder), X, y, N_FILES),
            f"{N_SMALL} a class": write_files(
                Path(folder) / "small", X[small], y[small], N_FILES
            ),
        }
        rows = []
        options = {"threads_per_worker": 1, "dashboard_address": ":0"}
        with (
            dask.config.set(ALLOCATOR),
            distributed.LocalCluster(n_workers=1, **options) as one,
            distributed.LocalCluster(n_workers=2, **options) as two,
            distributed.Client(one, set_as_default=False) as alone,
            distributed.Client(two, set_as_default=False) as both,
        ):
            for size, folders in files.items():
                parts = [len(np.load(path / "y.npy")) for path in folders]
                for setting, params in SETTINGS.items():
                    progress(f"{size}, {setting}")

                    def on(client, params=params, folders=folders, parts=parts):
                        columns = zip(*map(read, folders, parts), strict=True)
                        X, y = map(da.concatenate, columns)
                        return skimprint.dask.fit(
                            classifier(**params), X, y, client=client
                        )

                    def here(n_jobs, params=params, folders=folders):
                        X, y = (
                            np.concatenate([np.load(path / name) for path in folders])
                            for name in ("X.npy", "y.npy")
                        )
                        clf = classifier(**params, n_jobs=n_jobs)
                        return clf.fit(X, y)

                    np.testing.assert_array_equal(
                        on(both)._fitted.state.gather([0]).proxies.values.vectors,
                        here(1)._fitted.state.gather([0]).proxies.values.vectors,
                    )
                    seconds = interleave(
                        {
                            "two": lambda on=on, both=both: on(both),
                            "one": lambda on=on, alone=alone: on(alone),
                            "here": lambda here=here: here(1),
                            "threads": lambda here=here: here(2),
                        },
                        REPEATS,
                        settle=0.0,
                    )
                    before = received(both)
                    on(both)
                    moved = (received(both) - before) / (4 * N_FEATURES * sum(parts))
                    rows.append(
                        [
                            size,
                            setting,
                            duration(seconds["two"]),
                            ratio(seconds["one"], seconds["two"]),
                            ratio(seconds["here"], seconds["two"]),
                            ratio(seconds["threads"], seconds["two"]),
                            f"{moved:.2f}",
                        ]
                    )
    table(
        [
            "samples",
            "setting",
            "two workers",
            "one worker",
            "one process",
            "one process, n_jobs=2",
            "bytes between workers / bytes of X",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
