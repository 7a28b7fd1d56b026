"""GEN, the generation step of the framework: from the support set to proxies."""

from .._arrays.groups import GroupedRows
from .._memory.columns import Points, Ragged
from .._memory.state import Imprint, Needs
from .._validation import check_instance
from ._base import ProxyGenerator, selected, synthesized
from .adapters import ClustererProxies, FunctionProxies
from .kmeans import KMeansProxies
from .kmedoids import KMedoidsProxies
from .least_squares import LeastSquaresProxies
from .mean import MeanProxies
from .selection import AllProxies, CovMaxProxies, FarthestPointProxies, RandomProxies

__all__ = [
    "AllProxies",
    "ClustererProxies",
    "CovMaxProxies",
    "FarthestPointProxies",
    "FunctionProxies",
    "GroupedRows",
    "Imprint",
    "KMeansProxies",
    "KMedoidsProxies",
    "LeastSquaresProxies",
    "MeanProxies",
    "Needs",
    "Points",
    "ProxyGenerator",
    "Ragged",
    "RandomProxies",
    "selected",
    "synthesized",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # files name it, wherever its code stands

GENERATORS = {
    "all": AllProxies,
    "cov_max": CovMaxProxies,
    "fps": FarthestPointProxies,
    "kmeans": KMeansProxies,
    "kmedoids": KMedoidsProxies,
    "least_squares": LeastSquaresProxies,
    "mean": MeanProxies,
    "random": RandomProxies,
}


def make_generator(generator):
    """Make a generator of what users pass: a name, component, clusterer or function."""
    if isinstance(generator, str) and generator in GENERATORS:
        return GENERATORS[generator]()
    check_instance(generator, "generator")
    if isinstance(generator, ProxyGenerator):
        generator._validate_params()
        return generator
    if hasattr(generator, "fit") and hasattr(generator, "get_params"):
        if "n_clusters" not in generator.get_params(deep=False):
            raise TypeError(
                "generator must have a parameter n_clusters, which gets the number of "
                f"proxies; {type(generator).__name__} has none. Use a clusterer that "
                "has one, such as KMeans or BisectingKMeans, or a function from (X_c, "
                "n_proxies, random_state) to proxies."
            )
        return ClustererProxies(generator)
    if callable(generator):
        return FunctionProxies(generator)
    raise ValueError(
        f"generator must be one of {sorted(GENERATORS)}, a component of "
        "skimprint.generation, a clusterer with n_clusters and cluster_centers_, or a "
        f"callable; got {generator!r}."
    )
