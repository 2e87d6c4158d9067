"""The dispatcher's store: the projection on a thread of its own, so that the event loop never waits for the disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from appliance.sqlite import sqlite3
from appliance.store import failures
from appliance.store.database import open_reader, open_writer
from appliance.store.projection import Projection, StoredFact
from bus.errors import UndecodableEvent
from bus.events import AnyEvent, Event, StageName, decode_event

log = logging.getLogger(__name__)
T = TypeVar("T")
FULL_AGAIN_S = 1.0
NO_ROOM = (sqlite3.SQLITE_FULL, 4874)
"""4874: `SQLITE_IOERR_SHMSIZE`, the index of the write-ahead log cannot grow."""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """What it takes to tell whether a job is finished."""

    state: str
    clips_planned: int
    clips_ready: int
    clips_failed: int
    created_at: datetime
    last_seq: int
    failed_stage: StageName | None
    """Stage and error of the clip that failed last."""
    failed_error: str | None


class Writer:
    """The one writer of `appliance.db`. Every method runs on the store's own thread, in the order of the calls.

    But `job_summary`, which reads what is committed on a thread and a connection beside it: who asks while a batch is
    being written need not wait for that.

    On a full disk a call waits until there is room: what was refused changed nothing, and the same connection goes on.
    But `close` does not wait for that.
    """

    def __init__(self, path: Path, projection: Projection, thread: ThreadPoolExecutor) -> None:
        self._path = path
        self._projection = projection
        self._thread = thread
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._reader: sqlite3.Connection | None = None
        self._noted: dict[str, str] = {}

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or create the database. Raises `StoreDamaged`."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        try:
            connection = await asyncio.get_running_loop().run_in_executor(thread, _open, path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        return cls(path, Projection(connection), thread)

    async def close(self) -> None:
        """End it, also on a full disk: what was noted and does not fit then is found out anew from the stream."""
        try:
            while self._noted:
                key, value = self._noted.popitem()
                await self._once(partial(self._projection.set_meta, key, value))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in NO_ROOM:
                raise
            log.warning("the disk is full: the next start does again what it finds no note of")
        finally:
            await self._once(self._projection.connection.close)
            await asyncio.to_thread(self._thread.shutdown)
            await asyncio.to_thread(self._reading.shutdown)
            if self._reader is not None:
                self._reader.close()

    async def apply(self, facts: Sequence[StoredFact]) -> list[tuple[int, Event]]:
        """Project a batch, and keep what was noted, in one transaction; see `Projection.apply`."""
        noted, self._noted = self._noted, {}
        try:
            return await self._call(lambda: self._projection.apply(facts, noted))
        except BaseException:
            self._noted = noted | self._noted
            raise

    async def cursor(self) -> int:
        return await self._call(lambda: self._projection.cursor)

    async def meta(self, key: str) -> str | None:
        return await self._call(lambda: self._projection.meta(key))

    async def set_meta(self, key: str, value: str) -> None:
        await self._call(lambda: self._projection.set_meta(key, value))

    def note_meta(self, key: str, value: str) -> None:
        """Set it with the next batch's transaction: that costs no flush of its own. A kill before it forgets it."""
        self._noted[key] = value

    async def keep_noted(self) -> None:
        """Set what was noted and no batch has taken along."""
        while self._noted:
            key, value = self._noted.popitem()
            await self.set_meta(key, value)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` with the connection, outside of any transaction. It changes no projected table and no fact."""
        return await self._call(lambda: work(self._projection.connection))

    async def job_summary(self, job: str) -> JobSummary | None:
        return await self._read(lambda db: _job_summary(db, job))

    async def facts_after(self, seq: int, types: Sequence[str], limit: int) -> list[tuple[int, AnyEvent]]:
        """Stored facts of the given types after `seq`, in order, at most `limit`."""
        return await self._call(lambda: self._facts_after(seq, types, limit))

    async def facts_due(self, seq: int, types: Sequence[str], limit: int) -> tuple[list[tuple[int, AnyEvent]], int]:
        """`facts_after`, and up to which sequence that answer speaks for everything stored."""

        def read() -> tuple[list[tuple[int, AnyEvent]], int]:
            found = self._facts_after(seq, types, limit)
            return found, found[-1][0] if len(found) == limit else max(seq, self._projection.cursor)

        return await self._call(read)

    async def facts(self, after: int, limit: int) -> list[StoredFact]:
        """Stored facts after `after` as the stream held them, in order, at most `limit`."""
        return await self._call(
            lambda: [
                StoredFact(*row)
                for row in self._projection.connection.execute(
                    "SELECT seq, subject, payload FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
                )
            ]
        )

    async def renumber_begin(self) -> None:
        self._noted.clear()
        await self._once(self._projection.renumber_begin)

    async def renumber_add(self, facts: Sequence[StoredFact]) -> None:
        await self._once(lambda: self._projection.renumber_add(facts))

    async def renumber_end(self, epoch: str) -> None:
        await self._once(lambda: self._projection.renumber_end(epoch))

    async def rollback(self) -> None:
        await self._once(self._projection.rollback)

    async def live_items(self) -> list[tuple[str, int | None, AnyEvent]]:
        """Each open job and each unfinished clip of one, with the item's last fact."""
        return await self._call(self._live_items)

    async def _call(self, work: Callable[[], T]) -> T:
        while True:
            try:
                return await self._once(work)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode not in NO_ROOM:
                    raise
                log.warning("the disk is full: the database waits for room")
                await asyncio.sleep(FULL_AGAIN_S)

    async def _once(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """`query` of what is committed, beside the writing."""

        def read() -> T:
            if self._reader is None:
                self._reader = open_reader(self._path, check_same_thread=False)
            return query(self._reader)

        return await asyncio.get_running_loop().run_in_executor(self._reading, read)

    def _facts_after(self, seq: int, types: Sequence[str], limit: int) -> list[tuple[int, AnyEvent]]:
        marks = ", ".join("?" * len(types))
        rows = self._projection.connection.execute(
            # +type: a reader near the end walks the few facts behind it, not its types' whole history
            f"SELECT seq, payload FROM events WHERE seq > ? AND +type IN ({marks}) ORDER BY seq LIMIT ?",  # noqa: S608
            (seq, *types, limit),
        ).fetchall()
        return [(row[0], decode_event(row[1])) for row in rows]

    def _live_items(self) -> list[tuple[str, int | None, AnyEvent]]:
        db = self._projection.connection
        items: list[tuple[str, int | None]] = [
            *db.execute("SELECT job, NULL FROM jobs WHERE state IN ('queued', 'running') ORDER BY job"),
            *db.execute(
                "SELECT job, clip FROM clips WHERE state IN ('planned', 'running')"
                " AND job IN (SELECT job FROM jobs WHERE state = 'clipping') ORDER BY job, clip"
            ),
        ]
        found = []
        for job, clip in items:
            row = db.execute(
                "SELECT payload FROM events WHERE job = ? AND clip IS ? AND (+type LIKE 'job:%' OR +type LIKE 'clip:%')"
                " ORDER BY seq DESC LIMIT 1",
                (job, clip),
            ).fetchone()
            try:
                found.append((job, clip, decode_event(row[0])))
            except UndecodableEvent:
                continue
        return found


def _job_summary(db: sqlite3.Connection, job: str) -> JobSummary | None:
    row = db.execute(
        "SELECT state, coalesce(clips_planned, 0), clips_ready, clips_failed, created_at, last_seq"
        " FROM jobs WHERE job = ?",
        (job,),
    ).fetchone()
    if row is None:
        return None
    failed = db.execute(
        "SELECT stage, error FROM clips WHERE job = ? AND state = 'failed' ORDER BY last_seq DESC LIMIT 1", (job,)
    ).fetchone()
    stage, error = failed or (None, None)
    return JobSummary(row[0], row[1], row[2], row[3], datetime.fromisoformat(row[4]), row[5], stage, error)


def _open(path: Path) -> sqlite3.Connection:
    connection = open_writer(path)
    failures.prepare(connection)
    return connection
