"""The bus as the appliance uses it: one connection, and everything that may be asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import nats.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from bus.commit import Committed, Expect, commit_once, outgoing, prepare
from bus.consumer import Work
from bus.errors import BusUnavailable, Denied, Retryable, StorageRefused
from bus.events import STAGES, Command, Event, StageName
from bus.feed import Feed, LiveEvent, TelemetrySample, live_event, telemetry_sample
from bus.stored import Stored, from_reply
from bus.streams import DEFAULTS, EVENTS, Limits
from bus.subjects import item_filter, live, pattern, pending_filters, telemetry_subject
from bus.wire import API, DOMAIN, Wire, decode_ack

log = logging.getLogger(__name__)
T = TypeVar("T")

_PING_INTERVAL_S = 5
_RECONNECT_FIRST_S = 0.05
_RECONNECT_MAX_S = 2.0
_FLUSH_ON_CLOSE_S = 0.3
_TELEMETRY_QUEUE = 256
_VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE)


class BusSettings(Struct, frozen=True, kw_only=True):
    """How to reach the bus. The password never shows in a representation."""

    url: str
    user: str
    password: str
    name: str = "appliance"
    """What the server's connection list shows."""
    attempt_s: float = 3.0
    """Wait for one answer."""
    patience_s: float = 15.0
    """Repeat a call with the same ids for this long before BusUnavailable; covers a restart of nats-server."""

    def __repr__(self) -> str:
        return f"BusSettings(url={self.url!r}, user={self.user!r}, name={self.name!r})"


class StreamState(Struct, frozen=True):
    """The stream of facts and commands at one moment."""

    epoch: str
    """When the stream was created; sequences of another epoch mean nothing here."""
    first_seq: int
    last_seq: int
    bytes: int
    messages: int


class QueueDepth(Struct, frozen=True):
    """A stage's queue."""

    pending: int
    """Commands that no worker has yet."""
    in_flight: int
    redelivered: int
    oldest_s: float | None
    """Age of the oldest pending command, None when there is none."""


class _State(Struct):
    first_seq: int
    last_seq: int
    bytes: int
    messages: int


class _StreamInfo(Struct):
    created: str
    state: _State


class _Delivered(Struct):
    stream_seq: int = 0


class _ConsumerInfo(Struct):
    num_pending: int = 0
    num_ack_pending: int = 0
    num_redelivered: int = 0
    delivered: _Delivered = msgspec.field(default_factory=_Delivered)


class Bus:
    """A connection to the bus. `async with await Bus.connect(settings) as bus:`

    Reconnects for ever, with a growing delay. Every call is bounded by the settings' patience and ends in
    BusUnavailable when its outcome is unknown; calling again with the same messages is always safe.
    `client` and `wire` are for the modules of this package.
    """

    def __init__(self, settings: BusSettings) -> None:
        self.settings = settings
        self.client = Client()
        inbox = f"_INBOX_{settings.user}"
        self.wire = Wire(self.client, f"{inbox}.{random.getrandbits(64):016x}")
        self._inbox = inbox
        self._connected = asyncio.Event()
        self._closed = asyncio.Event()
        self._closing = False
        self._fatal: asyncio.Future[None] | None = None
        self._failed_tries = 0
        self._feeds: set[Feed[Any]] = set()
        self._on_reconnect: set[Callable[[], None]] = set()
        self._telemetry: deque[tuple[str, bytes]] = deque(maxlen=_TELEMETRY_QUEUE)
        self._telemetry_waits = asyncio.Event()
        self._telemetry_task: asyncio.Task[None] | None = None
        self.telemetry_dropped = 0
        self.reconnects = 0

    # -- the connection ---------------------------------------------------------------------------------------------

    @classmethod
    async def connect(cls, settings: BusSettings, *, timeout_s: float = 10.0) -> Bus:
        """A connected bus. Raises BusUnavailable after `timeout_s` without a server, Denied for bad credentials."""
        bus = cls(settings)
        try:
            await bus._open(timeout_s)
        except BaseException:
            await bus.close()
            raise
        return bus

    async def _open(self, timeout_s: float) -> None:
        self._fatal = asyncio.get_running_loop().create_future()
        # Endless tries make the library's first connect endless too (trap 5), hence the limit around it.
        opening = asyncio.ensure_future(
            self.client.connect(
                self.settings.url,
                name=self.settings.name,
                user=self.settings.user,
                password=self.settings.password,
                inbox_prefix=self._inbox,
                connect_timeout=2,
                reconnect_time_wait=0.1,  # type: ignore[arg-type]  # any number works
                reconnect_to_server_handler=self._next_try,
                max_reconnect_attempts=-1,
                ping_interval=_PING_INTERVAL_S,
                max_outstanding_pings=2,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
            )
        )
        await asyncio.wait({opening, self._fatal}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError, nats.errors.Error, OSError):
                await opening
            if self._fatal.done():
                raise Denied(f"the bus at {self.settings.url} refused user {self.settings.user!r}: wrong password?")
            raise BusUnavailable(f"no bus at {self.settings.url} within {timeout_s:g} s: is nats-server running?")
        opening.result()
        await self.wire.start()
        self._connected.set()
        self._telemetry_task = asyncio.create_task(self._send_telemetry(), name="bus-telemetry")

    async def close(self) -> None:
        """Ends the connection within a second. Not a drain: that waits on idle subscriptions for ever (trap 3)."""
        self._closing = True
        if self._telemetry_task is not None:
            self._telemetry_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telemetry_task
            self._telemetry_task = None
        if self.client.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(_FLUSH_ON_CLOSE_S):
                    await self.client.flush()
        with contextlib.suppress(nats.errors.Error, OSError):
            await self.client.close()
        await self._on_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        return self.client.is_connected

    @property
    def closed(self) -> bool:
        """True after `close()`, and when the server ended the connection for good: then end the process."""
        return self._closed.is_set()

    async def wait_closed(self) -> None:
        """Returns when the connection is closed for good. A service awaits it and ends: it cannot work without."""
        await self._closed.wait()

    @property
    def jetstream(self) -> JetStreamContext:
        """The client library's context in our domain, for provisioning."""
        return self.client.jetstream(domain=DOMAIN)

    @property
    def server_version(self) -> tuple[int, int, int]:
        version = self.client.connected_server_version
        return (version.major, version.minor, version.patch)

    def on_reconnect(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls `callback` after each reconnect; the returned function ends that."""
        self._on_reconnect.add(callback)
        return lambda: self._on_reconnect.discard(callback)

    def _next_try(self, servers: object, info: object) -> tuple[None, float]:
        delay = min(_RECONNECT_MAX_S, _RECONNECT_FIRST_S * 2**self._failed_tries)
        self._failed_tries = min(self._failed_tries + 1, 16)
        return None, delay * random.uniform(0.7, 1.3)  # noqa: S311 - jitter

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, nats.errors.AuthorizationError):
            if self._fatal is not None and not self._fatal.done():
                self._fatal.set_result(None)
            log.error("bus: user %s refused by %s", self.settings.user, self.settings.url)
            return
        violation = _VIOLATION.search(str(error))
        if violation is not None:
            kind, subject = violation.groups()
            verb = "publish" if kind.lower() == "publish" else "subscribe to"
            denied = Denied(f"user {self.settings.user!r} may not {verb} {subject}")
            if not self.wire.deny(denied, subject):
                log.error("bus: %s", denied)
            return
        if not self._closing:
            log.debug("bus: %s", error)

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        self.wire.fail(BusUnavailable("the bus connection was lost before the answer"))
        if not self._closing:
            log.warning("bus: connection to %s lost, reconnecting", self.settings.url)

    async def _on_reconnected(self) -> None:
        self._failed_tries = 0
        self.reconnects += 1
        self._connected.set()
        log.info("bus: connected again to %s", self.settings.url)
        for feed in self._feeds:
            feed.reconnects += 1
        for callback in tuple(self._on_reconnect):
            callback()

    async def _on_closed(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._connected.clear()
        self.wire.fail(BusUnavailable("the bus connection is closed"))
        for feed in self._feeds:
            feed.end()
        if not self._closing:
            log.critical("bus: connection to %s closed for good: %s", self.settings.url, self.client.last_error)

    # -- calls that may be repeated -----------------------------------------------------------------------------------

    async def _patiently(self, what: str, call: Callable[[float], Awaitable[T]]) -> T:
        """Repeats `call(timeout_s)` on Retryable refusals until patience ends. For idempotent calls only."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.settings.patience_s
        pause_s = 0.02
        while True:
            left = deadline - clock()
            try:
                if self.closed or self._closing:
                    raise BusUnavailable(f"{what}: the bus connection is closed")
                async with asyncio.timeout(max(left, 0.001)):
                    await self._connected.wait()
                return await call(min(self.settings.attempt_s, max(left, 0.05)))
            except StorageRefused:
                raise
            except (Retryable, TimeoutError) as error:
                if self.closed or self._closing or clock() + pause_s >= deadline:
                    raise BusUnavailable(f"{what}: outcome unknown after {self.settings.patience_s:g} s") from error
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.5)

    async def api(self, verb: str, body: Any = None) -> bytes:
        """The answer to a JetStream API call, `STREAM.INFO.EVENTS`. It is repeated: idempotent verbs only."""
        return await self._patiently(verb, lambda timeout_s: self.wire.api(f"{API}.{verb}", body, timeout_s=timeout_s))

    # -- storing ------------------------------------------------------------------------------------------------------

    async def publish(self, event: Event) -> int:
        """Stores one fact unconditionally and returns its sequence; once, however often it is called with one event.

        Raises BusUnavailable (outcome unknown: call again), StorageRefused, Denied, ValueError for unfit ids.
        """
        message = outgoing(event)

        async def attempt(timeout_s: float) -> int:
            reply = await self.wire.request(
                message.subject, message.data, headers=dict(message.headers), timeout_s=timeout_s
            )
            return decode_ack(reply.data, message.subject).seq

        return await self._patiently(message.subject, attempt)

    async def commit(self, messages: Sequence[Event | Command], expect: Expect | None = None) -> Committed:
        """Stores all of `messages` (1 to 1000) or none, in order, if `expect` holds.

        Commands with `not_before` become message schedules inside the same batch. The first message must match
        `expect.filter`. Safe to repeat with the same messages: what is already stored counts as success.

        Raises Stale (somebody else wrote first), Duplicate, BusUnavailable (outcome unknown: call again),
        StorageRefused, Denied, ValueError for a commit that is not one.
        """
        prepared = prepare(messages, expect)
        return await self._patiently(
            prepared[0].subject,
            lambda timeout_s: commit_once(self.wire, prepared, expect, self._first_after, timeout_s),
        )

    async def purge_commands(self, job: str) -> int:
        """Removes queued and scheduled commands of a job and its clips; how many. Commands in work are not touched."""
        removed = 0
        for subject in pending_filters(job):
            answer = await self.api(f"STREAM.PURGE.{EVENTS}", {"filter": subject})
            removed += int(msgspec.json.decode(answer).get("purged", 0))
        return removed

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _direct_get(self, stream: str, query: dict[str, Any]) -> Stored | None:
        body = msgspec.json.encode(query)

        async def attempt(timeout_s: float) -> Stored | None:
            reply = await self.wire.request(f"{API}.DIRECT.GET.{stream}", body, timeout_s=timeout_s)
            return None if reply.status == "404" else from_reply(reply)

        return await self._patiently(f"reading {stream}", attempt)

    async def _first_after(self, subject_filter: str, seq: int) -> Stored | None:
        return await self._direct_get(EVENTS, {"seq": seq + 1, "next_by_subj": subject_filter})

    async def last_fact(self, job: str, clip: int | None = None) -> Stored | None:
        """The last fact of a job (its own, not its clips') or of one clip; None when there is none."""
        return await self._direct_get(EVENTS, {"last_by_subj": item_filter(job, clip)})

    async def get(self, seq: int, stream: str = EVENTS) -> Stored | None:
        """The message at `seq`, None when it is gone or never was."""
        return await self._direct_get(stream, {"seq": seq}) if seq > 0 else None

    async def read(
        self, after_seq: int, subject_filter: str = "evt.>", max_messages: int = 256, stream: str = EVENTS
    ) -> list[Stored]:
        """Up to `max_messages` (1 to 1024) stored messages that match, in order, after `after_seq`; [] at the end."""
        query = {"seq": after_seq + 1, "next_by_subj": subject_filter, "batch": max_messages}
        body = msgspec.json.encode(query)

        async def attempt(timeout_s: float) -> list[Stored]:
            replies, _ = await self.wire.request_many(f"{API}.DIRECT.GET.{stream}", body, timeout_s=timeout_s)
            return [from_reply(reply) for reply in replies]

        return await self._patiently(f"reading {stream}", attempt)

    async def stream_state(self, stream: str = EVENTS) -> StreamState:
        """Where the stream stands. Raises BusUnavailable."""
        info = msgspec.json.decode(await self.api(f"STREAM.INFO.{stream}"), type=_StreamInfo)
        state = info.state
        return StreamState(info.created, state.first_seq, state.last_seq, state.bytes, state.messages)

    async def queue_depths(self) -> dict[StageName, QueueDepth]:
        """Each stage's queue."""
        depths = await asyncio.gather(*(self._queue_depth(stage) for stage in STAGES))
        return dict(zip(STAGES, depths, strict=True))

    async def _queue_depth(self, stage: StageName) -> QueueDepth:
        info = msgspec.json.decode(await self.api(f"CONSUMER.INFO.{EVENTS}.{stage}"), type=_ConsumerInfo)
        oldest_s = None
        if info.num_pending:
            oldest = await self._first_after(f"cmd.{stage}.>", info.delivered.stream_seq)
            if oldest is not None:
                oldest_s = max(0.0, (datetime.now(UTC) - oldest.stored_at).total_seconds())
        return QueueDepth(info.num_pending, info.num_ack_pending, info.num_redelivered, oldest_s)

    # -- working, live feeds, telemetry -------------------------------------------------------------------------------

    def work(self, stage: StageName, limits: Limits = DEFAULTS) -> Work:
        """The stage's commands, one at a time: `async with bus.work(stage) as work: await work.next(wait_s)`."""
        return Work(self, stage, limits)

    def live(self, subject_filter: str = "evt.>", *, max_items: int = 4096) -> Feed[LiveEvent]:
        """Facts as they are stored (`evt.…` filter), from now on. See `bus.feed.Feed`."""
        return Feed(self.client, live(subject_filter), live_event, max_items, self._feeds)

    def telemetry_feed(self, subject_filter: str = "tel.>", *, max_items: int = 1024) -> Feed[TelemetrySample]:
        """Telemetry as it is sent (`tel.…` filter), from now on."""
        return Feed(self.client, pattern(subject_filter), telemetry_sample, max_items, self._feeds)

    def telemetry(self, what: str, ident: str, sample: Any) -> None:
        """Sends a telemetry sample some time soon. Never waits, never raises for the bus's sake.

        In an outage and beyond 256 unsent samples the oldest are dropped and counted in `telemetry_dropped`.
        Call it on the event loop's thread. Raises ValueError when `what` or `ident` cannot be part of a subject.
        """
        if not self.client.is_connected:
            self.telemetry_dropped += 1
            return
        if len(self._telemetry) == _TELEMETRY_QUEUE:
            self.telemetry_dropped += 1
        self._telemetry.append((telemetry_subject(what, ident), msgspec.json.encode(sample)))
        self._telemetry_waits.set()

    async def _send_telemetry(self) -> None:
        while True:
            await self._telemetry_waits.wait()
            self._telemetry_waits.clear()
            while self._telemetry:
                subject, data = self._telemetry.popleft()
                try:
                    await self.wire.publish(subject, data)
                except Exception:  # noqa: BLE001 - telemetry must never hurt anything
                    self.telemetry_dropped += 1
