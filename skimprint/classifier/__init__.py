"""The estimators: parameters, learning and predictions."""

from ._classifier import ImprintClassifier
from ._classifier_cv import ImprintClassifierCV
from ._rejection import Rejection

__all__ = ["ImprintClassifier", "ImprintClassifierCV", "Rejection"]

for _cls in (ImprintClassifier, ImprintClassifierCV, Rejection):
    _cls.__module__ = "skimprint"  # files name it, wherever its code stands
