import contextlib
import os
import shutil
import sqlite3
import subprocess
import tempfile
import warnings
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
from embedders import Lengths, embed_text, in_threads
from memory import less_memory_than

from skimprint import FoundationEmbedder
from skimprint.embedding import _cache
from skimprint.embedding._cache import EmbeddingCache

TEXTS = [f"sentence number {number}" for number in range(60)]
EXPECTED = np.array([embed_text(text) for text in TEXTS])


def embed(directory, model=None, texts=TEXTS, **parameters):
    """Embed with a cache; return the rows and how many texts were embedded."""
    model = Lengths() if model is None else model
    embedder = FoundationEmbedder(
        model, modality="text", cache_dir=directory, **parameters
    )
    before = len(model.seen)
    rows = embedder.transform(texts)
    return rows, len(model.seen) - before


def database(directory, number=1):
    return directory / f"embeddings-{number}.sqlite3"


def test_second_time_comes_from_the_cache(tmp_path):
    first, n_first = embed(tmp_path)
    second, n_second = embed(tmp_path)
    assert (n_first, n_second) == (60, 0)
    np.testing.assert_array_equal(first, EXPECTED)
    np.testing.assert_array_equal(second, EXPECTED)


def test_only_new_items_are_embedded(tmp_path):
    embed(tmp_path, texts=TEXTS[:40])
    rows, n_embedded = embed(tmp_path)
    assert n_embedded == 20
    np.testing.assert_array_equal(rows, EXPECTED)


def test_info_and_clear(tmp_path):
    embedder = FoundationEmbedder(Lengths(), modality="text", cache_dir=tmp_path)
    assert embedder.cache_info()._asdict() | {"bytes": 0} == {
        "items": 0,
        "bytes": 0,
        "hits": 0,
        "misses": 0,
    }
    embedder.transform([*TEXTS, *TEXTS])
    embedder.transform(TEXTS[:10])
    info = embedder.cache_info()
    assert (info.items, info.hits, info.misses) == (60, 10, 60)
    assert info.bytes > EXPECTED.nbytes
    embedder.clear_cache()
    cleared = embedder.cache_info()
    assert (cleared.items, cleared.hits, cleared.misses) == (0, 0, 0)
    assert cleared.bytes < info.bytes
    assert embed(tmp_path)[1] == 60


def test_without_a_cache_there_is_nothing_to_tell():
    for method in ("cache_info", "clear_cache"):
        with pytest.raises(ValueError, match="set cache_dir"):
            getattr(FoundationEmbedder(Lengths()), method)()


def test_more_keys_than_fit_a_query(tmp_path):
    keys = [number.to_bytes(32, "big") for number in range(5000)]
    with EmbeddingCache(tmp_path) as cache:
        # Of SQLite as it was up to 3.31.
        cache._connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        cache.put(keys, keys)
        assert cache.get(keys) == dict(zip(keys, keys, strict=True))
        assert cache.get([b"none"]) == {}


def test_what_waits_is_written_after_half_a_second(tmp_path, monkeypatch):
    now, found = 0.0, []
    monkeypatch.setattr(_cache, "time", SimpleNamespace(monotonic=lambda: now))
    with EmbeddingCache(tmp_path) as cache, EmbeddingCache(tmp_path) as other:
        for now in (0.1, 0.4, 0.6, 0.7):
            cache.put([b"%.1f" % now], [bytes(4)])
            found.append(other.info().items)
    assert found == [0, 0, 3, 3]


def test_models_share_a_directory_but_no_rows(tmp_path):
    embed(tmp_path)
    other = Lengths()
    other.fingerprint = "lengths 2"
    assert embed(tmp_path, other)[1] == 60
    with EmbeddingCache(tmp_path) as cache:
        assert cache.info().items == 120


def test_rows_of_nan_are_not_kept(tmp_path):
    class Partly(Lengths):
        def __call__(self, texts):
            rows = np.array(super().__call__(texts))
            rows[["3" in text for text in texts]] = np.nan
            return rows

    n_bad = sum("3" in text for text in TEXTS)
    with pytest.warns(UserWarning, match="NaN or infinite"):
        rows, _ = embed(tmp_path, Partly(), on_error="skip")
    assert np.isnan(rows).all(1).sum() == n_bad
    with EmbeddingCache(tmp_path) as cache:
        assert cache.info().items == 60 - n_bad
    rows, n_embedded = embed(tmp_path)
    assert n_embedded == n_bad
    np.testing.assert_array_equal(rows, EXPECTED)


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A cache of all texts, as one file."""
    directory = tmp_path_factory.mktemp("intact")
    embed(directory)
    assert [file.name for file in directory.iterdir()] == ["embeddings-1.sqlite3"]
    return database(directory)


def embed_from_damaged(directory, data):
    """Embed with a damaged cache; return how many were embedded and the warnings."""
    directory.mkdir(exist_ok=True)
    database(directory).write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows, n_embedded = embed(directory)
    np.testing.assert_array_equal(rows, EXPECTED)
    assert {warning.category for warning in caught} <= {RuntimeWarning}
    # Everything is there now, and nothing more to complain about.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows, n_again = embed(directory)
    np.testing.assert_array_equal(rows, EXPECTED)
    assert n_again == 0
    return n_embedded, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("seed", range(80))
def test_flipped_bytes_never_give_a_wrong_row(intact, tmp_path, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(intact.read_bytes())
    for place in rng.integers(0, len(data), rng.choice([1, 4, 64])):
        data[place] ^= rng.integers(1, 256)
    embed_from_damaged(tmp_path, bytes(data))


@pytest.mark.parametrize("place", range(100))
def test_flipped_bytes_of_the_header(intact, tmp_path, place):
    data = bytearray(intact.read_bytes())
    data[place] ^= 0xFF
    embed_from_damaged(tmp_path, bytes(data))


def test_damaged_rows_are_reported_and_embedded_anew(intact, tmp_path):
    data = intact.read_bytes()
    for row in EXPECTED[:7]:
        place = data.index(row.tobytes())
        data = data[:place] + b"\x01" + data[place + 1 :]
    n_embedded, messages = embed_from_damaged(tmp_path, data)
    assert n_embedded == 7
    assert len(messages) == 1
    assert "7 of its entries are damaged" in messages[0]
    assert str(tmp_path) in messages[0]


@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "text"])
def test_damaged_files_are_reported_and_what_can_be_read_is(intact, tmp_path, damage):
    data = intact.read_bytes()
    page = 16384
    data = {
        "empty": b"",
        "cut": data[: 2 * page],
        "zeros": data[:page] + bytes(len(data) - page),
        "text": b"This is no database." * 1000,
    }[damage]
    n_embedded, messages = embed_from_damaged(tmp_path, data)
    assert n_embedded > 0
    if damage == "empty":
        assert messages == []
    else:
        assert len(messages) == 1
        assert "embeddings-1.sqlite3" in messages[0]
        assert database(tmp_path, 2).exists()


def test_most_rows_outlive_a_page_that_cannot_be_read(tmp_path):
    texts = [f"{text} {turn}" for turn in range(10) for text in TEXTS]
    rows, _ = embed(tmp_path, texts=texts)
    data, page = bytearray(database(tmp_path).read_bytes()), 8192
    start = data.index(rows[300].tobytes()) // page * page
    data[start : start + page] = bytes(page)
    database(tmp_path).write_bytes(data)
    with pytest.warns(RuntimeWarning, match="What can be read of it moves"):
        again, n_embedded = embed(tmp_path, texts=texts)
    np.testing.assert_array_equal(again, rows)
    assert 0 < n_embedded < 150
    assert embed(tmp_path, texts=texts)[1] == 0


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A cache of many rows, as the bytes of its file, and what is in it."""
    directory = tmp_path_factory.mktemp("many")
    keys = [crc32(bytes([n % 256, n // 256])).to_bytes(16) for n in range(6000)]
    rows = [key * 16 for key in keys]
    with EmbeddingCache(directory) as cache:
        for start in range(0, len(keys), 100):
            cache.put(keys[start : start + 100], rows[start : start + 100])
            cache._flush()
    return database(directory).read_bytes(), dict(zip(keys, rows, strict=True))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("damage", ["cut", "cut in a page", "zeros", "noise"])
def test_no_more_rows_are_lost_than_are_damaged(many, tmp_path, damage, share):
    data, page = bytearray(many[0]), 8192
    n_bad = int(share * len(data)) // page * page
    if "cut" in damage:
        del data[len(data) - n_bad + 100 * (damage == "cut in a page") :]
    else:
        rng = np.random.default_rng(0)
        start = (len(data) - n_bad) // 2 // page * page
        data[start : start + n_bad] = (
            rng.bytes(n_bad) if damage == "noise" else bytes(n_bad)
        )
    database(tmp_path).write_bytes(data)
    with (
        pytest.warns(RuntimeWarning, match="What can be read of it moves"),
        EmbeddingCache(tmp_path) as cache,
    ):
        found = cache.get([*many[1]])
    assert found.items() <= many[1].items()
    assert len(found) > (1 - share - 0.03) * len(many[1])
    with EmbeddingCache(tmp_path) as cache:
        assert len(cache.get([*many[1]])) == len(found)


@pytest.mark.parametrize("place", [1, 30, 3000, 5998])
@pytest.mark.parametrize("n_between", [1, 10, 10**6, 2**62])
def test_rows_beside_gaps_are_not_lost(many, tmp_path, place, n_between):
    database(tmp_path).write_bytes(many[0])
    with forging(tmp_path) as connection:
        move = "UPDATE embeddings SET rowid = rowid + ? WHERE rowid > ?"
        connection.execute(move, (2**62, place))
        connection.execute(move, (n_between - 2**62, place))
        connection.execute("INSERT INTO embeddings VALUES (x'01', x'00000000', 0)")
    with EmbeddingCache(tmp_path) as cache:
        with pytest.warns(RuntimeWarning, match="1 of its entries are damaged"):
            assert cache.get([b"\x01"]) == {}
        assert cache.get([*many[1]]) == many[1]


def test_clear_removes_damaged_files(tmp_path):
    database(tmp_path).write_bytes(b"This is no database." * 1000)
    with pytest.warns(RuntimeWarning, match="is damaged"):
        embed(tmp_path)
    embedder = FoundationEmbedder(Lengths(), modality="text", cache_dir=tmp_path)
    embedder.clear_cache()
    assert not database(tmp_path).exists()
    assert embedder.cache_info().items == 0


def test_disk_full(tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_PATIENCE", 0)  # so that some fits
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs to mount a small tmpfs, which is not permitted: {error}")
    try:
        texts = [f"{text} {turn}" for turn in range(40) for text in TEXTS]
        expected = np.array([embed_text(text) for text in texts])
        for _ in range(2):
            with pytest.warns(RuntimeWarning, match="disk is full"):
                rows, n_embedded = embed(tmp_path, texts=texts)
            np.testing.assert_array_equal(rows, expected)
        assert 0 < n_embedded < len(texts)  # some rows were stored the first time
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_no_room_for_a_cache_at_all(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr("skimprint.embedding._cache._prepare", full)
    with pytest.warns(RuntimeWarning, match="disk is full"):
        rows, n_embedded = embed(tmp_path)
    assert n_embedded == 60
    np.testing.assert_array_equal(rows, EXPECTED)


@pytest.fixture
def nobody():
    """Run as a user who may not write everywhere."""
    if not hasattr(os, "setresuid"):
        pytest.skip("needs users as on Linux")
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def read_only(intact):
    """A directory with the cache of all texts, for everybody to read."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        shutil.copy(intact, database(directory))
        database(directory).chmod(0o444)
        directory.chmod(0o555)
        yield directory
        directory.chmod(0o755)


def test_read_only_directory(read_only, nobody):
    with pytest.warns(RuntimeWarning, match="cannot be used fully"):
        rows, n_embedded = embed(read_only, texts=[*TEXTS, "a new one"])
    assert n_embedded == 1
    np.testing.assert_array_equal(rows[:-1], EXPECTED)


def test_file_of_somebody_else_is_not_damaged(read_only, request):
    read_only.chmod(0o777)
    request.getfixturevalue("nobody")
    with pytest.warns(RuntimeWarning, match="cannot be used fully") as caught:
        rows, n_embedded = embed(read_only, texts=[*TEXTS, "a new one"])
    assert not any("is damaged" in str(warning.message) for warning in caught)
    assert n_embedded == 1
    np.testing.assert_array_equal(rows[:-1], EXPECTED)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cache_dir=.*file.*cannot be made"):
        embed(tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    "path, uri",
    [
        (r"C:\a b\rows", "file:///C:/a%20b/rows"),
        (r"\\nas\share\rows", "file:////nas/share/rows"),
        (r"\\?\C:\rows", "file:////%3F/C%3A/rows"),
    ],
)
# Of paths that are none of this system, from Python 3.14 on.
@pytest.mark.filterwarnings("ignore:pathlib.PurePath.as_uri:DeprecationWarning")
def test_paths_of_windows_are_addresses_without_a_host(monkeypatch, path, uri):
    monkeypatch.setattr(_cache, "Path", PureWindowsPath)
    assert _cache._uri(path) == uri


def test_sqlite_takes_such_addresses(tmp_path, monkeypatch):
    uri = _cache._uri
    monkeypatch.setattr(_cache, "_uri", lambda path: uri(path).replace("//", "////", 1))
    assert [embed(tmp_path)[1] for _ in range(2)] == [60, 0]


def test_what_never_opens_is_not_tried_again_and_again(tmp_path, monkeypatch):
    monkeypatch.setattr(_cache, "_uri", lambda path: f"file://host{path}")
    with pytest.warns(RuntimeWarning, match="invalid uri authority: host") as caught:
        rows, n_embedded = embed(tmp_path)
    np.testing.assert_array_equal(rows, EXPECTED)
    assert (len(caught), n_embedded) == (1, 60)
    assert len(list(tmp_path.iterdir())) == 1


def test_rows_of_different_lengths_are_not_mixed(tmp_path):
    def wide(texts):
        return [[1.0] * 4 for _ in texts]

    def narrow(texts):
        return [[2.0] * 2 for _ in texts]

    wide.fingerprint = narrow.fingerprint = "the same"
    for model, text in ((wide, "a"), (narrow, "b")):
        FoundationEmbedder(model, modality="text", cache_dir=tmp_path).transform([text])
    embedder = FoundationEmbedder(narrow, modality="text", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="the cache holds rows of 2 and 4 features"):
        embedder.transform(["a", "b"])


def test_a_model_that_changes_itself_is_warned_of_once(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")

    class Counting(torch.nn.Module):
        n_calls = 0

        def forward(self, x):
            self.n_calls += 1
            return x

    embedder = FoundationEmbedder(Counting(), cache_dir=tmp_path)
    with pytest.warns(RuntimeWarning, match="changed while it was running"):
        embedder.transform(torch.eye(3))
    embedder.transform(torch.eye(3))


def test_threads_share_a_cache(tmp_path):
    results = in_threads(lambda: embed(tmp_path)[0])
    assert len(results) == 4
    for rows in results:
        np.testing.assert_array_equal(rows, EXPECTED)


def test_one_directory_by_any_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    spellings = ["rows", "rows/", "./rows", tmp_path / "rows", "~/rows"]
    assert {EmbeddingCache(each).directory for each in spellings} == {
        str(tmp_path / "rows")
    }
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert EmbeddingCache("rows").directory == str(tmp_path / "elsewhere" / "rows")


def test_clear_on_a_full_disk_makes_room(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs to mount a small tmpfs, which is not permitted: {error}")
    try:
        with pytest.warns(RuntimeWarning, match="disk is full"):
            embed(tmp_path, texts=[f"{text} {i}" for i in range(40) for text in TEXTS])
        filler = tmp_path / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        embedder = FoundationEmbedder(Lengths(), modality="text", cache_dir=tmp_path)
        embedder.clear_cache()
        assert embedder.cache_info().items == 0
        assert embed(tmp_path)[1] == 60
        assert embed(tmp_path)[1] == 0
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_clear_on_a_read_only_cache_is_an_error(read_only, nobody):
    embedder = FoundationEmbedder(Lengths(), modality="text", cache_dir=read_only)
    with (
        pytest.warns(RuntimeWarning, match="cannot be used fully"),
        pytest.raises(OSError, match="cannot be cleared: "),
    ):
        embedder.clear_cache()
    with pytest.warns(RuntimeWarning, match="cannot be used fully"):
        assert embedder.cache_info().items == 60


@pytest.mark.parametrize(
    "cache_dir, error, message",
    [
        ("", ValueError, "is no path of a local directory"),
        ("  ", ValueError, "is no path of a local directory"),
        ("s3://bucket/rows", ValueError, "kept on a local disk only"),
        ("file:///tmp/rows", ValueError, "is no path of a local directory"),
        ("file:rows", ValueError, "is no path of a local directory"),
        ("a\0b", ValueError, "is no path of a local directory"),
        (b"rows", TypeError, "a str or a pathlib.Path, got bytes"),
        (3, TypeError, "a str or a pathlib.Path, got int"),
        ("x" * 5000, OSError, "cannot be made or read"),
    ],
)
def test_what_is_no_directory(tmp_path, monkeypatch, cache_dir, error, message):
    monkeypatch.chdir(tmp_path)
    embedder = FoundationEmbedder(Lengths(), modality="text", cache_dir=cache_dir)
    for call in (lambda: embedder.transform(TEXTS), embedder.cache_info):
        with pytest.raises(error, match=message):
            call()
    assert not list(tmp_path.iterdir())


def test_a_parent_that_cannot_be_read(nobody):
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o000)
        with pytest.raises(OSError, match="cannot be made or read"):
            embed(Path(name) / "rows")
        Path(name).chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="needs files that go while open")
def test_a_directory_that_vanishes(tmp_path):
    class Removes(Lengths):
        def __call__(self, texts):
            if len(self.seen) == 20:
                shutil.rmtree(tmp_path / "rows")
            return super().__call__(texts)

    with pytest.warns(RuntimeWarning, match="cannot be used fully") as caught:
        rows, n_embedded = embed(tmp_path / "rows", Removes(), batch_size=10)
    assert (len(caught), n_embedded) == (1, 60)
    np.testing.assert_array_equal(rows, EXPECTED)


@contextlib.contextmanager
def forging(directory):
    """Change a cache as somebody who knows its format."""
    with contextlib.closing(sqlite3.connect(database(directory))) as connection:
        yield connection
        connection.commit()


def forge(directory, text_of_row):
    with forging(directory) as connection:
        rows = connection.execute("SELECT key, value FROM embeddings").fetchall()
        for number, (key, value) in enumerate(rows):
            value = text_of_row(number, value)
            record = value, crc32(value, crc32(key)), key
            update = "UPDATE embeddings SET value = ?, checksum = ? WHERE key = ?"
            connection.execute(update, record)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"abc",
        bytes(4 * 2_600_000),
    ],
    ids=["empty", "3 bytes", "wide"],
)
@pytest.mark.parametrize("n_forged", [1, 60])
@pytest.mark.filterwarnings("ignore:The cache:RuntimeWarning")
def test_forged_rows_are_embedded_again(tmp_path, value, n_forged):
    embed(tmp_path)
    forge(tmp_path, lambda number, old: value if number < n_forged else old)
    with less_memory_than(2e7):
        rows, n_embedded = embed(tmp_path)
    assert n_embedded == n_forged
    np.testing.assert_array_equal(rows, EXPECTED)
    rows, n_embedded = embed(tmp_path)
    assert n_embedded == 0
    np.testing.assert_array_equal(rows, EXPECTED)


@pytest.mark.parametrize("n_new", [0, 1])
def test_forged_widths_are_told(tmp_path, n_new):
    embed(tmp_path)
    forge(tmp_path, lambda number, old: old[:12] if number or n_new else old)
    with pytest.raises(ValueError, match=r"have one length.*call clear_cache"):
        embed(tmp_path, texts=TEXTS + ["new"] * n_new)


@pytest.mark.parametrize(
    "sql, n_lost",
    [
        ("ALTER TABLE embeddings RENAME TO others", 60),
        ("ALTER TABLE embeddings RENAME COLUMN value TO row", 60),
        ("ALTER TABLE embeddings ADD COLUMN more INT", 0),
    ],
)
def test_a_file_with_another_table_makes_way(tmp_path, sql, n_lost):
    embed(tmp_path)
    with forging(tmp_path) as connection:
        connection.executescript(sql)
    texts = [*TEXTS, "one more"]
    with pytest.warns(RuntimeWarning, match="is damaged"):
        rows, n_embedded = embed(tmp_path, texts=texts)
    assert n_embedded == n_lost + 1
    np.testing.assert_array_equal(rows[:60], EXPECTED)
    assert embed(tmp_path, texts=texts)[1] == 0


def test_a_dangling_link_is_not_followed(tmp_path):
    (tmp_path / "rows").mkdir()
    database(tmp_path / "rows").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(RuntimeWarning, match="cannot be used fully"):
        rows, _ = embed(tmp_path / "rows")
    np.testing.assert_array_equal(rows, EXPECTED)
    assert not (tmp_path / "elsewhere").exists()


def test_links_to_nothing_are_no_obstacle_to_counting_and_clearing(tmp_path):
    database(tmp_path).symlink_to(tmp_path / "elsewhere")
    embedder = FoundationEmbedder(Lengths(), modality="text", cache_dir=tmp_path)
    with pytest.warns(RuntimeWarning, match="cannot be used fully"):
        assert embedder.cache_info() == (0, 0, 0, 0)
    with pytest.warns(RuntimeWarning, match="cannot be used fully"):
        embedder.clear_cache()
    assert not database(tmp_path).is_symlink()
    assert embed(tmp_path)[1] == 60
    assert embedder.cache_info().items == 60


def test_a_directory_that_links_to_nothing(tmp_path):
    (tmp_path / "rows").symlink_to(tmp_path / "elsewhere")
    embedder = FoundationEmbedder(Lengths(), cache_dir=tmp_path / "rows")
    for call in (embedder.cache_info, embedder.clear_cache):
        with pytest.raises(OSError, match=r"cache_dir=.*rows.*cannot be made or read"):
            call()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs file modes as on Linux")
def test_files_are_for_their_owner_only(tmp_path):
    with EmbeddingCache(tmp_path) as cache:
        cache.put([b"key"], [bytes(4)])
        modes = {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert modes == {0o600}


@pytest.mark.parametrize("can_remove", [True, False])
def test_others_go_on_in_the_new_file(tmp_path, monkeypatch, can_remove):
    """Also on Windows, which does not remove a file that somebody has open."""
    if can_remove and os.name == "nt":
        pytest.skip("needs files that go while open")

    def refuse(path):
        raise PermissionError(path)

    embed(tmp_path)
    with EmbeddingCache(tmp_path) as old, EmbeddingCache(tmp_path) as other:
        with monkeypatch.context() as patch:
            if can_remove:
                other.clear()
            else:
                patch.setattr(Path, "unlink", refuse)
                with pytest.warns(RuntimeWarning, match="clear_cache.. again when"):
                    other.clear()
        old.put([b"key"], [bytes(4)])
        assert old.get([b"key"]) == {b"key": bytes(4)}
    with EmbeddingCache(tmp_path) as new:
        assert new.get([b"key"]) == {b"key": bytes(4)}
        assert new.info().items == 1
        if not can_remove:
            new.clear()
    assert len([*tmp_path.iterdir()]) == 1


def test_a_file_that_another_one_makes_meanwhile_is_used(tmp_path, monkeypatch):
    path = tmp_path / "embeddings-1.sqlite3"
    make = os.open

    def late(name, flags, *args):
        monkeypatch.undo()
        path.touch()
        return make(name, flags, *args)

    monkeypatch.setattr(os, "open", late)
    connection = _cache._connected(str(path))
    assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,)
    connection.close()
