"""Files without pickle: save models to folders, and load them again."""

from ._models import load, save
from ._values import TRUSTED_TYPES

__all__ = ["TRUSTED_TYPES", "load", "save"]
