"""Hardware: the last sample of each host's monitor, and whether it still speaks; the data volume, by its guard."""

from __future__ import annotations

import asyncio
from datetime import datetime

from msgspec import Struct

from appliance.monitor.latest import HostView, latest
from appliance.storage.sample import StorageSample, latest_storage
from bus.connection import Bus


class Hardware(Struct, frozen=True, kw_only=True):
    """All hosts by name."""

    hosts: list[HostView]
    storage: StorageSample | None
    """The data volume as admission and retention see it; None when the dispatcher does not speak."""


async def hardware(bus: Bus, now: datetime) -> Hardware | None:
    """None when neither monitor nor guard has said anything of late. Raises `bus.errors.BusError`."""
    hosts, storage = await asyncio.gather(latest(bus, now), latest_storage(bus, now))
    return Hardware(hosts=hosts, storage=storage) if hosts or storage else None
