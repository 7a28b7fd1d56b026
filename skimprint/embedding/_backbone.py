"""A frozen model and how to feed it: what every loader returns. Needs no torch."""

import contextlib
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._arrays.threads import ForkSafeLock
from ._fingerprint import digest, preprocessing_digest
from ._inputs import SOURCES
from ._items import SettingError

# What items of each modality are called in messages.
ITEMS = {"image": "images", "text": "texts", "audio": "audio"}


@dataclass(frozen=True)
class Options:
    """Settings of `FoundationEmbedder` that concern the model.

    Parameters
    ----------
    modality, pooling : str
        As in `FoundationEmbedder`.
    prompt : str or None
        What to put before each text.
    truncate_dim : int or None
        How many features to keep.
    decode_size : int or None
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
    prompt: str | None = None
    truncate_dim: int | None = None
    decode_size: int | None = None
    device: Any = "auto"
    dtype: Any = "auto"
    revision: str | None = None
    local_files_only: bool = False
    trust_remote_code: bool = False
    model_kwargs: dict = field(default_factory=dict)

    def check_modality(self, own):
        """Raise an error if items are said to be others than those that a model takes.

        Parameters
        ----------
        own : str
            What the model takes.
        """
        if self.modality not in ("auto", own):
            raise ValueError(
                f"This model takes {ITEMS[own]}, not modality={self.modality!r}: use "
                f"modality='auto' or {own!r}."
            )

    def refuse(self, *names, why):
        """Raise an error if a setting that has no effect differs from its default.

        Parameters
        ----------
        *names : str
            Settings that have no effect.
        why : str
            Why they have none.
        """
        defaults = Options()
        for name in names:
            value, default = getattr(self, name), getattr(defaults, name)
            if value != default:
                raise SettingError(f"{name}={value!r} {why}: leave {name}={default!r}.")


@dataclass
class ModelNotes:
    """What is remembered of a model for as long as it lives.

    Parameters
    ----------
    batch_limit : int, default=None
        The batch size that fitted, once a larger one did not.
    warned : bool, default=False
        Whether somebody was told that running the model changes it.
    lock : ForkSafeLock
        Held by who reads and changes what follows, which is of modules of torch.
    users : int
        How many hold the module in eval mode.
    was_training : list of torch.nn.Module
        Its parts that were in training mode before.
    names : dict of {tuple of (str, str or None): tuple of (str, str or None)}
        By modality and prompt, digests of a model that nobody can change and of its
        preprocessing.
    copies : dict of {torch.device: tuple of (str, torch.nn.Module)}
        Copies on other devices, each with the digest of what it is a copy of.
    """

    batch_limit: int | None = None
    warned: bool = False
    lock: ForkSafeLock = field(default_factory=ForkSafeLock)
    users: int = 0
    was_training: list = field(default_factory=list)
    names: dict = field(default_factory=dict)
    copies: dict = field(default_factory=dict)


_NOTES = weakref.WeakKeyDictionary()
_NOTES_LOCK = ForkSafeLock()


def notes_of(model):
    """Return what is remembered of a model; nothing if it cannot be kept track of."""
    try:
        with _NOTES_LOCK:
            return _NOTES.setdefault(model, ModelNotes())
    except TypeError:  # neither hashable nor open to weak references
        return ModelNotes()


def _same(value):
    return value


@dataclass(eq=False)
class Backbone:
    """A frozen model: from a list of items to a matrix, in three steps.

    Parameters
    ----------
    model : callable
        What ``forward`` calls; never changed.
    modality : {"image", "text", "audio", "any"}
        What the items are.
    forward : callable
        From ``(model, inputs)`` to an array or tensor of shape (n, d).
    load : callable, default=lambda item: item
        From one image or text to what ``collate`` takes, one item at a time.
    collate : callable, default=lambda items: items
        From a list of loaded items to ``inputs``, on the CPU.
    pooling : str, default="model"
        How a row is made of the model's output.
    device : object, default=None
        Where the model runs, or None if it is the model's own affair.
    dtype : str, default="float32"
        Precision of the model's arithmetic.
    fingerprint : callable, default=None
        Gives what `model_digest` returns, where a subclass does not compute it.
    preprocessing : callable, default=None
        Gives what tells ``load`` and ``collate`` from others, besides what they do to
        probe items; None where ``fingerprint`` tells all.
    owned : bool, default=False
        Whether nobody but us holds the model, so that it cannot change.
    prompt : str, default=None
        What the model is told before each text, if ``collate`` sees to that.
    truncate_dim : int, default=None
        How many features are kept of a row.
    decode_size : int, default=None
        How many pixels the shorter side of a JPEG keeps, at least.
    """

    model: Any
    modality: str
    forward: Callable
    load: Callable = _same
    collate: Callable = _same
    pooling: str = "model"
    device: Any = None
    dtype: str = "float32"
    fingerprint: Callable | None = None
    preprocessing: Callable | None = None
    owned: bool = False
    prompt: str | None = None
    truncate_dim: int | None = None
    decode_size: int | None = None

    def __post_init__(self):
        self.notes = notes_of(self.model)

    @property
    def name(self):
        """How to call the model in messages."""
        return getattr(self.model, "__name__", type(self.model).__name__)

    def model_digest(self):
        """Digest the model itself."""
        return self.fingerprint()

    def digest(self):
        """Name the model, its preprocessing, pooling and precision."""
        source = self.modality, SOURCES[self.modality].version
        settings = self.pooling, self.dtype, self.prompt, self.truncate_dim
        return digest(*self._names(), *source, *settings, self.decode_size)

    def _names(self):
        """Digest model and preprocessing; of a model that nobody can change, once."""
        if not self.owned:
            return self.model_digest(), self._preprocessing_digest()
        names, key = self.notes.names, (self.modality, self.prompt)
        with self.notes.lock:  # of threads that come at once, one digests
            if key not in names:
                names[key] = self.model_digest(), self._preprocessing_digest()
            return names[key]

    def _preprocessing_digest(self):
        if self.preprocessing is None:
            return None

        def preprocess(item):
            return self.collate([self.load(item)])

        does = preprocessing_digest(preprocess, self.modality)
        return digest(does, self.preprocessing())

    def source(self, items):
        """Read items as this model wants them."""
        source = SOURCES[self.modality](items)
        source.decode_size = self.decode_size
        return source

    def apply_common(self, options):
        """Do what options say of all models alike, such as how long rows are."""
        self.truncate_dim = options.truncate_dim
        self.decode_size = options.decode_size
        if options.decode_size is not None and self.modality != "image":
            raise ValueError(
                f"decode_size={options.decode_size!r} is for models of images, with "
                f"modality='image': this one takes {self.modality}."
            )
        if options.prompt is None or self.prompt is not None:
            return  # there is none, or the loader sees to it
        if self.modality != "text":
            raise ValueError(
                f"prompt={options.prompt!r} is for models of texts, with "
                f"modality='text': this one takes {self.modality}."
            )
        self.prompt, load = options.prompt, self.load

        def load_with_prompt(text):
            return load(options.prompt + text)

        self.load = load_with_prompt

    def warn_of_change(self):
        """Warn, once for each model, that running it changes its digest."""
        if not self.notes.warned:
            self.notes.warned = True
            warnings.warn(
                f"The model {self.name} changed while it was running, an attribute or "
                "a buffer of it, so that what was stored in the cache will not be "
                "found again: keep counters and the like out of the model.",
                RuntimeWarning,
                stacklevel=5,
            )

    def running(self):
        """Hold the model ready to embed, in a ``with`` statement that gives it."""
        return contextlib.nullcontext(self.model)

    def run(self, model, inputs):
        """Run the model on one batch.

        Parameters
        ----------
        model : object
            From `running`.
        inputs : object
            From ``collate``.

        Returns
        -------
        output : object
            For `as_rows`.
        """
        return self.forward(model, inputs)

    def as_rows(self, output, n_items):
        """Check what the model returned, and make float32 of it.

        Parameters
        ----------
        output : object
            From `run`.
        n_items : int
            Number of items in the batch.

        Returns
        -------
        rows : ndarray or tensor of shape (n_items, n_features)
            On the model's device if it is a tensor.
        """
        wanted = f"an array of shape ({n_items}, n_features)"
        is_tensor = hasattr(output, "detach")
        try:
            rows = output.detach() if is_tensor else np.asarray(output)
            if "complex" in str(rows.dtype):
                raise TypeError(f"its values are {rows.dtype}; return real numbers")
            # What float32 cannot hold becomes infinite, and is told item by item.
            with np.errstate(over="ignore"):
                rows = rows.float() if is_tensor else np.asarray(rows, np.float32)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(
                f"The model {self.name} must return {wanted} for {n_items} items, "
                f"got {type(output).__name__}: {error}"
            ) from error
        shape = tuple(rows.shape)
        if len(shape) != 2 or shape[0] != n_items or shape[1] == 0:
            raise ValueError(
                f"The model {self.name} must return one row for each item, {wanted}; "
                f"it returned shape {shape}."
            )
        if self.truncate_dim is not None and self.truncate_dim > shape[1]:
            raise ValueError(
                f"truncate_dim={self.truncate_dim} is more than the {shape[1]} "
                f"features that the model {self.name} returns."
            )
        return rows[:, : self.truncate_dim]
