"""When a worker that reports counts as frozen: it has work in hand and has not got on with it for too long.

A worker ends a stage that stands still by itself, after `stall_timeout_s`. Who is beyond that and a margin does not
even do that: it is declared gone, and replaced by whoever keeps it.
"""

from __future__ import annotations

from datetime import datetime

from bus.registry import WorkerState

FROZEN = "frozen"
"""First word of the reason of a `worker:offline` that means: it still runs, and must be ended."""
MARGIN_S = 20.0
"""Beyond `stall_timeout_s`: a worker's own end of the stage, its report of it (5 s apart), a slow bus."""


def frozen_reason(state: WorkerState, now: datetime, stall_timeout_s: float, margin_s: float = MARGIN_S) -> str | None:
    """Why the worker counts as frozen at `now`; None when it does not."""
    if state.job is None or state.progress_at is None:
        return None
    age_s = (now - state.progress_at).total_seconds()
    if age_s <= stall_timeout_s + margin_s:
        return None
    item = f"job {state.job}" + ("" if state.clip is None else f" clip {state.clip}")
    return f"{FROZEN}: it reports, but has not got on with {item} for {age_s:.0f} s"
