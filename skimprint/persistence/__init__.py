"""Files without pickle: save models to folders, and load them again."""

from ._models import load, save
from ._values import TRUSTED_TYPES as _NAMES

#: Names of our classifiers and their parts, to be trusted by skops and MLflow: none of
#: them runs code that is in a file. `FoundationEmbedder` is not among them, for it runs
#: the code that comes with a model if it is told so; trust it by its own name.
TRUSTED_TYPES = _NAMES

__all__ = ["TRUSTED_TYPES", "load", "save"]
