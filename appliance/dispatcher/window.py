"""How far everything is done, when things finish out of order: the rule behind the actions' cursor, without any I/O."""

from __future__ import annotations

from collections import deque


class Window:
    """Facts whose actions are open, in stream order. `position` never passes one that is."""

    def __init__(self, position: int) -> None:
        self.position = position
        """Everything up to this sequence is done."""
        self.finished = position
        """The last fact with actions at or below `position`."""
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._seen = position

    def __len__(self) -> int:
        return len(self._open)

    def add(self, seq: int) -> None:
        """Opens `seq`. Raises ValueError unless it is beyond everything seen."""
        if seq <= self._seen:
            raise ValueError(f"{seq} comes after {self._seen}")
        self._seen = seq
        self._open.append(seq)

    def seen(self, seq: int) -> None:
        """Nothing up to `seq` is to be done but what is open."""
        self._seen = max(self._seen, seq)
        self._advance()

    def done(self, seq: int) -> None:
        """`seq` is done or recorded as failed."""
        self._done.add(seq)
        self._advance()

    def _advance(self) -> None:
        while self._open and self._open[0] in self._done:
            self.position = self.finished = self._open.popleft()
            self._done.discard(self.position)
        if not self._open:
            self.position = self._seen
