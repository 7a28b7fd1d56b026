"""From a list of items to the matrix of their embeddings, each embedded once."""

import contextlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from math import ceil

import numpy as np

from ._batching import embed_batches, initial_batch_size
from ._cache import EmbeddingCache
from ._extras import require
from ._inputs import SOURCES, ItemError, describe


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
):
    """Embed items: those that are alike once, those in the cache not at all.

    Parameters
    ----------
    items : list
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

    Returns
    -------
    X_embedded : array of shape (n_items, n_features)
        One row for each item, NaN where ``on_error="skip"`` skipped it.
    """
    source = SOURCES[backbone.modality](items)
    salt = None if cache_dir is None else bytes.fromhex(backbone.digest())
    failures = {}
    keys = _identify(source, len(items), salt, n_workers, failures, on_error)

    first = {}  # of each key, the first item that has it
    for index, key in enumerate(keys):
        if key is not None:
            first.setdefault(key, index)
    row_of = {index: row for row, index in enumerate(first.values())}
    matrix = _Matrix(len(first), output, backbone.device)

    with _opened(cache_dir) as cache:
        missing = _from_cache(cache, first, row_of, matrix)
        size = initial_batch_size(batch_size, backbone.device)
        batches = embed_batches(
            backbone, source, missing, batch_size=size, n_workers=n_workers
        )
        progress = _progress(
            verbose, len(first), len(first) - len(missing), backbone.name
        )
        n_batches = ceil(len(missing) / size)
        telling = notify(n_batches) if notify else contextlib.nullcontext()
        n_done = 0
        # Closed at once, so that an error does not keep the model from its owner.
        with contextlib.closing(batches), progress as advance, telling as tell:
            for indices, rows, failed in batches:
                if indices:
                    matrix.put([row_of[index] for index in indices], rows)
                    if cache is not None:
                        some = [row.tobytes() for row in _on_host(rows)]
                        cache.put([keys[index] for index in indices], some)
                if failed and on_error == "raise":
                    _raise(*next(iter(failed.items())), items)
                failures.update(failed)
                advance(len(indices) + len(failed))
                n_before, n_done = n_done, n_done + len(indices) + len(failed)
                if tell is not None:  # a batch that was halved comes in parts
                    tell(ceil(n_done / size) - ceil(n_before / size))

    if cache_dir is not None and missing and backbone.digest() != bytes.hex(salt):
        backbone.warn_of_change()
    if not failures and len(first) == len(items):
        return matrix.take(None)
    if failures:
        # An item that is skipped takes along those that are the same.
        for index, key in enumerate(keys):
            if key is not None and first[key] in failures:
                failures[index] = failures[first[key]]
        _warn_of_skipped(failures, items)
    rows = [
        -1 if index in failures else row_of[first[key]]
        for index, key in enumerate(keys)
    ]
    return matrix.take(rows)


def first_row(items, backbone, *, on_error, **settings):
    """Embed the first item that can be, to see how long a row is.

    Parameters
    ----------
    items : list
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
    for index, item in enumerate(items):
        try:
            return embed_items([item], backbone, on_error="raise", **settings)
        except ItemError:
            if on_error == "raise" or index == len(items) - 1:
                raise


def _identify(source, n_items, salt, n_workers, failures, on_error):
    """Key of each item, or None for those that cannot be read."""

    def identify(index):
        try:
            return source.identify(index, salt)
        except ItemError as error:
            if on_error == "raise":
                _raise(index, str(error), source.items)
            failures[index] = str(error)
            return None

    if n_workers == 0 or salt is None:
        return [identify(index) for index in range(n_items)]
    with ThreadPoolExecutor(n_workers, "skimprint-identify") as pool:
        return list(pool.map(identify, range(n_items)))


def _from_cache(cache, first, row_of, matrix, chunk_size=10_000):
    """Set the rows that are in the cache; return the items that are not."""
    if cache is None:
        return list(first.values())
    missing = []
    keys = list(first)
    for start in range(0, len(keys), chunk_size):
        chunk = keys[start : start + chunk_size]
        found = cache.get(chunk)
        places = list(range(start, start + len(chunk)))  # rows are in their order
        if len(found) < len(chunk):
            missing += [first[key] for key in chunk if key not in found]
            chunk = [key for key in chunk if key in found]
            places = [row_of[first[key]] for key in chunk]
        matrix.put_bytes(places, [found[key] for key in chunk])
    return missing


def _opened(cache_dir):
    if cache_dir is None:
        return contextlib.nullcontext()
    return EmbeddingCache(cache_dir)


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
        if rows:
            if len({len(row) for row in rows}) > 1:
                raise ValueError(
                    "The cache holds rows of different lengths for this model: change "
                    "its fingerprint whenever its results change, and call "
                    "clear_cache()."
                )
            # A bytearray, so that the array can be written to.
            rows = np.frombuffer(bytearray().join(rows), dtype=np.float32)
            rows = rows.reshape(len(places), -1)
            if self.output != "numpy":
                rows = self._tensor(rows)
            if self.rows is None and len(places) == self.n_rows:
                self.rows = rows  # all of them, in order
            else:
                self._set(places, rows)

    def put(self, places, rows):
        """Set rows that come from the model."""
        is_numpy = self.output == "numpy"
        self._set(places, _on_host(rows) if is_numpy else self._tensor(rows))

    def take(self, places):
        """Put rows together, with NaN for place -1; None means all, in order."""
        if self.rows is None:
            raise ValueError(
                "None of the items could be embedded, so that the number of features "
                "is not known. The warning before this error says why."
            )
        if places is None:
            taken = self.rows
        else:
            taken = self.rows[places]
            skipped = [row for row, place in enumerate(places) if place < 0]
            taken[skipped] = float("nan")
        if self.output == "cupy":
            if taken.is_cuda:
                return self._library.from_dlpack(taken)
            return self._library.asarray(taken.numpy())
        return taken

    def _set(self, places, rows):
        if self.rows is None:
            if self.output == "numpy":
                self.rows = np.empty((self.n_rows, rows.shape[1]), dtype=np.float32)
            else:
                self.rows = rows.new_empty((self.n_rows, rows.shape[1]))
        if self.rows.shape[1] != rows.shape[1]:
            raise ValueError(
                "The model must return rows of one length, got "
                f"{self.rows.shape[1]} and {rows.shape[1]} features."
            )
        self.rows[places] = rows

    def _tensor(self, rows):
        torch = require("torch", f"output={self.output!r}")
        return torch.as_tensor(rows, dtype=torch.float32, device=self.device)


def _on_host(rows):
    """Rows from the model as a NumPy array."""
    return rows.cpu().numpy() if hasattr(rows, "cpu") else np.asarray(rows)


@contextlib.contextmanager
def _progress(verbose, total, done, name):
    """Give a function that counts items on a progress bar, if one is wanted."""
    if not verbose:
        yield lambda count: None
        return
    tqdm = require("tqdm", "verbose=1")
    with tqdm.tqdm(total=total, initial=done, unit="item", desc=name) as bar:
        yield bar.update


def _raise(index, reason, items):
    raise ItemError(
        f"Item {index}, {describe(items[index])}, cannot be embedded: {reason}. "
        "on_error='skip' gives such items rows of NaN."
    )


def _warn_of_skipped(failures, items, n_reasons=10):
    indices = sorted(failures)
    reasons = [
        f"item {index}, {describe(items[index])}: {failures[index]}"
        for index in indices[:n_reasons]
    ]
    if len(indices) > n_reasons:
        reasons.append("...")
    warnings.warn(
        f"{len(indices)} of {len(items)} items could not be embedded and have rows of "
        f"NaN: {indices}. " + "; ".join(reasons),
        UserWarning,
        stacklevel=5,  # past the wrapper that scikit-learn puts around transform
    )
