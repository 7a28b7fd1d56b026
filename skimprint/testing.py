"""Checks that every embedder must pass, for our tests and for yours."""

import copy
import pickle
import warnings

import joblib
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone


def check_embedder(embedder, items, *, rtol=1e-4, atol=1e-5):
    """Check that a transformer embeds items as pipelines and searches expect it to.

    It must work before `fit`; give one finite float32 row for each item, the same for
    the same item however items are batched, ordered or repeated; share its model with
    clones; come back from a pickle; name its features; and leave the items, the model,
    if it is a ``torch.nn.Module``, and the parameters as they were.

    Parameters
    ----------
    embedder : transformer
        Like `~skimprint.FoundationEmbedder`, with NumPy output.
    items : list
        At least three different items that it embeds.
    rtol : float, default=1e-4
        Relative tolerance between embeddings of the same item.
    atol : float, default=1e-5
        Absolute tolerance, for embeddings scaled to a maximum of 1.

    Raises
    ------
    AssertionError
        If a check fails; the message says which.

    See Also
    --------
    skimprint.FoundationEmbedder : The embedder that this package brings.

    Examples
    --------
    >>> from skimprint import FoundationEmbedder
    >>> from skimprint.testing import check_embedder
    >>> def lengths(texts):
    ...     return [[len(text), text.count(" ")] for text in texts]
    >>> embedder = FoundationEmbedder(lengths, modality="text")
    >>> check_embedder(embedder, ["one", "one and two", "three"])
    """
    items = list(items)
    if len(items) < 3:
        raise ValueError(f"check_embedder needs at least 3 items, got {len(items)}.")
    parameters = dict(embedder.get_params(deep=False))
    state = _state_of(parameters.get("model"))
    contents = [_content_of(item) for item in items]
    expected = embedder.transform(items)

    scale = np.abs(expected).max()
    _check_rows(expected, len(items))

    def check_same(actual, rows, what):
        assert_allclose(
            actual / scale, rows / scale, rtol=rtol, atol=atol, err_msg=what
        )

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _check_order_and_batches(embedder, items, expected, check_same)
        _check_containers(embedder, items, expected, check_same)
        _check_fit(embedder, items, expected, check_same)
        _check_copies(embedder, items, expected, check_same)
        _check_feature_names(embedder, items, expected)
    _check_errors(embedder)
    after = embedder.get_params(deep=False)
    assert parameters.keys() == after.keys(), "the parameters changed"
    assert all(parameters[name] is after[name] for name in after), (
        "transform changed a parameter"
    )
    assert _state_of(after.get("model")) == state, "transform changed the model"
    for index, (item, content) in enumerate(zip(items, contents, strict=True)):
        assert _content_of(item) == content, f"transform changed item {index}"


def _state_of(model):
    """Digest of the weights and modes of a module; None for any other model."""
    if not hasattr(model, "state_dict"):
        return None
    weights = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    return joblib.hash((weights, [module.training for module in model.modules()]))


def _content_of(item):
    """Digest of what an item holds; None if that cannot be told."""
    if hasattr(item, "detach"):
        item = str(item.dtype), item.detach().cpu().double().numpy()
    elif hasattr(item, "mode") and hasattr(item, "tobytes"):  # a PIL image
        item = item.mode, item.size, item.tobytes()
    try:
        return joblib.hash(item)
    except Exception:  # what cannot be pickled, for reasons of many kinds
        return None


def _check_rows(rows, n_items):
    assert isinstance(rows, np.ndarray), f"transform returned {type(rows).__name__}"
    assert rows.ndim == 2, f"transform returned an array of shape {rows.shape}"
    assert len(rows) == n_items, f"{n_items} items gave {len(rows)} rows"
    assert rows.dtype == np.float32, f"embeddings are {rows.dtype}, not float32"
    assert np.isfinite(rows).all(), "embeddings hold NaN or infinity"
    assert len(np.unique(rows, axis=0)) > 1, "different items have the same embedding"


def _check_order_and_batches(embedder, items, expected, check_same):
    check_same(embedder.transform(items[::-1])[::-1], expected, "order matters")
    singles = np.vstack([embedder.transform([item]) for item in items])
    check_same(singles, expected, "an item alone is embedded differently")
    repeated = embedder.transform([*items, *items, items[0]])
    check_same(
        repeated, np.vstack([expected, expected, expected[:1]]), "repetition matters"
    )
    assert_array_equal(
        repeated[: len(items)], repeated[len(items) : -1], "duplicates differ"
    )


def _check_containers(embedder, items, expected, check_same):
    check_same(
        embedder.transform(tuple(items)), expected, "a tuple differs from a list"
    )
    array = np.empty(len(items), dtype=object)
    array[:] = items
    check_same(embedder.transform(array), expected, "an array differs from a list")


def _check_fit(embedder, items, expected, check_same):
    fitted = clone(embedder)
    assert fitted.fit(items) is fitted, "fit must return self"
    check_same(fitted.transform(items), expected, "fit changes what transform returns")
    check_same(
        clone(embedder).fit_transform(items, [0] * len(items)),
        expected,
        "fit_transform differs from transform",
    )
    assert fitted.n_features_out_ == expected.shape[1], "n_features_out_ is wrong"


def _check_copies(embedder, items, expected, check_same):
    cloned = clone(embedder)
    assert cloned.get_params(deep=False).get("model") is embedder.get_params(
        deep=False
    ).get("model"), "clone copies the model"
    check_same(cloned.transform(items), expected, "a clone embeds differently")
    try:
        pickled = pickle.dumps(embedder)
    except (AttributeError, pickle.PicklingError, TypeError):
        # A lambda, or a class defined in a function: for its owner to pickle.
        copied = copy.copy(embedder)
    else:
        copied = pickle.loads(pickled)
    check_same(copied.transform(items), expected, "a copy embeds differently")


def _check_feature_names(embedder, items, expected):
    names = clone(embedder).fit(items).get_feature_names_out()
    assert len(names) == expected.shape[1] == len(set(names)), "feature names are wrong"


def _check_errors(embedder):
    for wrong in ([], "one item that is not in a list"):
        try:
            embedder.transform(wrong)
        except ValueError:
            continue
        raise AssertionError(f"transform must raise a ValueError for X={wrong!r}")
