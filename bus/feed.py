"""Live feeds: core subscriptions with a bounded queue. What a feed misses is counted; the stream has it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

import nats.errors
from msgspec import Struct
from nats.aio.subscription import Subscription

from bus.client import Taker
from bus.errors import BusUnavailable, UndecodableEvent
from bus.headers import parsed
from bus.stored import Stored, from_headers

LiveEvent = Stored
"""A fact as the server repeats it after storing it: `.seq`, `.subject`, `.data`, `.event`."""


class TelemetrySample(Struct, frozen=True):
    """One telemetry message: `tel.<what>.<id>` and its JSON."""

    subject: str
    data: bytes


if TYPE_CHECKING:
    from bus.link import Link

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Convert(Protocol[T_co]):
    def __call__(self, subject: str, headers: bytes, data: bytes, /) -> T_co: ...


def telemetry_sample(subject: str, headers: bytes, data: bytes) -> TelemetrySample:
    """A telemetry message as it came."""
    return TelemetrySample(subject, data)


def live_event(subject: str, headers: bytes, data: bytes) -> LiveEvent:
    """A repeated fact as it came. Raises UndecodableEvent when it carries no stream position."""
    return from_headers(subject, parsed(headers), data)


class Listener(Generic[T]):
    """`async with listener:` hands each item of a subject filter to `deliver` at once, in order, without a queue.

    For those who pass items on and keep none: `deliver` must return at once and never raise. What an outage swallows
    is not told (see `Bus.on_disconnect` and `on_reconnect`); the stream has it.
    """

    def __init__(self, link: Link, subject: str, convert: _Convert[T], deliver: Callable[[T], None]) -> None:
        self._link = link
        self._subject = subject
        self._convert = convert
        self._deliver = deliver
        self._subscription: Subscription | None = None
        self.unreadable = 0

    async def __aenter__(self) -> Self:
        """Raises Denied when this user may not read there, BusUnavailable without a connection."""
        self._subscription = await _subscribe(self._link, self._subject, self._on_message)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subscription, self._subscription = self._subscription, None
        await _unsubscribe(self._link, subscription)

    def _on_message(self, subject: str, _reply: str, headers: bytes, data: bytes) -> None:
        try:
            item = self._convert(subject, headers, data)
        except UndecodableEvent:
            self.unreadable += 1
            return
        self._deliver(item)


async def _subscribe(link: Link, subject: str, on_message: Taker) -> Subscription:
    """A subscription that the server knows of. Raises Denied, BusUnavailable."""
    subscription = await link.client.hand_over(subject, on_message)

    async def confirm(timeout_s: float) -> None:
        """A round trip, after which the server knows our interest or has refused it."""
        await link.settle(timeout_s)
        if (denied := link.wire.denied(subject)) is not None:
            raise denied

    try:
        await link.patiently(f"subscribing {subject}", confirm)
    except BaseException:
        await _unsubscribe(link, subscription)
        raise
    return subscription


async def _unsubscribe(link: Link, subscription: Subscription | None) -> None:
    if subscription is not None and not link.closed:
        with contextlib.suppress(nats.errors.Error, OSError):
            await subscription.unsubscribe()


class Feed(Generic[T]):
    """`async with feed: async for item in feed:` from a subject filter.

    When the reader is slower than the bus the oldest item is dropped and counted in `dropped`; `reconnects` counts
    the outages in which items may have been missed. The stream has them all: read it from the last sequence seen.
    """

    def __init__(self, link: Link, subject: str, convert: _Convert[T], max_items: int) -> None:
        self._link = link
        self._subject = subject
        self._convert = convert
        self._items: asyncio.Queue[T | None] = asyncio.Queue(max_items)
        self._subscription: Subscription | None = None
        self._ended = False
        self.dropped = 0
        self.unreadable = 0
        self.reconnects = 0

    async def __aenter__(self) -> Self:
        """Raises Denied when this user may not read there, BusUnavailable without a connection."""
        self._link.feeds.add(self)
        try:
            self._subscription = await _subscribe(self._link, self._subject, self._on_message)
        except BaseException:
            self._link.feeds.discard(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.feeds.discard(self)
        subscription, self._subscription = self._subscription, None
        await _unsubscribe(self._link, subscription)

    def end(self) -> None:
        """The connection is closed for good: readers stop after what is queued."""
        self._ended = True
        self._put(None)

    def _put(self, item: T | None) -> None:
        if self._items.full():
            self._items.get_nowait()
            self.dropped += 1
        self._items.put_nowait(item)

    def _on_message(self, subject: str, _reply: str, headers: bytes, data: bytes) -> None:
        try:
            self._put(self._convert(subject, headers, data))
        except UndecodableEvent:
            self.unreadable += 1

    async def next(self, wait_s: float) -> T | None:
        """The next item, or None when none came within `wait_s`. Raises BusUnavailable once the bus is closed."""
        if self._ended and self._items.empty():
            raise BusUnavailable("the bus connection is closed")
        try:
            async with asyncio.timeout(wait_s):
                item = await self._items.get()
        except TimeoutError:
            return None
        if item is None:
            raise BusUnavailable("the bus connection is closed")
        return item

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._ended and self._items.empty():
            raise StopAsyncIteration
        item = await self._items.get()
        if item is None:
            raise StopAsyncIteration
        return item
