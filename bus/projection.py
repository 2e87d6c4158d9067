"""Reading all facts in order, for a read model that keeps its own cursor.

Stateless on the server: each batch is a direct get of what follows the cursor, woken by the live feed. So there is no
consumer that could lose its place: after a reconnect, a crash of the server or of the reader, the next get goes on
exactly behind the last fact that was handed out. (An ordered consumer would do, but for trap 1; a pull consumer, but
what it sent into a broken connection is lost to it.)
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
        self._wake = asyncio.Event()
        self._subscription: Subscription | None = None
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
        self._subscription = await self._bus.client.subscribe(live(_FACTS), cb=self._on_fact)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_reconnect()
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self._bus.closed:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def _on_fact(self, message: Msg) -> None:
        self._wake.set()

    def _on_reconnect(self) -> None:
        self._unchecked = True
        self._wake.set()

    async def batch(self, max_messages: int = 256, *, wait_s: float = 1.0) -> list[Raw]:
        """The next facts in order, at most `max_messages` (1 to 1024); [] when none came within `wait_s`.

        Raises Gap when facts after the cursor are gone, NewEpoch when the stream was created anew, BusUnavailable in
        an outage longer than the connection's patience (nothing is lost: call again).
        """
        if self._subscription is None:
            raise RuntimeError("use: async with FactReader(bus, after_seq) as reader")
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_s
        while True:
            self._wake.clear()
            before = await self._check() if self._unchecked else None
            facts = await self._bus.read(self._seq, _FACTS, max_messages)
            if facts:
                if facts[0].seq != self._seq + 1:
                    await self._check()  # commands lie between, or facts that were removed before we read them
                self._seq = facts[-1].seq
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
