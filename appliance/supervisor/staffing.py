"""How many workers each stage is to have, and who of them must be replaced, as the log says it.

The dispatcher decides (`worker:scaled`, `worker:offline`), people hold (`control:changed`); the supervisor only follows
the last word of each, so it does the same after its own restart. What it missed in an outage it reads after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from appliance.control.frozen import FROZEN
from appliance.control.ledger import Ledger
from appliance.supervisor.pool import Pool
from bus.connection import Bus
from bus.errors import Retryable, UndecodableEvent
from bus.events import StageName, WorkerOffline, WorkerScaled
from bus.feed import Feed, LiveEvent
from bus.stored import Stored

log = logging.getLogger(__name__)
AGAIN_S = 1.0
SILENT_S = 12.0
"""A child that is said to have vanished is ended when it has given no sign of life for so long: two of them, and some.
One that does (the bus hiccuped, the machine slept) goes on."""
Bounds = tuple[int, int]
"""Fewest and most workers of a stage."""


class Staffing:
    """Over the pools of one box. `serve` runs until cancelled."""

    def __init__(self, bus: Bus, pools: Mapping[StageName, Pool], bounds: Mapping[StageName, Bounds]) -> None:
        self._bus = bus
        self._pools = pools
        self._bounds = bounds
        self._wake = asyncio.Event()

    async def wanted(self, ledger: Ledger) -> dict[StageName, int]:
        """Workers by stage, now. Raises `bus.errors.Retryable`."""
        scaled: dict[StageName, int] = {}
        for stored in await self._bus.last_facts("evt.worker.scaled.*"):
            try:
                event = stored.event
            except UndecodableEvent:
                continue
            if isinstance(event, WorkerScaled):
                scaled[event.stage] = event.after
        found = {}
        for stage, (least, most) in self._bounds.items():
            count = min(max(scaled.get(stage, least), least), most)
            found[stage] = 0 if ledger.mode(stage) == "drain" else count
        return found

    async def start(self) -> None:
        """Bring the pools to what is wanted now, and wait. Raises `ProcessFailed`, `bus.errors.Retryable`."""
        async with Ledger(self._bus) as ledger:
            wanted = await self.wanted(ledger)
        await asyncio.gather(*(self._pools[stage].start(count) for stage, count in wanted.items()))

    async def serve(self) -> None:
        forget = self._bus.on_reconnect(self._wake.set)
        try:
            while True:
                try:
                    await self._follow()
                except* Retryable as away:
                    log.warning("the bus is away: the staff stays as it is", extra={"error": str(away.exceptions[0])})
                except* Exception:
                    log.exception("the staff could not be brought to what is wanted")
                await asyncio.sleep(AGAIN_S)
        finally:
            forget()

    async def _follow(self) -> None:
        async with (
            Ledger(self._bus) as ledger,
            self._bus.live("evt.worker.scaled.*") as scaled,
            self._bus.live("evt.worker.offline.*") as offline,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._notice(scaled))
            tasks.create_task(self._notice_ledger(ledger))
            tasks.create_task(self._replace(offline))
            while True:
                self._wake.clear()
                for stage, count in (await self.wanted(ledger)).items():
                    self._pools[stage].want(count)
                await self._look_for_missed()
                await self._wake.wait()

    async def _notice(self, feed: Feed[LiveEvent]) -> None:
        async for _ in feed:
            self._wake.set()

    async def _notice_ledger(self, ledger: Ledger) -> None:
        while True:
            await ledger.changed()
            self._wake.set()

    async def _replace(self, feed: Feed[LiveEvent]) -> None:
        async for fact in feed:
            self._hear(fact)

    async def _look_for_missed(self) -> None:
        """What was said of our workers while nobody listened."""
        for pool in self._pools.values():
            for child in pool.children:
                worker = child.status.worker
                if worker is None:
                    continue
                said = await self._bus.last_facts(f"evt.worker.*.{worker}")
                if said:
                    self._hear(said[-1])

    def _hear(self, fact: Stored) -> None:
        try:
            event = fact.event
        except UndecodableEvent:  # of another version: it ends nobody, and those beside it are heard
            return
        if isinstance(event, WorkerOffline):
            self._end_if_ours(event)

    def _end_if_ours(self, offline: WorkerOffline) -> None:
        for pool in self._pools.values():
            child = pool.of_worker(offline.worker)
            if child is None:
                continue
            if offline.reason.startswith(FROZEN) or child.silent_s > SILENT_S:
                log.warning("%s is ended and replaced: %s", child.spec.name, offline.reason)
                child.kill(offline.reason)
