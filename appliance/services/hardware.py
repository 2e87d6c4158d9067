"""Hardware: the last sample that the monitor of each host sent (`tel.host.<host>`)."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from msgspec import Raw, Struct

from bus.connection import Bus
from bus.errors import UndecodableEvent
from bus.stored import from_reply
from bus.streams import TELEMETRY

STALE_AFTER_S = 10.0
"""A monitor that has said nothing for so long is gone: it samples each second."""
HOST_FILTER = "tel.host.>"


class HostSample(Struct, frozen=True, kw_only=True):
    """What one host's monitor said last."""

    host: str
    sampled_at: datetime
    stale: bool
    sample: Raw
    """As the monitor sent it."""


class Hardware(Struct, frozen=True, kw_only=True):
    """All hosts by name."""

    hosts: list[HostSample]


async def hardware(bus: Bus, now: datetime) -> Hardware | None:
    """None when no monitor has said anything. Raises `bus.errors.BusUnavailable`."""
    replies = await bus.direct_many(TELEMETRY, {"multi_last": [HOST_FILTER]})
    hosts: list[HostSample] = []
    for reply in replies:
        try:
            stored = from_reply(reply)
            msgspec.json.decode(stored.data)
        except (UndecodableEvent, msgspec.DecodeError):
            continue
        sampled_at = stored.stored_at.astimezone(UTC)
        hosts.append(
            HostSample(
                host=stored.subject.removeprefix("tel.host."),
                sampled_at=sampled_at,
                stale=(now - sampled_at).total_seconds() > STALE_AFTER_S,
                sample=Raw(stored.data),
            )
        )
    return Hardware(hosts=sorted(hosts, key=lambda host: host.host)) if hosts else None
