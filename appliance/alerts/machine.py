"""The state machine of one alert: a rule on a device. Pure: time and value come in, a new track and a change go out.

    ok → pending (the condition must hold `for_s`) → raised → clearing (must stay away `hold_s`) → ok
    raised → flapping (direction changed too often) → released when calm

Two gates, one a threshold, each with its own timers; the alert's level is that of the highest open gate. A reading of
None proves nothing: it neither raises nor clears and starts the timers anew.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from appliance.alerts.rules import RANK, Level, Rule, Threshold

Kind = Literal["raised", "worsened", "improved", "cleared", "flapping"]
MAX_TURNS = 48
GAP_S = 15.0
"""Readings further apart than this prove nothing about the time between them."""


class Gate(Struct, frozen=True):
    """One threshold of one alert. `since`: when the opposite condition began to hold, None when it does not."""

    open: bool = False
    since: float | None = None
    began: float | None = None
    """When the condition began that opened it."""
    beyond: bool | None = None
    """On which side the value was last: beyond the raise threshold, or past the clear one; between them it keeps."""


class Turn(Struct, frozen=True, array_like=True):
    """A change of level: when, and whether upwards."""

    at: float
    up: bool


class Track(Struct, frozen=True):
    """What is remembered of one alert. Times are seconds of the caller's monotonic clock."""

    warning: Gate = Gate()
    critical: Gate = Gate()
    level: Level = "ok"
    """What has been told, which is `raw` unless flapping."""
    raw: Level = "ok"
    crossed_at: float = 0.0
    """When the value last went from one side of a threshold to the other."""
    turns: tuple[Turn, ...] = ()
    flapping: bool = False
    value: float | None = None
    seen_at: float = 0.0
    """When a value was last read."""

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by forgetting it: no level, no timer, no history."""
        gates = (self.warning, self.critical)
        return self.level == "ok" and not self.turns and all(gate.since is None and not gate.open for gate in gates)


class Change(Struct, frozen=True):
    """A step worth an event."""

    kind: Kind
    level: Level
    value: float | None
    threshold: float | None
    since: float | None
    """When the condition began."""


class Flapping(Struct, frozen=True):
    """When an alert flaps: see `appliance.alerts.settings.Alerts`.

    Turns are counted as long as the value goes on crossing at least every `window_s`. A latched rule never flaps: a
    person ends each of its alerts.
    """

    turns: int = 2
    window_s: float = 1800.0
    calm_s: float = 1800.0


def advance(
    rule: Rule,
    track: Track,
    now: float,
    value: float | None,
    *,
    may_raise: bool = True,
    acknowledged: bool = False,
    flapping: Flapping = Flapping(),  # noqa: B008 - frozen
) -> tuple[Track, Change | None]:
    """One reading. `may_raise` false (boot grace) lets conditions wait; a latched rule clears once `acknowledged`."""
    gap = now - track.seen_at > GAP_S
    may_clear = acknowledged or not rule.latched
    warning, critical = (
        _gate(rule, limit, _forget(gate) if gap else gate, now, value, may_raise, may_clear)
        for limit, gate in ((rule.warning, track.warning), (rule.critical, track.critical))
    )
    raw: Level = "critical" if critical.open else rule.severity if warning.open else "ok"
    crossed = _crossed(track.warning, warning) or _crossed(track.critical, critical)
    track = replace(
        track,
        warning=warning,
        critical=critical,
        raw=raw,
        crossed_at=now if crossed else track.crossed_at,
        value=track.value if value is None else value,
        seen_at=track.seen_at if value is None else now,
    )
    if track.flapping:
        return _while_flapping(rule, track, now, flapping)
    if track.turns and now - max(track.turns[-1].at, track.crossed_at) > flapping.window_s:
        track = replace(track, turns=())
    if raw == track.level:
        return track, None
    return _change(rule, track, now, flapping)


def _crossed(before: Gate, after: Gate) -> bool:
    return before.beyond is not None and before.beyond != after.beyond


def _change(rule: Rule, track: Track, now: float, flapping: Flapping) -> tuple[Track, Change]:
    up = RANK[track.raw] > RANK[track.level]
    recent = (*track.turns, Turn(now, up))[-MAX_TURNS:]
    reversals = sum(1 for one, other in pairwise(recent) if one.up != other.up)
    if up and reversals >= flapping.turns and not rule.latched:
        track = replace(track, turns=recent, flapping=True, level=track.raw)
        return track, _told(rule, track, "flapping")
    kind: Kind = (
        "raised" if track.level == "ok" else "worsened" if up else "cleared" if track.raw == "ok" else "improved"
    )
    track = replace(track, turns=recent, level=track.raw)
    return track, _told(rule, track, kind)


def _while_flapping(rule: Rule, track: Track, now: float, flapping: Flapping) -> tuple[Track, Change | None]:
    """Held at its highest level until it has crossed nothing for `calm_s`; only getting worse is told meanwhile."""
    if RANK[track.raw] > RANK[track.level]:
        track = replace(track, level=track.raw)
        return track, _told(rule, track, "worsened")
    if now - track.crossed_at < flapping.calm_s:
        return track, None
    level, track = track.level, replace(track, flapping=False, turns=(), level=track.raw)
    if track.raw == level:
        return track, None
    return track, _told(rule, track, "cleared" if track.raw == "ok" else "improved")


def _told(rule: Rule, track: Track, kind: Kind) -> Change:
    critical = track.level == "critical"
    limit = rule.critical if critical else rule.warning or rule.critical
    gate = track.critical if critical else track.warning
    at = None if limit is None else limit.clear if kind == "cleared" else limit.at
    return Change(kind, track.level, track.value, at, gate.began)


def _forget(gate: Gate) -> Gate:
    return gate if gate.since is None else replace(gate, since=None)


def _gate(
    rule: Rule,
    limit: Threshold | None,
    gate: Gate,
    now: float,
    value: float | None,
    may_raise: bool,
    may_clear: bool,
) -> Gate:
    if limit is None:
        return gate if not gate.open and gate.since is None else Gate()
    if value is None:
        return _forget(gate)
    high = rule.high_is_bad
    raises = value >= limit.at if high else value <= limit.at
    clears = value <= limit.clear if high else value >= limit.clear
    beyond = True if raises else False if clears else gate.beyond
    holds, wait_s, may = (clears, rule.hold_s, may_clear) if gate.open else (raises, rule.for_s, may_raise)
    if not holds:
        return gate if gate.since is None and gate.beyond == beyond else replace(gate, since=None, beyond=beyond)
    since = now if gate.since is None else gate.since
    if now - since >= wait_s and may:
        return Gate(open=not gate.open, began=None if gate.open else since, beyond=beyond)
    return gate if since == gate.since and beyond == gate.beyond else replace(gate, since=since, beyond=beyond)
