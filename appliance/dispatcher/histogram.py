"""How long something took, many times over: counts in buckets that grow by a ninth of an octave each.

Cheap enough for every event, of bounded size however many there are, and sums of two are sums of their counts: so a
reader subtracts what it saw before and has the interval's figures, and a Prometheus exporter folds it into any bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

FIRST_S = 50e-6
"""Upper bound of the first bucket."""
PER_OCTAVE = 9
BUCKETS = 200
"""The last bucket takes everything longer than about four minutes."""


class Durations(Struct, frozen=True, kw_only=True):
    """The state of a histogram: plain data, as it is sent."""

    count: int = 0
    sum_s: float = 0.0
    max_s: float = 0.0
    """The longest since the start of the process."""
    buckets: dict[int, int] = {}
    """How many in each bucket that has any; bucket n ends at `bound_s(n)`."""

    def since(self, earlier: Durations) -> Durations:
        """What was added after `earlier`, a former state of the same histogram. `max_s` is its highest bucket's end."""
        buckets = {n: more for n, count in self.buckets.items() if (more := count - earlier.buckets.get(n, 0))}
        return Durations(
            count=self.count - earlier.count,
            sum_s=self.sum_s - earlier.sum_s,
            max_s=min(self.max_s, bound_s(max(buckets))) if buckets else 0.0,
            buckets=buckets,
        )

    def quantile_s(self, share: float) -> float | None:
        """Upper bound of the quantile's bucket, so at most 8 % too high; None without any. `share` is from 0 to 1."""
        left = max(1, math.ceil(self.count * share))
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                return min(bound_s(bucket), self.max_s)
        return None


class Histogram:
    """Counts durations."""

    def __init__(self) -> None:
        self._counts = [0] * BUCKETS
        self._count, self._sum_s, self._max_s = 0, 0.0, 0.0

    def add(self, seconds: float) -> None:
        """Count one. Less than nothing (a clock that was set back) is nothing."""
        seconds = max(0.0, seconds)
        self._counts[_bucket(seconds)] += 1
        self._count += 1
        self._sum_s += seconds
        self._max_s = max(self._max_s, seconds)

    def state(self) -> Durations:
        return Durations(
            count=self._count,
            sum_s=round(self._sum_s, 6),
            max_s=round(self._max_s, 6),
            buckets={n: count for n, count in enumerate(self._counts) if count},
        )


def bound_s(bucket: int) -> float:
    """The upper end of a bucket, in seconds; infinite for the last."""
    return FIRST_S * 2.0 ** (bucket / PER_OCTAVE) if bucket < BUCKETS - 1 else math.inf


def quantiles_ms(durations: Durations, shares: Mapping[str, float]) -> dict[str, float | None]:
    """Named quantiles in milliseconds."""
    found = {name: durations.quantile_s(share) for name, share in shares.items()}
    return {name: None if value is None else round(value * 1000, 2) for name, value in found.items()}


def _bucket(seconds: float) -> int:
    if seconds <= FIRST_S:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log2(seconds / FIRST_S) * PER_OCTAVE - 1e-9))
