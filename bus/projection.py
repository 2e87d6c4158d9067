"""Reading all facts in order, for a read model that keeps its own cursor.

Stateless on the server: each batch is a direct get of what follows the cursor, woken by the live feed. So there is no
consumer that could lose its place: after a reconnect, a crash of the server or of the reader, the next get goes on
exactly behind the last fact that was handed out. (An ordered consumer would do, but for trap 1; a pull consumer, but
what it sent into a broken connection is lost to it.)

The wake-up is a subscription for one message, made anew before each get that may find nothing: under load, when one get
follows the other, the live feed costs nothing. Each get begins at the fact that was handed out last: that it is still
there proves, without another round trip, that none behind it has been dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bus.connection import Bus, StreamState
from bus.errors import Gap, NewEpoch
from bus.stored import Stored
from bus.subjects import live

Raw = Stored
"""A fact as stored: `.seq`, `.subject`, `.data`; `.event` decodes."""
_FACTS = "evt.>"
_MOST = 1024
"""Messages in one answer of the server."""
_CHECK_EVERY_S = 5.0
"""When idle, reads without being woken and looks at the stream's epoch this often: a net under the wake-up."""


class FactReader:
    """`async with FactReader(bus, after_seq) as reader: facts = await reader.batch(wait_s=1)`

    `epoch` is the one that `after_seq` belongs to; None takes the stream's present one. To read a stream whose oldest
    facts have expired, start at `(await bus.stream_state()).first_seq - 1`.
    """

    def __init__(self, bus: Bus, after_seq: int, *, epoch: str | None = None) -> None:
        self._bus = bus
        self._seq = after_seq
        self._epoch = epoch
        self._unchecked = True
        self._more = False
        """Whether the last get left facts unread."""
        self._inside = False
        self._wake = asyncio.Event()
        self._armed: Subscription | None = None
        self._forget_reconnect: Callable[[], None] = lambda: None

    @property
    def position(self) -> int:
        """Every fact up to here was handed out. May be ahead of the last fact: commands lie between.

        Keep it now and then even without facts (hourly will do): an old cursor could look like a gap.
        """
        return self._seq

    @property
    def epoch(self) -> str | None:
        """The stream's epoch; None before the first batch."""
        return self._epoch

    async def __aenter__(self) -> Self:
        self._forget_reconnect = self._bus.on_reconnect(self._on_reconnect)
        self._inside = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_reconnect()
        self._inside = False
        armed, self._armed = self._armed, None
        if armed is not None and not self._bus.closed:
            with contextlib.suppress(nats.errors.Error, OSError):
                await armed.unsubscribe()

    async def _arm(self) -> None:
        """Be woken by the next fact. What is stored after this is on the wire is either read or wakes."""
        if self._armed is None and self._bus.connected:  # without a connection the reconnect wakes
            with contextlib.suppress(nats.errors.Error, OSError):
                self._armed = await self._bus.client.subscribe(live(_FACTS), cb=self._on_fact)
                await self._armed.unsubscribe(limit=1)

    async def _on_fact(self, message: Msg) -> None:
        self._armed = None
        self._wake.set()

    def _on_reconnect(self) -> None:
        self._unchecked = True
        self._wake.set()

    async def batch(self, max_messages: int = 256, *, wait_s: float = 1.0) -> list[Raw]:
        """The next facts in order, at most `max_messages` (1 to 1024); [] when none came within `wait_s`.

        Raises Gap when facts after the cursor are gone, NewEpoch when the stream was created anew, BusUnavailable in
        an outage longer than the connection's patience (nothing is lost: call again).
        """
        if not self._inside:
            raise RuntimeError("use: async with FactReader(bus, after_seq) as reader")
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        while True:
            self._wake.clear()
            before = await self._check() if self._unchecked else None
            if not self._more:
                await self._arm()
            if facts := await self._next(max_messages):
                return facts
            if before is not None:
                self._seq = max(self._seq, before.last_seq)
            left_s = deadline - clock()
            if left_s <= 0:
                return []
            try:
                async with asyncio.timeout(min(left_s, _CHECK_EVERY_S)):
                    await self._wake.wait()
            except TimeoutError:
                self._unchecked = True

    async def _next(self, max_messages: int) -> list[Raw]:
        facts = await self._bus.read(max(0, self._seq - 1), _FACTS, min(max_messages + 1, _MOST))
        self._more = bool(facts) and facts[-1].pending > 0
        last_is_there = bool(facts) and facts[0].seq == self._seq
        if last_is_there:
            del facts[0]
        if not facts:
            return []
        if facts[0].seq != self._seq + 1 and not last_is_there:
            await self._check()  # commands lie between, or facts that were removed before we read them
        if len(facts) > max_messages:
            del facts[max_messages:]
            self._more = True
        self._seq = facts[-1].seq
        return facts

    async def _check(self) -> StreamState:
        state = await self._bus.stream_state()
        if self._epoch is not None and state.epoch != self._epoch:
            raise NewEpoch(
                f"the stream was created anew at {state.epoch}: a cursor of {self._epoch} means nothing in it; "
                "rebuild the stream from the database or the database from the stream",
                state.epoch,
            )
        if self._seq > state.last_seq:
            raise NewEpoch(f"the cursor {self._seq} is ahead of the stream's end at {state.last_seq}", state.epoch)
        if state.first_seq > self._seq + 1:
            raise Gap(
                f"facts after {self._seq} are gone: the stream starts at {state.first_seq}; rebuild the read model",
                self._seq,
                state.first_seq,
            )
        self._epoch = state.epoch
        self._unchecked = False
        return state
