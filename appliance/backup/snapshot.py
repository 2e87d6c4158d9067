"""A consistent copy of a database that is being written: SQLite's online backup, checked before it is believed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from appliance.errors import BackupError, StoreDamaged
from appliance.sqlite import sqlite3
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


def settle_accounts(web: Path, database: Path) -> list[str]:
    """Make the copy of `web.db` one that a box can begin with, beside the copy of `appliance.db`. Blocking.

    Sessions and claims end: a backup revives nobody who has logged out. Unfinished uploads go, their bytes are not in
    it. A finished upload that `appliance.db` has not heard of is to be told again, so that none is lost between the two
    copies; the bus takes it once. Returns the sha256 of each of those.
    """
    with closing(sqlite3.connect(web)) as db:
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        for table in tables & {"sessions", "claims"}:
            db.execute(f"DELETE FROM {table}")  # noqa: S608 - one of these two
        waiting: list[str] = []
        if "uploads" in tables:
            db.execute("ATTACH ? AS box", (str(database),))
            db.execute("DELETE FROM uploads WHERE state = 'receiving'")
            db.execute(
                "UPDATE uploads SET told = 0 WHERE state = 'complete'"
                " AND id NOT IN (SELECT file FROM box.files WHERE state = 'taken')"
            )
            rows = db.execute(
                "SELECT DISTINCT sha256 FROM uploads WHERE state = 'complete' AND NOT told ORDER BY sha256"
            )
            waiting = [row[0] for row in rows if row[0] is not None]
        db.commit()
    return waiting
