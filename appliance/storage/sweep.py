"""The sweep: by the clock, when space is short, and when somebody asks.

It only says what goes, as `file:deleted`; removing it is the dispatcher's action on that fact.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from appliance.config import Config
from appliance.dispatcher.said import SOURCE
from appliance.errors import SourceUnavailable
from appliance.storage.survey import Survey, survey
from appliance.storage.volume import size_text
from appliance.store.writer import Writer
from bus.connection import Bus
from bus.errors import Retryable
from bus.events import AlertRaised, AnyEvent, FileDeleted, UserAction

log = logging.getLogger(__name__)
SWEEP = "storage.sweep"
"""`UserAction.action` of a person's request."""
REQUEST_AGE_S = 3600.0
DISK_RULES = "disk."
AT_ONCE = 200
"""Removals said in one sweep; what is left follows at once."""
AGAIN_S = 60.0
"""Least seconds between two sweeps because space is short: the first must have had its effect."""
EXHAUSTED_S = 600.0
"""The same when there was not enough to remove: only time or a person changes that."""
BEHIND_S = 0.2
ROWS_WAIT_S = 30.0
UNAVAILABLE_S = 5.0
Why = Literal["clock", "short", "person"]


class Sweeper:
    """One per box. `serve` runs until cancelled; `asked` is the action `retention_sweep`."""

    def __init__(self, bus: Bus, store: Writer, config: Config) -> None:
        self._bus = bus
        self._store = store
        self._config = config
        self._wake = asyncio.Event()
        self._why: Why = "clock"
        self._said_seq = 0
        self._not_before = 0.0
        self.exhausted = False
        """Space was short at the last sweep, and what may be removed was not enough."""
        self.swept = asyncio.Event()
        """Set after each sweep."""

    async def serve(self) -> None:
        settings = self._config.retention
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.every_s):
                    await self._wake.wait()
            self._wake.clear()
            why, self._why = self._why, "clock"
            if settings.enabled or why == "person":
                await self._sweep_patiently()
                self._not_before = _now() + (EXHAUSTED_S if self.exhausted else AGAIN_S)
            self.swept.set()

    async def asked(self, event: AnyEvent) -> None:
        """A person's request, or an alert about a disk; anything else is not for us."""
        if isinstance(event, UserAction) and event.action == SWEEP:
            if (datetime.now(UTC) - event.ts).total_seconds() > REQUEST_AGE_S:
                return  # it runs again after a loss of the stream
            log.warning("%s by %s", event.action, event.user)
            self._start("person")
        elif isinstance(event, AlertRaised) and (event.rule or "").startswith(DISK_RULES):
            self.space_is_short()

    def space_is_short(self) -> None:
        """Sweep, unless that was just done."""
        if _now() >= self._not_before:
            self._start("short")

    def _start(self, why: Why) -> None:
        if self._why != "person":
            self._why = why
        self._wake.set()

    async def _sweep_patiently(self) -> None:
        while True:
            try:
                if not await self.sweep():
                    return
            except (Retryable, SourceUnavailable, OSError) as error:
                log.warning("the sweep waits", extra={"error": str(error)})
                await asyncio.sleep(UNAVAILABLE_S)

    async def sweep(self) -> bool:
        """One sweep: say what goes. True when there is more. Raises `bus.errors.Retryable`, `SourceUnavailable`."""
        with suppress(TimeoutError):  # a stream that was lost and made again counts from 1
            async with asyncio.timeout(ROWS_WAIT_S):
                while await self._store.cursor() < self._said_seq:  # noqa: ASYNC110 - rows tell nobody
                    await asyncio.sleep(BEHIND_S)  # else what was said last would be said twice
        found = await asyncio.to_thread(survey, self._config)
        now = found.removals[:AT_ONCE]
        for removal in now:
            fact = FileDeleted(
                source=SOURCE,
                job=removal.job,
                path=removal.path,
                kind=removal.kind,
                size_bytes=removal.size_bytes,
                reason=removal.reason,
            )
            self._said_seq = await self._bus.publish(fact)
        self.exhausted = not found.enough
        _log(found)
        return len(now) < len(found.removals)


def _log(found: Survey) -> None:
    total = sum(removal.size_bytes for removal in found.removals)
    if found.removals:
        log.warning("retention removes %d things, %s", len(found.removals), size_text(total))
    if not found.enough:
        log.warning(
            "space is short by %s, and nothing more may be removed: delete jobs, or unpin some",
            size_text(found.short_bytes - total),
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
