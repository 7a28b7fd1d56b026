"""Models of sentence-transformers."""

from dataclasses import dataclass
from functools import cached_property

from .._backbone import Backbone
from .._fingerprint import image_preprocessing_digest, tokenizer_digest
from .._pooling import pool
from ._module import with_tensors
from ._text import one_at_a_time


@dataclass(frozen=True)
class Loaded:
    """A model of sentence-transformers, which prepares its own inputs."""

    module: object

    @cached_property
    def preprocess(self):
        """From a list of texts, or images, to tensors."""
        prompt = self.module.prompts.get(self.module.default_prompt_name)
        process = with_tensors(
            lambda items: self.module.preprocess(items, prompt=prompt)
        )

        def preprocess(items):
            inputs = process(items)
            if "pixel_values" in inputs:  # tensors do not say which tower they are for
                inputs.setdefault("modality", "image")
            return inputs

        return one_at_a_time(preprocess)

    @cached_property
    def text_preprocessing(self):
        """Digest of the tokenizer and the prompt."""
        return tokenizer_digest(self.module.tokenizer, self.preprocess)

    @cached_property
    def image_preprocessing(self):
        """Digest of what happens to images."""
        return image_preprocessing_digest(lambda image: self.preprocess([image]))


def load(name, options):
    """Load a model by name or from a directory."""
    import torch
    from sentence_transformers import SentenceTransformer

    kwargs = dict(options.model_kwargs)
    # Else the precision of the arithmetic would be that of the file.
    inner = dict(kwargs.get("model_kwargs") or {})
    if "torch_dtype" not in inner:
        inner.setdefault("dtype", torch.float32)
    kwargs["model_kwargs"] = inner
    return Loaded(
        SentenceTransformer(
            name,
            device="cpu",
            revision=options.revision,
            local_files_only=options.local_files_only,
            trust_remote_code=options.trust_remote_code,
            **kwargs,
        )
    )


def backbone(loaded, options):
    """Make the `Backbone` of a loaded model."""
    modality = "text" if options.modality == "auto" else options.modality
    if not loaded.module.supports(modality):
        raise ValueError(
            f"This model takes {loaded.module.modalities}, not modality={modality!r}."
        )

    def forward(module, inputs):
        output = module(inputs)
        if options.pooling == "auto":
            return output["sentence_embedding"][:, : module.truncate_dim]
        features = output.get("token_embeddings")
        if features is None:
            raise ValueError(
                f"pooling={options.pooling!r} needs the embeddings of tokens, which "
                "this model does not return: leave pooling='auto'."
            )
        return pool(features, options.pooling, output.get("attention_mask"))

    return Backbone(
        model=loaded.module,
        modality=modality,
        forward=forward,
        collate=loaded.preprocess,
        pooling="model" if options.pooling == "auto" else options.pooling,
        preprocessing=lambda: getattr(loaded, f"{modality}_preprocessing"),
    )
