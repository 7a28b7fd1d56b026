"""A user's script with mistakes: mypy and pyright must report each marked line."""

from pathlib import Path

import numpy as np

import skimprint
from skimprint import (
    AdaptedClassifier,
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
)
from skimprint.aggregation import Votes
from skimprint.cluster import GroupedKMeans
from skimprint.datasets import load_digits_embeddings, load_intents
from skimprint.generation import (
    FarthestPointProxies,
    GroupedRows,
    KMeansProxies,
    KMedoidsProxies,
    LeastSquaresProxies,
    ProxyGenerator,
    Ragged,
)
from skimprint.inspection import ProxyDisplay, report
from skimprint.metrics import neural_collapse_score
from skimprint.model_selection import NShotSplit


def one_argument(X: np.ndarray) -> np.ndarray:
    """Neither a generator nor an aggregation."""
    return X


class Rows(ProxyGenerator):
    """Returns rows, not what `selected` makes of them."""

    def generate(  # expect-error
        self, support: GroupedRows, n_proxies: np.ndarray, **options: object
    ) -> np.ndarray:
        """Take the rows of the first class."""
        return support.row(0)  # expect-error


class Sizes(ProxyGenerator):
    """Takes groups for a list."""

    def generate(
        self, support: GroupedRows, n_proxies: np.ndarray, **options: object
    ) -> Ragged:
        """Return the first of them."""
        return support[0]  # expect-error


def mistakes(X: np.ndarray, y: np.ndarray) -> None:
    """Each marked line has one."""
    ImprintClassifier(generator="kmean")  # expect-error
    ImprintClassifier(generator=one_argument)  # expect-error
    ImprintClassifier(n_proxies="auto")  # expect-error
    ImprintClassifier(n_proxies=2.5)  # expect-error
    ImprintClassifier(n_proxy=3)  # expect-error
    ImprintClassifier("mean", 1, "l2")  # expect-error
    ImprintClassifier(support_norm="l3")  # expect-error
    ImprintClassifier(query_norm="quantile")  # expect-error
    ImprintClassifier(proxy_norm="power")  # expect-error
    ImprintClassifier(aggregation="mxa")  # expect-error
    ImprintClassifier(aggregation=Votes)  # expect-error
    ImprintClassifier(aggregation=one_argument)  # expect-error
    ImprintClassifier(metric="dott")  # expect-error
    ImprintClassifier(whitening="atuo")  # expect-error
    ImprintClassifier(mean_weight="half")  # expect-error
    ImprintClassifier(kernel_weight=None)  # expect-error
    ImprintClassifier(temperature=None)  # expect-error
    ImprintClassifier(rejection="neither")  # expect-error
    ImprintClassifier(rejection=Rejection)  # expect-error
    ImprintClassifier(head=5)  # expect-error
    ImprintClassifier(forgettable="atuo")  # expect-error
    ImprintClassifier(random_state="0")  # expect-error
    ImprintClassifier(device=0)  # expect-error
    ImprintClassifier(n_jobs="all")  # expect-error
    ImprintClassifier(verbose="yes")  # expect-error
    ImprintClassifier.from_method("westerhof")  # expect-error
    ImprintClassifier.from_method("qi", metric="dott")  # expect-error
    ImprintClassifier.from_method("qi", n_proxy=5)  # expect-error
    ImprintClassifier().fit(X)  # expect-error
    ImprintClassifier().fit(X, y, weights=y)  # expect-error
    ImprintClassifier().kproxies(X, return_similarities=True)  # expect-error
    Votes(weights="distances")  # expect-error
    Votes(n_neighbors="5")  # expect-error
    Rejection()  # expect-error
    Rejection(-1, threshold="always")  # expect-error
    Rejection(-1, rate="5 %")  # expect-error
    Rejection(-1, score="contrasts")  # expect-error
    Rejection(-1, 0.5)  # expect-error
    ImprintClassifierCV(n_jobs="2")  # expect-error
    ImprintClassifierCV(error_score="rise")  # expect-error
    ImprintClassifierCV(ImprintClassifier)  # expect-error
    ImprintClassifierCV().explain(X, reasons=2)  # expect-error
    ImprintClassifierCV().kproxies()  # expect-error
    AdaptedClassifier()  # expect-error
    AdaptedClassifier(ImprintClassifier(), "default")  # expect-error
    AdaptedClassifier(ImprintClassifier()).fit(X)  # expect-error
    KMeansProxies(n_init="3")  # expect-error
    KMedoidsProxies(init="kmedoids++")  # expect-error
    FarthestPointProxies(start="anywhere")  # expect-error
    LeastSquaresProxies(prior="balanced")  # expect-error
    FoundationEmbedder(5)  # expect-error
    FoundationEmbedder(modality="picture")  # expect-error
    FoundationEmbedder(pooling="average")  # expect-error
    FoundationEmbedder(batch_size="large")  # expect-error
    FoundationEmbedder(dtype="float8")  # expect-error
    FoundationEmbedder(on_error="ignore")  # expect-error
    FoundationEmbedder(output="numpi")  # expect-error
    FoundationEmbedder(cache_dir=5)  # expect-error
    FoundationEmbedder(cachedir=Path("embeddings"))  # expect-error
    GroupedKMeans(n_clusters="4")  # expect-error
    GroupedKMeans(4, 2)  # expect-error
    GroupedKMeans().fit(X)  # expect-error
    NShotSplit("al")  # expect-error
    NShotSplit(5, test_size="half")  # expect-error
    ProxyDisplay.from_estimator(ImprintClassifier(), project="pca")  # expect-error
    report(ImprintClassifier(), X, y, xtrain=X)  # expect-error
    neural_collapse_score(X, y, norm="l1")  # expect-error
    neural_collapse_score(X, y, average="pool")  # expect-error
    load_intents(subset="in-scope")  # expect-error
    load_digits_embeddings(return_Xy=True)  # expect-error
    skimprint.metric.neural_collapse_score(X, y)  # expect-error
    skimprint.ImprintClasifier()  # expect-error
