"""Weight imprinting for scikit-learn."""

from .classifier import ImprintClassifier, ImprintClassifierCV, Rejection
from .embedding._embedder import FoundationEmbedder

__version__ = "0.1.0.dev0"

__all__ = [
    "FoundationEmbedder",
    "ImprintClassifier",
    "ImprintClassifierCV",
    "Rejection",
]
