"""The estimators: parameters, learning and predictions."""

from ._classifier import ImprintClassifier
from ._classifier_cv import ImprintClassifierCV
from ._rejection import Rejection

__all__ = ["ImprintClassifier", "ImprintClassifierCV", "Rejection"]
