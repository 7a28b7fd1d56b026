"""Fit and predict with embeddings on a GPU, beside what the device can do at best.

Without a GPU it says so, and measures nothing. ``--device cpu --small`` runs it on
PyTorch's CPU with small cases, to try the script, not the speed.
"""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # before scikit-learn is imported

import argparse
import statistics
import time

import numpy as np
import sklearn
import torch
from _side_by_side import embeddings_like, heading, progress, table
from sklearn.cluster import KMeans

import skimprint._arrays.device as backend
from skimprint import ImprintClassifier
from skimprint._arrays.groups import GroupedRows
from skimprint.cluster._kmeans import cuda, grouped_kmeans
from skimprint.cluster._kmeans.on_device import kmeans_on_device

REPEATS = 5
# Classes, samples of each, features, clusters.
FITS = [
    (1000, 16, 512, 4),
    (100, 1300, 768, 20),
    (100, 1300, 768, 100),
    (10, 6000, 512, 20),
    (1000, 1280, 768, 20),
]
PREDICTION = (1_000_000, 768, 1000, 20)  # queries, features, classes, proxies of each
SMALL_FITS = [(50, 16, 64, 4), (5, 200, 64, 20)]
SMALL_PREDICTION = (5000, 64, 20, 5)
WAYS = ("copy", "centres there", "centres here", "fit", "array API")
WAYS += ("PyTorch loop", "fastkmeans loop", "CPU")
# Classes of which scikit-learn's inertia is asked, and the seeds.
JUDGED, SEEDS = 3, 6


def milliseconds(work, device, repeats=REPEATS):
    """Median time of a few calls after one to warm up, by the device's own clock."""
    work()
    found = []
    for _ in range(repeats):
        if device.type == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            work()
            stop.record()
            torch.cuda.synchronize()
            found.append(start.elapsed_time(stop))
        else:
            begin = time.perf_counter()
            work()
            found.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(found)


def once(work, device):
    """Time of a single call, for what takes seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - begin)


def torch_kmeans(X, k, max_iter=300, tol=1e-4):
    """What a user would write: random seeds, Lloyd's algorithm, one class."""
    centers = X[torch.randperm(len(X), device=X.device)[:k]]
    limit = tol * X.var(dim=0).mean()
    for _ in range(max_iter):
        labels = torch.cdist(X, centers).argmin(dim=1)
        members = torch.nn.functional.one_hot(labels, k).to(X.dtype)
        sizes = members.sum(dim=0)[:, None]
        moved = torch.where(sizes > 0, (members.T @ X) / sizes.clamp(min=1), centers)
        shift = ((moved - centers) ** 2).sum()
        centers = moved
        if shift <= limit:
            break
    return centers


def fast_kmeans(classes, k):
    """fastkmeans, class by class; `None` where it is not installed."""
    try:
        from fastkmeans import FastKMeans
    except ImportError:
        return None
    device = str(classes[0].device)
    options = {"niter": 25, "gpu": device != "cpu", "device": device, "seed": 0}

    def loop():
        for X in classes:
            FastKMeans(X.shape[1], k, verbose=False, **options).train(X)

    return loop


def on_device(groups, k):
    """The clusters of all groups, left on the device; `None` without the kernels."""
    n_centers = np.full(len(groups), k)
    if not cuda.is_possible(groups, n_centers):
        return None
    options = {"seed": 0, "n_init": 1, "max_iter": 300, "tol": 1e-4, "spherical": False}

    def fit():
        for bucket in cuda.buckets(groups, n_centers, np.arange(len(groups)), 1):
            cuda.cluster_rows(groups.only(bucket), k, **options)

    return fit


def fit_rows(case, device):
    """Two lines on one case: the times, and the quality."""
    n_classes, n, d, k = case
    X, y = embeddings_like(n_classes, n, d, k)
    there = torch.from_numpy(X).to(device)
    groups = GroupedRows(backend.DeviceArray(there), y, n_classes)
    codes = torch.from_numpy(y).to(device)
    classes = [there[codes == c] for c in range(n_classes)]
    clf = ImprintClassifier.from_method(
        "westerhoff", n_proxies=k, support_norm=None, random_state=0
    )

    def whole():
        with sklearn.config_context(array_api_dispatch=True):
            clf.fit(there, codes)

    def by_array_api():
        kept, cuda.is_possible = cuda.is_possible, lambda *_: False
        try:
            kmeans_on_device(groups, k, seed=0)
        finally:
            cuda.is_possible = kept

    def engine():
        grouped_kmeans(GroupedRows(X, y, n_classes), k, seed=0)

    name = f"{n_classes} x {n}, d {d}, k {k}"
    ways = [
        (there.clone, milliseconds),
        (on_device(groups, k), milliseconds),
        (lambda: kmeans_on_device(groups, k, seed=0), milliseconds),
        (whole, milliseconds),
        (by_array_api, once),
        (lambda: [torch_kmeans(X, k) for X in classes], once),
        (fast_kmeans(classes, k), once),
        (engine, once),
    ]
    times = [name]
    for way, (work, clock) in zip(WAYS, ways, strict=True):
        times.append("-" if work is None else f"{clock(work, device):.4g}")
        progress(f"{way}: {times[-1]}")  # for who cannot wait for the table
    found, again = (kmeans_on_device(groups, k, seed=0) for _ in range(2))
    judged = GroupedRows(groups.X, np.where(y < JUDGED, y, JUDGED), JUDGED + 1)
    judged = judged.only(np.arange(JUDGED))
    ours = [kmeans_on_device(judged, k, seed=s).inertia.sum() for s in range(SEEDS)]
    theirs = [
        KMeans(k, random_state=s).fit(X[y == c]).inertia_
        for s in range(SEEDS)
        for c in range(JUDGED)
    ]
    quality = [
        name,
        f"{sum(ours) / sum(theirs):.4f}",
        "yes" if np.array_equal(found.centers, again.centers) else "no",
    ]
    progress(f"inertia, same bits: {quality[1:]}")
    return times, quality


def predict_row(case, device):
    """Times of predictions, and of the bare product with the proxies."""
    n, d, n_classes, k = case
    X, y = embeddings_like(n_classes, 2 * k, d, k)
    clf = ImprintClassifier.from_method("westerhoff", n_proxies=k, random_state=0)
    clf.fit(X, y)
    queries = torch.randn(n, d, device=device)
    proxies = torch.asarray(clf.proxies_, device=device)
    block = max(1, 2**28 // (4 * len(proxies)))

    def product():
        for start in range(0, n, block):
            queries[start : start + block] @ proxies.T

    def ours():
        with sklearn.config_context(array_api_dispatch=True):
            clf.predict(queries)

    bare, whole = milliseconds(product, device), milliseconds(ours, device)
    name = f"{n} x {d}, {len(proxies)} proxies"
    row = [name, f"{bare:.4g}", f"{whole:.4g}", f"{whole / bare:.2f}"]
    progress(f"bare product, predict, ratio: {row[1:]}")
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    has_gpu = torch.cuda.is_available()
    heading(
        "Embeddings on a GPU",
        "Milliseconds by the device's own events, warm, medians of "
        f"{REPEATS}. *copy*: all embeddings, within the device. *centres there*: "
        "`KMeansProxies`' clusters, left on the device; *centres here*: brought to "
        "the host. *fit*: `ImprintClassifier.fit` as a whole. After these, what takes "
        "seconds, timed once: the same clusters by operations of the array API, "
        "without the kernels; k-means in PyTorch, class by class, from random seeds; "
        "fastkmeans class by class (25 iterations, random seeds); and the engine on "
        "this machine's CPU. cuML and faiss-gpu are not among them. Inertia is that of "
        f"{JUDGED} classes and {SEEDS} seeds, relative to scikit-learn's.",
    )
    if device.type == "cuda" and not has_gpu:
        print("There was no GPU where this was printed: nothing was measured.")
        return
    if device.type == "cuda":
        print(f"Device: {torch.cuda.get_device_name(device)}.\n")
    progress("predict")  # first: fits take most of the time
    prediction = predict_row(SMALL_PREDICTION if options.small else PREDICTION, device)
    rows = []
    for case in SMALL_FITS if options.small else FITS:
        progress(f"fit {case}")
        rows.append(fit_rows(case, device))
    times, qualities = zip(*rows, strict=True)
    name = "classes x samples, features, clusters"
    table([name, *WAYS], times)
    table([name, "inertia / scikit-learn's", "same bits twice"], qualities)
    table(["queries x features", "bare product", "predict", "ratio"], [prediction])


if __name__ == "__main__":
    main()
