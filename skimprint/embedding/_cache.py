"""Embeddings on disk, row by row, in SQLite: shared, atomic, and checked when read."""

import contextlib
import os
import re
import sqlite3
import threading
import time
import warnings
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

_TIMEOUT = 60  # seconds to wait for other processes
_KEYS_PER_QUERY = 900  # within the limit of variables of every SQLite
_FILE_NAME = re.compile(r"embeddings-(\d+)\.sqlite3")

# Trouble that comes from the machine; all other errors of SQLite mean a damaged file.
_ENVIRONMENT = {
    sqlite3.SQLITE_BUSY: "another process keeps it locked",
    sqlite3.SQLITE_LOCKED: "another connection keeps it locked",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_IOERR: "the disk is full or failing",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "permission is denied",
}

_COUNTS = {}
_COUNTS_LOCK = threading.Lock()


class CacheInfo(NamedTuple):
    """What a cache holds, and how it served this process.

    Parameters
    ----------
    items : int
        Embeddings in the cache, those of other models included.
    bytes : int
        Size of the cache on disk.
    hits : int
        Distinct items of a transform that this process found in the cache.
    misses : int
        Distinct items of a transform that it did not find, and embedded.
    """

    items: int
    bytes: int
    hits: int
    misses: int


class EmbeddingCache:
    """Rows by key in a directory, for use in a ``with`` statement.

    Each row is stored with a checksum over key and value. The files are
    ``embeddings-1.sqlite3`` and, only after damage, ``embeddings-2.sqlite3`` and so on:
    new rows go to the newest, and those of an older one that can still be read are
    used. A damaged file is not written to, because damage to its structures would
    spread, nor renamed or replaced, because another process may have it open.

    Parameters
    ----------
    directory : path-like
        Made if it is not there; it is an error if it cannot be made.
    """

    def __init__(self, directory):
        directory = os.fspath(directory)
        is_relative = not directory.startswith((os.sep, "~"))
        here = os.getcwd() if is_relative else ""  # noqa: PTH109
        self.directory = _absolute(directory, here, os.environ.get("HOME"))
        self._connections = []  # newest first; they live for one `with` statement
        self._writable = True

    def __enter__(self):
        try:
            numbers = self._numbers()
        except (FileNotFoundError, NotADirectoryError):
            self._make_directory()
            numbers = []
        numbers = sorted(numbers, reverse=True) or [1]
        for number in numbers:
            self._open(number)
        opened = [number for number, _ in self._connections]
        if opened[:1] != numbers[:1]:
            self._begin_anew(numbers[0], "it cannot be opened")
        return self

    def __exit__(self, *exception):
        for _, connection in self._connections:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self._connections = []

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
        found = {}
        for number, connection in list(self._connections):
            missing = [key for key in keys if key not in found] if found else keys
            n_damaged = 0
            for start in range(0, len(missing), _KEYS_PER_QUERY):
                chunk = missing[start : start + _KEYS_PER_QUERY]
                n_damaged += self._read(connection, chunk, found)
            if n_damaged and number == self._connections[0][0]:
                self._begin_anew(number, f"{n_damaged} of its entries are damaged")
        _count(self.directory, hits=len(found), misses=len(keys) - len(found))
        return found

    def put(self, keys, rows):
        """Store rows, all or none of them.

        Parameters
        ----------
        keys : list of bytes
            Their names.
        rows : list of bytes
            Their values, not empty.
        """
        if not self._writable or not keys:
            return
        records = [
            (key, row, crc32(row, crc32(key)))
            for key, row in zip(keys, rows, strict=True)
        ]
        number, connection = self._connections[0]
        try:
            _write(connection, records)
        except sqlite3.Error as error:
            if self._blame_environment(error):
                return
            self._begin_anew(number, f"SQLite cannot write to it: {error}")
            if self._writable:
                self.put(keys, rows)

    def info(self):
        """Count what is stored and how it was used.

        Returns
        -------
        info : CacheInfo
            Items and bytes of the directory, hits and misses of this process.
        """
        items = 0
        for _, connection in self._connections:
            with contextlib.suppress(sqlite3.DatabaseError):
                (count,) = connection.execute(
                    "SELECT COUNT(*) FROM embeddings"
                ).fetchone()
                items += count
        size = sum(file.stat().st_size for file in self._files())
        counts = _COUNTS.get(self.directory, Counter())
        return CacheInfo(items, size, counts["hits"], counts["misses"])

    def clear(self):
        """Remove all rows, also damaged ones, and start counting anew."""
        for number, connection in self._connections[:1]:
            try:
                connection.execute("DELETE FROM embeddings")
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.DatabaseError:
                self._begin_anew(number, "it cannot be cleared")
        kept = self._connections[0][0] if self._connections else None
        for number in self._numbers():
            if number != kept:
                for file in self._files(number):
                    file.unlink(missing_ok=True)
        with _COUNTS_LOCK:
            _COUNTS.pop(self.directory, None)

    def _make_directory(self):
        try:
            Path(self.directory).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"cache_dir={self.directory!r} cannot be made: {error}"
            ) from error

    def _files(self, number="*"):
        return list(Path(self.directory).glob(f"embeddings-{number}.sqlite3*"))

    def _numbers(self):
        matches = map(_FILE_NAME.fullmatch, os.listdir(self.directory))  # noqa: PTH208
        return [int(match[1]) for match in matches if match]

    def _open(self, number):
        """Open one file; say so if it is damaged or cannot be used."""
        path = os.path.join(self.directory, f"embeddings-{number}.sqlite3")  # noqa: PTH118
        connection = None
        try:
            connection = sqlite3.connect(path, timeout=_TIMEOUT, isolation_level=None)
            connection.text_factory = bytes  # whatever damage makes of a value
            _prepare(connection)
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if self._connections or not self._blame_environment(error):
                return
            connection = self._open_read_only(path)
            if connection is None:
                return
        self._connections.append((number, connection))

    def _open_read_only(self, path):
        """Open a file that cannot be written to, or return None."""
        # Without files beside it, which cannot be made, nobody else writes to it.
        alone = not Path(f"{path}-wal").exists()
        uri = f"{Path(path).as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
        connection = None
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=_TIMEOUT)
            connection.text_factory = bytes
            connection.execute("SELECT COUNT(*) FROM embeddings")
        except sqlite3.Error:
            if connection is not None:
                connection.close()
            return None
        return connection

    def _begin_anew(self, number, reason):
        """Write to a new file from now on; a damaged one is only read."""
        if not self._writable:
            return
        warnings.warn(
            f"The file embeddings-{number}.sqlite3 of the cache {self.directory} is "
            f"damaged: {reason}. What can be read of it is still used, the rest is "
            "embedded anew and stored in a new file beside it. clear_cache() removes "
            "both.",
            RuntimeWarning,
            stacklevel=2,
        )
        count = len(self._connections)
        self._open(number + 1)
        if len(self._connections) > count:
            self._connections.insert(0, self._connections.pop())
        else:
            self._give_up_writing("a new file cannot be opened beside a damaged one")

    def _read(self, connection, keys, found):
        """Add rows to found, and count those that are damaged.

        Where SQLite cannot read a part of the file, look for fewer keys at a time.
        """
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, value, checksum FROM embeddings WHERE key IN ({marks})"
        try:
            records = connection.execute(query, keys).fetchall()
        except sqlite3.Error as error:
            if self._blame_environment(error):
                return 0
            if len(keys) == 1:
                return 1
            half = len(keys) // 2
            return self._read(connection, keys[:half], found) + self._read(
                connection, keys[half:], found
            )
        n_damaged = 0
        for key, row, checksum in records:
            if type(row) is bytes and checksum == crc32(row, crc32(key)):
                found[key] = row
            else:
                n_damaged += 1
        return n_damaged

    def _blame_environment(self, error):
        """Whether the machine, not the file, is at fault; then stop writing."""
        code = _code(error)
        if code not in _ENVIRONMENT:
            return False
        if code == sqlite3.SQLITE_READONLY and all(
            os.access(path, os.W_OK) for path in (self.directory, *self._files())
        ):
            return False  # damage may make a file look read-only
        self._give_up_writing(f"{_ENVIRONMENT[code]} ({error})")
        return True

    def _give_up_writing(self, reason):
        if self._writable:
            self._writable = False
            warnings.warn(
                f"The cache {self.directory} cannot be used fully: {reason}. "
                "Embedding goes on; what is not stored is embedded again next time.",
                RuntimeWarning,
                stacklevel=2,
            )


@lru_cache(maxsize=64)
def _absolute(directory, here, home):
    """One spelling of a directory; remembered, since pathlib is slow."""
    return str(Path(here, Path(directory).expanduser()).absolute())


def _prepare(connection):
    """Make the table if it is not there, waiting for processes that do the same."""
    connection.execute("PRAGMA cell_size_check=ON")
    with contextlib.suppress(sqlite3.OperationalError):
        # Most often it is there: that is found out without a lock for writing.
        connection.execute("SELECT key, value, checksum FROM embeddings LIMIT 0")
        return
    deadline = time.monotonic() + _TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA page_size=16384")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS embeddings "
                "(key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum INTEGER NOT NULL)"
            )
            return
        except sqlite3.OperationalError as error:
            # Entering WAL mode does not wait by itself.
            busy = _code(error) == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _write(connection, records):
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(
            "INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", records
        )
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _code(error):
    """Primary code of SQLite's error, or 0 for errors of Python's own making."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _count(directory, **counts):
    with _COUNTS_LOCK:
        _COUNTS.setdefault(directory, Counter()).update(counts)
