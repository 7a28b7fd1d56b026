"""A frozen model and how to feed it: what every loader returns. Needs no torch."""

import contextlib
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._fingerprint import digest


@dataclass(frozen=True)
class Options:
    """Settings of `FoundationEmbedder` that concern the model.

    Parameters
    ----------
    modality, pooling : str
        As in `FoundationEmbedder`.
    device, dtype : str or object
        As in `FoundationEmbedder`; a loader's `resolve` settles what "auto" is.
    revision : str or None
        Version of a named model.
    local_files_only, trust_remote_code : bool
        What loading a named model may do.
    model_kwargs : dict
        Keyword arguments of the library's own loading function.
    """

    modality: str = "auto"
    pooling: str = "auto"
    device: Any = "auto"
    dtype: Any = "auto"
    revision: str | None = None
    local_files_only: bool = False
    trust_remote_code: bool = False
    model_kwargs: dict = field(default_factory=dict)

    def refuse(self, *names, why):
        """Raise an error if a setting that has no effect differs from its default.

        Parameters
        ----------
        *names : str
            Settings that have no effect.
        why : str
            Why they have none.
        """
        for name in names:
            value, default = getattr(self, name), getattr(type(self), name)
            if value != default:
                raise ValueError(f"{name}={value!r} {why}: leave {name}={default!r}.")


class State:
    """What is remembered of a model for as long as it lives."""

    def __init__(self):
        self.batch_limit = None
        self.warned = False
        self.lock = threading.Lock()


_STATES = weakref.WeakKeyDictionary()
_STATES_LOCK = threading.Lock()


def state_of(model, make=State):
    """Return what is remembered of a model; nothing if it cannot be kept track of."""
    try:
        with _STATES_LOCK:
            return _STATES.setdefault(model, make())
    except TypeError:  # neither hashable nor open to weak references
        return make()


@dataclass(eq=False)
class Backbone:
    """A frozen model: from a list of items to a matrix, in three steps.

    Parameters
    ----------
    model : callable
        What ``forward`` calls; never changed.
    modality : {"image", "text", "any"}
        What the items are.
    forward : callable
        From ``(model, inputs)`` to an array or tensor of shape (n, d).
    load : callable, default=None
        From one image or text to what ``collate`` takes, one item at a time.
    collate : callable, default=None
        From a list of loaded items to ``inputs``, on the CPU.
    pooling : str, default="model"
        How a row is made of the model's output.
    device : object, default=None
        Where the model runs, or None if it is the model's own affair.
    dtype : str, default="float32"
        Precision of the model's arithmetic.
    preprocessing : callable, default=None
        Gives the digest of all that happens between an item and the model.
    fingerprint : callable, default=None
        Gives the digest of the model itself.
    """

    model: Any
    modality: str
    forward: Callable
    load: Callable | None = None
    collate: Callable | None = None
    pooling: str = "model"
    device: Any = None
    dtype: str = "float32"
    preprocessing: Callable | None = None
    fingerprint: Callable | None = None

    def __post_init__(self):
        self.state = self.remembered()

    def remembered(self):
        """Return what is remembered of the model, the batch size that fits say."""
        return state_of(self.model)

    @property
    def name(self):
        """How to call the model in messages."""
        return getattr(self.model, "__name__", type(self.model).__name__)

    def digest(self):
        """Name the model, its preprocessing, pooling and precision."""
        preprocessing = self.preprocessing() if self.preprocessing else None
        return digest(
            self.fingerprint(), preprocessing, self.modality, self.pooling, self.dtype
        )

    def warn_of_change(self):
        """Warn, once for each model, that running it changes its digest."""
        if not self.state.warned:
            self.state.warned = True
            warnings.warn(
                f"The model {self.name} changed while it was running, an attribute or "
                "a buffer of it, so that what was stored in the cache will not be "
                "found again: keep counters and the like out of the model.",
                RuntimeWarning,
                stacklevel=5,
            )

    def prepare(self, loaded):
        """Turn loaded items into inputs of the model."""
        return loaded if self.collate is None else self.collate(loaded)

    def running(self):
        """Hold the model ready to embed, in a ``with`` statement that gives it."""
        return contextlib.nullcontext(self.model)

    def embed(self, model, inputs, n_items):
        """Run the model on one batch.

        Parameters
        ----------
        model : object
            From `running`.
        inputs : object
            From `prepare`.
        n_items : int
            Number of items in it.

        Returns
        -------
        rows : ndarray or tensor of shape (n_items, n_features)
            Of dtype float32; on the model's device if it is a tensor.
        """
        return as_rows(self.forward(model, inputs), n_items, self.name)


def as_rows(rows, n_items, name):
    """Check what a model returned, and cast it to float32."""
    if hasattr(rows, "detach"):
        rows = rows.detach().float()
    else:
        try:
            rows = np.asarray(rows, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"The model {name} must return an array of shape ({n_items}, "
                f"n_features) for {n_items} items, got {type(rows).__name__}: {error}"
            ) from error
    shape = tuple(rows.shape)
    if len(shape) != 2 or shape[0] != n_items or shape[1] == 0:
        raise ValueError(
            f"The model {name} must return one row for each item, an array of shape "
            f"({n_items}, n_features); it returned shape {shape}."
        )
    return rows
