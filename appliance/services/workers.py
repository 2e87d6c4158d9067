"""Workers: who reports, what each works on, and who is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from appliance.services.figures import rows
from appliance.sqlite import sqlite3
from bus.events import STAGES, StageName
from bus.registry import WorkerState

GONE = 20


class Worker(Struct, frozen=True, kw_only=True):
    """A worker that reports."""

    worker: str
    stage: StageName
    state: Literal["idle", "working", "stuck"]
    """`stuck`: it reports, but its work has not moved for the stage's `stall_timeout_s`."""
    pid: int
    host: str
    started_at: datetime
    job: str | None
    clip: int | None
    progress: float | None
    progress_age_s: float | None
    """Seconds since `progress` last changed."""
    rss_bytes: int
    """Of the worker and the stage that it runs."""
    gpu_memory_bytes: int | None
    """The same on NVIDIA cards; None without a driver."""


class Gone(Struct, frozen=True, kw_only=True):
    """A worker that went offline."""

    worker: str
    stage: str
    since: str
    reason: str | None


class StageWorkers(Struct, frozen=True, kw_only=True):
    """The workers of one stage."""

    online: int
    working: int
    stuck: int
    min: int
    """How many are wanted at least: the configuration's minimum, none while the stage is drained."""
    max: int
    """How many there may be at most; 0: this box runs none."""


class Workers(Struct, frozen=True, kw_only=True):
    """All workers at one moment."""

    online: int
    working: int
    stuck: int
    stages: dict[StageName, StageWorkers]
    workers: list[Worker]
    offline: list[Gone]
    """The last to go first, at most GONE."""


def gone(db: sqlite3.Connection) -> list[Gone]:
    query = "SELECT worker, stage, since, reason FROM workers WHERE state = 'offline' ORDER BY since DESC LIMIT ?"
    return rows(db, Gone, query, (GONE,))


def workers(
    states: Sequence[WorkerState],
    offline: list[Gone],
    now: datetime,
    *,
    wanted: Mapping[str, int],
    most: Mapping[str, int],
    stall_s: Mapping[str, float],
) -> Workers:
    """The registry's and the store's view together; `wanted`, `most` and `stall_s` by stage, from the configuration."""
    found = sorted(
        (_worker(state, now, stall_s[state.stage]) for state in states),
        key=lambda worker: (STAGES.index(worker.stage), worker.worker),
    )
    stages = {
        stage: StageWorkers(
            online=sum(1 for w in found if w.stage == stage),
            working=sum(1 for w in found if w.stage == stage and w.state == "working"),
            stuck=sum(1 for w in found if w.stage == stage and w.state == "stuck"),
            min=wanted[stage],
            max=most[stage],
        )
        for stage in STAGES
    }
    return Workers(
        online=len(found),
        working=sum(1 for w in found if w.state == "working"),
        stuck=sum(1 for w in found if w.state == "stuck"),
        stages=stages,
        workers=found,
        offline=offline,
    )


def _worker(state: WorkerState, now: datetime, stall_s: float) -> Worker:
    age_s = None if state.progress_at is None else max(0.0, (now - state.progress_at).total_seconds())
    stuck = state.job is not None and age_s is not None and age_s > stall_s
    return Worker(
        worker=state.worker,
        stage=state.stage,
        state="idle" if state.job is None else ("stuck" if stuck else "working"),
        pid=state.pid,
        host=state.host,
        started_at=state.started_at,
        job=state.job,
        clip=state.clip,
        progress=state.progress,
        progress_age_s=None if age_s is None else round(age_s, 1),
        rss_bytes=state.rss_bytes,
        gpu_memory_bytes=state.gpu_memory_bytes,
    )
