"""One open dashboard: what it may see, which rooms it is in, and the wire that leads to it."""

from __future__ import annotations

import itertools
from typing import Protocol

from msgspec import Struct

_numbers = itertools.count(1)


class Reader(Struct, frozen=True, kw_only=True):
    """Who reads."""

    user: str
    role: str
    login: str
    """Id of the session or token: the connection ends with it."""


class Wire(Protocol):
    """What leads to a client. None of the calls waits."""

    def write(self, frame: bytes) -> int:
        """Sends a whole WebSocket frame; the bytes that wait to be taken by the network now."""

    def waiting_bytes(self) -> int:
        """How much waits to be taken by the network."""

    def close(self, code: int, reason: str) -> None:
        """Says goodbye. Nothing may be written afterwards."""

    def abort(self) -> None:
        """Cuts the connection without waiting for what was not taken."""


class Client:
    """Made when the socket is accepted. Only the hub changes it."""

    __slots__ = ("address", "lagging_since", "number", "reader", "rooms", "sent_bytes", "taken_bytes", "wire")

    def __init__(self, wire: Wire, reader: Reader, address: str) -> None:
        self.number = next(_numbers)
        self.wire = wire
        self.reader = reader
        self.address = address
        self.rooms: set[str] = set()
        self.sent_bytes = 0
        self.taken_bytes = 0
        """Of those, what the network had taken when somebody last looked."""
        self.lagging_since: float | None = None
        """Monotonic seconds since which something waits and nothing is taken; None while nothing waits."""
