"""Weight imprinting for scikit-learn."""

from ._classifier import ImprintClassifier

__version__ = "0.1.0.dev0"

__all__ = ["ImprintClassifier"]
