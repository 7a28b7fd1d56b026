"""Batches: prepared ahead of the model, taken apart where one item spoils them."""

import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.utils import gen_batches

from .._arrays.device import free_memory, is_out_of_memory
from ._items import ItemError, item_error

# What "auto" starts from: enough to fill the machine, small enough for a large model.
_BATCH_SIZE = {"cpu": 32, "cuda": 128}

# Pictures on the CPU: what a convolutional network makes of more of them takes memory
# that the system clears anew for each batch, up to twice as long as the model computes.
_PICTURES_ON_CPU = 8


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
    source : Source
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
        for batches, unprepared in _prepared(backbone, source, parts, n_workers):
            for batch, inputs in batches:
                for part, rows, failures in _embed(backbone, model, batch, inputs):
                    if part and (bad := not_finite(rows)):
                        failures = {part[row]: ItemError(_NOT_FINITE) for row in bad}
                        keep = sorted({*range(len(part))} - {*bad})
                        part, rows = [part[row] for row in keep], rows[keep]
                    yield part, rows, failures
            # Last, so that what an error ends keeps what came with it.
            yield [], None, unprepared


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
        try:
            for indices in parts:
                ahead.append(pool.submit(_prepare, backbone, source, indices))
                if len(ahead) > n_workers + 1:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _prepare(backbone, source, indices):
    """Read and prepare the items of a batch.

    Returns
    -------
    batches : list of tuple (list of int, object)
        Items that go through the model together, and what it takes for them.
    failures : dict of int to ItemError
        Items that cannot be read or prepared, and why.
    """
    loaded, failures = {}, {}
    for index in indices:
        try:
            loaded[index] = backbone.load(source.load(index))
        except Exception as error:
            failures[index] = item_error(error, "reading it")
    if not loaded:
        return [], failures
    with contextlib.suppress(Exception):
        return [([*loaded], _together(backbone, loaded))], failures
    batches = []  # one for each item, where they cannot share one
    for index, item in loaded.items():
        try:
            batches.append(([index], backbone.collate([item])))
        except Exception as error:
            failures[index] = item_error(error, "preparing it")
    if 1 < len(batches) < len(loaded):  # without the bad ones they may share a batch
        good = [index for [index], _ in batches]
        with contextlib.suppress(Exception):  # nor do these: one by one
            good_ones = {index: loaded[index] for index in good}
            batches = [(good, _together(backbone, good_ones))]
    return batches, failures


def _together(backbone, loaded):
    """Prepare items that go through the model together, and may be taken apart."""
    inputs = backbone.collate([*loaded.values()])
    if not _has_rows(inputs, len(loaded)):
        raise ValueError("what the model takes has no row for each item")
    return inputs


def _embed(backbone, model, indices, inputs):
    """Embed one batch: in halves where memory does not suffice, else item by item.

    The size that fitted is remembered with the model, for this run and later ones.
    """
    start, most = 0, len(indices)
    while start < len(indices):
        size = min(backbone.notes.batch_limit or most, most, len(indices) - start)
        part = indices[start : start + size]
        output, failure, halve = None, None, False
        try:
            whole = size == len(indices)
            some = inputs if whole else _slice(inputs, start, start + size)
            output = backbone.run(model, some)
        except Exception as error:
            halve = is_out_of_memory(error) and size > 1
            if not halve:
                failure = item_error(error, "the model")
        # Outside the handler, so that the failed batch's tensors are not held by it.
        if halve:
            backbone.notes.batch_limit = size // 2
            free_memory()
        elif failure is not None and size > 1:
            most = 1  # to find out which item it is
        elif failure is not None:
            yield [], None, {part[0]: failure}
            start += 1
        else:
            yield part, backbone.as_rows(output, size), {}
            start += size


def _has_rows(inputs, n_items):
    """Whether `_slice` takes items out of inputs: one of them is whatever it is."""
    if n_items == 1:
        return True
    if hasattr(inputs, "items"):
        return all(_has_rows(value, n_items) for value in inputs.values())
    if isinstance(inputs, list) or getattr(inputs, "ndim", 0):
        return len(inputs) == n_items
    return True


def _slice(inputs, start, stop):
    if hasattr(inputs, "items"):
        return {key: _slice(value, start, stop) for key, value in inputs.items()}
    if isinstance(inputs, list) or getattr(inputs, "ndim", 0):
        return inputs[start:stop]
    return inputs
