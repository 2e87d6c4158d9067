"""Whether the disk has room for one more job.

A job is admitted when its forecast, together with what the open jobs will still need, leaves the reserve free. What an
open job will still need is its own forecast less what its folders hold already. Looking at that blocks on the disk;
`admit` and `room_for` do it in a thread. While plenty is free nobody waits for a look: what the last one saw is enough,
and `keep_looking` repeats it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from appliance.config import Config
from appliance.errors import NoRoom, SourceUnavailable, StoreDamaged
from appliance.sqlite import sqlite3
from appliance.storage.forecast import Forecast, Ratios, forecast, learn, options_of
from appliance.storage.measured import is_prepared, weigh
from appliance.storage.volume import marks, measure, size_text
from appliance.store.kept import KeptReader
from appliance.uploads import source_path
from bus.events import JobOptions, JobSource

log = logging.getLogger(__name__)
OPEN = (
    "SELECT job, kind, location, fingerprint, options, size_bytes FROM jobs"
    " WHERE state IN ('queued', 'running', 'clipping')"
)


class Room(Struct, frozen=True, kw_only=True):
    """The answer for one job, with the figures that it rests on."""

    fits: bool
    reason: str
    """For people: what fits or why it does not, and what to do."""
    forecast: Forecast
    free_bytes: int
    promised_bytes: int
    """What the open jobs will still need."""
    reserve_bytes: int


class Promised(Struct, frozen=True):
    """What open jobs will still need."""

    jobs: int
    bytes: int


YOUNG_S = 60.0
"""Longest time in which a job that was let in may not be in the database yet (usual are milliseconds)."""
RATIOS_S = 30.0
"""How long what was learned from completed jobs is used: after years of history learning takes milliseconds."""
LOOK_EVERY_S = 10.0
SEEN_S = 30.0
"""How long a job may be let in by what was seen then."""
PLENTY_SHARE = 0.5
"""Of the free bytes, what all open jobs, this one and the reserve may take for that."""


class Seen(Struct, frozen=True, kw_only=True):
    """What a look at the box found."""

    at: float
    """Monotonic seconds, when it began."""
    free_bytes: int
    reserve_bytes: int
    ratios: Ratios
    known: Promised
    """Of open jobs that the database knows."""
    late: Promised
    """Of jobs just let in that it did not know yet."""
    arrived: frozenset[str]
    """Jobs just let in that it did know."""

    @property
    def promised(self) -> Promised:
        return Promised(self.known.jobs + self.late.jobs, self.known.bytes + self.late.bytes)


class Admission:
    """Of one box. Whoever lets jobs in keeps one: it knows what it has just let in before the database does."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._data_dir = config.data_dir
        self._database = KeptReader(config.data_dir / "appliance.db")
        self._turn = asyncio.Lock()
        self._young: dict[str, tuple[float, int]] = {}
        """Jobs just let in: when, and their forecast. Threads read it: it is replaced, never changed."""
        self._seen: Seen | None = None
        self._learned: tuple[float, Ratios] | None = None

    def close(self) -> None:
        """Let go of the database. Blocking."""
        self._database.close()

    @asynccontextmanager
    async def claimed(self, job: str, source: JobSource, options: JobOptions) -> AsyncIterator[Room]:
        """Inside the block the job is stored, and nobody else is given the same room. Raises as `admit`."""
        async with self._turn:
            room = await self.admit(source, options)
            yield room
            now = time.monotonic()
            arrived = self._seen.arrived if self._seen is not None else frozenset()
            young = {
                one: let_in for one, let_in in self._young.items() if now - let_in[0] < YOUNG_S and one not in arrived
            }
            young[job] = (now, room.forecast.total_bytes)
            self._young = young

    async def keep_looking(self) -> None:
        """Until cancelled: see how things stand, so that `admit` need not."""
        while True:
            try:
                await asyncio.to_thread(self._look)
            except (SourceUnavailable, OSError) as error:
                log.info("cannot look at the room for jobs; tried again", extra={"error": str(error)})
            await asyncio.sleep(LOOK_EVERY_S)

    async def admit(self, source: JobSource, options: JobOptions) -> Room:
        """Raises `NoRoom`, naming the bytes, when the job does not fit, `SourceUnavailable`.

        Does not wait when there was plenty of room a moment ago and the size of the source is not on the disk.
        """

        def look() -> Room:
            return self.look(size_of(source, self._data_dir), options, stored=source.kind == "upload")

        room = self._plenty(options) if source.kind == "url" else None
        if room is None:
            room = await asyncio.to_thread(look)
        if not room.fits:
            raise NoRoom(room.reason)
        return room

    async def room_for(self, size_bytes: int | None, options: JobOptions | None = None) -> Room:
        """Whether a job with a source of this size fits; None: nobody knows the size yet."""
        return await asyncio.to_thread(self.look, size_bytes, options or JobOptions())

    def look(self, size_bytes: int | None, options: JobOptions, *, stored: bool = False) -> Room:
        """`room_for` for a thread. `stored`: the source is on the volume already, and the job only links to it."""
        seen = self._look()
        promised = seen.promised
        need = forecast(size_bytes, options, self._config.stages, seen.ratios, stored=stored)
        fits = seen.free_bytes - promised.bytes - need.total_bytes >= seen.reserve_bytes
        return _room(seen, promised, need, fits=fits, reason=_reason(fits, need, seen, promised))

    def known(self) -> tuple[Ratios, Promised]:
        """The ratios of this box, and what its open jobs will still need. Blocking.

        Raises `SourceUnavailable` when the database does not answer.
        """
        seen = self._look()
        return seen.ratios, seen.promised

    def _plenty(self, options: JobOptions) -> Room | None:
        """The room for a source of unknown size by what was last seen; None when that is old or not plenty."""
        seen = self._seen
        if seen is None or time.monotonic() - seen.at > SEEN_S:
            return None
        let_in = [size for job, (_, size) in self._young.items() if job not in seen.arrived]
        promised = Promised(seen.known.jobs + len(let_in), seen.known.bytes + sum(let_in))
        need = forecast(None, options, self._config.stages, seen.ratios)
        if promised.bytes + need.total_bytes + seen.reserve_bytes > seen.free_bytes * PLENTY_SHARE:
            return None
        return _room(seen, promised, need, fits=True, reason="plenty of room")

    def _look(self) -> Seen:
        """Blocking. Raises OSError, `SourceUnavailable`."""
        now = time.monotonic()
        volume = measure(self._data_dir)
        young = {job: size for job, (since, size) in self._young.items() if now - since < YOUNG_S}
        ratios, rows, arrived = self._read(list(young))
        late = [size for job, size in young.items() if job not in arrived]
        seen = Seen(
            at=now,
            free_bytes=volume.free_bytes,
            reserve_bytes=marks(self._config.admission, self._config.retention, volume.total_bytes).reserve_bytes,
            ratios=ratios,
            known=Promised(len(rows), sum(self._still_needed(row, ratios) for row in rows)),
            late=Promised(len(late), sum(late)),
            arrived=frozenset(arrived),
        )
        if self._seen is None or self._seen.at <= now:
            self._seen = seen
        return seen

    def _read(self, young: list[str]) -> tuple[Ratios, list[sqlite3.Row], set[str]]:
        """Ratios, open jobs, and which of the young ones the database knows; of no database, nothing."""
        places = ", ".join("?" * len(young))
        try:
            with self._database.opened() as db:
                if (ratios := self._ratios(db)) is None:
                    return Ratios(jobs=0), [], set()
                arrived = db.execute(f"SELECT job FROM jobs WHERE job IN ({places})", young)  # noqa: S608
                return ratios, db.execute(OPEN).fetchall(), {row[0] for row in arrived}
        except StoreDamaged:
            return Ratios(jobs=0), [], set()
        except sqlite3.Error as error:
            raise no_answer("what open jobs need", error) from error

    def _ratios(self, db: sqlite3.Connection) -> Ratios | None:
        """None of a database that the box has not written yet."""
        now = time.monotonic()
        if self._learned is None or now - self._learned[0] > RATIOS_S:
            if not is_prepared(db):
                return None
            self._learned = now, learn(db)
        return self._learned[1]

    def _still_needed(self, row: sqlite3.Row, ratios: Ratios) -> int:
        stored = row["kind"] == "upload"
        source = JobSource(kind=row["kind"], location=row["location"], name="", fingerprint=row["fingerprint"])
        size = row["size_bytes"] or size_of(source, self._data_dir)
        need = forecast(size, options_of(row["options"]), self._config.stages, ratios, stored=stored)
        have = weigh(self._data_dir, row["job"])
        return max(0, need.total_bytes - have.total_bytes + (have.source_bytes if stored else 0))


def no_answer(what: str, error: sqlite3.Error) -> SourceUnavailable:
    """The error for what the database was asked and did not tell."""
    return SourceUnavailable(f"the database did not answer, so {what} is unknown: {error}")


def size_of(source: JobSource, data_dir: Path) -> int | None:
    """Bytes of a source; None when only fetching it will tell. Blocking."""
    path = source_path(data_dir, source)
    return None if path is None else file_bytes(path)


def file_bytes(path: Path) -> int | None:
    """Its size; None for what is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _room(seen: Seen, promised: Promised, need: Forecast, *, fits: bool, reason: str) -> Room:
    return Room(
        fits=fits,
        reason=reason,
        forecast=need,
        free_bytes=seen.free_bytes,
        promised_bytes=promised.bytes,
        reserve_bytes=seen.reserve_bytes,
    )


def _reason(fits: bool, need: Forecast, seen: Seen, promised: Promised) -> str:
    have = f"{size_text(seen.free_bytes)} are free"
    if promised.jobs:
        have += f", of which {promised.jobs} open jobs will need about {size_text(promised.bytes)}"
    if fits:
        return f"needs about {need}; {have}"
    have += f", and {size_text(seen.reserve_bytes)} stay in reserve"
    return (
        f"the disk has no room for this job: it needs about {need}; {have}. "
        "Delete jobs (`appliance storage` says what takes how much), or wait until open ones are done"
    )
