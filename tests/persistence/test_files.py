"""Folders are replaced in one step or not at all, and read as one."""

import errno
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from saved_models import assert_same, names_in, through
from settings import plain_classifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skimprint import persistence
from skimprint.persistence import _files

pytest.importorskip("safetensors", reason="needs skimprint[files]")


def mode_of(path):
    return path.stat().st_mode & 0o7777


def is_root():
    return os.name == "posix" and os.geteuid() == 0


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        persistence.load(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "file/model"):
        with pytest.raises(FileNotFoundError, match="no folder"):
            persistence.load(tmp_path / name)


@pytest.mark.parametrize(
    "path",
    ["m", "./m/.", "nowhere/../m", "no/where/../../m", "link/../m", "link", "a/b"],
)
def test_a_path_leads_to_the_same_folder_in_save_and_load(tmp_path, monkeypatch, path):
    (tmp_path / "elsewhere" / "m").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    if "link" in path:
        Path("link").symlink_to(tmp_path / "elsewhere" / "m")
    clf = plain_classifier("mean").fit(np.eye(2), ["up", "right"])
    for each in (path, tmp_path / path):
        assert_same(clf, through(clf, each), np.eye(2))
    assert not Path("nowhere").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs limits of POSIX")
def test_a_folder_may_have_the_longest_name(tmp_path, monkeypatch):
    clf = plain_classifier("mean").fit(np.eye(2), ["up", "right"])
    folder = tmp_path / ("n" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    assert_same(clf, through(clf, folder), np.eye(2))
    name = "skimprint.persistence._files._exchange"
    for replace in (_files._exchange, lambda first, second: False):
        monkeypatch.setattr(name, replace)
        assert_same(clf, through(clf, folder), np.eye(2))
    assert names_in(tmp_path) == [folder.name]


def test_a_link_that_is_changed_while_a_model_is_read(saved, monkeypatch):
    """Releases that a link leads to are changed like that, and the old one removed."""
    other = plain_classifier("mean").fit(np.eye(2), ["up", "right"])
    persistence.save(other, saved.parent / "other")
    link = saved.parent / "link"
    link.symlink_to(saved)
    read_config = persistence._models.read_config

    def disturbed(folder):
        config = read_config(folder)
        if saved.exists():
            link.unlink()
            link.symlink_to(saved.parent / "other")
            shutil.rmtree(saved)
        return config

    monkeypatch.setattr("skimprint.persistence._models.read_config", disturbed)
    assert_same(other, persistence.load(link), np.eye(2))


@pytest.mark.parametrize(
    "labels",
    [[f"{i:06}" for i in range(500)], ["a" * 3000, "b"], ["ä" * 9, "\udcff" * 500]],
    ids=["many", "long", "not of ASCII"],
)
@pytest.mark.parametrize("limit", ["config", "labels"])
def test_what_load_would_refuse_for_its_size_is_not_written(
    saved, monkeypatch, limit, labels
):
    """The limits are smaller here: 200,000 labels of 336 bytes reach the true one."""
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    X = np.eye(2)[np.arange(len(labels)) % 2]
    clf = plain_classifier("mean").fit(X, labels)
    persistence.save(clf, saved.parent / "other")
    size = (saved.parent / "other" / "config.json").stat().st_size
    name = "skimprint.persistence._files._MAX_CONFIG_BYTES"
    if limit == "labels":
        size, name = clf.classes_.nbytes, "skimprint.classifier._plain.arrays."
        name += "MAX_TEXT_BYTES"
    monkeypatch.setattr(name, size - 1)
    message = f"at most {size - 1} bytes.* would .*{size}.* Fit with shorter labels"
    with pytest.raises(ValueError, match=message):
        persistence.save(clf, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    with pytest.raises(ValueError, match="cannot be loaded as a model"):
        persistence.load(saved.parent / "other")
    monkeypatch.setattr(name, size)
    np.testing.assert_array_equal(through(clf, saved).classes_, clf.classes_)


def test_a_folder_is_replaced_only_if_it_is_a_model(digits, saved):
    X, y = digits
    clf = plain_classifier("mean").fit(X, y)
    persistence.save(clf, saved)
    assert_same(clf, persistence.load(saved), X)
    assert names_in(saved) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert names_in(saved.parent) == ["model"]
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"it has notes.txt"):
        persistence.save(clf, saved)
    (saved / "notes.txt").unlink()
    for content, why in (
        ("{}", "config.json is not that of a model of skimprint"),
        ("[" * 10**6, "config.json is damaged"),
        ('{"format": "skimprint", "format_version": 9}', "it has format version 9"),
        (None, "config.json is missing"),
    ):
        if content is None:
            (saved / "config.json").unlink()
        else:
            (saved / "config.json").write_text(content)
        with pytest.raises(FileExistsError, match=f"exists, and {why}"):
            persistence.save(clf, saved)
        assert "model.safetensors" in names_in(saved)
    other = saved.parent / "file"
    other.write_text("mine")
    with pytest.raises(FileExistsError, match="it is no folder"):
        persistence.save(clf, other)
    assert other.read_text("utf-8") == "mine"


def test_a_folder_is_replaced_in_one_step(saved, monkeypatch):
    clf, other = persistence.load(saved), saved.parent / "other"
    other.mkdir()
    if not _files._exchange(saved, other):
        pytest.skip("needs a system that exchanges folders")
    monkeypatch.setattr(Path, "rename", lambda path, target: pytest.fail("moved away"))
    persistence.save(clf, other)
    assert_same(clf, persistence.load(other), clf.proxies_)


def test_the_working_directory_is_not_replaced(digits, folder, saved, monkeypatch):
    clf = persistence.load(saved)
    monkeypatch.chdir(saved)
    for name in (".", saved, f"../{saved.name}"):
        with pytest.raises(FileExistsError, match="must not be the working directory"):
            persistence.save(clf, name)
    monkeypatch.chdir(saved.parent)
    persistence.save(clf, saved.name)


@pytest.mark.skipif(os.name != "posix", reason="needs modes of POSIX")
@pytest.mark.parametrize("can_exchange", [True, False])
def test_who_may_read_a_folder_and_its_files_stays(saved, monkeypatch, can_exchange):
    if not can_exchange:
        name = "skimprint.persistence._files._exchange"
        monkeypatch.setattr(name, lambda first, second: False)
    clf = persistence.load(saved)
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1
    for mode in (0o700, 0o755, 0o750):
        saved.chmod(mode)
        persistence.save(clf, saved)
        assert mode_of(saved) == mode
    modes = {"README.md": 0o444, "config.json": 0o640, "model.safetensors": 0o600}
    for name, mode in modes.items():
        (saved / name).chmod(mode)
    persistence.save(clf, saved)
    assert {path.name: mode_of(path) for path in saved.iterdir()} == modes
    if os.geteuid():  # root may write all
        saved.chmod(0o500)
        with pytest.raises(PermissionError, match="is read-only"):
            persistence.save(clf, saved)


@pytest.mark.skipif(os.name != "posix", reason="needs modes of POSIX")
def test_who_may_read_a_model_may_read_the_files_that_are_new_in_it(digits, saved):
    pytest.importorskip("skops.io", reason="needs skimprint[files]")
    for path in saved.iterdir():
        path.chmod(0o600)
    model = make_pipeline(StandardScaler(), plain_classifier("mean")).fit(*digits)
    persistence.save(model, saved)
    assert {path.name: mode_of(path) for path in saved.iterdir()} == dict.fromkeys(
        ["README.md", "config.json", "model.safetensors", "estimator_0.skops"], 0o600
    )


@pytest.mark.skipif(not is_root(), reason="needs root, who may give files away")
@pytest.mark.parametrize("kept", ["owner and group", "group", "none"])
def test_owners_and_groups_stay_or_others_get_no_more(saved, monkeypatch, kept):
    clf, chown = persistence.load(saved), os.chown
    modes = {saved: 0o750, **dict.fromkeys(saved.iterdir(), 0o640)}
    modes[saved / "README.md"] = 0o664
    for path, mode in modes.items():
        chown(path, 1234, 2345)
        path.chmod(mode)

    def limited(path, uid, gid):
        if kept == "none" or uid != -1:
            raise PermissionError
        chown(path, uid, gid)

    if kept != "owner and group":
        monkeypatch.setattr(os, "chown", limited)
    persistence.save(clf, saved)
    uid = 1234 if kept == "owner and group" else os.geteuid()
    gid = os.getegid() if kept == "none" else 2345
    if kept == "none":
        modes = {saved: 0o700, **dict.fromkeys(modes.keys() - {saved}, 0o600)}
        modes[saved / "README.md"] = 0o644
    for path, mode in modes.items():
        found = path.stat()
        assert (mode_of(path), found.st_uid, found.st_gid) == (mode, uid, gid)


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_read_of_one_folder_though_it_is_replaced(
    digits, saved, monkeypatch, fails
):
    """Another one takes its place after the config was read, before the arrays are."""
    X, y = digits
    other = plain_classifier("mean").fit(X, y.astype(str))
    read_config, n_saves = persistence._models.read_config, []

    def disturbed(folder):
        config = read_config(folder)
        if len(n_saves) < 2:
            n_saves.append(persistence.save(other, folder))
            if fails:
                raise FileNotFoundError
        return config

    monkeypatch.setattr("skimprint.persistence._models.read_config", disturbed)
    assert_same(other, persistence.load(saved), X)
    assert len(n_saves) == 2
    n_saves.clear()
    monkeypatch.setattr("skimprint.persistence._files._ATTEMPTS", 2)
    with pytest.raises(ValueError, match="replaced again and again"):
        persistence.load(saved)


@pytest.mark.parametrize(
    "largest", ["README.md", "config.json", "model.safetensors", "estimator_0.skops"]
)
def test_a_file_that_finds_no_room_is_an_error_of_the_system(digits, saved, largest):
    resource = pytest.importorskip("resource", reason="needs limits of POSIX")
    pytest.importorskip("skops.io", reason="needs skimprint[files]")
    X, y = digits
    before = persistence.load(saved)
    model = make_pipeline(StandardScaler(), plain_classifier("mean")).fit(X, y)
    persistence.save(model, saved.parent / "other")
    size = (saved.parent / "other" / largest).stat().st_size
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, old[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            persistence.save(model, saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    if "safetensors" in str(caught.value):
        assert f"cannot be written to {saved}: " in str(caught.value)
        assert "Make room" in str(caught.value)
    assert_same(before, persistence.load(saved), X)
    assert names_in(saved.parent) == ["model", "other"]


def test_a_model_is_there_for_readers_where_folders_are_not_exchanged(
    digits, saved, monkeypatch
):
    """For a moment there is none."""
    X, y = digits
    clf = plain_classifier("mean").fit(X, y)
    name = "skimprint.persistence._files._exchange"
    monkeypatch.setattr(name, lambda first, second: False)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [persistence.save(clf, saved) for _ in range(50)])
        while not writing.done():
            persistence.load(saved)
    writing.result()
    assert_same(clf, persistence.load(saved), X)
    assert names_in(saved.parent) == ["model"]


@pytest.mark.parametrize("n_failures", [2, 3])
def test_those_who_look_into_a_folder_are_waited_for(
    digits, saved, monkeypatch, n_failures
):
    """On Windows, where a folder is not renamed while somebody has a file of it."""
    clf = persistence.load(saved)
    rename, failed = Path.rename, []

    def disturbed(path, target):
        if len(failed) < n_failures:
            failed.append(path)
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", disturbed)
    monkeypatch.setattr(_files, "_PAUSES", (0.01, 0.01))
    monkeypatch.setattr(_files, "_exchange", lambda first, second: False)
    if n_failures == 2:
        persistence.save(clf, saved)
    else:
        with pytest.raises(PermissionError, match="it may not be renamed"):
            persistence.save(clf, saved)
    assert_same(clf, persistence.load(saved), digits[0])
    assert names_in(saved.parent) == ["model"]


@pytest.mark.parametrize(
    "method, exists, code",
    [
        *[("rename", True, code) for code in (errno.EBUSY, errno.EPERM, errno.EACCES)],
        *[("mkdir", True, code) for code in (errno.EACCES, errno.EROFS)],
        *[("mkdir", False, code) for code in (errno.EACCES, errno.EROFS)],
    ],
)
def test_a_folder_that_cannot_be_replaced_is_named(
    saved, monkeypatch, method, exists, code
):
    """As a mount point cannot be, nor one in a folder that one may not write to."""
    clf = persistence.load(saved)
    folder = saved.parent / "other"
    if exists:
        shutil.copytree(saved, folder)
    function = getattr(Path, method)

    def fail(path, *args, **kwargs):
        if path.name.startswith("other" if method == "rename" else ".skimprint"):
            raise OSError(code, os.strerror(code), str(path))
        return function(path, *args, **kwargs)

    name = "skimprint.persistence._files._exchange"
    monkeypatch.setattr(name, lambda first, second: False)
    monkeypatch.setattr(Path, method, fail)
    with pytest.raises(OSError, match=re.escape(f"got {folder}, and ")) as caught:
        persistence.save(clf, folder)
    assert type(caught.value) is type(OSError(code, ""))
    assert os.strerror(code) in str(caught.value)
    assert "Choose a folder in one that you may write" in str(caught.value)
    assert (f"such as {folder / 'model'}" in str(caught.value)) == exists
    assert ".skimprint" not in str(caught.value)
    assert names_in(saved.parent) == ["model", *["other"] * exists]
    if exists:
        assert names_in(folder) == names_in(saved)


@pytest.mark.skipif(is_root() or os.name != "posix", reason="needs modes that hold")
def test_a_folder_in_one_that_may_not_be_written_is_named(saved):
    message = re.escape(f"got {saved}, and no folder can be made beside it")
    saved.parent.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match=message):
            persistence.save(persistence.load(saved), saved)
    finally:
        saved.parent.chmod(0o700)
    assert names_in(saved.parent) == ["model"]


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("when", ["os.fsync", "pathlib.Path.rename"])
@pytest.mark.parametrize("what", ["model", "notes", "empty"])
def test_a_folder_that_appears_while_it_is_saved(
    digits, saved, monkeypatch, can_exchange, when, what
):
    """Just before the last step, or earlier; it is replaced only if it is a model."""
    X, y = digits
    clf = plain_classifier("mean").fit(X, y)
    folder = saved.parent / "new"
    module, _, name = when.rpartition(".")
    function, calls = getattr(os if module == "os" else Path, name), []

    def late(*args):
        calls.append(args)
        if len(calls) == 1:
            folder.mkdir()
            if what == "model":
                shutil.copytree(saved, folder, dirs_exist_ok=True)
            elif what == "notes":
                (folder / "notes.txt").write_text("mine")
        return function(*args)

    if not can_exchange:
        exchange = "skimprint.persistence._files._exchange"
        monkeypatch.setattr(exchange, lambda first, second: False)
    monkeypatch.setattr(when, late)
    if what == "notes":
        with pytest.raises(FileExistsError, match=r"it has notes.txt\. Choose another"):
            persistence.save(clf, folder)
        assert names_in(folder) == ["notes.txt"]
    else:
        persistence.save(clf, folder)
        assert_same(clf, persistence.load(folder), X)
    assert names_in(saved.parent) == ["model", "new"]


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("function", ["os.fsync", "pathlib.Path.write_text"])
def test_an_error_while_writing_leaves_the_old_model(
    digits, saved, monkeypatch, can_exchange, function
):
    X, y = digits
    before = persistence.load(saved)
    clf = plain_classifier("mean").fit(X, y)

    def fail(*args, **kwargs):
        raise OSError("no space left")

    if not can_exchange:
        name = "skimprint.persistence._files._exchange"
        monkeypatch.setattr(name, lambda first, second: False)
    with monkeypatch.context() as patch:
        patch.setattr(function, fail)
        with pytest.raises(OSError, match="no space left"):
            persistence.save(clf, saved)
    assert_same(before, persistence.load(saved), X)
    persistence.save(clf, saved)
    assert_same(clf, persistence.load(saved), X)
    assert names_in(saved.parent) == ["model"]


def test_a_part_that_is_no_archive_is_refused(digits, folder):
    pytest.importorskip("skops.io", reason="needs skimprint[files]")
    model = make_pipeline(StandardScaler(), plain_classifier("mean")).fit(*digits)
    persistence.save(model, folder)
    (path,) = folder.glob("*.skops")
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a zip file"):
        persistence.load(folder)


def test_compressed_parts_are_refused(digits, folder):
    skops = pytest.importorskip("skops.io", reason="needs skimprint[files]")
    X, y = digits
    model = make_pipeline(StandardScaler(), plain_classifier("mean")).fit(X, y)
    persistence.save(model, folder)
    (path,) = folder.glob("*.skops")
    skops.dump(model[0], path, compression=8)
    with pytest.raises(ValueError, match="is compressed"):
        persistence.load(folder)
