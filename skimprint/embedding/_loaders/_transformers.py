"""Models of transformers: of images, texts or sounds, and pairs of these."""

from ..._arrays.threads import cached_property
from .._backbone import ITEMS
from .._pooling import output_features, output_has, pool
from .._sounds import resampled
from ._base import TorchLoader, in_float32
from ._module import unpadded, with_tensors
from ._text import cutter, guarded

# What a model takes, by the name of its main input; a text by any other.
_INPUTS = {"pixel_values": "image", "input_values": "audio", "input_features": "audio"}


class Transformers(TorchLoader):
    """A model of transformers; what feeds it is loaded when it is needed."""

    library = "transformers"
    package = "skimprint[transformers]"

    def load(self, name, options):
        """Load a model by name or from a directory, from safetensors if there are."""
        from transformers import AutoModel

        self.hub = {
            "pretrained_model_name_or_path": name,
            "revision": options.revision or "main",
            "local_files_only": options.local_files_only,
            "trust_remote_code": options.trust_remote_code,
        }
        module, info = AutoModel.from_pretrained(
            output_loading_info=True, **self.hub, **in_float32(options.model_kwargs)
        )
        # A checkpoint without a pooler would get a random one.
        self.trained_pooler = not any("pooler" in key for key in info["missing_keys"])
        if module.config.is_encoder_decoder:  # what is decoded would be a guess
            module = module.get_encoder()
        return module

    @property
    def towers(self):
        """What is embedded into one space, by a model that does so."""
        return [
            modality
            for modality in ("image", "audio", "text")
            if hasattr(self.module, f"get_{modality}_features")
        ]

    @cached_property
    def tokenizer(self):
        """The tokenizer, able to pad."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(**self.hub)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        # On the left, positions would tell how long the other texts of a batch are.
        tokenizer.padding_side = "right"
        return tokenizer

    @cached_property
    def text_collate(self):
        """From a list of texts to padded tensors, cut at what the model can take."""
        max_length = _max_length(self.tokenizer, self.module)
        padding = "max_length" if _pads_always(self.module.config) else True
        cut = cutter(self.tokenizer, max_length)

        def tokenize(texts):
            inputs = dict(
                self.tokenizer(
                    [cut(text) for text in texts],
                    padding=padding,
                    truncation=True,
                    max_length=max_length,
                    return_tensors="pt",
                )
            )
            if self.spreads_padding and not inputs["attention_mask"].all():
                raise ValueError("padding would change what this model makes of texts")
            return inputs

        return guarded(tokenize)

    @cached_property
    def image_collate(self):
        """From a list of images, or tensors that are ready, to tensors."""
        from transformers import AutoImageProcessor

        processor = AutoImageProcessor.from_pretrained(**self.hub)
        return with_tensors(unpadded(processor, return_tensors="pt"))

    @cached_property
    def extractor(self):
        """What turns sounds into what an audio model takes."""
        from transformers import AutoFeatureExtractor

        return AutoFeatureExtractor.from_pretrained(**self.hub)

    @property
    def spreads_padding(self):
        """Whether padding changes what a model makes of an item, mask or not."""
        config = self.module.config
        over_all = getattr(config, "feat_extract_norm", None) == "group"
        return over_all or config.model_type in ("convbert", "nystromformer", "yoso")

    @cached_property
    def audio_collate(self):
        """From a list of arrays, at the extractor's rate, to tensors."""
        extractor = self.extractor
        raw = extractor.feature_size == 1  # not a spectrogram of one length
        most = getattr(extractor, "nb_max_samples", None)  # else cut at random
        masked = raw and extractor.return_attention_mask and not self.spreads_padding

        def collate(arrays):
            if raw and not masked and len({*map(len, arrays)}) > 1:
                raise ValueError("padding would change what this model makes of sounds")
            return dict(
                extractor(
                    [array[:most] for array in arrays],
                    sampling_rate=extractor.sampling_rate,
                    return_tensors="pt",
                    **({"padding": True} if raw else {}),
                    **({"return_attention_mask": True} if most is None else {}),
                )
            )

        return collate

    def modality(self, options):
        """Find what the model takes, or which tower of a pair is asked for."""
        towers = self.towers
        if len(towers) > 1:
            if options.modality in towers:
                return options.modality
            names = " and ".join(ITEMS[tower] for tower in towers)
            choices = " or ".join(map(repr, towers))
            raise ValueError(f"This model embeds {names}: choose modality={choices}.")
        own = _INPUTS.get(getattr(self.module, "main_input_name", ""), "text")
        options.check_modality(own)
        return own

    def pooling(self, modality, pooling):
        """Resolve "auto": the pair's own features, a trained pooler, or the mean."""
        is_pair = len(self.towers) > 1
        if pooling == "auto":
            if is_pair:
                return "features"
            return "mean" if modality == "text" else "pooler or mean"
        if pooling == "pooler" and not self.trained_pooler:
            raise ValueError(
                "pooling='pooler' needs a trained pooled output, which this checkpoint "
                "does not have. Choose 'mean', 'cls' or 'max'."
            )
        if is_pair:
            raise ValueError(
                f"pooling={pooling!r} is not available for a pair of towers, which "
                "pool as they were trained to: leave pooling='auto'."
            )
        return pooling

    def backbone(self, options):
        """Make a backbone of what the model takes, or of one tower of a pair."""
        modality = self.modality(options)
        pooling = self.pooling(modality, options.pooling)
        n_prefix = _count_prefix(self.module) if modality != "text" else 0
        main = getattr(self.module, "main_input_name", None)

        def forward(module, inputs):
            if pooling == "features":
                features = getattr(module, f"get_{modality}_features")(**inputs)
                return output_features(features, "pooler")[0]
            mask = inputs.get("attention_mask")
            if main == "input_features":  # a spectrogram, masked or not, is whole
                inputs = {main: inputs[main]}
            output = module(**inputs)
            wanted = pooling
            if pooling == "pooler or mean":
                has_pooler = self.trained_pooler and output_has(output, "pooler_output")
                wanted = "pooler" if has_pooler else "mean"
            features, rest = output_features(output, wanted)
            if modality == "audio" and mask is not None and features.ndim == 3:
                mask = _mask_of_frames(module, mask, features.shape[1] - n_prefix)
            return pool(features, rest, mask, n_prefix)

        arguments = {}
        if modality == "audio":
            rate = self.extractor.sampling_rate
            arguments["load"] = lambda sound: resampled(sound, rate)
        if modality == "text":
            arguments["tokenizer"] = self.tokenizer
        return self.make(
            options,
            modality,
            forward,
            collate=getattr(self, f"{modality}_collate"),
            pooling=pooling,
            **arguments,
        )


def _pads_always(config):
    """Whether the text tower was trained on padding, which it takes for text."""
    return config.model_type.startswith(("siglip", "fnet"))


def _max_length(tokenizer, module):
    config = getattr(module.config, "text_config", module.config)
    limits = [tokenizer.model_max_length, 2**20]
    positions = getattr(config, "max_position_embeddings", None) or 0
    # In the RoBERTa family, positions begin after the number of the padding.
    paddings = (
        getattr(part, "padding_idx", None)
        for name, part in module.named_modules()
        if name.endswith("position_embeddings")
    )
    positions -= max((each + 1 for each in paddings if each is not None), default=0)
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


def _mask_of_frames(module, mask, n_frames):
    """Reduce a mask of samples, or of steps of a spectrogram, to frames."""
    if mask.shape[1] == n_frames:
        return mask
    if hasattr(module, "_get_feature_vector_attention_mask"):
        return module._get_feature_vector_attention_mask(n_frames, mask)
    return mask[:, :: mask.shape[1] // n_frames][:, :n_frames]
