"""A critical alert of a chosen rule closes the intake, its end opens it, and other holders' words stand."""

from __future__ import annotations

from appliance.control.alert_holds import AlertHolds
from appliance.control.ledger import hold, read_holds
from bus.connection import Bus
from bus.events import AlertCleared, AlertRaised, UserAction
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
