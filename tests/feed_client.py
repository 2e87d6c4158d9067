"""A client that follows the live feed's protocol as docs/LIVE.md tells it, and nothing more.

`FeedState` is the rules without a network; `FeedClient` keeps a connection for them. What they have applied can be
compared with the stream: nothing missed, nothing doubled, nothing out of order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

Verdict = Literal["go-on", "reconnect", "resync"]


class FeedState:
    """Position, counters, and what was applied."""

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.seq = 0
        self.counts: dict[str, int] | None = None
        """None until this connection's hello."""
        self.applied: list[int] = []
        """Sequences of the events that were applied, in that order."""
        self.events: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.bus = "down"

    def snapshot(self, epoch: str, seq: int) -> None:
        """A snapshot that includes all events up to `seq` was fetched."""
        self.epoch, self.seq = epoch, seq

    def connected(self) -> None:
        """A new connection: its numbers begin with its hello."""
        self.counts = None

    def take(self, frame: dict[str, Any]) -> Verdict:
        match frame["kind"]:
            case "hello":
                return self._hello(frame)
            case "event":
                return self._event(frame)
            case "heartbeat":
                self.bus = frame["bus"]
                if frame["epoch"] != self.epoch:
                    return "resync"
                if frame["rooms"] != self.counts:
                    return "reconnect"
                self.seq = max(self.seq, frame["seq"])
            case "reset":
                return "resync"
            case "progress" | "host":
                self.samples.append(frame)
        return "go-on"

    def _hello(self, frame: dict[str, Any]) -> Verdict:
        known = self.counts or {}
        self.counts, self.bus = frame["rooms"], frame["bus"]
        if frame["epoch"] != self.epoch:
            return "resync"
        # The answer to a join: in the rooms of before nothing may have been missed.
        return (
            "go-on"
            if all(frame["rooms"].get(room, number) == number for room, number in known.items())
            else "reconnect"
        )

    def _event(self, frame: dict[str, Any]) -> Verdict:
        if self.counts is None:
            return "reconnect"
        for room, number in frame["rooms"].items():
            if room in self.counts:
                if number != self.counts[room] + 1:
                    return "reconnect"
                self.counts[room] = number
        if frame["seq"] > self.seq:
            self.seq = frame["seq"]
            self.applied.append(frame["seq"])
            self.events.append(frame["event"])
        return "go-on"


Snapshot = Callable[[], Awaitable[tuple[str, int]]]


class FeedClient:
    """`async with FeedClient(url, rooms, snapshot): …` follows until the block ends, over any number of connections."""

    def __init__(self, url: str, rooms: list[str], snapshot: Snapshot, **headers: str) -> None:
        self.state = FeedState()
        self.connections = 0
        self.resyncs = 0
        self._url = url
        self._rooms = ",".join(rooms)
        self._snapshot = snapshot
        self._headers = headers
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._connection: ClientConnection | None = None

    async def __aenter__(self) -> FeedClient:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def until(self, what: Callable[[FeedState], bool], timeout_s: float = 20) -> None:
        """Returns when `what(state)` holds."""
        assert self._task is not None
        waiting = asyncio.ensure_future(self._until(what))
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
                if self._task.done():
                    self._task.result()
                await waiting
        finally:
            waiting.cancel()

    def cut(self) -> None:
        """Loses the connection as a pulled cable does."""
        if self._connection is not None:
            self._connection.transport.abort()

    async def _until(self, what: Callable[[FeedState], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: what(self.state))

    async def _follow(self) -> None:
        pause_s = 0.02
        while True:
            try:
                if self.state.epoch is None:
                    self.resyncs += 1
                    self.state.snapshot(*await self._snapshot())
                where = f"{self._url}?rooms={self._rooms}&epoch={self.state.epoch}&seq={self.state.seq}"
                async with connect(where, additional_headers=self._headers, compression=None) as connection:
                    self._connection = connection
                    self.state.connected()
                    self.connections += 1
                    pause_s = 0.02
                    if await self._read(connection) == "resync":
                        self.state.epoch = None
            except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
                pass
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, 0.5)

    async def _read(self, connection: ClientConnection) -> Verdict:
        async for text in connection:
            verdict = self.state.take(msgspec.json.decode(text))
            async with self._changed:
                self._changed.notify_all()
            if verdict != "go-on":
                return verdict
        return "reconnect"
