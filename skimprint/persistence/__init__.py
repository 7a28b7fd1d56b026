"""Files without pickle: save models to folders, and load them again."""

from ._models import load, save

__all__ = ["load", "save"]
