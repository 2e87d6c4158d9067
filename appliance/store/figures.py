"""What each fact adds to the figures: per hour, per hour and stage, and events per minute.

Sums that the analytics read instead of 100,000 jobs. Like the rules they are a pure function of the facts in stream
order: no clock, hours and minutes are those of the fact's own time in UTC. `count` runs before the fact's rule, so that
it sees the rows as they were; what changes no row (a late result of a cancelled job) adds nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from appliance.lifecycle import NO_CLIPS
from appliance.sqlite import sqlite3
from bus.events import (
    DONE,
    ClipFailed,
    ClipReady,
    Event,
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobDownloaded,
    JobFailed,
    JobRetrying,
    StageDone,
)

KEEP_MINUTES = 180
"""Minutes of event counts that are kept, up to the newest fact."""

_STAGE_OF = {event_type: stage for stage, event_type in DONE.items()}
_LIVE = ("queued", "running", "clipping")


def count(db: sqlite3.Connection, event: Event) -> None:
    """Add one fact to the figures. Call inside the writer's transaction, before the fact's rule."""
    moment = _utc(event.ts)
    _count_minute(db, moment, str(event.__struct_config__.tag))
    hour = moment.isoformat()[:13]
    if isinstance(event, JobCreated):
        if _job(db, event) is None:
            _add(db, hour, jobs=1)
    elif isinstance(event, StageDone):
        _count_done(db, hour, event)
    elif isinstance(event, JobRetrying):
        _add_stage(db, hour, event.stage, retried=1)
    elif isinstance(event, ClipFailed):
        job = _job(db, event)
        if job is not None and job[0] in _LIVE:
            _add_stage(db, hour, event.stage, failed=1)
            _add(db, hour, clips_failed=1)
    elif isinstance(event, JobFailed | JobCompleted | JobCancelled):
        _count_end(db, hour, event)


def _count_end(db: sqlite3.Connection, hour: str, event: JobFailed | JobCompleted | JobCancelled) -> None:
    job = _job(db, event)
    if job is None or job[0] not in _LIVE:
        return
    if isinstance(event, JobFailed):
        _add(db, hour, failed=1)
        if event.code != NO_CLIPS:  # else its failures were counted with its clips
            _add_stage(db, hour, event.stage, failed=1)
    elif isinstance(event, JobCompleted):
        _add(db, hour, completed=1)
    else:
        _add(db, hour, cancelled=1)


def _count_done(db: sqlite3.Connection, hour: str, event: StageDone) -> None:
    job = _job(db, event)
    if job is None or job[0] not in _LIVE:
        return
    media_s = job[1]
    if isinstance(event, JobDownloaded):
        if media_s is None:  # a job that is downloaded again brings nothing new in
            _add(db, hour, media_s=event.duration_s, source_bytes=event.size_bytes)
        media_s = event.duration_s
    if event.clip is not None:
        clip = db.execute(
            "SELECT end_s - start_s, state FROM clips WHERE job = ? AND clip = ?", (event.job, event.clip)
        ).fetchone()
        if clip is None:
            return
        media_s = clip[0]
        if isinstance(event, ClipReady) and clip[1] != "ready":
            _add(db, hour, clips_ready=1, clip_s=event.duration_s)
            if job[2] == 0:
                _first_clip(db, hour, (_utc(event.ts) - _utc(datetime.fromisoformat(job[3]))).total_seconds())
    _add_stage(db, hour, _STAGE_OF[type(event)], done=1, seconds=event.seconds, media_s=media_s or 0.0)


def _first_clip(db: sqlite3.Connection, hour: str, waited_s: float) -> None:
    _add(db, hour, first_clips=1, first_clip_s=waited_s)
    db.execute("UPDATE hours SET first_clip_max_s = max(first_clip_max_s, ?) WHERE hour = ?", (waited_s, hour))


def _count_minute(db: sqlite3.Connection, moment: datetime, kind: str) -> None:
    minute = moment.isoformat()[:16]
    if db.execute("SELECT 1 FROM event_minutes WHERE minute >= ? LIMIT 1", (minute,)).fetchone() is None:
        oldest = (moment - timedelta(minutes=KEEP_MINUTES)).isoformat()[:16]
        db.execute("DELETE FROM event_minutes WHERE minute < ?", (oldest,))
    db.execute(
        "INSERT INTO event_minutes VALUES (?, ?, 1) ON CONFLICT (minute, type) DO UPDATE SET count = count + 1",
        (minute, kind),
    )


def _job(db: sqlite3.Connection, event: Event) -> tuple[str, float | None, int, str] | None:
    row: tuple[str, float | None, int, str] | None = db.execute(
        "SELECT state, duration_s, clips_ready, created_at FROM jobs WHERE job = ?", (event.job,)
    ).fetchone()
    return row


def _add(db: sqlite3.Connection, hour: str, **amounts: float) -> None:
    _upsert(db, "hours", {"hour": hour}, amounts)


def _add_stage(db: sqlite3.Connection, hour: str, stage: str, **amounts: float) -> None:
    _upsert(db, "stage_hours", {"hour": hour, "stage": stage}, amounts)


def _upsert(db: sqlite3.Connection, table: str, key: dict[str, str], amounts: dict[str, float]) -> None:
    names = ", ".join([*key, *amounts])
    marks = ", ".join("?" * (len(key) + len(amounts)))
    sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in amounts)
    statement = f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT ({', '.join(key)}) DO UPDATE SET {sums}"  # noqa: S608 - names of our own schema
    db.execute(statement, (*key.values(), *amounts.values()))


def _utc(moment: datetime) -> datetime:
    """A time without a zone is taken as UTC, never as this machine's own."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
