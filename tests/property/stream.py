"""A model of the bus: the stream with its compare-and-set, message ids, schedules and purges, and who is asked next.

Product code runs on it as it is, as coroutines. Each call of the bus gives its turn away first (`Turn`), so a test may
let anything happen between the look and the write, and then says how the call ends (`Fate`).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from enum import Enum
from typing import Any, TypeVar

from bus.commit import Committed, Expect, Outgoing, outgoing, prepare
from bus.connection import StreamState
from bus.errors import BusUnavailable, Duplicate, Stale
from bus.events import Command, Event, decode_command
from bus.stored import Stored
from bus.subjects import item_filter, pending_filters

T = TypeVar("T")


class Fate(Enum):
    """How a call of the bus ends."""

    ANSWERED = "answered"
    STORED_BUT_UNHEARD = "stored, but the answer was lost"
    NEVER_SENT = "nothing was stored"


class Turn(Enum):
    """What a coroutine waits for."""

    BUS = "bus"
    STAGE = "stage"


@types.coroutine
def give_turn(what: Turn) -> Generator[Turn, Any, Any]:
    """Wait until the test goes on; returns what it sends."""
    return (yield what)


class ModelStream:
    """What the server holds. Sequences are never used twice; a purge leaves holes."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.messages: dict[int, Stored] = {}
        self.last_seq = 0
        self.queued: list[int] = []
        """Commands that wait, or that a worker has and has not acknowledged."""
        self.spent: list[Command] = []
        """Acknowledged ones: a server that was killed may forget that."""
        self._ids: dict[str, int] = {}
        self._last: dict[str, int] = {}

    @property
    def scheduled(self) -> list[int]:
        return [seq for seq, message in self.messages.items() if message.subject.startswith("sched.")]

    def facts(self, after: int = 0) -> list[Stored]:
        return [m for seq, m in self.messages.items() if seq > after and m.subject.startswith("evt.")]

    def after(self, seq: int, subject_filter: str) -> list[Stored]:
        """What is stored behind `seq`: all facts, or what is on one subject."""
        if subject_filter == "evt.>":
            return self.facts(seq)
        return [m for m in self.messages.values() if m.seq > seq and m.subject == subject_filter]

    def commit(self, messages: Sequence[Outgoing], expect: Expect | None) -> Committed:
        known = [self._ids.get(message.headers["Nats-Msg-Id"]) for message in messages]
        if known[0] is not None:  # a repetition of what is stored
            return Committed(known[0], known[0] + len(messages) - 1)
        if any(seq is not None for seq in known):
            raise Duplicate("an id of the commit is stored by another one")
        if expect is not None and (last := self.last(expect.filter)) != expect.last_seq:
            raise Stale(f"{expect.filter} is at {last}, not {expect.last_seq}", last)
        first = self.last_seq + 1
        for message in messages:
            self.store(message)
        return Committed(first, self.last_seq)

    def store(self, message: Outgoing) -> int:
        self.last_seq += 1
        ident = message.headers["Nats-Msg-Id"]
        self.messages[self.last_seq] = Stored(self.last_seq, message.subject, message.data, "", ident)
        self._ids[ident] = self.last_seq
        if message.subject.startswith("evt."):
            self._last[message.subject.split(".", 3)[3]] = self.last_seq
        elif message.subject.startswith("cmd."):
            self.queued.append(self.last_seq)
        return self.last_seq

    def last(self, subject_filter: str) -> int:
        """Sequence of the last fact of an item (`evt.*.*.<item>`), 0 for none."""
        assert subject_filter.startswith("evt.*.*.")
        return self._last.get(subject_filter.removeprefix("evt.*.*."), 0)

    def fall_due(self, seq: int) -> None:
        """A message schedule fires: the command is stored under its own subject."""
        message = self.messages.pop(seq)
        subject = message.subject.replace("sched.", "cmd.", 1).rsplit(".", 1)[0]
        self.store(Outgoing(subject, message.data, {"Nats-Msg-Id": f"due-{message.message_id}"}))

    def acknowledge(self, seq: int) -> None:
        if seq in self.queued:
            self.queued.remove(seq)
            self.spent.append(decode_command(self.messages[seq].data))

    def purge(self, filters: Sequence[str], before_seq: int) -> int:
        gone = [
            seq
            for seq, message in self.messages.items()
            if seq < before_seq and any(_matches(message.subject, one) for one in filters)
        ]
        for seq in gone:
            del self.messages[seq]
            if seq in self.queued:
                self.queued.remove(seq)
        return len(gone)


class ModelBus:
    """Stands in for `bus.connection.Bus` where product code takes one: the calls that it makes, and their promises."""

    def __init__(self, stream: ModelStream) -> None:
        self.stream = stream

    async def commit(self, messages: Sequence[Event | Command], expect: Expect | None = None) -> Committed:
        prepared = prepare(messages, expect)
        return await self._call(lambda: self.stream.commit(prepared, expect))

    async def queue(self, command: Command, after: Expect) -> bool:
        try:
            await self._call(lambda: self.stream.commit([outgoing(command)], after))
        except Stale:
            return False
        return True

    async def store_again(self, messages: Sequence[Outgoing]) -> Committed:
        return await self._call(lambda: self.stream.commit(messages, None))

    async def store(self, subject: str, data: bytes, headers: dict[str, str]) -> int:
        return (await self.store_again([Outgoing(subject, data, headers)])).first

    async def publish(self, event: Event) -> int:
        message = outgoing(event)
        return (await self._call(lambda: self.stream.commit([message], None))).first

    async def last_fact(self, job: str, clip: int | None = None) -> Stored | None:
        return await self._call(lambda: self.stream.messages.get(self.stream.last(item_filter(job, clip))))

    async def last_facts(self, subject_filter: str) -> list[Stored]:
        found = {m.subject: m for m in self.stream.facts() if _matches(m.subject, subject_filter)}
        return await self._call(lambda: sorted(found.values(), key=lambda message: message.seq))

    async def read(
        self, after_seq: int, subject_filter: str = "evt.>", max_messages: int = 256, stream: str = "EVENTS"
    ) -> list[Stored]:
        return await self._call(lambda: self.stream.after(after_seq, subject_filter)[:max_messages])

    async def stream_state(self, stream: str = "EVENTS") -> StreamState:
        model = self.stream
        return await self._call(lambda: StreamState(model.epoch, 1, model.last_seq, 0, len(model.messages)))

    async def purge_commands(self, job: str, before_seq: int) -> int:
        return await self._call(lambda: self.stream.purge(pending_filters(job), before_seq))

    async def _call(self, work: Callable[[], T]) -> T:
        fate = await give_turn(Turn.BUS)
        if fate is Fate.NEVER_SENT:
            raise BusUnavailable("no server")
        result = work()
        if fate is Fate.STORED_BUT_UNHEARD:
            raise BusUnavailable("no answer in time")
        return result


class Actor:
    """A coroutine that waits for its turn. `result` and `error` say how it ended."""

    def __init__(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        self.name = name
        self.turn: Turn | None = None
        self.result: Any = None
        self.error: Exception | None = None
        self._work = work
        self.go_on(None)

    def __repr__(self) -> str:
        return self.name

    @property
    def done(self) -> bool:
        return self.turn is None

    def go_on(self, sent: object) -> None:
        """Let it run to its next turn or its end."""
        try:
            self.turn = self._work.send(sent)
        except StopIteration as end:
            self.turn, self.result = None, end.value
        except Exception as error:
            self.turn, self.error = None, error

    def vanish(self) -> None:
        """The process is killed."""
        self.turn = None
        self._work.close()


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a bus that answers."""
    actor = Actor("alone", work)
    while not actor.done:
        actor.go_on(Fate.ANSWERED)
    if actor.error is not None:
        raise actor.error
    result: T = actor.result
    return result


def _matches(subject: str, pattern: str) -> bool:
    have, want = subject.split("."), pattern.split(".")
    return len(have) == len(want) and all(w in ("*", h) for h, w in zip(have, want, strict=True))
