"""What there is to plan with: ended jobs and their files, orphans, and how short space is. Blocking."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct

from appliance.config import Config
from appliance.errors import StoreDamaged
from appliance.sqlite import sqlite3
from appliance.storage import orphans
from appliance.storage.admission import Admission, Promised, file_bytes, no_answer
from appliance.storage.forecast import Ratios
from appliance.storage.measured import JobBytes, is_prepared, weigh
from appliance.storage.retention import EndedJob, Removal, plan
from appliance.storage.volume import Marks, Volume, marks, measure
from appliance.store.database import open_reader

ENDED = """SELECT jobs.job, name, state, ended_at, pinned, kind, location, size_bytes, clips_failed, source_removed_at,
scratch_removed_at, clips_removed_at, source_bytes, scratch_bytes, clip_bytes FROM jobs LEFT JOIN job_bytes USING (job)
WHERE state IN ('completed', 'failed', 'cancelled') AND ended_at IS NOT NULL
AND (source_bytes IS NULL OR source_bytes > 0 OR scratch_bytes > 0 OR clip_bytes > 0)"""
LEAVING = timedelta(minutes=10)
"""For so long what a fact has said to be gone counts as about to be free; what is still there then does not go."""


class Survey(Struct, frozen=True, kw_only=True):
    """The data volume and what may be removed from it, at one moment."""

    volume: Volume
    marks: Marks
    ratios: Ratios
    promised: Promised
    short_bytes: int
    """How much more should be free, beside what is being removed already; 0: space is not short."""
    removals: list[Removal]
    """In the order in which they would go."""

    @property
    def enough(self) -> bool:
        """Whether the removals make up for what is short."""
        return sum(removal.size_bytes for removal in self.removals) >= self.short_bytes


def survey(config: Config, now: datetime | None = None) -> Survey:
    """Look now. Raises `SourceUnavailable`, OSError."""
    at = datetime.now(UTC) if now is None else now
    volume = measure(config.data_dir)
    kept = marks(config.admission, config.retention, volume.total_bytes)
    with closing(Admission(config)) as admission:
        ratios, promised = admission.known()
    try:
        with closing(open_reader(config.data_dir / "appliance.db")) as db:
            known = is_prepared(db)
            rows = db.execute(ENDED).fetchall() if known else []
            orphans_after_s = config.retention.orphans_after_s
            lost = orphans.find(db, config.data_dir, orphans_after_s, at.timestamp()) if known else []
    except StoreDamaged:  # there is none yet
        rows, lost = [], []
    except sqlite3.Error as error:
        raise no_answer("what may be removed", error) from error
    weighed = [(row, _bytes(config.data_dir, row)) for row in rows]
    leaving = sum(_leaving(row, found, at) for row, found in weighed)
    short = max(0, kept.target_bytes - (volume.free_bytes - promised.bytes + leaving))
    jobs = [_ended(config.data_dir, row, found, short=short > 0) for row, found in weighed]
    short_of_jobs = max(0, short - sum(orphan.size_bytes for orphan in lost))
    removals = [*lost, *plan(jobs, config.retention, at, short_of_jobs)]
    return Survey(volume=volume, marks=kept, ratios=ratios, promised=promised, short_bytes=short, removals=removals)


def _bytes(data_dir: Path, row: sqlite3.Row) -> JobBytes:
    if row["source_bytes"] is None:
        return weigh(data_dir, row["job"])
    return JobBytes(source_bytes=row["source_bytes"], scratch_bytes=row["scratch_bytes"], clip_bytes=row["clip_bytes"])


def _leaving(row: sqlite3.Row, found: JobBytes, now: datetime) -> int:
    """Bytes that a fact has just said to be gone and that are still there."""
    kinds = (
        (row["source_removed_at"], found.source_bytes),
        (row["scratch_removed_at"], found.scratch_bytes),
        (row["clips_removed_at"], found.clip_bytes),
    )
    return sum(size for said, size in kinds if said is not None and now - datetime.fromisoformat(said) < LEAVING)


def _ended(data_dir: Path, row: sqlite3.Row, found: JobBytes, *, short: bool) -> EndedJob:
    original = Path(row["location"])
    has_original = (
        short  # else nobody asks, and there may be a hundred thousand
        and row["kind"] == "file"
        and found.source_bytes > 0
        and row["size_bytes"] is not None
        and not original.is_relative_to(data_dir.absolute() / "jobs")
        and file_bytes(original) == row["size_bytes"]
    )
    return EndedJob(
        job=row["job"],
        name=row["name"],
        state=row["state"],
        ended_at=datetime.fromisoformat(row["ended_at"]),
        complete=row["state"] == "completed" and not row["clips_failed"],
        pinned=bool(row["pinned"]),
        has_original=has_original,
        # What a fact has said to be gone is being removed: it is not said again.
        bytes=JobBytes(
            source_bytes=0 if row["source_removed_at"] else found.source_bytes,
            scratch_bytes=0 if row["scratch_removed_at"] else found.scratch_bytes,
            clip_bytes=0 if row["clips_removed_at"] else found.clip_bytes,
        ),
    )
