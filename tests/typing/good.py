"""A user's script: each parameter in each of its forms. No type checker may complain.

`tests/test_typing.py` sees that no parameter is missing, and that all are valid.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

import skimprint
from skimprint import (
    AdaptedClassifier,
    FoundationEmbedder,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
)
from skimprint.aggregation import Votes, max_scores, vote_shares
from skimprint.cluster import GroupedKMeans
from skimprint.datasets import load_digits_embeddings, load_intents
from skimprint.generation import (
    AllProxies,
    ClustererProxies,
    CovMaxProxies,
    FarthestPointProxies,
    FunctionProxies,
    GroupedRows,
    Imprint,
    KMeansProxies,
    KMedoidsProxies,
    LeastSquaresProxies,
    MeanProxies,
    Needs,
    Points,
    ProxyGenerator,
    Ragged,
    RandomProxies,
    selected,
    synthesized,
)
from skimprint.inspection import (
    CollapseDisplay,
    ExplanationDisplay,
    FamiliarityDisplay,
    ProxyDisplay,
    Report,
    report,
)
from skimprint.methods import PUBLISHED_METHODS, RECOMMENDED
from skimprint.metrics import neural_collapse_score, variability_collapse_index
from skimprint.model_selection import NShotSplit
from skimprint.normalization import l2_normalize, power_normalize, quantile_normalize
from skimprint.testing import check_classifier, check_embedder


def first_rows(X: np.ndarray, n_proxies: int, seed: int) -> np.ndarray:
    """A generator of one's own."""
    return X[:n_proxies]


class First(ProxyGenerator):
    """A generator of one's own: the first sample of each class."""

    needs = Needs(moments=2, samples=5, scatter_bytes=0)

    def generate(
        self, support: GroupedRows, n_proxies: np.ndarray, **options: Any
    ) -> Ragged:
        """Select rows of each class."""
        first, offsets = support.order[support.offsets[:-1]], range(len(support) + 1)
        return selected(support, first, list(offsets))


class Means(ProxyGenerator):
    """Another one."""

    def generate(
        self, support: GroupedRows, n_proxies: np.ndarray, **options: Any
    ) -> Ragged:
        """Make a mean of each class."""
        means = [support.rows(group).mean(axis=0) for group in range(len(support))]
        return synthesized(support, means, np.arange(len(means) + 1), n_jobs=1)


def copies(X: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    """Group rows, make points of them, and look at those of each class."""
    support = GroupedRows(
        X, codes, 2, sample_weight=None, transform=None, spread=np.zeros(len(X))
    )
    rows, places = support.take(support.order), support.order
    points = Points(
        vectors=rows,
        counts=support.weights_at(places),
        indices=places,
        spreads=np.zeros(len(rows)),
    )
    everything = Ragged(values=points, offsets=support.offsets)
    imprint = Imprint(proxies=everything, memory=everything.first(0))
    return [record.vectors for record in imprint.proxies]


def scaled(X: np.ndarray) -> np.ndarray:
    """A norm of one's own."""
    return np.asarray(X / np.abs(X).max(axis=1, keepdims=True))


def products(queries: np.ndarray, proxies: np.ndarray) -> np.ndarray:
    """A metric of one's own."""
    return np.asarray(queries @ proxies.T)


def mean_scores(similarities: np.ndarray, proxy_classes: np.ndarray) -> np.ndarray:
    """An aggregation of one's own."""
    masks = [proxy_classes == c for c in np.unique(proxy_classes)]
    return np.stack([similarities[:, mask].mean(axis=1) for mask in masks], axis=1)


def lengths(texts: list[str]) -> list[list[float]]:
    """A model of one's own."""
    return [[len(text), text.count(" ")] for text in texts]


def generators(clusterer: Any) -> list[Any]:
    """Generators with each of their parameters."""
    return [
        AllProxies(),
        ClustererProxies(clusterer),
        CovMaxProxies(),
        FarthestPointProxies(),
        FarthestPointProxies(start="farthest"),
        FarthestPointProxies(start="random"),
        FunctionProxies(first_rows),
        KMeansProxies(n_init=2, max_iter=10, tol=1e-3, spherical=True),
        KMedoidsProxies(init="k-medoids++", max_iter=10),
        KMedoidsProxies(init="heuristic"),
        LeastSquaresProxies(alpha=0.1, prior="frequency"),
        LeastSquaresProxies(prior="uniform"),
        MeanProxies(),
        RandomProxies(),
    ]


def classifiers(clusterer: Any) -> list[ImprintClassifier]:
    """Classifiers with each of their parameters, in each of its forms."""
    return [
        ImprintClassifier(),
        ImprintClassifier("kmeans", 5),
        ImprintClassifier(generator="kmeans", n_proxies=1),
        ImprintClassifier(generator="kmeans", n_proxies=None),
        ImprintClassifier(generator="all", n_proxies={"cat": 1, "dog": 2}),
        ImprintClassifier(generator="cov_max"),
        ImprintClassifier(generator="fps"),
        ImprintClassifier(generator="kmedoids"),
        ImprintClassifier(generator="least_squares"),
        ImprintClassifier(generator="mean"),
        ImprintClassifier(generator="random"),
        ImprintClassifier(generator=KMeansProxies(spherical=True)),
        ImprintClassifier(generator=clusterer),
        ImprintClassifier(generator=First()),
        ImprintClassifier(generator=Means()),
        ImprintClassifier(generator=first_rows),
        ImprintClassifier(generator=lambda X, n_proxies, seed: X[:n_proxies]),
        ImprintClassifier(support_norm="l2", query_norm="l2", proxy_norm="l2"),
        ImprintClassifier(support_norm="power", query_norm="power"),
        ImprintClassifier(support_norm="auto", query_norm="auto"),
        ImprintClassifier(support_norm=None, query_norm=None, proxy_norm=None),
        ImprintClassifier(support_norm=scaled, query_norm=scaled, proxy_norm=scaled),
        ImprintClassifier(support_norm=l2_normalize, proxy_norm=l2_normalize),
        ImprintClassifier(query_norm=power_normalize),
        ImprintClassifier(proxy_norm="quantile"),
        ImprintClassifier(aggregation="max"),
        ImprintClassifier(aggregation="mnn"),
        ImprintClassifier(aggregation=Votes()),
        ImprintClassifier(aggregation=Votes(n_neighbors=3, weights="uniform")),
        ImprintClassifier(aggregation=Votes(3, weights="distance"), metric="euclidean"),
        ImprintClassifier(aggregation=mean_scores),
        ImprintClassifier(metric="dot"),
        ImprintClassifier(metric="cosine"),
        ImprintClassifier(metric="euclidean"),
        ImprintClassifier(metric="manhattan"),
        ImprintClassifier(metric="chebyshev"),
        ImprintClassifier(metric="mahalanobis"),
        ImprintClassifier(metric=products),
        ImprintClassifier(whitening=None),
        ImprintClassifier(whitening="auto"),
        ImprintClassifier(whitening=0.5),
        ImprintClassifier(mean_weight=0.5, kernel_weight=0.5),
        ImprintClassifier(temperature=0.1),
        ImprintClassifier(temperature="auto"),
        ImprintClassifier(rejection=None),
        ImprintClassifier(rejection=Rejection("neither")),
        ImprintClassifier(rejection=Rejection(-1, threshold="auto", rate=0.01)),
        ImprintClassifier(rejection=Rejection(-1, threshold=0.5, score="contrast")),
        ImprintClassifier(rejection=Rejection(label=-1, score="similarity")),
        ImprintClassifier(head=None, device=None, n_jobs=None, random_state=None),
        ImprintClassifier(head=([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])),
        ImprintClassifier(forgettable="auto"),
        ImprintClassifier(forgettable=False),
        ImprintClassifier(device="cpu", n_jobs=-1, random_state=0, verbose=1),
        ImprintClassifier(device="auto", random_state=np.random.RandomState(0)),
        ImprintClassifier.from_method("westerhoff", n_proxies=5),
        ImprintClassifier.from_method("recommended", random_state=0),
        ImprintClassifier.from_method("hosoda"),
        ImprintClassifier.from_method("janson"),
        ImprintClassifier.from_method("least_squares"),
        ImprintClassifier.from_method("qi"),
    ]


class Mine(ImprintClassifier):
    """A classifier of one's own, which methods return as what it is."""

    extra = 3


def chains(X: np.ndarray, y: list[str], counts: dict[str, int]) -> list[int]:
    """Methods in a chain."""
    clf = Mine.from_method("qi", n_proxies=counts).fit(X, y)
    return [
        clf.merge(Mine.from_method("qi", n_proxies=counts).fit(X, y)).extra,
        clf.fit(X, y).partial_fit(X, y).forget("left").compact().extra,
        clf.set_params(n_proxies=1).extra,
        Mine.from_head(X, y, n_proxies=counts).extra,
    ]


def attributes(
    clf: ImprintClassifier,
    search: ImprintClassifierCV,
    both: AdaptedClassifier,
    embedder: FoundationEmbedder,
    kmeans: GroupedKMeans,
    collapse: CollapseDisplay,
    explanation: ExplanationDisplay,
    familiarity: FamiliarityDisplay,
    proxies: ProxyDisplay,
    page: Report,
) -> list[Any]:
    """All that is known after a fit, or drawn."""
    names: list[str] = list(clf.feature_names_in_)
    width: int = clf.n_features_in_ + search.n_features_in_ + kmeans.n_features_in_
    best: float = search.best_score_ + search.best_estimator_.whitening_
    collapse.ax_.set_title(embedder.modality_ + embedder.pooling_ + embedder.dtype_)
    collapse.figure_.savefig(os.devnull)
    explanation.ax_[0, 0].set_title(names[0])
    return [
        *(clf.classes_, clf.proxies_, clf.proxy_labels_, clf.proxy_indices_),
        *(clf.class_count_, clf.generator_, clf.temperature_, clf.rejection_threshold_),
        *(clf.covariance_, clf.whitening_, clf.kernel_gamma_, clf.kernel_alpha_),
        clf.mean_weight_,
        *(clf.support_norm_, clf.n_samples_seen_, width, best),
        *(search.best_params_["n_proxies"], search.best_index_, search.n_splits_),
        *(search.cv_results_["mean_test_score"], search.refit_time_, search.scorer_),
        *(search.multimetric_, search.classes_, search.feature_names_in_),
        *(both.imprint_, both.share_, both.weights_, both.classes_),
        *(both.estimator_, both.n_features_in_, both.feature_names_in_),
        *(embedder.device_, embedder.n_features_out_, embedder.fingerprint_),
        *(kmeans.cluster_centers_, kmeans.cluster_groups_, kmeans.groups_),
        *(kmeans.labels_, kmeans.inertia_, kmeans.n_iter_, kmeans.feature_names_in_),
        *(collapse.collapse, collapse.gain, collapse.names, explanation.explanation),
        *(explanation.items, explanation.train_items, explanation.y),
        *(explanation.figure_, familiarity.known, familiarity.unknown),
        *(familiarity.threshold, familiarity.auroc, familiarity.ax_),
        *(familiarity.figure_, proxies.proxies, proxies.proxy_labels, proxies.queries),
        *(proxies.query_labels, proxies.ax_, proxies.figure_),
        *(page.html, page.findings),
    ]


def searches() -> list[ImprintClassifierCV]:
    """Searches with each of their parameters."""
    grid = {"n_proxies": [1, 5], "rejection__rate": [0.01, 0.1]}
    return [
        ImprintClassifierCV(),
        ImprintClassifierCV(ImprintClassifier("mean")),
        ImprintClassifierCV(estimator=None, param_grid=None, scoring=None, cv=None),
        ImprintClassifierCV(param_grid=grid, scoring="accuracy", cv=3, n_jobs=2),
        ImprintClassifierCV(param_grid=[grid, {"metric": ["dot"]}], n_jobs=None),
        ImprintClassifierCV(scoring=["accuracy", "f1_macro"], refit="accuracy"),
        ImprintClassifierCV(scoring=lambda clf, X, y: clf.score(X, y), refit=True),
        ImprintClassifierCV(cv=NShotSplit(5, n_splits=3)),
        ImprintClassifierCV(verbose=1, pre_dispatch="2*n_jobs", error_score=np.nan),
        ImprintClassifierCV(error_score="raise", return_train_score=True),
    ]


def adapted(layer: Any) -> list[AdaptedClassifier]:
    """Adapted classifiers with each of their parameters."""
    return [
        AdaptedClassifier(layer),
        AdaptedClassifier(layer, None),
        AdaptedClassifier(estimator=layer, imprint=ImprintClassifier("mean")),
    ]


def embedders(module: Any) -> list[FoundationEmbedder]:
    """Embedders with each of their parameters, in each of its forms."""
    return [
        FoundationEmbedder(),
        FoundationEmbedder("timm:vit_small_patch14_dinov2.lvd142m"),
        FoundationEmbedder(model=lengths, modality="text"),
        FoundationEmbedder(module, preprocess=lambda picture: picture),
        FoundationEmbedder(preprocess=None, modality="auto", pooling="auto"),
        FoundationEmbedder(modality="image", pooling="mean", batch_size="auto"),
        FoundationEmbedder(pooling="cls", batch_size=8),
        FoundationEmbedder(pooling="max", device="auto", dtype="auto"),
        FoundationEmbedder(pooling="last", device="cpu", dtype="float32"),
        FoundationEmbedder(pooling="pooler", dtype="bfloat16", n_workers=2),
        FoundationEmbedder(dtype="float16", cache_dir=None, on_error="raise"),
        FoundationEmbedder(cache_dir="embeddings", on_error="skip"),
        FoundationEmbedder(cache_dir=Path("embeddings"), output="numpy"),
        FoundationEmbedder(output="torch", revision=None, local_files_only=True),
        FoundationEmbedder(output="cupy", revision="main", trust_remote_code=False),
        FoundationEmbedder(modality="audio", prompt=None, truncate_dim=None),
        FoundationEmbedder(prompt="query: ", truncate_dim=256),
        FoundationEmbedder(decode_size=None),
        FoundationEmbedder(decode_size=448),
        FoundationEmbedder(model_kwargs=None, verbose=0),
        FoundationEmbedder(model_kwargs={"pretrained": False}, verbose=1),
    ]


def others() -> list[Any]:
    """Grouped k-means, and splits by shots."""
    return [
        GroupedKMeans(),
        GroupedKMeans(4, n_init=2, max_iter=10, tol=1e-3, spherical=True),
        GroupedKMeans(n_clusters={"cat": 1, "dog": 2}, random_state=0),
        GroupedKMeans(random_state=np.random.RandomState(0), n_jobs=None, verbose=1),
        GroupedKMeans(random_state=None, n_jobs=2),
        NShotSplit(5),
        NShotSplit("all", 3, test_size=0.5, random_state=0),
        NShotSplit(n_shots=1, n_splits=2, test_size=10, random_state=None),
        NShotSplit(1, test_size=None, random_state=np.random.RandomState(0)),
    ]


def data() -> tuple[object, ...]:
    """Data sets, and what is done with them."""
    digits = load_digits_embeddings()
    digits.data.mean()
    X, y = load_digits_embeddings(return_X_y=True)
    X, y = X[:200, :64], y[:200]
    frame, target = load_digits_embeddings(return_X_y=True, as_frame=True)
    intents = load_intents(subset="in_scope", as_frame=False)
    len(intents.data)
    texts, labels = load_intents(subset="all", return_X_y=True)
    load_intents(subset="out_of_scope")

    clf = ImprintClassifier(random_state=0).fit(X, y)
    clf.fit(frame[:200], target[:200]).predict(frame[:9])
    clf.fit(X, y, sample_weight=np.ones(len(y))).score(X, y)
    ImprintClassifier().fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    clf.partial_fit(X, y, classes=np.arange(10), sample_weight=None).forget([3])
    clf.merge(ImprintClassifier().fit(X, y)).predict(X)
    shape: tuple[int, ...] = clf.proxies_.shape
    temperature: float = clf.temperature_
    similarities, proxies = clf.kproxies(X, n_neighbors=3, return_similarity=True)
    clf.decision_function(X), clf.predict_proba(X), clf.predict_log_proba(X)
    clf.score_samples(X), clf.explain(X, n_reasons=3, y=y).label
    assigned: np.ndarray = clf.assign_proxies(X, y)
    clf.fit(X, y)
    page = report(clf, X, y, X_train=X, y_train=y, train_items=None)
    page.save(Path(os.devnull))
    text: str = page.html
    ExplanationDisplay.from_estimator(clf, X, y, n_reasons=2).plot(ax=None)
    FamiliarityDisplay.from_predictions([0.5], [0.1], threshold=0.3).known.mean()
    ProxyDisplay.from_estimator(clf, X, y, projection=None).proxies.sum()
    CollapseDisplay.from_estimator(clf, X, y, cv=3).names.append(text)
    assigned.sum()
    clf.set_params(n_proxies=3).get_params()

    search = ImprintClassifierCV(param_grid={"n_proxies": [1, 2]}, cv=3).fit(X, y)
    search.predict(X), search.predict_proba(X), search.score_samples(X)
    search.explain(X, n_reasons=2).label, search.kproxies(X, 2), search.score(X, y)
    search.assign_proxies(X, y).sum()

    embedder = FoundationEmbedder(lengths, modality="text")
    embedder.fit(texts).transform(texts)
    embedder.fit_transform(texts, labels)
    check_embedder(embedder, ["one", "one and two", "three"], rtol=1e-4, atol=1e-5)
    check_classifier(clf, X, y, rtol=1e-4, atol=1e-5)

    kmeans = GroupedKMeans(4, random_state=0).fit(X, y, sample_weight=None)
    kmeans.predict(X), kmeans.transform(X), kmeans.fit_predict(X, y)
    inertia: float = kmeans.inertia_.sum()
    for train, test in NShotSplit(5, n_splits=2).split(X, y):
        clf.fit(X[train], y[train]).score(X[test], y[test])

    score: float = neural_collapse_score(X, y)
    index: float = variability_collapse_index(X, y, norm=None, average="pooled")
    each = neural_collapse_score(X, y, norm="l2", average=None)
    each.mean() + variability_collapse_index(X, y, average=None).mean()

    rows: np.ndarray = quantile_normalize(X[:3], X)
    max_scores(rows, np.array([0, 2, 3]))
    vote_shares(rows, np.zeros(rows.shape, int), n_classes=2, weights="distance")
    setting = PUBLISHED_METHODS["qi"], RECOMMENDED["generator"]
    return shape, temperature, similarities, proxies, inertia, score, index, setting


def modules() -> None:
    """Modules of the package, without an import of their own."""
    skimprint.methods.RECOMMENDED.get("metric")
    skimprint.datasets.load_intents()
    skimprint.model_selection.NShotSplit(1)
    skimprint.cluster.GroupedKMeans()
    skimprint.metrics.neural_collapse_score([[0.0, 1.0], [1.0, 0.0]], [0, 1])
    skimprint.generation.MeanProxies()
    skimprint.inspection.ProxyDisplay.from_predictions([[0.0, 1.0]], ["a"])
    skimprint.aggregation.Votes()
    skimprint.normalization.l2_normalize(np.ones((2, 3)))
    skimprint.testing.check_embedder(
        FoundationEmbedder(lengths, modality="text"), ["a", "bb", "c c c"]
    )
