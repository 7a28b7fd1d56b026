"""A module that the user brings, and what it shares with the image libraries."""

from array_api_compat import is_torch_array

from .._fingerprint import code_digest
from .._items import ItemError, describe
from .._pooling import output_features, pool
from .._torch import TorchBackbone, resolve


def module_backbone(module, options, preprocess):
    """Make the `Backbone` of a user's ``torch.nn.Module``.

    Parameters
    ----------
    module : torch.nn.Module
        Left as it is.
    options : Options
        Device and pooling among them.
    preprocess : callable or None
        From one RGB image, or one text, to a tensor.

    Returns
    -------
    backbone : Backbone
        Ready to run.
    """
    if hasattr(module, "encode") and hasattr(module, "tokenize") and not preprocess:
        raise ValueError(
            f"A {type(module).__name__} that has its own tokenizer is loaded by name: "
            "write model='sentence-transformers:<name or path>'."
        )
    modality = "image" if options.modality == "auto" else options.modality
    if modality == "text" and preprocess is None:
        raise ValueError(
            "A torch.nn.Module with modality='text' needs preprocess=, a callable from "
            "one text to a tensor."
        )

    def forward(module, inputs):
        return pool(*output_features(module(inputs), options.pooling))

    options = resolve(options, module)
    return TorchBackbone(
        model=module,
        modality=modality,
        forward=forward,
        load=tensor_loader(preprocess),
        collate=stack,
        pooling=options.pooling,
        device=options.device,
        dtype=options.dtype,
        # Probe items do not show all that it may do.
        preprocessing=None if preprocess is None else lambda: code_digest(preprocess),
    )


def tensor_loader(preprocess):
    """Let tensors that are preprocessed pass, and preprocess everything else.

    Parameters
    ----------
    preprocess : callable or None
        From one RGB image, or one text, to a tensor.

    Returns
    -------
    load : callable
        From one item to a tensor.
    """

    def load(item):
        import torch

        if isinstance(item, torch.Tensor):
            return item
        if preprocess is None:
            raise ItemError(
                "a torch.nn.Module without preprocess= takes floating-point tensors "
                f"only, got {describe(item)}; pass preprocess=, a callable from one "
                "item to a tensor"
            )
        try:
            made = preprocess(item)
        except Exception as error:
            raise ItemError(
                f"preprocess failed with {type(error).__name__}: {error}"
            ) from error
        try:
            return torch.as_tensor(made)
        except Exception as error:
            raise ItemError(
                f"preprocess must return one tensor, got {type(made).__name__}; where "
                "the module takes more than that, wrap it, or load it by name, with "
                "model='transformers:<name or path>' say"
            ) from error

    return load


def stack(tensors):
    """Stack the tensors of a batch, which must be of one shape."""
    import torch

    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise ValueError(
            "Items must be tensors of one shape to share a batch, got the shapes "
            f"{sorted(shapes)}: let preprocess resize or pad them, or use batch_size=1."
        )
    return torch.stack(tensors)


def with_tensors(process):
    """Let tensors that are preprocessed pass, and process the images of a batch.

    Parameters
    ----------
    process : callable
        From a list of images to a dict with ``pixel_values``.

    Returns
    -------
    collate : callable
        From a list of images and tensors to such a dict.
    """

    def collate(items):
        images = [item for item in items if not is_torch_array(item)]
        if len(images) == len(items):
            return process(images)
        processed = iter(process(images)["pixel_values"] if images else ())
        rows = [item if is_torch_array(item) else next(processed) for item in items]
        return {"pixel_values": stack(rows)}

    return collate


def unpadded(processor, **arguments):
    """Make what processes a batch, and refuses one whose images would be padded.

    The images of such a batch are embedded one by one.

    Parameters
    ----------
    processor : callable
        An image processor of transformers.
    **arguments : object
        For it.

    Returns
    -------
    process : callable
        From a list of images to a dict with ``pixel_values``.
    """

    def process(images):
        return dict(processor(images=images, **arguments))

    def checked(images):
        if len(images) > 1:  # one is not padded
            shapes = {process([image])["pixel_values"].shape for image in images}
            if len(shapes) > 1:
                raise ValueError("padding would change what this model makes of them")
        return process(images)

    return checked if getattr(processor, "do_pad", False) else process
