"""Settings of classifiers that tests share."""

import numpy as np

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


def first_rows(X_c, n_proxies, random_state):
    """A generator of a user's."""
    return X_c[:n_proxies]


def means_of_classes(similarities, proxy_classes):
    """An aggregation of a user's."""
    each = range(proxy_classes.max() + 1)
    means = [similarities[:, proxy_classes == c].mean(axis=1) for c in each]
    return np.stack(means, axis=1)
