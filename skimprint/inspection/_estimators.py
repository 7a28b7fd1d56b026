"""What there is to inspect: a classifier, alone or at the end of a pipeline."""

from copy import copy

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import _check_feature_names, check_is_fitted

from .._arrays.device import to_host
from .._validation import joint_label_dtype, stacked, whole_labels
from ..classifier import AdaptedClassifier, ImprintClassifier
from ..classifier._checks import listed_labels
from ..classifier._steps import steps_of


def split_estimator(estimator, *, fitted=True, name="estimator"):
    """Find the classifier in an estimator, and what embeds items for it.

    Parameters
    ----------
    estimator : ImprintClassifier, Pipeline or search
        Fitted. Of a search, the best estimator is taken.
    fitted : bool, default=True
        Whether the classifier itself has to be.
    name : str, default="estimator"
        The parameter.

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
    *before, (_, classifier) = [*steps_of(estimator)] or [(None, estimator)]
    if not isinstance(classifier, ImprintClassifier):
        cure = ""
        if isinstance(classifier, BaseSearchCV):
            cure = " It has a classifier once it has been fitted with refit=True."
        if isinstance(classifier, AdaptedClassifier):
            cure = " Pass its imprint_, what the samples alone say."
        raise TypeError(
            f"{name} must be an ImprintClassifier, or a fitted pipeline or search that "
            f"ends with one; got {type(classifier).__name__}.{cure}"
        )
    if fitted:
        check_is_fitted(classifier)
    return Pipeline(before).transform if before else None, classifier


def embedded(embed, X):
    """Embed items; what is embeddings already stays so, a column of them an array."""
    return stacked(X) if embed is None else embed(X)


def items_in(embed, X):
    """Take what is embedded for items; a table is of features, and has none."""
    is_table = len(getattr(X, "columns", ())) > 1 or issparse(X)
    return None if embed is None or is_table else X


def labels_like(classes, y, n_samples):
    """Make a list of labels, one for each sample, of the type of the classes.

    Those of another type would all be unknown.
    """
    labels = listed_labels(y, n_samples)
    if labels:
        dtype = np.asarray(whole_labels(labels)).dtype
        joint_label_dtype(classes.dtype, classes.tolist(), dtype, labels)
    return labels


def without_names(classifier, *tables):
    """Check the names of features once, to go on with arrays.

    Parameters
    ----------
    classifier : ImprintClassifier
        Fitted, perhaps to a frame.
    *tables : array-like of shape (n, n_features) or None
        Embeddings.

    Returns
    -------
    classifier : ImprintClassifier
        The same, that knows of no names.
    arrays : list of ndarray of shape (n, n_features) or None
        The embeddings.
    """
    for table in tables:
        if table is not None:
            _check_feature_names(classifier, table, reset=False)
    nameless = copy(classifier)
    vars(nameless).pop("feature_names_in_", None)
    # What is sparse the classifier refuses, with a cure.
    return nameless, [
        X if X is None or issparse(X) else np.asarray(to_host(X)) for X in tables
    ]
