"""The last frames, kept so that a reader that was away for a moment misses nothing."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Kept(NamedTuple):
    """One event's frame, with its number in each of its rooms."""

    seq: int
    rooms: dict[str, int]
    frame: bytes


class Ring:
    """At most `max_frames` frames of together at most `max_bytes`; the oldest go first."""

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._frames: deque[Kept] = deque()
        self._bytes = 0
        self.floor = 0
        """Every event after this sequence is here."""

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def bytes(self) -> int:
        return self._bytes

    def clear(self, floor: int) -> None:
        """Forget everything; what comes next follows `floor`."""
        self._frames.clear()
        self._bytes = 0
        self.floor = floor

    def add(self, kept: Kept) -> None:
        """Sequences only go up."""
        self._frames.append(kept)
        self._bytes += len(kept.frame)
        while len(self._frames) > self._max_frames or self._bytes > self._max_bytes:
            oldest = self._frames.popleft()
            self._bytes -= len(oldest.frame)
            self.floor = oldest.seq

    def after(self, seq: int, rooms: set[str]) -> list[Kept] | None:
        """The frames after `seq` of any of `rooms`, oldest first; None when some of them are no longer here."""
        if seq < self.floor:
            return None
        found = []
        for kept in reversed(self._frames):
            if kept.seq <= seq:
                break
            if not rooms.isdisjoint(kept.rooms):
                found.append(kept)
        found.reverse()
        return found
