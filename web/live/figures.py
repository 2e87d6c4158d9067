"""What the live feed is worth: the `websocket` section of the status document."""

from __future__ import annotations

from collections import Counter, deque
from typing import Literal

from msgspec import Struct

End = Literal["left", "slow", "stalled", "logged-out", "flooding", "shutdown"]
"""Why a connection ended: the client went; it took too little for too long or nothing at all; its login is over; it
sent too much; this process ends."""
KEPT = 1024


class Latency(Struct, frozen=True, kw_only=True):
    """Seconds from an event being stored to its frame handed to the network, of the last KEPT events."""

    p50_s: float
    p99_s: float
    max_s: float


class WebSocketFigures(Struct, frozen=True, kw_only=True):
    """Since this process began, unless it says otherwise."""

    connections: int
    """Now."""
    peak_connections: int
    rooms: dict[str, int]
    """Readers by room now, the rooms of jobs together as `job.*`."""
    bus: Literal["up", "down"]
    epoch: str
    seq: int
    """The last event that was shown."""
    events: int
    samples: int
    """Progress and host frames."""
    frames: int
    """Times that a frame was handed to a connection."""
    sent_bytes: int
    resumed: int
    """Readers that came back and missed nothing."""
    resets: dict[str, int]
    """Readers that had to start over, by reason."""
    ended: dict[End, int]
    refused: dict[str, int]
    """Connections refused before they began, by reason."""
    lagging: int
    """Connections now for which something waits."""
    waiting_bytes: int
    """What waits for all of them together."""
    ring_events: int
    ring_bytes: int
    gaps_filled: int
    """Times that events were read from the stream after an outage of the bus."""
    latency: Latency | None


class Tally:
    """The counters behind the figures."""

    def __init__(self) -> None:
        self.peak_connections = 0
        self.events = 0
        self.samples = 0
        self.frames = 0
        self.sent_bytes = 0
        self.resumed = 0
        self.gaps_filled = 0
        self.resets: Counter[str] = Counter()
        self.ended: Counter[End] = Counter()
        self.refused: Counter[str] = Counter()
        self._latencies_s: deque[float] = deque(maxlen=KEPT)

    def took(self, seconds: float) -> None:
        self._latencies_s.append(seconds)

    def latency(self) -> Latency | None:
        """None before the first event."""
        ordered = sorted(self._latencies_s)
        if not ordered:
            return None
        last = len(ordered) - 1
        return Latency(
            p50_s=round(ordered[last // 2], 6),
            p99_s=round(ordered[round(last * 0.99)], 6),
            max_s=round(ordered[-1], 6),
        )
