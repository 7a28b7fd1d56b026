"""Batches: prepared ahead of the model, and halved when memory runs out."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from .._arrays.device import free_memory, is_out_of_memory
from ._inputs import ItemError

# What "auto" starts from: enough to fill the machine, small enough for a large model.
_BATCH_SIZE = {"cpu": 32, "cuda": 128}


@dataclass
class Batch:
    """Items that go through the model together.

    Parameters
    ----------
    indices : list of int
        Which items.
    inputs : object
        What the model takes for them.
    failures : dict of int to str
        Items that could not be read, and why; not among ``indices``.
    """

    indices: list
    inputs: object = None
    failures: dict = field(default_factory=dict)


def initial_batch_size(batch_size, device):
    """Turn "auto" into the size that a run starts from."""
    if isinstance(batch_size, str) and batch_size == "auto":
        return _BATCH_SIZE.get(getattr(device, "type", "cpu"), _BATCH_SIZE["cpu"])
    return int(batch_size)


def embed_batches(backbone, source, indices, *, batch_size, n_workers):
    """Embed items batch by batch.

    Parameters
    ----------
    backbone : Backbone
        The model.
    source : Texts, Images or Anything
        Where the items come from.
    indices : list of int
        Which items to embed.
    batch_size : int
        Most items in a batch.
    n_workers : int
        Threads that prepare batches ahead of the model; 0 prepares them in this one.

    Yields
    ------
    indices : list of int
        Items of one batch.
    rows : ndarray or tensor of shape (len(indices), n_features)
        Their embeddings.
    failures : dict of int to str
        Items that have none, and why.
    """
    if not indices:
        return  # without a look at the model, which takes time
    indices = source.order(indices)
    batches = [
        indices[start : start + batch_size]
        for start in range(0, len(indices), batch_size)
    ]
    with backbone.running() as module:
        for batch in _prepared(backbone, source, batches, n_workers):
            if not batch.indices:
                yield [], None, batch.failures
                continue
            parts = _embed_guarded(backbone, module, batch, batch_size)
            for part, rows in parts:
                bad = _not_finite(rows)
                failures = {part[row]: _NOT_FINITE for row in bad}
                if bad:
                    keep = [row for row in range(len(part)) if row not in set(bad)]
                    part, rows = [part[row] for row in keep], rows[keep]
                yield part, rows, batch.failures | failures
                batch.failures = {}


_NOT_FINITE = "the model returned NaN or infinite values for it"


def _not_finite(rows):
    """Numbers of the rows that hold NaN or infinity."""
    finite = rows.isfinite() if hasattr(rows, "isfinite") else np.isfinite(rows)
    if bool(finite.all()):
        return []
    return [row for row, good in enumerate(finite.all(1).tolist()) if not good]


def _prepared(backbone, source, batches, n_workers):
    """Yield prepared batches in order, up to ``n_workers + 1`` of them ahead."""
    if n_workers == 0 or len(batches) == 1:
        for indices in batches:
            yield _prepare(backbone, source, indices)
        return
    with ThreadPoolExecutor(n_workers, "skimprint-prepare") as pool:
        ahead = deque()
        todo = iter(batches)
        try:
            for indices in todo:
                ahead.append(pool.submit(_prepare, backbone, source, indices))
                if len(ahead) > n_workers + 1:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _prepare(backbone, source, indices):
    """Read the items of a batch; set apart those that cannot be read."""
    loaded, good, failures = [], [], {}
    for index in indices:
        try:
            item = source.load(index)
            loaded.append(item if backbone.load is None else backbone.load(item))
            good.append(index)
        except ItemError as error:
            failures[index] = str(error)
    return Batch(good, backbone.prepare(loaded) if good else None, failures)


def _embed_guarded(backbone, module, batch, batch_size):
    """Embed one batch, in halves of halves where memory does not suffice.

    The size that fitted is remembered with the model, for this run and later ones.
    """
    start, n_items = 0, len(batch.indices)
    while start < n_items:
        size = min(backbone.state.batch_limit or batch_size, n_items - start)
        stop = start + size
        part = batch.indices[start:stop]
        rows = None
        try:
            rows = backbone.embed(module, _slice(batch.inputs, start, stop), size)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise MemoryError(
                    f"The model {backbone.name} runs out of memory with a single item: "
                    f"use a smaller model or dtype='bfloat16'. ({error})"
                ) from error
        # Outside the handler, so that the failed batch's tensors are not held by it.
        if rows is None:
            backbone.state.batch_limit = size // 2
            free_memory()
            continue
        yield part, rows
        start = stop


def _slice(inputs, start, stop):
    if hasattr(inputs, "items"):
        return {key: _slice(value, start, stop) for key, value in inputs.items()}
    if isinstance(inputs, list) or getattr(inputs, "ndim", 0):
        return inputs[start:stop]
    return inputs
