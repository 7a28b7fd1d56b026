"""Image models of torchvision."""

from pathlib import Path
from urllib.parse import urlparse

from .._pooling import pool
from ._base import TorchLoader, missing_weights


class Torchvision(TorchLoader):
    """A model of torchvision and the transform that goes with it."""

    library = "torchvision"
    package = "skimprint[torchvision]"

    def load(self, name, options):
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
        self.preprocess = (weights or choices.DEFAULT).transforms()
        return module

    def backbone(self, options):
        """Make a backbone that pools as the model does."""
        why = "is not available for torchvision, whose models pool as they were trained"
        options.refuse("pooling", why=f"{why} to")
        return self.make_of_images(
            options, lambda module, images: pool(module(images), "auto")
        )


def _check_downloaded(name, url):
    import torch

    file = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(url).path).name)
    if not file.exists():
        raise missing_weights(name)


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
