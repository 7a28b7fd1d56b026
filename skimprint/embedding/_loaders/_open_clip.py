"""Pairs of image and text towers of open_clip."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .._backbone import Backbone
from .._extras import require
from .._fingerprint import digest, image_preprocessing_digest
from .._pooling import pool
from ._module import stack, tensor_loader
from ._text import one_at_a_time

_PROBE_TEXTS = ["", "a photo of a Dog", "Ça coûte 12,50 €", "a " * 99]


@dataclass(frozen=True)
class Loaded:
    """Both towers of open_clip, with what feeds each."""

    module: object
    preprocess: object
    tokenizer: object

    @cached_property
    def tokenize(self):
        """From a list of texts to a tensor of tokens."""
        return one_at_a_time(self.tokenizer)

    @cached_property
    def image_preprocessing(self):
        """Digest of the transform of images."""
        return image_preprocessing_digest(self.preprocess)

    @cached_property
    def text_preprocessing(self):
        """Digest of the tokenizer, by what it does to probe texts."""
        return digest(self.tokenize(_PROBE_TEXTS))


def load(name, options):
    """Create a pair by ``architecture/weights``, by hub name or from a directory."""
    import open_clip

    kwargs = dict(options.model_kwargs)
    if Path(name).is_dir():
        name = f"local-dir:{name}"
    elif name.startswith("hf-hub:"):
        if options.local_files_only or options.revision is not None:
            name = f"local-dir:{_snapshot(name.removeprefix('hf-hub:'), options)}"
    else:
        name, _, tag = name.partition("/")
        if not tag and "pretrained" not in kwargs:
            raise ValueError(
                f"model='open_clip:{name}' names no weights. Write "
                f"'open_clip:{name}/<weights>', with one of "
                f"{open_clip.list_pretrained_tags_by_model(name)}, or "
                "'open_clip:hf-hub:<repository>'."
            )
        kwargs.setdefault("pretrained", tag or None)
        if options.local_files_only and kwargs["pretrained"]:
            kwargs["pretrained"] = _local_weights(name, kwargs["pretrained"])
    module, _, preprocess = open_clip.create_model_and_transforms(name, **kwargs)
    return Loaded(module, preprocess, open_clip.get_tokenizer(name))


def _snapshot(repository, options):
    hub = require("huggingface_hub", "open_clip's hub models")
    return hub.snapshot_download(
        repository,
        revision=options.revision,
        local_files_only=options.local_files_only,
    )


def _local_weights(architecture, pretrained):
    """Find weights on this machine, so that open_clip asks no network for them."""
    import open_clip

    if Path(pretrained).exists():
        return pretrained
    hub = require("huggingface_hub", "local_files_only=True")
    cfg = open_clip.get_pretrained_cfg(architecture, pretrained)
    repository = cfg.get("hf_hub", "").rstrip("/")
    for file in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        found = repository and hub.try_to_load_from_cache(repository, file)
        if isinstance(found, str):
            return found
    raise FileNotFoundError(
        f"The weights {pretrained!r} of {architecture!r} are not on this machine, and "
        "local_files_only=True: run once without it."
    )


def backbone(loaded, options):
    """Make the `Backbone` of one of the two towers."""
    if options.pooling != "auto":
        raise ValueError(
            f"pooling={options.pooling!r} is not available for open_clip, whose towers "
            "pool as they were trained to: leave pooling='auto'."
        )
    if options.modality == "image":
        return Backbone(
            model=loaded.module,
            modality="image",
            forward=lambda module, images: pool(module.encode_image(images), "auto"),
            load=tensor_loader(loaded.preprocess),
            collate=stack,
            preprocessing=lambda: loaded.image_preprocessing,
        )
    if options.modality == "text":
        return Backbone(
            model=loaded.module,
            modality="text",
            forward=lambda module, tokens: pool(module.encode_text(tokens), "auto"),
            collate=loaded.tokenize,
            preprocessing=lambda: loaded.text_preprocessing,
        )
    raise ValueError(
        "open_clip embeds images and texts: choose modality='image' or 'text'."
    )
