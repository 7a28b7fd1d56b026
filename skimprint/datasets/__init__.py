"""Load real embeddings and real sentences that ship with the package."""

from ._digits import load_digits_embeddings
from ._intents import load_intents

__all__ = ["load_digits_embeddings", "load_intents"]
