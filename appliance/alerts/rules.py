"""The alert rules as data: the default table, and what a configuration makes of it.

A rule compares one signal (see `appliance.alerts.signals`) of each device with a raise and a clear threshold. Sources:
research on peers' defaults (Netdata's health.d, Glances, Frigate) adapted to this box; docs/HARDWARE.md shows the table
and a test compares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from appliance.alerts.settings import RuleChange
from appliance.alerts.signals import SIGNALS

Level = Literal["ok", "info", "warning", "critical"]
Severity = Literal["info", "warning", "critical"]
RANK: dict[Level, int] = {"ok": 0, "info": 1, "warning": 2, "critical": 3}
HOST = "host"
"""The device of signals of which a machine has one."""
_ID = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*\Z")


class Threshold(Struct, frozen=True, array_like=True):
    """Raised at `at` or beyond, cleared at `clear` or on its other side; `at` above `clear` means: high is bad."""

    at: float
    clear: float


class Rule(Struct, frozen=True, kw_only=True):
    """One row of the table. `warning` raises with `severity`, `critical` with critical."""

    id: str
    signal: str
    says: str
    """The condition in words, without device and value."""
    do: str = ""
    """What a person may do, a sentence."""
    warning: Threshold | None = None
    severity: Literal["info", "warning"] = "warning"
    critical: Threshold | None = None
    for_s: float = 0.0
    """A condition must hold this long before it is raised."""
    hold_s: float = 0.0
    """It must stay away this long before it is cleared."""
    latched: bool = False
    """Stays raised until somebody acknowledges it."""
    inhibits: tuple[str, ...] = ()
    """While raised, these rules tell nobody about the same device: one cause, one message."""

    @property
    def high_is_bad(self) -> bool:
        limit = self.warning or self.critical
        return limit is not None and limit.at > limit.clear


Limits = tuple[float, float] | None

TABLE: tuple[tuple[str, str, Limits, Limits, float, float], ...] = (
    # rule and signal   condition in words                              warning     critical     for s  hold s
    #                                                                   raise clear raise clear
    ("disk.data.used",  "the data volume is full",                      (85, 80),   None,           60,    600),
    ("disk.data.floor", "the data volume's reserve is used up",         (2, 2.5),   (1, 1.25),      30,    300),
    ("disk.data.ttf",   "the data volume will soon be full",            (12, 24),   (2, 6),        600,   1800),
    ("disk.os.used",    "the system volume is full",                    (85, 80),   (95, 90),       60,    900),
    ("disk.nats.used",  "the bus's volume is full",                     (85, 80),   (95, 90),       60,    900),
    ("disk.inodes",     "the volume's inodes are used up",              (90, 80),   (98, 90),       60,    900),
    ("disk.mount",      "the data folder is gone or read-only",         None,       (1, 0),          0,     60),
    ("disk.wear",       "the disk is worn out",                         (90, 89),   (100, 99),       0,      0),
    ("cpu.pressure",    "work waits for the processor",                 (60, 40),   None,          600,    600),
    ("cpu.iowait",      "the processor waits for disks",                (40, 20),   None,         1800,   1800),
    ("mem.available",   "memory is running out",                        (10, 15),   (5, 8),         60,    600),
    ("mem.oom",         "the kernel killed a process to get memory",    None,       (1, 0),          0,      0),
    ("gpu.mem",         "the GPU's memory is full",                     (92, 85),   (98, 93),      120,    300),
    ("gpu.temp",        "the GPU is near its slowdown temperature",     (-10, -15), (-3, -8),       60,    300),
    ("gpu.throttle",    "heat or the power brake slow the GPU",         (10, 0),    (50, 10),       60,    600),
    ("gpu.xid",         "the GPU's driver reported an error (XID)",     None,       (1, 0),          0,      0),
    ("gpu.ecc_unc",     "the GPU's memory had an uncorrectable error",  None,       (1, 0),          0,      0),
    ("gpu.row_remap",   "the GPU retired or remapped memory",           None,       (1, 0),          0,      0),
    ("gpu.lost",        "the GPU does not answer",                      None,       (1, 0),         15,     60),
    ("gpu.starved",     "the GPU is idle while work waits for it",      (600, 10),  (1800, 10),      0,    120),
    ("gpu.enc",         "the GPU's encoder is saturated",               (95, 85),   None,          600,    600),
    ("gpu.dec",         "the GPU's decoder is saturated",               (95, 85),   None,          600,    600),
    ("monitor.blind",   "readings are overdue",                         (3, 2),     (60, 2),         0,     30),
    ("clock.sync",      "the clock is not synchronised",                (1, 0),     None,           60,    300),
    ("bus.events.used", "the event stream nears its cap",               (80, 70),   (90, 80),       60,    600),
)  # fmt: skip

INFO = frozenset({"cpu.pressure", "cpu.iowait", "clock.sync"})
"""Their warning is an information: a busy encoder is healthy, and a virtual machine may have its time from the host."""
LATCHED = frozenset({"disk.wear", "mem.oom", "gpu.xid", "gpu.ecc_unc", "gpu.row_remap"})
"""Raised by something that has happened: `appliance alerts ack` clears them."""
INHIBITS: dict[str, tuple[str, ...]] = {
    "disk.data.floor": ("disk.data.used", "disk.data.ttf"),
    "gpu.lost": ("gpu.mem", "gpu.temp", "gpu.throttle", "gpu.starved", "gpu.enc", "gpu.dec"),
}
ADVICE: dict[str, str] = {
    "disk.data.used": "Delete jobs or clips, or give the volume more room.",
    "disk.data.floor": "Delete jobs or clips, or give the volume more room.",
    "disk.data.ttf": "Delete jobs or clips, or give the volume more room.",
    "disk.os.used": "Free space on /.",
    "disk.nats.used": "Free space on the volume of data/nats.",
    "disk.inodes": "Delete what consists of many small files.",
    "disk.mount": "Mount the volume again and restart the box.",
    "disk.wear": "Replace the disk, then acknowledge.",
    "mem.available": "Lower workers.*.min or add memory.",
    "mem.oom": "The kernel's log names the process.",
    "gpu.mem": "Run fewer workers that use the card.",
    "gpu.temp": "Look at fans, dust and room temperature.",
    "gpu.throttle": "Look at cooling and power supply.",
    "gpu.xid": "The kernel's log has the details; reset a card that repeats it.",
    "gpu.ecc_unc": "Reset the card; replace it when it happens again.",
    "gpu.row_remap": "Reset the card; replace it when it happens again.",
    "gpu.lost": "Look at driver and power; reset the card or reboot.",
    "gpu.starved": "A worker may be stuck: see `appliance workers`.",
    "monitor.blind": "The monitor's log has the reason.",
    "clock.sync": "Set up NTP.",
    "bus.events.used": "Raise bus.max_bytes.",
}


def _default(name: str, says: str, warning: Limits, critical: Limits, for_s: float, hold_s: float) -> Rule:
    return Rule(
        id=name,
        signal=name,
        says=says,
        do=ADVICE.get(name, ""),
        warning=None if warning is None else Threshold(*warning),
        severity="info" if name in INFO else "warning",
        critical=None if critical is None else Threshold(*critical),
        for_s=for_s,
        hold_s=hold_s,
        latched=name in LATCHED,
        inhibits=INHIBITS.get(name, ()),
    )


DEFAULT_RULES: tuple[Rule, ...] = tuple(_default(*row) for row in TABLE)


def problems(changes: Mapping[str, RuleChange]) -> list[tuple[str, str]]:
    """What is wrong with a configuration's rules: rule id, and what to write instead."""
    found: list[tuple[str, str]] = []
    known = {rule.id for rule in DEFAULT_RULES}
    for name, change in changes.items():
        if not _ID.match(name):
            found.append((name, "a rule id is words of a-z, 0-9 and _ joined by dots"))
            continue
        if change.signal is not None and change.signal not in SIGNALS:
            found.append((name, f"no signal {change.signal!r}; known: {', '.join(sorted(SIGNALS))}"))
        if name not in known:
            if change.signal is None:
                found.append((name, f"no such rule; a new one needs a signal. Rules: {', '.join(sorted(known))}"))
            if change.warning is None and change.critical is None:
                found.append((name, "a new rule needs warning or critical, as [raise, clear]"))
        elif change.signal is not None:
            found.append((name, "this rule's signal is fixed; write a rule with a name of its own"))
    if not found:
        found += [(rule.id, wrong) for rule in rules_with(changes) if (wrong := _inconsistent(rule))]
    return found


def _inconsistent(rule: Rule) -> str | None:
    limits = [limit for limit in (rule.warning, rule.critical) if limit is not None]
    if any(limit.at == limit.clear for limit in limits):
        return "raise and clear are equal: they need a distance, or the alert flutters"
    if len({limit.at > limit.clear for limit in limits}) > 1:
        return "warning and critical point in different directions"
    if rule.warning is not None and rule.critical is not None:
        worse = rule.critical.at > rule.warning.at if rule.high_is_bad else rule.critical.at < rule.warning.at
        if not worse:
            return "critical is raised before warning: swap the thresholds"
    return None


def rules_with(changes: Mapping[str, RuleChange]) -> tuple[Rule, ...]:
    """The default table with a configuration's changes (free of `problems`), disabled rules left out."""
    rules = {rule.id: rule for rule in DEFAULT_RULES}
    for name, change in changes.items():
        if not change.enabled:
            rules.pop(name, None)
            continue
        old = rules.get(name)
        if old is None:
            old = Rule(id=name, signal=change.signal or name, says=change.says or f"{change.signal} is out of range")
        fields: dict[str, object] = {}
        for field in ("says", "for_s", "hold_s"):
            if (value := getattr(change, field)) is not None:
                fields[field] = value
        for field in ("warning", "critical"):
            if (limit := getattr(change, field)) is not None:
                fields[field] = Threshold(*limit)
        rules[name] = msgspec.structs.replace(old, **fields)
    return tuple(rules.values())


def alert_id(rule: str, device: str) -> str:
    """The stable id of rule and device: lower-case letters, digits and `-`."""
    name = rule if device == HOST else f"{rule}-{device}"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
