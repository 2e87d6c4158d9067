"""When a queue is long: levels with hysteresis, as a pure rule, and the loop that says so when it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from msgspec import Struct

from appliance.dispatcher.said import SOURCE, last_said
from appliance.dispatcher.settings import Dispatcher as Settings
from bus.connection import Bus, QueueDepth
from bus.errors import Retryable
from bus.events import QueueThreshold, StageName

log = logging.getLogger(__name__)
Level = Literal["ok", "warning", "critical"]
CLEAR_BELOW = 0.8
"""A level is left when the queue has fallen below this share of its threshold (ours: a fifth of slack, so that a
queue that hovers around the threshold is one warning)."""


class Limits(Struct, frozen=True):
    """From where on a queue is at a level: waiting tasks, or seconds the oldest has waited."""

    depth: int
    age_s: float

    def crossed(self, depth: int, oldest_s: float, share: float = 1.0) -> bool:
        return depth >= self.depth * share or oldest_s >= self.age_s * share


def level_after(before: Level, depth: int, oldest_s: float, warning: Limits, critical: Limits) -> Level:
    """The level of a queue of `depth` tasks whose oldest has waited `oldest_s`, after it was at `before`.

    Up at once when a threshold is reached, down only below `CLEAR_BELOW` of it.
    """
    if critical.crossed(depth, oldest_s, CLEAR_BELOW if before == "critical" else 1.0):
        return "critical"
    if warning.crossed(depth, oldest_s, 1.0 if before == "ok" else CLEAR_BELOW):
        return "warning"
    return "ok"


class QueueWatch:
    """Publishes `queue:threshold` for each change. `serve` runs until cancelled; `looked` gets the queues each time."""

    def __init__(
        self,
        bus: Bus,
        settings: Settings,
        looked: Callable[[Mapping[StageName, QueueDepth]], Awaitable[None]] | None = None,
    ) -> None:
        self._bus = bus
        self._looked = looked
        self._every_s = settings.queue_check_s
        self._warning = Limits(settings.queue_warning, settings.queue_warning_age_s)
        self._critical = Limits(settings.queue_critical, settings.queue_critical_age_s)
        self._levels: dict[StageName, Level] | None = None

    def level(self, stage: StageName) -> Level:
        """Of the stage's queue, as last said."""
        return (self._levels or {}).get(stage, "ok")

    async def serve(self) -> None:
        while True:
            try:
                if self._levels is None:
                    self._levels = await self._last_said()
                depths = await self._bus.queue_depths()
                for stage, queue in depths.items():
                    await self._look(self._levels, stage, queue)
                if self._looked is not None:
                    await self._looked(depths)
            except Retryable as error:
                log.warning("the bus is away: queues are not watched", extra={"error": str(error)})
            await asyncio.sleep(self._every_s)

    async def _look(self, levels: dict[StageName, Level], stage: StageName, queue: QueueDepth) -> None:
        before, oldest_s = levels.get(stage, "ok"), queue.oldest_s or 0.0
        level = level_after(before, queue.pending, oldest_s, self._warning, self._critical)
        if level == before:
            return
        fact = QueueThreshold(source=SOURCE, stage=stage, level=level, depth=queue.pending, oldest_s=round(oldest_s, 1))
        await self._bus.publish(fact)
        levels[stage] = level
        log.warning("the %s queue is %s", stage, level, extra={"depth": queue.pending, "oldest_s": round(oldest_s)})

    async def _last_said(self) -> dict[StageName, Level]:
        """What the log says, so that a restart repeats nothing and clears what is over."""
        said = (stored.event for stored in await last_said(self._bus, "evt.queue.threshold.*"))
        return {event.stage: event.level for event in said if isinstance(event, QueueThreshold)}
