"""The bus as the appliance uses it: everything that may be asked of one connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Self

import msgspec
from msgspec import Struct

from bus.commit import Committed, Expect, Outgoing, check, commit_once, outgoing, prepare
from bus.consumer import Work
from bus.errors import BusUnavailable, Stale
from bus.events import STAGES, Command, Event, StageName
from bus.feed import Feed, Listener, LiveEvent, TelemetrySample, live_event, telemetry_sample
from bus.link import BusSettings, Link
from bus.stored import Stored, from_reply
from bus.streams import DEFAULTS, EVENTS, Limits
from bus.subjects import item, item_filter, live, pattern, pending_filters, telemetry_subject
from bus.wire import API, Reply, decode_ack

__all__ = ["Bus", "BusSettings", "QueueDepth", "QueuePlace", "StreamState"]

_TELEMETRY_QUEUE = 256
_TELEMETRY_STOPS_BYTES = 512 * 1024


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


class QueuePlace(Struct, frozen=True):
    """Where the last command of an item stands in its stage's queue."""

    ahead: int
    """Commands before it that no worker has yet."""
    delivered: bool
    """A worker has, or had, it."""


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
    num_ack_pending: int = 0
    num_redelivered: int = 0
    delivered: _Delivered = msgspec.field(default_factory=_Delivered)


class Bus(Link):
    """A connection to the bus. `async with await Bus.connect(settings) as bus:`

    Every call is bounded by the settings' patience and ends in BusUnavailable when its outcome is unknown; calling
    again with the same messages is always safe.
    """

    def __init__(self, settings: BusSettings) -> None:
        super().__init__(settings)
        self._telemetry: deque[tuple[str, bytes]] = deque(maxlen=_TELEMETRY_QUEUE)
        self._telemetry_waits = asyncio.Event()
        self._telemetry_task: asyncio.Task[None] | None = None
        self.telemetry_dropped = 0

    @classmethod
    async def connect(cls, settings: BusSettings, *, timeout_s: float = 10.0) -> Self:
        """A connected bus. Raises BusUnavailable after `timeout_s` without a server, Denied for bad credentials."""
        bus = cls(settings)
        try:
            await bus.open(timeout_s)
        except BaseException:
            await bus.close()
            raise
        bus._telemetry_task = asyncio.create_task(bus._send_telemetry(), name="bus-telemetry")
        return bus

    async def close(self) -> None:
        """Ends the connection within a second."""
        task, self._telemetry_task = self._telemetry_task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await super().close()

    # -- storing ------------------------------------------------------------------------------------------------------

    async def publish(self, event: Event) -> int:
        """Stores one fact unconditionally and returns its sequence; once, however often it is called with one event.

        Raises BusUnavailable (outcome unknown: call again), StorageRefused, Denied, ValueError for unfit ids.
        """
        message = outgoing(event)
        return await self.store(message.subject, message.data, message.headers)

    async def store(self, subject: str, data: bytes, headers: dict[str, str]) -> int:
        """Stores one message and returns its sequence. It is repeated: the headers must carry a message id."""

        async def attempt(timeout_s: float) -> int:
            reply = await self.wire.request(subject, data, headers=dict(headers), timeout_s=timeout_s)
            return decode_ack(reply.data, subject).seq

        return await self.patiently(subject, attempt)

    async def commit(self, messages: Sequence[Event | Command], expect: Expect | None = None) -> Committed:
        """Stores all of `messages` (1 to 1000) or none, in order, if `expect` holds.

        Commands with `not_before` become message schedules inside the same batch. The first message must match
        `expect.filter`. Safe to repeat with the same messages: what is already stored counts as success.

        Raises Stale (somebody else wrote first), Duplicate, BusUnavailable (outcome unknown: call again),
        StorageRefused, Denied, ValueError for a commit that is not one.
        """
        prepared = prepare(messages, expect)
        return await self.patiently(
            prepared[0].subject,
            lambda timeout_s: commit_once(self.wire, prepared, expect, self._first_after, timeout_s),
        )

    async def queue(self, command: Command, after: Expect) -> bool:
        """Stores one command while `after` holds, which may speak of facts; False when it holds no longer.

        Within the duplicate window a command's id is stored once, whoever stores it. Raises as `publish`.
        """
        message = outgoing(command)
        try:
            await self.store(message.subject, message.data, message.headers | after.headers())
        except Stale:
            return False
        return True

    async def store_again(self, messages: Sequence[Outgoing]) -> Committed:
        """Stores what was stored before, byte for byte, all of it (1 to 1000 messages) or none, in order.

        Raises as `commit`, but never Stale.
        """
        check(messages)
        return await self.patiently(
            messages[0].subject,
            lambda timeout_s: commit_once(self.wire, messages, None, self._first_after, timeout_s),
        )

    async def purge_commands(self, job: str, before_seq: int) -> int:
        """Removes queued and scheduled commands of a job and its clips that were stored before `before_seq`; how many.

        Commands in work are not touched.
        """
        removed = 0
        for subject in pending_filters(job):
            answer = await self.api(f"STREAM.PURGE.{EVENTS}", {"filter": subject, "seq": before_seq})
            removed += int(msgspec.json.decode(answer).get("purged", 0))
        return removed

    # -- reading ------------------------------------------------------------------------------------------------------

    async def _direct_get(self, stream: str, query: dict[str, Any]) -> Stored | None:
        body = msgspec.json.encode(query)

        async def attempt(timeout_s: float) -> Stored | None:
            reply = await self.wire.request(f"{API}.DIRECT.GET.{stream}", body, timeout_s=timeout_s)
            return None if reply.status == "404" else from_reply(reply)

        return await self.patiently(f"reading {stream}", attempt)

    async def _first_after(self, subject_filter: str, seq: int) -> Stored | None:
        return await self._direct_get(EVENTS, {"seq": seq + 1, "next_by_subj": subject_filter})

    async def last_fact(self, job: str, clip: int | None = None) -> Stored | None:
        """The last fact of a job (its own, not its clips') or of one clip; None when there is none."""
        return await self._direct_get(EVENTS, {"last_by_subj": item_filter(job, clip)})

    async def last_facts(self, subject_filter: str) -> list[Stored]:
        """The last fact on each subject that matches, in stream order. Raises BusUnavailable."""
        replies = await self.direct_many(EVENTS, {"multi_last": [subject_filter]})
        return sorted((from_reply(reply) for reply in replies), key=lambda stored: stored.seq)

    async def get(self, seq: int, stream: str = EVENTS) -> Stored | None:
        """The message at `seq`, None when it is gone or never was."""
        return await self._direct_get(stream, {"seq": seq}) if seq > 0 else None

    async def direct_many(self, stream: str, query: dict[str, Any]) -> list[Reply]:
        """The messages that a direct get with several results answers, as they are."""
        body = msgspec.json.encode(query)

        async def attempt(timeout_s: float) -> list[Reply]:
            replies, end = await self.wire.request_many(f"{API}.DIRECT.GET.{stream}", body, timeout_s=timeout_s)
            if end.status not in ("204", "404"):
                raise BusUnavailable(f"reading {stream}: {end.status} {end.description}")
            return replies

        return await self.patiently(f"reading {stream}", attempt)

    async def read(
        self, after_seq: int, subject_filter: str = "evt.>", max_messages: int = 256, stream: str = EVENTS
    ) -> list[Stored]:
        """Up to `max_messages` (1 to 1024) stored messages that match, in order, after `after_seq`; [] at the end."""
        query = {"seq": after_seq + 1, "next_by_subj": subject_filter, "batch": max_messages}
        return [from_reply(reply) for reply in await self.direct_many(stream, query)]

    async def first_since(self, subject_filter: str, since: datetime) -> Stored | None:
        """The first message that matches and was stored at `since` (with time zone) or later."""
        query = {"start_time": since.astimezone(UTC).isoformat(), "next_by_subj": subject_filter, "batch": 1}
        replies = await self.direct_many(EVENTS, query)
        return from_reply(replies[0]) if replies else None

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
        # The consumer's own num_pending still counts purged commands (tried on 2.15.1): count what is stored.
        query = {"seq": info.delivered.stream_seq + 1, "next_by_subj": f"cmd.{stage}.>", "batch": 1}
        replies = await self.direct_many(EVENTS, query)
        if not replies:
            return QueueDepth(0, info.num_ack_pending, info.num_redelivered, None)
        pending = 1 + int(replies[0].headers.get("Nats-Num-Pending", 0))
        age_s = (datetime.now(UTC) - from_reply(replies[0]).stored_at).total_seconds()
        return QueueDepth(pending, info.num_ack_pending, info.num_redelivered, max(0.0, age_s))

    async def queue_place(self, stage: StageName, job: str, clip: int | None = None) -> QueuePlace | None:
        """Where the item waits for the stage; None when nothing is queued for it."""
        subject = f"cmd.{stage}.{item(job, clip)}"
        last = await self._direct_get(EVENTS, {"last_by_subj": subject})
        if last is None:
            return None
        info = msgspec.json.decode(await self.api(f"CONSUMER.INFO.{EVENTS}.{stage}"), type=_ConsumerInfo)
        if last.seq <= info.delivered.stream_seq:
            return QueuePlace(0, delivered=True)
        queued = [await self._count_from(seq, f"cmd.{stage}.>") for seq in (info.delivered.stream_seq + 1, last.seq)]
        return QueuePlace(queued[0] - queued[1], delivered=False)

    async def _count_from(self, seq: int, subject_filter: str) -> int:
        """How many messages match at `seq` and after."""
        replies = await self.direct_many(EVENTS, {"seq": seq, "next_by_subj": subject_filter, "batch": 1})
        return 1 + int(replies[0].headers.get("Nats-Num-Pending", 0)) if replies else 0

    # -- working, live feeds, telemetry -------------------------------------------------------------------------------

    def work(self, stage: StageName, limits: Limits = DEFAULTS) -> Work:
        """The stage's commands, one at a time: `async with bus.work(stage) as work: await work.next(wait_s)`."""
        return Work(self, stage, limits)

    def live(self, subject_filter: str = "evt.>", *, max_items: int = 4096) -> Feed[LiveEvent]:
        """Facts as they are stored (`evt.…` filter), from now on. See `bus.feed.Feed`."""
        return Feed(self, live(subject_filter), live_event, max_items)

    def telemetry_feed(self, subject_filter: str = "tel.>", *, max_items: int = 1024) -> Feed[TelemetrySample]:
        """Telemetry as it is sent (`tel.…` filter), from now on."""
        return Feed(self, pattern(subject_filter), telemetry_sample, max_items)

    def listen(self, subject_filter: str, deliver: Callable[[LiveEvent], None]) -> Listener[LiveEvent]:
        """Facts as they are stored, handed to `deliver` the moment they arrive. See `bus.feed.Listener`."""
        return Listener(self, live(subject_filter), live_event, deliver)

    def listen_telemetry(
        self, subject_filter: str, deliver: Callable[[TelemetrySample], None]
    ) -> Listener[TelemetrySample]:
        """Telemetry, handed to `deliver` the moment it arrives."""
        return Listener(self, pattern(subject_filter), telemetry_sample, deliver)

    def telemetry(self, what: str, ident: str, sample: Any) -> None:
        """Sends a telemetry sample some time soon. Never waits, never raises for the bus's sake.

        In an outage and beyond 256 unsent samples the oldest are dropped and counted in `telemetry_dropped`.
        Call it on the event loop's thread. Raises ValueError when `what` or `ident` cannot be part of a subject.
        """
        if not self.client.is_connected or self.client.pending_data_size > _TELEMETRY_STOPS_BYTES:
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
