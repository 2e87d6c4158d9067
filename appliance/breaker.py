"""A circuit breaker: after some failures in a row calls are refused for a while, then one is let through as a probe.

Pure: it holds no lock, starts no task and reads only the clock it is given. Whoever wants to call asks `enter` for a
permit and reports back with it; a permit from before the last change of state no longer counts, so a late success
never closes a breaker that opened meanwhile. (The kept breakers of the ecosystem guard one function with a decorator
and let every caller through while half open; none tells a late result from a probe's.)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]
Permit = int


def _nothing(*_: object) -> None:
    """No one listens."""


class Breaker:
    """`failure_threshold` failures in a row open it; `recovery_timeout_s` later one probe decides.

    `on_open(reason)` and `on_close(open_s)` are called at once, on the caller's stack: they must not block or raise.
    A probe that never reports is taken for lost after `recovery_timeout_s`, and another one is let through.
    """

    def __init__(
        self,
        failure_threshold: int,
        recovery_timeout_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_open: Callable[[str], None] = _nothing,
        on_close: Callable[[float], None] = _nothing,
    ) -> None:
        self._threshold = failure_threshold
        self._recovery_s = recovery_timeout_s
        self._clock = clock
        self._on_open = on_open
        self._on_close = on_close
        self._permit: Permit = 0
        self._failures = 0
        self._next_probe_at = 0.0
        self._opened_at = 0.0
        self.state: State = "closed"
        self.opened = 0
        """How often it opened."""

    def enter(self) -> Permit | None:
        """A permit for one call, to be reported with `succeeded`, `failed` or `abandoned`; None: do not call."""
        if self.state == "closed":
            return self._permit
        if self._clock() < self._next_probe_at:
            return None
        self.state = "half_open"
        self._next_probe_at = self._clock() + self._recovery_s
        self._permit += 1
        return self._permit

    def succeeded(self, permit: Permit) -> bool:
        """True when that closed it."""
        if permit != self._permit or self.state == "open":
            return False
        self._failures = 0
        if self.state == "closed":
            return False
        self.state = "closed"
        self._permit += 1
        self._on_close(self._clock() - self._opened_at)
        return True

    def failed(self, permit: Permit, reason: str) -> None:
        if permit != self._permit or self.state == "open":
            return
        if self.state == "half_open":
            self._shut()
            return
        self._failures += 1
        if self._failures >= self._threshold:
            self._opened_at = self._clock()
            self.opened += 1
            self._shut()
            self._on_open(reason)

    def abandoned(self, permit: Permit) -> None:
        """The call was given up before it could tell anything: a probe may be made again at once."""
        if permit == self._permit and self.state == "half_open":
            self.state = "open"
            self._next_probe_at = self._clock()
            self._permit += 1

    def wait_s(self) -> float:
        """Seconds until `enter` lets a call through; 0 when it does now."""
        return 0.0 if self.state == "closed" else max(0.0, self._next_probe_at - self._clock())

    def open_s(self) -> float | None:
        """Seconds since it opened, None while it is closed."""
        return None if self.state == "closed" else self._clock() - self._opened_at

    def _shut(self) -> None:
        self.state = "open"
        self._failures = 0
        self._next_probe_at = self._clock() + self._recovery_s
        self._permit += 1
