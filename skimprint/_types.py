"""The types of what users pass."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from .aggregation import Votes
from .generation import ProxyGenerator

if TYPE_CHECKING:
    from .classifier._rejection import Rejection

Array: TypeAlias = Any  # of NumPy, or of the namespace of X under array API dispatch


class Clusterer(Protocol):
    """A clusterer of scikit-learn's with ``n_clusters`` and ``cluster_centers_``."""

    def fit(self, X: Any, /) -> Any:
        """Fit the clusterer."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get its parameters, ``n_clusters`` among them."""


class HasWeight(Protocol):
    """A linear layer, such as ``torch.nn.Linear``."""

    @property
    def weight(self) -> Any:
        """Weights of shape (n_classes, n_features)."""


Generator: TypeAlias = (
    Literal[
        "all",
        "cov_max",
        "fps",
        "kmeans",
        "kmedoids",
        "least_squares",
        "mean",
        "random",
    ]
    | ProxyGenerator
    | Clusterer
    | Callable[[np.ndarray, int, int], ArrayLike]
)
NormFunction: TypeAlias = Callable[[np.ndarray], ArrayLike]
QueryNorm: TypeAlias = Literal["l2", "power", "auto"] | NormFunction | None
ProxyNorm: TypeAlias = Literal["l2", "quantile"] | NormFunction | None
AggregationType: TypeAlias = (
    Literal["max", "mnn"] | Votes | Callable[[np.ndarray, np.ndarray], ArrayLike]
)
Metric: TypeAlias = (
    Literal["dot", "cosine", "euclidean", "manhattan", "chebyshev", "mahalanobis"]
    | Callable[[np.ndarray, np.ndarray], ArrayLike]
)
Method: TypeAlias = Literal[
    "hosoda", "janson", "least_squares", "qi", "recommended", "westerhoff"
]
Head: TypeAlias = tuple[ArrayLike | HasWeight, ArrayLike | None]
RandomState: TypeAlias = int | np.random.RandomState | None


class Parameters(TypedDict, total=False):
    """The parameters of `ImprintClassifier`, to change some of a named setting."""

    generator: Generator
    n_proxies: int | Mapping[Any, int] | None
    support_norm: QueryNorm
    proxy_norm: ProxyNorm
    query_norm: QueryNorm
    aggregation: AggregationType
    metric: Metric
    whitening: float | Literal["auto"] | None
    mean_weight: float | Literal["auto"]
    kernel_weight: float
    temperature: float | Literal["auto"]
    rejection: "Rejection | None"
    head: Head | None
    forgettable: bool | Literal["auto"]
    random_state: RandomState
    device: str | None
    n_jobs: int | None
    verbose: int
