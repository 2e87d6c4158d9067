"""Computing sections: each at most once at a time, and not again at once after its source failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from appliance.errors import CacheUnavailable, SourceUnavailable
from appliance.services.manager import DataManager, Fetched
from appliance.services.readers import Position
from appliance.ssot.entry import Entry, make
from appliance.ssot.shelf import Shelf
from appliance.ssot.tally import Tally

RETRY_AFTER_S = 1.0
"""A section whose source did not answer is not asked for again so soon: its last copy is served at once."""

_Results = dict[str, Entry | SourceUnavailable]


class Rebuild:
    """Computes sections, stores them on the shelf, and keeps the last copy of each in this process."""

    def __init__(
        self, manager: DataManager, shelf: Shelf, ttl_s: Mapping[str, float], tally: Tally, clock: Callable[[], float]
    ) -> None:
        self._manager = manager
        self._shelf = shelf
        self._ttl_s = ttl_s
        self._tally = tally
        self._clock = clock
        self._running: dict[str, asyncio.Task[_Results]] = {}
        self._failed: dict[str, tuple[float, SourceUnavailable]] = {}
        self._last: dict[str, Entry] = {}

    async def close(self) -> None:
        running = set(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def last(self, name: str) -> Entry | None:
        """The last copy that this process computed."""
        return self._last.get(name)

    async def sections(self, required: Mapping[str, Position | None]) -> _Results:
        """The sections by name, each including at least the facts that it is required to; or why it cannot be had.

        Callers that come while a section is being computed share it, unless it began too early for them.
        """
        results = await self._share(required)
        early = [
            name
            for name, result in results.items()
            if isinstance(result, Entry) and (least := required[name]) is not None and result.position < least
        ]
        # What begins now reads rows that include all that was required when we were asked.
        return results | await self._share(early) if early else results

    async def _share(self, names: Collection[str]) -> _Results:
        now = time.monotonic()
        results: _Results = {}
        waiting: dict[str, asyncio.Task[_Results]] = {}
        for name in names:
            if (failed := self._failed.get(name)) is not None and now < failed[0]:
                results[name] = failed[1]
            elif name in self._running:
                waiting[name] = self._running[name]
        start = [name for name in names if name not in results and name not in waiting]
        if start:
            task = asyncio.create_task(self._compute(start), name="ssot-rebuild")
            task.add_done_callback(lambda done: self._ended(start, done))
            for name in start:
                self._running[name] = waiting[name] = task
        for name, task in waiting.items():
            # Shielded: a caller that goes away takes nothing from the others who wait.
            results[name] = (await asyncio.shield(task))[name]
        return results

    async def _compute(self, names: Collection[str]) -> _Results:
        began = time.perf_counter()
        fetched = await self._manager.fetch(names)
        results: _Results = {}
        for name, found in fetched.items():
            if isinstance(found, Fetched):
                results[name] = self._last[name] = self._entry(name, found)
                self._failed.pop(name, None)
            else:
                results[name] = found
                self._failed[name] = (time.monotonic() + RETRY_AFTER_S, found)
        self._tally.rebuilt(time.perf_counter() - began)
        entries = {name: result for name, result in results.items() if isinstance(result, Entry)}
        with suppress(CacheUnavailable):  # they are computed again for the next one who asks
            await self._shelf.put(entries)
        return results

    def _entry(self, name: str, found: Fetched) -> Entry:
        return make(found.body, found.position, min(found.made_at.timestamp(), self._clock()), self._ttl_s[name])

    def _ended(self, names: Collection[str], task: asyncio.Task[_Results]) -> None:
        for name in names:
            if self._running.get(name) is task:
                del self._running[name]
        if not task.cancelled():
            task.exception()
