"""Pairs of image and text towers of open_clip."""

from pathlib import Path

from .._extras import require
from .._pooling import pool
from ._base import TorchLoader, downloaded_file
from ._text import cutter, guarded


class OpenClip(TorchLoader):
    """Both towers of open_clip, with what feeds each."""

    library = "open_clip"
    package = "skimprint[open-clip]"

    def load(self, name, options):
        """Create a pair by ``architecture/weights``, hub name or directory."""
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
        module, _, self.preprocess = open_clip.create_model_and_transforms(
            name, **kwargs
        )
        tokenizer = open_clip.get_tokenizer(name)
        cut = cutter(tokenizer, tokenizer.context_length or 77)
        self.tokenize = guarded(lambda texts: tokenizer([cut(text) for text in texts]))
        return module

    def backbone(self, options):
        """Make a backbone of one of the two towers."""
        why = "is not available for open_clip, whose towers pool as they were trained"
        options.refuse("pooling", why=f"{why} to")
        if options.modality == "image":
            return self.make_of_images(
                options,
                lambda module, images: pool(module.encode_image(images), "auto"),
            )
        if options.modality == "text":
            return self.make(
                options,
                "text",
                lambda module, tokens: pool(module.encode_text(tokens), "auto"),
                collate=self.tokenize,
            )
        raise ValueError(
            "open_clip embeds images and texts: choose modality='image' or 'text'."
        )


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
    cfg = open_clip.get_pretrained_cfg(architecture, pretrained)
    repository = cfg.get("hf_hub", "").rstrip("/")
    files = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
    return downloaded_file(f"{architecture}/{pretrained}", repository, *files)
