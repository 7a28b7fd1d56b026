import io
import threading
import time
from collections import UserList, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from embedders import Lengths, encode, mean_colour, pictures
from memory import less_memory_than

from skimprint import FoundationEmbedder
from skimprint.embedding import _cache, _inputs, _pipeline
from skimprint.embedding._inputs import Images, ItemError, Texts, as_items

Image = pytest.importorskip("PIL.Image", reason="needs pillow")
pd = pytest.importorskip("pandas", reason="needs pandas")
pl = pytest.importorskip("polars", reason="needs polars")


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
    ],
)
def test_no_items_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        as_items(X)


@pytest.mark.parametrize("X", [{"a", "b"}, {"a": "b"}, (text for text in "ab"), 3])
def test_what_is_no_sequence_is_refused(X):
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


def test_the_rules_of_decoding_are_part_of_the_key(tmp_path, monkeypatch):
    def fingerprint(model, modality):
        embedder = FoundationEmbedder(model, modality=modality)
        return embedder.fit(pictures() if modality == "image" else ["a"]).fingerprint_

    before = fingerprint(mean_colour, "image"), fingerprint(Lengths(), "text")
    monkeypatch.setattr(Images, "version", Images.version + 1)
    assert fingerprint(mean_colour, "image") != before[0]
    assert fingerprint(Lengths(), "text") == before[1]


def test_one_object_for_many_items_is_embedded_once(tmp_path):
    seen = []

    def model(images):
        seen.extend(images)
        return mean_colour(images)

    model.fingerprint = "seen"
    embedder = FoundationEmbedder(model, modality="image", n_workers=3)
    for item in (io.BytesIO(encode(pictures(1)[0])), pictures(1)[0]):
        expected = mean_colour(pictures(1) * 500)
        for cache_dir in (None, tmp_path / type(item).__name__):
            rows = embedder.set_params(cache_dir=cache_dir).transform([item] * 500)
            np.testing.assert_allclose(rows, expected, rtol=1e-6)
    assert len(seen) == 4


class Lazy(Sequence):
    """A sequence that makes its items when it is asked for them."""

    def __init__(self, make, n):
        self.make, self.n, self.asked = make, n, []

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if not 0 <= index < self.n:
            raise IndexError(index)
        self.asked.append(index)
        return self.make(index)


@pytest.mark.parametrize("cached", [False, True])
def test_sequences_that_make_their_items(cached, tmp_path):
    model = FoundationEmbedder(mean_colour, modality="image", batch_size=4)
    expected = model.transform(pictures(20))
    model.set_params(cache_dir=tmp_path if cached else None)
    made = Lazy(lambda index: pictures(20)[index], 20)
    np.testing.assert_array_equal(model.transform(made), expected)
    texts = FoundationEmbedder(Lengths(), modality="text")
    rows = texts.transform(Lazy("item {}".format, 20))
    expected = texts.transform([f"item {index}" for index in range(20)])
    np.testing.assert_array_equal(rows, expected)


def test_a_sequence_that_fails_for_an_item():
    def make(index):
        if index == 3:
            raise OSError("no such record")
        return f"item {index}"

    embedder = FoundationEmbedder(Lengths(), modality="text")
    with pytest.raises(ValueError, match=r"Item 3, .*OSError: no such record"):
        embedder.transform(Lazy(make, 5))
    with pytest.warns(UserWarning, match=r"1 of 5 items .*\[3\]"):
        embedder.set_params(on_error="skip").transform(Lazy(make, 5))


class ArrowLike:
    """A column whose values are no strings until it is turned into a list."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return object()

    def to_pylist(self):
        """Its values as Python's own."""
        return list(self.values)


def arrow(values):
    """An array of Arrow, if there is one."""
    return pytest.importorskip("pyarrow", reason="needs pyarrow").array(values)


def arrow_table(values):
    """A table of Arrow with one column, if there is one."""
    return pytest.importorskip("pyarrow", reason="needs pyarrow").table({"a": values})


class DatasetLike(Sequence):
    """As a dataset of Hugging Face: rows are dicts, a name gives a column."""

    def __init__(self, **columns):
        self.data = columns
        self.column_names = [*columns]

    def __len__(self):
        return len(self.data[self.column_names[0]])

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.data[key]
        return {name: column[key] for name, column in self.data.items()}


@pytest.mark.parametrize(
    "container",
    [
        lambda items: pd.Series(items).values,
        lambda items: pd.Series(items).unique(),
        lambda items: pd.Series(items).array,
        lambda items: pd.array(items, dtype="string"),
        lambda items: pd.Index(items),
        pd.Categorical,
        ArrowLike,
        arrow,
        arrow_table,
        lambda items: DatasetLike(text=items),
        deque,
        UserList,
        lambda items: Lazy(items.__getitem__, len(items)),
    ],
)
def test_any_sequence_will_do(container):
    embedder = FoundationEmbedder(Lengths(), modality="text")
    expected = embedder.transform(["one", "two"])
    X = container(["one", "two"])
    np.testing.assert_array_equal(embedder.transform(X), expected)


LONG = [f"{number:05d} {'x' * 200}" for number in range(20_000)]


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    "column",
    [list, np.array, pd.Series, lambda items: pd.Series(items, dtype="str"), pl.Series],
)
def test_no_more_is_held_than_the_result_and_a_window(
    column, cached, tmp_path, monkeypatch
):
    for module in (_inputs, _pipeline):
        monkeypatch.setattr(module, "WINDOW", 256)
    # What waits to be written is what was embedded in so many seconds.
    monkeypatch.setattr(_cache, "_PATIENCE", 0)

    def number(texts):
        return [[float(text[:5])] * 8 for text in texts]

    number.fingerprint = "number"
    embedder = FoundationEmbedder(number, modality="text")
    embedder.set_params(cache_dir=tmp_path if cached else None)
    X = column([*LONG, LONG[0]])
    embedder.transform(X[:2])
    # Without a cache, a number for each item, by which repetitions are found.
    held = 1e6 if cached else 150 * len(X)
    with less_memory_than(held + 8 * 4 * len(X)):
        rows = embedder.transform(X)
    assert rows[:, 0].tolist() == [*range(20_000), 0]


def test_threads_that_come_at_once_make_the_items_of_a_window_once(monkeypatch):
    monkeypatch.setattr(_inputs, "WINDOW", 8)
    made = []

    class Slow(Sequence):
        def __init__(self, numbers):
            self.numbers = numbers

        def __len__(self):
            return len(self.numbers)

        def __getitem__(self, part):
            return Slow(self.numbers[part])

        def to_list(self):
            made.append(self.numbers)
            time.sleep(0.02)
            return list(self.numbers)

    items = _inputs._Column(Slow(range(24)), "to_list")
    for start in range(0, 24, 8):
        together = threading.Barrier(8)

        def take(index, together=together):
            together.wait()
            return items[index]

        with ThreadPoolExecutor(8) as pool:
            window = range(start, start + 8)
            assert list(pool.map(take, window)) == [*window]
    assert made == [range(0, 8), range(8, 16), range(16, 24)]


@pytest.mark.parametrize("cached", [False, True])
def test_long_columns_of_files(cached, tmp_path, monkeypatch):
    for module in (_inputs, _pipeline):
        monkeypatch.setattr(module, "WINDOW", 4)
    images = [encode(image) for image in pictures(10)]
    paths = [str(tmp_path / f"{number}.png") for number in range(10)]
    for path, data in zip(paths, images, strict=True):
        Path(path).write_bytes(data)
    embedder = FoundationEmbedder(mean_colour, modality="image", n_workers=2)
    embedder.set_params(cache_dir=tmp_path / "cache" if cached else None)
    expected = embedder.transform(pictures(10))
    for items in (images, paths):
        X = pl.Series([*items, items[0]])
        np.testing.assert_array_equal(embedder.transform(X)[:-1], expected)
        np.testing.assert_array_equal(embedder.transform(X)[-1], expected[0])
    with pytest.raises(ValueError, match=r"Item 9, 'nowhere', .*no such file"):
        embedder.transform(pl.Series([*paths[:9], "nowhere"]))


def test_the_column_of_several_is_asked_for():
    data = {"a": ["x"], "b": ["y"]}
    tables = [pd.DataFrame(data), pl.DataFrame(data), DatasetLike(**data)]
    for X in tables:
        with pytest.raises(ValueError, match=r"\['a', 'b'\]. Pass X\[column\]"):
            as_items(X)
        assert as_items(X["a"]) == ["x"]


def test_missing_texts_are_named():
    X = pd.Series(["one", None, "two"]).array
    embedder = FoundationEmbedder(Lengths(), modality="text")
    with pytest.raises(ValueError, match=r"Item 1, .*expected a text"):
        embedder.transform(X)


def test_iterators_datasets_and_loaders_are_no_sequences():
    data = pytest.importorskip("torch.utils.data", reason="needs torch")

    class Pictures(data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return pictures(2)[index]

    for X in (Pictures(), data.DataLoader(Pictures()), iter(["a"]), np.float32(1)):
        with pytest.raises(TypeError, match="Turn it into a list first"):
            as_items(X)


@pytest.mark.parametrize("cached", [False, True])
def test_files_that_a_dataset_has_not_decoded(tmp_path, cached):
    images = pictures(2)
    data = [encode(image) for image in images]
    (tmp_path / "a.png").write_bytes(data[0])
    items = [
        {"bytes": None, "path": str(tmp_path / "a.png")},
        {"bytes": data[1], "path": "b.png"},
    ]
    embedder = FoundationEmbedder(mean_colour, modality="image")
    expected = embedder.transform(images)
    embedder.set_params(cache_dir=tmp_path / "cache" if cached else None)
    for _ in range(2):
        np.testing.assert_array_equal(embedder.transform(items), expected)
    with pytest.raises(ValueError, match=r"Item 0, .*no such file"):
        embedder.transform([{"bytes": None, "path": "no/such.png"}])


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
