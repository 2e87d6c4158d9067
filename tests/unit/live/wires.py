"""A wire that keeps what it is given, and readers over it."""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from appliance.face import WebSocket
from bus.events import AnyEvent, encode
from bus.stored import Stored
from bus.subjects import event_subject
from web.live.client import Client, Reader
from web.live.hub import Hub


class FakeWire:
    """`takes`: whether the network takes what is written at once."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.written: list[bytes] = []
        self.waiting = 0
        self.closed: tuple[int, str] | None = None
        self.aborted = False

    def write(self, frame: bytes) -> int:
        assert self.closed is None
        assert not self.aborted
        self.written.append(frame)
        if not self.takes:
            self.waiting += len(frame)
        return self.waiting

    def waiting_bytes(self) -> int:
        return self.waiting

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.aborted = True

    def told(self) -> list[dict[str, Any]]:
        """Everything that was written, decoded, and forgotten here."""
        found = [message for chunk in self.written for message in messages(chunk)]
        self.written.clear()
        return found


def messages(data: bytes) -> list[dict[str, Any]]:
    """The JSON of consecutive unmasked text frames."""
    found = []
    while data:
        assert data[0] == 0x81
        size, start = data[1], 2
        if size == 126:
            (size,), start = struct.unpack("!H", data[2:4]), 4
        elif size == 127:
            (size,), start = struct.unpack("!Q", data[2:10]), 10
        found.append(msgspec.json.decode(data[start : start + size]))
        data = data[start + size :]
    return found


def stored(seq: int, event: AnyEvent) -> Stored:
    return Stored(seq=seq, subject=event_subject(event), data=encode(event), time="2026-01-01T00:00:00.000000001Z")


def reader(role: str = "admin", login: str = "l1") -> Reader:
    return Reader(user="ada", role=role, login=login)


def enter(
    hub: Hub, *rooms: str, role: str = "admin", login: str = "l1", takes: bool = True, at: tuple[str, int] | None = None
) -> tuple[Client, FakeWire]:
    """A new reader in these rooms; `at`: it goes on there."""
    wire = FakeWire(takes=takes)
    client = Client(wire, reader(role, login), "192.0.2.1")
    hub.open(client, rooms, *(at or (None, None)))
    return client, wire


def hub(**changes: float) -> Hub:
    """One at position 0 of the stream `e1`."""
    made = Hub(WebSocket(**changes))  # type: ignore[arg-type]
    made.begin("e1", 0, "epoch")
    return made
