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

for _cls in (
    CollapseDisplay,
    ExplanationDisplay,
    FamiliarityDisplay,
    ProxyDisplay,
    Report,
):
    _cls.__module__ = __name__
