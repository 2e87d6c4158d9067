"""Tells people about alerts and failures, by Apprise, in few messages.

It listens to the stored events, so alerts of other processes are told, too. A message is sent by a child process that
ends with it: Apprise and what it imports cost this process no memory, and one that hangs is killed. While a message is
on its way, or cannot be sent, news are gathered in the bounded grouper.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
import time
from contextlib import suppress

import msgspec

from appliance.alerts.grouping import Grouper, Message, Notice
from appliance.alerts.rules import RANK
from appliance.alerts.send import Order, Outcome
from appliance.alerts.settings import Notify
from appliance.monitor.sample import host_id
from appliance.parent import set_parent_death_signal
from bus import tap
from bus.connection import Bus
from bus.errors import BusError, UndecodableEvent
from bus.events import AlertCleared, AlertRaised, AnyEvent, ClipFailed, JobFailed, ServiceDown

log = logging.getLogger(__name__)
ALERTS = ("evt.alert.>",)
FAILURES = ("evt.job.failed.>", "evt.clip.failed.>", "evt.service.down.>")
TRIES_AFTER_S = (0.0, 5.0, 30.0)
RETRY_S = 2.0
MISSING = "notify.urls is set but the package apprise is missing: nobody is told. Install apprise."


def notice(event: AnyEvent, settings: Notify) -> Notice | None:
    """What to tell about an event; None for what nobody needs to hear."""
    least = RANK[settings.min_severity]
    match event:
        case AlertRaised():
            quiet = event.muted_by is not None or event.transition == "improved"
            if quiet or RANK[event.severity] < least:
                return None
            text = f"{event.severity.upper()}: {event.message}"
            return Notice(noun="alert", group=f"alert {event.rule or event.alert}", severity=event.severity, text=text)
        case AlertCleared():
            severity = event.severity or "warning"
            if event.muted_by is not None or RANK[severity] < least:
                return None
            return Notice(
                noun="all-clear", group=f"over {event.rule or event.alert}", severity="info", text=event.message
            )
        case JobFailed() | ClipFailed():
            what = f"job {event.job}" + ("" if event.clip is None else f" clip {event.clip}")
            text = f"{what} failed at {event.stage}: {event.error}"
            return Notice(noun="failure", group=f"{event.stage} {event.code}", severity="warning", text=text)
        case ServiceDown(on_purpose=False):
            text = f"{event.service} ended: {event.reason} (restart {event.restarts})"
            return Notice(noun="failure", group=f"service {event.service}", severity="warning", text=text)
        case _:
            return None


class Notifier:
    """`run` for the lifetime of the process; returns at once when nobody is to be told."""

    def __init__(self, bus: Bus, settings: Notify) -> None:
        self._bus = bus
        self._settings = settings
        self._grouper = Grouper(host_id(), group_s=settings.group_s, urgent_s=settings.urgent_s)
        self._news = asyncio.Event()
        self.sent = 0
        self.failed = 0

    async def run(self) -> None:
        if not self._settings.urls:
            return
        if await asyncio.to_thread(importlib.util.find_spec, "apprise") is None:
            log.error(MISSING)
            return
        filters = ALERTS + (FAILURES if self._settings.failures else ())
        async with asyncio.TaskGroup() as tasks:
            for subject in filters:
                tasks.create_task(self._listen(subject))
            tasks.create_task(self._send_for_ever())

    async def _listen(self, subject: str) -> None:
        while True:
            with suppress(BusError):
                async for stored in tap.follow(self._bus, subject):
                    with suppress(UndecodableEvent):
                        self.add(stored.event)
            await asyncio.sleep(RETRY_S)

    def add(self, event: AnyEvent) -> None:
        """Take an event in, whatever it is."""
        if (told := notice(event, self._settings)) is not None:
            self._grouper.add(time.monotonic(), told)
            self._news.set()

    async def _send_for_ever(self) -> None:
        while True:
            at = self._grouper.next_at()
            wait_s = None if at is None else at - time.monotonic()
            if wait_s is None or wait_s > 0:
                self._news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), wait_s)
                continue
            if (message := self._grouper.due(time.monotonic())) is not None:
                await self._deliver(message)

    async def _deliver(self, message: Message) -> None:
        """To every address, again to those that failed; then it is given up."""
        left = list(self._settings.urls)
        errors: list[str] = []
        for wait_s in TRIES_AFTER_S:
            await asyncio.sleep(wait_s)
            order = Order(urls=left, title=message.title, body=message.body, severity=message.severity)
            outcomes = await send(order, self._settings.timeout_s)
            left = [url for url, outcome in zip(left, outcomes, strict=True) if not outcome.ok]
            errors = [outcome.error for outcome in outcomes if not outcome.ok]
            if not left:
                self.sent += 1
                return
        self.failed += 1
        log.error("a message could not be sent everywhere", extra={"title": message.title, "errors": errors})


async def send(order: Order, timeout_s: float) -> list[Outcome]:
    """One try by a child process; an outcome an address, in order. Never raises for the sending's sake."""

    def all_failed(error: str) -> list[Outcome]:
        return [Outcome(ok=False, error=error) for _ in order.urls]

    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "appliance.alerts.send",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=set_parent_death_signal, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return all_failed(f"the sender cannot be started: {error}")
    try:
        said, _ = await asyncio.wait_for(process.communicate(msgspec.json.encode(order)), timeout_s)
        outcomes = msgspec.json.decode(said, type=list[Outcome])
    except TimeoutError:
        return all_failed(f"no answer within {timeout_s:g} s")
    except msgspec.DecodeError:
        return all_failed(f"the sender ended with status {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return outcomes if len(outcomes) == len(order.urls) else all_failed("the sender answered something else")
