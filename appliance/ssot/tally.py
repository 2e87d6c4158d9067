"""What the cache is worth: hits, misses with their reasons, and invalidations, by section."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from datetime import datetime
from statistics import median
from typing import Literal

from msgspec import Struct

from appliance.breaker import State
from appliance.cache.port import Kind, ServerFigures
from appliance.ssot.entry import MissReason

Verdict = Literal["hit", "miss", "bypass", "stale"]
"""`hit`: everything came from the cache; `miss`: something was computed; `bypass`: the cache is off, away or was not
asked; `stale`: something is a copy past its time, because what it is made from did not answer."""
KEPT = 256


class FamilyFigures(Struct, frozen=True, kw_only=True):
    """One section's part, since this process began."""

    hits: int
    misses: dict[MissReason, int]
    """`cold`: not there yet; `expired`: past its time; `invalidated`: an event said so; `evicted`: the server dropped
    it; `bypass`: the cache was off, away or not asked."""
    stale: int
    """Times that a copy past its time was served."""
    invalidations: int


class CacheFigures(Struct, frozen=True, kw_only=True):
    """The `cache` section: this process's view, and the server's own figures."""

    kind: Kind
    state: State
    """Of the breaker: `closed` while the cache answers."""
    opened: int
    """How often the breaker opened since this process began."""
    hit_rate: float | None
    """Documents served whole from the cache among the last KEPT; None before the first."""
    verdicts: dict[Verdict, int]
    rebuild_p50_s: float | None
    """Median of the last KEPT times that sections were computed, None before the first."""
    sections: dict[str, FamilyFigures]
    server: ServerFigures | None
    server_at: datetime | None
    """When `server` was asked."""
    differing: list[str]
    """Sections that the last validation found to differ from what they should be."""


class Tally:
    """Counts; not thread-safe, like everything on one event loop."""

    def __init__(self, names: Collection[str]) -> None:
        self._hits: Counter[str] = Counter(dict.fromkeys(names, 0))
        self._misses: dict[str, Counter[MissReason]] = {name: Counter() for name in names}
        self._stale: Counter[str] = Counter()
        self._invalidations: Counter[str] = Counter()
        self._verdicts: Counter[Verdict] = Counter()
        self._last: deque[bool] = deque(maxlen=KEPT)
        self._rebuilds_s: deque[float] = deque(maxlen=KEPT)

    def hit(self, name: str) -> None:
        self._hits[name] += 1

    def miss(self, name: str, reason: MissReason) -> None:
        self._misses[name][reason] += 1

    def stale(self, name: str) -> None:
        self._stale[name] += 1

    def invalidated(self, names: Collection[str]) -> None:
        self._invalidations.update(names)

    def served(self, verdict: Verdict) -> None:
        self._verdicts[verdict] += 1
        self._last.append(verdict == "hit")

    def rebuilt(self, seconds: float) -> None:
        self._rebuilds_s.append(seconds)

    def figures(
        self,
        *,
        kind: Kind,
        state: State,
        opened: int,
        server: ServerFigures | None,
        server_at: datetime | None,
        differing: Collection[str],
    ) -> CacheFigures:
        return CacheFigures(
            kind=kind,
            state=state,
            opened=opened,
            hit_rate=round(sum(self._last) / len(self._last), 4) if self._last else None,
            verdicts=dict(self._verdicts),
            rebuild_p50_s=round(median(self._rebuilds_s), 6) if self._rebuilds_s else None,
            sections={
                name: FamilyFigures(
                    hits=hits,
                    misses=dict(self._misses[name]),
                    stale=self._stale[name],
                    invalidations=self._invalidations[name],
                )
                for name, hits in self._hits.items()
            },
            server=server,
            server_at=server_at,
            differing=sorted(differing),
        )
