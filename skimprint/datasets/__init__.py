"""Real embeddings that ship with the package."""

from ._digits import load_digits_embeddings

__all__ = ["load_digits_embeddings"]
