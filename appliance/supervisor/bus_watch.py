"""A bus that answers but does not store: noticed by its own report, and started again once its disk has room."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from appliance.storage.volume import measure, size_text
from bus.errors import BusUnavailable
from bus.health import HealthProbe

log = logging.getLogger(__name__)
LOOK_S = 2.0
ROOM_BYTES = 8 * 1024**2
"""Free bytes on the bus's volume from which on a restart is worth it: what it had to write by then, many times over."""


class BusWatch:
    """`serve` runs until cancelled. `restart` ends the server; the supervisor starts it again."""

    def __init__(self, probe: HealthProbe, data_dir: Path, restart: Callable[[], None]) -> None:
        self._probe = probe
        self._folder = data_dir / "nats"
        self._restart = restart
        self._told = False

    async def serve(self) -> None:
        try:
            while True:
                try:
                    await self.look()
                except (OSError, BusUnavailable) as error:
                    log.debug("the bus's health is unknown", extra={"error": str(error)})
                await asyncio.sleep(LOOK_S)
        finally:
            await self._probe.close()

    async def look(self) -> None:
        """One look, and what it calls for. Raises OSError, `bus.errors.BusUnavailable`."""
        health = await self._probe.ask()
        if not health.frozen:
            self._told = False
            return
        free = (await asyncio.to_thread(measure, self._folder)).free_bytes
        if free < ROOM_BYTES:
            if not self._told:
                log.error("the bus stores nothing any more: %s", health.error, extra={"free_bytes": free})
                self._told = True
            return
        log.warning("the bus stores nothing and is started again: %s", health.error, extra={"free": size_text(free)})
        self._restart()
