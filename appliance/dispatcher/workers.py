"""The worker registry's watch: who left without a word is said, who is missing is an alert.

A worker that the supervisor started is reported by the supervisor when it dies. What nobody reports are workers of
other machines, frozen hosts, and what a power cut left behind: their registry entries expire. Whether a fact is due is
read from the stream itself, and stored only while that has not changed, so nothing is reported twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from appliance.control.frozen import FrozenWatch
from appliance.control.holds import Mode
from appliance.dispatcher.missing import Missing
from appliance.dispatcher.said import SOURCE, last_said, say_alert
from bus.commit import Expect
from bus.connection import Bus
from bus.errors import Retryable, Stale
from bus.events import STAGES, AlertCleared, AlertRaised, Event, StageName, WorkerOffline, WorkerOnline
from bus.registry import Registry, WorkerState
from bus.stored import Stored
from bus.streams import DEFAULTS

if TYPE_CHECKING:
    from appliance.dispatcher.settings import Dispatcher as Settings
    from appliance.store.writer import Writer

log = logging.getLogger(__name__)
SETTLE_S = DEFAULTS.worker_ttl_s + 5.0
"""From the start, until which everybody alive has reported and every entry of the dead has expired."""
ALIVE_AFTER_S = 2 * DEFAULTS.worker_ttl_s
"""An entry that is there for longer than it could be without a heartbeat: that worker is alive."""
LOOK_S = 1.0
FROZEN_LOOK_S = DEFAULTS.worker_ttl_s / 3
"""As often as workers report."""
ONLINE = "SELECT worker, stage FROM workers WHERE state = 'online'"


class WorkerWatch:
    """`serve` runs until cancelled; `check` is the action of the event table. `mode`: the ledger's, of a stage."""

    def __init__(
        self,
        bus: Bus,
        store: Writer,
        settings: Settings,
        minimum: dict[StageName, int],
        mode: Callable[[StageName], Mode],
        stall_s: Mapping[StageName, float],
    ) -> None:
        self._bus = bus
        self._store = store
        self._settings = settings
        self._registry = Registry(bus)
        self._present: dict[str, tuple[WorkerState, float]] = {}
        self._missing = Missing(minimum, settings.workers_missing_s)
        self._mode = mode
        self._frozen = FrozenWatch(stall_s)
        self._standing_still: dict[str, str] = {}
        self._settled = False

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._clean())
            tasks.create_task(self._report())
            tasks.create_task(self._look_for_frozen())
            tasks.create_task(self._alert())

    async def check(self, _event: Event | None = None) -> None:
        """Has each stage its minimum? Alerts when it lacked it for long enough, clears when it has it again.

        Raises `bus.errors.Retryable`.
        """
        if not self._settled:
            return
        have = Counter(state.stage for state, _ in self._present.values())
        drained = [stage for stage in STAGES if self._mode(stage) == "drain"]
        for change in self._missing.look(have, asyncio.get_running_loop().time(), drained):
            alert = f"workers-{change.stage}"
            fact: AlertRaised | AlertCleared
            if change.short:
                fact = AlertRaised(
                    source=SOURCE,
                    alert=alert,
                    severity="warning" if change.have else "critical",
                    message=f"{change.have} of at least {change.want} {change.stage} workers report",
                    value=float(change.have),
                    threshold=float(change.want),
                )
            else:
                fact = AlertCleared(source=SOURCE, alert=alert, message=f"{change.have} {change.stage} workers report")
            await say_alert(self._bus, fact)
            self._missing.said(change)

    async def _watch(self) -> None:
        clock = asyncio.get_running_loop().time
        async for change in self._registry.watch(poll_s=LOOK_S):
            worker = change.state.worker
            if change.kind == "online":
                self._present[worker] = (change.state, clock())
                continue
            self._present.pop(worker, None)
            reason = "left" if change.kind == "removed" else f"no sign of life for {DEFAULTS.worker_ttl_s:.0f} s"
            await self._patiently_offline(worker, change.state.stage, reason)

    async def _patiently_offline(self, worker: str, stage: StageName, reason: str) -> None:
        while True:
            try:
                await self._say_offline(worker, stage, reason)
                return
            except Retryable as error:
                log.warning("the bus is away: a worker's end waits", extra={"worker": worker, "error": str(error)})
                await asyncio.sleep(LOOK_S)

    async def _say_offline(self, worker: str, stage: StageName, reason: str) -> None:
        """Publish `worker:offline` unless the log says so already."""
        last = await self._last(worker)
        if last is None or not isinstance(last.event, WorkerOnline):
            return
        offline = WorkerOffline(source=SOURCE, worker=worker, stage=stage, reason=reason)
        await self._say(offline, worker, last)

    async def _say_online(self, state: WorkerState) -> None:
        """A worker that was reported gone is back: a host woke up, a network was mended."""
        last = await self._last(state.worker)
        if last is None or not isinstance(last.event, WorkerOffline):
            return
        online = WorkerOnline(source=SOURCE, worker=state.worker, stage=state.stage, pid=state.pid, host=state.host)
        await self._say(online, state.worker, last)

    async def _say(self, fact: WorkerOffline | WorkerOnline, worker: str, last: Stored) -> None:
        try:
            await self._bus.commit([fact], Expect(f"evt.worker.*.{worker}", last.seq))
        except Stale:
            return  # somebody else said it
        log.warning("%s", fact.__struct_config__.tag, extra={"worker": worker, "stage": fact.stage})

    async def _last(self, worker: str) -> Stored | None:
        """Its last fact: came, or went."""
        said = await last_said(self._bus, f"evt.worker.*.{worker}")
        return said[-1] if said else None

    async def _clean(self) -> None:
        """Make the read model's list of workers agree with who really reports."""
        await asyncio.sleep(SETTLE_S)
        self._settled = True
        while True:
            try:
                await self.clean()
            except Retryable as error:
                log.warning("the bus is away: workers are not compared", extra={"error": str(error)})
            await asyncio.sleep(self._settings.workers_clean_s)

    async def clean(self) -> None:
        """One comparison: ghosts are reported offline, the returned online. Raises `bus.errors.Retryable`."""
        alive = {state.worker for state in await self._registry.all()}
        online = dict(await self._store.call(lambda db: db.execute(ONLINE).fetchall()))
        for worker, stage in online.items():
            if worker not in alive and worker not in self._present:
                await self._say_offline(worker, stage, "gone, and nobody was there to see it")
        now = asyncio.get_running_loop().time()
        for worker, (state, since) in list(self._present.items()):
            if worker not in online and worker not in self._standing_still and now - since > ALIVE_AFTER_S:
                await self._say_online(state)

    async def _look_for_frozen(self) -> None:
        while True:
            await asyncio.sleep(FROZEN_LOOK_S)
            try:
                states = await self._registry.all()
                self._standing_still = self._frozen.look(states, asyncio.get_running_loop().time())
                for state in states:
                    if (reason := self._standing_still.get(state.worker)) is not None:
                        await self._say_offline(state.worker, state.stage, reason)
            except Retryable as error:
                log.warning("the bus is away: frozen workers are not looked for", extra={"error": str(error)})

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self._settings.workers_report_s)
            have = Counter(state.stage for state, _ in self._present.values())
            busy = sum(1 for state in await self._states() if state.job is not None)
            log.info("workers", extra={stage: have[stage] for stage in STAGES} | {"at_work": busy})

    async def _states(self) -> list[WorkerState]:
        try:
            return await self._registry.all()
        except Retryable:
            return []

    async def _alert(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.check()
            except Retryable as error:
                log.warning("the bus is away: minimum of workers not checked", extra={"error": str(error)})
