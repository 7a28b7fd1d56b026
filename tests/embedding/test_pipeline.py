"""From items to a matrix: where rows go, and what happens to bad items."""

import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
from embedders import mean_colour, pictures, vision
from sklearn.pipeline import make_pipeline

from skimprint import FoundationEmbedder, ImprintClassifier
from skimprint.embedding import _pipeline
from skimprint.embedding._items import ItemError


def test_output_torch():
    torch = pytest.importorskip("torch", reason="needs torch")
    expected = vision().transform(pictures())
    rows = vision(output="torch").transform(pictures())
    assert isinstance(rows, torch.Tensor)
    assert rows.dtype == torch.float32
    np.testing.assert_array_equal(rows.numpy(), expected)


def test_output_torch_does_not_pass_the_host(monkeypatch, nothing_on_host):
    torch = pytest.importorskip("torch", reason="needs torch")
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    items, labels = [*pictures(), *pictures()], torch.arange(10) % 5
    expected = ImprintClassifier("mean").fit(vision().transform(items), labels.numpy())
    expected = expected.decision_function(vision().transform(items))
    monkeypatch.setattr("skimprint.embedding._pipeline.to_host", None)
    with sklearn.config_context(array_api_dispatch=True):
        model = make_pipeline(vision(output="torch"), ImprintClassifier("mean"))
        scores = model.fit(items, labels).decision_function(items)
        assert torch.equal(model.predict(items), labels)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_output_torch_with_cache_duplicates_and_skipped_items(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    items = [*pictures(), None, *pictures()]
    embed = vision(output="torch", cache_dir=tmp_path, on_error="skip")
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"1 of 11 items .*\[5\]"):
            rows = embed.transform(items)
        assert isinstance(rows, torch.Tensor)
        assert rows.isnan().all(1).nonzero().tolist() == [[5]]
        np.testing.assert_array_equal(rows[:5], vision().transform(pictures()))


def test_output_cupy_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r'pip install "skimprint\[cuda12'):
        vision(output="cupy").transform(pictures())


def test_skipped_items_are_listed_once_and_nothing_is_lost(tmp_path):
    items = [b"bad", *pictures(3), "no such file", b"bad", *pictures(1)]
    expected = FoundationEmbedder(mean_colour, modality="image").transform(pictures(3))
    for cache_dir in (None, tmp_path):
        skipping = FoundationEmbedder(
            mean_colour, modality="image", on_error="skip", cache_dir=cache_dir
        )
        with pytest.warns(UserWarning, match=r"3 of 7 items .*\[0, 4, 5\]") as caught:
            rows = skipping.transform(items)
        assert len(caught) == 1
        assert "no such file" in str(caught[0].message)
        np.testing.assert_array_equal(rows[[1, 2, 3, 6]], expected[[0, 1, 2, 0]])
        assert np.isnan(rows[[0, 4, 5]]).all()


def test_an_error_loses_nothing_that_was_embedded(tmp_path):
    raising = FoundationEmbedder(mean_colour, modality="image", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="Item 3"):
        raising.transform([*pictures(3), "no such file"])
    # The key of a file is its content, so that is found out before anything else.
    assert raising.cache_info().items == 0
    with pytest.raises(ValueError, match="Item 3"):
        raising.transform([*pictures(3), b"no image", *pictures(2, seed=1)])
    assert raising.cache_info().items == 5


@pytest.mark.parametrize(
    "modality, good, bad, message",
    [
        ("text", "a text", None, "expected a text"),
        ("image", None, "missing.png", "no such file"),
        ("image", None, Path(), "a directory"),
    ],
)
def test_what_can_be_told_without_a_cache_is_told_first(
    tmp_path, monkeypatch, modality, good, bad, message
):
    monkeypatch.setattr(_pipeline, "WINDOW", 4)
    if modality == "image":
        good = tmp_path / "good.png"
        pictures(1)[0].save(good)
    seen = []

    def model(items):
        seen.extend(items)
        return [[len(seen)] for _ in items]

    model.fingerprint = "seen"
    items = [good] * 9 + [bad]
    embedder = FoundationEmbedder(model, modality=modality)
    for some in (items, np.array(items, object)):
        with pytest.raises(ItemError, match=rf"Item 9, .*{message}"):
            embedder.transform(some)
    assert seen == []
    embedder.set_params(cache_dir=tmp_path / "cache")
    with pytest.raises(ItemError, match=rf"Item 9, .*{message}"):
        embedder.transform(items)
    assert len(seen) == 1  # which is kept


def test_all_items_are_bad():
    pytest.importorskip("PIL", reason="needs pillow")
    skipping = FoundationEmbedder(mean_colour, modality="image", on_error="skip")
    for method in (skipping.transform, skipping.fit, skipping.fit_transform):
        with (
            pytest.warns(UserWarning, match=r"2 of 2 .* item 1, bytes of length 5"),
            pytest.raises(ValueError, match="None of the items"),
        ):
            method([b"bad", b"worse"])


@pytest.mark.parametrize("output", ["numpy", "torch"])
@pytest.mark.parametrize("cached", [False, True])
def test_bad_items_alone_have_rows_of_nan_after_fit(output, cached, tmp_path):
    pytest.importorskip("PIL", reason="needs pillow")
    if output == "torch":
        pytest.importorskip("torch", reason="needs torch")
    skipping = FoundationEmbedder(
        mean_colour,
        modality="image",
        on_error="skip",
        output=output,
        cache_dir=tmp_path if cached else None,
    ).fit(pictures())
    with pytest.warns(UserWarning, match=r"2 of 2 .* item 1, bytes of length 5"):
        rows = np.asarray(skipping.transform([b"bad", b"worse"]))
    assert rows.shape == (2, 5)
    assert np.isnan(rows).all()
    assert rows.dtype == np.float32


def test_fit_looks_for_an_item_that_is_good():
    skipping = FoundationEmbedder(mean_colour, modality="image", on_error="skip")
    assert skipping.fit([b"bad", *pictures()]).n_features_out_ == 5
