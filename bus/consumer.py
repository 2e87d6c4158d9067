"""A stage's work: its commands, one at a time."""

from __future__ import annotations

import contextlib
import logging
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bus.errors import BusUnavailable, UndecodableEvent
from bus.events import Command, StageName, decode_command
from bus.pull import Puller, Taken
from bus.streams import EVENTS, Limits, stage_consumer

if TYPE_CHECKING:
    from bus.connection import Bus

log = logging.getLogger(__name__)


class Delivery:
    """A command in this worker's hands. Heartbeat until it is done, rejected or released (see `bus.pull.Taken`)."""

    def __init__(self, taken: Taken, command: Command) -> None:
        self.command = command
        self.seq = taken.seq
        self.delivered = taken.delivered
        self.heartbeat = taken.heartbeat
        self.done = taken.done
        self.reject = taken.reject
        self.release = taken.release


class Work:
    """`async with bus.work(stage) as work: delivery = await work.next(wait_s)`; one task, for a worker's lifetime."""

    def __init__(self, bus: Bus, stage: StageName, limits: Limits) -> None:
        self._stage = stage
        self._puller = Puller(bus, EVENTS, stage_consumer(stage, limits))

    async def __aenter__(self) -> Self:
        await self._puller.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._puller.__aexit__(kind, error, trace)

    async def next(self, wait_s: float) -> Delivery | None:
        """The next command, or None when none came within `wait_s` (0.1 s to an hour), also in an outage.

        Commands that cannot be read are rejected with the reason and skipped. Raises like `bus.pull.Puller.next`.
        """
        while True:
            taken = await self._puller.next(wait_s)
            if taken is None:
                return None
            try:
                return Delivery(taken, decode_command(taken.data))
            except UndecodableEvent as error:
                log.warning("bus: rejecting message %d of the %s stage: %s", taken.seq, self._stage, error)
                with contextlib.suppress(BusUnavailable):
                    await taken.reject(f"undecodable command: {error}")
