"""Pictures of all kinds, to RGB of 8 bits."""

import errno
import io
import os
import socket
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from embedders import Lengths, encode, mean_colour, pictures

from skimprint import FoundationEmbedder
from skimprint.embedding._inputs import Images
from skimprint.embedding._items import ItemError

Image = pytest.importorskip("PIL.Image", reason="needs pillow")


def load(item):
    return Images([item]).load(0)


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


def test_8_bits_in_wide_pixels_are_8_bits():
    rng = np.random.default_rng(0)
    for pixels in (np.full((8, 8), 200), *rng.integers(0, 256, (3, 8, 8))):
        expected = np.dstack([pixels] * 3)
        for dtype in (np.int32, np.uint16):
            image = Image.fromarray(pixels.astype(dtype))
            as_tiff = np.asarray(load(encode(image, "TIFF")))
            np.testing.assert_array_equal(as_tiff, expected)
            np.testing.assert_array_equal(np.asarray(load(image)), expected)


@pytest.mark.parametrize("bits", [10, 12])
def test_few_bits_in_16_keep_their_levels(bits, tmp_path):
    pixels = np.arange(2**bits, dtype=np.uint16).reshape(32, -1)
    expected = np.dstack([pixels >> (bits - 8)] * 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "a.tiff")
    for item in (Image.fromarray(pixels), tmp_path / "a.png", tmp_path / "a.tiff"):
        np.testing.assert_array_equal(np.asarray(load(item)), expected)


@pytest.mark.parametrize("kind", ["png", "tiff", "ppm", "jp2"])
def test_true_16_bits_are_cut_by_8(kind, tmp_path):
    pixels = np.arange(0, 2**16, 16, dtype=np.uint16).reshape(64, 64)
    try:
        Image.fromarray(pixels).save(tmp_path / f"a.{kind}")
    except OSError as error:
        pytest.skip(f"needs Pillow with {kind}: {error}")
    loaded = np.asarray(load(tmp_path / f"a.{kind}"))
    assert abs(loaded[..., 0].astype(int) - (pixels >> 8)).max() <= 1


def test_what_a_tiff_declares(tmp_path):
    pixels = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    file = tmp_path / "a.tiff"
    Image.fromarray(pixels).save(file, tiffinfo={50717: 1023})
    source = Images([file])
    expected = np.asarray(source.load(0))[..., 0]
    np.testing.assert_array_equal(expected, pixels >> 2)
    assert not source.remarks  # nothing was guessed
    Image.fromarray(pixels * 64).save(file, tiffinfo={262: 0})
    np.testing.assert_array_equal(np.asarray(load(file))[..., 0], 255 - expected)


def test_greys_of_32_bits_without_a_sign():
    # Pillow writes none: the tags of a file of one strip.
    pixels = np.linspace(0, 2**32 - 1, 64).astype(np.uint32)
    tags = [
        *((256, 8), (257, 8), (258, 32), (259, 1), (262, 1), (273, 8)),
        *((277, 1), (278, 8), (279, pixels.nbytes), (339, 1)),
    ]
    start = 8 + pixels.nbytes
    folder = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    head = struct.pack("<2sHI", b"II", 42, start)
    data = head + pixels.tobytes() + struct.pack("<H", len(tags)) + folder + bytes(4)
    found = np.asarray(load(data))[..., 0].ravel()
    np.testing.assert_array_equal(found, pixels >> 24)


def test_float_pixels_are_scaled_by_their_own_range():
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    expected = np.arange(256).reshape(16, 16)
    for scale, shift in ((1, 0), (255, 0), (1e-6, 0), (20, -10)):
        loaded = np.asarray(load(Image.fromarray(ramp * scale + np.float32(shift))))
        assert abs(loaded[..., 0].astype(int) - expected).max() <= 1
    with pytest.raises(ItemError, match="NaN or infinite"):
        load(Image.fromarray(np.full((4, 4), np.nan, np.float32)))


def test_guessed_ranges_are_told(tmp_path):
    items = [*pictures(2), Image.fromarray(np.full((8, 8), 200, np.int32))]
    embedder = FoundationEmbedder(mean_colour, modality="image")
    message = r"1 of 3 items were scaled by their own range .*\[2\].*from 200 to 200"
    with pytest.warns(UserWarning, match=message) as caught:
        rows = embedder.transform(items)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(rows[2], [200, 200, 200, 8, 8])
    true = Image.fromarray(np.arange(0, 2**16, 64, dtype=np.uint16).reshape(32, 32))
    true.save(tmp_path / "true.png")
    embedder.transform([tmp_path / "true.png", Image.new("I;16", (4, 4))])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_transparent_pictures_are_seen_on_white(mode):
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:4] = 255
    black = Image.new("L", (8, 8))
    icon = Image.merge("LA", (black, Image.fromarray(alpha)))
    icon = icon.convert("RGBA").convert(mode) if mode != "La" else icon.convert("La")
    expected = np.dstack([255 - alpha] * 3)
    np.testing.assert_array_equal(np.asarray(load(icon)), expected)


def test_transparent_files_and_arrays_are_seen_on_white():
    icon = np.zeros((8, 8, 4), np.uint8)
    icon[2:4, :, 3] = 255
    icon[5, :, 3] = 128
    expected = np.dstack([255 - icon[..., 3]] * 3)
    for item in (icon, icon.transpose(2, 0, 1), encode(Image.fromarray(icon))):
        np.testing.assert_array_equal(np.asarray(load(item)), expected)
    for mode in ("1", "L", "I;16", "RGB", "P"):
        image = Image.new(mode, (4, 4))
        data = encode(image, transparency=(0, 0, 0) if mode == "RGB" else 0)
        np.testing.assert_array_equal(np.asarray(load(data)), 255)


@pytest.mark.parametrize("size", [(40_000, 20), (20, 40_000), (3000, 1), (1, 3000)])
def test_pictures_of_extreme_shapes_are_bounded(size):
    image = Image.new("RGB", size)
    middle = size[0] // 2, size[1] // 2
    image.putpixel(middle, (255, 255, 255))
    loaded = load(image)
    assert max(loaded.size) <= 100 * min(loaded.size)
    centre = np.asarray(loaded)[loaded.size[1] // 2, loaded.size[0] // 2]
    np.testing.assert_array_equal(centre, 255)
    assert load(Image.new("RGB", (2000, 20))).size == (2000, 20)


KINDS = ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "JPEG2000"]


def lazy(kind, seed=0):
    """A picture that is opened, but not read yet."""
    buffer = io.BytesIO()
    try:
        pictures(1, seed)[0].resize((200, 200)).save(buffer, kind)
    except OSError as error:
        pytest.skip(f"needs Pillow with {kind}: {error}")
    return Image.open(buffer)


@pytest.mark.parametrize("kind", KINDS)
def test_one_object_many_times(kind, tmp_path):
    embedder = FoundationEmbedder(
        mean_colour, modality="image", batch_size=2, n_workers=4
    )
    expected = embedder.transform([lazy(kind).copy()])
    other = embedder.transform([lazy(kind, 1).copy()])
    for turn in range(5):
        embedder.set_params(cache_dir=tmp_path / str(turn) if turn else None)
        rows = embedder.transform([lazy(kind, 1), *[lazy(kind)] * 100, lazy(kind, 1)])
        np.testing.assert_array_equal(rows[1:-1], np.tile(expected, (100, 1)))
        np.testing.assert_array_equal(rows[[0, -1]], np.tile(other, (2, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_one_object_in_many_threads(kind, monkeypatch):
    embedder = FoundationEmbedder(mean_colour, modality="image")
    expected = embedder.transform([lazy(kind).copy()])
    ImageFile = pytest.importorskip("PIL.ImageFile")
    prepare = ImageFile.ImageFile.load_prepare
    reads = threading.Event()

    def slow(image):
        reads.set()
        time.sleep(0.02)
        return prepare(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", slow)
    for _ in range(5):
        image, rows = lazy(kind), []
        threads = [
            threading.Thread(target=lambda: rows.append(embedder.transform([image])))  # noqa: B023
            for _ in range(4)
        ]
        reads.clear()
        threads[0].start()
        assert reads.wait(10)  # the others come while the first one reads
        for thread in threads[1:]:
            thread.start()
        for thread in threads:
            thread.join()
        np.testing.assert_array_equal(rows, [expected] * 4)


def test_decode_size(tmp_path):
    def sizes(images):
        return [image.size for image in images]

    sizes.fingerprint = "sizes"
    wide = Image.new("RGB", (400, 300))
    upright = Image.Exif()
    upright[0x0112] = 6
    items = [
        encode(wide, "JPEG"),
        encode(wide.convert("L"), "JPEG"),
        encode(wide, "JPEG", exif=upright),
        encode(wide, "PNG"),
        encode(wide.resize((280, 400)), "JPEG"),
        wide,
    ]
    embedder = FoundationEmbedder(sizes, modality="image", cache_dir=tmp_path)
    whole = [(400, 300), (400, 300), (300, 400), (400, 300), (280, 400), (400, 300)]
    fine = [(200, 150), (200, 150), (150, 200), (400, 300), (280, 400), (400, 300)]
    for decode_size, expected in ((None, whole), (150, fine), (301, whole)):
        embedder.set_params(decode_size=decode_size)
        for _ in range(2):
            assert list(map(tuple, embedder.transform(items))) == expected
    with pytest.raises(ValueError, match=r"'decode_size' parameter of .* Got 0"):
        embedder.set_params(decode_size=0).transform(items)
    with pytest.raises(ValueError, match=r"is for models of images.*takes text"):
        embedder.set_params(decode_size=9, modality="text").transform(["a"])


@pytest.mark.parametrize("n_frames", [1, 2])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_every_format_of_pillow(mode, n_frames):
    Image.init()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    first, *more = (Image.fromarray(pixels + add).convert(mode) for add in (0, 9))
    settings = {"save_all": True, "append_images": more} if n_frames > 1 else {}
    tried = []
    for kind in sorted(Image.SAVE):
        try:
            data = encode(first, kind, **settings)
            with Image.open(io.BytesIO(data)) as opened:
                expected = opened.convert("RGB")
        except Exception:  # of many kinds: a format that cannot hold it, or be read
            continue
        if opened.mode in ("F", "I", "I;16"):  # greys, which are scaled
            continue
        image = load(data)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image.crop()), np.asarray(expected))
        tried.append(kind)
    assert len(tried) >= 3


def test_open_files(tmp_path):
    images = pictures(3)
    data = [encode(image) for image in images]
    (tmp_path / "a.png").write_bytes(data[0])
    embedder = FoundationEmbedder(mean_colour, modality="image")
    expected = embedder.transform(images)
    read = io.BytesIO(data[1])
    read.read(7)
    with (tmp_path / "a.png").open("rb") as file:
        for cache_dir in (None, tmp_path):
            embedder.set_params(cache_dir=cache_dir)
            for _ in range(2):
                rows = embedder.transform([file, read, io.BytesIO(data[2])])
                np.testing.assert_array_equal(rows, expected)
    assert read.tell() == 7  # left where it was
    with pytest.raises(ValueError, match=r"Item 0, .*closed file"):
        embedder.transform([file])
    with pytest.raises(ValueError, match=r"open it in mode 'rb'"):
        embedder.transform([io.StringIO("text")])


@pytest.mark.parametrize(
    "item, message",
    [
        ("", "the path is empty"),
        ("https://example.com/a.jpg", "URLs are not fetched"),
        ("s3://bucket/a.jpg", "URLs are not fetched"),
    ],
)
def test_paths_that_are_none(item, message):
    with pytest.raises(ItemError, match=message):
        load(item)


def make_pipe(path):
    os.mkfifo(path)  # not on Windows


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def make_link(path):
    make_pipe(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe"))


@pytest.mark.skipif(os.name != "posix", reason="needs named pipes")
@pytest.mark.parametrize("modality", ["image", "audio"])
@pytest.mark.parametrize(
    "make",
    [make_pipe, make_socket, make_link, lambda path: path.symlink_to("/dev/zero")],
)
@pytest.mark.parametrize("cached", [False, True])
def test_what_is_no_file_is_not_read(tmp_path, monkeypatch, make, modality, cached):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    make(Path("item"))
    embedder = FoundationEmbedder(Lengths(), modality=modality, on_error="skip")
    embedder.set_params(cache_dir=tmp_path / "cache" if cached else None)
    with (
        pytest.warns(UserWarning, match=r"item 0, 'item': .*a named pipe, a device"),
        pytest.raises(ValueError, match="None of the items"),
    ):
        embedder.transform(["item"])
    embedder.set_params(on_error="raise")
    with pytest.raises(ItemError, match=r"Item 0, 'item', .*pass its bytes"):
        embedder.transform(["item"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_picture_says_so(kind):
    image = lazy(kind)
    image.close()
    with pytest.raises(ItemError, match="the picture is closed"):
        load(image)


def test_a_bomb_names_the_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        ItemError, match=r"raise PIL.Image.MAX_IMAGE_PIXELS, which is 100"
    ):
        load(encode(pictures(1)[0]))


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
        np.dstack([rgb, np.full_like(rgb[..., :1], 255)]),
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
        (3, "expected a path, bytes, an open file, a PIL image"),
        (None, "got NoneType"),
        ("no/such/file.jpg", "no such file"),
        (Path("no/such/file.jpg"), "no such file"),
        ("Where is my order? " * 300, r"no such file \(a text needs modality='text'\)"),
        ("nul\0byte.jpg", "cannot be read"),
    ],
)
def test_items_that_are_no_images(item, message):
    with pytest.raises(ItemError, match=message):
        load(item)


def test_directory(tmp_path):
    with pytest.raises(ItemError, match=r"a directory.*sorted\(Path"):
        load(tmp_path)


@pytest.mark.parametrize(
    "item, message",
    [
        ("https://example.com/a.jpg", "URLs are not fetched"),
        ("Where is it?", r"no such file \(a text needs modality='text'\)"),
        (".", r"a directory.*sorted\(Path"),
        ("", "the path is empty"),
    ],
)
def test_errors_of_windows(monkeypatch, item, message):
    """For what is no name of a file, and for a directory."""

    found = Path.stat

    def stat(path):
        if {*path.name} & {*'<>:"|?*'} or path.parts[:1] == ("https:",):
            error = OSError(errno.EINVAL, "The filename syntax is incorrect", str(path))
            error.winerror = 123
            raise error
        return found(path)

    def read_bytes(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(ItemError, match=message):
        load(item)


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


def test_images_that_were_closed_are_skipped():
    data = io.BytesIO()
    pictures(1)[0].save(data, "PNG")
    closed = Image.open(data)
    closed.close()
    embedder = FoundationEmbedder(mean_colour, modality="image", on_error="skip")
    with pytest.warns(UserWarning, match="1 of 3 items") as caught:
        embedder.transform([closed, *pictures(2)])
    assert caught[0].filename == __file__
