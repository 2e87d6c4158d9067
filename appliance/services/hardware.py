"""Hardware: the last sample of each host's monitor, and whether it still speaks."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from appliance.monitor.latest import HostView, latest
from bus.connection import Bus


class Hardware(Struct, frozen=True, kw_only=True):
    """All hosts by name."""

    hosts: list[HostView]


async def hardware(bus: Bus, now: datetime) -> Hardware | None:
    """None when no monitor has said anything within the telemetry's hour. Raises `bus.errors.BusError`."""
    hosts = await latest(bus, now)
    return Hardware(hosts=hosts) if hosts else None
