"""What the log says already, so that nothing is said twice: by a restart, or by two who noticed the same."""

from __future__ import annotations

import asyncio
import logging

from appliance.dispatcher.table import row_of
from bus.connection import Bus
from bus.errors import Permanent, Retryable, UndecodableEvent
from bus.events import AlertCleared, AlertRaised, Event
from bus.stored import Stored

log = logging.getLogger(__name__)
SOURCE = "dispatcher"
AGAIN_S = 0.5
MAX_UNSAID = 64


async def last_said(bus: Bus, subject_filter: str) -> list[Stored]:
    """The last readable fact on each subject that matches, in stream order. Raises `bus.errors.Retryable`."""
    found = []
    for stored in await bus.last_facts(subject_filter):
        try:
            row_of(stored.event)
        except UndecodableEvent:
            continue
        found.append(stored)
    return found


async def say_alert(bus: Bus, fact: AlertRaised | AlertCleared) -> None:
    """Publish it, unless it is what the alert's last fact says. Raises `bus.errors.Retryable`."""
    said = await last_said(bus, f"evt.alert.*.{fact.alert}")
    is_raised = bool(said) and isinstance(said[-1].event, AlertRaised)
    if is_raised != isinstance(fact, AlertRaised):
        await bus.publish(fact)


class Announcer:
    """Facts from places that cannot wait: `say` returns at once, `serve` publishes them in order.

    Of more than `MAX_UNSAID` in an outage the oldest are dropped: they are reports, not work.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._unsaid: asyncio.Queue[Event] = asyncio.Queue(MAX_UNSAID)

    def say(self, fact: Event) -> None:
        if self._unsaid.full():
            self._unsaid.get_nowait()
        self._unsaid.put_nowait(fact)

    async def serve(self) -> None:
        while True:
            fact = await self._unsaid.get()
            while True:
                try:
                    await self._bus.publish(fact)
                    break
                except Retryable:
                    await asyncio.sleep(AGAIN_S)
                except Permanent:
                    log.exception("could not say %s", fact)
                    break
