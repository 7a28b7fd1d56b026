"""Models of ONNX."""

import json
import os
import shutil

import numpy as np
import pytest
from embedders import TEXTS, import_or_skip, onnx_model, pictures
from sklearn.base import clone

from skimprint import FoundationEmbedder
from skimprint.embedding import _loaders
from skimprint.testing import check_embedder


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
        tokens = cached._backbone().collate([TEXTS[1]])["input_ids"][0]
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
    before, loaded = cached.transform(TEXTS), cached._backbone().model
    file.with_name("notes").touch()
    if (folder / name).is_file():  # of a folder, all that is in it counts
        assert cached._backbone().model is loaded
    if changed != tokenizer.name:
        if os.name == "nt":
            pytest.skip("no file changes on Windows while a model maps it")
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


def test_a_file_that_holds_no_model_is_named(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs skimprint[onnx]")
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(
        ValueError, match=r"^model='onnx:.*' cannot be loaded\. .*whole"
    ):
        FoundationEmbedder(f"onnx:{tmp_path}").transform(["a"])


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
    inputs = embedder._backbone().collate(TEXTS)
    sizes = inputs["attention_mask"].sum(axis=1)
    assert len(set(sizes)) > 1
    for mask, size in zip(inputs["attention_mask"], sizes, strict=True):
        assert mask[:size].all()
    with pytest.raises(
        ValueError, match="pooling='pooler' needs a model with a pooled"
    ):
        embedder.set_params(pooling="pooler", on_error="skip").transform(TEXTS)
