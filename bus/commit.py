"""Storing facts and commands: one message, or an atomic batch, guarded by compare-and-set.

A lost answer is no answer: the message may be stored, may sit in a buffer and be stored later (trap 4), or be gone.
So each message carries its id, and each try repeats the same ids. A refusal of a later try is looked into before it
is believed: the compare-and-set guarantees that our first message, if stored, is the first one on the item after the
sequence that we expected, so one look there tells whether we won.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC

from msgspec import Struct
from nats.js.api import Header

from bus.errors import Duplicate, Stale
from bus.events import Command, Event, encode
from bus.ids import new_id
from bus.stored import Stored
from bus.subjects import command_subject, event_subject, schedule_subject
from bus.wire import ERR_DUPLICATE_IN_BATCH, ERR_WRONG_LAST_MSG_ID, PubAck, Refused, RefusedForNow, Wire, decode_ack

MAX_BATCH = 1000
"""The server's limit of messages in one atomic batch."""
MAX_COMMIT_BYTES = 1024 * 1024
"""Our limit of their payload together: messages carry ids and figures, content goes to files."""
_MSG_ID = Header.MSG_ID.value
_EXPECT_SEQ = Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value
_EXPECT_FILTER = "Nats-Expected-Last-Subject-Sequence-Subject"


class Expect(Struct, frozen=True):
    """Compare-and-set: store only while the last message matching `filter` has sequence `last_seq` (0: none yet)."""

    filter: str
    last_seq: int

    def headers(self) -> dict[str, str]:
        """What asks the server for it, on the first message of a commit."""
        return {_EXPECT_SEQ: str(self.last_seq), _EXPECT_FILTER: self.filter}


class Committed(Struct, frozen=True):
    """Sequences of the first and last message of a commit; a batch is contiguous."""

    first: int
    last: int


class Outgoing(Struct, frozen=True):
    """A message ready to send."""

    subject: str
    data: bytes
    headers: dict[str, str]


def outgoing(message: Event | Command) -> Outgoing:
    """Subject, bytes and headers of `message`. A command with `not_before` becomes a message schedule.

    Raises ValueError for ids that cannot be part of a subject and for a `not_before` without a time zone.
    """
    headers = {_MSG_ID: message.id}
    if isinstance(message, Event):
        return Outgoing(event_subject(message), encode(message), headers)
    if message.not_before is None:
        return Outgoing(command_subject(message), encode(message), headers)
    if message.not_before.tzinfo is None:
        raise ValueError("not_before needs a time zone")
    at = message.not_before.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    headers[Header.SCHEDULE.value] = f"@at {at}"
    headers[Header.SCHEDULE_TARGET.value] = command_subject(message)
    return Outgoing(schedule_subject(message), encode(message), headers)


def _matches(subject: str, pattern: str) -> bool:
    have, want = subject.split("."), pattern.split(".")
    return len(have) == len(want) and all(w in ("*", h) for h, w in zip(have, want, strict=True))


def prepare(messages: Sequence[Event | Command], expect: Expect | None) -> list[Outgoing]:
    """Checks a commit and turns it into messages. Raises ValueError for one that could not be resolved or stored."""
    prepared = [outgoing(message) for message in messages]
    check(prepared)
    if expect is not None and not _matches(prepared[0].subject, expect.filter):
        # Otherwise the look after a lost answer would not find it.
        raise ValueError(f"the first message of a commit must match its own guard: {prepared[0].subject}")
    return prepared


def check(messages: Sequence[Outgoing]) -> None:
    """Raises ValueError for a commit that could not be resolved or stored."""
    if not 1 <= len(messages) <= MAX_BATCH:
        raise ValueError(f"a commit holds 1 to {MAX_BATCH} messages, not {len(messages)}")
    if len({message.headers[_MSG_ID] for message in messages}) != len(messages):
        raise ValueError("two messages of one commit share an id")
    if sum(len(message.data) for message in messages) > MAX_COMMIT_BYTES:
        raise ValueError(f"a commit holds at most {MAX_COMMIT_BYTES} bytes: put content into files, send their paths")


async def send(wire: Wire, messages: Sequence[Outgoing], expect: Expect | None, timeout_s: float) -> PubAck:
    """One try. Raises Stale, Refused (duplicate id inside a batch), StorageRefused, BusUnavailable, Denied.

    Only the last message of a batch asks for an answer: the server judges the whole batch at its commit, and a batch
    that lost a message on the way is refused there as incomplete. Headers are built for each call (trap 14), and the
    library's own publish is not used: it cannot send a batch (trap 14 again).
    """
    batch_id = new_id() if len(messages) > 1 else None
    for number, message in enumerate(messages, 1):
        headers = dict(message.headers)
        if number == 1 and expect is not None:
            headers |= expect.headers()
        if batch_id is not None:
            headers[Header.BATCH_ID.value] = batch_id
            headers[Header.BATCH_SEQUENCE.value] = str(number)
        if number < len(messages):
            await wire.publish(message.subject, message.data, headers=headers)
            continue
        if batch_id is not None:
            headers[Header.BATCH_COMMIT.value] = "1"
        reply = await wire.request(message.subject, message.data, headers=headers, timeout_s=timeout_s)
    try:
        return decode_ack(reply.data, messages[-1].subject)
    except RefusedForNow:
        for message in messages:  # a message that this user may not publish leaves the batch incomplete
            if (denied := wire.denied(message.subject)) is not None:
                raise denied from None
        raise


async def stored_sequence(wire: Wire, message: Outgoing, timeout_s: float) -> int | None:
    """The sequence under which a message with this id was stored within the duplicate window, None if it was not.

    Sends the id with a guard that cannot hold: the server answers `duplicate` before it looks at the guard, and
    stores nothing otherwise.
    """
    headers = {
        _MSG_ID: message.headers[_MSG_ID],
        Header.EXPECTED_LAST_MSG_ID.value: "~only asking~",
    }
    reply = await wire.request(message.subject, b"", headers=headers, timeout_s=timeout_s)
    try:
        ack = decode_ack(reply.data, message.subject)
    except Refused as refused:
        if refused.refusal.err_code == ERR_WRONG_LAST_MSG_ID:
            return None
        raise
    return ack.seq


async def _first_of_batch(wire: Wire, messages: Sequence[Outgoing], timeout_s: float) -> int | None:
    """Where an unguarded batch of these messages is stored, None when it is not (as one)."""
    first = await stored_sequence(wire, messages[0], timeout_s)
    last = await stored_sequence(wire, messages[-1], timeout_s)
    return first if first is not None and last == first + len(messages) - 1 else None


async def commit_once(
    wire: Wire,
    messages: Sequence[Outgoing],
    expect: Expect | None,
    first_after: Callable[[str, int], Awaitable[Stored | None]],
    timeout_s: float,
) -> Committed:
    """One try with its refusal looked into. `first_after(filter, seq)` reads the first message after `seq`.

    Raises Stale when somebody else wrote first, Duplicate when some of the ids are stored but not as this commit.
    """
    try:
        ack = await send(wire, messages, expect, timeout_s)
    except (Stale, Refused) as refusal:
        if isinstance(refusal, Refused) and refusal.refusal.err_code != ERR_DUPLICATE_IN_BATCH:
            raise
        if expect is not None:
            won = await first_after(expect.filter, expect.last_seq)
            first = won.seq if won is not None and won.message_id == messages[0].headers[_MSG_ID] else None
        else:
            first = await _first_of_batch(wire, messages, timeout_s)
        if first is not None:
            return Committed(first, first + len(messages) - 1)
        if isinstance(refusal, Stale):
            raise
        raise Duplicate(f"{messages[0].subject}: an id of this commit is already stored by another one") from refusal
    if len(messages) == 1:
        return Committed(ack.seq, ack.seq)
    return Committed(ack.seq - len(messages) + 1, ack.seq)
