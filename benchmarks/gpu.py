"""Fit and predict with embeddings on a GPU, beside what the device can do at best.

Without a GPU it says so, and measures nothing. ``--device cpu --small`` runs it on
PyTorch's CPU with small cases, to try the script, not the speed.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from _side_by_side import embeddings_like, heading, progress, table
from sklearn.cluster import KMeans

import skimprint._backend as backend
from skimprint import ImprintClassifier
from skimprint._groups import GroupedRows
from skimprint._kmeans import grouped_kmeans
from skimprint._kmeans.elsewhere import kmeans_elsewhere

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


def milliseconds(work, device):
    """Median time of a few calls after one to warm up, by the device's own clock."""
    work()
    found = []
    for _ in range(REPEATS):
        if device.type == "cuda":
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
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


def fit_row(case, device):
    """Times of one case: a copy, ours, a loop over classes, ours on the CPU."""
    n_classes, n, d, k = case
    X, y = embeddings_like(n_classes, n, d, k)
    there = torch.from_numpy(X).to(device)
    groups = GroupedRows(backend.Elsewhere(there), y, n_classes)
    classes = [there[y == c] for c in range(n_classes)]

    def ours():
        return kmeans_elsewhere(groups, k, seed=0)

    found, again = ours(), ours()
    peer = [KMeans(k, random_state=0).fit(X[y == c]).inertia_ for c in range(3)]
    here = time.perf_counter()
    grouped_kmeans(GroupedRows(X, y, n_classes), k, seed=0)
    here = 1e3 * (time.perf_counter() - here)
    return [
        f"{n_classes} x {n}, d {d}, k {k}",
        f"{milliseconds(lambda: there.clone(), device):.3g}",
        f"{milliseconds(ours, device):.4g}",
        f"{milliseconds(lambda: [torch_kmeans(X, k) for X in classes], device):.4g}",
        f"{here:.4g}",
        f"{found.inertia[:3].sum() / sum(peer):.4f}",
        "yes" if np.array_equal(found.centers, again.centers) else "no",
    ]


def predict_row(case, device):
    """Times of predictions, and of the bare product with the proxies."""
    n, d, n_classes, k = case
    X, y = embeddings_like(n_classes, 2 * k, d, k)
    clf = ImprintClassifier("kmeans", k, random_state=0).fit(X, y)
    queries = torch.randn(n, d, device=device)
    scores = backend.Elsewhere(queries)
    proxies = torch.from_numpy(clf.proxies_).to(device)
    block = max(1, 2**28 // (4 * len(proxies)))

    def product():
        for start in range(0, n, block):
            queries[start : start + block] @ proxies.T

    def ours():
        # What `predict` does with a validated array that is elsewhere.
        winners = np.empty(n, np.intp)

        def keep(some, found):
            winners[some] = found

        clf._score_blocks(clf._head(), scores, keep, winners_only=True)

    bare, whole = milliseconds(product, device), milliseconds(ours, device)
    name = f"{n} x {d}, {len(proxies)} proxies"
    return [name, f"{bare:.4g}", f"{whole:.4g}", f"{whole / bare:.2f}"]


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
        f"{REPEATS}. The copy is that of all embeddings within the device. The loop is "
        "k-means in PyTorch, class by class, from random seeds.",
    )
    if device.type == "cuda" and not has_gpu:
        print("There was no GPU where this was printed: nothing was measured.")
        return
    if device.type == "cuda":
        print(f"Device: {torch.cuda.get_device_name(device)}.\n")
    rows = []
    for case in SMALL_FITS if options.small else FITS:
        progress(f"fit {case}")
        rows.append(fit_row(case, device))
    header = ["classes x samples, features, clusters", "copy", "skimprint", "loop"]
    header += ["skimprint, CPU", "inertia / scikit-learn's", "same bits twice"]
    table(header, rows)
    progress("predict")
    row = predict_row(SMALL_PREDICTION if options.small else PREDICTION, device)
    table(["queries x features", "bare product", "predict", "ratio"], [row])


if __name__ == "__main__":
    main()
