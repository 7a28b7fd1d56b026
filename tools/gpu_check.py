"""Try on a GPU, with CuPy and PyTorch, what the suite can only try without one.

Each check runs in a process of its own, since a fault in a kernel ends all that a
process can do on a GPU. `tools/gpu_check.sh` runs this and more.
"""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # before scikit-learn is imported

import argparse
import subprocess
import sys
import time
import traceback

import numpy as np
import sklearn

from skimprint import ImprintClassifier
from skimprint._arrays.device import DeviceArray, to_host
from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import cuda, grouped_kmeans
from skimprint.cluster._kmeans.on_device import kmeans_on_device
from skimprint.normalization import IDENTITY, NORMS

KERNELS = "gather centre add_up sample seed start_from change settle choose summarize"
# Sizes of the groups, features, clusters, options: all routes and shapes of products.
CASES = {
    "few rows": ([60, 64, 9], 24, 6, {}),
    "two runs": ([60, 64, 40], 24, 8, {"n_init": 2}),
    "a sample": ([900, 800], 40, 20, {}),
    "odd sizes": ([256, 210, 129], 33, 50, {}),
    "a single cluster": ([60, 30], 20, 1, {}),
    "on the sphere": ([60, 64], 24, 6, {"spherical": True}),
    "square roots": ([60, 64], 24, 5, {"norm": NORMS["power"]}),
    "weights": ([300, 500], 64, 20, {"weights": True}),
    "as many as can be": ([1300, 6000], 768, 341, {}),
    "many groups": ([16] * 1000, 512, 4, {}),
}
HUGE = 3_000_000, 768, 20  # rows, features, clusters: beyond 2**31 values


def data(sizes, d, seed=0):
    """Make blobs, eight in each group, and their groups."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    blobs = rng.normal(size=(len(sizes), 8, d)) * 2
    X = blobs[codes, rng.integers(8, size=len(codes))]
    return (X + rng.normal(size=X.shape)).astype(np.float32), codes


def gpu():
    """What launches kernels."""
    return cuda.Cupy()


def say(*words):
    print("   ", *words, flush=True)


def compile_kernels():
    """Compile each kernel that can be asked for, and say what it takes."""
    gpu()
    shapes = {cuda._product(m)[0] for m in range(1, 342)}
    for shape in [(1, 1), *sorted(shapes)]:
        begin = time.perf_counter()
        is_product = shape != (1, 1)
        for name in ("nearest distances" if is_product else KERNELS).split():
            kernel = cuda._compiled(0, name, shape, True)
            took = f"{kernel.num_regs} registers, {kernel.local_size_bytes} B local"
            say(shape, name, took, f"{kernel.shared_size_bytes} B shared")
        say(shape, f"{time.perf_counter() - begin:.1f} s")


def run_kernels(cases=CASES):
    """Compare the clusters of the kernels with those of the host, and two runs."""
    failed = []
    for case in cases:
        try:
            run_case(*CASES[case], case)
        except Exception as error:
            traceback.print_exc()
            failed.append(f"{case}: {type(error).__name__}")
    assert not failed, failed


def run_case(sizes, d, k, changes, case):
    X, codes = data(sizes, d)
    weights = np.random.default_rng(1).random(len(X)) + 0.5
    options = {"weights": None, "norm": IDENTITY, "spherical": False, "n_init": 1}
    options |= changes
    if options["weights"]:
        options["weights"] = weights
    launch = gpu()
    there = launch.xp.asarray(X)

    def clustered():
        found = cuda.cluster(
            launch,
            there,
            None,
            np.array(sizes),
            k,
            seed=0,
            max_iter=300,
            tol=1e-4 / d,
            **options,
        )
        return cuda.Clusters(*map(to_host, found))

    begin = time.perf_counter()
    found, again = clustered(), clustered()
    seconds = time.perf_counter() - begin
    norm, weights = options.pop("norm"), options.pop("weights")
    groups = GroupedRows(X, codes, len(sizes), sample_weight=weights, transform=norm)
    expected = grouped_kmeans(groups, k, seed=0, **options)
    inertia = found.inertia.reshape(-1, k).sum(axis=1)
    ratio = inertia.sum() / expected.inertia.sum()
    far = np.abs(found.centers - expected.centers).max()
    same = all(map(np.array_equal, found, again))
    say(f"{case}: inertia / host's {ratio:.6f}, centres differ by {far:.2g},")
    say(f"    same bits twice: {same}, {seconds:.2f} s")
    assert same, "two runs differ"
    assert abs(ratio - 1) < 0.05, "another inertia"


def run_huge(n=HUGE[0], d=HUGE[1], k=HUGE[2]):
    """Cluster more values than 32 bits can count."""
    launch = gpu()
    xp = launch.xp
    X = xp.random.default_rng(0).standard_normal((n, d), dtype=xp.float32)
    X[n // 2 :] += 3
    begin = time.perf_counter()
    found = cuda.cluster(
        launch,
        X,
        None,
        np.array([n]),
        k,
        weights=None,
        norm=IDENTITY,
        spherical=False,
        seed=0,
        n_init=1,
        max_iter=20,
        tol=0.0,
    )
    inertia = float(found.inertia.sum())
    say(f"{time.perf_counter() - begin:.1f} s, of which the first kernels compile")
    centers, expected = found.centers, 0.0
    squares = xp.sum(centers * centers, axis=1)
    for start in range(0, n, 100_000):
        rows = X[start : start + 100_000]
        distances = squares - 2 * (rows @ centers.T)
        nearest = xp.min(distances, axis=1) + xp.sum(rows * rows, axis=1)
        expected += float(xp.sum(nearest, dtype=xp.float64))
    say(f"inertia {inertia:.6g}, by products {expected:.6g}")
    assert abs(inertia / expected - 1) < 1e-3
    assert int(found.counts.sum()) == n


def make_arrays():
    """Functions from an ndarray to arrays on the GPU, by their names."""
    import cupy
    import torch

    makers = {"cupy": cupy.asarray, "cupy, F": lambda X: cupy.asarray(X, order="F")}
    makers["cupy, float16"] = lambda X: cupy.asarray(X, dtype=cupy.float16)
    makers["cupy, float64"] = lambda X: cupy.asarray(X, dtype=cupy.float64)
    for name in ("float32", "float16", "bfloat16", "float64"):
        dtype = getattr(torch, name)
        makers[f"torch, {name}"] = lambda X, dtype=dtype: torch.asarray(X).to(
            "cuda", dtype
        )
    makers["torch, F"] = lambda X: torch.asarray(X).cuda().T.contiguous().T
    return makers


def run_arrays():
    """Cluster arrays of all kinds, with the kernels and by the array API."""
    X, codes = data([60, 4, 64, 300, 1], 24)
    mixed = np.random.default_rng(0).permutation(len(X))
    X, codes = X[mixed], codes[mixed]
    expected = grouped_kmeans(GroupedRows(X, codes, 5), 6, seed=0)
    failed, is_possible = [], cuda.is_possible
    for name, make in make_arrays().items():
        for by_kernels in (True, False):
            cuda.is_possible = is_possible if by_kernels else lambda *_: False
            try:
                groups = GroupedRows(DeviceArray(make(X)), codes, 5)
                route = "kernels" if cuda.is_possible(groups, np.full(5, 6)) else "xp"
                found = kmeans_on_device(groups, 6, seed=0)
                ratio = found.inertia.sum() / expected.inertia.sum()
                say(f"{name}, {route}: inertia / host's {ratio:.5f}")
                assert abs(ratio - 1) < 0.05
            except Exception as error:
                traceback.print_exc()
                failed.append(f"{name}: {type(error).__name__}")
    assert not failed, failed


def run_classifier():
    """Fit and predict, with arrays on the GPU and with `device`."""
    X, y = data([100] * 20, 64)
    settings = {
        "default": ImprintClassifier(random_state=0),
        "westerhoff": ImprintClassifier.from_method("westerhoff", random_state=0),
        "recommended": ImprintClassifier.from_method("recommended", random_state=0),
        "euclidean": ImprintClassifier(metric="euclidean", random_state=0),
    }
    makers = {"device": np.asarray} | make_arrays()
    failed = []
    for setting, clf in settings.items():
        clf.set_params(device=None)
        expected = clf.fit(X, y).predict_proba(X)
        for name, make in makers.items():
            try:
                clf.set_params(device="cuda" if name == "device" else None)
                there = make(X)
                with sklearn.config_context(array_api_dispatch=name != "device"):
                    found = to_host(clf.fit(there, y).predict_proba(there))
                    labels = to_host(clf.predict(there))
                same = np.mean(labels == clf.classes_[expected.argmax(axis=1)])
                far = np.abs(found - expected).max()
                say(f"{setting}, {name}: same labels {same:.4f}, {far:.2g} apart")
                assert same > 0.99
            except Exception as error:
                traceback.print_exc()
                failed.append(f"{setting}, {name}: {type(error).__name__}")
    assert not failed, failed


CHECKS = {
    "compile": (compile_kernels, 60),
    "kernels": (run_kernels, 60),
    "arrays": (run_arrays, 60),
    "classifier": (run_classifier, 60),
    "huge": (run_huge, 60),
    "small": (lambda: run_kernels(["few rows", "a sample", "odd sizes"]), 60),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", nargs="?", choices=CHECKS)
    check = parser.parse_args().check
    if check is not None:
        CHECKS[check][0]()
        return 0
    failed = []
    for check in list(CHECKS)[:-1]:  # the last one is a part of another
        begin = time.perf_counter()
        print(f"{check} ...", flush=True)
        try:
            command = [sys.executable, __file__, check]
            code = subprocess.run(command, timeout=CHECKS[check][1]).returncode
        except subprocess.TimeoutExpired:
            code = "none in time"
        print(f"{check}: exit {code}, {time.perf_counter() - begin:.0f} s", flush=True)
        if code:
            failed.append(check)
    print(f"FAILED: {', '.join(failed)}" if failed else "All is well.", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
