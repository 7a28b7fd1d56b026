"""Models of sentence-transformers."""

from functools import cached_property

from .._fingerprint import image_preprocessing_digest, tokenizer_digest
from .._pooling import pool
from ._base import TorchLoader
from ._module import with_tensors
from ._text import one_at_a_time


class SentenceTransformers(TorchLoader):
    """A model of sentence-transformers, which prepares its own inputs."""

    library = "sentence_transformers"
    package = "skimprint[text]"

    def load(self, name, options):
        """Load a model by name or from a directory."""
        import torch
        from sentence_transformers import SentenceTransformer

        kwargs = dict(options.model_kwargs)
        # Else the precision of the arithmetic would be that of the file.
        inner = dict(kwargs.get("model_kwargs") or {})
        if "torch_dtype" not in inner:
            inner.setdefault("dtype", torch.float32)
        kwargs["model_kwargs"] = inner
        return SentenceTransformer(
            name,
            device="cpu",
            revision=options.revision,
            local_files_only=options.local_files_only,
            trust_remote_code=options.trust_remote_code,
            **kwargs,
        )

    @cached_property
    def collate(self):
        """From a list of texts, or images, to tensors."""
        prompt = self.module.prompts.get(self.module.default_prompt_name)
        process = with_tensors(
            lambda items: self.module.preprocess(items, prompt=prompt)
        )

        def collate(items):
            inputs = process(items)
            if "pixel_values" in inputs:  # tensors do not say which tower they are for
                inputs.setdefault("modality", "image")
            return inputs

        return one_at_a_time(collate)

    @cached_property
    def text_preprocessing(self):
        """Digest of the tokenizer and the prompt."""
        return tokenizer_digest(self.module.tokenizer, self.collate)

    @cached_property
    def image_preprocessing(self):
        """Digest of what happens to images."""
        return image_preprocessing_digest(lambda image: self.collate([image]))

    def backbone(self, options):
        """Make a backbone of texts, unless it is told otherwise."""
        modality = "text" if options.modality == "auto" else options.modality
        if not self.module.supports(modality):
            raise ValueError(
                f"This model takes {self.module.modalities}, not modality={modality!r}."
            )

        def forward(module, inputs):
            output = module(inputs)
            if options.pooling == "auto":
                return output["sentence_embedding"][:, : module.truncate_dim]
            features = output.get("token_embeddings")
            if features is None:
                raise ValueError(
                    f"pooling={options.pooling!r} needs the embeddings of tokens, "
                    "which this model does not return: leave pooling='auto'."
                )
            return pool(features, options.pooling, output.get("attention_mask"))

        pooling = "model" if options.pooling == "auto" else options.pooling
        return self.make(
            options, modality, forward, collate=self.collate, pooling=pooling
        )
