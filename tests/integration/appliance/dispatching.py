"""A dispatcher in the test's own process, with a cache and handlers that tell what was asked of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.dispatcher.actions import Handler
from appliance.dispatcher.service import Dispatcher
from appliance.dispatcher.settings import Dispatcher as Settings
from appliance.dispatcher.table import Action, Section
from appliance.services.readers import Position
from appliance.store.failures import FailedAction, failed_actions
from appliance.store.queries import Store
from appliance.store.writer import Writer
from bus.events import AnyEvent, StageName
from tests.integration.conftest import NatsBox

QUICK = Settings(
    batch_events=64,
    warm_interval_s=0.05,
    retry_backoff_s=0.05,
    retry_backoff_max_s=0.2,
    recovery_timeout_s=0.3,
    event_timeout_s=1.0,
    cache_warm_s=60.0,
    queue_check_s=0.2,
)


@dataclass(frozen=True)
class Compared:
    differing: tuple[str, ...]


class RecordingCache:
    """Keeps what it was asked for since `forget`; fails while `broken`."""

    def __init__(self) -> None:
        self.invalidated: set[Section] = set()
        self.warmed: set[Section] = set()
        self.broken = False
        self.differing: tuple[str, ...] = ()
        self.changed = asyncio.Event()

    async def validate(self) -> Compared:
        self._check()
        return Compared(self.differing)

    def forget(self) -> None:
        self.invalidated, self.warmed = set(), set()

    async def invalidate(self, keys: Collection[Section], position: Position | None = None) -> None:
        self._check()
        self.invalidated.update(keys)
        self.changed.set()

    async def warm(self, keys: Collection[Section]) -> None:
        self._check()
        self.warmed.update(keys)
        self.changed.set()

    def _check(self) -> None:
        if self.broken:
            raise ConnectionError("the cache is away")


class Recorded(Dispatcher):
    """A dispatcher whose handlers are watched, and replaced by `faults` where given."""

    ran: list[tuple[str, str]]
    faults: dict[Action, Handler]
    progress: asyncio.Event

    def handlers(self) -> Mapping[Action, Handler]:
        real = super().handlers()
        return {action: self._watched(action, real[action]) for action in real}

    def _watched(self, action: Action, real: Handler) -> Handler:
        async def run(event: AnyEvent) -> object:
            result = await self.faults.get(action, real)(event)
            self.ran.append((event.id, action))
            self.progress.set()
            return result

        return run


@asynccontextmanager
async def dispatcher(
    nats: NatsBox,
    settings: Settings = QUICK,
    *,
    cache: RecordingCache | None = None,
    faults: Mapping[Action, Handler] | None = None,
    minimum: dict[StageName, int] | None = None,
    stall_s: dict[StageName, float] | None = None,
) -> AsyncIterator[Recorded]:
    """Runs until the end of the block. An error in it is the test's."""
    store = await Writer.open(database(nats))
    bus = await nats.bus("dispatcher")
    running = Recorded(bus, store, nats.data_dir, settings, cache=cache, minimum=minimum, stall_s=stall_s)
    running.ran, running.faults, running.progress = [], dict(faults or {}), asyncio.Event()
    await running.prepare()
    task = asyncio.create_task(running.serve())
    try:
        yield running
        assert not task.done(), "the dispatcher ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


def database(nats: NatsBox) -> Path:
    return nats.data_dir / "appliance.db"


async def failures(nats: NatsBox) -> list[FailedAction]:
    return await asyncio.to_thread(failed_actions, database(nats))


async def stored(nats: NatsBox) -> tuple[int, int]:
    """The two cursors: of the rows, of the actions."""

    def read() -> tuple[int, int]:
        with Store(database(nats)) as store:
            (row,) = store._db.execute("SELECT coalesce(max(value), 0) FROM meta WHERE key = 'actions_cursor'")
            return store.cursor(), int(row[0])

    return await asyncio.to_thread(read)


async def until(true: Callable[[], bool], wait_s: float = 10.0) -> None:
    """Wait for what only a look can tell."""
    async with asyncio.timeout(wait_s):
        while not true():
            await asyncio.sleep(0.005)
