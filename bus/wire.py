"""Requests on one NATS connection: replies, time-outs and refusals as our own errors.

One wildcard inbox serves all requests of a connection. Unlike the client library's own `request`, a lost connection
ends the waiting requests at once (their outcome is unknown) and a permission violation, which the server reports apart
from the request, fails the request it belongs to (trap 13: otherwise the caller sees only a time-out).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.msg import Msg

from bus.client import Client
from bus.errors import BusError, BusUnavailable, Denied, Permanent, Retryable, Stale, StorageRefused
from bus.headers import DESCRIPTION, STATUS, parsed

ERR_STREAM_NOT_FOUND = 10059
ERR_CONSUMER_NOT_FOUND = 10014
ERR_WRONG_LAST_SEQUENCE = (10071, 10164)
ERR_WRONG_LAST_MSG_ID = 10070
ERR_DUPLICATE_IN_BATCH = 10201
_ERR_STORAGE = (10023, 10047, 10077)
_ERR_RETRY = (10008, ERR_CONSUMER_NOT_FOUND, ERR_STREAM_NOT_FOUND, 10176, 10210)
"""JetStream not ready; not provisioned (yet, or again); a batch that lost a message on the way; too many open batches.
Nothing was stored."""


DOMAIN = "box"
"""JetStream domain, set from the first day so that leaf nodes can join later."""
API = f"$JS.{DOMAIN}.API"
_MAX_DENIED = 64


class ApiRefusal(Struct, frozen=True):
    """The error object of a JetStream answer."""

    code: int
    err_code: int = 0
    description: str = ""


class Refused(Permanent):
    """A JetStream answer that is an error and has no class of its own; `.refusal` tells which."""

    def __init__(self, message: str, refusal: ApiRefusal) -> None:
        super().__init__(message)
        self.refusal = refusal


class RefusedForNow(Retryable):
    """The server cannot do it at the moment (starting up, batch lost on the way): nothing was stored."""


class _Envelope(Struct, frozen=True):
    error: ApiRefusal | None = None


class PubAck(Struct, frozen=True):
    """The answer to a stored message. For a batch, `seq` is the last message's and `count` their number."""

    seq: int = 0
    stream: str = ""
    duplicate: bool = False
    count: int = 1


class Reply(Struct, frozen=True):
    """One message that came back."""

    subject: str
    headers: Mapping[str, str]
    data: bytes
    ack_subject: str = ""

    @property
    def status(self) -> str | None:
        """The inline status (`404`, `408`, `503` …), None for a message with content."""
        return self.headers.get(STATUS)

    @property
    def description(self) -> str:
        return str(self.headers.get(DESCRIPTION, ""))


def as_reply(message: Msg) -> Reply:
    """The client library's message as ours."""
    return Reply(message.subject, message.headers or {}, bytes(message.data), message.reply or "")


_envelope = msgspec.json.Decoder(_Envelope)
_puback = msgspec.json.Decoder(PubAck)


def raise_refusal(refusal: ApiRefusal, what: str) -> NoReturn:
    """Raises the error of our tree that belongs to a JetStream error object."""
    text = f"{what}: {refusal.description} (code {refusal.err_code or refusal.code})"
    if refusal.err_code in ERR_WRONG_LAST_SEQUENCE:
        last = refusal.description.rpartition(":")[2].strip()
        raise Stale(text, int(last) if last.isdigit() else None)
    if refusal.err_code in _ERR_STORAGE:
        raise StorageRefused(f"{text}; free disk space or raise the bus limits, then restart the bus")
    if refusal.err_code in _ERR_RETRY:
        raise RefusedForNow(text)
    raise Refused(text, refusal)


def decode_ack(data: bytes, what: str) -> PubAck:
    """The PubAck in `data`. Raises like `raise_refusal` when it is an error, Refused when it is neither."""
    try:
        envelope = _envelope.decode(data)
        if envelope.error is not None:
            raise_refusal(envelope.error, what)
        return _puback.decode(data)
    except msgspec.DecodeError as error:
        raise Refused(f"{what}: unreadable answer {data[:80]!r}", ApiRefusal(500)) from error


def _as_judged(subject: str) -> str:
    """How a permission violation names `subject`: without the domain, and in lower case by the client library."""
    return subject.replace(f"{API}.", "$JS.API.", 1).lower()


class _Waiter:
    """One request in flight: its subject (for denials), the replies so far, the future of the last one."""

    __slots__ = ("future", "many", "replies", "subject")

    def __init__(self, subject: str, many: bool) -> None:
        self.subject = subject
        self.many = many
        self.replies: list[Reply] = []
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def expire(self, after_s: float) -> None:
        if not self.future.done():
            self.future.set_exception(BusUnavailable(f"no answer on {self.subject} within {after_s:g} s"))


class Wire:
    """Requests over `client`, with replies on `<inbox>.<n>`."""

    def __init__(self, client: Client, inbox: str) -> None:
        self._client = client
        self._inbox = inbox
        self._numbers = itertools.count()
        self._waiting: dict[str, _Waiter] = {}
        self._denied: dict[str, Denied] = {}

    async def start(self) -> None:
        """Subscribes the inbox. The client subscribes it again after each reconnect."""
        await self._client.hand_over(f"{self._inbox}.*", self._on_reply)

    def _on_reply(self, subject: str, ack_subject: str, headers: bytes, data: bytes) -> None:
        waiter = self._waiting.get(subject)
        if waiter is None or waiter.future.done():
            return
        reply = Reply(subject, parsed(headers) if headers else {}, data, ack_subject)
        if waiter.many and reply.status is None:
            waiter.replies.append(reply)
        else:
            waiter.future.set_result(reply)

    def fail(self, error: BusError) -> None:
        """Ends all requests in flight with `error`."""
        for waiter in self._waiting.values():
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def deny(self, error: Denied, subject: str) -> bool:
        """The server refused messages on `subject`; True when a request in flight was ended by that."""
        subject = _as_judged(subject)
        if len(self._denied) >= _MAX_DENIED:
            del self._denied[next(iter(self._denied))]
        self._denied[subject] = error
        hit = False
        for waiter in self._waiting.values():
            if _as_judged(waiter.subject) == subject and not waiter.future.done():
                waiter.future.set_exception(error)
                hit = True
        return hit

    def forget_denials(self) -> None:
        """After a reconnect: the server's permissions may be others now."""
        self._denied.clear()

    def denied(self, subject: str) -> Denied | None:
        """The refusal of an earlier message on `subject`, for those that asked for no answer."""
        return self._denied.get(_as_judged(subject))

    async def publish(
        self, subject: str, data: bytes, *, headers: dict[str, str] | None = None, reply: str = ""
    ) -> None:
        """Hands a message to the connection. Raises BusUnavailable when there is none; never buffers in an outage."""
        if not self._client.is_connected:
            raise BusUnavailable(f"not connected to the bus, {subject} was not sent")
        try:
            await self._client.publish(subject, data, headers=headers, reply=reply)
        except nats.errors.MaxPayloadError as error:
            raise Refused(
                f"{subject}: {len(data)} bytes are more than the bus takes ({self._client.max_payload}); "
                "put large content into a file and send its path",
                ApiRefusal(400),
            ) from error
        except (nats.errors.Error, OSError) as error:
            raise BusUnavailable(f"{subject} could not be sent: {error}") from error

    async def request(
        self, subject: str, data: bytes = b"", *, headers: dict[str, str] | None = None, timeout_s: float
    ) -> Reply:
        """The first reply to `data` on `subject`.

        Raises BusUnavailable after `timeout_s`, on a lost connection or when nobody answers there (outcome unknown),
        Denied when this user may not publish it.
        """
        waiter = _Waiter(subject, many=False)
        return await self._roundtrip(waiter, data, headers, timeout_s)

    async def request_many(self, subject: str, data: bytes, *, timeout_s: float) -> tuple[list[Reply], Reply]:
        """Replies with content up to the closing status message, and that message. Raises like `request`."""
        waiter = _Waiter(subject, many=True)
        end = await self._roundtrip(waiter, data, None, timeout_s)
        return waiter.replies, end

    async def _roundtrip(self, waiter: _Waiter, data: bytes, headers: dict[str, str] | None, timeout_s: float) -> Reply:
        inbox = f"{self._inbox}.{next(self._numbers)}"
        self._waiting[inbox] = waiter
        alarm = asyncio.get_running_loop().call_later(timeout_s, waiter.expire, timeout_s)
        try:
            await self.publish(waiter.subject, data, headers=headers, reply=inbox)
            reply = await waiter.future
        finally:
            alarm.cancel()
            del self._waiting[inbox]
            if waiter.future.done() and not waiter.future.cancelled():
                waiter.future.exception()  # a failure that nobody waited for must not be logged as lost
        if reply.status == "503":
            raise BusUnavailable(f"nobody serves {waiter.subject} (yet)")
        return reply

    async def api(self, subject: str, body: Any = None, *, timeout_s: float) -> bytes:
        """A JetStream API call; the answer's JSON. Raises like `request`, and for an error answer its error."""
        data = b"" if body is None else msgspec.json.encode(body)
        reply = await self.request(subject, data, timeout_s=timeout_s)
        envelope = _envelope.decode(reply.data)
        if envelope.error is not None:
            if envelope.error.code == 403:
                raise Denied(f"{subject}: {envelope.error.description}")
            raise_refusal(envelope.error, subject)
        return reply.data
