"""Opening `web.db`: who may do what, uploads, and what they still have to tell the bus.

The web process owns it and is nearly always its only writer; the commands `user` and `token` write to it for an instant
each. So it is never in WAL mode unless SQLite is safe with two writers (`appliance.store.database`), and every change
is one short transaction that begins IMMEDIATE.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from appliance.errors import StoreDamaged
from appliance.sqlite import sqlite3
from appliance.store.database import BUSY_TIMEOUT_MS, refusal, set_journal

T = TypeVar("T")
_REMEDY = "move it away, or restore a backup"

VERSION = 1
SCHEMA = """
CREATE TABLE users (
    user TEXT PRIMARY KEY,
    password TEXT NOT NULL,              -- argon2id
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    disabled INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,            -- all times: seconds since 1970
    changed_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,                 -- sha256 of the cookie; the cookie itself is kept nowhere
    user TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    created_at REAL NOT NULL,
    seen_at REAL NOT NULL,
    remote TEXT NOT NULL,
    agent TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user);

CREATE TABLE devices (                   -- browsers in which somebody has logged in to this account before
    id TEXT PRIMARY KEY,                 -- sha256 of the cookie
    user TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    seen_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_by_user ON devices (user);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    secret TEXT NOT NULL UNIQUE,         -- sha256 of the token
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    used_at REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE claims (token TEXT PRIMARY KEY, expires_at REAL NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE throttle (key TEXT PRIMARY KEY, level REAL NOT NULL, at REAL NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE uploads (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    offset_bytes INTEGER NOT NULL,       -- on the disk for good
    state TEXT NOT NULL CHECK (state IN ('receiving', 'complete', 'refused')),
    wanted TEXT NOT NULL,                -- what the client's metadata asks for, JSON
    sha256 TEXT,
    error TEXT,
    created_at REAL NOT NULL,
    touched_at REAL NOT NULL,
    job TEXT,
    told INTEGER NOT NULL                -- complete and not told: the outbox, what the bus does not know yet
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_by_owner ON uploads (owner, id);
CREATE INDEX uploads_by_content ON uploads (sha256) WHERE sha256 IS NOT NULL;
CREATE TABLE unsaid (                    -- lines of the audit trail that the bus has not heard yet
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event BLOB NOT NULL                  -- a user:action, JSON, its id included
) STRICT;
CREATE INDEX uploads_to_tell ON uploads (touched_at) WHERE state = 'complete' AND NOT told;
"""


def path_of(data_dir: Path) -> Path:
    return data_dir / "web.db"


def open_accounts(path: Path) -> sqlite3.Connection:
    """Open for writing, creating file and tables when absent. Blocking. Raises `StoreDamaged`, `SourceUnavailable`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000, check_same_thread=False
        )
    except sqlite3.DatabaseError as error:
        raise refusal(path, error, _REMEDY) from error
    try:
        set_journal(connection)
        for pragma in ("foreign_keys=ON", "trusted_schema=OFF", f"busy_timeout={BUSY_TIMEOUT_MS}"):
            connection.execute(f"PRAGMA {pragma}")
        (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise StoreDamaged(
                f"{path} is damaged ({sound}): move it away and claim the box again, or restore a backup"
            )
        with transaction(connection):
            _prepare(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise refusal(path, error, _REMEDY) from error
    except StoreDamaged:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreDamaged(f"{path} has version {version}, this program knows {VERSION}: run the newer program")
    if version == 0:
        for statement in _statements(SCHEMA):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")


def _statements(script: str) -> list[str]:
    from appliance.store.schema import statements

    return list(statements(script))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """One change, whole or not at all: a commit that is refused (a long reader, a full disk) leaves nothing open."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def changed(path: Path, change: Callable[[sqlite3.Connection], T]) -> T:
    """Run one change on the database of a box, running or not. Blocking; for commands."""
    connection = open_accounts(path)
    try:
        with transaction(connection):
            return change(connection)
    finally:
        connection.close()
