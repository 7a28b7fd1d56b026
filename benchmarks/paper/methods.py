"""The methods that are compared: from a name and a seed to an estimator."""

import runpy
from functools import partial

import numpy as np
from heads import (
    AutoNorm,
    CrossValidatedLogisticRegression,
    CrossValidatedSVM,
    GaussianDiscriminantAnalysis,
    NearestNeighbors,
    RBFKernelRidge,
)
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC

from skimprint import ImprintClassifier
from skimprint.aggregation import Votes
from skimprint.generation import LeastSquaresProxies

GENERATORS = {
    "k-means": "kmeans",
    "k-medoids": "kmedoids",
    "cov_max": "cov_max",
    "random": "random",
    "farthest points": "fps",
}
N_PROXIES = (1, 2, 3, 5, 10, 20)
ALPHAS = ("4e-5", "1e-3", "1e-2")  # the paper's oracle takes the best in hindsight
# Generators that give the same proxies for any seed.
_DETERMINISTIC = {"all", "cov_max", "fps", "least_squares", "mean"}


def named(name, seed):
    return ImprintClassifier.from_method(name, random_state=seed)


def imprint(generator, n_proxies, seed, **params):
    """Westerhoff et al.'s norms, with another generator or aggregation."""
    params = {"generator": generator, "n_proxies": n_proxies} | params
    return ImprintClassifier.from_method("westerhoff", random_state=seed, **params)


def least_squares(alpha, seed):
    generator = LeastSquaresProxies(alpha=alpha)
    return ImprintClassifier.from_method("least_squares", generator=generator)


def default(seed):
    return ImprintClassifier(random_state=seed)


def peer(make_head, seed):
    """Another head, behind the norm of our recommended setting."""
    return make_pipeline(AutoNorm(), make_head())


def ridge():
    return RidgeClassifierCV(np.logspace(-4, 2, 13))


def shrinkage_lda():
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


def linear_svm():
    return CrossValidatedSVM(LinearSVC(C=10), {"C": (1, 10, 100)})


def rbf_svm():
    grid = {"C": (1, 10, 100), "gamma": (0.5, 2, 8)}
    return CrossValidatedSVM(SVC(C=10), grid)


QI = "Qi"
WESTERHOFF = "k-means 20"
ORACLE = [f"least squares {alpha}" for alpha in ALPHAS]
RECOMMENDED = "recommended"
DEFAULT = "default"
KERNEL_RIDGE = "RBF kernel ridge"
LOGISTIC = "logistic regression"
LINEAR_SVM = "linear SVM"
RBF_SVM = "RBF SVM"
LDA = "shrinkage LDA"
GDA = "GDA"

#: What the paper compares, with the paper's norms.
FRAMEWORK = {
    QI: partial(named, "qi"),
    "Hosoda": partial(named, "hosoda"),
    "Janson": partial(named, "janson"),
    "k-means 5": partial(imprint, "kmeans", 5),
    WESTERHOFF: partial(named, "westerhoff"),
    **{name: partial(least_squares, float(name.split()[-1])) for name in ORACLE},
}

#: Other heads for embeddings, with the norms of our recommended setting.
PEERS = {
    "ridge": partial(peer, ridge),
    KERNEL_RIDGE: partial(peer, RBFKernelRidge),
    LDA: partial(peer, shrinkage_lda),
    GDA: partial(peer, GaussianDiscriminantAnalysis),
    LOGISTIC: partial(peer, CrossValidatedLogisticRegression),
    LINEAR_SVM: partial(peer, linear_svm),
    RBF_SVM: partial(peer, rbf_svm),
}
#: Peers whose time grows too fast: the most shots that they are fitted to. They are
#: not fitted to all training data.
MOST_SHOTS = {LINEAR_SVM: 20, RBF_SVM: 50}

#: What is compared with all of these: one line each. The default is the recommended
#: setting with proxies only.
OURS = {
    RECOMMENDED: partial(named, "recommended"),
    DEFAULT: default,
}

#: What whitening alone is worth.
WHITENED = {
    "whitened mean": partial(imprint, "mean", 1, whitening="auto"),
    "whitened k-means 5": partial(imprint, "kmeans", 5, whitening="auto"),
}

#: Compared under real conditions.
UNDER_CONDITIONS = {
    QI: FRAMEWORK[QI],
    WESTERHOFF: FRAMEWORK[WESTERHOFF],
    **{name: peer for name, peer in PEERS.items() if name != LINEAR_SVM},
    **OURS,
}

#: Compared where some queries are of no known class, and what they go by.
DETECTORS = {
    QI: (FRAMEWORK[QI], "similarity"),
    WESTERHOFF: (FRAMEWORK[WESTERHOFF], "similarity"),
    "nearest neighbour": (partial(peer, partial(NearestNeighbors, 1)), "distance"),
    "5th nearest neighbour": (partial(peer, partial(NearestNeighbors, 5)), "distance"),
    GDA: (PEERS[GDA], "Mahalanobis distance"),
    KERNEL_RIDGE: (PEERS[KERNEL_RIDGE], "largest score"),
    LOGISTIC: (PEERS[LOGISTIC], "largest logit"),
    RECOMMENDED: (OURS[RECOMMENDED], "`score_samples`"),
    DEFAULT: (OURS[DEFAULT], "`score_samples`"),
}

#: Whose probabilities are compared.
PROBABILISTIC = (LDA, GDA, LOGISTIC, RECOMMENDED, DEFAULT)

#: Proxies of each generator, by their number.
K_SWEEP = {
    f"{name} {k}": partial(imprint, generator, k)
    for name, generator in GENERATORS.items()
    for k in N_PROXIES
}

#: Aggregations of the paper's proxies, and of all samples.
MNN = {
    f"{WESTERHOFF}, {m}-NN": partial(imprint, "kmeans", 20, aggregation=Votes(m))
    for m in (3, 5, 20, 50)
} | {
    f"all samples, {m}-NN by distance": partial(
        imprint,
        "all",
        1,
        aggregation=Votes(m, weights="distance"),
        metric="cosine",
    )
    for m in (1, 3, 5, 20, 50)
}

#: For labels that are made of several intents.
MERGED_K = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20)
MERGED = {f"k-means {k}": partial(imprint, "kmeans", k) for k in MERGED_K}

METHODS = (
    {name: make for name, (make, _) in DETECTORS.items()}
    | FRAMEWORK
    | PEERS
    | OURS
    | WHITENED
    | K_SWEEP
    | MNN
    | MERGED
)


def load_methods(path):
    """Read methods of the user's own from a Python file.

    Parameters
    ----------
    path : Path
        The file. It defines ``METHODS``, a dict from names to callables that take a
        seed and return a classifier.

    Returns
    -------
    methods : dict of {str: callable}
        What the file defines.
    """
    methods = runpy.run_path(str(path)).get("METHODS")
    if not isinstance(methods, dict) or not all(map(callable, methods.values())):
        raise ValueError(
            f"{path} must define METHODS, a dict from names to callables that take a "
            'seed and return a classifier, such as {"mine": lambda seed: Mine(seed)}.'
        )
    if taken := METHODS.keys() & methods.keys():
        raise ValueError(
            f"{path}: there are methods of this name already: {sorted(taken)}. Give "
            "yours other names."
        )
    return methods


def is_seeded(estimator):
    """Whether another seed may give another result."""
    params = estimator.get_params()
    generator = params.get("generator")
    if generator in _DETERMINISTIC or isinstance(generator, LeastSquaresProxies):
        return False
    return any(
        name.split("__")[-1] == "random_state" and value is not None
        for name, value in params.items()
    )
