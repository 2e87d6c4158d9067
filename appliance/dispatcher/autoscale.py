"""Scaling with real figures: reads queues, registry and the monitor's sample, and says `worker:scaled`.

The supervisor carries it out. What was said last is read from the stream, so a restart neither repeats nor forgets it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping

import psutil

from appliance.control.holds import Mode
from appliance.dispatcher.said import SOURCE, last_said
from appliance.dispatcher.scaling import Machine, Scaler, StageLoad, Step
from appliance.dispatcher.settings import Dispatcher as Settings
from appliance.dispatcher.thresholds import Level
from appliance.monitor.latest import HostView, latest
from appliance.monitor.sample import host_id
from bus.connection import Bus, QueueDepth
from bus.events import Event, StageName, WorkerScaled
from bus.registry import Registry

log = logging.getLogger(__name__)
Bounds = tuple[int, int]


class Autoscaler:
    """`look` with the queues of the moment; `check` is the action of the event table.

    `bounds`: fewest and most workers of this box's stages. `mode`: the ledger's, of a stage. `level`: of its queue.
    """

    def __init__(
        self,
        bus: Bus,
        settings: Settings,
        bounds: Mapping[StageName, Bounds],
        *,
        mode: Callable[[StageName], Mode],
        level: Callable[[StageName], Level],
    ) -> None:
        self._bus = bus
        self._settings = settings
        self._bounds = bounds
        self._mode = mode
        self._level = level
        self._scaler: Scaler | None = None
        self._one_at_a_time = asyncio.Lock()
        self._told: dict[StageName, str] = {}

    async def check(self, _event: Event | None = None) -> None:
        """Look now. Raises `bus.errors.Retryable`."""
        if self._bounds:
            await self.look(await self._bus.queue_depths())

    async def look(self, depths: Mapping[StageName, QueueDepth]) -> None:
        """Decide, and say what was decided. Raises `bus.errors.Retryable`."""
        if not self._bounds:
            return
        async with self._one_at_a_time:
            if self._scaler is None:
                self._scaler = Scaler(
                    await self._last_wanted(),
                    up_after_s=self._settings.scale_up_after_s,
                    down_after_s=self._settings.scale_down_after_s,
                    cooldown_s=self._settings.scale_cooldown_s,
                )
            scaler = self._scaler
            loads, machine = await asyncio.gather(self._loads(depths), self._machine())
            for step in scaler.look(loads, machine, asyncio.get_running_loop().time()):
                await self._say(step)
            self._tell_held_back(scaler.held_back)

    async def _say(self, step: Step) -> None:
        fact = WorkerScaled(source=SOURCE, stage=step.stage, before=step.before, after=step.after, reason=step.reason)
        try:
            await self._bus.publish(fact)
        except BaseException:  # also when the action's time was over
            self._scaler = None  # whether it is said is not known: read it again
            raise
        log.info("%s workers: %d to %d: %s", step.stage, step.before, step.after, step.reason)

    def _tell_held_back(self, held_back: Mapping[StageName, str]) -> None:
        """To the log, when a stage begins to want what it may not have."""
        for stage in held_back.keys() - self._told.keys():
            log.info("%s workers: no more: %s", stage, held_back[stage])
        self._told = dict(held_back)

    async def _last_wanted(self) -> dict[StageName, int]:
        said = (stored.event for stored in await last_said(self._bus, "evt.worker.scaled.*"))
        return {event.stage: event.after for event in said if isinstance(event, WorkerScaled)}

    async def _loads(self, depths: Mapping[StageName, QueueDepth]) -> dict[StageName, StageLoad]:
        states = await Registry(self._bus).all()
        loads = {}
        for stage, (least, most) in self._bounds.items():
            mine = [state for state in states if state.stage == stage]
            depth = depths[stage]
            loads[stage] = StageLoad(
                least=least,
                most=most,
                mode=self._mode(stage),
                level=self._level(stage),
                waiting=depth.pending,
                oldest_s=depth.oldest_s or 0.0,
                in_flight=depth.in_flight,
                present=len(mine),
                rss_bytes=max((state.rss_bytes for state in mine), default=0),
                gpu_bytes=max((state.gpu_memory_bytes or 0 for state in mine), default=0),
            )
        return loads

    async def _machine(self) -> Machine:
        """As the monitor says; without one that speaks, as this process can see for itself."""
        mine = host_id()
        view = next((view for view in await latest(self._bus) if view.sample.host == mine and not view.stale), None)
        return await asyncio.to_thread(_machine_of, view)


def _machine_of(view: HostView | None) -> Machine:
    cpu = None if view is None else view.sample.cpu
    memory = None if view is None else view.sample.memory
    gpus = None if view is None else view.sample.gpus
    if memory is not None:
        total, free_memory = memory.total_bytes, memory.available_bytes
    else:
        seen = psutil.virtual_memory()
        total, free_memory = int(seen.total), int(seen.available)
    cards = [
        (card.memory_total_bytes - (card.memory_used_bytes or 0), card.memory_total_bytes)
        for card in (gpus.cards if gpus is not None else [])
        if card.memory_total_bytes is not None and not card.lost
    ]
    roomiest = max(cards, default=(None, None))
    return Machine(
        cores=(os.cpu_count() or 1) if cpu is None else cpu.cores,
        load_1m=os.getloadavg()[0] if cpu is None else cpu.load_1m,
        memory_total_bytes=total,
        memory_free_bytes=free_memory,
        gpu_free_bytes=roomiest[0],
        gpu_total_bytes=roomiest[1],
    )
