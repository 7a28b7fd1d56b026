import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest

from skimprint.embedding._items import ItemError
from skimprint.inspection._items import is_text, jpeg_of, listed, name_of, picture_of

Image = pytest.importorskip("PIL.Image", reason="needs pillow")


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)


def test_pictures_of_all_kinds_become_small(noise, tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(noise).save(path)
    for item in (noise, noise[..., 0], path, str(path), path.read_bytes()):
        assert picture_of(item).size == (112, 84)
    assert picture_of(Image.fromarray(noise), 50).size == (50, 38)


def test_all_that_an_embedder_reads_is_shown(noise, tmp_path):
    path = tmp_path / "one.ppm"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    (tmp_path / "object 12").write_bytes(content)  # without a suffix
    nameless = io.BytesIO(content), bytearray(content), memoryview(content)
    with path.open("rb") as file, (tmp_path / "object 12").open("rb") as other:
        named = {
            "one.ppm": [path, str(path), file, {"bytes": None, "path": str(path)}],
            "object 12": [tmp_path / "object 12", other],
            "inside.jpg": [{"bytes": content, "path": "inside.jpg"}],
            "row 7": [*nameless, {"bytes": content, "path": None}],
        }
        for name, items in named.items():
            for item in items:
                assert is_text(item) is False
                assert picture_of(item).size == (112, 84)
                assert name_of(item, 7) == name
        assert file.tell() == 0


def test_sounds_are_no_pictures(tmp_path):
    path = tmp_path / "one.wav"
    path.write_bytes(b"RIFF")
    with path.open("rb") as file:
        for item in (file, {"bytes": b"RIFF", "path": "one.wav"}):
            assert picture_of(item) is None
            assert name_of(item, 7) == "one.wav"


@pytest.mark.parametrize("item", ["a text", "a.wav", Path("a.mp3"), 3, np.zeros(5)])
def test_what_is_no_picture(item):
    assert picture_of(item) is None


def test_a_picture_that_cannot_be_decoded(noise, tmp_path, monkeypatch):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(noise).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    names = "bad.jpg", "missing.png", "folder.png", "large.png", "\0.png"
    for item in (*(str(tmp_path / name) for name in names), b"nor this"):
        with pytest.raises(ItemError):
            picture_of(item)
        if isinstance(item, str):
            with pytest.raises(ItemError):
                picture_of(Path(item))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ItemError, match="no regular file"):
        picture_of(tmp_path / "pipe.png")


def test_no_picture_takes_more_than_its_share(noise):
    data = base64.b64decode(jpeg_of(picture_of(noise)))
    assert len(data) <= 4300
    assert Image.open(io.BytesIO(data)).size == (112, 84)


def test_names(tmp_path):
    assert name_of("a  text\nof two lines", 0) == "a text of two lines"
    assert len(name_of("a" * 1000, 0)) == 280
    assert name_of("some/where.jpg", 0) == "where.jpg"
    assert name_of("some/where.WAV", 0) == "where.WAV"
    assert name_of(tmp_path / "x", 0) == "x"
    assert name_of(7, 3, "query") == "query 7"
    assert name_of(None, 3, "query") == "query 3"
    assert name_of("text", -1) == "a row of the head"


def test_items_are_as_many_as_samples():
    assert listed(None, 3, "items") is None
    assert listed(("a", "b"), 2, "items") == ["a", "b"]
    with pytest.raises(ValueError, match="items must have an item for each of 3"):
        listed(["a"], 3, "items")
    with pytest.raises(ValueError, match=r"^train_items cannot be .* got a single str"):
        listed("a", None, "train_items")
    with pytest.raises(
        TypeError, match=r"^items cannot be taken for items: .* got int"
    ):
        listed(5, 3, "items")
