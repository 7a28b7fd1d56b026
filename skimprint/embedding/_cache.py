"""Embeddings on disk, row by row, in SQLite: shared, atomic, and checked when read."""

import contextlib
import errno
import os
import re
import sqlite3
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from .._arrays.threads import ForkSafeLock

_TIMEOUT = 60  # seconds to wait for other processes
_PATIENCE = 0.5  # seconds between writes, which cost some: as much work may be lost
_KEYS_PER_QUERY = 900  # within the limit of variables of every SQLite
_MAX_ROW = 2**20  # bytes of an embedding; nothing that is longer is one
_FILE_NAME = re.compile(r"embeddings-(\d+)\.sqlite3")  # of `_file_name`
_MAKE_TABLE = (
    "CREATE TABLE IF NOT EXISTS embeddings "
    "(key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL)"
)

# Trouble that comes from the machine; all other errors of SQLite mean a damaged file.
_MACHINE_CODES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}

# What SQLite raises: its text may hold bytes of a damaged file, which are no text.
_ERRORS = sqlite3.Error, UnicodeDecodeError

_COUNTS = defaultdict(Counter)  # hits and misses of this process, by directory
_COUNTS_LOCK = ForkSafeLock()


class CacheInfo(NamedTuple):
    """What a cache holds, and how it served this process.

    Parameters
    ----------
    items : int
        Embeddings in the cache, those of other models included.
    bytes : int
        Size of the cache on disk.
    hits : int
        Items that this process found in the cache. Items that are the same and not far
        apart count as one.
    misses : int
        Items that it did not find.
    """

    items: int
    bytes: int
    hits: int
    misses: int


class EmbeddingCache:
    """Keep rows by key in a directory, for use in a ``with`` statement.

    Each row is stored with a checksum over key and value. The file is
    ``embeddings-1.sqlite3``. One that is damaged makes way for ``embeddings-2.sqlite3``
    and so on, with all rows that can be read. No name is used twice, because another
    process may have the old file open, and its log would be taken for the new one's.

    Parameters
    ----------
    directory : path-like
        Made if it is not there; it is an error if it cannot be made.
    """

    def __init__(self, directory):
        path = os.path.expanduser(_local_path(directory))  # noqa: PTH111 - it is fast
        self.directory = os.path.abspath(path)  # noqa: PTH100
        self._connection = None  # lives for one `with` statement
        self._write_error = None  # why nothing is written
        self._pending = []  # what is to be written
        self._written = time.monotonic()  # when something was

    def __enter__(self):
        try:
            numbers = self._numbers()
            if not numbers:
                Path(self.directory).mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise OSError(
                f"cache_dir={self.directory!r} cannot be made or read: {error}"
            ) from error
        self._open(max(numbers, default=1))
        return self

    def __exit__(self, *exception):
        try:
            self._flush()
        finally:
            self._close()

    def get(self, keys):
        """Look up rows.

        Parameters
        ----------
        keys : list of bytes
            What to look for.

        Returns
        -------
        rows : dict of bytes to bytes
            Those that are there and undamaged.
        """
        self._flush()
        found, keys = {}, sorted(keys)  # as they are on disk
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            n_damaged = 0
            for key, row, checksum in self._select(
                keys[start : start + _KEYS_PER_QUERY]
            ):
                if _is_intact(key, row, checksum):
                    found[key] = row
                else:
                    n_damaged += 1
            if n_damaged and self._write_error is None:
                self._replace(f"{n_damaged} of its entries are damaged")
                self.put([*found], [*found.values()])  # found here, but maybe not there
        with _COUNTS_LOCK:
            counts = _COUNTS[self.directory]
            counts.update(hits=len(found), misses=len(keys) - len(found))
        return found

    def put(self, keys, rows):
        """Store rows, at the latest at the end of the ``with`` statement.

        Parameters
        ----------
        keys : list of bytes
            Their names.
        rows : list of bytes
            Their values, not empty.
        """
        self._pending += [
            (key, row, crc32(row, crc32(key)))
            for key, row in zip(keys, rows, strict=True)
        ]
        if time.monotonic() - self._written >= _PATIENCE:
            self._flush()

    def info(self):
        """Count what is stored and how it was used.

        Returns
        -------
        info : CacheInfo
            Items and bytes of the directory, hits and misses of this process.
        """
        items = 0
        if self._connection is not None:
            with contextlib.suppress(*_ERRORS):
                query = "SELECT COUNT(*) FROM embeddings"
                (items,) = self._connection.execute(query).fetchone()
        size = 0
        for file in self._files():
            with contextlib.suppress(OSError):  # a link to nothing, or gone by now
                size += file.stat().st_size
        counts = _COUNTS.get(self.directory, Counter())
        return CacheInfo(items, size, counts["hits"], counts["misses"])

    def clear(self):
        """Remove all rows, also damaged ones, and start counting from zero."""
        self._close()
        self._remove(self._number + 1)  # first, which makes room
        self._open(self._number + 1)
        if self._write_error is not None:
            raise OSError(
                f"The cache {self.directory} cannot be cleared: {self._write_error}."
            )
        if min(self._numbers(), default=self._number) < self._number:
            self._warn(
                "Some files cannot be removed, for another process may have them open. "
                "Nobody reads them again; call clear_cache() again when it is done."
            )
        with _COUNTS_LOCK:
            _COUNTS.pop(self.directory, None)

    def _flush(self):
        """Write what is to be written; by key, since it goes to pages by key."""
        records, self._pending = sorted(self._pending), []
        self._store(records)
        self._written = time.monotonic()

    def _store(self, records):
        """Write records, all or none of them."""
        while records and self._write_error is None:
            try:
                self._check_newest()
                with self._connection:  # commits at the end, or rolls back
                    self._connection.execute("BEGIN IMMEDIATE")
                    self._connection.executemany(
                        "INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", records
                    )
                return
            except (*_ERRORS, OSError) as error:
                self._recover(error)

    def _check_newest(self):
        """Raise an error if the file is no more, or has made way for another one.

        SQLite would go on writing to it. Windows keeps it for as long as it is open.
        """
        if max(self._numbers(), default=0) != self._number:
            message = os.strerror(errno.ENOENT)
            raise FileNotFoundError(errno.ENOENT, message, self._path)

    def _files(self, number="*"):
        return list(Path(self.directory).glob(f"{_file_name(number)}*"))

    def _numbers(self):
        try:
            names = os.listdir(self.directory)  # noqa: PTH208
        except FileNotFoundError:
            return []
        return [int(match[1]) for match in map(_FILE_NAME.fullmatch, names) if match]

    def _open(self, number):
        """Open a file, making it if need be; if it is damaged, another one."""
        self._number, self._write_error = number, None
        self._path = path = os.path.join(self.directory, _file_name(number))  # noqa: PTH118
        try:
            self._connection = _connected(path)
        except (*_ERRORS, OSError) as error:
            # An empty file is not damaged, and another one would fare no better.
            if not (self._blames_machine(error) or _is_empty(path)):
                self._replace("it cannot be opened")
                return
            self._give_up_writing(error)
            # Without files beside it, which cannot be made, nobody else writes to it.
            alone = "" if Path(f"{path}-wal").exists() else "&immutable=1"
            with contextlib.suppress(*_ERRORS):
                self._connection = _connected(path, f"mode=ro{alone}")

    def _close(self):
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _select(self, keys):
        marks = ",".join("?" * len(keys))
        query = (
            "SELECT key, value, checksum FROM embeddings "
            f"WHERE key IN ({marks}) AND length(value) <= {_MAX_ROW}"
        )
        while self._connection is not None:
            try:
                return self._connection.execute(query, keys).fetchall()
            except _ERRORS as error:
                if self._write_error is not None or not self._recover(error):
                    break
        return []

    def _recover(self, error):
        """Go on after an error, in another file if that helps; say whether it did."""
        newest = max(self._numbers(), default=self._number)
        if newest > self._number:  # another process found the damage first
            self._close()
            self._open(newest)
        elif self._blames_machine(error):
            self._give_up_writing(error)
            return False
        else:
            self._replace(f"SQLite says that {error}")
        return True

    def _replace(self, reason):
        """Go on in a new file, with what can be read of a damaged one."""
        self._warn(
            f"The file {_file_name(self._number)} is damaged: {reason}. What "
            "can be read of it moves to a new file, the rest is embedded again."
        )
        old, damaged, self._connection = self._connection, self._path, None
        self._open(self._number + 1)
        if self._write_error is None:
            with contextlib.suppress(*_ERRORS):  # nothing can be read
                _copy_readable(damaged, self._store)
        if old is not None:
            old.close()
        if self._write_error is None:
            self._remove(self._number)

    def _remove(self, below):
        for number in self._numbers():
            for file in self._files(number) if number < below else ():
                with contextlib.suppress(OSError):
                    file.unlink()

    def _blames_machine(self, error):
        """Whether the machine, not the file, is at fault."""
        if isinstance(error, OSError):
            return True
        if _code(error) == sqlite3.SQLITE_READONLY:
            # Damage may make a file look read-only.
            paths = self.directory, self._path
            return not all(os.access(path, os.W_OK) for path in paths)
        return _code(error) in _MACHINE_CODES

    def _give_up_writing(self, error):
        self._write_error = str(error)
        self._warn(
            f"It cannot be used fully: {error}. Embedding goes on; what is not "
            "stored is embedded again next time."
        )

    def _warn(self, message):
        message = f"The cache {self.directory}: {message}"
        warnings.warn(message, RuntimeWarning, stacklevel=2)


def _file_name(number):
    return f"embeddings-{number}.sqlite3"


def _local_path(directory):
    """Return the path of a directory as a string, or say what is wrong with it."""
    path = os.fspath(directory) if isinstance(directory, os.PathLike) else directory
    if not isinstance(path, str):
        raise TypeError(
            "cache_dir must be the path of a local directory, a str or a pathlib.Path, "
            f"got {type(directory).__name__}."
        )
    if (
        not path.strip()
        or "\0" in path
        or re.match(r"(file:|[a-z][\w+.-]+://)", path, re.I)
    ):
        raise ValueError(
            f"cache_dir={directory!r} is no path of a local directory. A cache is kept "
            "on a local disk only: write cache_dir='embeddings' or the like."
        )
    return path


def _uri(path):
    uri = Path(path).as_uri()
    # SQLite takes no name of a host, such as that of a share on Windows, but as a part
    # of the path.
    return uri if uri.startswith("file:///") else uri.replace("//", "////", 1)


def _is_empty(path):
    with contextlib.suppress(OSError):
        return Path(path).stat().st_size == 0
    return False


def _connected(path, mode="mode=rw"):
    """Open a file; one that is to be written to is made if need be."""
    if mode == "mode=rw":
        # For its owner only. What a link points to is not made.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    connection = sqlite3.connect(
        f"{_uri(path)}?{mode}", uri=True, timeout=_TIMEOUT, isolation_level=None
    )
    try:
        connection.text_factory = bytes  # whatever damage makes of a value
        connection.execute("PRAGMA cell_size_check=ON")
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection):
    """Make the table if it is not there, waiting for processes that do the same."""
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA wal_autocheckpoint=2000")
    connection.execute("PRAGMA cache_size=-20000")
    deadline = time.monotonic() + _TIMEOUT
    # Most often it is there: that is found out without a lock for writing.
    while connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
        try:
            connection.execute("PRAGMA page_size=8192")  # keys go to random pages
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(_MAKE_TABLE)
        except sqlite3.OperationalError as error:
            # Entering WAL mode does not wait by itself.
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _copy_readable(path, store, n_rows=50):
    """Hand on all rows of a damaged file that can be read and are right.

    Up to a bad place rows are read one by one; then rowids are tried in turn. In a gap
    of more than a hundred the steps grow by a hundredth of it, so that no more is
    missed behind it, and some 4,000 tries come to the end of all rowids.
    """
    query = (
        "SELECT rowid, key, value, checksum FROM embeddings WHERE rowid >= ? "
        f"AND length(value) <= {_MAX_ROW} ORDER BY rowid LIMIT ?"
    )
    start, gap, limit = 0, 0, n_rows
    with contextlib.closing(sqlite3.connect(f"{_uri(path)}?mode=ro", uri=True)) as file:
        file.text_factory = bytes
        file.execute("PRAGMA cell_size_check=ON")
        file.execute("PRAGMA writable_schema=ON")  # else no file that was cut
        while start < 2**63:
            try:
                records = file.execute(query, (start, limit)).fetchall()
            except _ERRORS:
                if limit == 1:
                    step = 1 + gap // 100
                    start, gap = start + step, gap + step
                limit = 1
                continue
            if not records:
                return
            # A damaged tree may give a rowid again.
            start, gap = max(start, records[-1][0]) + 1, 0
            limit = min(2 * limit, n_rows)
            store([record[1:] for record in records if _is_intact(*record[1:])])


def _is_intact(key, row, checksum):
    """Whether a row is one that was stored under its key."""
    return (
        type(key) is type(row) is bytes
        and len(row) % 4 == 0 < len(row)
        and checksum == crc32(row, crc32(key))
    )


def _code(error):
    """Primary code of SQLite's error, or 0 for errors of Python's own making."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
