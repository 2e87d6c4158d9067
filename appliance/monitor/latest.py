"""The latest sample and alerts of every machine, read from the telemetry stream."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from msgspec import Struct

from appliance.monitor.sample import ALERTS_TELEMETRY, TELEMETRY, ActiveAlert, ActiveAlerts, Sample
from bus.connection import Bus
from bus.streams import TELEMETRY as STREAM
from bus.wire import Reply

STALE_AFTER_S = 10.0
"""A monitor that has not sent for this long (and three of its intervals) is dead or cut off."""
T = TypeVar("T", bound=Struct)


class HostView(Struct, frozen=True, kw_only=True):
    """A machine as it was last heard of."""

    sample: Sample
    age_s: float
    stale: bool
    alerts: list[ActiveAlert]


async def latest(bus: Bus, now: datetime | None = None) -> list[HostView]:
    """Every machine that has sent a sample within the telemetry's hour, by name. Raises BusUnavailable, Denied."""
    replies = await bus.direct_many(STREAM, {"multi_last": [f"tel.{TELEMETRY}.>", f"tel.{ALERTS_TELEMETRY}.>"]})
    at = datetime.now(UTC) if now is None else now
    alerts = {told.host: told.alerts for told in _all(replies, ALERTS_TELEMETRY, ActiveAlerts)}
    views = []
    for sample in _all(replies, TELEMETRY, Sample):
        age_s = max(0.0, (at - sample.ts).total_seconds())
        stale = age_s > max(STALE_AFTER_S, 3 * sample.interval_s)
        views.append(HostView(sample=sample, age_s=round(age_s, 1), stale=stale, alerts=alerts.get(sample.host, [])))
    return sorted(views, key=lambda view: view.sample.host)


def _all(replies: list[Reply], what: str, kind: type[T]) -> list[T]:
    found = []
    for reply in replies:
        if reply.headers.get("Nats-Subject", "").startswith(f"tel.{what}."):
            try:
                found.append(msgspec.json.decode(reply.data, type=kind))
            except msgspec.DecodeError:
                continue  # of another version
    return found
