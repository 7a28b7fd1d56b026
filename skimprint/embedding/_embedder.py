"""FoundationEmbedder: images, texts or sounds to embeddings of a frozen model."""

from __future__ import annotations

import os
from collections.abc import Callable
from copy import copy
from dataclasses import fields
from math import ceil
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _clone_parametrized,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions

from .._progress import CallbackSupportMixin, notify_callbacks, with_callbacks
from ._backbone import Options
from ._batching import initial_batch_size
from ._fingerprint import UncacheableError
from ._inputs import as_items
from ._loaders import backbone_for
from ._pipeline import embed_items, first_row

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import device as Device
    from torch import dtype as DType
    from torch.nn import Module

    from ._cache import CacheInfo

_COUNT = Interval(Integral, 1, None, closed="left")


class FoundationEmbedder(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed images, texts or sounds by a frozen foundation model.

    The model is never trained or changed, so the transformer is stateless: `transform`
    works without `fit`. With ``cache_dir`` each item is embedded once, whatever
    pipelines, searches and processes ask for it.

    Parameters
    ----------
    model : str, torch.nn.Module or callable, \
            default="timm:vit_small_patch14_dinov2.lvd142m"
        What embeds:

        - ``"<library>:<name or local path>"`` for ``timm``, ``torchvision``,
          ``transformers``, ``sentence-transformers``, ``model2vec``, ``open_clip``
          (there: ``"open_clip:<architecture>/<weights>"``) and ``onnx`` (a local path;
          the tokenizer or image processor lies beside the model). Models are loaded
          when first used, once per process;
        - a ``torch.nn.Module``, usually with ``preprocess``;
        - a callable from a list of items to an array of shape (n_items, n_features).

    preprocess : callable, default=None
        For a ``torch.nn.Module``: from one upright RGB PIL image, one text or one dict
        of sound, by `modality`, to a tensor.
    modality : {"auto", "image", "text", "audio"}, default="auto"
        What items are. `"auto"` asks the model, and takes a ``torch.nn.Module`` for an
        image model; a pair of towers needs to be told. A callable gets items as they
        are under `"auto"`, upright RGB PIL images under `"image"`, checked strings
        under `"text"`, and under `"audio"` dicts of an ``array`` of float32 and its
        ``sampling_rate``, which is that of its attribute of this name if it has one.
    pooling : {"auto", "mean", "cls", "max", "last", "pooler"}, default="auto"
        How the features of tokens, or of places in an image, become one row. `"auto"`
        is the model's own way where it has one (for transformers: the common features
        of a pair; the pooled output of an image model, if it was trained; else the mean
        over what is no padding). Of encoder-decoder models, the encoder is used.
    prompt : str, default=None
        What to tell a text model before each text, such as ``"query: "``; for
        sentence-transformers also the name of one of the model's own prompts.
    truncate_dim : int, default=None
        How many features to keep, from the first, of a model that was trained so that
        these do by themselves (Matryoshka embeddings). They are not normalized again.
    decode_size : int, default=None
        Decode JPEGs at a half, quarter or eighth of their size, as long as the shorter
        side keeps this many pixels: two or three times what the model resizes to is
        enough. Photographs of 12 megapixels take less than half the time; their rows
        change by some hundredths of their length.
    batch_size : int or "auto", default="auto"
        Most items that go through the model together. When memory runs out, the batch
        is halved until it fits, and what fitted is remembered. ``"auto"`` starts from
        128 on a GPU, and from 32 on the CPU, 8 for pictures. Items whose rows padding
        would change go through one by one.
    device : str or torch.device, default="auto"
        Where the model runs. `"auto"` is the best device there is for a named model,
        and where it is for a module. A module on another device is copied, not moved.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Precision of the model's arithmetic, by autocast. `"auto"` is float32, so that
        embeddings are the same on all machines. A module in half or double precision
        keeps it, and gets its items in it. Results are float32 always.
    n_workers : int, default=0
        Threads that read, decode and preprocess items ahead of the model; 0 does it in
        turn with the model.
    cache_dir : path-like, default=None
        Directory of a cache of embeddings, which may be shared by models, estimators
        and processes. See Notes.
    on_error : {"raise", "skip"}, default="raise"
        What to do about an item that cannot be embedded: raise an error that names it,
        or give it a row of NaN and warn once, with a list of such items. Most
        classifiers refuse NaN: drop such rows before ``fit`` and ``predict``. Without a
        cache, which would keep the others, files that are missing and what is no text
        are told before any item is embedded.
    output : {"numpy", "torch", "cupy"}, default="numpy"
        Kind of array to return. Tensors and CuPy arrays stay on the model's device.
    revision : str, default=None
        Branch, tag or commit of a model from a hub.
    local_files_only : bool, default=False
        Load named models from this machine only, without any use of the network.
    trust_remote_code : bool, default=False
        Let transformers and sentence-transformers run code that comes with a model.
    model_kwargs : dict, default=None
        Further arguments of the library's own loading function, such as
        ``{"pretrained": False}`` for timm.
    verbose : int, default=0
        Whether long runs show a progress bar over items, with the time
        left. scikit-learn's callbacks (1.9 and newer) are told of each batch that
        `fit_transform` embeds.

    Attributes
    ----------
    device_ : str or None
        Where the model runs, such as ``"cuda:0"``; None where that is its own affair.
    dtype_ : str
        Precision of the model's arithmetic.
    pooling_ : str
        How rows are made; `"model"` is the model's own way.
    modality_ : {"image", "text", "audio", "any"}
        What items are; `"any"` for a callable that takes them as they are.
    n_features_out_ : int
        Number of features of an embedding.
    fingerprint_ : str
        Digest of the model's structure and weights, its preprocessing, pooling and
        precision: what a row in the cache depends on besides its item.

    See Also
    --------
    skimprint.testing.check_embedder : Checks of an embedder on items of yours.

    Notes
    -----
    Items come as a list, array, Series, DataFrame of one column (pandas, polars), array
    of Arrow, column of a dataset of Hugging Face, or any other sequence. Files come as
    paths, encoded bytes, open binary files, or as datasets of Hugging Face have them
    where they do not decode; URLs are not fetched.

    An image model also takes PIL images, uint8 arrays or tensors (grey, HWC or CHW;
    channels last where both could be meant), and floating-point tensors, which count as
    preprocessed. Pictures become what people see: EXIF orientation is applied,
    transparent ones are put on white, the first frame is taken of several. Greys of
    more than 8 bits are scaled by the range that the file declares; where they fill
    less than a sixteenth of it, or none is declared, by that of their own values, with
    a warning that names the items. Of pictures more than a hundred times longer than
    wide, the middle is taken. An audio model also takes ``(array, sampling_rate)`` and
    ``{"array": ..., "sampling_rate": ...}``; channels are averaged, and the sampling
    rate becomes the model's own. A text model takes strings only and never reads a
    file; text beyond what the model takes is cut off.

    An item that fails, in reading or in the model, is found out by itself and named, or
    skipped: those that share a batch with it are embedded.

    The cache is a SQLite database in WAL mode (which wants a local disk, not a network
    file system). A row's key is a digest of the item's content and of ``fingerprint_``,
    never of a path, so that changed files, weights or settings are never mistaken for
    the old ones. Rows are stored twice a second in transactions, or after each batch
    that takes longer: a process that is killed loses no more than the batch under way
    and the work of the half second before it. Rows carry checksums; damaged ones
    are reported and embedded again. Where the cache cannot be written, a warning says
    why and embedding goes on.

    Preprocessing is told apart by what it does to probe items: pictures from 181 to
    1,057 pixels wide, sounds up to half a minute long, texts of up to 8,889 characters.
    What it does to others alone is noticed where it shows in the code of ``preprocess``
    and of your functions that it calls, or in numbers, texts and tuples that they work
    with. A module is told apart by its weights, its settings, what its own class
    defines, and by what it makes of a probe item, up to a hundredth: that shows what it
    calls elsewhere. A smaller change of code elsewhere is not noticed: give the module
    an attribute that you change with it, or call
    `clear_cache`. A callable can be cached if its ``fingerprint`` attribute is a
    string, to be changed whenever its results change, and if `modality` says what its
    items are.

    Examples
    --------
    Any callable embeds; here the letters of a text are counted.

    >>> import numpy as np
    >>> from skimprint import FoundationEmbedder
    >>> def letters(texts):
    ...     return [[text.count(letter) for letter in "abc"] for text in texts]
    >>> FoundationEmbedder(letters, modality="text").transform(["abba", "cab", "abba"])
    array([[2., 2., 0.],
           [1., 1., 1.],
           [2., 2., 0.]], dtype=float32)

    A sentence model, each text embedded once, ever::

        embedder = FoundationEmbedder(
            "sentence-transformers:all-MiniLM-L6-v2", cache_dir="embeddings"
        )
        model = make_pipeline(embedder, ImprintClassifier()).fit(texts, y)
    """

    device_: str | None
    dtype_: str
    pooling_: str
    modality_: str
    n_features_out_: int

    _parameter_constraints: ClassVar[dict] = {
        "preprocess": [callable, None],
        "modality": [StrOptions({"auto", "image", "text", "audio"})],
        "pooling": [StrOptions({"auto", "mean", "cls", "max", "last", "pooler"})],
        "prompt": [str, None],
        "truncate_dim": [_COUNT, None],
        "decode_size": [_COUNT, None],
        "batch_size": [_COUNT, StrOptions({"auto"})],
        "n_workers": [Interval(Integral, 0, None, closed="left")],
        "on_error": [StrOptions({"raise", "skip"})],
        "output": [StrOptions({"numpy", "torch", "cupy"})],
        "revision": [str, None],
        "local_files_only": ["boolean"],
        "trust_remote_code": ["boolean"],
        "model_kwargs": [dict, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        model: (
            str | Module | Callable[[list[Any]], ArrayLike]
        ) = "timm:vit_small_patch14_dinov2.lvd142m",
        *,
        preprocess: Callable[[Any], Any] | None = None,
        modality: Literal["auto", "image", "text", "audio"] = "auto",
        pooling: Literal["auto", "mean", "cls", "max", "last", "pooler"] = "auto",
        prompt: str | None = None,
        truncate_dim: int | None = None,
        decode_size: int | None = None,
        batch_size: int | Literal["auto"] = "auto",
        device: str | Device = "auto",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] | DType = "auto",
        n_workers: int = 0,
        cache_dir: str | os.PathLike[str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        output: Literal["numpy", "torch", "cupy"] = "numpy",
        revision: str | None = None,
        local_files_only: bool = False,
        trust_remote_code: bool = False,
        model_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
    ):
        self.model = model
        self.preprocess = preprocess
        self.modality = modality
        self.pooling = pooling
        self.prompt = prompt
        self.truncate_dim = truncate_dim
        self.decode_size = decode_size
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.n_workers = n_workers
        self.cache_dir = cache_dir
        self.on_error = on_error
        self.output = output
        self.revision = revision
        self.local_files_only = local_files_only
        self.trust_remote_code = trust_remote_code
        self.model_kwargs = model_kwargs
        self.verbose = verbose

    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the model and check the settings; nothing is learned.

        Parameters
        ----------
        X : sequence of items
            Images, texts or sounds. Only enough of them are embedded to see how long a
            row is.
        y : None
            Ignored.

        Returns
        -------
        self : FoundationEmbedder
            With the attributes that say what will be used.
        """
        items, backbone = as_items(X), self._backbone()
        with notify_callbacks(self, 0, "batch", X=X, y=y):
            row = first_row(items, backbone, **self._settings(backbone))
        return self._set_fitted(backbone, row)

    @with_callbacks
    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Load the model, check the settings, and embed.

        Parameters
        ----------
        X : sequence of items
            Images, texts or sounds.
        y : sequence of labels, default=None
            Ignored, but there must be one for each item: what comes after this step
            would notice only when all items are embedded.

        Returns
        -------
        X_embedded : array of shape (n_items, n_features)
            One row for each item.
        """
        items, backbone = as_items(X), self._backbone()
        check_consistent_length(items, y)
        settings = self._settings(backbone)
        most = ceil(len(items) / settings["batch_size"])
        with notify_callbacks(self, most, "batch", X=X, y=y) as tell:
            embedded = embed_items(items, backbone, **settings, tell=tell)
        self._set_fitted(backbone, embedded)
        return embedded

    def transform(self, X: Any) -> Any:
        """Embed items.

        Parameters
        ----------
        X : sequence of items
            Images, texts or sounds.

        Returns
        -------
        X_embedded : array of shape (n_items, n_features)
            One row for each item.

        Raises
        ------
        ValueError
            If an item cannot be embedded; the message names it. With
            ``on_error="skip"`` its row is NaN instead.
        """
        items, backbone = as_items(X), self._backbone()
        embedded = embed_items(
            items,
            backbone,
            **self._settings(backbone),
            n_features=getattr(self, "n_features_out_", None),
        )
        self._n_features_out = embedded.shape[1]  # names columns, even without fit
        return embedded

    def cache_info(self) -> CacheInfo:
        """Say what the cache holds and how it was used.

        Returns
        -------
        info : CacheInfo
            ``items`` and ``bytes`` of the whole cache, ``hits`` and ``misses`` of all
            look-ups that this process made in it.
        """
        with self._cache() as cache:
            return cache.info()

    def clear_cache(self) -> None:
        """Remove all embeddings from the cache, those of other models included."""
        with self._cache() as cache:
            cache.clear()

    @property
    def fingerprint_(self) -> str | None:
        """Name model and settings by a digest; None where they cannot be told apart."""
        if not hasattr(self, "n_features_out_"):
            raise NotFittedError("fingerprint_ is known after fit: call fit first.")
        try:
            return self._backbone().digest()
        except UncacheableError:
            return None

    def __dir__(self):
        # scikit-learn's looks at each attribute, and so does the display of an
        # estimator. For this one the model would be loaded.
        return sorted({*object.__dir__(self)} - {"fingerprint_"})

    def _backbone(self):
        """Check the settings and make the model ready, loading it if need be."""
        self._validate_params()
        given = {field.name: getattr(self, field.name) for field in fields(Options)}
        given["model_kwargs"] = self.model_kwargs or {}
        return backbone_for(self.model, Options(**given), self.preprocess)

    def _settings(self, backbone):
        names = "n_workers", "cache_dir", "on_error", "output", "verbose"
        size = initial_batch_size(self.batch_size, backbone.device, backbone.modality)
        return {"batch_size": size} | {name: getattr(self, name) for name in names}

    def _set_fitted(self, backbone, embedded):
        """Keep the facts about a fit as attributes."""
        # A pickle of the estimator holds nothing that needs torch.
        self.device_ = None if backbone.device is None else str(backbone.device)
        self.dtype_ = backbone.dtype
        self.pooling_ = backbone.pooling
        self.modality_ = backbone.modality
        self.n_features_out_ = self._n_features_out = embedded.shape[1]
        return self

    def _cache(self):
        if self.cache_dir is None:
            raise ValueError("There is no cache: set cache_dir to a directory.")
        from ._cache import EmbeddingCache  # not every Python has SQLite

        return EmbeddingCache(self.cache_dir)

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_clone__(self):
        bare = copy(self)
        bare.model = bare.preprocess = None
        cloned = _clone_parametrized(bare)
        cloned.model = _shared(self.model)
        cloned.preprocess = _shared(self.preprocess)
        return cloned

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags


def _shared(model):
    """What a clone holds: the model itself, which is frozen and may be large.

    Of one with parameters it is a copy that shares what the model has loaded, so that
    what a search sets in one clone is not set in the others.
    """
    has_parameters = hasattr(model, "get_params") and not isinstance(model, type)
    is_module = hasattr(model, "named_parameters")
    return copy(model) if has_parameters and not is_module else model
