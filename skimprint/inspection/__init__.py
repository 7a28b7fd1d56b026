"""Look at what a classifier has learnt and why it decides as it does."""

from ._report import Report, report

__all__ = ["Report", "report"]
