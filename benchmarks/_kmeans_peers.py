"""Other ways to cluster each class by k-means, one class after the other.

Each takes a list of the rows of each class, the number of clusters and a seed, and
returns the centres of each class.
"""

from sklearn.cluster import KMeans
from threadpoolctl import ThreadpoolController

try:
    import faiss
except ImportError:
    faiss = None

try:
    import torch
except ImportError:
    torch = None

_controller = ThreadpoolController()

MISSING = [
    f"{name} is not installed: {consequence}"
    for module, name, consequence in [
        (faiss, "faiss", "it is left out."),
        (torch, "torch", "the reference's way goes without its tensors."),
    ]
    if module is None
]


def sklearn_loop(classes, k, seed):
    return [
        KMeans(k, n_init=1, random_state=seed).fit(rows).cluster_centers_
        for rows in classes
    ]


def sklearn_one_thread(classes, k, seed):
    with _controller.limit(limits=1):
        return sklearn_loop(classes, k, seed)


def reference_way(classes, k, seed):
    """The reference implementation, restated: a tensor per class, KMeans, a tensor."""
    if torch is not None:
        classes = [torch.from_numpy(rows) for rows in classes]
    centers = []
    for rows in classes:
        array = rows if torch is None else rows.cpu().numpy()
        kmeans = KMeans(n_clusters=k, random_state=seed).fit(array)
        found = kmeans.cluster_centers_
        if torch is not None:
            found = torch.tensor(found, dtype=rows.dtype)
        centers.append(found)
    return centers if torch is None else torch.cat(centers)


def faiss_loop(classes, k, seed):
    """Faiss per class, on one thread as it is fastest for classes of this size.

    It neither subsamples nor complains about small classes, and does its default of
    25 iterations, from seeds that are random rows.
    """
    faiss.omp_set_num_threads(1)
    with _controller.limit(limits=1):
        centers = []
        for rows in classes:
            kmeans = faiss.Kmeans(
                rows.shape[1],
                k,
                seed=seed,
                min_points_per_centroid=1,
                max_points_per_centroid=len(rows),
            )
            kmeans.train(rows)
            centers.append(kmeans.centroids)
    return centers


PEERS = {
    "scikit-learn, one thread": sklearn_one_thread,
    "scikit-learn, default threads": sklearn_loop,
    "reference's way": reference_way,
}
if faiss is not None:
    PEERS["faiss, one thread"] = faiss_loop

# Those that leave the number of threads to the libraries.
MANY_THREADS = ("scikit-learn, default threads", "reference's way")
