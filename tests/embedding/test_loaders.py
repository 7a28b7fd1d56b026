import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from embedders import (
    Lengths,
    import_or_skip,
    mean_colour,
    minilm,
    pictures,
    tiny_vision,
    to_tensor,
)
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

import skimprint
from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.embedding import _loaders
from skimprint.embedding._backbone import Options
from skimprint.embedding._fingerprint import structure_digest
from skimprint.embedding._loaders import backbone_for, parse_model_name
from skimprint.embedding._loaders._text import cutter
from skimprint.testing import check_embedder

# What a program starts with that has no torch.
NO_TORCH = """
import pickle, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'torch':
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
"""

TEXTS = ["one", "one and two", "three", "a longer text than all the others, by far"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No loader may ask a network for anything here."""

    def refuse(*args, **kwargs):
        raise AssertionError("a test tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize(
    "model, expected",
    [
        ("timm:vit_tiny_patch16_224", ("timm", "vit_tiny_patch16_224")),
        ("timm:hf-hub:timm/vit", ("timm", "hf-hub:timm/vit")),
        ("sentence-transformers:a/b", ("sentence-transformers", "a/b")),
        ("sentence_transformers:a/b", ("sentence-transformers", "a/b")),
        ("open-clip:ViT-B-32/openai", ("open_clip", "ViT-B-32/openai")),
        ("transformers:/a/b", ("transformers", "/a/b")),
    ],
)
def test_model_names(model, expected):
    assert parse_model_name(model) == expected


@pytest.mark.parametrize("model", ["resnet50", "", "timm:", "keras:resnet50", "C:/a"])
def test_ambiguous_names_spell_out_the_choices(model):
    with pytest.raises(ValueError, match="does not say which library") as caught:
        FoundationEmbedder(model).transform(["a.jpg"])
    for library in ("timm:", "torchvision:", "transformers:", "open_clip:"):
        assert library in str(caught.value)


@pytest.mark.parametrize("library", ["tim", "torch-vision", "sentence-transformer"])
def test_a_misspelt_library_is_no_part_of_the_name(library):
    with pytest.raises(ValueError, match="Write one of 'timm:a', ") as caught:
        parse_model_name(f"{library}:a")
    assert "'sentence-transformers:a'" in str(caught.value)


@pytest.mark.parametrize(
    "model, extra",
    [
        ("timm:resnet18", "timm"),
        ("torchvision:resnet18", "torchvision"),
        ("transformers:bert", "transformers"),
        ("sentence-transformers:minilm", "text"),
        ("open_clip:RN50/openai", "open-clip"),
    ],
)
def test_missing_library_names_the_extra(model, extra, monkeypatch):
    library = model.partition(":")[0].replace("-", "_")

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == library:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in list(sys.modules):
        if name.partition(".")[0] == library:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(ImportError, match=rf'pip install "skimprint\[{extra}\]"'):
        FoundationEmbedder(model).transform(["a"])


def test_missing_pillow_is_named_alone(monkeypatch):
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "pillow>=10\.3"'):
        FoundationEmbedder(mean_colour, modality="image").transform([b"data"])


def test_neither_name_nor_callable():
    with pytest.raises(TypeError, match="got int"):
        FoundationEmbedder(3).transform(["a"])


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"device": "cpu"}, "device='cpu' has no effect on a callable"),
        ({"dtype": "float32"}, "dtype='float32' has no effect"),
        ({"pooling": "mean"}, "pooling='mean' has no effect"),
        ({"preprocess": len}, "preprocess is for a torch.nn.Module"),
    ],
)
def test_settings_that_a_callable_ignores(parameters, message):
    with pytest.raises(ValueError, match=message):
        FoundationEmbedder(Lengths(), **parameters).transform(["a"])


def test_callable_gets_what_its_modality_says():
    got = []

    def model(items):
        got.extend(items)
        return [[1.0, len(got)] for _ in items]

    data = io.BytesIO()
    pictures(1)[0].convert("L").save(data, "PNG")
    FoundationEmbedder(model).transform([3, data.getvalue(), None])
    assert got == [3, data.getvalue(), None]
    got.clear()
    FoundationEmbedder(model, modality="image").transform([data.getvalue()])
    assert (got[0].mode, got[0].size) == ("RGB", (30, 20))


def test_callable_needs_a_fingerprint_to_be_cached(tmp_path):
    with pytest.raises(ValueError, match=r"set\s+model.fingerprint"):
        FoundationEmbedder(len, modality="text", cache_dir=tmp_path).transform(["a"])
    with pytest.raises(ValueError, match="modality='image', 'text' or 'audio'"):
        FoundationEmbedder(Lengths(), cache_dir=tmp_path).transform(["a"])
    method = Lengths().__call__
    with pytest.raises(ValueError, match=r"method .*: pass a function that calls it"):
        FoundationEmbedder(method, modality="text", cache_dir=tmp_path).transform(["a"])
    embedder = FoundationEmbedder(lambda texts: [[1.0]], cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"it takes: set modality='image', "):
        embedder.transform(["a"])  # a plain function needs no fingerprint
    assert embedder.set_params(modality="text").transform(["a"]) == 1


def test_callables_pass_the_checks(tmp_path):
    check_embedder(FoundationEmbedder(Lengths(), modality="text"), TEXTS)
    check_embedder(
        FoundationEmbedder(mean_colour, modality="image", cache_dir=tmp_path),
        pictures(),
    )


@pytest.mark.parametrize("cached", [False, True])
def test_modules_pass_the_checks(cached, tmp_path):
    embedder = FoundationEmbedder(
        tiny_vision(),
        preprocess=to_tensor,
        batch_size=2,
        cache_dir=tmp_path if cached else None,
    )
    check_embedder(embedder, pictures())


def test_module_without_preprocess_takes_tensors():
    torch = pytest.importorskip("torch", reason="needs torch")
    module = tiny_vision().eval()
    X = torch.rand(4, 3, 16, 16)
    rows = FoundationEmbedder(module).transform(X)
    np.testing.assert_allclose(rows, module(X).detach(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"Item 0, .*pass preprocess="):
        FoundationEmbedder(module).transform(pictures())


def test_preprocess_that_fails_names_the_item():
    def picky(image):
        if image.size[1] == 22:
            raise RuntimeError("no 22")
        return to_tensor(image)

    embedder = FoundationEmbedder(tiny_vision(), preprocess=picky)
    with pytest.raises(ValueError, match=r"Item 2, .*RuntimeError: no 22"):
        embedder.transform(pictures())


@pytest.mark.parametrize("made", [{"input_ids": [1, 2]}, "text", None, [[1], [1, 2]]])
def test_a_preprocess_that_makes_no_tensor_is_told_so(made):
    embedder = FoundationEmbedder(tiny_vision(), preprocess=lambda text: made)
    kind = type(made).__name__
    with pytest.raises(ValueError, match=rf"Item 0, .*return one tensor, got {kind};"):
        embedder.set_params(modality="text").transform(["a"])


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


def test_pickles_of_named_models_need_no_torch(tiny_models):
    embedder = FoundationEmbedder(f"transformers:{tiny_models / 'text'}").fit(TEXTS)
    assert b"torch" not in pickle.dumps(embedder)


def test_a_fitted_pipeline_is_looked_at_without_torch(tiny_models, tmp_path):
    embedder = FoundationEmbedder(f"transformers:{tiny_models / 'text'}", device="cpu")
    model = make_pipeline(embedder, ImprintClassifier("mean")).fit(TEXTS, [*range(4)])
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps(model))
    code = NO_TORCH + (
        "with open(sys.argv[1], 'rb') as file:\n"
        "    model = pickle.load(file)\n"
        "print(repr(model), model._repr_html_(), model.get_params())\n"
        "print(model[0].n_features_out_, model[0].pooling_, model[-1].classes_)\n"
        "model[-1].predict(model[-1].proxies_)\n"
    )
    root = str(Path(skimprint.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", code, path], env=environment, check=True)


def test_text_module():
    torch = pytest.importorskip("torch", reason="needs torch")

    def codes(text):
        return torch.tensor([ord(letter) for letter in text.ljust(64)[:64]])

    module = torch.nn.EmbeddingBag(256, 4, mode="mean")
    embedder = FoundationEmbedder(module, preprocess=codes, modality="text")
    check_embedder(embedder, TEXTS)
    with pytest.raises(ValueError, match="needs preprocess="):
        FoundationEmbedder(module, modality="text").transform(TEXTS)


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory):
    """Directories of randomly initialised models of transformers, by kind."""
    transformers = import_or_skip("transformers", "transformers")
    import torch

    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"abcdefghijklmnopqrstuvwxyz",
    ]
    words += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (root / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(
        vocab=dict(zip(words, range(len(words)), strict=True))
    )
    vision = small | {"image_size": 32, "patch_size": 8}
    text = small | {"vocab_size": len(words), "max_position_embeddings": 40}
    models = {
        "text": transformers.BertModel(transformers.BertConfig(**text)),
        "no-pooler": transformers.BertModel(
            transformers.BertConfig(**text), add_pooling_layer=False
        ),
        "image": transformers.ViTModel(transformers.ViTConfig(**vision)),
        "image-no-pooler": transformers.ViTModel(
            transformers.ViTConfig(**vision), add_pooling_layer=False
        ),
        "pair": transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config=text | {"eos_token_id": 3},
                vision_config=vision,
                projection_dim=8,
            )
        ),
        "siglip": transformers.SiglipModel(
            transformers.SiglipConfig(
                text_config=text | {"projection_size": 16}, vision_config=vision
            )
        ),
        "half": transformers.BertModel(transformers.BertConfig(**text)).bfloat16(),
    }
    size = {"height": 32, "width": 32}
    processors = {
        "image": transformers.ViTImageProcessorPil(size=size),
        "image-no-pooler": transformers.ViTImageProcessorPil(size=size),
        "pair": transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size=size
        ),
    }
    for kind, model in models.items():
        model.save_pretrained(root / kind)
        if kind in processors:
            processors[kind].save_pretrained(root / kind)
        if not kind.startswith("image"):
            tokenizer.save_pretrained(root / kind)
    return root


@pytest.mark.parametrize(
    "kind, modality, pooling, width",
    [
        ("text", "auto", "auto", 16),
        ("text", "auto", "cls", 16),
        ("text", "auto", "last", 16),
        ("text", "auto", "pooler", 16),
        ("no-pooler", "text", "max", 16),
        ("image", "auto", "auto", 16),
        ("image", "image", "mean", 16),
        ("image-no-pooler", "auto", "auto", 16),
        ("pair", "image", "auto", 8),
        ("pair", "text", "auto", 8),
    ],
)
def test_transformers(tiny_models, tmp_path, kind, modality, pooling, width):
    embedder = FoundationEmbedder(
        f"transformers:{tiny_models / kind}",
        modality=modality,
        pooling=pooling,
        batch_size=3,
        local_files_only=True,
        cache_dir=tmp_path,
    )
    takes_text = modality == "text" or kind == "text"
    items = TEXTS if takes_text else pictures()
    check_embedder(embedder, items)
    embedder.fit(items)
    assert embedder.n_features_out_ == width
    assert embedder.modality_ == ("text" if takes_text else "image")


def test_transformers_ask_for_what_is_missing(tiny_models):
    def embed(kind, **parameters):
        model = f"transformers:{tiny_models / kind}"
        return FoundationEmbedder(model, **parameters).transform(["text"])

    with pytest.raises(ValueError, match="choose modality='image' or 'text'"):
        embed("pair")
    with pytest.raises(ValueError, match="takes texts, not modality='image'"):
        embed("text", modality="image")
    with pytest.raises(ValueError, match="needs a trained pooled output"):
        embed("no-pooler", pooling="pooler")
    with pytest.raises(ValueError, match=r"'pooling' parameter of .* Got 'best'"):
        embed("text", pooling="best")


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_texts_of_one_batch_do_not_change_each_other(tiny_models, tmp_path, pooling):
    transformers = import_or_skip("transformers", "transformers")
    torch = pytest.importorskip("torch")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models / "text")
    tokenizer.padding_side = "left"
    torch.manual_seed(0)
    size = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": len(tokenizer)}
    model = transformers.GPT2Model(transformers.GPT2Config(**size))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    embedder = FoundationEmbedder(f"transformers:{tmp_path}", pooling=pooling)
    both = embedder.transform(TEXTS)
    alone = np.concatenate([embedder.transform([text]) for text in TEXTS])
    np.testing.assert_allclose(both, alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["convbert", "nystromformer", "yoso", "fnet"])
def test_models_that_padding_changes_do_not_see_it(tiny_models, tmp_path, kind):
    transformers = import_or_skip("transformers", "transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=64, hidden_size=16, num_hidden_layers=1, embedding_size=16,
        num_attention_heads=2, intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models / "text")
    for part in (transformers.AutoModel.from_config(config), tokenizer):
        part.save_pretrained(tmp_path)
    embedder = FoundationEmbedder(f"transformers:{tmp_path}")
    alone = np.concatenate([embedder.transform([text]) for text in TEXTS])
    np.testing.assert_allclose(embedder.transform(TEXTS), alone, atol=1e-5)


@pytest.fixture
def without_special_tokens(tiny_models, tmp_path):
    """Make a model of a library whose tokenizer makes no token of an empty text."""
    transformers = import_or_skip("transformers", "transformers")
    tokenizers = import_or_skip("tokenizers", "tokenizers")
    torch = pytest.importorskip("torch")

    def make(library, pooling):
        path = tmp_path / "model"
        config = json.loads((tiny_models / "text" / "tokenizer.json").read_text())
        bare = tokenizers.Tokenizer.from_str(
            json.dumps(config | {"post_processor": None})
        )
        if library == "onnx":
            onnx_model(path, of_images=False)
            bare.save(str(path / "tokenizer.json"))
            return FoundationEmbedder(f"onnx:{path}", pooling=pooling)
        torch.manual_seed(0)
        model = transformers.GPT2Model(
            transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=64)
        )
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=bare, pad_token="[PAD]", model_max_length=40
        )
        for part in (model, tokenizer):
            part.save_pretrained(path)
        return FoundationEmbedder(f"{library}:{path}", pooling=pooling)

    return make


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("library", ["transformers", "sentence-transformers", "onnx"])
def test_texts_of_no_tokens_are_named(
    without_special_tokens, tmp_path, library, pooling
):
    # In a batch they would get rows made of padding.
    if library == "sentence-transformers":
        import_or_skip("sentence_transformers", "text")
    embedder = without_special_tokens(library, pooling)
    expected = embedder.transform(TEXTS)
    for items in (["", "one"], [""]):
        with pytest.raises(ValueError, match=r"Item 0, '', .*makes no token of it"):
            embedder.transform(items)
    embedder.set_params(on_error="skip", cache_dir=tmp_path / "cache")
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UserWarning, match=r"2 of 6 items .*\[0, 3\]"):
            rows = embedder.transform(["", *TEXTS[:2], " ", *TEXTS[2:]])
        assert np.isnan(rows[[0, 3]]).all()
        np.testing.assert_allclose(rows[[1, 2, 4, 5]], expected, atol=1e-5)


def test_untrained_pooler_is_not_used(tiny_models):
    model = f"transformers:{tiny_models / 'image-no-pooler'}"
    rows = FoundationEmbedder(model).transform(pictures())
    means = FoundationEmbedder(model, pooling="mean").transform(pictures())
    np.testing.assert_array_equal(rows, means)


def test_texts_beyond_what_the_model_takes(tiny_models):
    model = f"transformers:{tiny_models / 'text'}"
    rows = FoundationEmbedder(model).transform(["a b " * 12_500, "a b " * 20])
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "roberta", "t5", "opt"])
@pytest.mark.parametrize("library", ["transformers", "sentence-transformers"])
def test_a_model_without_its_tokenizer(tmp_path, library, family):
    # transformers makes one of special tokens, for which all words are the same.
    transformers = import_or_skip("transformers", "transformers")
    if library == "sentence-transformers":
        import_or_skip("sentence_transformers", "text")
    sizes = {"vocab_size": 300, "num_hidden_layers": 1, "num_attention_heads": 2}
    if family == "t5":
        sizes |= {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    else:
        sizes |= {"hidden_size": 16, "intermediate_size": 32, "ffn_dim": 32}
    config = transformers.AutoConfig.for_model(family, **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    embedder = FoundationEmbedder(f"{library}:{tmp_path}")
    with pytest.raises(ValueError, match=r"knows no words, .*\.save_pretrained\("):
        embedder.transform(TEXTS)


@pytest.mark.parametrize(
    "family", ["roberta", "mpnet", "xlm-roberta-xl", "data2vec-text", "ibert", "luke"]
)
def test_positions_that_begin_after_the_padding(tiny_models, tmp_path, family):
    n_words = 36 if family == "mpnet" else 37  # whose padding is always number 1
    transformers = import_or_skip("transformers", "transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models / "text")
    assert tokenizer.model_max_length > 40
    config = transformers.AutoConfig.for_model(
        family, vocab_size=64, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, pad_token_id=0,
        max_position_embeddings=40,
    )  # fmt: skip
    for part in (transformers.AutoModel.from_config(config), tokenizer):
        part.save_pretrained(tmp_path)
    rows = FoundationEmbedder(f"transformers:{tmp_path}").transform(
        [" ".join(("ab" * n)[:n]) for n in (500, n_words, n_words - 1)]
    )
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-5, atol=1e-6)
    assert abs(rows[1] - rows[2]).max() > 1e-4  # no more than need be


def test_siglip_pads_as_it_was_trained(tiny_models):
    embedder = FoundationEmbedder(
        f"transformers:{tiny_models / 'siglip'}", modality="text"
    )
    alone, together = embedder.transform(["a b"]), embedder.transform(["a b", *TEXTS])
    np.testing.assert_allclose(alone, together[:1], atol=1e-5)


def test_checkpoints_are_loaded_as_float32(tiny_models):
    import torch

    embedder = FoundationEmbedder(f"transformers:{tiny_models / 'half'}")
    assert next(embedder._resolve().model.parameters()).dtype == torch.float32
    embedder.set_params(model_kwargs={"dtype": "bfloat16"})
    assert next(embedder._resolve().model.parameters()).dtype == torch.bfloat16


def test_transformers_take_tensors_that_are_ready(tiny_models):
    transformers = import_or_skip("transformers", "transformers")
    name = tiny_models / "image"
    embedder = FoundationEmbedder(f"transformers:{name}")
    processor = transformers.ViTImageProcessorPil.from_pretrained(name)
    images = pictures()
    ready = processor(images=images, return_tensors="pt")["pixel_values"]
    expected = embedder.transform(images)
    mixed = [image if i % 2 else ready[i] for i, image in enumerate(images)]
    for items in (ready, mixed):
        np.testing.assert_allclose(embedder.transform(items), expected, atol=1e-5)


def test_mean_of_an_image_leaves_the_class_token_out(tiny_models):
    transformers = import_or_skip("transformers", "transformers")
    name = tiny_models / "image"
    module = transformers.AutoModel.from_pretrained(name).eval()
    processor = transformers.ViTImageProcessorPil.from_pretrained(name)
    output = module(**processor(images=pictures(), return_tensors="pt"))
    expected = output.last_hidden_state[:, 1:].mean(1).detach()
    embedder = FoundationEmbedder(f"transformers:{name}", pooling="mean")
    np.testing.assert_allclose(embedder.transform(pictures()), expected, atol=1e-5)


@pytest.mark.parametrize("library", ["transformers", "onnx"])
def test_pictures_of_one_batch_are_not_padded(library, tmp_path):
    transformers = import_or_skip("transformers", "transformers")
    if library == "onnx":
        folder, _ = onnx_model(tmp_path / "model", of_images=True)
    else:
        folder = tmp_path / "model"
        config = transformers.YolosConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=[32, 48],
            patch_size=8,
            num_detection_tokens=2,
        )
        transformers.YolosModel(config).save_pretrained(folder)
    size = {"shortest_edge": 32, "longest_edge": 64}
    transformers.YolosImageProcessorPil(size=size).save_pretrained(folder)
    rng = np.random.default_rng(0)
    shapes = (40, 40), (40, 60), (80, 40), (40, 40)
    items = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    check_embedder(FoundationEmbedder(f"{library}:{folder}"), items)


def test_pairs_have_their_own_pooling(tiny_models):
    embedder = FoundationEmbedder(
        f"transformers:{tiny_models / 'pair'}", modality="text", pooling="mean"
    )
    with pytest.raises(ValueError, match="not available for a pair"):
        embedder.transform(TEXTS)


def test_a_module_of_transformers(tiny_models):
    transformers = import_or_skip("transformers", "transformers")
    module = transformers.AutoModel.from_pretrained(tiny_models / "image")

    def preprocess(image):
        return to_tensor(image)

    embedder = FoundationEmbedder(module, preprocess=preprocess, pooling="pooler")
    check_embedder(embedder, pictures())
    with pytest.raises(ValueError, match="pooling='auto' does not fit"):
        embedder.set_params(pooling="auto").transform(pictures())


def test_named_models_are_loaded_once(tiny_models, monkeypatch):
    monkeypatch.setattr(_loaders, "_LOADED", type(_loaders._LOADED)())
    model = f"transformers:{tiny_models / 'text'}"
    for _ in range(2):
        FoundationEmbedder(model).transform(TEXTS)
        FoundationEmbedder(model, pooling="max", batch_size=1).transform(TEXTS)
    assert len(_loaders._LOADED) == 1
    for number in range(6):
        kwargs = {"attn_implementation": "eager", "output_attentions": bool(number % 2)}
        FoundationEmbedder(model, model_kwargs=kwargs).transform(TEXTS)
    assert len(_loaders._LOADED) == 3


def test_weights_changed_under_the_same_name(tiny_models, tmp_path):
    transformers = import_or_skip("transformers", "transformers")
    name = tmp_path / "model"
    module = transformers.AutoModel.from_pretrained(tiny_models / "text")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models / "text")
    module.save_pretrained(name)
    tokenizer.save_pretrained(name)
    embedder = FoundationEmbedder(
        f"transformers:{name}", cache_dir=tmp_path / "cache"
    ).fit(TEXTS)
    before, fingerprint = embedder.transform(TEXTS), embedder.fingerprint_
    shutil.copytree(name, tmp_path / "moved")
    moved = FoundationEmbedder(f"transformers:{tmp_path / 'moved'}").fit(TEXTS)
    assert moved.fingerprint_ == fingerprint  # not by where it is
    module.embeddings.word_embeddings.weight.data.normal_()
    module.save_pretrained(name)
    after = embedder.transform(TEXTS)
    assert embedder.fit(TEXTS).fingerprint_ != fingerprint
    assert not np.isclose(before, after).all(1).any()
    expected = FoundationEmbedder(f"transformers:{name}").transform(TEXTS)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)
    assert embedder.cache_info().items == 2 * len(TEXTS)


def test_sentence_transformers(tmp_path):
    model = minilm()
    embedder = FoundationEmbedder(model, local_files_only=True, batch_size=2)
    check_embedder(embedder, TEXTS)
    check_embedder(embedder.set_params(cache_dir=tmp_path), TEXTS)
    from sentence_transformers import SentenceTransformer

    rows = embedder.transform([*TEXTS, "a " * 25_000, ""])
    reference = SentenceTransformer(model.partition(":")[2], device="cpu")
    expected = reference.encode([*TEXTS, "a " * 25_000, ""])
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_sentence_transformers_are_told_by_what_they_are(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(minilm().partition(":")[2], folder)
    backbones = [
        backbone_for(name, Options())
        for name in (minilm(), f"sentence-transformers:{folder}")
    ]
    first, copied = (structure_digest(each.model) for each in backbones)
    assert first == copied
    backbones[0].preprocessing()  # which looks at all that the model says of itself
    assert structure_digest(backbones[0].model) == first


def test_sentence_transformers_truncate():
    model = minilm()
    rows = FoundationEmbedder(model).transform(TEXTS)
    cut = FoundationEmbedder(model, model_kwargs={"truncate_dim": 64})
    np.testing.assert_allclose(cut.transform(TEXTS), rows[:, :64], atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sentence_transformers_in_half_precision(dtype):
    model = minilm()
    rows = FoundationEmbedder(model).transform(TEXTS)
    for half in (
        FoundationEmbedder(model, dtype=dtype),
        FoundationEmbedder(model, model_kwargs={"model_kwargs": {"dtype": dtype}}),
    ):
        halved = half.transform(TEXTS)
        assert halved.dtype == np.float32
        assert not np.array_equal(halved, rows)
        assert ((halved * rows).sum(1) > 0.99).all()  # cosines: rows are normalised


def test_a_module_of_sentence_transformers_is_loaded_by_name():
    path = minilm().partition(":")[2]
    from sentence_transformers import SentenceTransformer

    module = SentenceTransformer(path, device="cpu")
    with pytest.raises(ValueError, match="model='sentence-transformers:<name"):
        FoundationEmbedder(module).transform(["hello"])


def test_static_models_of_sentence_transformers(tiny_models, tmp_path):
    # What they take of a batch is one sequence of tokens, and where each text begins.
    library = import_or_skip("sentence_transformers", "text")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizers = import_or_skip("tokenizers", "tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(
        str(tiny_models / "text" / "tokenizer.json")
    )
    static = StaticEmbedding(tokenizer, embedding_dim=8)
    module = library.SentenceTransformer(modules=[static], device="cpu")
    module.save(str(tmp_path / "model"))
    expected = module.encode(TEXTS)
    for batch_size in (1, 3, 32):
        embedder = FoundationEmbedder(
            f"sentence-transformers:{tmp_path / 'model'}", batch_size=batch_size
        )
        np.testing.assert_allclose(embedder.transform(TEXTS), expected, atol=1e-6)
        check_embedder(embedder, TEXTS)


def test_sentence_transformers_pooling():
    model = minilm()
    rows = FoundationEmbedder(model).fit_transform(TEXTS)
    means = FoundationEmbedder(model, pooling="mean").transform(TEXTS)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, means, atol=1e-5)
    with pytest.raises(ValueError, match="not modality='image'"):
        FoundationEmbedder(model, modality="image").transform(TEXTS)


@pytest.fixture(scope="module")
def tiny_clip(tiny_models, tmp_path_factory):
    """A pair of towers, not trained, as a model of sentence-transformers."""
    library = import_or_skip("sentence_transformers", "text")
    from sentence_transformers.sentence_transformer.modules import (
        Normalize,
        Transformer,
    )

    modules = [Transformer(str(tiny_models / "pair")), Normalize()]
    path = tmp_path_factory.mktemp("sentence-transformers") / "clip"
    library.SentenceTransformer(modules=modules, device="cpu").save(str(path))
    return path


@pytest.mark.parametrize("modality", ["image", "text"])
def test_sentence_transformers_of_two_towers(tiny_clip, tmp_path, modality):
    from sentence_transformers import SentenceTransformer

    items = pictures() if modality == "image" else TEXTS
    embedder = FoundationEmbedder(
        f"sentence-transformers:{tiny_clip}",
        modality=modality,
        batch_size=2,
        local_files_only=True,
        cache_dir=tmp_path,
    )
    check_embedder(embedder, items)
    reference = SentenceTransformer(str(tiny_clip), device="cpu")
    rows = embedder.transform(items)
    np.testing.assert_allclose(rows, reference.encode(items), atol=1e-5)
    assert rows.shape == (len(items), 8)


def test_sentence_transformers_take_images_of_all_kinds(tiny_clip, tmp_path):
    embedder = FoundationEmbedder(
        f"sentence-transformers:{tiny_clip}", modality="image"
    )
    images = pictures(2)
    images[0].save(tmp_path / "a.png")
    data = io.BytesIO()
    images[1].save(data, "PNG")
    items = [tmp_path / "a.png", data.getvalue(), *map(np.asarray, images)]
    rows = embedder.transform(items)
    np.testing.assert_allclose(rows[:2], rows[2:], atol=1e-6)
    np.testing.assert_allclose(rows[:2], embedder.transform(images), atol=1e-6)
    ready = embedder._resolve().prepare(images)["pixel_values"]
    np.testing.assert_allclose(embedder.transform(ready), rows[:2], atol=1e-6)
    with pytest.raises(ValueError, match="needs the embeddings of tokens"):
        embedder.set_params(pooling="mean").transform(images)


RANDOM_WEIGHTS = {
    "timm": {"pretrained": False},
    "torchvision": {"weights": None},
    "open_clip": {"pretrained": None},
}


@pytest.mark.parametrize(
    "model, pooling",
    [
        ("timm:resnet10t", "auto"),
        ("timm:resnet10t", "mean"),
        ("timm:vit_tiny_patch16_224", "cls"),
        ("timm:test_vit", "max"),
        ("torchvision:resnet18", "auto"),
        ("torchvision:mobilenet_v3_small", "auto"),
        ("torchvision:shufflenet_v2_x0_5", "auto"),
        ("open_clip:RN50", "auto"),
    ],
)
def test_image_libraries(model, pooling, tmp_path):
    library = model.partition(":")[0]
    import_or_skip(library, library.replace("_", "-"))
    embedder = FoundationEmbedder(
        model,
        modality="image",
        pooling=pooling,
        batch_size=2,
        cache_dir=tmp_path,
        model_kwargs=RANDOM_WEIGHTS[library],
    )
    check_embedder(embedder, pictures(3))


def test_open_clip_texts():
    import_or_skip("open_clip", "open-clip")
    embedder = FoundationEmbedder(
        "open_clip:RN50", modality="text", model_kwargs={"pretrained": None}
    )
    check_embedder(embedder, TEXTS)
    with pytest.raises(ValueError, match="choose modality='image' or 'text'"):
        embedder.set_params(modality="auto").transform(TEXTS)
    with pytest.raises(ValueError, match="names no weights"):
        embedder.set_params(model_kwargs=None).transform(TEXTS)


@pytest.mark.parametrize(
    "library", ["sentence-transformers", "transformers", "model2vec", "onnx"]
)
@pytest.mark.parametrize("name", ["nobody/has-such-a-model", "/no/such/folder"])
def test_a_model_that_is_not_there_is_named(library, name):
    pytest.importorskip(
        {"onnx": "onnxruntime"}.get(library, library.replace("-", "_")),
        reason=f"needs {library}",
    )
    model = f"{library}:{name}"
    with pytest.raises((OSError, ValueError), match=f"^model={model!r}"):
        FoundationEmbedder(model, modality="text").transform(["a text"])


@pytest.mark.parametrize(
    "model", ["timm:resnet10t.c3_in1k", "torchvision:resnet18", "open_clip:RN50/openai"]
)
def test_local_files_only_without_files(model):
    library = model.partition(":")[0]
    import_or_skip(library, library.replace("_", "-"))
    embedder = FoundationEmbedder(model, modality="image", local_files_only=True)
    with pytest.raises(FileNotFoundError, match="not on this machine"):
        embedder.transform(pictures())


def test_unsuitable_image_models():
    import_or_skip("torchvision", "torchvision")
    embedder = FoundationEmbedder(
        "torchvision:squeezenet1_0", model_kwargs={"weights": None}
    )
    with pytest.raises(ValueError, match="does not end in a linear classifier"):
        embedder.transform(pictures())


def static_model(tmp_path, seed=0):
    """Save a small model of model2vec."""
    model2vec = import_or_skip("model2vec", "model2vec")
    tokenizers = import_or_skip("tokenizers", "model2vec")
    words = ["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz", "one", "two", "three"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            dict(zip(words, range(len(words)), strict=True)), unk_token="[UNK]"
        )
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    vectors = np.random.default_rng(seed).standard_normal((len(words), 12))
    model = model2vec.StaticModel(vectors.astype(np.float32), tokenizer)
    model.save_pretrained(tmp_path)
    return model


def test_model2vec(tmp_path):
    model = static_model(tmp_path / "model")
    cached = FoundationEmbedder(f"model2vec:{tmp_path / 'model'}", cache_dir=tmp_path)
    texts = ["one two", "a b c", "three", "one two three " * 500]
    for embedder in (clone(cached).set_params(cache_dir=None), cached):
        check_embedder(embedder, texts)
    np.testing.assert_allclose(cached.transform(texts), model.encode(texts), atol=1e-6)
    before = cached.fit(texts).fingerprint_
    static_model(tmp_path / "model", seed=1)
    assert cached.fit(texts).fingerprint_ != before
    with pytest.raises(ValueError, match="averages vectors of texts"):
        clone(cached).set_params(pooling="cls").transform(texts)


def onnx_model(folder, of_images):
    """Save a small model of ONNX with what prepares its inputs."""
    onnx = import_or_skip("onnx", "onnx")
    import_or_skip("onnxruntime", "onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    rng = np.random.default_rng(0)
    if of_images:
        name, kind, shape = "pixel_values", kinds.FLOAT, ["n", 3, "h", "w"]
        weights = rng.standard_normal((8, 3, 4, 4)).astype(np.float32)
        nodes = [
            helper.make_node("Conv", [name, "weights"], ["y"], strides=[4, 4]),
            helper.make_node("Relu", ["y"], ["last_hidden_state"]),
        ]
        more, out = [], ["n", 8, "a", "b"]
    else:
        name, kind, shape = "input_ids", kinds.INT64, ["n", "tokens"]
        weights = rng.standard_normal((64, 8)).astype(np.float32)
        nodes = [helper.make_node("Gather", ["weights", name], ["last_hidden_state"])]
        more = [helper.make_tensor_value_info("attention_mask", kind, shape)]
        out = ["n", "tokens", 8]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape), *more],
        [helper.make_tensor_value_info("last_hidden_state", kinds.FLOAT, out)],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "onnx" / "model.onnx")
    return folder, weights


@pytest.mark.parametrize("of_images", [False, True])
def test_onnx(tmp_path, tiny_models, of_images):
    folder, weights = onnx_model(tmp_path / "model", of_images)
    kind, file = (
        ("image", "preprocessor_config.json")
        if of_images
        else (
            "text",
            "tokenizer.json",
        )
    )
    items = pictures() if of_images else TEXTS
    with pytest.raises(FileNotFoundError, match=f"There is no {file}"):
        FoundationEmbedder(f"onnx:{folder}").transform(items)
    shutil.copy(tiny_models / kind / file, folder)
    os.utime(folder / "onnx" / "model.onnx", (1, 1))  # a directory that has changed
    cached = FoundationEmbedder(f"onnx:{folder}", cache_dir=tmp_path)
    for embedder in (clone(cached).set_params(cache_dir=None), cached):
        check_embedder(embedder, items)
    assert cached.fit(items).modality_ == kind
    assert cached.n_features_out_ == 8
    rows = cached.transform(items)
    if not of_images:
        tokens = cached._resolve().prepare([TEXTS[1]])["input_ids"][0]
        np.testing.assert_allclose(rows[1], weights[tokens].mean(0), atol=1e-6)
        first = clone(cached).set_params(pooling="cls").transform(items)
        np.testing.assert_allclose(first[0], weights[tokens[0]], atol=1e-6)
    direct = FoundationEmbedder(f"onnx:{folder / 'onnx' / 'model.onnx'}")
    np.testing.assert_array_equal(direct.transform(items), rows)
    with pytest.raises(ValueError, match="device='cpu' has no effect"):
        direct.set_params(device="cpu").transform(items)
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        FoundationEmbedder("onnx:nowhere").transform(items)


@pytest.mark.parametrize("changed", ["model.onnx_data", "w", "tokenizer.json"])
@pytest.mark.parametrize("name", ["", "onnx", "onnx/model.onnx"])
def test_onnx_is_loaded_again_when_a_file_beside_it_has_changed(
    tmp_path, tiny_models, monkeypatch, name, changed
):
    folder, weights = onnx_model(tmp_path / "model", of_images=False)
    import onnx

    file = folder / "onnx" / "model.onnx"
    tokenizer = folder / "tokenizer.json"
    data = file.with_name("w" if changed == tokenizer.name else changed)
    external = {"location": data.name, "size_threshold": 0}
    onnx.save(onnx.load(file), file, save_as_external_data=True, **external)
    shutil.copy(tiny_models / "text" / tokenizer.name, tokenizer)
    embedder = FoundationEmbedder(f"onnx:{folder / name}")
    cached = clone(embedder).set_params(cache_dir=tmp_path)
    before, loaded = cached.transform(TEXTS), cached._resolve().model
    file.with_name("notes").touch()
    if (folder / name).is_file():  # of a folder, all that is in it counts
        assert cached._resolve().model is loaded
    if changed != tokenizer.name:
        data.unlink()  # the model maps it
        data.write_bytes(2 * weights)
    else:
        content = json.loads(tokenizer.read_text("utf-8"))
        vocabulary = content["model"]["vocab"]
        vocabulary["e"], vocabulary["o"] = vocabulary["o"], vocabulary["e"]
        tokenizer.write_text(json.dumps(content))
    rows = cached.transform(TEXTS)
    assert not np.array_equal(rows, before)
    monkeypatch.setattr(_loaders, "_LOADED", type(_loaders._LOADED)())
    np.testing.assert_array_equal(embedder.transform(TEXTS), rows)
    np.testing.assert_array_equal(cached.transform(TEXTS), rows)


def test_an_input_that_no_text_makes_is_named(tmp_path):
    folder, _ = onnx_model(tmp_path / "model", of_images=False)
    import onnx

    file = folder / "onnx" / "model.onnx"
    model = onnx.load(file)
    model.graph.input.add().CopyFrom(model.graph.input[0])
    model.graph.input[-1].name = "position_ids"
    onnx.save(model, file)
    for on_error in ("raise", "skip"):
        embedder = FoundationEmbedder(f"onnx:{folder}", on_error=on_error)
        with pytest.raises(ValueError, match="This model wants position_ids besides"):
            embedder.transform(TEXTS)


def test_onnx_pads_on_the_right(tmp_path, tiny_models):
    folder, _ = onnx_model(tmp_path / "model", of_images=False)
    tokenizers = import_or_skip("tokenizers", "tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(
        str(tiny_models / "text" / "tokenizer.json")
    )
    tokenizer.enable_padding(direction="left")
    tokenizer.save(str(folder / "tokenizer.json"))
    embedder = FoundationEmbedder(f"onnx:{folder}")
    inputs = embedder._resolve().prepare(TEXTS)
    sizes = inputs["attention_mask"].sum(axis=1)
    assert len(set(sizes)) > 1
    for mask, size in zip(inputs["attention_mask"], sizes, strict=True):
        assert mask[:size].all()
    with pytest.raises(
        ValueError, match="pooling='pooler' needs a model with a pooled"
    ):
        embedder.set_params(pooling="pooler", on_error="skip").transform(TEXTS)


def test_prompts_are_put_before_texts(tiny_models, tmp_path):
    names = [f"transformers:{tiny_models / 'text'}", minilm()]
    for name in names:
        plain = FoundationEmbedder(name, cache_dir=tmp_path)
        told = clone(plain).set_params(prompt="query: ")
        expected = plain.transform([f"query: {text}" for text in TEXTS])
        for _ in range(2):  # the second time from the cache
            np.testing.assert_allclose(told.transform(TEXTS), expected, atol=1e-5)
        assert told.fit(TEXTS).fingerprint_ != plain.fit(TEXTS).fingerprint_
    model = Lengths()
    FoundationEmbedder(model, modality="text", prompt="> ").transform(["a", "b"])
    assert model.seen == ["> a", "> b"]


def test_prompts_of_the_model(tmp_path):
    path = minilm().partition(":")[2]
    from sentence_transformers import SentenceTransformer

    module = SentenceTransformer(path, device="cpu", prompts={"query": "ask: "})
    module.save(str(tmp_path / "model"))
    named = FoundationEmbedder(f"sentence-transformers:{tmp_path / 'model'}")
    plain = named.transform([f"ask: {text}" for text in TEXTS])
    told = clone(named).set_params(prompt="query")
    np.testing.assert_allclose(told.transform(TEXTS), plain, atol=1e-5)
    with pytest.raises(ValueError, match=r"prompt='querry' is neither .*'query'"):
        clone(named).set_params(prompt="querry").transform(TEXTS)


def test_prompts_that_make_no_sense():
    with pytest.raises(ValueError, match="prompt='a ' is for models of texts"):
        FoundationEmbedder(mean_colour, modality="image", prompt="a ").transform(
            pictures()
        )
    with pytest.raises(TypeError, match=r"'prompt' parameter of .* Got"):
        FoundationEmbedder(Lengths(), modality="text", prompt=3).transform(TEXTS)


def test_settings_of_the_loader_that_are_no_dict():
    with pytest.raises(TypeError, match=r"'model_kwargs' parameter of .* Got"):
        FoundationEmbedder(Lengths(), modality="text", model_kwargs=[1]).transform(
            TEXTS
        )


def test_truncate_dim(tmp_path):
    whole = FoundationEmbedder(Lengths(), modality="text", cache_dir=tmp_path)
    cut = clone(whole).set_params(truncate_dim=5)
    rows = whole.transform(TEXTS)
    for _ in range(2):
        np.testing.assert_array_equal(cut.transform(TEXTS), rows[:, :5])
    assert cut.fit(TEXTS).n_features_out_ == 5
    with pytest.raises(
        ValueError, match="truncate_dim=65 is more than the 64 features"
    ):
        cut.set_params(truncate_dim=65).transform(TEXTS)
    with pytest.raises(ValueError, match=r"'truncate_dim' parameter of .* Got 0"):
        cut.set_params(truncate_dim=0).transform(TEXTS)


SCALE = 2.0


def helper(text):
    """Count what a text holds."""
    return [len(text) * SCALE, text.count("a")]


def plain(texts):
    """Embed texts by a helper."""
    return np.array([helper(text) for text in texts])


def holding(texts, held=[1.0]):  # noqa: B006
    """Embed texts with a state."""
    held[0] += 1
    return [[len(text), held[0] + KEPT[0]] for text in texts]


KEPT = [Lengths()]


def test_plain_functions_are_cached_by_what_they_do(tmp_path, monkeypatch):
    embedder = FoundationEmbedder(plain, modality="text", cache_dir=tmp_path)
    before = embedder.transform(TEXTS), embedder.fit(TEXTS).fingerprint_
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    after = embedder.transform(TEXTS), embedder.fit(TEXTS).fingerprint_
    assert before[1] != after[1]
    np.testing.assert_allclose(before[0][:, 0] * 1.5, after[0][:, 0])
    monkeypatch.setitem(globals(), "helper", lambda text: [len(text), 1.0])
    assert embedder.fit(TEXTS).fingerprint_ not in (before[1], after[1])


@pytest.mark.parametrize("function", [holding, (lambda kept: lambda x: kept)([])])
def test_functions_with_state_need_a_fingerprint(tmp_path, function):
    embedder = FoundationEmbedder(function, modality="text", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="attribute fingerprint to a string"):
        embedder.transform(TEXTS)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_encoders_of_encoder_decoder_models(tiny_models, tmp_path, kind):
    transformers = import_or_skip("transformers", "transformers")
    small = {"vocab_size": 60, "d_model": 16, "pad_token_id": 0, "eos_token_id": 3}
    if kind == "t5":
        config = transformers.T5Config(
            **small, d_kv=8, d_ff=32, num_layers=2, num_heads=2
        )
        module = transformers.T5Model(config)
    else:
        config = transformers.BartConfig(
            **small, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
            bos_token_id=2, decoder_start_token_id=2, max_position_embeddings=40,
        )  # fmt: skip
        module = transformers.BartModel(config)
    module.save_pretrained(tmp_path / kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_models / "text")
    tokenizer.save_pretrained(tmp_path / kind)
    embedder = FoundationEmbedder(f"transformers:{tmp_path / kind}")
    check_embedder(embedder, TEXTS)
    inputs = tokenizer(TEXTS[:1], return_tensors="pt", return_token_type_ids=False)
    expected = module.eval().get_encoder()(**inputs).last_hidden_state.mean(1)
    rows = embedder.transform(TEXTS[:1])
    np.testing.assert_allclose(rows, expected.detach(), atol=1e-5)


@pytest.mark.parametrize(
    "text",
    ["abcdefghij", "-", "- ", "日本", " ", "ab ", "\u0301", "\ufffd ", "\u200b "],
)
def test_long_texts_are_cut_before_they_are_tokenized(tiny_models, text):
    transformers = import_or_skip("transformers", "transformers")
    path = tiny_models / "text"
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    tokenizer.model_max_length = 40
    for n_letters in (1000, 10_000):
        long = f"a b {text * (n_letters // len(text))} c"
        cut = cutter(tokenizer, 40)(long)
        ids = [tokenizer(each, truncation=True).input_ids for each in (cut, long)]
        assert ids[0] == ids[1]
    start = perf_counter()
    embedder = FoundationEmbedder(f"transformers:{path}")
    embedder.transform([text * (1_000_000 // len(text))])
    assert perf_counter() - start < 5
