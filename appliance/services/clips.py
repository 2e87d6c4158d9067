"""Clips: what is being made and what is ready."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from appliance.services.figures import counts, rows
from appliance.sqlite import sqlite3

READY = 30


class ClipItem(Struct, frozen=True, kw_only=True):
    """A clip that is ready."""

    job: str
    clip: int
    title: str
    name: str
    """Of its job's video."""
    score: float
    start_s: float
    end_s: float
    duration_s: float | None
    size_bytes: int | None
    path: str | None
    encoder: str | None
    loudness_lufs: float | None
    ready_at: str


class Clips(Struct, frozen=True, kw_only=True):
    """All clips at one moment."""

    in_work: dict[str, int]
    """Clips of open jobs by state: planned, running, ready, failed."""
    made: int
    """Clips that became ready, those of deleted jobs included."""
    newest: list[ClipItem]
    """Ready ones, newest first, at most READY."""


def clips(db: sqlite3.Connection, now: datetime) -> Clips:
    return Clips(
        in_work=counts(
            db,
            "SELECT clips.state, count(*) FROM jobs CROSS JOIN clips ON clips.job = jobs.job"
            " WHERE jobs.state IN ('queued', 'running', 'clipping') GROUP BY clips.state",
        ),
        made=counts(db, "SELECT state, count FROM totals WHERE kind = 'clips'").get("ready", 0),
        newest=rows(
            db,
            ClipItem,
            "SELECT clips.job, clip, title, name, score, start_s, end_s, clips.duration_s, clips.size_bytes, path,"
            " encoder, loudness_lufs, clips.updated_at AS ready_at FROM clips INDEXED BY clips_ready"
            " CROSS JOIN jobs ON jobs.job = clips.job"
            " WHERE clips.state = 'ready' AND jobs.state <> 'deleted' AND jobs.clips_removed_at IS NULL"
            " ORDER BY clips.updated_at DESC, clips.job DESC, clip LIMIT ?",
            (READY,),
        ),
    )
