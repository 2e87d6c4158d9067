"""What the guard says of the data volume with each look: telemetry for the screens and for the monitor's rules."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from appliance.storage.levels import Level
from bus.connection import Bus
from bus.streams import TELEMETRY as STREAM

TELEMETRY = "storage"
BOX = "box"
STALE_AFTER = timedelta(seconds=60)
"""A guard that has said nothing for this long is not there (it looks every 20 s at most)."""


class StorageSample(Struct, frozen=True, kw_only=True):
    """Telemetry `tel.storage.box`, with each look: the data volume at one moment."""

    ts: datetime
    total_bytes: int
    free_bytes: int
    promised_bytes: int
    """What open jobs will still need."""
    reserve_bytes: int
    floor_bytes: int
    ballast_bytes: int
    level: Level
    reason: str | None
    """Why intake is closed; None when it is open."""
    exhausted: bool
    """Space is short, and retention may remove nothing more."""


async def latest_storage(bus: Bus, now: datetime) -> StorageSample | None:
    """The guard's last word; None when it has said nothing for a while. Raises `bus.errors.BusError`."""
    replies = await bus.direct_many(STREAM, {"multi_last": [f"tel.{TELEMETRY}.{BOX}"]})
    for reply in replies:
        try:
            sample = msgspec.json.decode(reply.data, type=StorageSample)
        except msgspec.DecodeError:
            continue  # of another version
        if now - sample.ts < STALE_AFTER:
            return sample
    return None
