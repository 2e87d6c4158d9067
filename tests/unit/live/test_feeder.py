"""How the feed becomes whole again, over a bus that is nothing but its answers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

from appliance.face import WebSocket
from bus.connection import Bus
from bus.stored import Stored
from tests.unit.appliance import facts
from tests.unit.live.wires import stored
from web.live.feeder import Feeder
from web.live.hub import Hub


class FakeBus:
    """One stream after the other."""

    def __init__(self) -> None:
        self.reconnects = 0
        self.connected = True
        self.epoch = "e1"
        self.facts: list[Stored] = []

    async def stream_state(self) -> Any:
        last = self.facts[-1].seq if self.facts else 0
        return SimpleNamespace(epoch=self.epoch, first_seq=1, last_seq=last)

    async def read(self, after: int, filter_: str, limit: int) -> list[Stored]:
        await asyncio.sleep(0)
        return [one for one in self.facts if one.seq > after][:limit]


async def whole(feeder: Feeder) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            await feeder._make_whole()
    return feeder._whole


async def test_what_was_noted_of_a_stream_that_is_gone_does_not_hold_up_the_next_one() -> None:
    bus = FakeBus()
    hub = Hub(WebSocket())
    feeder = Feeder(cast(Bus, bus), hub, 30.0)
    bus.facts = [stored(900, facts.created("a"))]
    feeder._on_fact(bus.facts[0])
    assert await whole(feeder)
    feeder._on_disconnect()
    bus.reconnects, bus.epoch, bus.facts = 1, "e2", [stored(1, facts.created("a"))]
    assert await whole(feeder), "a younger stream is shorter"
    assert (hub.epoch, hub.seq) == ("e2", 1)


async def test_what_is_noted_while_the_stream_is_read_is_waited_for() -> None:
    bus = FakeBus()
    hub = Hub(WebSocket())
    feeder = Feeder(cast(Bus, bus), hub, 30.0)
    late = stored(2, facts.started("a", "download"))

    async def read(after: int, filter_: str, limit: int) -> list[Stored]:
        page = await FakeBus.read(bus, after, filter_, limit)
        if late not in bus.facts:
            bus.facts.append(late)
            feeder._on_fact(late)
        return page

    bus.read = read  # type: ignore[method-assign]
    bus.facts = [stored(1, facts.created("a"))]
    assert await whole(feeder)
    assert hub.seq == 2
