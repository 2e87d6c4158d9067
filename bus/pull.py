"""Taking messages from a durable consumer, one at a time, over one pull subscription.

The pull protocol is spoken directly. The library's `fetch` hides the server's status messages (trap 8: a deleted
consumer looks like "no message") and abandons its pull request when it is cancelled, so that the next message lands in
a dead buffer (trap 6). Here at most one pull request is open, it outlives a cancelled `next()`, and a message that
nobody waits for is given back at once. There is one core subscription for the loop's lifetime (trap 12).
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
from nats.js.api import ConsumerConfig
from nats.js.errors import APIError

from bus.errors import BusUnavailable, Denied, ProvisioningError
from bus.wire import API, Reply, as_reply

if TYPE_CHECKING:
    from bus.connection import Bus

log = logging.getLogger(__name__)

_HEARTBEAT_MAX_S = 3.0
_LOST_AFTER_HEARTBEATS = 2.5
_PULL_GRACE_S = 1.0
_AGAIN_AFTER_S = 0.1
_ACK_ANSWER_S = 1.0
_NS = 1_000_000_000


class _PullRequest(Struct, omit_defaults=True):
    batch: int
    expires: int
    idle_heartbeat: int = 0


class Taken:
    """A message in this process's hands. Heartbeat until it is done, rejected or released."""

    def __init__(self, bus: Bus, reply: Reply) -> None:
        tokens = reply.ack_subject.split(".")  # the form is pinned and proved at start (trap 1)
        self.seq = int(tokens[-4])
        """Place of the message in its stream."""
        self.delivered = int(tokens[-5])
        """How often the server has handed it out; forgotten by a server crash, so never a count of attempts."""
        self.data = reply.data
        self.subject = reply.subject
        self._bus = bus
        self._ack_subject = reply.ack_subject
        self._settled = False

    async def heartbeat(self) -> None:
        """Keeps the message for another `ack_wait`. Does nothing in an outage: the next one may get through."""
        if not self._settled:
            with contextlib.suppress(BusUnavailable):
                await self._bus.wire.publish(self._ack_subject, b"+WPI")

    async def done(self) -> bool:
        """Acknowledges and waits for the server's confirmation.

        False when none came within the answer time, as after a crash in which the server forgot that it had handed
        the message out: then it comes again, where a command loses its compare-and-set. That is harmless, so this
        never raises for the bus's sake.
        """
        if not self._settled:
            with contextlib.suppress(BusUnavailable):
                await self._settle(b"+ACK")
        return self._settled

    async def reject(self, reason: str) -> None:
        """Ends the message for ever; the server's advisory carries the reason. Raises BusUnavailable.

        The library's `term()` takes no reason, the protocol does.
        """
        text = " ".join(reason.split())[:512]
        await self._settle(f"+TERM {text}".encode())

    async def _settle(self, verdict: bytes) -> None:
        async def attempt(timeout_s: float) -> Reply:
            timeout_s = min(timeout_s, _ACK_ANSWER_S)
            return await self._bus.wire.request(self._ack_subject, verdict, timeout_s=timeout_s)

        await self._bus.patiently("acknowledging", attempt, patience_s=self._bus.settings.attempt_s)
        self._settled = True

    async def release(self) -> None:
        """Gives the message back: the next taker gets it at once. In an outage, after `ack_wait`.

        Never with a delay: a delayed message would keep its place in flight (trap 2). Retries are schedules.
        """
        if not self._settled:
            with contextlib.suppress(BusUnavailable):
                await self._bus.wire.publish(self._ack_subject, b"-NAK")
            self._settled = True


class Puller:
    """`async with Puller(bus, stream, consumer) as puller: taken = await puller.next(wait_s)`; one task at a time."""

    def __init__(self, bus: Bus, stream: str, consumer: ConsumerConfig) -> None:
        self._bus = bus
        self._stream = stream
        self._consumer = consumer
        self._fresh_s = float(consumer.ack_wait or 30.0) / 2
        self._inbox = ""
        self._next_subject = f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer.name}"
        self._subscription: Subscription | None = None
        self._messages: deque[tuple[float, Reply]] = deque()
        self._arrived = asyncio.Event()
        self._waiting = False
        self._pulls = 0
        self._pull_open_until = 0.0
        self._last_sign = 0.0
        self._forget_reconnect: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        self._inbox = self._bus.client.new_inbox()
        self._subscription = await self._bus.client.subscribe(f"{self._inbox}.*", cb=self._on_message)
        # Messages come with their own subject, statuses with the inbox's; both on this subscription.
        self._forget_reconnect = self._bus.on_reconnect(self._on_reconnect)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_reconnect()
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._bus.closed:
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
            return  # idle heartbeat: the pull request is alive
        if reply.status is None:
            twice = any(held.status is None for _, held in self._messages)  # two requests, around a reconnect
            unwanted = not self._waiting and self._pull_open_until < self._now()
            if twice or unwanted or self._subscription is None:
                await self._give_back(reply)
                return
        self._messages.append((self._now(), reply))
        self._arrived.set()

    async def _give_back(self, reply: Reply) -> None:
        if reply.status is None and reply.ack_subject:
            with contextlib.suppress(BusUnavailable):
                await self._bus.wire.publish(reply.ack_subject, b"-NAK")

    async def next(self, wait_s: float) -> Taken | None:
        """The next message, or None when none came within `wait_s` (0.1 s to an hour).

        A consumer that is gone is made again. An outage looks like an empty queue: the connection mends itself.
        Raises Denied, ProvisioningError, and BusUnavailable once the connection is closed for good.
        """
        if self._subscription is None:
            raise RuntimeError("take messages inside `async with`")
        deadline = self._now() + min(max(wait_s, 0.1), 3600.0)
        self._waiting = True
        try:
            while True:
                if self._bus.closed:
                    raise BusUnavailable("the bus connection is closed")
                if (denied := self._bus.wire.denied(self._next_subject)) is not None:
                    raise denied
                if (taken := await self._held()) is not None:
                    return taken
                left_s = deadline - self._now()
                if left_s <= 0:
                    return None
                await self._ensure_pull(left_s)
                self._arrived.clear()
                if not self._messages:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(min(left_s, self._silence_s(left_s))):
                            await self._arrived.wait()
        finally:
            self._waiting = False

    async def _held(self) -> Taken | None:
        """The message that has arrived, statuses worked off; None when there is none fresh enough."""
        while self._messages:
            arrived, reply = self._messages.popleft()
            if reply.status is not None:
                await self._on_status(reply)
                continue
            self._pull_open_until = 0.0
            if self._now() - arrived < self._fresh_s:  # an older one may be in other hands by now
                return Taken(self._bus, reply)
        return None

    @staticmethod
    def _heartbeat_s(expires_s: float) -> float:
        # More than half of the expiry is refused by the server (400); for short waits it is not worth it.
        return min(_HEARTBEAT_MAX_S, expires_s / 2.5) if expires_s >= 1.0 else 0.0

    def _silence_s(self, left_s: float) -> float:
        """After this long without a sign the pull request counts as lost."""
        return self._heartbeat_s(left_s) * _LOST_AFTER_HEARTBEATS or left_s

    async def _ensure_pull(self, left_s: float) -> None:
        """Asks for one message unless a request is open and alive."""
        now = self._now()
        if now < self._pull_open_until and now - self._last_sign <= self._silence_s(max(left_s, 1.0)):
            return
        expires_s = max(left_s, 0.05)
        request = _PullRequest(1, int(expires_s * _NS), int(self._heartbeat_s(expires_s) * _NS))
        self._pulls += 1
        try:
            await self._bus.wire.publish(
                self._next_subject, msgspec.json.encode(request), reply=f"{self._inbox}.{self._pulls}"
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
        if reply.status == "503" or (reply.status == "409" and "Consumer Deleted" in reply.description):
            await self._provision()
        elif reply.status not in ("404", "408"):
            log.info("bus: consumer %s answered %s %s", self._consumer.name, reply.status, reply.description)
            await asyncio.sleep(_AGAIN_AFTER_S)  # 409: shutting down, too many waiting …: ask again, not at once

    async def _provision(self) -> None:
        """Makes the consumer again if it is gone. 503 is also what a server that is starting answers.

        Not at once, and 5xx is tried again: the server tells of a deletion before it has removed the consumer's
        folder, which a new one would find (and resume with old state) or lose under its feet (both seen).
        """
        await asyncio.sleep(_AGAIN_AFTER_S)
        try:
            await self._bus.jetstream.add_consumer(self._stream, self._consumer, timeout=2)
        except APIError as error:
            if error.code is None or error.code < 500:
                raise ProvisioningError(
                    f"consumer {self._stream}/{self._consumer.name}: {error.description} ({error.err_code})"
                ) from error
        except (nats.errors.Error, TimeoutError) as error:
            create = f"{API}.CONSUMER.CREATE.{self._stream}.{self._consumer.name}.{self._consumer.filter_subject}"
            if (denied := self._bus.wire.denied(create)) is not None:
                raise Denied(f"consumer {self._consumer.name} is gone, and {denied}") from error
