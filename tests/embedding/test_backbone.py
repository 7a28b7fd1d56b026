"""What concerns the models of all libraries alike."""

import time

import numpy as np
import pytest
from embedders import (
    TEXTS,
    Lengths,
    in_threads,
    mean_colour,
    minilm,
    pictures,
    tiny_vision,
    to_tensor,
    vision,
)
from sklearn.base import clone

from skimprint import FoundationEmbedder
from skimprint.embedding._backbone import Backbone


def test_fingerprint_tells_settings_apart():
    def fingerprint(**parameters):
        return vision(**parameters).fit(pictures()).fingerprint_

    same = {fingerprint(), fingerprint(batch_size=1), fingerprint(n_workers=1)}
    assert len(same) == 1
    other = {fingerprint(dtype="bfloat16"), fingerprint(dtype="float16")}
    assert len(same | other) == 3
    other_module = FoundationEmbedder(tiny_vision(seed=1), preprocess=to_tensor)
    assert other_module.fit(pictures()).fingerprint_ not in same


@pytest.mark.parametrize(
    "dtype", ["float64", "longdouble", "object", "torch.float64", "list"]
)
@pytest.mark.parametrize("value", [1e39, -1e300])
def test_what_float32_cannot_hold_is_told_item_by_item(dtype, value):
    def large(texts):
        rows = [[value if text == "b" else 1.0] for text in texts]
        if dtype.startswith("torch"):
            torch = pytest.importorskip("torch", reason="needs torch")
            return torch.tensor(rows, dtype=torch.float64)
        return rows if dtype == "list" else np.array(rows, dtype=dtype)

    embedder = FoundationEmbedder(large, modality="text")
    with pytest.raises(ValueError, match=r"Item 1, 'b', .*more than float32 can hold"):
        embedder.transform(["a", "b", "c"])
    with pytest.warns(UserWarning, match=r"\[1\].*item 1, 'b': .*float32") as caught:
        rows = embedder.set_params(on_error="skip").transform(["a", "b", "c"])
    assert len(caught) == 1
    np.testing.assert_array_equal(rows, [[1], [np.nan], [1]])


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize(
    "row", [[1j], np.complex64([1]), [np.complex128(1)], [10**400], "torch"]
)
def test_what_is_no_real_number_is_the_models_fault(row, on_error):
    def strange(texts):
        if not isinstance(row, str):
            return [row] * len(texts)
        torch = pytest.importorskip("torch", reason="needs torch")
        return torch.ones(len(texts), 1, dtype=torch.complex64)

    embedder = FoundationEmbedder(strange, modality="text", on_error=on_error)
    message = "strange must return .*(return real numbers|int too large)"
    with pytest.raises(TypeError, match=message):
        embedder.transform(["a", "b"])


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


def test_prompts_that_make_no_sense():
    with pytest.raises(ValueError, match="prompt='a ' is for models of texts"):
        FoundationEmbedder(mean_colour, modality="image", prompt="a ").transform(
            pictures()
        )
    with pytest.raises(TypeError, match=r"'prompt' parameter of .* Got"):
        FoundationEmbedder(Lengths(), modality="text", prompt=3).transform(TEXTS)


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


def test_threads_digest_a_model_that_nobody_can_change_once():
    model, calls = lambda: None, []

    def fingerprint():
        calls.append(1)
        time.sleep(0.05)
        return "one"

    def digest_again():
        arguments = {"forward": None, "fingerprint": fingerprint, "owned": True}
        return Backbone(model, "text", **arguments).digest()

    assert len(set(in_threads(digest_again))) == 1
    assert len(calls) == 1
