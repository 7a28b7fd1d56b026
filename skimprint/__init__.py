"""Weight imprinting for scikit-learn."""

from ._classifier import ImprintClassifier
from ._classifier_cv import ImprintClassifierCV
from ._embedder import FoundationEmbedder

__version__ = "0.1.0.dev0"

__all__ = ["FoundationEmbedder", "ImprintClassifier", "ImprintClassifierCV"]
