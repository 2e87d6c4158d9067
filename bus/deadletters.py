"""Dead letters: work that was given up, with all that is needed to look into it and to try again.

Two ways lead here. A worker that gives up after its last attempt publishes the dead letter itself. And the server
stops delivering a command that was terminated, or that came back `max_deliver` times: it says so in an advisory, a
plain message that only names the sequence; the DLQ stream captures those, and `AdvisoryReader` loads what they mean.
"""

from __future__ import annotations

import contextlib
import logging
from types import TracebackType
from typing import Literal, Self

import msgspec
from msgspec import Struct
from nats.js.api import Header

from bus.connection import Bus
from bus.errors import BusUnavailable, UndecodableEvent
from bus.events import Command, StageName
from bus.pull import Puller, Taken
from bus.stored import Stored
from bus.streams import DEFAULTS, DLQ, Limits, advisory_consumer
from bus.subjects import item, token

log = logging.getLogger(__name__)
_SUBJECTS = "dlq.>"


class DeadLetter(Struct, frozen=True, kw_only=True):
    """Work that was given up."""

    stage: StageName
    job: str
    clip: int | None = None
    attempts: int
    error: str
    code: str
    command: Command | None = None
    """The command of the last attempt; None when it is gone from the stream."""
    failed_event: str
    """Id of the `job:failed` or `clip:failed` that ended it; makes the dead letter unique."""


class StoredLetter(Struct, frozen=True):
    """A dead letter with its place in the DLQ stream."""

    seq: int
    time: str
    letter: DeadLetter


class Advisory(Struct, frozen=True):
    """The server no longer delivers a command."""

    kind: Literal["max_deliveries", "terminated"]
    stage: str
    """Name of the consumer, which is the stage's."""
    seq: int
    """Place of the command in EVENTS."""
    deliveries: int
    reason: str
    command: Command | None
    """None when it is gone from the stream or is not readable."""


class _AdvisoryBody(Struct):
    type: str
    consumer: str
    stream_seq: int
    deliveries: int = 0
    reason: str = ""


async def publish_dead_letter(bus: Bus, letter: DeadLetter) -> int:
    """Stores it, once for each `failed_event`; its sequence in DLQ. Raises like `Bus.publish`."""
    subject = f"dlq.{token(letter.stage, 'stage')}.{item(letter.job, letter.clip)}"
    headers = {Header.MSG_ID.value: f"dlq-{letter.failed_event}"}
    return await bus.store(subject, msgspec.json.encode(letter), headers)


async def list_dead_letters(bus: Bus, *, after_seq: int = 0, limit: int = 100) -> list[StoredLetter]:
    """Up to `limit` (1 to 1024) dead letters after `after_seq`, oldest first. Unreadable ones are skipped."""
    letters = []
    for stored in await bus.read(after_seq, _SUBJECTS, limit, stream=DLQ):
        try:
            letters.append(StoredLetter(stored.seq, stored.time, msgspec.json.decode(stored.data, type=DeadLetter)))
        except msgspec.DecodeError as error:
            log.warning("bus: dead letter %d is not readable: %s", stored.seq, error)
    return letters


class AdvisoryReader:
    """`async with AdvisoryReader(bus) as reader: item = await reader.next(wait_s)`; `await reader.done()` after use.

    Durable: an advisory that was not marked done comes again.
    """

    def __init__(self, bus: Bus, limits: Limits = DEFAULTS) -> None:
        self._bus = bus
        self._puller = Puller(bus, DLQ, advisory_consumer(limits))
        self._taken: Taken | None = None

    async def __aenter__(self) -> Self:
        await self._puller.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._taken is not None:
            await self._taken.release()
        await self._puller.__aexit__(kind, error, trace)

    async def next(self, wait_s: float) -> Advisory | None:
        """The next advisory, None when none came within `wait_s`. Releases one that was not marked done."""
        if self._taken is not None:
            await self._taken.release()
            self._taken = None
        while (taken := await self._puller.next(wait_s)) is not None:
            try:
                advisory = await self._read(taken)
            except msgspec.DecodeError as error:
                log.warning("bus: advisory %d is not readable: %s", taken.seq, error)
                with contextlib.suppress(BusUnavailable):
                    await taken.reject(f"unreadable advisory: {error}")
                continue
            self._taken = taken
            return advisory
        return None

    async def done(self) -> bool:
        """The advisory of the last `next` is dealt with. False when the server did not confirm: it comes again."""
        taken, self._taken = self._taken, None
        return taken is not None and await taken.done()

    async def _read(self, taken: Taken) -> Advisory:
        body = msgspec.json.decode(taken.data, type=_AdvisoryBody)
        stored: Stored | None = await self._bus.get(body.stream_seq)
        command = None
        if stored is not None:
            with contextlib.suppress(UndecodableEvent):
                command = stored.command
        return Advisory(
            kind="terminated" if body.type.endswith(".terminated") else "max_deliveries",
            stage=body.consumer,
            seq=body.stream_seq,
            deliveries=body.deliveries,
            reason=body.reason,
            command=command,
        )
