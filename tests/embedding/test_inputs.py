import io
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from embedders import Lengths, mean_colour, pictures

from skimprint import FoundationEmbedder
from skimprint.embedding._inputs import Images, ItemError, Texts, as_items

Image = pytest.importorskip("PIL.Image", reason="needs pillow")


def encode(image, kind="PNG", **kwargs):
    buffer = io.BytesIO()
    image.save(buffer, kind, **kwargs)
    return buffer.getvalue()


def load(item):
    return Images([item]).load(0)


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        np.array,
        lambda items: np.array(items, dtype=object),
        lambda items: np.array(items)[:, None],
        pd.Series,
        lambda items: pd.Series(items, index=[7, 3]),
        lambda items: pd.DataFrame({"text": items}),
        pl.Series,
        lambda items: pl.DataFrame({"text": items}),
    ],
)
def test_containers_of_texts(container):
    assert as_items(container(["one", "two"])) == ["one", "two"]


def test_arrays_of_images_are_taken_apart():
    batch = np.zeros((2, 4, 5, 3), dtype=np.uint8)
    assert [item.shape for item in as_items(batch)] == [(4, 5, 3)] * 2


@pytest.mark.parametrize(
    "X, message",
    [
        ([], "at least 1 is required"),
        (np.array([]), "at least 1 is required"),
        (pd.Series([], dtype=object), "at least 1 is required"),
        ("one text", "got a single str"),
        (b"bytes", "got a single bytes"),
        (Path("a.jpg"), "got a single .*Path"),
        (np.array("text"), "without dimensions"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "one column"),
    ],
)
def test_no_items(X, message):
    with pytest.raises(ValueError, match=message):
        as_items(X)


@pytest.mark.parametrize("X", [{"a", "b"}, {"a": "b"}, (text for text in "ab"), 3])
def test_no_sequence(X):
    with pytest.raises(TypeError, match="Expected a list, array, Series"):
        as_items(X)


@pytest.mark.parametrize("item", [Path("a.txt"), b"text", 3, None, float("nan")])
def test_texts_are_strings(item):
    with pytest.raises(ItemError, match="expected a text"):
        Texts([item]).load(0)


def test_a_text_model_never_reads_a_file(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("content")
    model = Lengths()
    FoundationEmbedder(model, modality="text").transform([str(file)])
    assert model.seen == [str(file)]


MODES = [
    "1",
    "L",
    "LA",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBX",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
]


@pytest.mark.parametrize("mode", MODES)
def test_all_modes_become_rgb(mode):
    image = Image.new("RGB", (6, 4), (255, 255, 255))
    if mode in ("PA", "LAB"):
        image = Image.new(mode, (6, 4))
    loaded = load(image.convert(mode))
    assert (loaded.mode, loaded.size) == ("RGB", (6, 4))
    if mode not in ("PA", "LAB"):
        assert np.asarray(loaded).min() > 250


def test_palette_with_transparency():
    image = Image.new("RGB", (6, 4), (255, 0, 0)).convert("P")
    data = encode(image, transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(np.asarray(load(data))[0, 0], [255, 0, 0])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_16_bits_are_scaled(dtype):
    pixels = np.full((4, 6), 128 * 256, dtype=dtype)
    np.testing.assert_array_equal(np.asarray(load(Image.fromarray(pixels))), 128)


def test_float_pixels_and_wide_integers_are_refused():
    with pytest.raises(ItemError, match="floating-point pixels"):
        load(Image.fromarray(np.zeros((4, 6), dtype=np.float32)))
    with pytest.raises(ItemError, match="beyond 16 bits"):
        load(Image.fromarray(np.full((4, 6), 2**20, dtype=np.int32)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, tmp_path):
    upright = np.zeros((40, 60, 3), dtype=np.uint8)
    upright[:20, :30] = [255, 0, 0]
    upright[:20, 30:] = [0, 255, 0]
    upright[20:, :30] = [0, 0, 255]
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "image.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(file, exif=exif)
    for item in (file, str(file), file.read_bytes(), Image.open(file)):
        np.testing.assert_array_equal(np.asarray(load(item)), upright)
    file.unlink()


def test_arrays_and_tensors():
    torch = pytest.importorskip("torch", reason="needs torch")
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for item in (
        rgb,
        rgb.transpose(2, 0, 1),
        np.asfortranarray(rgb),
        np.dstack([rgb, rgb[..., :1]]),
        torch.from_numpy(rgb),
        torch.from_numpy(rgb).permute(2, 0, 1),
    ):
        np.testing.assert_array_equal(np.asarray(load(item)), rgb)
    grey = rgb[..., 0]
    for item in (grey, grey[..., None], grey[None]):
        np.testing.assert_array_equal(np.asarray(load(item)), np.dstack([grey] * 3))
    tensor = torch.rand(3, 4, 4)
    assert load(tensor) is tensor


@pytest.mark.parametrize(
    "item, message",
    [
        (np.zeros((4, 4, 3)), "dtype uint8, got float64"),
        (np.zeros((4, 4, 4, 3), dtype=np.uint8), "expected an array of shape"),
        (np.zeros((5, 4, 7), dtype=np.uint8), "expected an array of shape"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "no pixels"),
        (b"", "empty"),
        (b"no image", "no image that Pillow can decode"),
        (3, "expected a path, bytes, a PIL image"),
        (None, "got NoneType"),
        ("no/such/file.jpg", "no such file"),
        (Path("no/such/file.jpg"), "no such file"),
        ("nul\0byte.jpg", "cannot be read"),
    ],
)
def test_items_that_are_no_images(item, message):
    with pytest.raises(ItemError, match=message):
        load(item)


def test_directory(tmp_path):
    with pytest.raises(ItemError, match=r"a directory.*sorted\(Path"):
        load(tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_jpeg(share, tmp_path):
    data = encode(pictures(1)[0].resize((400, 300)), "JPEG")
    file = tmp_path / "cut.jpg"
    file.write_bytes(data[: int(len(data) * share)])
    embedder = FoundationEmbedder(mean_colour, modality="image")
    with pytest.raises(ValueError, match=r"Item 1, .*cut\.jpg.*cannot be embedded"):
        embedder.transform([data, str(file)])
    with pytest.warns(UserWarning, match=r"1 of 2 items .*\[1\].*cut\.jpg"):
        rows = embedder.set_params(on_error="skip").transform([data, file])
    assert np.isnan(rows).all(1).tolist() == [False, True]


def test_same_content_has_the_same_key(tmp_path):
    image = pictures(1)[0]
    file = tmp_path / "a.png"
    image.save(file)
    other = tmp_path / "b.png"
    other.write_bytes(file.read_bytes())
    salt = b"salt"
    items = Images([file, str(other), file.read_bytes(), image, np.asarray(image)])
    keys = [items.identify(index, salt) for index in range(5)]
    assert len(set(keys[:3])) == len(set(keys[3:])) == 1
    assert items.identify(0, b"other salt") != keys[0]


def test_a_changed_file_has_another_key(tmp_path):
    file = tmp_path / "a.png"
    first, second = pictures(2)
    first.save(file)
    before = Images([file]).identify(0, b"salt")
    second.save(file)
    assert Images([file]).identify(0, b"salt") != before


def test_orientation_is_part_of_the_key_of_a_pil_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    file = tmp_path / "turned.png"
    pictures(1)[0].save(file, exif=exif)
    with Image.open(file) as turned:
        keys = [Images([item]).identify(0, b"") for item in (turned, pictures(1)[0])]
    assert keys[0] != keys[1]


def test_file_that_changes_between_key_and_reading(tmp_path):
    file = tmp_path / "a.png"
    first, second = pictures(2)
    first.save(file)
    items = Images([file])
    items.identify(0, b"salt")
    items.load(0)
    second.save(file)
    with pytest.raises(ItemError, match="changed while"):
        items.load(0)


def test_float_tensors_with_other_values_or_shapes_have_other_keys():
    torch = pytest.importorskip("torch", reason="needs torch")
    tensor = torch.arange(12.0).reshape(3, 2, 2)
    keys = {
        Images([item]).identify(0, b"")
        for item in (tensor, tensor + 1, tensor.reshape(3, 4, 1), tensor.half())
    }
    assert len(keys) == 4


def test_workers_read_in_threads():
    names = set()

    class Watched(Texts):
        def load(self, index):
            names.add(threading.current_thread().name)
            return super().load(index)

    from skimprint.embedding import _batching, _loaders
    from skimprint.embedding._backbone import Options

    backbone = _loaders.backbone_for(Lengths(), Options(modality="text"))
    source = Watched([str(number) for number in range(50)])
    batches = _batching.embed_batches(
        backbone, source, list(range(50)), batch_size=4, n_workers=2
    )
    indices = [index for batch, _, _ in batches for index in batch]
    assert indices == source.order(range(50))
    assert all(name.startswith("skimprint-prepare") for name in names)


def test_images_that_were_closed_are_skipped():
    data = io.BytesIO()
    pictures(1)[0].save(data, "PNG")
    closed = Image.open(data)
    closed.close()
    embedder = FoundationEmbedder(mean_colour, modality="image", on_error="skip")
    with pytest.warns(UserWarning, match="1 of 3 items") as caught:
        embedder.transform([closed, *pictures(2)])
    assert caught[0].filename == __file__


def test_a_single_image_is_no_list():
    picture = np.zeros((24, 20, 3), np.uint8)
    message = r"single image of shape \(24, 20, 3\). Pass \[item\]"
    with pytest.raises(ValueError, match=message):
        as_items(picture)
    assert len(as_items(np.stack([picture, picture]))) == 2


def test_a_single_image_as_a_tensor_is_no_list():
    torch = pytest.importorskip("torch", reason="needs torch")
    picture = torch.zeros((24, 20, 4), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"single image of shape .*Pass \[item\]"):
        as_items(picture)
    assert len(as_items(picture[None])) == 1
