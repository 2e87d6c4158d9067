"""Taking work: one stage's commands, one at a time, over one pull subscription for a worker's lifetime.

The pull protocol is spoken directly. The library's `fetch` hides the server's status messages (trap 8: a deleted
consumer looks like "no message") and abandons its pull request when it is cancelled, so that the next command lands in
a dead buffer (trap 6). Here at most one pull request is open, it outlives a cancelled `next()`, and a command that
nobody waits for is given back at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.errors import APIError

from bus.errors import BusUnavailable, Denied, ProvisioningError, UndecodableEvent
from bus.events import Command, StageName, decode_command
from bus.streams import EVENTS, Limits, stage_consumer
from bus.wire import API, Reply, Wire, as_reply

if TYPE_CHECKING:
    from bus.connection import Bus

log = logging.getLogger(__name__)

_HEARTBEAT_MAX_S = 3.0
_LOST_AFTER_HEARTBEATS = 2.5
_PULL_GRACE_S = 1.0
_NS = 1_000_000_000


class _Pull(Struct, omit_defaults=True):
    batch: int
    expires: int
    idle_heartbeat: int = 0


class Delivery:
    """A command in this worker's hands. Heartbeat until it is done, rejected or released."""

    def __init__(self, wire: Wire, reply: Reply, command: Command, attempt_s: float) -> None:
        tokens = reply.ack_subject.split(".")
        self.command = command
        self.seq = int(tokens[-4])
        """Place of the command in the stream."""
        self.delivered = int(tokens[-5])
        """How often the server has handed it out; forgotten by a server crash, so never a count of attempts."""
        self._wire = wire
        self._ack_subject = reply.ack_subject
        self._attempt_s = attempt_s
        self._settled = False

    async def heartbeat(self) -> None:
        """Keeps the command for another `ack_wait`. Does nothing in an outage: the next one may get through."""
        if not self._settled:
            with contextlib.suppress(BusUnavailable):
                await self._wire.publish(self._ack_subject, b"+WPI")

    async def done(self) -> bool:
        """Acknowledges and waits for the server's confirmation.

        False when none came, also after a repeat: the command will come again and lose its compare-and-set, which is
        harmless; so this never raises for the bus's sake.
        """
        for _ in range(2):
            try:
                await self._wire.request(self._ack_subject, b"+ACK", timeout_s=self._attempt_s)
            except BusUnavailable:
                continue
            self._settled = True
            return True
        return False

    async def reject(self, reason: str) -> None:
        """Ends the command for ever with a reason that the dead-letter advisory carries. Raises BusUnavailable."""
        text = " ".join(reason.split())[:512]
        await self._wire.request(self._ack_subject, f"+TERM {text}".encode(), timeout_s=self._attempt_s)
        self._settled = True

    async def release(self) -> None:
        """Gives the command back: another worker gets it at once. In an outage, after `ack_wait`."""
        if not self._settled:
            with contextlib.suppress(BusUnavailable):
                await self._wire.publish(self._ack_subject, b"-NAK")
            self._settled = True


class Work:
    """`async with bus.work(stage) as work: delivery = await work.next(wait_s)`; for one task at a time."""

    def __init__(self, bus: Bus, stage: StageName, limits: Limits) -> None:
        self._bus = bus
        self._client = bus.client
        self._wire = bus.wire
        self._stage: StageName = stage
        self._limits = limits
        self._inbox = ""
        self._next_subject = f"{API}.CONSUMER.MSG.NEXT.{EVENTS}.{stage}"
        self._subscription: Subscription | None = None
        self._messages: deque[tuple[float, Reply]] = deque()
        self._arrived = asyncio.Event()
        self._waiting = False
        self._pulls = 0
        self._pull_open_until = 0.0
        self._last_sign = 0.0
        self._unsubscribe_reconnect: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._on_message)
        self._unsubscribe_reconnect = self._bus.on_reconnect(self._on_reconnect)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unsubscribe_reconnect()
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._client.is_closed:
            # Without interest in the inbox the server drops the open pull request by itself.
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()
        while self._messages:
            await self._give_back(self._messages.popleft()[1])

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _on_reconnect(self) -> None:
        self._pull_open_until = 0.0  # the server may have died with our pull request
        self._arrived.set()

    async def _on_message(self, message: Msg) -> None:
        reply = as_reply(message)
        self._last_sign = self._now()
        if reply.status == "100":
            return
        if reply.status is None and self._messages and any(m.status is None for _, m in self._messages):
            await self._give_back(reply)  # two pull requests were answered after a reconnect: one command is enough
            return
        if reply.status is None and not self._waiting and self._pull_open_until < self._now():
            await self._give_back(reply)  # answers a request that we had given up; nobody may come for it in time
            return
        self._messages.append((self._now(), reply))
        self._arrived.set()

    async def _give_back(self, reply: Reply) -> None:
        if reply.status is None and reply.ack_subject:
            with contextlib.suppress(BusUnavailable):
                await self._wire.publish(reply.ack_subject, b"-NAK")

    async def next(self, wait_s: float) -> Delivery | None:
        """The next command, or None when none came within `wait_s` (0.1 s to an hour).

        A consumer that is gone is made again; commands that cannot be read are rejected and skipped. Returns None,
        and not an error, in an outage: the connection mends itself. Raises Denied, ProvisioningError, BusUnavailable
        once the connection is closed for good.
        """
        if self._subscription is None:
            raise RuntimeError("use: async with bus.work(stage) as work")
        deadline = self._now() + min(max(wait_s, 0.1), 3600.0)
        self._waiting = True
        try:
            while True:
                if self._bus.closed:
                    raise BusUnavailable("the bus connection is closed")
                while self._messages:
                    arrived, reply = self._messages.popleft()
                    if reply.status is not None:
                        await self._on_status(reply)
                    elif self._now() - arrived < self._limits.ack_wait_s / 2:
                        self._pull_open_until = 0.0
                        if (delivery := await self._open(reply)) is not None:
                            return delivery
                left_s = deadline - self._now()
                if left_s <= 0:
                    return None
                await self._ensure_pull(left_s)
                self._arrived.clear()
                if not self._messages:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(min(left_s, self._patience_s(left_s))):
                            await self._arrived.wait()
        finally:
            self._waiting = False

    def _heartbeat_s(self, expires_s: float) -> float:
        # More than half of the expiry is refused by the server (400); below 0.1 s it is not worth it.
        return min(_HEARTBEAT_MAX_S, expires_s / 2.5) if expires_s >= 1.0 else 0.0

    def _patience_s(self, left_s: float) -> float:
        heartbeat_s = self._heartbeat_s(left_s)
        return heartbeat_s * _LOST_AFTER_HEARTBEATS if heartbeat_s else left_s

    async def _ensure_pull(self, left_s: float) -> None:
        """Asks for one command unless a request is open and alive."""
        now = self._now()
        silent = now - self._last_sign > self._patience_s(max(left_s, 1.0))
        if now < self._pull_open_until and not silent:
            return
        expires_s = max(left_s, 0.05)
        pull = _Pull(1, int(expires_s * _NS), int(self._heartbeat_s(expires_s) * _NS))
        self._pulls += 1
        try:
            await self._wire.publish(
                self._next_subject, msgspec.json.encode(pull), reply=f"{self._inbox}.{self._pulls}"
            )
        except BusUnavailable:
            self._pull_open_until = 0.0
            return  # the reconnect wakes us
        self._pull_open_until = now + expires_s + _PULL_GRACE_S
        self._last_sign = now

    async def _on_status(self, reply: Reply) -> None:
        if reply.subject != f"{self._inbox}.{self._pulls}":
            return  # of an earlier request
        self._pull_open_until = 0.0
        gone = reply.status == "503" or (reply.status == "409" and "Consumer Deleted" in reply.description)
        if gone:
            await self._provision()
        elif reply.status not in ("404", "408"):
            log.info("bus: %s consumer answered %s %s", self._stage, reply.status, reply.description)
            await asyncio.sleep(0.1)  # 409: server shutting down, too many waiting requests … ask again, not at once

    async def _provision(self) -> None:
        """Makes the stage's consumer again if it is gone. 503 is also what a starting server answers."""
        try:
            await self._bus.jetstream.add_consumer(EVENTS, stage_consumer(self._stage, self._limits), timeout=2)
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
            await asyncio.sleep(0.1)
        except APIError as error:
            if error.code == 503:
                await asyncio.sleep(0.1)
                return
            raise ProvisioningError(f"consumer {self._stage}: {error.description} ({error.err_code})") from error
        except nats.errors.Error as error:
            await asyncio.sleep(0.1)
            log.info("bus: consumer %s not made again yet: %s", self._stage, error)

    async def _open(self, reply: Reply) -> Delivery | None:
        attempt_s = self._bus.settings.attempt_s
        try:
            return Delivery(self._wire, reply, decode_command(reply.data), attempt_s)
        except UndecodableEvent as error:
            unreadable = Delivery(self._wire, reply, _NO_COMMAND, attempt_s)
            log.warning("bus: rejecting message %d of the %s stage: %s", unreadable.seq, self._stage, error)
            with contextlib.suppress(BusUnavailable, Denied):
                await unreadable.reject(f"undecodable command: {error}")
            return None


_NO_COMMAND = Command(stage="download", job="-")
