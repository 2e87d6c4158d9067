"""What the dispatcher does by the clock about the status document: keep it warm, and check what is cached."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from appliance.dispatcher.cache import Cache
from appliance.dispatcher.said import SOURCE, say_alert
from appliance.dispatcher.settings import Dispatcher as Settings
from appliance.dispatcher.table import SECTIONS
from bus.connection import Bus
from bus.errors import Retryable
from bus.events import AlertCleared, AlertRaised

log = logging.getLogger(__name__)
ALERT = "cache-differs"


class Compared(Protocol):
    """Cached sections against fresh ones."""

    @property
    def differing(self) -> tuple[str, ...]: ...


class CheckedCache(Cache, Protocol):
    """A cache that can compare what it holds with what it should hold."""

    async def validate(self) -> Compared:
        """Compare, and drop what differs."""
        ...


class CacheSchedule:
    """`serve` runs until cancelled."""

    def __init__(self, bus: Bus, cache: CheckedCache, settings: Settings) -> None:
        self._bus = bus
        self._cache = cache
        self._settings = settings

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_warm())
            tasks.create_task(self._keep_true())

    async def _keep_warm(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._settings.event_timeout_s):
                    await self._cache.warm(SECTIONS)
            except Exception:
                log.warning("the status document could not be warmed", exc_info=True)
            await asyncio.sleep(self._settings.cache_warm_s)

    async def _keep_true(self) -> None:
        while True:
            await asyncio.sleep(self._settings.cache_validate_s)
            try:
                await self.validate()
            except Retryable as error:
                log.warning("the bus is away: what the cache's check found is not said", extra={"error": str(error)})
            except Exception:
                log.warning("the cache could not be checked", exc_info=True)

    async def validate(self) -> None:
        """One check: an alert when something that is served differs from what it should be, cleared when nothing does.

        Raises `bus.errors.Retryable`.
        """
        differing = (await self._cache.validate()).differing
        if differing:
            text = f"cached {', '.join(differing)} differed from what the database says; dropped"
            log.error("%s", text)
            await say_alert(self._bus, AlertRaised(source=SOURCE, alert=ALERT, severity="warning", message=text))
        else:
            text = "what is cached is what the database says"
            await say_alert(self._bus, AlertCleared(source=SOURCE, alert=ALERT, message=text))
