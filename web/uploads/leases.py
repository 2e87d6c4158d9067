"""One request at a time writes to an upload. A dead connection hands over; a live one does not.

A client that lost its connection comes back while the server still waits for the old one. So whoever asks for an upload
whose holder has been silent for IDLE_S gets it: the holder is told to stop, brings what it has to the disk, and lets
go. A holder that bytes keep coming for is left alone, and the other one is told 423.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from web.problems import Problem

IDLE_S = 1.0
WAIT_S = 2.0
LET_GO_S = 10.0
"""What a holder gets to bring its bytes to the disk."""


class Lease:
    """One request's hold on an upload."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.heard_at = clock()
        self.released = asyncio.Event()
        self._asked = False
        self._waiting: asyncio.Timeout | None = None

    @property
    def asked(self) -> bool:
        """Whether somebody else wants the upload: stop reading."""
        return self._asked

    @property
    def idle_s(self) -> float:
        return self._clock() - self.heard_at

    def heard(self) -> None:
        """A byte came."""
        self.heard_at = self._clock()

    def ask(self) -> None:
        """End the holder's waiting for its next byte."""
        self._asked = True
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def waiting(self, scope: asyncio.Timeout | None) -> None:
        """The holder waits inside this scope, or not at all."""
        self._waiting = scope
        if scope is not None and self._asked:
            scope.reschedule(asyncio.get_running_loop().time())


class Leases:
    """Of all uploads."""

    def __init__(self) -> None:
        self._held: dict[str, Lease] = {}

    async def take(self, upload: str, *, by_force: bool = False) -> Lease:
        """Hold it. `by_force`: whatever comes in for it. Raises `Problem` 423 while another request is at it."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + WAIT_S
        while (held := self._held.get(upload)) is not None:
            if by_force or held.idle_s >= IDLE_S or held.asked:
                held.ask()
                patience = LET_GO_S
            else:
                patience = IDLE_S - held.idle_s
                if clock() >= deadline:
                    raise locked()
            try:
                async with asyncio.timeout(patience):
                    await held.released.wait()
            except TimeoutError:
                if patience == LET_GO_S:
                    raise locked() from None
        lease = self._held[upload] = Lease(clock)
        return lease

    def release(self, upload: str, lease: Lease) -> None:
        if self._held.get(upload) is lease:
            del self._held[upload]
        lease.released.set()

    def is_live(self, upload: str) -> bool:
        """Whether bytes come in for it right now."""
        held = self._held.get(upload)
        return held is not None and held.idle_s < IDLE_S

    def __contains__(self, upload: str) -> bool:
        return upload in self._held

    def ask_all(self) -> None:
        """The process ends: every request should bring its bytes to the disk and end."""
        for lease in self._held.values():
            lease.ask()


def locked() -> Problem:
    return Problem(423, "locked", "another request is sending this upload: wait for it", headers={"Retry-After": "2"})
