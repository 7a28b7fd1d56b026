"""What a library's module derives its loader from: `Loader`, or `TorchLoader`."""

from pathlib import Path
from typing import ClassVar

from ..._arrays.device import is_out_of_memory
from .._backbone import Backbone, Options
from .._extras import require
from .._torch import TorchBackbone, resolve
from ._module import stack, tensor_loader
from ._text import vocabulary_of


def in_float32(kwargs):
    """Add float32 to the arguments that load a model, unless they name a dtype.

    Else the precision of the arithmetic would be that of the file.
    """
    import torch

    return kwargs if "torch_dtype" in kwargs else {"dtype": torch.float32} | kwargs


def missing_weights(name):
    """Make the error about a model that only the network has."""
    return FileNotFoundError(
        f"The weights of {name!r} are not on this machine, and local_files_only=True: "
        "run once without it."
    )


def downloaded_file(name, repository, *files, revision=None):
    """Find the first of some files of a model on a hub that is on this machine."""
    hub = require("huggingface_hub", "local_files_only=True")
    for file in files if repository else ():
        found = hub.try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(found, str):  # else it is not there
            return found
    raise missing_weights(name)


class Loader:
    """A named model of a library, loaded once and shared.

    A subclass loads in ``__init__`` what is expensive, imports its library there and
    not before, and makes a `Backbone` of it in `backbone`.

    Parameters
    ----------
    name : str
        What stands after the colon of ``model="<library>:<name>"``.
    options : Options
        From `resolve`.
    """

    library: ClassVar[str]  # the module to import
    package: ClassVar[str]  # what to install for it

    def __init__(self, name: str, options: Options):
        raise NotImplementedError

    @classmethod
    def resolve(cls, options: Options) -> Options:
        """Settle what "auto" means, or refuse what has no effect."""
        why = f"has no effect on models of {cls.library}, which choose by themselves"
        options.refuse("device", "dtype", why=why)
        return options

    @staticmethod
    def files_beside(path: str) -> list[Path]:
        """List the files that are read besides a local path and what is in it."""
        return []

    def backbone(self, options: Options) -> Backbone:
        """Make what embeds, once for each use."""
        raise NotImplementedError


class TorchLoader(Loader):
    """A named model that is a ``torch.nn.Module``; a subclass defines `load`.

    Parameters
    ----------
    name : str
        What stands after the colon of ``model="<library>:<name>"``.
    options : Options
        From `resolve`.
    """

    preprocess = None  # from one image to a tensor, where that is all there is to do

    def __init__(self, name, options):
        try:
            self.module = self.load(name, options)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            # So do timm and open_clip tell of a name that they do not know.
            raise ValueError(str(error)) from error
        self.module.to(options.device).eval().requires_grad_(False)

    @classmethod
    def resolve(cls, options):
        """Settle on a device and a precision."""
        return resolve(options)

    def load(self, name, options):
        """Load the module, and keep what feeds it."""
        raise NotImplementedError

    def make(self, options, modality, forward, tokenizer=None, **arguments):
        """Make a backbone of the module."""
        return TorchBackbone(
            model=self.module,
            modality=modality,
            forward=forward,
            device=options.device,
            dtype=options.dtype,
            owned=True,
            preprocessing=lambda: vocabulary_of(tokenizer),
            **arguments,
        )

    def make_of_images(self, options, forward, **arguments):
        """Make a backbone of images that `preprocess` turns into tensors."""
        options.check_modality("image")
        return self.make(
            options,
            "image",
            forward,
            load=tensor_loader(self.preprocess),
            collate=stack,
            **arguments,
        )
