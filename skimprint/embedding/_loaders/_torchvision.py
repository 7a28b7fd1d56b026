"""Image models of torchvision."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlparse

from .._backbone import Backbone
from .._fingerprint import image_preprocessing_digest
from .._pooling import pool
from ._module import stack, tensor_loader


@dataclass(frozen=True)
class Loaded:
    """A model of torchvision and the transform that goes with it."""

    module: object
    preprocess: object

    @cached_property
    def preprocessing(self):
        """Digest of the transform."""
        return image_preprocessing_digest(self.preprocess)


def load(name, options):
    """Build a model with its weights, and take its classifier off."""
    from torchvision import models

    kwargs = {"weights": "DEFAULT"} | options.model_kwargs
    choices = models.get_model_weights(name)
    weights = kwargs["weights"]
    if isinstance(weights, str):
        weights = choices[weights.rpartition(".")[2]]
    if weights is not None and options.local_files_only:
        _check_downloaded(name, weights.url)
    module = models.get_model(name, **kwargs | {"weights": weights})
    _take_classifier_off(module, name)
    return Loaded(module, (weights or choices.DEFAULT).transforms())


def _check_downloaded(name, url):
    import torch

    file = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
    if not file.exists():
        raise FileNotFoundError(
            f"The weights of {name!r} are not on this machine, and "
            "local_files_only=True: run once without it."
        )


def _take_classifier_off(module, name):
    """Replace the last linear layer, which gives the classes, by the identity."""
    import torch

    linear = [
        path
        for path, part in module.named_modules()
        if isinstance(part, torch.nn.Linear)
    ]
    head = linear[-1] if linear else ""
    if head.partition(".")[0] not in ("fc", "classifier", "head", "heads"):
        raise ValueError(
            f"torchvision's {name!r} does not end in a linear classifier that could be "
            "taken off: pass the features that you want as a torch.nn.Module."
        )
    parent, _, attribute = head.rpartition(".")
    setattr(module.get_submodule(parent), attribute, torch.nn.Identity())


def backbone(loaded, options):
    """Make the `Backbone` of a loaded model."""
    if options.modality == "text":
        raise ValueError(
            "torchvision's models take images: use modality='auto' or 'image'."
        )
    if options.pooling != "auto":
        raise ValueError(
            f"pooling={options.pooling!r} is not available for torchvision, whose "
            "models pool as they were trained to: leave pooling='auto'."
        )
    return Backbone(
        model=loaded.module,
        modality="image",
        forward=lambda module, images: pool(module(images), "auto"),
        load=tensor_loader(loaded.preprocess),
        collate=stack,
        preprocessing=lambda: loaded.preprocessing,
    )
