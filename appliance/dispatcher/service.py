"""The dispatcher: reads facts in order, projects them, and starts what follows from them.

The stream position lives in the database, in the same transaction as the rows; the position of the actions beside it.
After a kill at any point both go on where they stood. When the stream is another one than the database knows (its
folder was lost), everything stops, the facts are put back into it and the work that was due is queued again
(`appliance.dispatcher.recovery`), and everything starts anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import cast

from appliance import lifecycle
from appliance.control.alert_holds import AlertHolds
from appliance.control.keeper import Keeper
from appliance.dispatcher.actions import Actions, Handler, undeliverable
from appliance.dispatcher.autoscale import Autoscaler
from appliance.dispatcher.background import keep_running
from appliance.dispatcher.cache import CacheParts, NoCache
from appliance.dispatcher.engine import Engine
from appliance.dispatcher.figures import IDENT, TELEMETRY, TELL_ANYWAY_S, TELL_S, Figures, same
from appliance.dispatcher.recovery import reconcile
from appliance.dispatcher.said import SOURCE, Announcer
from appliance.dispatcher.schedule import CacheSchedule, CheckedCache
from appliance.dispatcher.settings import Dispatcher as Settings
from appliance.dispatcher.table import Action
from appliance.dispatcher.thresholds import QueueWatch
from appliance.dispatcher.workers import WorkerWatch
from appliance.lifecycle import Attempt
from appliance.services.readers import Position
from appliance.settings import Retry
from appliance.store.projection import StoredFact
from appliance.store.writer import Writer
from bus.commit import Expect
from bus.connection import Bus
from bus.deadletters import AdvisoryReader
from bus.errors import Gap, NewEpoch, Retryable, Stale
from bus.events import AnyEvent, Command, StageName
from bus.projection import FactReader
from bus.stored import Stored
from bus.streams import DEFAULTS
from bus.subjects import item_filter

log = logging.getLogger(__name__)
READ_WAIT_S = 5.0
RETRY_S = 1.0
ANSWER_S = 2.0
FINISH_S = 3.0


class Dispatcher:
    """One per box. `serve` runs until cancelled.

    `cache` None: nothing is kept. `announcer`: publishes what others hand to it. `minimum`: workers that each stage of
    this box should have. `keeper`: of the control ledger; None: for a stream with the usual limits.
    `background`: further services by name, kept running, whose failures stay their own. `retention`: carries out
    `retention_sweep`; None: nothing does.
    """

    def __init__(
        self,
        bus: Bus,
        store: Writer,
        data_dir: Path,
        settings: Settings,
        *,
        cache: CheckedCache | None = None,
        announcer: Announcer | None = None,
        minimum: dict[StageName, int] | None = None,
        bounds: Mapping[StageName, tuple[int, int]] | None = None,
        stall_s: Mapping[StageName, float] | None = None,
        close_intake: Collection[str] = (),
        keeper: Keeper | None = None,
        background: Mapping[str, Callable[[], Awaitable[None]]] | None = None,
        retention: Handler | None = None,
    ) -> None:
        self._bus = bus
        self._store = store
        self._data_dir = data_dir
        self._settings = settings
        self._cache = cache
        self._announcer = announcer or Announcer(bus)
        self._minimum = minimum or {}
        self._keeper = keeper or Keeper(
            bus, by=SOURCE, max_age_s=DEFAULTS.events_max_age_s, max_bytes=DEFAULTS.events_max_bytes
        )
        self._background = background or {}
        self._retention = retention or _ignore
        self._stall_s = stall_s or {}
        self._close_intake = close_intake
        self._bounds = bounds or {}
        self._figures = Figures()
        self._make_watches()

    def handlers(self) -> Mapping[Action, Handler]:
        """What carries out each action of the table."""
        return {
            **Actions(self._bus, self._store, self._data_dir).handlers,
            "check_workers": self._workers.check,
            "retention_sweep": self._retention,
            "autoscale": self._autoscaler.check,
            "hold_intake": AlertHolds(self._bus, self._close_intake).follow,
        }

    async def prepare(self) -> None:
        """Make stream and database agree. Call before anything else publishes."""
        await reconcile(self._bus, self._store)

    async def serve(self) -> None:
        while True:
            try:
                await self._serve()
            except* (Gap, NewEpoch):
                log.warning("the stream is not the one the database knows: reconciling")
            await self._reconcile_patiently()

    async def finish(self) -> None:
        """After `serve` was ended: write what the stream holds already, so that a box that is down has it all.

        Bounded by `FINISH_S`; what is left is written at the next start.
        """
        with contextlib.suppress(Retryable, TimeoutError):
            async with asyncio.timeout(FINISH_S):
                if (await self._bus.stream_state()).epoch != await self._store.meta("epoch"):
                    return
                after = await self._store.cursor()
                while batch := await self._bus.read(after, "evt.>", self._settings.batch_events):
                    await self._store.apply([StoredFact(raw.seq, raw.subject, raw.data) for raw in batch])
                    after = batch[-1].seq

    def _make_watches(self) -> None:
        """Anew for each stream: what they know is of the one that was."""
        self._workers = WorkerWatch(
            self._bus, self._store, self._settings, self._minimum, self._keeper.mode, self._stall_s
        )
        self._queues = QueueWatch(self._bus, self._settings, lambda depths: self._autoscaler.look(depths))
        self._autoscaler = Autoscaler(
            self._bus, self._settings, self._bounds, mode=self._keeper.mode, level=self._queues.level
        )

    async def _serve(self) -> None:
        self._make_watches()
        engine = Engine(self._store, self.handlers(), self._settings, self._bus_answers, self._figures)
        cache = CacheParts(self._cache or NoCache(), self._settings, self._figures)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._project(engine, cache))
            tasks.create_task(engine.serve())
            tasks.create_task(cache.serve())
            if self._cache is not None:
                tasks.create_task(CacheSchedule(self._bus, self._cache, self._settings).serve())
            tasks.create_task(self._announcer.serve())
            tasks.create_task(self._keeper.serve())
            tasks.create_task(self._workers.serve())
            tasks.create_task(self._queues.serve())
            tasks.create_task(self._read_advisories())
            for name, serve in self._background.items():
                tasks.create_task(keep_running(name, serve))
            tasks.create_task(self._tell(engine))

    async def _reconcile_patiently(self) -> None:
        while True:
            try:
                await reconcile(self._bus, self._store)
                return
            except Retryable as error:
                log.warning("the bus is away: reconciling waits", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _bus_answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._bus.stream_state()
        except (Retryable, TimeoutError):
            return False
        return True

    async def _project(self, engine: Engine, cache: CacheParts) -> None:
        while True:
            try:
                cursor, epoch = await self._store.cursor(), await self._store.meta("epoch")
                oldest = (await self._bus.stream_state()).first_seq
                if cursor < oldest - 1:  # a new database, or a box that slept longer than the stream remembers
                    if cursor > 0:
                        log.warning("messages left the stream unread", extra={"after": cursor, "before": oldest})
                    cursor = oldest - 1
                async with FactReader(self._bus, cursor, epoch=epoch) as reader:
                    while True:
                        batch = await reader.batch(self._settings.batch_events, wait_s=READ_WAIT_S)
                        if not batch:
                            continue
                        await self._write(batch, cursor, reader.epoch or "", engine, cache)
                        cursor = batch[-1].seq
            except Retryable as error:
                log.warning("the bus is away: projection waits", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _write(self, batch: list[Stored], after: int, epoch: str, engine: Engine, cache: CacheParts) -> None:
        """Rows and cursor first; only what is committed is told to anybody."""
        stored_s = self._figures.read(batch)
        applied = await self._store.apply([StoredFact(raw.seq, raw.subject, raw.data) for raw in batch])
        upto = batch[-1].seq
        self._figures.committed(upto, stored_s)
        cache.changed((event for _, event in applied), Position(epoch, upto), stored_s)
        moments = dict(zip((raw.seq for raw in batch), stored_s, strict=True))
        engine.applied(after, upto, cast("list[tuple[int, AnyEvent]]", applied), moments)

    async def _tell(self, engine: Engine) -> None:
        """Telemetry of our own: `tel.dispatcher.box`."""
        told, quiet_s = self._figures.sample(engine.breakers()), TELL_ANYWAY_S
        while True:
            sample = self._figures.sample(engine.breakers())
            if quiet_s >= TELL_ANYWAY_S or not same(sample, told):
                self._bus.telemetry(TELEMETRY, IDENT, sample)
                told, quiet_s = sample, 0.0
            await asyncio.sleep(TELL_S)
            quiet_s += TELL_S

    async def _read_advisories(self) -> None:
        """Commands that the server gave up on end their item, with a reason."""
        while True:
            try:
                async with AdvisoryReader(self._bus) as advisories:
                    while True:
                        advisory = await advisories.next(READ_WAIT_S)
                        if advisory is None:
                            continue
                        if advisory.kind == "max_deliveries" and advisory.command is not None:
                            await self._give_up(advisory.command, advisory.deliveries)
                        await advisories.done()
            except Retryable as error:
                log.warning("the bus is away: advisories wait", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _give_up(self, command: Command, deliveries: int) -> None:
        attempt = Attempt(
            stage=command.stage, job=command.job, clip=command.clip, attempt=command.attempt, worker=SOURCE
        )
        while True:
            item = await self._bus.last_fact(command.job, command.clip)
            job = item if command.clip is None else await self._bus.last_fact(command.job)
            verdict = lifecycle.decide(command, item.event if item else None, job.event if job else None)
            if item is None or isinstance(verdict, lifecycle.Skip):
                return
            messages = lifecycle.on_failed(attempt, undeliverable(deliveries), Retry())
            try:
                await self._bus.commit(messages, Expect(item_filter(command.job, command.clip), item.seq))
            except Stale:
                continue  # its last delivery has just been claimed, perhaps by a worker that is no more: look again
            return


async def _ignore(_event: AnyEvent) -> None:
    """For an action that this dispatcher has nobody for."""
