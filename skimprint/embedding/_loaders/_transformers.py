"""Models of transformers: image models, text models, and pairs of both."""

from functools import cached_property

from .._fingerprint import image_preprocessing_digest, tokenizer_digest
from .._pooling import output_features, output_has, pool
from ._base import TorchLoader
from ._module import with_tensors
from ._text import one_at_a_time


class Transformers(TorchLoader):
    """A model of transformers; what feeds it is loaded when it is needed."""

    library = "transformers"
    package = "skimprint[transformers]"

    def load(self, name, options):
        """Load a model by name or from a directory, from safetensors if there are."""
        import torch
        from transformers import AutoModel

        self.hub = {
            "pretrained_model_name_or_path": name,
            "revision": options.revision or "main",
            "local_files_only": options.local_files_only,
            "trust_remote_code": options.trust_remote_code,
        }
        kwargs = dict(options.model_kwargs)
        # Else the precision of the arithmetic would be that of the file.
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", torch.float32)
        module, info = AutoModel.from_pretrained(
            output_loading_info=True, **self.hub, **kwargs
        )
        # A checkpoint without a pooler would get a random one.
        self.trained_pooler = not any("pooler" in key for key in info["missing_keys"])
        return module

    @property
    def is_pair(self):
        """Whether images and texts are embedded into one space."""
        return hasattr(self.module, "get_image_features") and hasattr(
            self.module, "get_text_features"
        )

    @cached_property
    def tokenizer(self):
        """The tokenizer, able to pad."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(**self.hub)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    @cached_property
    def text_collate(self):
        """From a list of texts to padded tensors, cut at what the model can take."""
        max_length = _max_length(self.tokenizer, self.module.config)
        padding = "max_length" if _pads_always(self.module.config) else True

        def tokenize(texts):
            return dict(
                self.tokenizer(
                    list(texts),
                    padding=padding,
                    truncation=True,
                    max_length=max_length,
                    return_tensors="pt",
                )
            )

        return one_at_a_time(tokenize)

    @cached_property
    def image_collate(self):
        """From a list of images, or tensors that are ready, to tensors."""
        from transformers import AutoImageProcessor

        processor = AutoImageProcessor.from_pretrained(**self.hub)
        return with_tensors(
            lambda images: dict(processor(images=images, return_tensors="pt"))
        )

    @cached_property
    def text_preprocessing(self):
        """Digest of the tokenizer."""
        return tokenizer_digest(self.tokenizer, self.text_collate)

    @cached_property
    def image_preprocessing(self):
        """Digest of what happens to images."""
        return image_preprocessing_digest(lambda image: self.image_collate([image]))

    def backbone(self, options):
        """Make a backbone of what the model takes, or of one tower of a pair."""
        modality = _modality(self, options.modality)
        pooling = _pooling(self, modality, options.pooling)
        n_prefix = _count_prefix(self.module) if modality == "image" else 0

        def forward(module, inputs):
            if pooling == "features":
                features = getattr(module, f"get_{modality}_features")(**inputs)
                return output_features(features, "pooler")[0]
            output = module(**inputs)
            wanted = pooling
            if pooling == "pooler or mean":
                has_pooler = self.trained_pooler and output_has(output, "pooler_output")
                wanted = "pooler" if has_pooler else "mean"
            features, rest = output_features(output, wanted)
            return pool(features, rest, inputs.get("attention_mask"), n_prefix)

        collate = getattr(self, f"{modality}_collate")
        return self.make(options, modality, forward, collate=collate, pooling=pooling)


# Models of the RoBERTa family, whose positions begin after the padding's number.
_OFFSET = {"camembert", "longformer", "mpnet", "roberta", "xlm-roberta"}


def _pads_always(config):
    """Whether the text tower was trained on padding, which it takes for text."""
    return config.model_type.startswith("siglip")


def _max_length(tokenizer, config):
    config = getattr(config, "text_config", config)
    limits = [tokenizer.model_max_length, 2**20]
    positions = getattr(config, "max_position_embeddings", None) or 0
    if config.model_type in _OFFSET:
        positions -= config.pad_token_id + 1
    if positions > 0:
        limits.append(positions)
    return int(min(limits))


# Parameters that an image model puts before the tokens of places.
_PREFIXES = ("cls_token", "class_embedding", "distillation_token", "register_tokens")


def _count_prefix(module):
    return sum(
        parameter.numel() // parameter.shape[-1]
        for name, parameter in module.named_parameters()
        if name.rpartition(".")[2] in _PREFIXES
    )


def _modality(loaded, modality):
    if loaded.is_pair:
        if modality == "auto":
            raise ValueError(
                "This model embeds images and texts: choose modality='image' or 'text'."
            )
        return modality
    main_input = getattr(loaded.module, "main_input_name", "input_ids")
    own = "text" if main_input == "input_ids" else "image"
    if modality not in ("auto", own):
        raise ValueError(f"This model takes {own}s, not modality={modality!r}.")
    return own


def _pooling(loaded, modality, pooling):
    """Resolve "auto": the pair's own features, a trained pooler, or the mean."""
    if pooling == "pooler" and not loaded.trained_pooler:
        raise ValueError(
            "pooling='pooler' needs a trained pooled output, which this checkpoint "
            "does not have. Choose 'mean', 'cls' or 'max'."
        )
    if pooling != "auto":
        if loaded.is_pair:
            raise ValueError(
                f"pooling={pooling!r} is not available for a pair of towers, which "
                "pool as they were trained to: leave pooling='auto'."
            )
        return pooling
    if loaded.is_pair:
        return "features"
    return "mean" if modality == "text" else "pooler or mean"
