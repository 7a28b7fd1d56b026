"""Weight imprinting for scikit-learn."""

from importlib import import_module
from typing import TYPE_CHECKING

from .classifier import (
    AdaptedClassifier,
    ImprintClassifier,
    ImprintClassifierCV,
    Rejection,
)
from .embedding._embedder import FoundationEmbedder

FoundationEmbedder.__module__ = __name__  # files name it, wherever its code stands

__version__ = "0.1.0.dev0"

__all__ = [
    "AdaptedClassifier",
    "FoundationEmbedder",
    "ImprintClassifier",
    "ImprintClassifierCV",
    "Rejection",
]

# Modules that `import skimprint` makes reachable: each is imported at its first use.
_MODULES = [
    "aggregation",
    "cluster",
    "dask",
    "datasets",
    "export",
    "generation",
    "inspection",
    "methods",
    "metrics",
    "model_selection",
    "normalization",
    "persistence",
    "testing",
]

if TYPE_CHECKING:
    # Type checkers read the modules' names here, and see no `__getattr__`, for which
    # any misspelt name would do.
    from . import aggregation as aggregation
    from . import cluster as cluster
    from . import dask as dask
    from . import datasets as datasets
    from . import export as export
    from . import generation as generation
    from . import inspection as inspection
    from . import methods as methods
    from . import metrics as metrics
    from . import model_selection as model_selection
    from . import normalization as normalization
    from . import persistence as persistence
    from . import testing as testing
else:

    def __getattr__(name):
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
