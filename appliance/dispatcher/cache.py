"""The table's cache parts: what the facts made wrong is invalidated at once, what is looked at is warmed.

Keys are collected and handled together: a thousand facts in a burst cost one invalidation. They are kept until it has
succeeded, and everything is invalidated at the start, so a dispatcher that was away leaves nothing wrong behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol

from appliance.dispatcher.figures import Figures
from appliance.dispatcher.settings import Dispatcher as Settings
from appliance.dispatcher.table import SECTIONS, Section, row_of
from appliance.services.readers import Position
from bus.events import Event

log = logging.getLogger(__name__)
AGAIN_S = 0.5
"""Pause after a part that failed. The cache has a circuit breaker of its own: asking again costs it nothing."""


MAX_TIMED = 4096
"""Facts whose delay is counted at the end of one invalidation; of more the first are left out."""


class Cache(Protocol):
    """What the dispatcher wants of a cache. Keys are sections of the status document."""

    async def invalidate(self, keys: Collection[Section], position: Position | None = None) -> object:
        """From now on what is served of these keys includes the facts up to `position`; None: all in the database."""
        ...

    async def warm(self, keys: Collection[Section]) -> object:
        """Compute these keys again, so that the next reader finds them."""
        ...


class NoCache:
    """The cache that is off: everything is computed when it is asked for."""

    async def invalidate(self, keys: Collection[Section], position: Position | None = None) -> None:
        pass

    async def warm(self, keys: Collection[Section]) -> None:
        pass


class CacheParts:
    """`changed(events)` after they are in the database; `serve` runs until cancelled."""

    def __init__(self, cache: Cache, settings: Settings, figures: Figures) -> None:
        self._cache = cache
        self._figures = figures
        self._position: Position | None = None
        self._stored_s: deque[float] = deque(maxlen=MAX_TIMED)
        self._invalidate = _Part("invalidate", self._drop, settings, figures, pause_s=0.0)
        self._warm = _Part("warm", cache.warm, settings, figures, pause_s=settings.warm_interval_s)
        self._invalidate.need(SECTIONS)

    def changed(self, events: Iterable[Event], position: Position, stored_s: Iterable[float]) -> None:
        """These facts, stored at these moments (seconds since 1970), can be read now, and all others to `position`."""
        self._position = position
        self._stored_s.extend(stored_s)
        invalidate: set[Section] = set()
        warm: set[Section] = set()
        for row in {row_of(event) for event in events}:
            invalidate.update(row.invalidate)
            warm.update(row.warm)
        self._invalidate.need(invalidate)
        self._warm.need(warm)

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._invalidate.serve())
            tasks.create_task(self._warm.serve(after=self._invalidate))

    async def _drop(self, keys: Collection[Section]) -> None:
        stored_s, self._stored_s = self._stored_s, deque(maxlen=MAX_TIMED)
        try:
            await self._cache.invalidate(keys, self._position)
        except BaseException:
            self._stored_s = deque((*stored_s, *self._stored_s), MAX_TIMED)
            raise
        self._figures.invalidated(stored_s)


class _Part:
    def __init__(
        self,
        name: str,
        call: Callable[[Collection[Section]], Awaitable[object]],
        settings: Settings,
        figures: Figures,
        *,
        pause_s: float,
    ) -> None:
        self._figures = figures
        self.idle = asyncio.Event()
        self._name = name
        self._call = call
        self._timeout_s = settings.event_timeout_s
        self._pause_s = pause_s
        self._failing = False
        self._keys: set[Section] = set()
        self._wake = asyncio.Event()

    def need(self, keys: Iterable[Section]) -> None:
        before = len(self._keys)
        self._keys.update(keys)
        if len(self._keys) > before:
            self.idle.clear()
            self._wake.set()

    async def serve(self, after: _Part | None = None) -> None:
        while True:
            await self._wake.wait()
            if after is not None:
                await after.idle.wait()  # what is warmed first would be dropped again
            self._wake.clear()
            if not await self._once():
                self._wake.set()
                await asyncio.sleep(AGAIN_S)
            elif self._pause_s:
                await asyncio.sleep(self._pause_s)

    async def _once(self) -> bool:
        keys, self._keys = self._keys, set()
        if not keys:
            return True
        ordered = tuple(section for section in SECTIONS if section in keys)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._call(ordered)
        except Exception as error:  # noqa: BLE001 - whatever the cache raises, its keys are kept for the next try
            self._figures.cache_round(self._name, ok=False)
            self._keys |= keys
            if not self._failing:  # once an outage
                self._failing = True
                log.warning("the cache could not %s: %s", self._name, _said(error), extra={"keys": ",".join(ordered)})
            return False
        self._failing = False
        self._figures.cache_round(self._name, ok=True)
        if not self._keys:
            self.idle.set()
        return True


def _said(error: Exception) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
