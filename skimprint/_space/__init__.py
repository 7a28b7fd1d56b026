"""The space of the embeddings: moments, whitening, leave-one-out."""
