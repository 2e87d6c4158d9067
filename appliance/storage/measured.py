"""What each ended job's files take, measured when it ends, in a table of its own beside the projected ones.

It is what forecasts learn from, and saves walking through every folder. Written by the one writer, read by anybody.
Rebuilding the database measures anew: the action that writes it runs again.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from appliance.sqlite import sqlite3
from appliance.storage.volume import taken
from stages.folder import JobFolder

TABLE = """CREATE TABLE IF NOT EXISTS job_bytes (
    job TEXT PRIMARY KEY,
    source_bytes INTEGER NOT NULL,
    scratch_bytes INTEGER NOT NULL,
    clip_bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID"""


class JobBytes(Struct, frozen=True, kw_only=True):
    """Bytes on disk of a job's files, by what becomes of them."""

    source_bytes: int = 0
    scratch_bytes: int = 0
    clip_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.source_bytes + self.scratch_bytes + self.clip_bytes


def prepare(db: sqlite3.Connection) -> None:
    """Make the table when it is not there."""
    db.execute(TABLE)


def is_prepared(db: sqlite3.Connection) -> bool:
    """Whether the table is there: not in a database that the box has not written yet since it was made."""
    return bool(db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'job_bytes'").fetchone()[0])


def weigh(data_dir: Path, job: str) -> JobBytes:
    """Measure the job's folders. Blocking."""
    folder = JobFolder.of(data_dir, job)
    if not folder.root.exists() and not folder.output.exists():
        return JobBytes()
    sources = sum(taken(path) for path in source_files(folder))
    return JobBytes(
        source_bytes=sources,
        scratch_bytes=max(0, taken(folder.root) - sources),
        clip_bytes=taken(folder.output),
    )


def source_files(folder: JobFolder) -> list[Path]:
    """The job's video, and what a download has of it so far."""
    return sorted([*folder.root.glob("source.*"), *folder.root.glob(".source.*")])


def record(db: sqlite3.Connection, job: str, found: JobBytes) -> None:
    """Keep what was measured; the latest measurement counts."""
    values = (job, found.source_bytes, found.scratch_bytes, found.clip_bytes)
    db.execute(
        "INSERT INTO job_bytes VALUES (?, ?, ?, ?) ON CONFLICT (job) DO UPDATE SET"
        " source_bytes = excluded.source_bytes, scratch_bytes = excluded.scratch_bytes,"
        " clip_bytes = excluded.clip_bytes",
        values,
    )


def read(db: sqlite3.Connection, job: str) -> JobBytes | None:
    """What was measured of the job; None: nothing yet."""
    row = db.execute("SELECT source_bytes, scratch_bytes, clip_bytes FROM job_bytes WHERE job = ?", (job,)).fetchone()
    return None if row is None else JobBytes(source_bytes=row[0], scratch_bytes=row[1], clip_bytes=row[2])
