"""Facts into rows: applied in stream order, each fact exactly once (what each changes: `appliance.store.rules`).

`Projection.apply` takes a batch of facts and commits their rows together with the new cursor, so that a crash leaves
either both or neither. A fact at or below the cursor is ignored. Nothing here reads a clock: the same facts give the
same rows, byte for byte.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from appliance.sqlite import sqlite3
from appliance.store.figures import count
from appliance.store.rules import RULES
from appliance.store.schema import NEVER_REMOVED, PROJECTED, SCHEMA, statements
from bus.errors import UndecodableEvent
from bus.events import Event, decode_event

REQUEUE, YES, NO = "requeue", "yes", "no"
"""Key in `meta` and its values: whether the new stream still lacks commands."""
JOB_FACTS = "job:"
"""What the types of a job's own history begin with; facts about its files name the job too."""


READERS_AGAIN_S = 0.0002


@dataclass(frozen=True, slots=True)
class StoredFact:
    """A fact as the stream holds it."""

    seq: int
    subject: str
    data: bytes


class Projection:
    """The writer's side of the store. Not thread-safe: one thread owns it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.undecodable = 0
        """Facts of unknown type or form that were kept in the audit trail without being understood."""

    @property
    def cursor(self) -> int:
        """Sequence of the last fact applied; 0 at the start."""
        return int(self.meta("cursor") or 0)

    def meta(self, key: str) -> str | None:
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        self.connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
        )

    def apply(self, facts: Iterable[StoredFact], meta: Mapping[str, str] | None = None) -> list[tuple[int, Event]]:
        """Project a batch in one transaction, and set `meta` in it; returns the facts that were new, decoded."""
        applied: list[tuple[int, Event]] = []
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            cursor = self.cursor
            for fact in facts:
                if fact.seq <= cursor:
                    continue
                cursor = fact.seq
                event = self._record(fact)
                if event is not None:
                    self._project(fact.seq, event)
                    applied.append((fact.seq, event))
            self.set_meta("cursor", str(cursor))
            for key, value in (meta or {}).items():
                self.set_meta(key, value)
            self._commit()
        except BaseException:
            self.rollback()
            raise
        return applied

    def replay(self) -> int:
        """Rebuild every projected table from `events` in one transaction; returns the number of facts."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            replayed = self._replay()
            self.connection.execute("COMMIT")
        except BaseException:
            self.rollback()
            raise
        return replayed

    def upgrade(self, version: int) -> None:
        """Make the projected tables anew in the present form, from `events`, and note the schema's version."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for table in PROJECTED:
                self.connection.execute(f"DROP TABLE IF EXISTS {table}")
            for statement in statements(SCHEMA):
                self.connection.execute(statement)
            self._replay()
            self.connection.execute(f"PRAGMA user_version={version}")
            self.connection.execute("COMMIT")
        except BaseException:
            self.rollback()
            raise

    def _replay(self) -> int:
        for table in PROJECTED:
            self.connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from our own schema
        replayed = 0
        for seq, payload in self.connection.execute("SELECT seq, payload FROM events ORDER BY seq"):
            replayed += 1
            try:
                event = decode_event(payload)
            except UndecodableEvent:
                continue
            self._project(seq, event)
        return replayed

    def renumber_begin(self) -> None:
        """Start to replace `events` by the same facts under a new stream's sequences. Ends with `renumber_end`.

        One transaction from here to there: a kill in between leaves the old facts.
        """
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute("DROP TRIGGER events_are_never_removed")
        self.connection.execute("DELETE FROM events")
        self.connection.execute(NEVER_REMOVED)

    def renumber_add(self, facts: Iterable[StoredFact]) -> None:
        for fact in facts:
            self._record(fact)
            self.set_meta("cursor", str(fact.seq))

    def renumber_end(self, epoch: str) -> None:
        """Project the renumbered facts and commit. Actions run again from the start: they are idempotent.

        Until `REQUEUE` is taken back, the commands that the facts call for are still to be queued.
        """
        self._replay()
        self.set_meta("epoch", epoch)
        self.set_meta("actions_cursor", "0")
        self.set_meta(REQUEUE, YES)
        self.connection.execute("COMMIT")

    def _commit(self) -> None:
        """COMMIT, as soon as those who read at the moment let it.

        SQLite's own wait for readers sleeps 1, 2, 5, 10 … ms; a reader's query is over sooner. New ones wait for us.
        """
        (patience_ms,) = self.connection.execute("PRAGMA busy_timeout").fetchone()
        deadline = time.monotonic() + patience_ms / 1000
        self.connection.execute("PRAGMA busy_timeout=0")
        try:
            while True:
                try:
                    self.connection.execute("COMMIT")
                    return
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                        raise
                time.sleep(READERS_AGAIN_S)
        finally:
            self.connection.execute(f"PRAGMA busy_timeout={patience_ms}")

    def rollback(self) -> None:
        """Undo the open transaction, if there is one: on a full disk SQLite may have undone it itself."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def _record(self, fact: StoredFact) -> Event | None:
        event: Event | None
        try:
            event = decode_event(fact.data)
            row = (fact.seq, event.id, str(event.__struct_config__.tag), event.ts.isoformat(), event.job, event.clip)
        except UndecodableEvent:
            # Kept whole, so that a later version can replay what this one cannot read.
            self.undecodable += 1
            event, row = None, (fact.seq, f"seq-{fact.seq}", "unknown", "", None, None)
        self.connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
            (*row, fact.subject, fact.data),
        )
        if self.connection.execute("SELECT changes()").fetchone()[0] == 0:
            return None
        return event

    def _project(self, seq: int, event: Event) -> None:
        kind = str(event.__struct_config__.tag)
        if event.job is not None and event.clip is None and kind.startswith(JOB_FACTS):  # not what is said about it
            self.connection.execute("UPDATE jobs SET last_seq = ? WHERE job = ?", (seq, event.job))
        if event.clip is not None:
            self.connection.execute(
                "UPDATE clips SET last_seq = ? WHERE job = ? AND clip = ?", (seq, event.job, event.clip)
            )
        count(self.connection, event)
        rule = RULES.get(type(event))
        if rule is not None:
            rule(self.connection, seq, event)
