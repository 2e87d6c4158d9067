"""What the live feed is worth: the `websocket` section of the status document."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

End = Literal["left", "slow", "stalled", "logged-out", "flooding", "shutdown"]
"""Why a connection ended: the client went; it took too little for too long or nothing at all; its login is over; it
sent too much; this process ends."""
KEPT = 256


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


class FeedCollector:
    """The figures as Prometheus series; read when they are asked for."""

    def __init__(self, figures: Callable[[], WebSocketFigures]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Nothing to be asked at registration."""
        return ()

    def collect(self) -> Iterator[Metric]:
        told = self._figures()
        yield _gauge("appliance_ws_connections", "Open live feeds by room.", told.rooms, "room")
        yield _counter("appliance_ws_closed", "Live feeds that ended, by cause.", told.ended, "reason")
        yield _counter("appliance_ws_refused", "Live feeds refused before they began.", told.refused, "reason")
        yield _counter("appliance_ws_resets", "Readers that had to start over, by cause.", told.resets, "reason")
        for name, says, value in (
            ("appliance_ws_resumes", "Readers that came back and missed nothing.", told.resumed),
            ("appliance_ws_events", "Events shown.", told.events),
            ("appliance_ws_frames", "Frames handed to connections.", told.frames),
            ("appliance_ws_sent_bytes", "Bytes handed to connections.", told.sent_bytes),
        ):
            yield CounterMetricFamily(name, says, value=value)
        yield GaugeMetricFamily(
            "appliance_ws_waiting_bytes", "Bytes that slow readers have not taken.", told.waiting_bytes
        )
        if told.latency is not None:
            delays = {"0.5": told.latency.p50_s, "0.99": told.latency.p99_s}
            says = f"Seconds from an event being stored to its frames being sent, of the last {KEPT}."
            yield _gauge("appliance_ws_delivery_seconds", says, delays, "quantile")


def _gauge(name: str, says: str, values: Mapping[str, float], label: str) -> Metric:
    family = GaugeMetricFamily(name, says, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counter(name: str, says: str, values: Mapping[End, int] | Mapping[str, int], label: str) -> Metric:
    family = CounterMetricFamily(name, says, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
