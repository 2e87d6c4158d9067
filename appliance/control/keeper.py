"""Who keeps the ledger's time: what is over is said to be over, and what stands is said again before it is forgotten.

The stream forgets by age and, at its cap, by size; a hold that nobody ends must outlive both.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from appliance.control.holds import Hold, Mode, Target
from appliance.control.ledger import Ledger, last_words, say_again, say_over
from bus.connection import Bus, StreamState
from bus.errors import Retryable

log = logging.getLogger(__name__)
AGAIN_S = 1.0
OVER = "its time is over"


class Keeper:
    """`serve` runs until cancelled. `by`: in whose name the end of a hold is said.

    `max_age_s` and `max_bytes`: the stream's limits.
    """

    def __init__(self, bus: Bus, *, by: str, max_age_s: float, max_bytes: int) -> None:
        self._bus = bus
        self._by = by
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._ledger: Ledger | None = None

    def mode(self, target: Target) -> Mode:
        """The target's mode as last known; `run` until the ledger was read."""
        return "run" if self._ledger is None else self._ledger.mode(target)

    async def serve(self) -> None:
        while True:
            try:
                async with Ledger(self._bus) as ledger:
                    self._ledger = ledger
                    while True:
                        await self.keep()
                        await ledger.changed()
            except Retryable as error:
                log.warning("the bus is away: the control ledger waits", extra={"error": str(error)})
                await asyncio.sleep(AGAIN_S)

    async def keep(self) -> None:
        """One look at every hold. Raises `bus.errors.Retryable`."""
        words = [word for word in await last_words(self._bus) if word.mode != "run"]
        if not words:
            return
        stream, now = await self._bus.stream_state(), datetime.now(UTC)
        for word in words:
            if word.is_over(now):
                if await say_over(self._bus, word, by=self._by, reason=OVER):
                    log.info("a hold is over", extra={"target": word.target, "holder": word.holder})
            elif self.is_ageing(word, stream, now):
                await say_again(self._bus, word)

    def is_ageing(self, word: Hold, stream: StreamState, now: datetime) -> bool:
        """Whether half of the time until the stream forgets it is gone."""
        if (now - word.said_at).total_seconds() > self._max_age_s / 2:
            return True
        middle = stream.first_seq + (stream.last_seq - stream.first_seq) / 2
        return stream.bytes > self._max_bytes / 2 and word.seq < middle
