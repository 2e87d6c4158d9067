"""Pages of jobs and of facts, and one job with all its clips: what people leaf through, unlike the fixed sections."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct

from appliance.services.figures import rows
from appliance.sqlite import sqlite3

MAX_PAGE = 500

JobRecord = dict[str, Any]
"""A row of the table `jobs` by column."""


class ClipRecord(Struct, frozen=True, kw_only=True):
    """One clip of a job, from plan to file."""

    job: str
    clip: int
    state: str
    stage: str | None
    title: str
    score: float
    reasons: str
    """JSON list of sentences."""
    start_s: float
    end_s: float
    duration_s: float | None
    size_bytes: int | None
    encoder: str | None
    loudness_lufs: float | None
    error: str | None
    error_code: str | None
    updated_at: str


class Fact(Struct, frozen=True, kw_only=True):
    """A fact with its place in the stream."""

    seq: int
    event: dict[str, Any]


_CLIP_COLUMNS = ", ".join(ClipRecord.__struct_fields__)


def job_page(
    db: sqlite3.Connection, *, states: Collection[str] = (), before: str | None = None, limit: int = 50
) -> list[JobRecord]:
    """Newest first, those older than the job `before`. Without `states` all but the deleted ones."""
    where = [f"state IN ({', '.join('?' * len(states))})" if states else "state <> 'deleted'"]
    values: list[object] = list(states)
    if before is not None:
        where.append("job < ?")
        values.append(before)
    # Most jobs are completed ones: their index would be read and sorted whole, the table is in the order that we want.
    index = "NOT INDEXED" if not states or "completed" in states else ""
    query = f"SELECT * FROM jobs {index} WHERE {' AND '.join(where)} ORDER BY job DESC LIMIT ?"  # noqa: S608
    return [dict(row) for row in db.execute(query, (*values, min(limit, MAX_PAGE)))]


def job_record(db: sqlite3.Connection, job: str) -> JobRecord | None:
    """The job's row, None when there is none (yet)."""
    row = db.execute("SELECT * FROM jobs WHERE job = ?", (job,)).fetchone()
    return None if row is None else dict(row)


def clips_of(db: sqlite3.Connection, job: str) -> list[ClipRecord]:
    """In the order of their numbers."""
    return rows(db, ClipRecord, f"SELECT {_CLIP_COLUMNS} FROM clips WHERE job = ? ORDER BY clip", (job,))  # noqa: S608


def facts(
    db: sqlite3.Connection,
    *,
    after: int | None = None,
    before: int | None = None,
    types: Collection[str] = (),
    job: str | None = None,
    without: str | None = None,
    limit: int = 100,
) -> list[Fact]:
    """Facts after `after`, oldest first; else those before `before` (None: the end), newest first.

    `without`: a type that is left out.
    """
    where, values = ["TRUE"], list[object]()
    if types:
        where.append(f"type IN ({', '.join('?' * len(types))})")
        values += types
    if job is not None:
        where.append("job = ?")
        values.append(job)
    if without is not None:
        where.append("type <> ?")
        values.append(without)
    if after is not None:
        where.append("seq > ?")
        values.append(after)
    if before is not None:
        where.append("seq < ?")
        values.append(before)
    order = "ASC" if after is not None else "DESC"
    query = f"SELECT seq, payload FROM events WHERE {' AND '.join(where)} ORDER BY seq {order} LIMIT ?"  # noqa: S608
    found = db.execute(query, (*values, min(limit, MAX_PAGE))).fetchall()
    return [Fact(seq=row[0], event=_decoded(row[1])) for row in found]


def _decoded(payload: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        found = None
    return found if isinstance(found, dict) else {"type": "unreadable"}


def failed_items(db: sqlite3.Connection) -> dict[tuple[str, int | None], str]:
    """Jobs and clips (job, clip) that are given up at the moment, with the name of the job's video."""
    jobs = db.execute("SELECT job, NULL, name FROM jobs WHERE state = 'failed'")
    found = {(row[0], row[1]): row[2] for row in jobs}
    clips = db.execute(
        "SELECT clips.job, clips.clip, jobs.name FROM jobs CROSS JOIN clips ON clips.job = jobs.job"
        " WHERE clips.state = 'failed' AND jobs.state IN ('completed', 'failed') AND jobs.clips_failed > 0"
    )
    return found | {(row[0], row[1]): row[2] for row in clips}
