"""Models of ONNX, with the tokenizer or the image processor that lies beside them."""

import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..._arrays.threads import cached_property
from .._backbone import Backbone
from .._extras import require
from .._fingerprint import digest
from .._pooling import output_features, pool
from ._base import Loader
from ._module import unpadded
from ._text import cutter, guarded

_PACKAGE = "skimprint[onnx]"

# What a text is made into, and what tokenizers call it.
_COLUMNS = {
    "input_ids": "ids",
    "attention_mask": "attention_mask",
    "token_type_ids": "type_ids",
}

# How a model names a file that holds weights, before the name: its length is last.
_LOCATION = re.compile(rb"\n\x08location\x12(.)", re.DOTALL)


class Onnx(Loader):
    """A model of ONNX in a file, or in a directory as exporters write it."""

    library = "onnxruntime"
    package = _PACKAGE

    def __init__(self, name, options):
        options.refuse(
            "revision", "trust_remote_code", why="has no effect on a local file"
        )
        path = Path(name)
        files = [path, path / "model.onnx", path / "onnx" / "model.onnx"]
        self.path = next((file for file in files if file.is_file()), None)
        if self.path is None:
            raise FileNotFoundError(
                f"model='onnx:{name}': there is no such file, nor a directory with "
                "model.onnx in it."
            )
        self.arguments = options.model_kwargs
        self.sessions = {}
        self.inputs = [node.name for node in self.session.get_inputs()]

    @staticmethod
    def files_beside(path):
        """List what prepares items, and the weights that a model in a file names."""
        path = Path(path)
        names = "tokenizer.json", "preprocessor_config.json"
        near = [folder / name for folder in path.parents[:2] for name in names]
        return [*near, *(_weights_of(path) if path.is_file() else ())]

    @property
    def session(self):
        """The session of this process: its threads do not survive a fork."""
        import onnxruntime

        process = os.getpid()
        if process not in self.sessions:
            kwargs = {"providers": onnxruntime.get_available_providers()}
            kwargs |= self.arguments
            session = onnxruntime.InferenceSession(str(self.path), **kwargs)
            # The old one is kept, since its end would wait for its threads.
            self.sessions[process] = session
        return self.sessions[process]

    def beside(self, name, whose):
        """Find a file beside the model, or one folder above, or say whose it is."""
        for folder in self.path.parents[:2]:
            if (folder / name).is_file():
                return folder / name
        raise FileNotFoundError(
            f"There is no {name} beside {self.path}, which {whose} of ONNX needs."
        )

    @cached_property
    def tokenize(self):
        """From a list of texts to padded arrays, cut at what the model can take."""
        tokenizers = require("tokenizers", "A text model of ONNX", _PACKAGE)
        file = self.beside("tokenizer.json", "a text model")
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
        if tokenizer.padding is None:
            tokenizer.enable_padding()
        if tokenizer.truncation is None:
            tokenizer.enable_truncation(512)
        # On the left, positions would tell how long the other texts of a batch are.
        changed = {"length": None, "direction": "right"}
        tokenizer.enable_padding(**tokenizer.padding | changed)
        cut = cutter(tokenizer, tokenizer.truncation["max_length"])

        def tokenize(texts):
            encodings = tokenizer.encode_batch([cut(text) for text in texts])
            return {
                name: np.array([getattr(each, column) for each in encodings], np.int64)
                for name, column in _COLUMNS.items()
            }

        return guarded(tokenize)

    @cached_property
    def process(self):
        """From a list of images to an array."""
        transformers = require("transformers", "An image model of ONNX", _PACKAGE)
        file = self.beside("preprocessor_config.json", "an image model")
        processor = transformers.AutoImageProcessor.from_pretrained(
            file.parent, backend="pil", local_files_only=True
        )
        return unpadded(processor, return_tensors="np")

    def fingerprint(self):
        """Digest the model's file, and those that are read besides."""
        files = [self.path, *self.files_beside(self.path)]
        return digest(*(file.read_bytes() for file in files if file.is_file()))

    def backbone(self, options):
        """Make a backbone of what the model takes."""
        own = "text" if "input_ids" in self.inputs else "image"
        options.check_modality(own)
        if own == "text" and (others := {*self.inputs} - {*_COLUMNS}):
            raise ValueError(
                f"This model wants {', '.join(sorted(others))} besides what a text is "
                f"made into, {', '.join(_COLUMNS)}: export it for the extraction of "
                "features from texts alone."
            )
        outputs = [node.name for node in self.session.get_outputs()]

        def forward(session, inputs):
            if len(inputs) == 1 and len(self.inputs) == 1:
                inputs = dict(zip(self.inputs, inputs.values(), strict=True))
            mask = inputs.get("attention_mask")
            inputs = {name: inputs[name] for name in self.inputs}
            found = dict(zip(outputs, session.run(None, inputs), strict=True))
            pooling = options.pooling
            if pooling == "auto":
                for name in ("sentence_embedding", "image_embeds", "text_embeds"):
                    if name in found:
                        return found[name]
                pooling = "auto" if found[outputs[0]].ndim == 2 else "mean"
            if pooling == "pooler":
                return output_features(found, pooling)[0]
            return pool(found[outputs[0]], pooling, mask)

        return Backbone(
            model=self.session,
            modality=own,
            forward=forward,
            collate=self.tokenize if own == "text" else self.process,
            pooling=options.pooling,
            fingerprint=self.fingerprint,
            preprocessing=lambda: None,  # what it does to probe items tells all
            owned=True,
        )


def _weights_of(path):
    """List the files that a model names for its weights."""
    stat = path.stat()
    return _named_in(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _named_in(path, size, changed):
    content = path.read_bytes()
    found = _LOCATION.finditer(content)
    names = {content[each.end() : each.end() + each[1][0]] for each in found}
    return [path.parent / os.fsdecode(name) for name in sorted(names)]
