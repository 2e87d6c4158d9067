"""The `alerts` and `notify` sections of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

Limit = Annotated[tuple[float, float], Meta(description="[raise, clear]")]


class RuleChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a configuration says about a rule: only the fields that differ, or a whole new rule with its `signal`."""

    enabled: bool = True
    signal: str | None = None
    says: str | None = None
    warning: Limit | None = None
    critical: Limit | None = None
    for_s: Annotated[float, Meta(ge=0, le=86400)] | None = None
    hold_s: Annotated[float, Meta(ge=0, le=86400)] | None = None


class Alerts(Struct, frozen=True, kw_only=True):
    """When readings become alerts."""

    boot_grace_s: Annotated[
        float,
        Meta(ge=0, le=3600, description="Seconds after the start of machine or box in which nothing is raised."),
    ] = 120.0
    flap_turns: Annotated[
        int,
        Meta(
            ge=2,
            le=20,
            description="Changes of direction (raised, cleared, raised is two) with which an alert counts as "
            "flapping: that is told once and the alert is held until it is calm.",
        ),
    ] = 2
    flap_window_s: Annotated[
        float,
        Meta(ge=60, le=86400, description="Seconds without crossing a threshold after which turns are counted anew."),
    ] = 1800.0
    flap_calm_s: Annotated[
        float,
        Meta(
            ge=1, le=86400, description="Seconds without crossing a threshold after which a flapping alert is released."
        ),
    ] = 1800.0
    remind_after_s: Annotated[
        float,
        Meta(ge=60, le=86400, description="Seconds after which a critical alert that nobody acknowledged is repeated."),
    ] = 1800.0
    remind_every_s: Annotated[
        float, Meta(ge=60, le=604800, description="Seconds between the repetitions after the first.")
    ] = 21600.0
    close_intake: Annotated[
        list[str],
        Meta(
            description="Rules whose critical alert closes the intake until it is over: no new jobs, what runs goes "
            "on. (The data volume's floor closes it by itself, see admission.)"
        ),
    ] = msgspec.field(default_factory=lambda: ["mem.available", "disk.mount", "disk.os.used", "disk.nats.used"])
    rules: Annotated[
        dict[str, RuleChange],
        Meta(
            description="Changes to the table of docs/HARDWARE.md by rule id, and rules of your own. Fields: enabled, "
            "signal, says, warning and critical (each [raise, clear]), for_s and hold_s in seconds. "
            "Example: {disk.data.used: {warning: [80, 75]}}."
        ),
    ] = {}


class Notify(Struct, frozen=True, kw_only=True):
    """Who is told, and how much."""

    urls: Annotated[
        list[Annotated[str, Meta(pattern="^[a-zA-Z0-9+.-]+://")]],
        Meta(
            description="Apprise addresses: ntfy://topic, mailto://user:password@host, json://host/path (a webhook) "
            "and many more. Empty: nobody is told. Needs the package apprise."
        ),
    ] = []
    min_severity: Annotated[
        Literal["info", "warning", "critical"], Meta(description="Alerts below this are not told.")
    ] = "warning"
    failures: Annotated[
        bool, Meta(description="Whether failed jobs and clips and programs that ended are told, too.")
    ] = True
    group_s: Annotated[
        float,
        Meta(ge=1, le=3600, description="Seconds that news are gathered into one message, and least between messages."),
    ] = 60.0
    urgent_s: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds that a critical alert waits for company before it is sent.")
    ] = 5.0
    timeout_s: Annotated[
        float, Meta(ge=1, le=300, description="Seconds that sending a message may take before it is given up.")
    ] = 30.0
