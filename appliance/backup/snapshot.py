"""A consistent copy of a database that is being written: SQLite's online backup, checked before it is believed."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from appliance.errors import BackupError, StoreDamaged
from appliance.store.database import open_reader


def copy_database(source: Path, target: Path) -> None:
    """Copy `source` as of one moment to `target`, which must not exist, in one step. Blocking.

    In one step, because a copy in several begins anew with each transaction of the writer and would never end on a busy
    box. With a rollback journal the writer waits meanwhile (`store.database.WRITER_BUSY_TIMEOUT_MS`); with WAL nobody
    does. Raises `StoreDamaged` when the copy is not sound.
    """
    try:
        with closing(open_reader(source)) as reader, closing(sqlite3.connect(target)) as copy:
            reader.backup(copy)
            (sound,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{source} cannot be copied: {error}") from error
    if sound != "ok":
        raise StoreDamaged(f"{source} is damaged ({sound}): run `appliance rebuild --from stream`, then back up")
