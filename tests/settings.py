"""Settings of classifiers that tests share."""

from skimprint import ImprintClassifier

# Similarities of normalised embeddings, and nothing that is chosen: what most
# identities are about.
PLAIN = {
    "support_norm": "l2",
    "query_norm": "l2",
    "whitening": None,
    "mean_weight": 0.0,
    "temperature": 1.0,
}


def plain_classifier(*args, **params):
    """Make a classifier that compares embeddings as they are."""
    return ImprintClassifier(*args, **PLAIN | params)


def spelt(params):
    """Name a test by its parameters, in the same way in each process."""
    return ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in params.items())
