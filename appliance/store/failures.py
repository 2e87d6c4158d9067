"""Actions that failed, in a table of their own beside the projected ones: what is not done yet must survive a restart.

A row is one action of one fact: why it failed, how often, and when it is tried again (`next_try_at` NULL: given up, it
waits for a person). It goes when the action has succeeded or somebody dropped it. Facts are named by their event's id,
which stays when a lost stream is put back under new sequences. Written by the one writer, read by anybody.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.errors import StoreDamaged
from appliance.sqlite import sqlite3
from appliance.store.database import open_reader
from bus.errors import UndecodableEvent
from bus.events import AnyEvent, decode_event

MAX_FAILED = 10_000
"""Rows kept. Beyond them the oldest that were given up go first."""

TABLE = """CREATE TABLE IF NOT EXISTS failed_actions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    action TEXT NOT NULL,
    type TEXT NOT NULL,
    job TEXT,
    clip INTEGER,
    attempts INTEGER NOT NULL,       -- that failed; 0 when it was put off before the first
    reason TEXT NOT NULL,
    failed_at TEXT NOT NULL,
    next_try_at TEXT,                -- NULL: given up
    UNIQUE (event, action)
) STRICT"""


class FailedAction(Struct, frozen=True, kw_only=True):
    """One action of one fact that is not done."""

    id: int
    event: str
    action: str
    type: str
    job: str | None
    clip: int | None
    attempts: int
    reason: str
    failed_at: str
    next_try_at: str | None
    """RFC 3339 UTC; None: given up."""

    @property
    def target(self) -> str:
        """How a person's request names it, whatever happens to the database: `<event>:<action>`."""
        return f"{self.event}:{self.action}"


_COLUMNS = ", ".join(FailedAction.__struct_fields__)


def stamp(moment: datetime) -> str:
    """How moments are stored: UTC with microseconds, so that they sort as text."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def prepare(db: sqlite3.Connection) -> None:
    """Create the table when it is not there."""
    db.execute(TABLE)


def record(
    db: sqlite3.Connection, event: AnyEvent, action: str, attempts: int, reason: str, next_try_at: datetime | None
) -> None:
    """Write down that `action` of `event` is not done, over what was written before."""
    now, upcoming = stamp(datetime.now(UTC)), None if next_try_at is None else stamp(next_try_at)
    known = db.execute(
        "UPDATE failed_actions SET attempts = ?, reason = ?, failed_at = ?, next_try_at = ?"
        " WHERE event = ? AND action = ?",
        (attempts, reason, now, upcoming, event.id, action),
    ).rowcount
    if known:
        return
    db.execute(
        "INSERT INTO failed_actions (event, action, type, job, clip, attempts, reason, failed_at, next_try_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(event.id, action, str(event.__struct_config__.tag), event.job, event.clip),
            *(attempts, reason, now, upcoming),
        ),
    )
    db.execute(
        "DELETE FROM failed_actions WHERE id IN (SELECT id FROM failed_actions ORDER BY next_try_at IS NOT NULL, id"
        " LIMIT max(0, (SELECT count(*) FROM failed_actions) - ?))",
        (MAX_FAILED,),
    )


def resolve(db: sqlite3.Connection, event: str, action: str) -> None:
    """The action is done."""
    db.execute("DELETE FROM failed_actions WHERE event = ? AND action = ?", (event, action))


def due(db: sqlite3.Connection, now: datetime, limit: int) -> list[tuple[FailedAction, AnyEvent | None]]:
    """Actions whose next try has come, the longest due first, each with its fact (None: not readable, or gone)."""
    rows = db.execute(
        f"SELECT {', '.join('f.' + name for name in FailedAction.__struct_fields__)}, e.payload"  # noqa: S608
        " FROM failed_actions AS f LEFT JOIN events AS e ON e.id = f.event"
        " WHERE f.next_try_at <= ? ORDER BY f.next_try_at, f.id LIMIT ?",
        (stamp(now), limit),
    ).fetchall()
    found: list[tuple[FailedAction, AnyEvent | None]] = []
    for *values, payload in rows:
        failed = FailedAction(**dict(zip(FailedAction.__struct_fields__, values, strict=True)))
        try:
            found.append((failed, None if payload is None else decode_event(payload)))
        except UndecodableEvent:
            found.append((failed, None))
    return found


def next_try(db: sqlite3.Connection) -> datetime | None:
    """When the next action is due."""
    (first,) = db.execute("SELECT min(next_try_at) FROM failed_actions").fetchone()
    return None if first is None else datetime.fromisoformat(first)


def give_up(db: sqlite3.Connection, event: str, action: str, reason: str) -> None:
    """No further attempt can help."""
    db.execute(
        "UPDATE failed_actions SET reason = ?, next_try_at = NULL WHERE event = ? AND action = ?",
        (reason, event, action),
    )


def hasten(db: sqlite3.Connection, action: str) -> None:
    """The action works again: what waits for its next try need not wait longer."""
    db.execute(
        "UPDATE failed_actions SET next_try_at = ?1 WHERE action = ?2 AND next_try_at > ?1",
        (stamp(datetime.now(UTC)), action),
    )


def replay(db: sqlite3.Connection, target: str) -> int:
    """Make one action (`FailedAction.target`), or `all`, due now with all its attempts; how many."""
    where, values = _where(target)
    query = f"UPDATE failed_actions SET attempts = 0, next_try_at = ? WHERE {where}"  # noqa: S608
    return db.execute(query, (stamp(datetime.now(UTC)), *values)).rowcount


def drop(db: sqlite3.Connection, target: str) -> int:
    """Give one action, or `all`, up for good; how many."""
    where, values = _where(target)
    return db.execute(f"DELETE FROM failed_actions WHERE {where}", values).rowcount  # noqa: S608


def _where(target: str) -> tuple[str, tuple[str, ...]]:
    if target == "all":
        return "TRUE", ()
    event, _, action = target.partition(":")
    return "event = ? AND action = ?", (event, action)


def failed_actions(path: Path) -> list[FailedAction]:
    """What is not done, oldest first; [] for a database that no dispatcher of this version has opened. Blocking.

    Raises `StoreDamaged` when there is no database.
    """
    with closing(open_reader(path)) as db:
        if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'failed_actions'").fetchone() is None:
            return []
        try:
            rows = db.execute(f"SELECT {_COLUMNS} FROM failed_actions ORDER BY id").fetchall()  # noqa: S608
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(f"{path} cannot be read ({error}): run `appliance rebuild --from stream`") from error
        return [msgspec.convert(dict(row), FailedAction) for row in rows]
