"""Checks that every embedder and every part must pass, for our tests and for yours."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import sys
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import ArrayLike
from sklearn.base import clone

from .classifier import ImprintClassifier, Rejection
from .generation import make_generator

__all__ = ["check_classifier", "check_embedder"]

# Queries that are scored one by one.
_FEW_QUERIES = 20


def check_classifier(
    classifier: ImprintClassifier,
    X: ArrayLike,
    y: ArrayLike,
    *,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> None:
    """Check that parts of one's own keep what `~skimprint.ImprintClassifier` promises.

    A generator must make the proxies of a class of its own samples and the seed alone:
    the same bits whatever other classes there are, in whatever order, and in threads.
    So classes can be learnt later and forgotten. Its ``selects`` must say whether they
    are samples. A norm must treat each row by itself, a metric and an aggregation each
    query. All of them must come back from a pickle, and go on where a sample is left
    out.

    Parameters
    ----------
    classifier : ImprintClassifier
        Has the parts among its parameters; a ``head`` is left away.
    X : array-like of shape (n_samples, n_features)
        Embeddings such as the parts are made for.
    y : array-like of shape (n_samples,)
        Their labels: at least three classes, best with more samples than proxies.
    rtol : float, default=1e-4
        Relative tolerance between scores of the same query.
    atol : float, default=1e-5
        Absolute tolerance.

    Raises
    ------
    AssertionError
        If a check fails; the message says which.
    TypeError
        If there is no such classifier to check.

    See Also
    --------
    skimprint.generation.ProxyGenerator : Says how a generator is written.

    Examples
    --------
    >>> import numpy as np
    >>> from skimprint import ImprintClassifier
    >>> from skimprint.datasets import load_digits_embeddings
    >>> from skimprint.testing import check_classifier
    >>> X, y = load_digits_embeddings(return_X_y=True)
    >>> def medians(X_c, n_proxies, random_state):
    ...     return np.median(X_c, axis=0, keepdims=True)
    >>> check_classifier(ImprintClassifier(medians, n_proxies=1), X[:200], y[:200])
    """
    _check_assertions()
    if not isinstance(classifier, ImprintClassifier):
        raise TypeError(
            "classifier must be an ImprintClassifier that has the parts as parameters; "
            f"got {classifier!r}."
        )
    X, y = np.array(X), np.array(y)
    labels = np.unique(y)
    if len(labels) < 3:
        raise ValueError(f"check_classifier needs at least 3 classes, got {labels}.")
    X.flags.writeable = False
    clf = clone(classifier).set_params(head=None, random_state=0).fit(X, y)
    _check_same_proxies(clf, X, y)
    _check_each_query(clf, X, rtol, atol)
    if not make_generator(clf.generator).combines:  # as it says, on purpose
        _check_each_class(clf, X, y, labels)
        _check_left_out(clf, X, y, labels)


def _check_same_proxies(clf, X, y):
    again = {
        "another fit": clone(clf).fit(X, y),
        "n_jobs=2": clone(clf).set_params(n_jobs=2).fit(X, y),
        "a pickle": _from_pickle(clf),
    }
    for name, other in again.items():
        assert_array_equal(
            other.proxies_, clf.proxies_, f"{name} does not have the same proxies"
        )


def _from_pickle(estimator):
    """Read an estimator from its pickle; a copy of what cannot be pickled."""
    try:
        pickled = pickle.dumps(estimator)
    except (AttributeError, pickle.PicklingError, TypeError):
        # A lambda, or a class defined in a function: for its owner to pickle.
        return copy.copy(estimator)
    return pickle.loads(pickled)


def _check_each_class(clf, X, y, labels):
    """Check that proxies, as they are generated, are those of a class alone."""
    plain = clone(clf).set_params(
        support_norm=clf.support_norm_,
        proxy_norm=None,
        whitening=None,
        mean_weight=0.0,
        kernel_weight=0.0,
        temperature=1.0,
        rejection=None,
    )
    whole = clone(plain).fit(X, y)
    turned = np.concatenate([np.flatnonzero(y == label) for label in labels[::-1]])
    is_last = y == labels[-1]
    others = {
        "in another order": clone(plain).fit(X[turned], y[turned]),
        "learnt later": clone(plain)
        .fit(X[~is_last], y[~is_last])
        .partial_fit(X[is_last], y[is_last]),
        "beside a class that is forgotten": copy.copy(whole).forget(labels[:1]),
        "alone": clone(plain).fit(X[is_last], y[is_last]),
    }
    for name, other in others.items():
        for label in other.classes_:
            assert_array_equal(
                other.proxies_[other.proxy_labels_ == label],
                whole.proxies_[whole.proxy_labels_ == label],
                f"the proxies of class {label!r} are others {name}",
            )


def _check_left_out(clf, X, y, labels):
    """Check that parts go on where samples are left out of the proxies."""
    chosen = {"temperature": "auto", "rejection": Rejection(labels[0])}
    judged = clone(clf).set_params(**chosen).fit(X, y)
    head = judged._fitted.scorer.head
    stand_for_all = np.allclose(np.bincount(head.codes, head.counts), clf.class_count_)
    message = "selects must be True where proxies are samples and stand for no others"
    assert head.generator.selects or stand_for_all, message
    assert 0 < judged.temperature_ < np.inf, "temperature_ is not a positive number"
    assert judged.rejection_threshold_ < np.inf, "rejection_threshold_ is not a number"


def _check_each_query(clf, X, rtol, atol):
    for name in ("decision_function", "predict_proba", "score_samples"):
        score = getattr(clf, name)
        expected = score(X)
        assert np.isfinite(expected).all(), f"{name} holds NaN or infinity"
        singles = np.concatenate([score(X[[i]]) for i in range(len(X))[:_FEW_QUERIES]])
        found = {
            "alone": (singles, expected[:_FEW_QUERIES]),
            "in another order": (score(X[::-1])[::-1], expected),
            "for the second time": (score(X), expected),
        }
        for how, (scores, wanted) in found.items():
            message = f"{name} differs for queries {how}"
            assert_allclose(scores, wanted, rtol=rtol, atol=atol, err_msg=message)


def _check_assertions():
    """Refuse to check without assertions, which would find nothing wrong."""
    if not __debug__:
        raise RuntimeError("Checks are assertions: run Python without -O.")


def check_embedder(
    embedder: Any,
    items: Iterable[Any],
    *,
    bad_item: Any = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> None:
    """Check that a transformer embeds items as pipelines and searches expect it to.

    It must work before `fit`; give one finite float32 row for each item, the same for
    the same item however items are batched, ordered or repeated (without its cache too,
    if it has a parameter ``cache_dir``), whether by one object or by many, in several
    threads and (unless torch is behind it, which may not survive that) after a fork;
    share its model with clones; come back from a pickle, which of a named model holds
    nothing of torch; name its features; name one bad item among good ones, or skip it,
    if it has a parameter ``on_error``; and leave the items, the model, if it is a
    ``torch.nn.Module``, and the parameters as they were.

    Parameters
    ----------
    embedder : transformer
        Like `~skimprint.FoundationEmbedder`, with NumPy output.
    items : list
        At least three different items that it embeds.
    bad_item : object, default=None
        An item that it does not embed. None is one, for most embedders; those without a
        parameter ``on_error`` are not asked to embed it.
    rtol : float, default=1e-4
        Relative tolerance between embeddings of the same item.
    atol : float, default=1e-5
        Absolute tolerance, for embeddings scaled to a maximum of 1.

    Raises
    ------
    AssertionError
        If a check fails; the message says which.
    TypeError
        If there is no transformer to check.

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
    _check_assertions()
    is_transformer = hasattr(embedder, "get_params") and hasattr(embedder, "transform")
    if isinstance(embedder, type) or not is_transformer:
        raise TypeError(
            "embedder must be a transformer, such as a FoundationEmbedder around a "
            f"function; got {embedder!r}."
        )
    items = list(items)
    if len(items) < 3:
        raise ValueError(f"check_embedder needs at least 3 items, got {len(items)}.")
    parameters = dict(embedder.get_params(deep=False))
    state = _state_of(parameters.get("model"))
    contents = [_content_of(item) for item in items]
    expected = embedder.transform(items)

    scale = np.abs(expected).max()
    _check_rows(expected, len(items))

    def check_same(rows, what, places=slice(None)):
        """Compare rows with those of the items, or of some of them in their order."""
        found, wanted = rows / scale, expected[places] / scale
        assert_allclose(found, wanted, rtol=rtol, atol=atol, err_msg=what)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        uncached = embedder
        if parameters.get("cache_dir") is not None:  # it gives the first rows again
            uncached = clone(embedder).set_params(cache_dir=None)
        _check_order_and_batches(uncached, items, check_same)
        _check_containers(embedder, items, check_same)
        _check_fit(embedder, items, check_same, expected.shape[1])
        _check_copies(embedder, items, check_same)
        _check_workers(embedder, items, check_same)
        _check_threads(embedder, items, check_same)
        _check_fork(embedder, items, check_same)
    _check_errors(embedder)
    _check_bad_item(embedder, items, check_same, bad_item)
    after = embedder.get_params(deep=False)
    assert parameters.keys() == after.keys(), "the parameters changed"
    assert all(parameters[name] is after[name] for name in after), (
        "transform changed a parameter"
    )
    assert _state_of(after.get("model")) == state, "transform changed the model"
    for index, (item, content) in enumerate(zip(items, contents, strict=True)):
        assert _content_of(item) == content, f"transform changed item {index}"


def _state_of(model):
    """Digest the weights and modes of a module; None for any other model."""
    if not hasattr(model, "state_dict"):
        return None
    weights = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    return joblib.hash((weights, [module.training for module in model.modules()]))


def _content_of(item):
    """Digest what an item holds; None if that cannot be told."""
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


def _check_order_and_batches(embedder, items, check_same):
    check_same(embedder.transform(items[::-1])[::-1], "order matters")
    singles = np.vstack([embedder.transform([item]) for item in items])
    check_same(singles, "an item alone is embedded differently")
    repeated = embedder.transform([*items, *items, items[0]])
    places = np.arange(len(repeated)) % len(items)
    check_same(repeated, "repetition matters", places)
    assert_array_equal(
        repeated[: len(items)], repeated[len(items) : -1], "duplicates differ"
    )


def _check_containers(embedder, items, check_same):
    check_same(embedder.transform(tuple(items)), "a tuple differs from a list")
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):  # all at once, NumPy would look into tensors
        array[index] = item
    check_same(embedder.transform(array), "an array differs from a list")


def _check_fit(embedder, items, check_same, n_features):
    fitted = clone(embedder)
    assert fitted.fit(items) is fitted, "fit must return self"
    check_same(fitted.transform(items), "fit changes what transform returns")
    rows = clone(embedder).fit_transform(items, [0] * len(items))
    check_same(rows, "fit_transform differs from transform")
    assert fitted.n_features_out_ == n_features, "n_features_out_ is wrong"
    names = fitted.get_feature_names_out()
    assert len(names) == n_features == len(set(names)), "feature names are wrong"


def _check_copies(embedder, items, check_same):
    cloned = clone(embedder)
    model = embedder.get_params(deep=False).get("model")
    shared = cloned.get_params(deep=False).get("model") is model
    assert shared or hasattr(model, "get_params"), "clone copies the model"
    check_same(cloned.transform(items), "a clone embeds differently")
    check_same(_from_pickle(embedder).transform(items), "a copy embeds differently")

    if isinstance(model, str):
        reader = _Unpickler(io.BytesIO(pickle.dumps(cloned.fit(items))))
        reader.load()
        assert "torch" not in reader.libraries, (
            "a pickle of a named model needs torch to be read"
        )


class _Unpickler(pickle.Unpickler):
    """Notes what a pickle imports."""

    def __init__(self, file):
        super().__init__(file)
        self.libraries = set()

    def find_class(self, module_name, global_name):
        self.libraries.add(module_name.partition(".")[0])
        return super().find_class(module_name, global_name)


def _check_errors(embedder):
    for wrong in ([], "one item that is not in a list"):
        try:
            embedder.transform(wrong)
        except ValueError:
            continue
        raise AssertionError(f"transform must raise a ValueError for X={wrong!r}")


def _check_workers(embedder, items, check_same):
    """Check that threads share out items, the same objects many times over."""
    if "n_workers" not in embedder.get_params(deep=False):
        return
    working = clone(embedder).set_params(n_workers=2, batch_size=2)
    places = np.tile(np.arange(len(items)), 5)
    rows = working.transform([items[place] for place in places])
    check_same(rows, "workers matter, or repeated objects", places)


def _check_threads(embedder, items, check_same):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: embedder.transform(items), range(4)))
    for rows in results:
        check_same(rows, "threads that use one embedder disturb each other")


def _check_fork(embedder, items, check_same, timeout=120):
    """Check that a process that is forked embeds, too."""
    if sys.platform != "linux":
        return  # elsewhere, libraries of the system do not survive a fork
    if getattr(clone(embedder).fit(items), "device_", None) is not None:
        return  # nor does torch, once several threads have used it
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(embedder.transform(items)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads
        child.start()
    sender.close()
    try:
        ready = receiver.poll(timeout)
        rows = receiver.recv() if ready else None
    except EOFError:
        raise AssertionError("transform fails after a fork") from None
    finally:
        child.kill()
        child.join()
    assert ready, f"transform does not end within {timeout} s after a fork"
    check_same(rows, "an item is embedded differently after a fork")


def _check_bad_item(embedder, items, check_same, bad_item):
    """Check that one bad item is named, or skipped, and the others embedded."""
    if "on_error" not in embedder.get_params(deep=False):
        return
    if getattr(clone(embedder).fit(items), "modality_", None) == "any":
        return  # a callable takes what it is given
    mixed = [*items[:1], bad_item, *items[1:]]
    has_workers = "n_workers" in embedder.get_params(deep=False)
    for changed in [{"n_workers": n} for n in (0, 2)] if has_workers else [{}]:
        raising = clone(embedder).set_params(on_error="raise", **changed)
        try:
            raising.transform(mixed)
            message = None
        except ValueError as error:
            message = str(error)
        assert message is not None, "transform must raise a ValueError for a bad item"
        assert "Item 1" in message, f"the bad item is not named: {message}"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows = raising.set_params(on_error="skip").transform(mixed)
        assert caught, "items are skipped without a warning"
        assert np.isnan(rows[1]).all(), "a skipped item must have a row of NaN"
        check_same(np.delete(rows, 1, 0), "a bad item spoils good ones")
