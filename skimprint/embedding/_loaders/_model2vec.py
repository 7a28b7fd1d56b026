"""Static embeddings of model2vec: a table of vectors for tokens, averaged."""

from .._backbone import Backbone
from .._fingerprint import digest
from ._base import Loader
from ._text import cutter, guarded


class Model2Vec(Loader):
    """A model of model2vec, which needs NumPy only."""

    library = "model2vec"
    package = "skimprint[model2vec]"

    def __init__(self, name, options):
        from model2vec import StaticModel

        options.refuse(
            "revision",
            "local_files_only",
            "trust_remote_code",
            why="has no effect on model2vec: load the files, and name their directory",
        )
        self.model = StaticModel.from_pretrained(name, **options.model_kwargs)
        self.encode = guarded(
            lambda texts: self.model.encode(texts, use_multiprocessing=False)
        )

    def fingerprint(self):
        """Digest of the vectors and the tokenizer."""
        model = self.model
        held = model.embedding, model.weights, model.token_mapping, model.normalize
        return digest(model.tokenizer.to_str(), *held)

    def backbone(self, options):
        """Make a backbone of texts."""
        why = "is not what model2vec does, which averages vectors of texts"
        options.refuse("pooling", why=why)
        options.check_modality("text")
        return Backbone(
            model=self.model,
            modality="text",
            forward=lambda model, texts: self.encode(texts),
            load=cutter(self.model.tokenizer, 2**20),
            fingerprint=self.fingerprint,
            owned=True,
        )
