"""When a worker that reports counts as frozen: it has work in hand and has not got on with it for too long.

A worker ends a stage that stands still by itself, after `stall_timeout_s`. Who is beyond that and a margin does not
even do that: it is declared gone, and replaced by whoever keeps it. How long it stands still is measured by the
watcher's own monotonic clock, from when it first saw the worker there: clocks differ between machines, and jump when
one wakes up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bus.events import StageName
from bus.registry import WorkerState

FROZEN = "frozen"
"""First word of the reason of a `worker:offline` that means: it still runs, and must be ended."""
MARGIN_S = 20.0
"""Beyond `stall_timeout_s`: a worker's own end of the stage, its report of it (5 s apart), a slow bus."""


class FrozenWatch:
    """`stall_timeout_s` by stage; a stage that is not there is not watched."""

    def __init__(self, stall_timeout_s: Mapping[StageName, float], margin_s: float = MARGIN_S) -> None:
        self._limits_s = {stage: seconds + margin_s for stage, seconds in stall_timeout_s.items()}
        self._seen: dict[str, tuple[object, float]] = {}

    def look(self, states: Iterable[WorkerState], now: float) -> dict[str, str]:
        """The frozen ones by id, each with its reason. `now`: seconds of a monotonic clock."""
        frozen: dict[str, str] = {}
        seen: dict[str, tuple[object, float]] = {}
        for state in states:
            limit_s = self._limits_s.get(state.stage)
            if state.job is None or limit_s is None:
                continue
            where = (state.job, state.clip, state.progress, state.progress_at)
            known = self._seen.get(state.worker)
            since = now if known is None or known[0] != where else known[1]
            seen[state.worker] = (where, since)
            if now - since > limit_s:
                item = f"job {state.job}" + ("" if state.clip is None else f" clip {state.clip}")
                frozen[state.worker] = f"{FROZEN}: it reports, but has not got on with {item} for {now - since:.0f} s"
        self._seen = seen
        return frozen
