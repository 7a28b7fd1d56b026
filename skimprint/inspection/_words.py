"""Say in words what the settings of a classifier do."""

from numbers import Integral

import numpy as np

from .._plan import same_value
from ..aggregation import Votes
from ..classifier._checks import n_nearest

_GENERATORS = {
    "AllProxies": "every sample is a proxy of its class",
    "CovMaxProxies": "each class gets {n} proxies, chosen among its samples by the "
    "covariance between them",
    "FarthestPointProxies": "each class gets {n} proxies, chosen among its samples far "
    "from each other",
    "KMeansProxies": "each class gets {n} proxies by k-means",
    "KMedoidsProxies": "each class gets {n} proxies by k-medoids",
    "LeastSquaresProxies": "the proxies of all classes are solved for by least squares",
    "MeanProxies": "each class gets one proxy, its mean",
    "RandomProxies": "each class gets {n} proxies, chosen among its samples at random",
}
_NORMS = {
    "l2": "get unit length",
    "power": "become signed square roots of unit length",
    "quantile": "get the distribution of values of all classes",
    None: "stay as they are",
}
_METRICS = {
    "chebyshev": "the Chebyshev distance",
    "cosine": "the cosine",
    "dot": "the product",
    "euclidean": "the Euclidean distance",
    "mahalanobis": "the Mahalanobis distance",
    "manhattan": "the Manhattan distance",
}


def counted(n, one, many):
    """Say how many there are."""
    return f"{n:,} {one if n == 1 else many}"


def settings_in_words(clf):
    """Describe what a fitted classifier does, step by step.

    Parameters
    ----------
    clf : ImprintClassifier
        Is fitted.

    Returns
    -------
    sentences : list of str
    """
    scorer = clf._fitted.scorer
    head, plan = scorer.head, scorer.plan
    then = plan.parameters
    norm = _norm(plan.support_norm_value)
    sentences = [f"Embeddings of {clf.n_features_in_} features {norm}."]
    of_queries = then["query_norm"]
    if of_queries != "auto" and not same_value(of_queries, plan.support_norm_value):
        sentences.append(f"Queries {_norm(of_queries)}.")
    part = plan.generator
    part = getattr(part, "clusterer", getattr(part, "function", part))
    name = getattr(part, "__name__", type(part).__name__)
    n = plan.n_proxies
    n = f"up to {n}" if isinstance(n, Integral) else "its own number of"
    made = _GENERATORS.get(name, "each class gets {n} proxies by " + name)
    made = made.format(n=n)
    sentences.append(made[0].upper() + made[1:] + ".")
    if head.whitening is not None:
        sentences.append(
            "Directions in which samples of a class differ count less: the space is "
            f"whitened, with a shrinkage of {head.shrinkage:.2g}."
        )
    sentences.append(f"Proxies {_norm(then['proxy_norm'])}.")
    if plan.mean_weight:
        sentences.append(
            f"Each proxy leans to the mean of its class, by {plan.mean_weight:.2g}."
        )
    metric = _METRICS.get(plan.metric.name, plan.metric.name)
    if plan.aggregation.is_callable:
        sentences.append(f"A function makes class scores of {metric} to each proxy.")
    elif isinstance(plan.aggregation, Votes):
        n = n_nearest(scorer, None)
        voters = "nearest proxy votes" if n == 1 else f"{n} nearest proxies vote"
        nearer = (
            ", the nearer the more" if plan.aggregation.weights != "uniform" else ""
        )
        sentences.append(f"By {metric}, the {voters}{nearer}.")
    else:
        sentences.append(f"A class scores by its nearest proxy, by {metric}.")
    if head.kernel is not None:
        n_samples = len(head.kernel.landmarks)
        sentences.append(
            f"A share of {plan.kernel_weight:.2g} of each score comes from kernel "
            f"ridge regression on {n_samples:,} training samples, with a gamma of "
            f"{head.kernel.gamma:.2g} and an alpha of {head.kernel.alpha:.2g}."
        )
    sentences.append(
        "Probabilities are the softmax of scores divided by a temperature of "
        f"{clf.temperature_:.2g}."
    )
    if clf.rejection is None:
        sentences.append("No query is rejected as unknown.")
    else:
        sentences.append(
            f"Queries whose familiarity is below {clf.rejection_threshold_:.3g} get "
            f"the label {np.asarray(clf.rejection.label).item()!r}."
        )
    return sentences


def _norm(norm):
    if callable(norm):
        return f"go through {getattr(norm, '__name__', 'a function')}"
    return _NORMS.get(norm, f"are normalised by {norm}")


def writable(text):
    """Write half a surrogate pair, as in names of files, as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
