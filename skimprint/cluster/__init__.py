"""Cluster many groups at once."""

from ._grouped_kmeans import GroupedKMeans

__all__ = ["GroupedKMeans"]
