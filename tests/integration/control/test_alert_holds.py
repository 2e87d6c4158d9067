"""A critical alert of a chosen rule closes the intake, its end opens it, and other holders' words stand."""

from __future__ import annotations

import asyncio

import pytest

from appliance.control.alert_holds import AlertHolds
from appliance.control.ledger import hold, read_holds
from bus.connection import Bus
from bus.events import AlertCleared, AlertRaised, UserAction
from bus.stored import Stored
from tests.integration.conftest import NatsBox


def raised(severity: str = "critical", message: str = "memory is running out: 4 %") -> AlertRaised:
    return AlertRaised(alert="mem-available", severity=severity, message=message, rule="mem.available")  # type: ignore[arg-type]


async def holders(bus: Bus) -> list[tuple[str, str, str]]:
    return [(held.holder, held.by, held.reason) for held in await read_holds(bus, "intake")]


async def test_the_intake_is_closed_while_the_alert_is_critical(nats: NatsBox) -> None:
    bus = await nats.bus("dispatcher")
    holds = AlertHolds(bus, ["mem.available"])
    first, worse, over = (
        raised(),
        raised(message="memory is running out: 2 %"),
        AlertCleared(alert="mem-available", message="20 %"),
    )
    held = [("alert-mem-available", "alerts", "memory is running out: 4 %")]
    for fact, expected in ((raised("warning"), []), (first, held), (worse, held), (raised("warning"), [])):
        await bus.publish(fact)
        await holds.follow(fact)
        assert await holders(bus) == expected
    await bus.publish(first)
    await holds.follow(first)
    await hold(bus, "intake", "operator", by="anna", reason="x")
    await bus.publish(over)
    await holds.follow(over)
    assert await holders(bus) == [("operator", "anna", "x")]
    await holds.follow(first)
    assert await holders(bus) == [("operator", "anna", "x")], "a late action looks at what is true now"


async def test_other_rules_and_facts_change_nothing(nats: NatsBox) -> None:
    bus = await nats.bus("dispatcher")
    fact = raised()
    await bus.publish(fact)
    await AlertHolds(bus, ["disk.mount"]).follow(fact)
    await AlertHolds(bus, ["mem.available"]).follow(UserAction(user="x", action="y"))
    assert await bus.read(0, "evt.control.>") == []


async def test_an_end_that_comes_while_the_alert_is_looked_at_leaves_no_hold(
    nats: NatsBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await nats.bus("dispatcher")
    holds = AlertHolds(bus, ["mem.available"])
    first, over = raised(), AlertCleared(alert="mem-available", message="20 %")
    last_facts, ending = bus.last_facts, list[asyncio.Task[None]]()

    async def over_meanwhile(subject_filter: str) -> list[Stored]:
        """The answer is on its way when the alert ends and that is followed, too."""
        answer = await last_facts(subject_filter)
        monkeypatch.setattr(bus, "last_facts", last_facts)
        await bus.publish(over)
        ending.append(asyncio.create_task(holds.follow(over)))
        await asyncio.wait(ending, timeout=0.5)
        return answer

    await bus.publish(first)
    monkeypatch.setattr(bus, "last_facts", over_meanwhile)
    await holds.follow(first)
    await asyncio.gather(*ending)
    assert await holders(bus) == []
