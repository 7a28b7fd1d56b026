"""Predict and embed dask collections, lazily."""

from copy import copy
from operator import getitem
from typing import Any

import dask.bag
import numpy as np
from dask.delayed import Delayed
from sklearn.utils import Bunch

from .._arrays.device import to_host
from ..classifier import ImprintClassifier
from ..embedding._embedder import FoundationEmbedder
from ..inspection._estimators import without_names
from ._collections import check_items, check_ours, check_rows, in_rows, naming_chunk
from ._graph import Tasks, optimized, parts_of


def predict(model: ImprintClassifier, X: Any) -> Any:
    """Predict the label of each query of a dask collection, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted. Each worker gets it once.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.

    Returns
    -------
    y : dask array of shape (n_samples,)
        In the chunks of ``X``.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.predict(clf, X).compute()
    array(['up', 'right'], dtype='<U5')
    """
    return _of_queries(model, X, "predict")


def predict_proba(model: ImprintClassifier, X: Any) -> Any:
    """Predict class probabilities of a dask collection, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted. What the probabilities need is found at once.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.

    Returns
    -------
    probabilities : dask array of shape (n_samples, n_classes)
        In the chunks of ``X``.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.predict_proba(clf, X).shape
    (2, 2)
    """
    return _of_queries(model, X, "predict_proba")


def decision_function(model: ImprintClassifier, X: Any) -> Any:
    """Score each class for the queries of a dask collection, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.

    Returns
    -------
    scores : dask array of shape (n_samples, n_classes) or (n_samples,)
        As `ImprintClassifier.decision_function` has them.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.decision_function(clf, X).shape
    (2,)
    """
    return _of_queries(model, X, "decision_function")


def score_samples(model: ImprintClassifier, X: Any) -> Any:
    """Tell how familiar each query of a dask collection is, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.

    Returns
    -------
    scores : dask array of shape (n_samples,)
        As `ImprintClassifier.score_samples` has them.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.score_samples(clf, X).shape
    (2,)
    """
    return _of_queries(model, X, "score_samples")


def explain(model: ImprintClassifier, X: Any, *, n_reasons: int = 5) -> Bunch:
    """Explain the class of each query of a dask collection, lazily.

    Parameters
    ----------
    model : ImprintClassifier
        Fitted.
    X : dask array or dask DataFrame of shape (n_samples, n_features)
        The queries.
    n_reasons : int, default=5
        As for `ImprintClassifier.explain`.

    Returns
    -------
    explanation : :class:`~sklearn.utils.Bunch` of dask arrays
        As `ImprintClassifier.explain` has them, in the chunks of ``X``.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import ImprintClassifier
    >>> clf = ImprintClassifier("mean").fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
    >>> X = da.from_array(np.array([[0.0, 2.0], [3.0, 0.1]]), chunks=(1, 2))
    >>> skimprint.dask.explain(clf, X).training_row.compute()
    array([0, 1])
    """
    return _of_queries(model, X, "explain", n_reasons=n_reasons)


def embed(embedder: Any, items: Any) -> Any:
    """Embed the items of a dask collection, lazily.

    Parameters
    ----------
    embedder : FoundationEmbedder
        Fitted, or it has embedded something, so that the width is known. Each worker
        loads the model once; with ``cache_dir``, a folder that all of them see, each
        item is embedded once by all of them.
    items : dask Bag, Series, one-column DataFrame or array, or list of Delayed
        The items. Each of the delayed is to be a list of them.

    Returns
    -------
    X : dask array of shape (n_items, n_features)
        In the partitions of ``items``, of NumPy arrays, whatever the embedder's
        ``output``.

    Raises
    ------
    TypeError
        If this is no embedder, or dask does not hold the items.
    ValueError
        If the embedder does not know how wide its embeddings are.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import skimprint.dask
    >>> from skimprint import FoundationEmbedder
    >>> def lengths(texts):
    ...     return np.array([[len(text), 1.0] for text in texts])
    >>> embedder = FoundationEmbedder(lengths).fit(["some text"])
    >>> texts = da.from_array(np.array(["a", "bc", "def"], object), chunks=2)
    >>> skimprint.dask.embed(embedder, texts).compute()
    array([[1., 1.],
           [2., 1.],
           [3., 1.]], dtype=float32)
    """
    if not isinstance(embedder, FoundationEmbedder):
        raise TypeError(
            f"embedder must be a FoundationEmbedder; got {type(embedder).__name__}."
        )
    n_features = getattr(embedder, "_n_features_out", None)
    if n_features is None:
        raise ValueError(
            "The embedder must know how wide its embeddings are: call fit with an item "
            "first."
        )
    embedder = copy(embedder)  # its parameters may change before it embeds
    like = np.empty((0, n_features), np.float32)
    if (
        isinstance(items, list)
        and items
        and all(isinstance(each, Delayed) for each in items)
    ):
        items = dask.bag.from_delayed(items)
    check_items(items)
    return _of_chunks(_embedded, embedder, items, like)


def _of_queries(model, X, name, **params):
    """Call a method of a model for each chunk of queries."""
    check_ours(model, "model")
    model._check_is_fitted()
    check_rows(X, f"call model.{name}")
    # Of a row of ones: the dtypes, what is found once for all queries, and that rows
    # are too short or too long, where that is known before they are computed.
    width = model.n_features_in_ if np.isnan(X.shape[1]) else X.shape[1]
    ones = np.ones((1, width), getattr(X, "dtype", np.float64))
    if name != "explain":
        model = model.compact()  # has all that workers need, and less to send
    model = copy(model)  # it may learn before its predictions are computed
    nameless, _ = without_names(model)
    like = getattr(nameless, name)(ones, **params)
    return _of_chunks(_called, model, X, like, name, params)


def _of_chunks(function, model, collection, like, *args):
    """Call a function with a model and each chunk; it returns what is like a value."""
    collection, sizes = in_rows(collection)
    [collection] = optimized([collection])
    tasks = Tasks([collection])
    there, like_there = map(tasks.share, (model, like))
    calls = [
        (function, there, number, part, like_there, *args)
        for number, part in enumerate(parts_of(collection))
    ]
    if not isinstance(like, Bunch):
        return tasks.array(calls, sizes, like)
    found = [tasks.add(*call) for call in calls]
    columns = Bunch()
    for key, value in like.items():
        some = Tasks(tasks.delayed(found[:1]))  # with its graph
        columns[key] = some.array([(getitem, one, key) for one in found], sizes, value)
    return columns


def _called(model, number, X, like, name, params):
    """Call a method, or take no rows of what is like its result for a chunk of none."""
    X = X if hasattr(X, "__len__") else list(X)  # a part of a bag
    if len(X):
        with naming_chunk(number):
            return getattr(model, name)(X, **params)
    if isinstance(like, Bunch):
        return Bunch(**{key: value[:0] for key, value in like.items()})
    return like[:0]


def _embedded(embedder, number, items, like):
    """Embed the items of a chunk as a NumPy array."""
    rows = _called(embedder, number, items, like, "transform", {})
    return np.asarray(to_host(rows))
