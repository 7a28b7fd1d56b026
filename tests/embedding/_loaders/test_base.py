"""What a loader needs, and what loaders share."""

import os
import subprocess
import sys

import pytest
from embedders import NO_TORCH, TEXTS, import_or_skip, pictures

from skimprint import FoundationEmbedder
from skimprint.embedding import _loaders
from skimprint.testing import check_embedder

FAKE = """
import numpy as np

from skimprint.embedding._backbone import Backbone
from skimprint.embedding._loaders._base import Loader


class Counts(Loader):
    library = "json"
    package = "nothing"

    def __init__(self, name, options):
        self.letters = name

    def backbone(self, options):
        options.refuse("pooling", why="has no effect")
        return Backbone(
            model=self,
            modality="text",
            forward=lambda model, rows: np.array(rows),
            load=lambda text: [text.count(letter) for letter in self.letters],
            fingerprint=lambda: self.letters,
        )
"""


@pytest.fixture
def fake_library(tmp_path, monkeypatch):
    """A library that is no torch: one file, one entry."""
    (tmp_path / "fake_loader.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(_loaders.LOADERS, "fake", "fake_loader:Counts")
    return tmp_path


def test_a_loader_is_one_file(fake_library):
    cached = FoundationEmbedder("fake:aeo", cache_dir=fake_library / "cache")
    for embedder in (FoundationEmbedder("fake:aeo"), cached):
        check_embedder(embedder, TEXTS)
    assert cached.cache_info().items == len(TEXTS)
    assert cached.fit(TEXTS).device_ is None
    with pytest.raises(
        ValueError, match="device='cpu' has no effect on models of json"
    ):
        FoundationEmbedder("fake:aeo", device="cpu").transform(TEXTS)
    with pytest.raises(ValueError, match="'fake:resnet50'"):
        FoundationEmbedder("resnet50").transform(TEXTS)


def test_a_loader_needs_no_torch(fake_library):
    code = NO_TORCH + (
        "from sklearn.base import clone\n"
        "from skimprint import FoundationEmbedder\n"
        "from skimprint.embedding import _loaders\n"
        "_loaders.LOADERS['fake'] = 'fake_loader:Counts'\n"
        "embedder = FoundationEmbedder('fake:aeo', cache_dir='cache').fit(['a'])\n"
        "copied = pickle.loads(pickle.dumps(clone(embedder).fit(['a'])))\n"
        "assert copied.transform(['aa', 'o']).tolist() == [[2, 0, 0], [0, 0, 1]]\n"
    )
    path = os.pathsep.join([str(fake_library), os.getcwd()])  # noqa: PTH109
    subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        cwd=fake_library,
        check=True,
    )


def test_checkpoints_are_loaded_as_float32(tiny_models):
    import torch

    embedder = FoundationEmbedder(f"transformers:{tiny_models / 'half'}")
    assert next(embedder._backbone().model.parameters()).dtype == torch.float32
    embedder.set_params(model_kwargs={"dtype": "bfloat16"})
    assert next(embedder._backbone().model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "model", ["timm:resnet10t.c3_in1k", "torchvision:resnet18", "open_clip:RN50/openai"]
)
def test_local_files_only_without_files(model):
    library = model.partition(":")[0]
    import_or_skip(library, library.replace("_", "-"))
    embedder = FoundationEmbedder(model, modality="image", local_files_only=True)
    with pytest.raises(FileNotFoundError, match="not on this machine"):
        embedder.transform(pictures())


@pytest.mark.parametrize(
    "said, kind, expected",
    [
        ("Unknown model (a)", ValueError, "^model='transformers:a' cannot be loaded.*"),
        ("not enough memory", RuntimeError, "^not enough memory$"),
    ],
)
def test_what_torch_says_of_a_model_is_about_its_name(
    said, kind, expected, monkeypatch
):
    """Unless memory ran out: another name would not help."""
    import_or_skip("transformers", "transformers")
    from skimprint.embedding._loaders._transformers import Transformers

    def load(self, name, options):
        raise RuntimeError(said)

    monkeypatch.setattr(Transformers, "load", load)
    with pytest.raises(kind, match=expected):
        FoundationEmbedder("transformers:a", modality="text").transform(TEXTS)
