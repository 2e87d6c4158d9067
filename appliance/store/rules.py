"""What each fact changes in the rows: one function per event type, listed in `RULES`.

A rule runs inside the writer's transaction, reads nothing but its fact and the rows, and never reads a clock. Facts
that arrive after a job has ended (a late result of a cancelled job) leave its rows as they are.
"""

# ruff: noqa: S608 - the only names put into SQL are those of our own schema

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

import msgspec

from appliance.sqlite import sqlite3
from bus.events import (
    CLIP_STAGES,
    DONE,
    STARTED,
    AlertCleared,
    AlertRaised,
    ClipFailed,
    ClipPlanned,
    ClipReady,
    ControlChanged,
    Event,
    FileDeleted,
    FileRefused,
    FilesPinned,
    FilesUnpinned,
    FileUploaded,
    JobAnalyzed,
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobDeleted,
    JobDownloaded,
    JobFailed,
    JobRetried,
    JobRetrying,
    JobTranscribed,
    ServiceDown,
    ServiceUp,
    StageDone,
    StageStarted,
    WorkerOffline,
    WorkerOnline,
)

_STAGE_OF = {event_type: stage for stage, event_type in DONE.items()}
_LIVE = "state IN ('queued', 'running', 'clipping')"


def text(value: object) -> str:
    """A value as compact JSON text, the form in which lists and structs are stored."""
    return msgspec.json.encode(value).decode()


def _created(db: sqlite3.Connection, seq: int, e: JobCreated) -> None:
    db.execute(
        "INSERT INTO jobs (job, state, stage, name, kind, location, fingerprint, options, priority, owner,"
        " created_at, updated_at, last_seq) VALUES (?, 'queued', 'download', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (job) DO NOTHING",
        (
            e.job,
            e.origin.name,
            e.origin.kind,
            e.origin.location,
            e.origin.fingerprint,
            text(e.options),
            e.priority,
            e.owner,
            e.ts.isoformat(),
            e.ts.isoformat(),
            seq,
        ),
    )


def _started(db: sqlite3.Connection, seq: int, e: StageStarted) -> None:
    db.execute(
        "INSERT INTO attempts (seq, job, clip, stage, attempt, claim, worker, started_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (seq, e.job, e.clip, e.stage, e.attempt, e.claim, e.worker, e.ts.isoformat()),
    )
    if e.clip is None:
        db.execute(
            f"UPDATE jobs SET state = 'running', stage = ?, updated_at = ? WHERE job = ? AND {_LIVE}",
            (e.stage, e.ts.isoformat(), e.job),
        )
    else:
        db.execute(
            "UPDATE clips SET state = 'running', stage = ?, updated_at = ?"
            " WHERE job = ? AND clip = ? AND state IN ('planned', 'running')",
            (e.stage, e.ts.isoformat(), e.job, e.clip),
        )


def _close_attempt(
    db: sqlite3.Connection, event: Event, stage: str, outcome: str, error: str | None = None, code: str | None = None
) -> None:
    done = event if isinstance(event, StageDone) else None
    db.execute(
        "UPDATE attempts SET ended_at = ?, outcome = ?, seconds = ?, device = ?, notes = ?, error = ?, error_code = ?"
        " WHERE seq = (SELECT max(seq) FROM attempts WHERE job = ? AND clip IS ? AND stage = ?)",
        (
            event.ts.isoformat(),
            outcome,
            done.seconds if done else None,
            done.device if done else None,
            text(done.notes) if done else None,
            error,
            code,
            event.job,
            event.clip,
            stage,
        ),
    )


def _job_done(
    db: sqlite3.Connection, e: StageDone, stage: str, following: str, sets: str, values: tuple[object, ...]
) -> None:
    _close_attempt(db, e, stage, "done")
    db.execute(
        f"UPDATE jobs SET last_done = ?, stage = ?, updated_at = ?, {sets} WHERE job = ? AND {_LIVE}",
        (stage, following, e.ts.isoformat(), *values, e.job),
    )


def _downloaded(db: sqlite3.Connection, seq: int, e: JobDownloaded) -> None:
    values = (e.duration_s, e.size_bytes, e.sha256)
    sets = "duration_s = ?, size_bytes = ?, sha256 = ?, source_removed_at = NULL"
    _job_done(db, e, "download", "transcribe", sets, values)


def _transcribed(db: sqlite3.Connection, seq: int, e: JobTranscribed) -> None:
    sets = "language = ?, rough = ?, scratch_removed_at = NULL"
    _job_done(db, e, "transcribe", "moments", sets, (e.language, int(e.rough)))


def _analyzed(db: sqlite3.Connection, seq: int, e: JobAnalyzed) -> None:
    _job_done(db, e, "moments", "faces", "state = 'clipping', clips_planned = ?", (e.clips,))


def _planned(db: sqlite3.Connection, seq: int, e: ClipPlanned) -> None:
    db.execute(
        "INSERT INTO clips (job, clip, state, stage, start_s, end_s, score, title, reasons, updated_at, last_seq)"
        " VALUES (?, ?, 'planned', 'faces', ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, clip) DO NOTHING",
        (e.job, e.clip, e.start_s, e.end_s, e.score, e.title, text(e.reasons), e.ts.isoformat(), seq),
    )


def _clip_stage_done(db: sqlite3.Connection, seq: int, e: StageDone) -> None:
    stage = _STAGE_OF[type(e)]
    following = CLIP_STAGES[CLIP_STAGES.index(stage) + 1]
    _close_attempt(db, e, stage, "done")
    db.execute(
        "UPDATE clips SET last_done = ?, stage = ?, updated_at = ?"
        f" WHERE job = ? AND clip = ? AND (SELECT {_LIVE} FROM jobs WHERE jobs.job = clips.job)",
        (stage, following, e.ts.isoformat(), e.job, e.clip),
    )


def _ready(db: sqlite3.Connection, seq: int, e: ClipReady) -> None:
    _close_attempt(db, e, "cut", "done")
    db.execute(
        "UPDATE clips SET state = 'ready', stage = NULL, last_done = 'cut', path = ?, size_bytes = ?, sha256 = ?,"
        " duration_s = ?, encoder = ?, loudness_lufs = ?, error = NULL, error_code = NULL, updated_at = ?"
        f" WHERE job = ? AND clip = ? AND (SELECT {_LIVE} FROM jobs WHERE jobs.job = clips.job)",
        (e.path, e.size_bytes, e.sha256, e.duration_s, e.encoder, e.loudness_lufs, e.ts.isoformat(), e.job, e.clip),
    )
    _count_clips(db, e)


def _clip_failed(db: sqlite3.Connection, seq: int, e: ClipFailed) -> None:
    _close_attempt(db, e, e.stage, "failed", e.error, e.code)
    db.execute(
        "UPDATE clips SET state = 'failed', stage = ?, error = ?, error_code = ?, updated_at = ?"
        f" WHERE job = ? AND clip = ? AND (SELECT {_LIVE} FROM jobs WHERE jobs.job = clips.job)",
        (e.stage, e.error, e.code, e.ts.isoformat(), e.job, e.clip),
    )
    _count_clips(db, e)


def _count_clips(db: sqlite3.Connection, e: Event) -> None:
    db.execute(
        "UPDATE jobs SET updated_at = ?1,"
        " clips_ready = (SELECT count(*) FROM clips WHERE job = ?2 AND state = 'ready'),"
        " clips_failed = (SELECT count(*) FROM clips WHERE job = ?2 AND state = 'failed') WHERE job = ?2",
        (e.ts.isoformat(), e.job),
    )


def _retrying(db: sqlite3.Connection, seq: int, e: JobRetrying) -> None:
    _close_attempt(db, e, e.stage, "retrying", e.error, e.code)
    table, item = ("jobs", "job = ?") if e.clip is None else ("clips", "job = ? AND clip = ?")
    db.execute(
        f"UPDATE {table} SET error = ?, error_code = ?, updated_at = ? WHERE {item}",
        (e.error, e.code, e.ts.isoformat(), e.job) + (() if e.clip is None else (e.clip,)),
    )


def _end_job(db: sqlite3.Connection, e: Event, state: str, error: str | None = None, code: str | None = None) -> None:
    db.execute(
        "UPDATE jobs SET state = ?, stage = NULL, ended_at = ?, updated_at = ?, error = ?, error_code = ?"
        f" WHERE job = ? AND {_LIVE}",
        (state, e.ts.isoformat(), e.ts.isoformat(), error, code, e.job),
    )


def _completed(db: sqlite3.Connection, seq: int, e: JobCompleted) -> None:
    _end_job(db, e, "completed")


def _failed(db: sqlite3.Connection, seq: int, e: JobFailed) -> None:
    _close_attempt(db, e, e.stage, "failed", e.error, e.code)
    _end_job(db, e, "failed", e.error, e.code)


def _cancelled(db: sqlite3.Connection, seq: int, e: JobCancelled) -> None:
    _end_job(db, e, "cancelled", e.reason or None)


def _deleted(db: sqlite3.Connection, seq: int, e: JobDeleted) -> None:
    db.execute(
        "UPDATE jobs SET state = 'deleted', stage = NULL, updated_at = ?, ended_at = coalesce(ended_at, ?)"
        " WHERE job = ?",
        (e.ts.isoformat(), e.ts.isoformat(), e.job),
    )


def _file_deleted(db: sqlite3.Connection, seq: int, e: FileDeleted) -> None:
    """What is gone of an ended job. A job that goes on meanwhile keeps its files, and its row says so."""
    if e.kind in ("source", "scratch", "clips"):
        db.execute(
            f"UPDATE jobs SET {e.kind}_removed_at = ?, updated_at = ?"
            " WHERE job = ? AND state IN ('completed', 'failed', 'cancelled') AND NOT pinned",
            (e.ts.isoformat(), e.ts.isoformat(), e.job),
        )


def _pinned(db: sqlite3.Connection, seq: int, e: FilesPinned | FilesUnpinned) -> None:
    pinned = int(isinstance(e, FilesPinned))
    db.execute("UPDATE jobs SET pinned = ?, updated_at = ? WHERE job = ?", (pinned, e.ts.isoformat(), e.job))


def _retried(db: sqlite3.Connection, seq: int, e: JobRetried) -> None:
    if e.clip is None:
        db.execute(
            "UPDATE jobs SET state = CASE WHEN clips_planned IS NULL THEN 'queued' ELSE 'clipping' END,"
            " stage = ?, ended_at = NULL, error = NULL, error_code = NULL, updated_at = ? WHERE job = ?",
            (e.stage, e.ts.isoformat(), e.job),
        )
        # Whatever is not ready goes on, each at the stage that a fact of its own will name. Open from this moment on:
        # a job that is live again with nothing but ended clips would look finished.
        db.execute(
            "UPDATE clips SET state = 'planned', error = NULL, error_code = NULL, updated_at = ?"
            " WHERE job = ? AND state <> 'ready'",
            (e.ts.isoformat(), e.job),
        )
        _count_clips(db, e)
        return
    db.execute(
        "UPDATE clips SET state = 'planned', stage = ?, error = NULL, error_code = NULL, updated_at = ?"
        " WHERE job = ? AND clip = ?",
        (e.stage, e.ts.isoformat(), e.job, e.clip),
    )
    _count_clips(db, e)


def _uploaded(db: sqlite3.Connection, seq: int, e: FileUploaded) -> None:
    db.execute(
        "INSERT INTO files VALUES (?, ?, 'taken', ?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?)",
        (seq, e.file, e.path, e.name, e.size_bytes, e.sha256, e.via, e.fingerprint, e.job, e.ts.isoformat()),
    )


def _refused(db: sqlite3.Connection, seq: int, e: FileRefused) -> None:
    found = (seq, e.file, e.path, e.name, e.size_bytes, e.sha256, e.fingerprint)
    db.execute(
        "INSERT INTO files VALUES (?, ?, 'refused', ?, ?, ?, ?, 'watch', ?, ?, ?, ?, ?)",
        (*found, e.same_as, e.code, e.reason, e.ts.isoformat()),
    )


def _online(db: sqlite3.Connection, seq: int, e: WorkerOnline) -> None:
    db.execute(
        "INSERT INTO workers VALUES (?, ?, 'online', ?, ?, ?, NULL) ON CONFLICT (worker) DO UPDATE SET"
        " state = 'online', pid = excluded.pid, host = excluded.host, since = excluded.since, reason = NULL",
        (e.worker, e.stage, e.pid, e.host, e.ts.isoformat()),
    )


def _offline(db: sqlite3.Connection, seq: int, e: WorkerOffline) -> None:
    db.execute(
        "INSERT INTO workers VALUES (?, ?, 'offline', NULL, NULL, ?, ?) ON CONFLICT (worker) DO UPDATE SET"
        " state = 'offline', since = excluded.since, reason = excluded.reason",
        (e.worker, e.stage, e.ts.isoformat(), e.reason),
    )


def _service_up(db: sqlite3.Connection, seq: int, e: ServiceUp) -> None:
    db.execute(
        "INSERT INTO services VALUES (?, 'up', ?, ?, NULL, 0) ON CONFLICT (service) DO UPDATE SET"
        " state = 'up', since = excluded.since, pid = excluded.pid, reason = NULL",
        (e.service, e.ts.isoformat(), e.pid),
    )


def _service_down(db: sqlite3.Connection, seq: int, e: ServiceDown) -> None:
    if e.on_purpose:
        db.execute("DELETE FROM services WHERE service = ?", (e.service,))
        return
    db.execute(
        "INSERT INTO services VALUES (?, 'down', ?, NULL, ?, ?) ON CONFLICT (service) DO UPDATE SET"
        " state = 'down', since = excluded.since, pid = NULL, reason = excluded.reason, restarts = excluded.restarts",
        (e.service, e.ts.isoformat(), e.reason, e.restarts),
    )


def _raised(db: sqlite3.Connection, seq: int, e: AlertRaised) -> None:
    db.execute(
        "INSERT INTO alerts VALUES (?, ?, 'raised', ?, ?, ?, ?) ON CONFLICT (alert) DO UPDATE SET state = 'raised',"
        " severity = excluded.severity, message = excluded.message, value = excluded.value,"
        " threshold = excluded.threshold, since = excluded.since",
        (e.alert, e.severity, e.message, e.value, e.threshold, e.ts.isoformat()),
    )


def _cleared(db: sqlite3.Connection, seq: int, e: AlertCleared) -> None:
    db.execute(
        "UPDATE alerts SET state = 'cleared', message = ?, since = ? WHERE alert = ?",
        (e.message, e.ts.isoformat(), e.alert),
    )


def _controlled(db: sqlite3.Connection, seq: int, e: ControlChanged) -> None:
    db.execute(
        "INSERT INTO controls VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (target, holder) DO UPDATE SET"
        " since = CASE WHEN mode = excluded.mode THEN since ELSE excluded.since END,"
        " mode = excluded.mode, said_by = excluded.said_by, reason = excluded.reason, until = excluded.until",
        (
            *(e.target, e.holder, e.mode, e.by, e.reason, e.ts.isoformat()),
            None if e.until is None else e.until.astimezone(UTC).isoformat(),
        ),
    )


RULES: dict[type[Event], Callable[[sqlite3.Connection, int, Any], None]] = {
    JobCreated: _created,
    **dict.fromkeys(STARTED.values(), _started),
    JobDownloaded: _downloaded,
    JobTranscribed: _transcribed,
    JobAnalyzed: _analyzed,
    ClipPlanned: _planned,
    DONE["faces"]: _clip_stage_done,
    DONE["crop"]: _clip_stage_done,
    ClipReady: _ready,
    ClipFailed: _clip_failed,
    JobRetrying: _retrying,
    JobCompleted: _completed,
    JobFailed: _failed,
    JobCancelled: _cancelled,
    JobDeleted: _deleted,
    JobRetried: _retried,
    FileUploaded: _uploaded,
    FileRefused: _refused,
    FileDeleted: _file_deleted,
    FilesPinned: _pinned,
    FilesUnpinned: _pinned,
    WorkerOnline: _online,
    WorkerOffline: _offline,
    ServiceUp: _service_up,
    ServiceDown: _service_down,
    AlertRaised: _raised,
    AlertCleared: _cleared,
    ControlChanged: _controlled,
}
