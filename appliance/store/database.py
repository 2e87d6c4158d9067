"""Opening `appliance.db`.

One writer: the dispatcher. Everybody else opens read-only. `synchronous` is never below FULL. WAL is used only with an
SQLite that has the WAL-reset fix (3.51.3, or 3.50.7 / 3.44.6 and later of their lines; `appliance.sqlite` brings one);
older ones may corrupt a WAL database when two processes write or checkpoint at once, so they get a rollback journal
with `synchronous=EXTRA`. Its file is kept (PERSIST): each commit overwrites it in place, so the file system has no
metadata of its own to flush.
"""

from __future__ import annotations

import logging
from pathlib import Path

from appliance.errors import ApplianceError, SourceUnavailable, StoreDamaged
from appliance.sqlite import sqlite3
from appliance.storage import measured
from appliance.store.projection import Projection
from appliance.store.schema import SCHEMA, SCHEMA_VERSION

log = logging.getLogger(__name__)
BUSY_TIMEOUT_MS = 5000
JOURNAL_BYTES = 4 * 1024 * 1024
"""A larger rollback journal (of a rebuild) is cut to this after its transaction."""
WRITER_BUSY_TIMEOUT_MS = 60_000
"""The writer has patience: with a rollback journal a backup in progress keeps it waiting."""

_REBUILD = "run `appliance rebuild --from stream`"


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite has the WAL-reset fix (https://sqlite.org/wal.html, "the WAL-reset bug")."""
    if version[:2] == (3, 44):
        return version >= (3, 44, 6)
    if version[:2] == (3, 50):
        return version >= (3, 50, 7)
    return version >= (3, 51, 3)


def journal_mode() -> str:
    """The journal this interpreter's SQLite can be trusted with: `wal` or `persist`."""
    return "wal" if wal_is_safe(sqlite3.sqlite_version_info) else "persist"


def open_writer(path: Path) -> sqlite3.Connection:
    """Open for the one writer, creating the file and schema when absent. Autocommit off by explicit BEGIN only.

    A database of an older schema is upgraded, which takes about two minutes for each million facts. Raises
    `StoreDamaged` when the file is not a sound database, or one of a newer program, and `SourceUnavailable` when it
    cannot be opened now.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except sqlite3.DatabaseError as error:
        raise refusal(path, error, _REBUILD) from error
    try:
        _guard(connection, WRITER_BUSY_TIMEOUT_MS)
        set_journal(connection)
        connection.execute(f"PRAGMA journal_size_limit={JOURNAL_BYTES}")
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise StoreDamaged(f"{path} is damaged ({sound}): {_REBUILD}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif version > SCHEMA_VERSION:
            raise StoreDamaged(
                f"{path} has schema {version}, this program knows {SCHEMA_VERSION}: run the newer program that made it,"
                " or `appliance rebuild --from stream`"
            )
        elif version < SCHEMA_VERSION:
            log.warning("upgrading the database: its tables are made anew from its facts", extra={"path": str(path)})
            Projection(connection).upgrade(SCHEMA_VERSION)
        measured.prepare(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise refusal(path, error, _REBUILD) from error
    except StoreDamaged:
        connection.close()
        raise
    return connection


def set_journal(connection: sqlite3.Connection) -> None:
    """Choose the journal, for good, and how it is flushed. Waits for who uses the database in another mode."""
    mode = journal_mode()
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute(f"PRAGMA synchronous={'FULL' if mode == 'wal' else 'EXTRA'}")


def refusal(path: Path, error: sqlite3.DatabaseError, remedy: str) -> ApplianceError:
    """What to raise when a database cannot be opened: only for one that is damaged is the remedy to make it anew."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreDamaged(f"{path} cannot be opened ({error}): {remedy}")
    advice = {
        sqlite3.SQLITE_FULL: "free some space on its disk",
        sqlite3.SQLITE_BUSY: "another program holds it; end that",
        sqlite3.SQLITE_CANTOPEN: "see who may write in its folder",
        sqlite3.SQLITE_READONLY: "see who may write it and in its folder",
        sqlite3.SQLITE_IOERR: "see whether its disk is full or fails",
    }.get(code, "see the log of the kernel and the disk")
    return SourceUnavailable(f"{path} cannot be opened now ({error}): {advice}")


def open_reader(path: Path, *, check_same_thread: bool = True) -> sqlite3.Connection:
    """Open read-only. Raises `StoreDamaged` when there is no database yet."""
    try:
        connection = sqlite3.connect(
            f"file:{path}?mode=ro",
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_MS / 1000,
            check_same_thread=check_same_thread,
        )
        _guard(connection)
        connection.row_factory = sqlite3.Row
    except sqlite3.DatabaseError as error:
        raise StoreDamaged(f"{path} cannot be read ({error}): has the box run on this data folder?") from error
    return connection


def _guard(connection: sqlite3.Connection, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
    for pragma in ("foreign_keys=ON", "trusted_schema=OFF", "cell_size_check=ON", f"busy_timeout={busy_timeout_ms}"):
        connection.execute(f"PRAGMA {pragma}")
