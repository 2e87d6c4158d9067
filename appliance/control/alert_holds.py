"""Alerts that close the intake: while one of the chosen rules is critical, no new jobs are taken; what runs goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from appliance.control.ledger import hold, read_holds, release
from bus.connection import Bus
from bus.errors import UndecodableEvent
from bus.events import AlertCleared, AlertRaised, Event

BY = "alerts"


class AlertHolds:
    """`follow` is the action of the event table. `rules`: ids of the rules whose critical alerts close the intake."""

    def __init__(self, bus: Bus, rules: Collection[str]) -> None:
        self._bus = bus
        self._rules = frozenset(rules)
        self._one_at_a_time = asyncio.Lock()

    async def follow(self, event: Event) -> None:
        """Hold or release for the alert as it is now, which may not be as `event` says. Raises `bus.errors.Retryable`.

        A hold is said once: what the alert's message says later changes nothing. One of a rule that is not chosen any
        more is released by the alert's next fact.
        """
        if not isinstance(event, AlertRaised | AlertCleared):
            return
        async with self._one_at_a_time:  # what an older look has found must not be said after a newer one
            await self._follow(event.alert)

    async def _follow(self, alert: str) -> None:
        holder = f"alert-{alert}"
        last = await self._last(alert)
        critical = isinstance(last, AlertRaised) and last.severity == "critical" and last.rule in self._rules
        if not critical:
            await release(self._bus, "intake", holder, by=BY, reason="the alert is over")
        elif not any(held.holder == holder for held in await read_holds(self._bus, "intake")):
            assert isinstance(last, AlertRaised)
            await hold(self._bus, "intake", holder, by=BY, reason=last.message)

    async def _last(self, alert: str) -> Event | None:
        for stored in reversed(await self._bus.last_facts(f"evt.alert.*.{alert}")):
            try:
                return stored.event
            except UndecodableEvent:
                continue
        return None
