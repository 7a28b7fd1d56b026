"""From items to the matrix of their embeddings, each embedded once."""

import contextlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from math import ceil

import numpy as np
from sklearn.utils import gen_batches

from .._arrays.device import to_host
from .._progress import progress_bar
from ._batching import embed_batches, initial_batch_size, not_finite
from ._extras import require
from ._items import WINDOW, ItemError, describe, item_error


def embed_items(
    items,
    backbone,
    *,
    batch_size,
    n_workers,
    cache_dir,
    on_error,
    output,
    verbose,
    notify=None,
    n_features=None,
):
    """Embed items: those that are alike once, those in the cache not at all.

    Parameters
    ----------
    items : sequence
        From `as_items`.
    backbone : Backbone
        The model.
    batch_size : int or "auto"
        Most items in a batch.
    n_workers : int
        Threads that read and prepare items ahead of the model.
    cache_dir : path-like or None
        Where embeddings are kept.
    on_error : {"raise", "skip"}
        What to do about items that cannot be embedded.
    output : {"numpy", "torch", "cupy"}
        Kind of the matrix; the latter two stay on the model's device.
    verbose : int
        Whether to show progress.
    notify : callable, default=None
        From a number of batches to a context manager around them. What it gives, unless
        `None`, is called with a number of batches that are done.
    n_features : int, default=None
        How long rows are if no item can be embedded, where that is known.

    Returns
    -------
    X_embedded : array of shape (n_items, n_features)
        One row for each item, NaN where ``on_error="skip"`` skipped it.
    """
    salt = None if cache_dir is None else bytes.fromhex(backbone.digest())
    size = initial_batch_size(batch_size, backbone.device, backbone.modality)
    matrix = _Matrix(len(items), output, backbone.device)
    first = {}  # of each key, the first item that has it
    notes, failures = {}, {}
    n_embedded = 0
    cache_of_run = contextlib.nullcontext()
    if salt is not None:
        from ._cache import EmbeddingCache  # not every Python has SQLite

        cache_of_run = EmbeddingCache(cache_dir)
    with (
        cache_of_run as cache,
        progress_bar(len(items), backbone.name, verbose=verbose) as advance,
        contextlib.ExitStack() as telling,
    ):
        tell = None
        for start in range(0, len(items), WINDOW):
            if cache is not None:
                first.clear()  # the cache knows them, and holds no memory
            window = range(start, min(start + WINDOW, len(items)))
            source = backbone.source(items)  # which remembers digests of files
            keys = _identify(source, window, salt, n_workers, failures, on_error)
            new, again = _split(keys, first)
            missing = list(new) if cache is None else _from_cache(cache, new, matrix)
            advance(len(window) - len(missing))
            if notify is not None and start == 0:
                most = len(missing) + len(items) - len(window)
                tell = telling.enter_context(notify(ceil(most / size)))
            batches = embed_batches(
                backbone, source, missing, batch_size=size, n_workers=n_workers
            )
            # Closed at once, so that an error does not keep the model from its owner.
            with contextlib.closing(batches):
                for indices, rows, failed in batches:
                    if indices and (why := matrix.misfit({rows.shape[1]})):
                        failed = {index: ItemError(why) for index in indices} | failed
                        indices = []
                    if indices:
                        rows = matrix.put(indices, rows)
                        if cache is not None:
                            names = [new[index] for index in indices]
                            cache.put(names, [row.tobytes() for row in to_host(rows)])
                    for index, error in failed.items():
                        if on_error == "raise":
                            _raise(index, error, items)
                        failures[index] = str(error)
                    n_done = len(indices) + len(failed)
                    advance(n_done)
                    if tell is not None:  # a batch that was halved comes in parts
                        before = ceil(n_embedded / size)
                        tell(ceil((n_embedded + n_done) / size) - before)
                    n_embedded += n_done
            originals = [first[keys[index]] for index in again]
            # An item that is skipped takes along those that are the same.
            for index, original in zip(again, originals, strict=True):
                if original in failures:
                    failures[index] = failures[original]
            matrix.copy(again, originals)
            notes.update(source.notes)

    if cache is not None and n_embedded and backbone.digest() != salt.hex():
        backbone.warn_of_change()
    if notes:
        _warn_of_items(notes, items, "were scaled by their own range of values")
    if failures:
        what = "could not be embedded and have rows of NaN"
        _warn_of_items(failures, items, what)
    return matrix.take(sorted(failures), n_features)


def first_row(items, backbone, *, on_error, **settings):
    """Embed the first item that can be, to see how long a row is.

    Parameters
    ----------
    items : sequence
        From `as_items`.
    backbone : Backbone
        The model.
    on_error : {"raise", "skip"}
        Whether the first item must do.
    **settings : dict
        As for `embed_items`.

    Returns
    -------
    X_embedded : array of shape (1, n_features)
        The row of one item.
    """
    for index in range(len(items)):
        try:
            return embed_items([items[index]], backbone, on_error="raise", **settings)
        except ItemError:
            if on_error == "raise":
                raise
    return embed_items(items, backbone, on_error=on_error, **settings)  # says why not


def _identify(source, window, salt, n_workers, failures, on_error):
    """Find the key of each item that can be read, and why the others cannot."""
    keys, same, seen = {}, {}, {}
    # What may have state, such as a picture that is not read yet, is asked once.
    for index in window:
        mark = source.mark(index)
        if mark is not None and seen.setdefault(mark, index) != index:
            same[index] = seen[mark]
    distinct = [index for index in window if index not in same]

    def identify(indices):
        for index in indices:
            try:
                keys[index] = source.identify(index, salt)
            except Exception as error:
                error = item_error(error, "reading it")
                if on_error == "raise":
                    _raise(index, error, source.items)
                failures[index] = str(error)

    if n_workers == 0 or salt is None:
        identify(distinct)
    else:
        some = [distinct[part] for part in gen_batches(len(distinct), 32)]
        with ThreadPoolExecutor(n_workers, "skimprint-identify") as pool:
            list(pool.map(identify, some))
    for index, original in same.items():
        if original in keys:
            keys[index] = keys[original]
        else:
            failures[index] = failures[original]
    return {index: keys[index] for index in window if index in keys}


def _split(keys, first):
    """Tell items whose key is new from those that are the same as an earlier one."""
    new, again = {}, []
    for index, key in keys.items():
        if first.setdefault(key, index) == index:
            new[index] = key
        else:
            again.append(index)
    return new, again


def _from_cache(cache, keys, matrix):
    """Set the rows that are in the cache; return the items that are not."""
    found = cache.get(list(keys.values()))
    hits = {index: key for index, key in keys.items() if key in found}
    if not hits:
        return list(keys)
    bad = matrix.put_bytes(list(hits), [found[key] for key in hits.values()])
    missing = keys.keys() - hits.keys() | set(bad)
    return [index for index in keys if index in missing]


class _Matrix:
    """Rows that come in any order, allocated when their width is known.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    output : {"numpy", "torch", "cupy"}
        What `take` returns.
    device : torch.device or None
        Where rows are kept, unless as NumPy.
    """

    def __init__(self, n_rows, output, device):
        self.n_rows = n_rows
        if output != "numpy":
            self._library = require(output, f"output={output!r}")
        self.output = output
        self.device = device
        self.rows = None

    def put_bytes(self, places, rows):
        """Set rows that come from the cache; return the places of bad ones."""
        if why := self.misfit({len(row) // 4 for row in rows}, "the cache holds"):
            raise ValueError(f"The {why}.")
        rows = np.frombuffer(b"".join(rows), dtype=np.float32).reshape(len(places), -1)
        self.put(places, rows)
        return [places[row] for row in not_finite(rows)]

    def misfit(self, widths, source="the model returns"):
        """Say how rows differ in length, if they do, also from those that are there."""
        if self.rows is not None:
            widths.add(self.rows.shape[1])
        if len(widths) == 1:
            return None
        return (
            f"embeddings must have one length: {source} rows of "
            f"{' and '.join(map(str, sorted(widths)))} features. If the model changed, "
            "change its fingerprint too, and call clear_cache()"
        )

    def put(self, places, rows):
        """Set rows, on the host or where they are kept, and return them."""
        rows = to_host(rows) if self.output == "numpy" else self._tensor(rows)
        shape = (self.n_rows, rows.shape[1])
        if self.rows is None:
            is_numpy = self.output == "numpy"
            self.rows = (
                np.empty(shape, np.float32) if is_numpy else rows.new_empty(shape)
            )
        first, stop = places[0], places[-1] + 1
        if stop - first == len(places) and places == [*range(first, stop)]:
            places = slice(first, stop)  # much faster
        self.rows[places] = rows
        return rows

    def copy(self, places, originals):
        """Set rows to others that are there."""
        if places and self.rows is not None:
            self.rows[places] = self.rows[originals]

    def take(self, skipped, n_features):
        """Return the matrix, with NaN in the rows that were skipped."""
        if self.rows is None and n_features is not None:
            self.put(skipped[:1], np.empty((1, n_features), np.float32))
        if self.rows is None:
            raise ValueError(
                "None of the items could be embedded, so that the number of features "
                "is not known. The warning before this error says why."
            )
        if skipped:
            self.rows[skipped] = float("nan")
        if self.output == "cupy":
            if self.rows.is_cuda:
                return self._library.from_dlpack(self.rows)
            return self._library.asarray(self.rows.numpy())
        return self.rows

    def _tensor(self, rows):
        torch = require("torch", f"output={self.output!r}")
        rows = rows.copy() if isinstance(rows, np.ndarray) else rows
        return torch.as_tensor(rows, dtype=torch.float32, device=self.device)


def _describe(items, index):
    try:
        return describe(items[index])
    except Exception:  # of a sequence that reads its items, or an odd object
        return "which cannot be looked at"


def _raise(index, error, items):
    raise type(error)(
        f"Item {index}, {_describe(items, index)}, cannot be embedded: "
        f"{str(error).rstrip('.')}. on_error='skip' gives such items rows of NaN."
    ) from error.__cause__


def _warn_of_items(reasons, items, what, n_reasons=10):
    indices = sorted(reasons)
    some = [
        f"item {index}, {_describe(items, index)}: {reasons[index]}"
        for index in indices[:n_reasons]
    ]
    if len(indices) > n_reasons:
        some.append("...")
    warnings.warn(
        f"{len(indices)} of {len(items)} items {what}: {indices}. " + "; ".join(some),
        UserWarning,
        stacklevel=5,  # past the wrapper that scikit-learn puts around transform
    )
