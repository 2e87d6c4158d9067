"""All alerts together: one machine a rule and device, then silences, inhibition, acknowledgements and reminders.

Pure: readings and both clocks come in, transitions go out; nothing is read or sent here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from appliance.alerts.machine import Change, Flapping, Gate, Kind, Track, advance
from appliance.alerts.orders import Orders
from appliance.alerts.rules import Level, Rule, alert_id
from appliance.alerts.settings import Alerts

Readings = Mapping[str, Mapping[str, float | None]]
"""Signal to device to value; None is "cannot be read", never 0."""
Told = Kind | Literal["reminder", "unmuted"]
ABSENT_S = 600.0
"""An alert whose device has not been read for this long is cleared as unknown, a track without alert forgotten."""
MAX_TRACKS = 512


class Entry(Struct, frozen=True, kw_only=True):
    """One alert as it is kept, also over a restart of the monitor. `*_s` are Unix seconds, `track`'s are monotonic."""

    rule: str
    device: str
    track: Track = Track()
    raised_s: float | None = None
    since_s: float | None = None
    """When the condition began."""
    muted_by: str | None = None
    acknowledged: bool = False
    remind_s: float | None = None
    told: Level = "ok"
    """The level of the last transition."""

    @property
    def id(self) -> str:
        return alert_id(self.rule, self.device)

    @property
    def active(self) -> bool:
        return self.track.level != "ok"


class Transition(Struct, frozen=True, kw_only=True):
    """What happened to an alert, ready to be said."""

    kind: Told
    rule: Rule
    device: str
    level: Level
    """The level now; for `cleared` it is ok."""
    value: float | None
    threshold: float | None
    since_s: float | None
    muted_by: str | None
    was: Level = "ok"
    """The level before."""
    gone: bool = False
    """Cleared because the device is not reported any more."""

    @property
    def alert(self) -> str:
        return alert_id(self.rule.id, self.device)


class Engine:
    """Keeps the alerts of one machine."""

    def __init__(self, rules: Iterable[Rule], settings: Alerts, entries: Iterable[Entry] = ()) -> None:
        self._rules = tuple(rules)
        self._settings = settings
        self._flapping = Flapping(settings.flap_turns, settings.flap_window_s, settings.flap_calm_s)
        known = {rule.id for rule in self._rules}
        self._entries = {(entry.rule, entry.device): entry for entry in entries if entry.rule in known}
        self._inhibitors = {
            target: tuple(rule.id for rule in self._rules if target in rule.inhibits)
            for target in {target for rule in self._rules for target in rule.inhibits}
        }

    def entries(self) -> list[Entry]:
        """Every alert worth keeping, in the order in which it was first seen."""
        return list(self._entries.values())

    def active(self) -> list[Entry]:
        return [entry for entry in self._entries.values() if entry.active]

    def step(
        self, now: float, wall_s: float, readings: Readings, orders: Orders, *, may_raise: bool = True
    ) -> list[Transition]:
        """One round of readings at `now` (monotonic, over suspends too) and `wall_s` (Unix).

        Returns what changed, in the order of the rules. `may_raise` is false during the boot grace.
        """
        acked = orders.acked_s()
        changes: list[tuple[tuple[str, str], Rule, Change, bool]] = []
        for rule in self._rules:
            values = readings.get(rule.signal, {})
            known = [device for name, device in self._entries if name == rule.id and device not in values]
            for device in (*values, *known):
                key = (rule.id, device)
                change, gone = self._one(key, rule, now, wall_s, values.get(device), acked, may_raise)
                if change is not None:
                    changes.append((key, rule, change, gone))
        transitions = [self._say(key, rule, change, gone, wall_s, orders) for key, rule, change, gone in changes]
        transitions += self._later(wall_s, orders, {key for key, *_ in changes})
        return transitions

    def _one(
        self,
        key: tuple[str, str],
        rule: Rule,
        now: float,
        wall_s: float,
        value: float | None,
        acked: Mapping[str, float],
        may_raise: bool,
    ) -> tuple[Change | None, bool]:
        entry = self._entries.get(key)
        if entry is None:
            if value is None or len(self._entries) >= MAX_TRACKS:
                return None, False
            entry = Entry(rule=key[0], device=key[1], track=Track(seen_at=now))
        seen = entry.raised_s is not None and acked.get(entry.id, 0.0) >= entry.raised_s
        track, change = advance(
            rule, entry.track, now, value, may_raise=may_raise, acknowledged=seen, flapping=self._flapping
        )
        if value is None and now - track.seen_at > ABSENT_S and (seen or not rule.latched):
            del_change = None
            if entry.active:
                del_change = Change("cleared", "ok", None, None, None)
                self._entries[key] = replace(entry, track=Track(seen_at=now), acknowledged=False)
            else:
                self._entries.pop(key, None)
            return del_change, True
        if track.idle and value is not None:
            if key in self._entries and change is None:
                del self._entries[key]
                return None, False
            if change is None:
                return None, False
        self._entries[key] = replace(entry, track=track, acknowledged=seen)
        return change, False

    def _mute(self, rule: str, device: str, wall_s: float, orders: Orders) -> str | None:
        """Why nobody is told about this alert: an alert that explains it, or a silence."""
        for inhibitor in self._inhibitors.get(rule, ()):
            other = self._entries.get((inhibitor, device))
            if other is not None and other.active:
                return f"alert {other.id}"
        silence = orders.silence_of(rule, device, wall_s)
        return None if silence is None else f"silence {silence.id}"

    def _say(
        self, key: tuple[str, str], rule: Rule, change: Change, gone: bool, wall_s: float, orders: Orders
    ) -> Transition:
        entry = self._entries[key]
        mute = self._mute(*key, wall_s, orders)
        was = entry.told
        if change.kind == "cleared":
            since_s, was_muted = entry.since_s, entry.muted_by
            self._entries[key] = replace(
                entry, raised_s=None, since_s=None, muted_by=None, remind_s=None, acknowledged=False, told="ok"
            )
            # Who was never told that it began need not hear that it ended.
            mute = was_muted or mute
        else:
            raised_s = wall_s if change.kind == "raised" or entry.raised_s is None else entry.raised_s
            began_s = wall_s if change.since is None else wall_s - (entry.track.seen_at - change.since)
            since_s = entry.since_s or began_s
            remind_s = wall_s + self._settings.remind_after_s if change.level == "critical" else None
            self._entries[key] = replace(
                entry, raised_s=raised_s, since_s=since_s, muted_by=mute, remind_s=remind_s, told=change.level
            )
        return Transition(
            kind=change.kind, rule=rule, device=key[1], level=change.level, value=change.value,
            threshold=change.threshold, since_s=since_s, muted_by=mute, was=was, gone=gone,
        )  # fmt: skip

    def _later(self, wall_s: float, orders: Orders, changed: set[tuple[str, str]]) -> list[Transition]:
        """Alerts whose silence or inhibition has ended, and critical ones that nobody acknowledged."""
        found: list[Transition] = []
        rules = {rule.id: rule for rule in self._rules}
        for key, entry in list(self._entries.items()):
            if not entry.active or key in changed:
                continue
            rule = rules[key[0]]
            mute = self._mute(*key, wall_s, orders)
            kind: Told | None = None
            remind_s = entry.remind_s
            if entry.muted_by is not None and mute is None:
                kind = "unmuted"
            elif (
                remind_s is not None and wall_s >= remind_s and mute is None
                and not entry.acknowledged and not entry.track.flapping
            ):  # fmt: skip
                kind = "reminder"
            if kind is not None and remind_s is not None:
                remind_s = wall_s + (
                    self._settings.remind_every_s if kind == "reminder" else self._settings.remind_after_s
                )
            if mute != entry.muted_by or remind_s != entry.remind_s:
                self._entries[key] = replace(entry, muted_by=mute, remind_s=remind_s)
            if kind is not None:
                limit = rule.critical if entry.track.level == "critical" else rule.warning
                found.append(
                    Transition(
                        kind=kind, rule=rule, device=key[1], level=entry.track.level, value=entry.track.value,
                        threshold=None if limit is None else limit.at, since_s=entry.since_s, muted_by=None,
                    )
                )  # fmt: skip
        return found


def after_restart(entries: Iterable[Entry], now: float, *, same_boot: bool) -> list[Entry]:
    """Entries read from a file, fit for the clock of this boot: what is raised stays raised, timers start anew."""
    return [replace(entry, track=_again(entry.track, now, same_boot)) for entry in entries]


def _again(track: Track, now: float, same_boot: bool) -> Track:
    gates = {
        name: Gate(open=gate.open, began=gate.began if same_boot else None, beyond=gate.beyond)
        for name, gate in (("warning", track.warning), ("critical", track.critical))
    }
    if same_boot:
        return replace(track, **gates)
    return replace(track, **gates, turns=(), crossed_at=now, seen_at=now)
