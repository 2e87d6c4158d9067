"""The data manager: all sections fetched in parallel, each with the stream position that it includes.

A section of the database is one query function on one reader thread, in one transaction, encoded there. A section of
the bus (queues, workers, hardware) has the position that the database had before the bus was asked: what the bus says
is at least as new. One that cannot be had in time comes back as the error that says why; the others do not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from appliance.config import Config
from appliance.errors import SourceUnavailable
from appliance.services import dashboard, workers
from appliance.services.alerts import alerts
from appliance.services.analytics import analytics
from appliance.services.clips import clips
from appliance.services.controls import holds
from appliance.services.flow import event_flow
from appliance.services.hardware import hardware
from appliance.services.jobs import jobs
from appliance.services.queue import Queue, queue, stage_rates
from appliance.services.readers import NOWHERE, Position, Readers, position
from appliance.services.supervised import services
from appliance.services.workers import Workers
from appliance.sqlite import sqlite3
from bus.connection import Bus
from bus.errors import BusError
from bus.events import STAGES
from bus.registry import Registry

T = TypeVar("T")

STORED: dict[str, Callable[[sqlite3.Connection, datetime], Struct]] = {
    "jobs": jobs,
    "clips": clips,
    "analytics": analytics,
    "alerts": alerts,
    "services": services,
    "events": event_flow,
}
"""Sections that are a pure function of the rows and the time."""
SECTIONS: tuple[str, ...] = (
    "dashboard",
    "agents_workers",
    "queue",
    "jobs",
    "clips",
    "analytics",
    "hardware",
    "alerts",
    "services",
    "events",
)
"""Every section that the manager can fetch, in the order of the document."""

_encoder = msgspec.json.Encoder()


class Fetched(Struct, frozen=True, kw_only=True):
    """A section as JSON, and which facts it includes."""

    position: Position
    body: bytes
    made_at: datetime


class DataManager:
    """Reads from the store and, when there is one, the bus. Safe to use from many tasks at once."""

    def __init__(self, config: Config, readers: Readers, bus: Bus | None) -> None:
        self._readers = readers
        self._bus = bus
        self._timeout_s = config.cache.query_timeout_s
        stages = {name: getattr(config.workers, name) for name in config.workers.__struct_fields__}
        self._wanted = {name: stage.min for name, stage in stages.items()}
        self._most: dict[str, int] = {stage: config.workers.bounds(stage)[1] for stage in STAGES}
        self._stall_s = {name: stage.stall_timeout_s for name, stage in stages.items()}
        self._position = NOWHERE

    async def position(self) -> Position:
        """The stream position that the rows include now. Raises `SourceUnavailable`."""
        self._position = max(self._position, await self._readers.position())
        return self._position

    async def fetch(
        self, names: Collection[str], now: datetime | None = None
    ) -> dict[str, Fetched | SourceUnavailable]:
        """The sections, each fetched or the reason why it could not be. `now` is what they take for the present.

        Takes `cache.query_timeout_s` at most for the database and as much for the bus. Raises KeyError for a name
        that is none.
        """
        if unknown := set(names) - set(SECTIONS):
            raise KeyError(f"no section {min(unknown)!r}: there are {', '.join(SECTIONS)}")
        moment = now or datetime.now(UTC)
        try:
            await self.position()
        except SourceUnavailable as error:
            # The database gets its time once, not again for each section. For the bus's sections the last position
            # known is older, hence still true.
            without_store = {name: error for name in names if name in STORED or name == "dashboard"}
            return without_store | await self._fetch_all(set(names) - set(without_store), moment)
        return await self._fetch_all(names, moment)

    async def _fetch_all(self, names: Collection[str], moment: datetime) -> dict[str, Fetched | SourceUnavailable]:
        async with asyncio.TaskGroup() as tasks:
            shared = _Shared(self, moment, tasks)
            running = {name: tasks.create_task(_outcome(self._fetch(name, moment, shared))) for name in names}
        return {name: task.result() for name, task in running.items()}

    async def queue(self, now: datetime) -> Queue:
        """Raises `SourceUnavailable`."""
        bus = self._bus_or_raise()
        (rates, standing), depths = await asyncio.gather(
            self._readers.run(lambda db: (stage_rates(db, now), holds(db, now))), self._ask(bus.queue_depths())
        )
        return queue(depths, rates, standing)

    async def workers(self, now: datetime) -> Workers:
        """Raises `SourceUnavailable`."""
        bus = self._bus_or_raise()
        (offline, standing), states = await asyncio.gather(
            self._readers.run(lambda db: (workers.gone(db), holds(db, now))), self._ask(Registry(bus).all())
        )
        drained = {row.target for row in standing if row.mode == "drain"}
        wanted = {stage: 0 if stage in drained else least for stage, least in self._wanted.items()}
        return workers.workers(states, offline, now, wanted=wanted, most=self._most, stall_s=self._stall_s)

    async def _fetch(self, name: str, now: datetime, shared: _Shared) -> Fetched:
        if (query := STORED.get(name)) is not None:
            where, body = await self._readers.run(lambda db: (position(db), _encoder.encode(query(db, now))))
            return Fetched(position=where, body=body, made_at=now)
        where = self._position
        content: Struct | None
        match name:
            case "queue":
                content = await shared.queue
            case "agents_workers":
                content = await shared.workers
            case "hardware":
                content = await self._ask(hardware(self._bus_or_raise(), now))
            case _:  # the dashboard
                where, stored = await self._readers.run(lambda db: (position(db), dashboard.stored_part(db, now)))
                where = min(where, self._position)
                content = dashboard.dashboard(stored, await _or_none(shared.queue), await _or_none(shared.workers))
        return Fetched(position=where, body=_encoder.encode(content), made_at=now)

    def _bus_or_raise(self) -> Bus:
        if self._bus is None:
            raise SourceUnavailable("there is no connection to the event bus")
        return self._bus

    async def _ask(self, question: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await question
        except TimeoutError as error:
            raise SourceUnavailable(f"the event bus did not answer within {self._timeout_s:g} s") from error
        except BusError as error:
            raise SourceUnavailable(f"the event bus does not answer: {error}") from error


class _Shared:
    """What several sections of one fetch are made from is asked for once."""

    def __init__(self, manager: DataManager, now: datetime, tasks: asyncio.TaskGroup) -> None:
        self._manager = manager
        self._now = now
        self._tasks = tasks
        self._running: dict[str, asyncio.Task[Any]] = {}

    @property
    def queue(self) -> Awaitable[Queue]:
        return self._once("queue", self._manager.queue)

    @property
    def workers(self) -> Awaitable[Workers]:
        return self._once("workers", self._manager.workers)

    def _once(self, name: str, ask: Callable[[datetime], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        if name not in self._running:
            self._running[name] = self._tasks.create_task(_outcome(ask(self._now)))
        return _raised(self._running[name])


async def _outcome(work: Awaitable[T]) -> T | SourceUnavailable:
    try:
        return await work
    except SourceUnavailable as error:
        return error


async def _raised(outcome: Awaitable[T | SourceUnavailable]) -> T:
    found = await outcome
    if isinstance(found, SourceUnavailable):
        raise found
    return found


async def _or_none(work: Awaitable[T]) -> T | None:
    try:
        return await work
    except SourceUnavailable:
        return None
