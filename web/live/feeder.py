"""From the bus to the hub: live events in order, and from the stream what an outage swallowed.

While the feed is whole, an event goes from the socket of the bus straight to the hub. From the moment the connection is
lost until the stream has been read up to its end again, live events are only noted: the stream has them, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from bus.connection import Bus, StreamState
from bus.errors import Retryable
from bus.feed import TelemetrySample
from bus.stored import Stored
from web.live.frames import ResetReason
from web.live.hub import Hub

log = logging.getLogger(__name__)
PRIME_SPAN = 8192
"""Messages of the stream's end that are looked through at the start for events to keep."""
MAX_MISSED = 20_000
"""A gap of more messages than this is not shown event by event: readers start over."""
PAGE = 512
CHECK_S = 10.0
"""How often the stream is asked whether something came that nobody told."""
RETRY_S = 0.5
TICK_S = 0.25
READY_S = 5.0


class Feeder:
    """`async with feeder.running(): …`; the hub may be used before, while and after."""

    def __init__(self, bus: Bus, hub: Hub, heartbeat_s: float) -> None:
        self._bus = bus
        self._hub = hub
        self._heartbeat_s = heartbeat_s
        self._whole = False
        self._noted = 0
        """The highest sequence that was seen live while the feed was not whole."""
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The feed runs inside the block. Raises Denied, BusUnavailable when it cannot begin.

        Enters when the feed is whole, so that readers of a process before this one find their place; at the latest
        after READY_S, should the bus have gone away meanwhile.
        """
        forget = (self._bus.on_disconnect(self._on_disconnect), self._bus.on_reconnect(self._wake.set))
        tasks: list[asyncio.Task[None]] = []
        try:
            async with (
                self._bus.listen("evt.>", self._on_fact),
                self._bus.listen_telemetry("tel.progress.>", self._on_progress),
                self._bus.listen_telemetry("tel.host.>", self._on_host),
            ):
                tasks = [
                    asyncio.create_task(self._keep_whole(), name="live-feeder"),
                    asyncio.create_task(self._ticks(), name="live-ticks"),
                    asyncio.create_task(self._heartbeats(), name="live-heartbeats"),
                ]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(READY_S):
                        await self._ready.wait()
                yield
        finally:
            for call in forget:
                call()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._hub.end_all()

    # -- what the bus calls -------------------------------------------------------------------------------------------

    def _on_fact(self, stored: Stored) -> None:
        if self._whole:
            self._hub.fact(stored)
        else:
            self._noted = max(self._noted, stored.seq)

    def _on_progress(self, sample: TelemetrySample) -> None:
        self._hub.progress(sample.data)

    def _on_host(self, sample: TelemetrySample) -> None:
        self._hub.host(sample.data)

    def _on_disconnect(self) -> None:
        self._whole = False
        self._hub.bus_is("down")

    # -- keeping it whole ---------------------------------------------------------------------------------------------

    async def _keep_whole(self) -> None:
        while True:
            self._wake.clear()
            try:
                if self._whole:
                    await self._check_end()
                else:
                    await self._make_whole()
            except Retryable as error:
                log.warning("the live feed waits for the bus", extra={"error": str(error)})
                await self._woken(RETRY_S)
                continue
            await self._woken(CHECK_S if self._whole else 0)

    async def _woken(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()

    async def _make_whole(self) -> None:
        lost = self._bus.reconnects
        self._noted = 0  # what was noted before is in the stream by now, or belongs to one that is gone
        state = await self._bus.stream_state()
        if (reason := self._broken(state)) is not None:
            # A little of what was before is kept, so that readers of the process before this one find their place.
            self._hub.begin(state.epoch, max(state.first_seq - 1, state.last_seq - PRIME_SPAN, 0), reason)
        else:
            self._hub.tally.gaps_filled += 1
        while self._bus.reconnects == lost:
            page = await self._bus.read(self._hub.seq, "evt.>", PAGE)
            for stored in page:
                self._hub.fact(stored, live=False)
            if not page and self._noted <= self._hub.seq:
                break
        if self._bus.reconnects != lost or not self._bus.connected:
            return  # lost again meanwhile: what came live since then was not whole
        self._whole = True
        self._hub.bus_is("up")
        self._ready.set()

    def _broken(self, state: StreamState) -> ResetReason | None:
        """Why the feed cannot go on where it stands."""
        if state.epoch != self._hub.epoch or state.last_seq < self._hub.seq:
            return "epoch"
        if state.first_seq > self._hub.seq + 1:
            return "gap"
        return "too-many" if state.last_seq - self._hub.seq > MAX_MISSED else None

    async def _check_end(self) -> None:
        for stored in await self._bus.read(self._hub.seq, "evt.>", PAGE):
            self._hub.fact(stored, live=False)

    # -- clocks -------------------------------------------------------------------------------------------------------

    async def _ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._hub.tick()

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            self._hub.heartbeat()
