"""Counters into rates."""

from __future__ import annotations


class Rates:
    """Remembers each counter's last value. A counter that runs backwards was set anew: no rate for that step."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def per_s(self, name: str, value: float, now: float) -> float | None:
        """Growth a second since the last call for `name`; None the first time, after a reset, without time passed."""
        before = self._last.get(name)
        self._last[name] = (value, now)
        if before is None or value < before[0] or now <= before[1]:
            return None
        return round((value - before[0]) / (now - before[1]), 1)
