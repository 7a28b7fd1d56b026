"""What there is to inspect: a classifier, alone or at the end of a pipeline."""

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ..classifier import ImprintClassifier


def split_estimator(estimator):
    """Find the classifier in an estimator, and what embeds items for it.

    Parameters
    ----------
    estimator : ImprintClassifier, Pipeline or search
        Fitted. Of a search, the best estimator is taken.

    Returns
    -------
    embed : callable or None
        From items to embeddings; `None` where the estimator takes embeddings.
    classifier : ImprintClassifier
        What predicts.

    Raises
    ------
    TypeError
        If there is no `ImprintClassifier`.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)
    embed, classifier = None, estimator
    if isinstance(estimator, Pipeline):
        embed, classifier = estimator[:-1].transform, estimator[-1]
    classifier = getattr(classifier, "best_estimator_", classifier)
    if not isinstance(classifier, ImprintClassifier):
        raise TypeError(
            "expected an ImprintClassifier, or a pipeline or a search that ends with "
            f"one; got {type(classifier).__name__}."
        )
    check_is_fitted(classifier)
    return embed, classifier


def embedded(embed, X):
    """Embed items, or make an array of what is embeddings already."""
    return np.asarray(X) if embed is None else np.asarray(embed(X))


def check_labels_fit(X, y, name="y"):
    """Make a list of labels, one for each sample."""
    labels = np.asarray(y).tolist()
    if len(labels) != len(X):
        raise ValueError(
            f"{name} must have a label for each of {len(X)} samples; got {len(labels)}."
        )
    return labels
