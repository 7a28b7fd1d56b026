"""Folders of models: replaced in one step, and read with care."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import stat
import sys
import time
import uuid
import zipfile
from pathlib import Path

CONFIG, WEIGHTS, CARD, STEP = "config.json", "model.safetensors", "README.md", ".skops"

#: What a config says of itself. A reader knows all versions up to its own.
FORMAT, VERSION = "skimprint", 1

# More than the labels of a million classes take.
_MAX_CONFIG_BYTES = 2**26

# Times that a folder is read again because it was replaced meanwhile.
_ATTEMPTS = 10

# Seconds after which one that is not there may be there again.
_MOMENT = 0.02

# Seconds to wait for those who have a file of a folder open, such as a scanner for
# viruses or other processes that load the model: Windows renames no such folder. Many
# short ones, to find a gap between those who load again and again.
_PAUSES = (_MOMENT,) * 100 if os.name == "nt" else ()

_AT_FDCWD, _EXCHANGE = -100, 2  # of Linux's renameat2 and of macOS' renamex_np


def resolved(folder):
    """Find where a path leads, also by way of a folder that is not there."""
    return Path(os.path.realpath(folder))


@contextlib.contextmanager
def replacing(folder):
    """Write files into a new folder that then takes the place of another.

    Parameters
    ----------
    folder : path-like
        Does not exist, is empty, or is a model of ours.

    Yields
    ------
    new : Path
        Put the files here. If there is an error, nothing is left of it.

    Raises
    ------
    FileExistsError
        If there is something that is no model of ours, which stays as it is.
    PermissionError
        If there is a folder that is read-only, or no folder can be made beside it.
    OSError
        If there is a folder that cannot be renamed, such as a mount point.
    """
    folder = resolved(folder)
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The longest name that there may be leaves no room for more in it.
    new = folder.with_name(f".skimprint-{uuid.uuid4().hex}")
    try:
        new.mkdir(0o700 if folder.exists() else 0o777)
    except OSError as error:
        raise _irreplaceable(
            folder, "no folder can be made beside it", error
        ) from error
    try:
        yield new
        for path in new.iterdir():
            # Libraries make files for their owner only: new ones are as that of ours.
            likes = folder / path.name, folder / CONFIG, new / CONFIG
            with path.open("rb+") as file:
                _copy_access(next(filter(Path.exists, likes)), path)
                os.fsync(file.fileno())
        _put_in_place(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _put_in_place(new, folder):
    """Rename a new folder, or exchange it with the one whose place it takes."""
    if not folder.exists():
        try:
            _rename(new, folder)
            return
        except OSError as error:  # somebody else may have made it just now
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    check_replaceable(folder)  # things may have been put there meanwhile
    _copy_access(folder, new)  # it may be for some people only
    if _exchange(new, folder):
        return
    # Where no system call exchanges folders, there is none for a moment.
    old = new.with_name(f"{new.name}.old")
    try:
        _rename(folder, old)
    except OSError as error:  # of a mount point, for example
        raise _irreplaceable(folder, "it may not be renamed", error) from error
    try:
        _rename(new, folder)
    except BaseException:
        _rename(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)  # the new one is there


def _irreplaceable(folder, why, error):
    """Make an error of the same kind that names the folder, and a way out."""
    within = f", or a new one in it, such as {folder / 'model'}"
    return OSError(
        error.errno,
        f"folder must be one that can be replaced as a whole; got {folder}, and {why} "
        f"({error.strerror}). Choose a folder in one that you may write to"
        f"{within if folder.exists() else ''}.",
    )


def check_replaceable(folder):
    """Refuse to replace what is no model of ours.

    Parameters
    ----------
    folder : Path
        What would be replaced.
    """
    if not (folder.exists() or folder.is_symlink()):
        return
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is read-only. Choose another folder.")
    if folder.samefile("."):
        raise FileExistsError(
            f"folder must not be the working directory, for it is replaced as a whole; "
            f"got {folder}. Choose a folder in it."
        )
    why = "it is no folder"
    if folder.is_dir():
        names = sorted(path.name for path in folder.iterdir())
        if not names:
            return
        ours = (CONFIG, WEIGHTS, CARD)
        others = [n for n in names if n not in ours and not n.endswith(STEP)]
        why = f"it has {', '.join(others[:3])}"
        if not others:
            try:
                read_config(folder)
            except (ValueError, OSError) as error:
                why = str(error).rstrip(".")
            else:
                return
    raise FileExistsError(
        f"folder must be a new one, an empty one or a model that skimprint has saved, "
        f"with nothing else in it; {folder} exists, and {why}. Choose another folder."
    )


def read_undisturbed(read, folder):
    """Read a folder so that all of it is of one model, though others may replace it.

    Parameters
    ----------
    read : callable
        From the folder to what is in it. It is called again if it was disturbed.
    folder : Path
        The folder.

    Returns
    -------
    found : object
        What `read` returned.
    """
    for _ in range(_ATTEMPTS):
        before = _identity(folder)
        if before is None:
            time.sleep(_MOMENT)
            continue
        try:
            found = read(resolved(folder))
        except Exception:
            if _identity(folder) == before:
                raise
        else:
            if _identity(folder) == before:
                return found
    if before is None:
        raise FileNotFoundError(f"There is no folder {folder} to load a model from.")
    raise ValueError("it is replaced again and again. Load it when nobody saves to it.")


def _identity(folder):
    """Tell a folder from one that took its place, even under the same number."""
    try:
        found = resolved(folder).stat()
    except (FileNotFoundError, NotADirectoryError):  # maybe for a moment only
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def config_as_bytes(config):
    """Turn what is said of a model into the content of its file.

    Parameters
    ----------
    config : dict
        Of plain values.

    Returns
    -------
    content : bytes
        Of a size that is read again.
    """
    text = json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, as in names of files, is written as JSON escapes it.
    content = text.encode("utf-8", "backslashreplace")
    if len(content) > _MAX_CONFIG_BYTES:
        raise ValueError(
            f"{CONFIG}, which has the labels and the names of features, must have at "
            f"most {_MAX_CONFIG_BYTES} bytes; it would have {len(content)}. Fit with "
            "shorter labels and names, such as numbers; or pickle the model."
        )
    return content


def read_config(folder):
    """Read what a folder says of its model.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    config : dict
        Of a version that can be read.
    """
    path = regular_file(folder, CONFIG)
    if path.stat().st_size > _MAX_CONFIG_BYTES:
        raise ValueError(f"{CONFIG} has more than {_MAX_CONFIG_BYTES} bytes.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{CONFIG} is damaged: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{CONFIG} is not that of a model of skimprint.")
    if config.get("format_version") not in range(1, VERSION + 1):
        raise ValueError(
            f"it has format version {config.get('format_version')!r}, and this version "
            f"of skimprint reads {VERSION}. Load it with the version of skimprint that "
            f"has written it: {config.get('skimprint_version', 'unknown')!r}."
        )
    return config


def regular_file(folder, name):
    """Find a file in a folder: one that is there, and no link to elsewhere.

    Parameters
    ----------
    folder : Path
        The folder.
    name : str
        Of the file.

    Returns
    -------
    path : Path
    """
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{name!r} is no name of a file in the folder.")
    path = folder / name
    if path.is_symlink():
        raise ValueError(
            f"{name} is a symbolic link, which may lead anywhere. Copy the files (from "
            "a hub: download into a folder of your own, with local_dir=...)."
        )
    if not path.is_file():
        raise ValueError(f"{name} is missing.")
    return path


def check_archive(path):
    """Refuse an archive that would take more memory than its size."""
    with zipfile.ZipFile(path) as archive:
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ValueError(f"{path.name} is compressed; that of a model is not.")


def _refuse(constant):
    raise ValueError(f"it has {constant}.")


def _copy_access(source, target):
    """Give a file or folder the mode, owner and group of another, if that may be."""
    old = source.stat()
    mode = stat.S_IMODE(old.st_mode)
    if hasattr(os, "chown"):
        for ids in ((-1, old.st_gid), (old.st_uid, -1)):
            with contextlib.suppress(OSError):  # not everybody may give files away
                os.chown(target, *ids)
        if target.stat().st_gid != old.st_gid:
            mode = mode & ~0o070 | (mode & 0o007) << 3  # another group: as all others
    target.chmod(mode)


def _rename(folder, name):
    """Rename a folder, where need be when those have gone who look into it."""
    for pause in _PAUSES:
        try:
            folder.rename(name)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    folder.rename(name)


def _exchange(first, second):
    """Exchange two folders in one step; tell whether that could be done."""
    first, second = os.fsencode(first), os.fsencode(second)
    if sys.platform not in ("linux", "darwin"):
        return False
    system = ctypes.CDLL(None)
    if rename := getattr(system, "renameat2", None):
        return rename(_AT_FDCWD, first, _AT_FDCWD, second, _EXCHANGE) == 0
    if rename := getattr(system, "renamex_np", None):
        return rename(first, second, _EXCHANGE) == 0
    return False
