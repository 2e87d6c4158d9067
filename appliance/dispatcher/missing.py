"""Whether a stage lacks workers, and since long enough to say so: a pure rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from bus.events import StageName


class Change(Struct, frozen=True):
    """A stage began or ceased to lack workers."""

    stage: StageName
    short: bool
    have: int
    want: int


class Missing:
    """Told how many workers report; answers what is to be said. A change is repeated until `said` is called.

    A stage is short when it has lacked its minimum for `hold_s` on end, and no longer short at once when it has it.
    The first look at a stage with its minimum also says so, to clear what an earlier life raised.
    """

    def __init__(self, minimum: Mapping[StageName, int], hold_s: float) -> None:
        self._minimum = minimum
        self._hold_s = hold_s
        self._since: dict[StageName, float] = {}
        self._said: dict[StageName, bool] = {}

    def look(
        self, have: Mapping[StageName, int], now: float, drained: Collection[StageName] = frozenset()
    ) -> list[Change]:
        """`now`: seconds of a monotonic clock. `drained`: stages that are to have no workers at the moment."""
        changes = []
        for stage, minimum in self._minimum.items():
            want = 0 if stage in drained else minimum
            count = have.get(stage, 0)
            if count >= want:
                self._since.pop(stage, None)
                short = False
            else:
                short = now - self._since.setdefault(stage, now) >= self._hold_s
                if not short:
                    continue
            if self._said.get(stage) != short:
                changes.append(Change(stage, short, count, want))
        return changes

    def said(self, change: Change) -> None:
        self._said[change.stage] = change.short
