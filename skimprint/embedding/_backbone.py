"""A frozen model and how to feed it: what every loader returns."""

import contextlib
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from . import _frozen
from ._extras import require
from ._fingerprint import digest

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Options:
    """Settings of `FoundationEmbedder` that concern the model.

    Parameters
    ----------
    modality, pooling, device, dtype : str
        As in `FoundationEmbedder`; device and dtype may be "auto".
    revision : str or None
        Version of a named model.
    local_files_only, trust_remote_code : bool
        What loading a named model may do.
    model_kwargs : dict
        Keyword arguments of the library's own loading function.
    """

    modality: str = "auto"
    pooling: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    local_files_only: bool = False
    trust_remote_code: bool = False
    model_kwargs: dict = field(default_factory=dict)


@dataclass(eq=False)
class Backbone:
    """A frozen model: from a list of items to a matrix, in three steps.

    Parameters
    ----------
    model : torch.nn.Module or callable
        What ``forward`` calls; never changed.
    modality : {"image", "text", "any"}
        What the items are.
    forward : callable
        From ``(module, inputs)`` to an array or tensor of shape (n, d).
    load : callable, default=None
        From one image or text to what ``collate`` takes, one item at a time.
    collate : callable, default=None
        From a list of loaded items to ``inputs``, on the CPU.
    pooling : str, default="model"
        How a row is made of the model's output.
    device : torch.device, default=None
        Where the model runs, or None if it is the model's own affair.
    dtype : str, default="float32"
        Precision of the model's arithmetic.
    owned : bool, default=False
        Whether nobody but us holds the module, so that its mode need not be restored.
    preprocessing : callable, default=None
        Gives the digest of all that happens between an item and the model.
    fingerprint : callable, default=None
        Gives the digest of the model, if it is no module.
    """

    model: Callable
    modality: str
    forward: Callable
    load: Callable | None = None
    collate: Callable | None = None
    pooling: str = "model"
    device: object = None
    dtype: str = "float32"
    owned: bool = False
    preprocessing: Callable | None = None
    fingerprint: Callable | None = None

    @property
    def name(self):
        """How to call the model in messages."""
        return getattr(self.model, "__name__", type(self.model).__name__)

    @functools.cached_property
    def state(self):
        """What is remembered of the model, the batch size that fits among it."""
        return _frozen.state_of(self.model)

    def digest(self):
        """Name the model, its preprocessing, pooling and precision."""
        if self.fingerprint is not None:
            model = self.fingerprint()
        else:
            model = _frozen.module_digest(self.model, changes=not self.owned)
        preprocessing = self.preprocessing() if self.preprocessing else None
        return digest(model, preprocessing, self.modality, self.pooling, self.dtype)

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

    @contextlib.contextmanager
    def running(self):
        """Hold the model ready to embed: on its device, in eval mode."""
        if self.device is None:  # a callable
            yield self.model
            return
        module = _frozen.on_device(self.model, self.device)
        if self.owned:
            yield module
        else:
            with _frozen.evaluating(module):
                yield module

    def embed(self, module, inputs, n_items):
        """Run the model on one batch.

        Parameters
        ----------
        module : torch.nn.Module or callable
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
        if self.device is None:
            rows = self.forward(module, inputs)
        else:
            import torch

            # A tensor made in inference mode must not stay behind in a user's module.
            no_grad = torch.inference_mode if self.owned else torch.no_grad
            with no_grad(), self._autocast():
                rows = self.forward(module, to_device(inputs, self.device))
        return as_rows(rows, n_items, self.name)

    def _autocast(self):
        import torch

        if self.dtype == "float32":  # whatever the caller's code runs under
            return torch.autocast(self.device.type, enabled=False)
        return torch.autocast(self.device.type, getattr(torch, self.dtype))


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


def to_device(inputs, device):
    """Move a tensor, or the tensors in a dict, to a device."""
    if hasattr(inputs, "items"):
        return {key: to_device(value, device) for key, value in inputs.items()}
    return inputs.to(device) if hasattr(inputs, "to") else inputs


def resolve_device(device, module=None):
    """Turn a name into a device that is there.

    Parameters
    ----------
    device : str or torch.device
        A name that torch knows, or "auto": where the module is, if one is given, else
        the best there is.
    module : torch.nn.Module, default=None
        A module that somebody has put somewhere already.

    Returns
    -------
    device : torch.device
        With its index, if it has one.
    """
    torch = require("torch", "Running a model")
    if isinstance(device, str) and device == "auto":
        if module is not None:
            return _frozen.module_device(module) or torch.device("cpu")
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is no device: expected 'auto', 'cpu', 'cuda', "
            "'cuda:1', 'mps' or the like."
        ) from error
    if resolved.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = resolved.index
        if index is None and n_devices:
            index = torch.cuda.current_device()
        if not n_devices or index >= n_devices:
            raise ValueError(
                f"device={device!r} was asked for, but torch sees {n_devices} CUDA "
                "devices: use device='cpu' or 'auto', or install a build of torch that "
                "supports this machine's GPU."
            )
        return torch.device("cuda", index)
    try:
        torch.empty(0, device=resolved)
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} was asked for, but torch cannot use it here: {error}. "
            "Use device='cpu' or 'auto'."
        ) from error
    return resolved


def resolve_dtype(dtype):
    """Turn "auto", a name or a dtype of torch into the name of a precision."""
    name = str(dtype).removeprefix("torch.")
    if name == "auto":
        return "float32"
    if name not in DTYPES:
        raise ValueError(
            f"dtype={dtype!r} is not supported: expected 'auto', 'float32', 'bfloat16' "
            "or 'float16'."
        )
    return name
