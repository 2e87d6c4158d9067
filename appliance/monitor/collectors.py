"""Collectors: a blocking reading each, made in a thread at its own pace, with an age. One that hangs harms no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")
STALE_READINGS = 5
"""A value is null when this many readings are overdue."""


class Collector(Generic[T]):
    """Use on the event loop's thread; only `read` runs elsewhere, never twice at a time."""

    def __init__(self, name: str, read: Callable[[], T], every_s: float, clock: Callable[[], float]) -> None:
        self.name = name
        self.every_s = every_s
        self._read = read
        self._value: T | None = None
        self._taken_at: float | None = None
        self._started_at: float | None = None
        self._clock = clock
        self._made_at = clock()
        self._running: asyncio.Future[T] | None = None
        self._error = ""

    def poll(self, executor: Executor) -> None:
        """Begin a reading when one is due and none is under way."""
        if self._running is not None:
            return
        now = self._clock()
        # Some slack: a timer that fires a hair early must not skip a beat.
        if self._started_at is not None and now - self._started_at < self.every_s * 0.95:
            return
        self._started_at = now
        self._running = asyncio.get_running_loop().run_in_executor(executor, self._read)
        self._running.add_done_callback(self._done)

    def _done(self, done: asyncio.Future[T]) -> None:
        self._running = None
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            if str(error) != self._error:  # say it once, not each second
                log.warning("a collector fails", extra={"collector": self.name, "error": repr(error)})
            self._error = str(error)
            return
        self._error = ""
        self._value, self._taken_at = done.result(), self._clock()

    @property
    def running(self) -> asyncio.Future[T] | None:
        """The reading under way, if any."""
        return self._running

    def value(self, now: float) -> T | None:
        """The last reading; None before the first and when it is far too old."""
        age = self.age_s(now)
        return None if age is None or age > STALE_READINGS * self.every_s + 5 else self._value

    def age_s(self, now: float) -> float | None:
        return None if self._taken_at is None else max(0.0, now - self._taken_at)

    def overdue_s(self, now: float) -> float:
        """Seconds past the time at which the next reading should be there; below 0 while it need not."""
        since = self._made_at if self._taken_at is None else self._taken_at
        return now - since - self.every_s
