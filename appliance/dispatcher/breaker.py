"""A circuit breaker as a pure state machine: it is told what happened and when, and answers who may try.

Closed, until `failure_threshold` failures came in a row; then open for `recovery_timeout_s`, in which nobody tries;
then one attempt at a time is the trial: when it succeeds the breaker closes, when it fails it opens again.

Times are seconds of one monotonic clock. (The libraries for this either keep no single trial, or sleep and read the
clock themselves, so that a deferred attempt could not be written down with the time at which it is due.)
"""

from __future__ import annotations

from typing import Literal

State = Literal["closed", "open", "half-open"]


class Breaker:
    """One for each thing that may fail. `wait_s` before an attempt, `ok`, `failed` or `abandoned` after it."""

    def __init__(self, failure_threshold: int, recovery_timeout_s: float) -> None:
        self._threshold = failure_threshold
        self._recovery_s = recovery_timeout_s
        self._failures = 0
        self._opened_at: float | None = None
        self._trial_at: float | None = None

    def state(self, now: float) -> State:
        if self._opened_at is None:
            return "closed"
        return "open" if now < self._opened_at + self._recovery_s else "half-open"

    def wait_s(self, now: float) -> float:
        """0: go on, and in half-open this attempt is the trial. Else the seconds until asking again makes sense.

        A trial that is never heard of again blocks no longer than `recovery_timeout_s`.
        """
        if self._opened_at is None:
            return 0.0
        free_at = self._opened_at if self._trial_at is None else max(self._opened_at, self._trial_at)
        if now < free_at + self._recovery_s:
            return free_at + self._recovery_s - now
        self._trial_at = now
        return 0.0

    def ok(self) -> bool:
        """An attempt succeeded; True when that closed the breaker."""
        closes = self._opened_at is not None
        self._failures, self._opened_at, self._trial_at = 0, None, None
        return closes

    def failed(self, now: float) -> None:
        """An attempt failed at `now`."""
        self._failures += 1
        if self._failures >= self._threshold:
            self._opened_at, self._trial_at = now, None

    def abandoned(self) -> None:
        """An attempt ended without telling anything (the bus was away): the next may be the trial."""
        self._trial_at = None
