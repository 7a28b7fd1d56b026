"""Models of sentence-transformers."""

import re

from ..._arrays.threads import ForkSafeLock
from .._pooling import pool
from ._base import TorchLoader, in_float32
from ._module import with_tensors
from ._text import cutter, guarded


class SentenceTransformers(TorchLoader):
    """A model of sentence-transformers, which prepares its own inputs."""

    library = "sentence_transformers"
    package = "skimprint[text]"

    def load(self, name, options):
        """Load a model by name or from a directory."""
        from sentence_transformers import SentenceTransformer

        kwargs = dict(options.model_kwargs)
        kwargs["model_kwargs"] = in_float32(kwargs.get("model_kwargs") or {})
        module = SentenceTransformer(
            name,
            device="cpu",
            revision=options.revision,
            local_files_only=options.local_files_only,
            trust_remote_code=options.trust_remote_code,
            **kwargs,
        )
        self.cut = cutter(module.tokenizer, module.max_seq_length or 2**20)
        self.lock = ForkSafeLock()
        return module

    def collate(self, prompt):
        """Make what turns a list of texts, or images, into tensors."""
        process = with_tensors(
            lambda items: self.module.preprocess(items, prompt=prompt)
        )

        def collate(items):
            inputs = process(
                [self.cut(item) if isinstance(item, str) else item for item in items]
            )
            if "pixel_values" in inputs:  # tensors do not say which tower they are for
                inputs.setdefault("modality", "image")
            return inputs

        return guarded(collate, self.lock)

    def prompt(self, options):
        """Look up a prompt by its name, or take the text itself."""
        prompts = self.module.prompts
        prompt = prompts.get(options.prompt, options.prompt)
        if prompts and prompt is options.prompt and re.fullmatch(r"\w+", prompt or ""):
            raise ValueError(
                f"prompt={prompt!r} is neither a text nor one of the model's own "
                f"prompts: {sorted(prompts)}."
            )
        return prompt

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

        prompt = self.prompt(options) if modality == "text" else None
        default = self.module.prompts.get(self.module.default_prompt_name)
        return self.make(
            options,
            modality,
            forward,
            collate=self.collate(default if prompt is None else prompt),
            pooling="model" if options.pooling == "auto" else options.pooling,
            prompt=prompt,
            tokenizer=self.module.tokenizer if modality == "text" else None,
        )
