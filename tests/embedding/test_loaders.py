import io
import shutil
import sys

import numpy as np
import pytest
from embedders import (
    TEXTS,
    Lengths,
    import_or_skip,
    mean_colour,
    pictures,
)

from skimprint import FoundationEmbedder
from skimprint.embedding import _loaders
from skimprint.embedding._loaders import parse_model_name
from skimprint.testing import check_embedder


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


@pytest.mark.parametrize("kind", ["callable", "module"])
@pytest.mark.parametrize(
    "parameters", [{"revision": "main"}, {"model_kwargs": {"pretrained": True}}]
)
def test_settings_of_loading_where_nothing_is_loaded(kind, parameters):
    model = Lengths()
    if kind == "module":
        model = pytest.importorskip("torch", reason="needs torch").nn.Identity()
    ((name, _),) = parameters.items()
    with pytest.raises(ValueError, match=f"{name}=.* is for models .* leave {name}="):
        FoundationEmbedder(model, **parameters).transform(["a"])
    # A permission that is not asked for holds.
    embedder = FoundationEmbedder(Lengths(), modality="text", local_files_only=True)
    assert len(embedder.transform(["a"])) == 1


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

    def ones(texts):
        return [[1.0]] * len(texts)

    with pytest.raises(ValueError, match="change whenever its results do"):
        FoundationEmbedder(ones, modality="text", cache_dir=tmp_path).transform(["a"])
    ones.fingerprint = "ones"
    embedder = FoundationEmbedder(ones, cache_dir=tmp_path)
    with pytest.raises(ValueError, match="modality='image', 'text' or 'audio'"):
        embedder.transform(["a"])
    assert embedder.set_params(modality="text").transform(["a"]) == 1


def test_callables_pass_the_checks(tmp_path):
    check_embedder(FoundationEmbedder(Lengths(), modality="text"), TEXTS)
    check_embedder(
        FoundationEmbedder(mean_colour, modality="image", cache_dir=tmp_path),
        pictures(),
    )


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


@pytest.mark.parametrize("library", _loaders.LOADERS)
@pytest.mark.parametrize("name", ["nobody/has-such-a-model", "/no/such/folder"])
def test_a_model_that_is_not_there_is_named(library, name):
    module = {"onnx": "onnxruntime"}.get(library, library.replace("-", "_"))
    import_or_skip(module, library.replace("_", "-"))
    model = f"{library}:{name}"
    with pytest.raises((OSError, ValueError), match=f"^model={model!r}"):
        FoundationEmbedder(model, modality="text").transform(["a text"])


def test_a_class_of_modules_is_no_module():
    torch = pytest.importorskip("torch", reason="needs torch")
    embedder = FoundationEmbedder(torch.nn.Flatten)
    with pytest.raises(TypeError, match=r"class Flatten\. Write model=Flatten\("):
        embedder.transform(np.ones((2, 3)))
