"""Settings of `ImprintClassifier`: the published methods, and the recommended one."""

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone

from .aggregation import Votes

__all__ = ["METHODS", "PUBLISHED_METHODS", "RECOMMENDED"]


class _Settings(Mapping):
    """Settings by name that cannot be changed, nor can the components in them."""

    def __init__(self, settings):
        self._settings = settings

    def __getitem__(self, name):
        value = self._settings[name]
        return clone(value) if isinstance(value, Votes) else value

    def __iter__(self):
        return iter(self._settings)

    def __len__(self):
        return len(self._settings)

    def __or__(self, other):
        return {**self, **other}

    def __repr__(self):
        return repr(self._settings)


def _read_only(methods):
    """Make settings of each of several methods that cannot be changed."""
    return _Settings({name: _Settings(method) for name, method in methods.items()})


# What none of the published methods has.
_PLAIN = {"whitening": None, "mean_weight": 0.0, "temperature": 1.0}

# Each normalises everything to unit length, or nothing.
_UNIT = {"support_norm": "l2", "proxy_norm": "l2", "query_norm": "l2"}
_RAW = {"support_norm": None, "proxy_norm": None, "query_norm": None}

#: Parameters of each published method. ``"hosoda"`` takes the classes seen before as
#: reference distribution, as the paper's comparison does; ``"westerhoff"`` is the
#: paper's best method; ``"least_squares"`` is the paper's oracle, with the weights of
#: the classes corrected: see `prior` of `skimprint.generation.LeastSquaresProxies` for
#: the published ones.
PUBLISHED_METHODS: Mapping[str, Mapping[str, Any]] = _read_only(
    {
        "qi": {
            "generator": "mean",
            **_UNIT,
            "aggregation": "max",
            **_PLAIN,
        },
        "hosoda": {
            "generator": "mean",
            **_RAW,
            "proxy_norm": "quantile",
            "aggregation": "max",
            **_PLAIN,
        },
        "janson": {
            "generator": "mean",
            **_RAW,
            "aggregation": Votes(n_neighbors=1),
            "metric": "euclidean",
            **_PLAIN,
        },
        "westerhoff": {
            "generator": "kmeans",
            "n_proxies": 20,
            **_UNIT,
            "aggregation": "max",
            **_PLAIN,
        },
        "least_squares": {
            "generator": "least_squares",
            "n_proxies": 1,
            **_RAW,
            "aggregation": "max",
            **_PLAIN,
        },
    }
)

#: Parameters of the most accurate setting on clean samples that needs no choice by the
#: user: the defaults of `ImprintClassifier` (whitened embeddings, k-means proxies that
#: lean towards the mean of their class), and a quarter of the score by a kernel
#: regression on the samples. That quarter costs memory and time in predictions.
RECOMMENDED: Mapping[str, Any] = _Settings(
    {
        "generator": "kmeans",
        "mean_weight": "auto",
        "support_norm": "auto",
        "proxy_norm": "l2",
        "query_norm": "auto",
        "aggregation": "max",
        "whitening": "auto",
        "kernel_weight": 0.25,
        "temperature": "auto",
    }
)

#: All settings by the names that `ImprintClassifier.from_method` knows.
METHODS: Mapping[str, Mapping[str, Any]] = _Settings(
    {**PUBLISHED_METHODS, "recommended": RECOMMENDED}
)
