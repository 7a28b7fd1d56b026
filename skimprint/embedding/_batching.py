"""Batches: prepared ahead of the model, taken apart where one item spoils them."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from sklearn.utils import gen_batches

from .._arrays.device import free_memory, is_out_of_memory
from ._items import ItemError, item_error

# What "auto" starts from: enough to fill the machine, small enough for a large model.
_BATCH_SIZE = {"cpu": 32, "cuda": 128}

# Pictures on the CPU: what a convolutional network makes of more of them takes memory
# that the system clears anew for each batch, up to twice as long as the model computes.
_PICTURES_ON_CPU = 8


@dataclass
class Batch:
    """Items that go through the model together.

    Parameters
    ----------
    indices : list of int
        Which items.
    inputs : object
        What the model takes for them.
    failures : dict of int to ItemError
        Items that could not be read, and why; not among ``indices``.
    """

    indices: list
    inputs: object = None
    failures: dict = field(default_factory=dict)


def initial_batch_size(batch_size, device, modality):
    """Turn "auto" into the size that a run starts from."""
    if not isinstance(batch_size, str):
        return int(batch_size)
    kind = getattr(device, "type", "cpu")
    if kind == "cpu" and modality == "image":
        return _PICTURES_ON_CPU
    return _BATCH_SIZE.get(kind, _BATCH_SIZE["cpu"])


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
    failures : dict of int to ItemError
        Items that have none, and why.
    """
    if not indices:
        return  # without a look at the model, which takes time
    indices = source.order(indices)
    parts = [indices[part] for part in gen_batches(len(indices), batch_size)]
    with backbone.running() as model:
        for batches in _prepared(backbone, source, parts, n_workers):
            for batch in batches:
                for part, rows, failures in _embed(backbone, model, batch):
                    if part and (bad := not_finite(rows)):
                        failures = {part[row]: ItemError(_NOT_FINITE) for row in bad}
                        keep = sorted({*range(len(part))} - {*bad})
                        part, rows = [part[row] for row in keep], rows[keep]
                    yield part, rows, failures
            # Last, so that what an error ends keeps what came with it.
            yield [], None, {k: v for b in batches for k, v in b.failures.items()}


_NOT_FINITE = (
    "the model returned NaN or infinite values for it, or more than float32 can hold"
)


def not_finite(rows):
    """List the numbers of rows that hold NaN or infinity."""
    finite = rows.isfinite() if hasattr(rows, "isfinite") else np.isfinite(rows)
    if bool(finite.all()):
        return []
    return [row for row, good in enumerate(finite.all(1).tolist()) if not good]


def _prepared(backbone, source, parts, n_workers):
    """Yield prepared batches in order, up to ``n_workers + 1`` of them ahead."""
    if n_workers == 0 or len(parts) == 1:
        for indices in parts:
            yield _prepare(backbone, source, indices)
        return
    with ThreadPoolExecutor(n_workers, "skimprint-prepare") as pool:
        ahead = deque()
        todo = iter(parts)
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
    """Read the items of a batch, and set apart those that cannot be prepared.

    It is one batch, or one for each item where they cannot share one.
    """
    loaded, failures = {}, {}
    for index in indices:
        try:
            item = source.load(index)
            loaded[index] = item if backbone.load is None else backbone.load(item)
        except Exception as error:
            failures[index] = item_error(error, "reading it")
    try:
        whole = backbone.prepare([*loaded.values()]) if loaded else None
        return [Batch([*loaded], whole, failures)]
    except Exception as error:
        if is_out_of_memory(error) and len(loaded) > 1:
            half = len(loaded) // 2
            parts = [*loaded][:half], [*loaded][half:]
            batches = [
                batch for part in parts for batch in _prepare(backbone, source, part)
            ]
            return [Batch([], None, failures), *batches]
    singles = []
    for index, item in loaded.items():
        try:
            singles.append(Batch([index], backbone.prepare([item])))
        except Exception as error:
            failures[index] = item_error(error, "preparing it")
    if 1 < len(singles) < len(loaded):  # without the bad ones they may share a batch
        good = [batch.indices[0] for batch in singles]
        try:
            whole = backbone.prepare([loaded[index] for index in good])
            singles = [Batch(good, whole)]
        except Exception:  # nor do these: one by one
            pass
    return [Batch([], None, failures), *singles]


def _embed(backbone, model, batch):
    """Embed one batch: in halves where memory does not suffice, else item by item.

    The size that fitted is remembered with the model, for this run and later ones.
    """
    start, n_items = 0, len(batch.indices)
    most = n_items
    while start < n_items:
        size = min(backbone.state.batch_limit or most, most, n_items - start)
        part = batch.indices[start : start + size]
        output, failure, halve = None, None, False
        try:
            output = backbone.run(model, _slice(batch.inputs, start, start + size))
        except Exception as error:
            halve = is_out_of_memory(error) and size > 1
            if not halve:
                failure = item_error(error, "the model")
        # Outside the handler, so that the failed batch's tensors are not held by it.
        if halve:
            backbone.state.batch_limit = size // 2
            free_memory()
        elif failure is not None and size > 1:
            most = 1  # to find out which item it is
        elif failure is not None:
            yield [], None, {part[0]: failure}
            start += 1
        else:
            yield part, backbone.as_rows(output, size), {}
            start += size


def _slice(inputs, start, stop):
    if hasattr(inputs, "items"):
        return {key: _slice(value, start, stop) for key, value in inputs.items()}
    if isinstance(inputs, list) or getattr(inputs, "ndim", 0):
        return inputs[start:stop]
    return inputs
