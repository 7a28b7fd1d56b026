"""Look at what a classifier has learnt and why it decides as it does."""

from ._displays import (
    CollapseDisplay,
    ExplanationDisplay,
    FamiliarityDisplay,
    ProxyDisplay,
)
from ._report import Report, report

__all__ = [
    "CollapseDisplay",
    "ExplanationDisplay",
    "FamiliarityDisplay",
    "ProxyDisplay",
    "Report",
    "report",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # files name it, wherever its code stands
