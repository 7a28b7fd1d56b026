"""Image models of timm."""

from pathlib import Path

from .._pooling import pool
from ._base import TorchLoader, downloaded_file


class Timm(TorchLoader):
    """A model of timm and the transform that goes with it."""

    library = "timm"
    package = "skimprint[timm]"

    def load(self, name, options):
        """Create a model without its classifier, with its weights and transform."""
        import timm

        kwargs = {"pretrained": True, "num_classes": 0} | options.model_kwargs
        if Path(name).is_dir():
            name = f"local-dir:{name}"
        elif options.revision is not None:
            name = f"{name if ':' in name else _hub_name(name)}@{options.revision}"
        if options.local_files_only and kwargs["pretrained"]:
            kwargs |= _local_weights(name)
        module = timm.create_model(name, **kwargs)
        config = timm.data.resolve_model_data_config(module)
        self.preprocess = timm.data.create_transform(**config, is_training=False)
        return module

    def backbone(self, options):
        """Make a backbone that pools as the model does, or as it is told to."""

        def forward(module, images):
            if options.pooling == "auto":
                return pool(module(images), "auto")
            features = module.forward_features(images)
            if getattr(module, "output_fmt", "NCHW") == "NHWC":
                features = features.permute(0, 3, 1, 2)
            n_prefix = getattr(module, "num_prefix_tokens", 0)
            return pool(features, options.pooling, n_prefix=n_prefix)

        pooling = "model" if options.pooling == "auto" else options.pooling
        return self.make_of_images(options, forward, pooling=pooling)


def _hub_name(name):
    import timm

    cfg = timm.models.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise ValueError(f"timm has no repository for {name!r}: leave revision=None.")
    return f"hf-hub:{cfg.hf_hub_id}"


def _local_weights(name):
    """Point timm to weights on this machine, so that it asks no network for them."""
    import timm

    if name.startswith("local-dir:"):
        return {}
    repository, _, revision = name.removeprefix("hf-hub:").partition("@")
    if not name.startswith("hf-hub:"):
        cfg = timm.models.get_pretrained_cfg(name)
        if cfg is None:
            raise ValueError(f"timm has no pretrained weights for {name!r}.")
        repository = cfg.hf_hub_id if "/" in cfg.hf_hub_id else f"timm/{name}"
    file = downloaded_file(
        name, repository, "model.safetensors", revision=revision or None
    )
    return {"pretrained_cfg_overlay": {"file": file}}
