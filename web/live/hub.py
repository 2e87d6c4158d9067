"""The hub: takes every event once, makes one frame of it, and hands that to everybody who is in one of its rooms.

Everything here is synchronous and on one event loop: between an event coming in and its frame being with the network
there is no queue, no task and no lock, so all readers see all frames in one order, and joining or resuming falls
between two events by nature. What a connection cannot take waits in its transport's buffer, which is bounded; a reader
past the bound is cut, alone, and comes back with its position.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Literal

from appliance.face import WebSocket
from bus.stored import Stored
from web.live import frames
from web.live.client import Client
from web.live.figures import End, Tally, WebSocketFigures
from web.live.frames import Heartbeat, Hello, Refusal, Reset, ResetReason
from web.live.progress import ProgressGate
from web.live.ring import Kept, Ring
from web.live.rooms import Rooms, may_enter, role_for, rooms_of

MAX_ROOMS = 64
"""Rooms that one reader may be in."""
RING_BYTES = 8 * 1024 * 1024
STALL_S = 5.0
"""A reader that has taken nothing off its queue for this long is cut."""
AHEAD = 1000
"""How far a snapshot may be ahead of the feed: the database hears of an event by its own connection to the bus."""
CLOSE_LOGIN_OVER = 4401
CLOSE_SHUTDOWN = 1012
_PROGRESS_VOID = frozenset(
    ("job:downloaded", "job:transcribed", "job:analyzed", "job:completed", "job:failed", "job:cancelled", "job:deleted")
)


class Hub:
    """`clock` is monotonic seconds, `wall` Unix seconds."""

    def __init__(
        self,
        settings: WebSocket,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._rooms = Rooms(max_idle=settings.ring_events)
        self._ring = Ring(settings.ring_events, RING_BYTES)
        self._clients: set[Client] = set()
        self._lagging: set[Client] = set()
        self._bus: Literal["up", "down"] = "down"
        self.gate = ProgressGate()
        self.tally = Tally()
        self.epoch = ""
        self.seq = 0
        """The last event that was shown."""

    # -- from the bus -------------------------------------------------------------------------------------------------

    def begin(self, epoch: str, seq: int, reason: ResetReason) -> None:
        """The feed goes on behind `seq` of the stream `epoch`. Whoever is connected must start over."""
        self.epoch, self.seq = epoch, seq
        self._ring.clear(seq)
        for client in tuple(self._clients):
            self._reset(client, reason)

    def fact(self, stored: Stored, *, live: bool = True) -> None:
        """Shows one event; one at or below the last sequence is ignored. `live`: its age tells our latency."""
        if stored.seq <= self.seq:
            return
        self.seq = stored.seq
        rooms = rooms_of(stored.subject)
        numbers = self._rooms.number(rooms)
        frame = frames.event(stored.seq, numbers, stored.data)
        self._broadcast(frame, rooms)
        self._ring.add(Kept(stored.seq, numbers, frame))
        self.tally.events += 1
        if live:
            self.tally.took(max(0.0, self._wall() - stored.stored_at.timestamp()))
        _, noun, verb, item, *_ = stored.subject.split(".")
        if f"{noun}:{verb}" in _PROGRESS_VOID:
            self.gate.ended(item)

    def progress(self, data: bytes) -> None:
        """Shows a progress report now or, at the latest with `tick`, soon."""
        if (due := self.gate.report(data, self._clock())) is not None:
            self._send_progress(*due)

    def host(self, data: bytes) -> None:
        """Shows a machine's sample."""
        if (frame := frames.sample("host", data)) is not None:
            self.tally.samples += 1
            self._broadcast(frame, ("monitoring", "admin"))

    def bus_is(self, state: Literal["up", "down"]) -> None:
        """The bus came or went: everybody is told at once."""
        if state != self._bus:
            self._bus = state
            self.heartbeat()

    # -- from the clock -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Sends progress that has waited long enough, and cuts who takes nothing. Call it four times a second."""
        now = self._clock()
        for job, data in self.gate.due(now):
            self._send_progress(job, data)
        for client in tuple(self._lagging):
            waiting = client.wire.waiting_bytes()
            taken = client.sent_bytes - waiting
            if not waiting:
                self._lagging.discard(client)
                client.lagging_since = None
            elif taken > client.taken_bytes or client.lagging_since is None:
                client.lagging_since = now
            elif now - client.lagging_since > STALL_S:
                self._cut(client, "stalled")
            client.taken_bytes = taken

    def heartbeat(self) -> None:
        """Tells everybody where the feed stands."""
        made: dict[frozenset[str], bytes] = {}
        self.gate.forget(self._clock())
        for client in tuple(self._clients):
            key = frozenset(client.rooms)
            if (frame := made.get(key)) is None:
                frame = made[key] = self._heartbeat_frame(client)
            self._write(client, frame)

    # -- from the readers ---------------------------------------------------------------------------------------------

    @property
    def connections(self) -> int:
        return len(self._clients)

    def connections_from(self, address: str) -> int:
        return sum(1 for client in self._clients if client.address == address)

    def open(self, client: Client, rooms: Collection[str], epoch: str | None = None, seq: int | None = None) -> None:
        """A connection was accepted: it is in `rooms` from now on, and goes on behind `seq` when it names one."""
        self._clients.add(client)
        self.tally.peak_connections = max(self.tally.peak_connections, len(self._clients))
        self._enter(client, rooms)
        if client not in self._clients:
            return
        if epoch is None or seq is None:
            self._hello(client, self._counts(client))
        else:
            self.resume(client, epoch, seq)

    def closed(self, client: Client) -> None:
        """The connection is no more, whoever ended it."""
        if self._forget(client):
            self.tally.ended["left"] += 1

    def join(self, client: Client, rooms: Collection[str]) -> None:
        self._enter(client, rooms)
        self._hello(client, self._counts(client))

    def leave(self, client: Client, rooms: Collection[str]) -> None:
        for room in client.rooms.intersection(rooms):
            client.rooms.discard(room)
            self._rooms.leave(client, room)
        self._hello(client, self._counts(client))

    def resume(self, client: Client, epoch: str, seq: int) -> None:
        """Sends what was shown in the client's rooms after `seq`, or says that it must start over."""
        reason: ResetReason | None = None
        missed: list[Kept] = []
        if epoch != self.epoch:
            reason = "epoch"
        elif seq > self.seq + AHEAD:
            reason = "ahead"
        elif (found := self._ring.after(seq, client.rooms)) is None:
            reason = "too-old"
        elif sum(len(kept.frame) for kept in found) > self._settings.max_queue_bytes // 2:
            reason = "too-many"
        else:
            missed = found
        if reason is not None:
            self._reset(client, reason)
            return
        counts = self._counts(client)
        for kept in reversed(missed):  # ends with the oldest: its numbers minus one are where the reader goes on
            counts.update({room: number - 1 for room, number in kept.rooms.items() if room in counts})
        self._hello(client, counts)
        self.tally.resumed += 1
        if missed:
            self._write(client, b"".join(kept.frame for kept in missed), frames=len(missed))

    def ping(self, client: Client) -> None:
        """Answered by a heartbeat."""
        self._write(client, self._heartbeat_frame(client))

    def refuse(self, client: Client, refusal: Refusal) -> None:
        self._write(client, frames.control(refusal))

    def end(self, client: Client, code: int, reason: str, why: End) -> None:
        """Closes the connection with a word."""
        if self._forget(client):
            self.tally.ended[why] += 1
            client.wire.close(code, reason)

    def end_login(self, login: str) -> None:
        """Closes the connections of a session or token that is over (`Reader.login`)."""
        for client in [client for client in self._clients if client.reader.login == login]:
            self.end(client, CLOSE_LOGIN_OVER, "the login is over", "logged-out")

    def end_all(self) -> None:
        """This process ends: readers come back to the next one with their position."""
        for client in tuple(self._clients):
            self.end(client, CLOSE_SHUTDOWN, "the server restarts", "shutdown")

    def figures(self) -> WebSocketFigures:
        """From any thread: `/metrics` is made on another one than the event loop's."""
        tally = self.tally
        return WebSocketFigures(
            connections=len(self._clients),
            peak_connections=tally.peak_connections,
            rooms=self._rooms.sizes(),
            bus=self._bus,
            epoch=self.epoch,
            seq=self.seq,
            events=tally.events,
            samples=tally.samples,
            frames=tally.frames,
            sent_bytes=tally.sent_bytes,
            resumed=tally.resumed,
            resets=dict(tally.resets),
            ended=dict(tally.ended),
            refused=dict(tally.refused),
            lagging=len(self._lagging),
            waiting_bytes=sum(client.wire.waiting_bytes() for client in tuple(self._lagging)),
            ring_events=len(self._ring),
            ring_bytes=self._ring.bytes,
            gaps_filled=tally.gaps_filled,
            latency=tally.latency(),
        )

    # -- inside -------------------------------------------------------------------------------------------------------

    def _broadcast(self, frame: bytes, rooms: tuple[str, ...]) -> None:
        limit, size, sent = self._settings.max_queue_bytes, len(frame), 0
        too_slow: list[Client] = []
        for client in self._rooms.members(rooms):
            sent += 1
            client.sent_bytes += size
            waiting = client.wire.write(frame)
            if waiting > size:
                self._note_lag(client)
                if waiting > limit:
                    too_slow.append(client)
        self.tally.frames += sent
        self.tally.sent_bytes += sent * size
        for client in too_slow:
            self._cut(client, "slow")

    def _write(self, client: Client, frame: bytes, *, frames: int = 1) -> None:
        waiting = client.wire.write(frame)
        client.sent_bytes += len(frame)
        self.tally.frames += frames
        self.tally.sent_bytes += len(frame)
        if waiting > len(frame):
            self._note_lag(client)
        if waiting > self._settings.max_queue_bytes:
            self._cut(client, "slow")

    def _note_lag(self, client: Client) -> None:
        if client.lagging_since is None:
            client.lagging_since = self._clock()
            client.taken_bytes = 0
            self._lagging.add(client)

    def _cut(self, client: Client, why: End) -> None:
        """No goodbye: it would wait behind what is not taken."""
        if self._forget(client):
            self.tally.ended[why] += 1
            client.wire.abort()

    def _forget(self, client: Client) -> bool:
        if client not in self._clients:
            return False
        self._clients.discard(client)
        self._lagging.discard(client)
        for room in client.rooms:
            self._rooms.leave(client, room)
        client.rooms.clear()
        return True

    def _enter(self, client: Client, rooms: Collection[str]) -> None:
        for room in rooms:
            if role_for(room) is None:
                self.refuse(client, Refusal(code="unknown-room", detail=f"there is no room {room[:80]!r}"))
            elif not may_enter(client.reader.role, room):
                detail = f"{room} is for the role {role_for(room)} and above"
                self.refuse(client, Refusal(code="forbidden", detail=detail))
            elif len(client.rooms) >= MAX_ROOMS and room not in client.rooms:
                self.refuse(client, Refusal(code="too-many-rooms", detail=f"at most {MAX_ROOMS}: leave some first"))
            elif client in self._clients:
                client.rooms.add(room)
                self._rooms.enter(client, room)

    def _counts(self, client: Client) -> dict[str, int]:
        return {room: self._rooms.count(room) for room in sorted(client.rooms)}

    def _hello(self, client: Client, counts: dict[str, int]) -> None:
        hello = Hello(
            epoch=self.epoch, seq=self.seq, rooms=counts, heartbeat_s=self._settings.heartbeat_s, bus=self._bus
        )
        self._write(client, frames.control(hello))

    def _reset(self, client: Client, reason: ResetReason) -> None:
        self.tally.resets[reason] += 1
        self._hello(client, self._counts(client))
        self._write(client, frames.control(Reset(epoch=self.epoch, seq=self.seq, reason=reason)))

    def _heartbeat_frame(self, client: Client) -> bytes:
        beat = Heartbeat(epoch=self.epoch, seq=self.seq, rooms=self._counts(client), bus=self._bus)
        return frames.control(beat)

    def _send_progress(self, job: str, data: bytes) -> None:
        if (frame := frames.sample("progress", data)) is not None:
            self.tally.samples += 1
            self._broadcast(frame, ("admin", "jobs", f"job.{job}"))
