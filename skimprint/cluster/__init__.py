"""Cluster many groups at once."""

from ._grouped_kmeans import GroupedKMeans

__all__ = ["GroupedKMeans"]

GroupedKMeans.__module__ = __name__  # files name it, wherever its code stands
