"""Jobs: how many in which state, those that are open, and the newest."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from appliance.services.figures import counts, rows
from appliance.sqlite import sqlite3

NEWEST = 50
OPEN = 100
FAILED = 20

_COLUMNS = (
    "job, state, stage, name, kind, owner, priority, created_at, updated_at, ended_at, duration_s, size_bytes,"
    " clips_planned, clips_ready, clips_failed, error, error_code, pinned, source_removed_at, scratch_removed_at,"
    " clips_removed_at, last_seq"
)


class JobItem(Struct, frozen=True, kw_only=True):
    """A job as lists show it. Times are RFC 3339."""

    job: str
    state: str
    stage: str | None
    """The stage that works or waits; None once the job has ended."""
    name: str
    kind: str
    owner: str
    priority: int
    created_at: str
    updated_at: str
    ended_at: str | None
    duration_s: float | None
    """Of its video."""
    size_bytes: int | None
    clips_planned: int | None
    clips_ready: int
    clips_failed: int
    error: str | None
    error_code: str | None
    pinned: bool
    """Retention leaves its files alone."""
    source_removed_at: str | None
    """When retention removed its copy of the video; None: it is there, or never was. So with the two below."""
    scratch_removed_at: str | None
    clips_removed_at: str | None
    last_seq: int


class Jobs(Struct, frozen=True, kw_only=True):
    """All jobs at one moment."""

    states: dict[str, int]
    """Jobs by state; a state without jobs is absent."""
    open: list[JobItem]
    """Queued, running or clipping, oldest first, at most OPEN; `states` has the whole numbers."""
    newest: list[JobItem]
    """Newest first whatever the state, the deleted apart, at most NEWEST."""
    failed: list[JobItem]
    """Failed ones, newest first, at most FAILED."""


def job_states(db: sqlite3.Connection) -> dict[str, int]:
    return counts(db, "SELECT state, count FROM totals WHERE kind = 'jobs' AND count > 0")


def jobs(db: sqlite3.Connection, now: datetime) -> Jobs:
    return Jobs(
        states=job_states(db),
        open=rows(
            db,
            JobItem,
            f"SELECT {_COLUMNS} FROM jobs WHERE state IN ('queued', 'running', 'clipping') ORDER BY job LIMIT ?",  # noqa: S608
            (OPEN,),
        ),
        newest=rows(
            db,
            JobItem,
            f"SELECT {_COLUMNS} FROM jobs NOT INDEXED WHERE state <> 'deleted' ORDER BY job DESC LIMIT ?",  # noqa: S608
            (NEWEST,),
        ),
        failed=rows(
            db,
            JobItem,
            f"SELECT {_COLUMNS} FROM jobs WHERE state = 'failed' ORDER BY created_at DESC, job DESC LIMIT ?",  # noqa: S608
            (FAILED,),
        ),
    )
