"""What the dispatcher counts of itself, and tells once a second while there is something new: `tel.dispatcher.box`.

Everything counts up from the start of the process (`started_at`), so that a reader that missed samples loses nothing.
Delays are from the moment at which the server stored the fact, by the server's clock, to the end of each part: the rows
committed, the cache invalidated, the first attempt of each action begun. The store's own fsync is therefore included.
Delays are counted for facts that were read from the stream, not for those found in the database after a restart.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from appliance.breaker import State
from appliance.dispatcher.histogram import Durations, Histogram, quantiles_ms
from appliance.dispatcher.table import Action
from bus.connection import Bus
from bus.stored import Stored
from bus.streams import TELEMETRY as STREAM

TELEMETRY, IDENT = "dispatcher", "box"
"""Subject `tel.dispatcher.box`: there is one dispatcher in a box."""
TELL_S = 1.0
TELL_ANYWAY_S = 10.0


class ActionFigures(Struct, frozen=True, kw_only=True):
    """One action's part."""

    running: int
    done: int
    """Attempts that succeeded."""
    failed: int
    """Attempts that failed."""
    breaker: State


class CacheFigures(Struct, frozen=True, kw_only=True):
    """The table's cache parts."""

    invalidations: int
    """Rounds: a burst of facts is one."""
    warmings: int
    failures: int
    """Rounds of either kind that failed and were, or will be, made up for."""


class DispatcherSample(Struct, frozen=True, kw_only=True):
    """One sample."""

    ts: datetime
    started_at: datetime
    seq: int
    """The last fact in the database."""
    events: int
    """Facts written."""
    batches: int
    """Transactions that they took."""
    lag_events: int
    """Facts in the stream that are not in the database, as of the last look."""
    lag_s: float
    """Age of the oldest of them; 0 when there is none."""
    actions_open: int
    """Facts whose actions are not done."""
    actions: dict[Action, ActionFigures]
    cache: CacheFigures
    written: Durations
    invalidated: Durations
    acted: Durations


class Figures:
    """Counted by the dispatcher's parts on the event loop's thread."""

    def __init__(self) -> None:
        self._started_at = datetime.now(UTC)
        self._seq = self._events = self._batches = 0
        self._behind = 0
        self._oldest_s: float | None = None
        self._done: Counter[Action] = Counter()
        self._failed: Counter[Action] = Counter()
        self._running: Counter[Action] = Counter()
        self._cache: Counter[str] = Counter()
        self._written, self._invalidated, self._acted = Histogram(), Histogram(), Histogram()
        self.actions_open = 0
        """Facts whose actions are not done."""

    def read(self, batch: list[Stored]) -> list[float]:
        """A batch came from the stream; when each fact was stored, in seconds since 1970."""
        stored_s = [fact.stored_at.timestamp() for fact in batch]
        self._oldest_s = stored_s[0]
        self._behind = len(batch) + batch[-1].pending
        return stored_s

    def committed(self, seq: int, stored_s: list[float]) -> None:
        """It is in the database."""
        now = time.time()
        for moment in stored_s:
            self._written.add(now - moment)
        self._seq = seq
        self._events += len(stored_s)
        self._batches += 1
        self._behind -= len(stored_s)
        self._oldest_s = stored_s[-1] if self._behind else None

    def invalidated(self, stored_s: Iterable[float]) -> None:
        """What facts stored at these moments made wrong is served no more."""
        now = time.time()
        for moment in stored_s:
            self._invalidated.add(now - moment)

    def cache_round(self, name: str, *, ok: bool) -> None:
        """`name` (invalidate, warm) was done, or failed."""
        self._cache[name if ok else "failures"] += 1

    def begins(self, action: Action, stored_s: float | None) -> None:
        """An attempt; `stored_s` when it is the first of a fact that just came."""
        self._running[action] += 1
        if stored_s is not None:
            self._acted.add(time.time() - stored_s)

    def ended(self, action: Action, *, ok: bool) -> None:
        self._running[action] -= 1
        (self._done if ok else self._failed)[action] += 1

    def sample(self, breakers: Mapping[Action, State]) -> DispatcherSample:
        now = datetime.now(UTC)
        lag_s = 0.0 if self._oldest_s is None else max(0.0, now.timestamp() - self._oldest_s)
        return DispatcherSample(
            ts=now,
            started_at=self._started_at,
            seq=self._seq,
            events=self._events,
            batches=self._batches,
            lag_events=self._behind,
            lag_s=round(lag_s, 6),
            actions_open=self.actions_open,
            actions={
                action: ActionFigures(
                    running=self._running[action], done=self._done[action], failed=self._failed[action], breaker=state
                )
                for action, state in breakers.items()
            },
            cache=CacheFigures(
                invalidations=self._cache["invalidate"],
                warmings=self._cache["warm"],
                failures=self._cache["failures"],
            ),
            written=self._written.state(),
            invalidated=self._invalidated.state(),
            acted=self._acted.state(),
        )


def same(one: DispatcherSample, other: DispatcherSample) -> bool:
    """Whether nothing happened between the two but time."""
    return msgspec.structs.replace(one, ts=other.ts, lag_s=other.lag_s) == other


def told(sample: DispatcherSample) -> dict[str, Any]:
    """A sample in a few figures for people: since the dispatcher's start, delays as (median, 99 %)."""
    spans = {"written": sample.written, "cache invalidated": sample.invalidated, "action begun": sample.acted}
    return {
        "started_at": sample.started_at,
        "events": sample.events,
        "actions_open": sample.actions_open,
        "breakers_open": [action for action, one in sample.actions.items() if one.breaker != "closed"],
        "delays_ms": {
            name: tuple(quantiles_ms(span, {"p50": 0.5, "p99": 0.99}).values()) for name, span in spans.items()
        },
    }


async def last_sample(bus: Bus) -> DispatcherSample | None:
    """What the dispatcher told last, within the telemetry's hour. Raises `bus.errors.BusError`."""
    replies = await bus.direct_many(STREAM, {"multi_last": [f"tel.{TELEMETRY}.{IDENT}"]})
    try:
        return msgspec.json.decode(replies[-1].data, type=DispatcherSample) if replies else None
    except msgspec.DecodeError:
        return None  # of another version
