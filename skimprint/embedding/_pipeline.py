"""From items to the matrix of their embeddings, each embedded once."""

import contextlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from math import ceil

import numpy as np
from sklearn.utils import gen_batches

from .._arrays.device import to_host
from .._progress import progress_bar
from ._batching import embed_batches
from ._extras import require
from ._inputs import are_at_hand
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
    tell=lambda n_batches: None,
    n_features=None,
):
    """Embed items: those that are alike once, those in the cache not at all.

    Parameters
    ----------
    items : sequence
        From `as_items`.
    backbone : Backbone
        The model.
    batch_size : int
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
    tell : callable, default=lambda n_batches: None
        Is called with a number of batches that are done.
    n_features : int, default=None
        How long rows are if no item can be embedded, where that is known.

    Returns
    -------
    X_embedded : array of shape (n_items, n_features)
        One row for each item, NaN where ``on_error="skip"`` skipped it.
    """
    salt, cache_of_run = None, contextlib.nullcontext()
    if cache_dir is not None:
        from ._cache import EmbeddingCache  # not every Python has SQLite

        salt = bytes.fromhex(backbone.digest())
        cache_of_run = EmbeddingCache(cache_dir)
    matrix, n_embedded = _Matrix(len(items), output, backbone.device), 0
    with (
        cache_of_run as cache,
        progress_bar(len(items), backbone.name, verbose=verbose) as advance,
    ):
        run = _Run(items, matrix, cache, salt, on_error)
        if cache is None and on_error == "raise" and are_at_hand(items):
            run.check(backbone.source(items))
        for start in range(0, len(items), WINDOW):
            window = range(start, min(start + WINDOW, len(items)))
            source = backbone.source(items)  # which remembers keys of files
            new, again = run.identify(source, window, n_workers)
            missing = run.look_up(new)
            advance(len(window) - len(missing))
            batches = embed_batches(
                backbone, source, missing, batch_size=batch_size, n_workers=n_workers
            )
            # Closed at once, so that an error does not keep the model from its owner.
            with contextlib.closing(batches):
                for indices, rows, failed in batches:
                    run.keep(indices, rows, failed, new)
                    n_done = len(indices) + len(failed)
                    advance(n_done)
                    # A batch that was halved comes in parts.
                    before = ceil(n_embedded / batch_size)
                    n_embedded += n_done
                    tell(ceil(n_embedded / batch_size) - before)
            run.repeat(again)
            run.remarks.update(source.remarks)

    if cache is not None and n_embedded and backbone.digest() != salt.hex():
        backbone.warn_of_change()
    if run.remarks:
        _warn_of_items(run.remarks, items, "were scaled by their own range of values")
    if run.failures:
        what = "could not be embedded and have rows of NaN"
        _warn_of_items(run.failures, items, what)
    return matrix.take(sorted(run.failures), n_features)


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


class _Run:
    """One call of `embed_items`, and what it has found out about the items.

    Parameters
    ----------
    items : sequence
        The items.
    matrix : _Matrix
        Gets their rows.
    cache : EmbeddingCache or None
        Has rows of before, and gets new ones.
    salt : bytes or None
        What tells keys of this model from those of others in the cache.
    on_error : {"raise", "skip"}
        What to do about items that cannot be embedded.

    Attributes
    ----------
    failures, remarks : dict of {int: str}
        Why items have no row, and in which way others were understood.
    """

    def __init__(self, items, matrix, cache, salt, on_error):
        self.items, self.matrix = items, matrix
        self.cache, self.salt = cache, salt
        self.on_error = on_error
        self.failures, self.remarks = {}, {}
        self.first = {}  # of each key, the first item that has it

    def fail(self, index, error):
        """Raise the error of an item, or remember it."""
        if self.on_error == "raise":
            raise type(error)(
                f"Item {index}, {_describe(self.items, index)}, cannot be embedded: "
                f"{str(error).rstrip('.')}. on_error='skip' gives such items rows of "
                "NaN."
            ) from error.__cause__
        self.failures[index] = str(error)

    def check(self, source):
        """Look at all items before an error would lose the rows of those before it."""
        for index in range(len(self.items)):
            try:
                source.check(index)
            except Exception as error:
                self.fail(index, item_error(error, "reading it"))

    def identify(self, source, window, n_workers):
        """Find what items are.

        Returns
        -------
        new : dict of {int: object}
            The keys of items that are the first of their kind.
        again : dict of {int: int}
            The first of their kind, for all others.
        """
        keys = {}

        def identify(indices):
            for index in indices:
                try:
                    keys[index] = source.identify(index, self.salt)
                except Exception as error:
                    self.fail(index, item_error(error, "reading it"))

        if n_workers == 0 or self.salt is None:
            identify(window)
        else:
            some = [window[part] for part in gen_batches(len(window), 32)]
            with ThreadPoolExecutor(n_workers, "skimprint-identify") as pool:
                list(pool.map(identify, some))
        if self.cache is not None:
            self.first.clear()  # the cache knows those before, and holds no memory
        new, again = {}, {}
        for index, key in sorted(keys.items()):
            if self.first.setdefault(key, index) == index:
                new[index] = key
            else:
                again[index] = self.first[key]
        return new, again

    def look_up(self, keys):
        """Set the rows that are in the cache; return the items that are not."""
        if self.cache is None:
            return list(keys)
        found = self.cache.get(list(keys.values()))
        hits = [index for index, key in keys.items() if key in found]
        self.matrix.put_bytes(hits, [found[keys[index]] for index in hits])
        return [index for index, key in keys.items() if key not in found]

    def keep(self, indices, rows, failed, keys):
        """Set the rows of a batch, and store them."""
        if indices and (why := self.matrix.misfit({rows.shape[1]})):
            indices, failed = [], dict.fromkeys(indices, ItemError(why)) | failed
        if indices:
            rows = self.matrix.put(indices, rows)
            if self.cache is not None:
                values = [row.tobytes() for row in to_host(rows)]
                self.cache.put([keys[index] for index in indices], values)
        for index, error in failed.items():
            self.fail(index, error)

    def repeat(self, again):
        """Set the rows of items that are the same as others, or skip them, too."""
        for index, original in again.items():
            if original in self.failures:
                self.failures[index] = self.failures[original]
        self.matrix.copy([*again], [*again.values()])


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
        """Set rows that come from the cache."""
        if not places:
            return
        if why := self.misfit({len(row) // 4 for row in rows}, "the cache holds"):
            raise ValueError(f"The {why}.")
        rows = np.frombuffer(b"".join(rows), dtype=np.float32).reshape(len(places), -1)
        self.put(places, rows)

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
