"""When a volume will be full: two windows must agree, so that one burst of writing alarms nobody. Pure."""

from __future__ import annotations

import math
from collections import deque

SHORT_S = 3600.0
LONG_S = 6 * 3600.0
EVERY_S = 60.0
COVERED = 0.9
"""A window counts when its readings span this share of it."""


class FillForecast:
    """Readings of one volume's free bytes, one a minute over six hours."""

    def __init__(self, short_s: float = SHORT_S, long_s: float = LONG_S, every_s: float = EVERY_S) -> None:
        self._short_s, self._long_s, self._every_s = short_s, long_s, every_s
        self._points: deque[tuple[float, float]] = deque(maxlen=max(2, round(long_s / every_s) + 1))
        self._seconds: float | None = None

    def add(self, now: float, free_bytes: float) -> None:
        """Takes a reading; readings closer together than the interval are skipped."""
        if self._points and now - self._points[-1][0] < self._every_s:
            return
        self._points.append((now, float(free_bytes)))
        short, long = (self._to_full_s(window) for window in (self._short_s, self._long_s))
        self._seconds = None if short is None or long is None else max(short, long)

    @property
    def seconds(self) -> float | None:
        """Seconds to full by the calmer window: inf when it is not filling up, None while too little is known."""
        return self._seconds

    def _to_full_s(self, window_s: float) -> float | None:
        now, free = self._points[-1]
        points = [point for point in self._points if now - point[0] <= window_s]
        if len(points) < 3 or now - points[0][0] < COVERED * window_s:
            return None
        slope = _slope([at - now for at, _ in points], [value for _, value in points])
        return math.inf if slope >= 0 else max(0.0, free / -slope)


def _slope(xs: list[float], ys: list[float]) -> float:
    """Least squares."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0
