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
        made = generator
    elif hasattr(generator, "fit") and hasattr(generator, "get_params"):
        made = ClustererProxies(generator)
    elif callable(generator):
        made = FunctionProxies(generator)
    else:
        raise ValueError(
            f"generator must be one of {sorted(GENERATORS)}, a component of "
            "skimprint.generation, a clusterer with n_clusters and cluster_centers_, "
            f"or a callable; got {generator!r}."
        )
    made._validate_params()
    return made
