"""What uses how much of the data volume: for people, the web, and the sweep. Blocking; call it in a thread."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from msgspec import Struct

from appliance.config import Config
from appliance.errors import StoreDamaged
from appliance.storage.admission import Admission
from appliance.storage.forecast import Forecast, forecast
from appliance.storage.measured import JobBytes, weigh
from appliance.storage.retention import Removal
from appliance.storage.survey import survey
from appliance.storage.volume import taken
from appliance.store.database import open_reader
from appliance.uploads import uploads_dir
from bus.events import JobOptions

LARGEST = 20
NEXT = 50
JOBS = """SELECT jobs.job, name, state, pinned, ended_at, source_bytes, scratch_bytes, clip_bytes FROM jobs
LEFT JOIN job_bytes USING (job) WHERE state <> 'deleted'"""


class JobUse(Struct, frozen=True, kw_only=True):
    """What one job's files take."""

    job: str
    name: str
    state: str
    pinned: bool
    ended_at: str | None
    bytes: JobBytes


class StorageReport(Struct, frozen=True, kw_only=True):
    """The data volume at one moment. Everything is bytes on disk."""

    path: str
    total_bytes: int
    free_bytes: int
    promised_bytes: int
    """What open jobs will still need."""
    open_jobs: int
    reserve_bytes: int
    """No job may count on these."""
    floor_bytes: int
    """Below so many free bytes intake closes by itself."""
    target_bytes: int
    """What retention tries to keep free beyond the promised."""
    uses: dict[str, int]
    """By kind: sources, scratch, clips, uploads (that no job has), input, models, database, bus, logs, ballast."""
    largest: list[JobUse]
    """At most LARGEST jobs, the largest first."""
    short_bytes: int
    """How much more retention wants to be free."""
    next: list[Removal]
    """What retention would remove now, in order, at most NEXT."""
    next_bytes: int
    """Of all that it would remove."""
    typical: Forecast
    """What a job with a source as large as the median of this box's will take."""


def report(config: Config) -> StorageReport:
    """Measure now: walks through the folders of open jobs and of those never measured. Raises `SourceUnavailable`."""
    data_dir = config.data_dir
    ratios, promised = Admission(config).known()
    found = survey(config)
    volume, kept = found.volume, found.marks
    jobs, median = _jobs(config)
    sums = JobBytes(
        source_bytes=sum(job.bytes.source_bytes for job in jobs),
        scratch_bytes=sum(job.bytes.scratch_bytes for job in jobs),
        clip_bytes=sum(job.bytes.clip_bytes for job in jobs),
    )
    database = sum(taken(path) for path in data_dir.glob("*.db*"))
    jobs.sort(key=lambda job: job.bytes.total_bytes, reverse=True)
    return StorageReport(
        path=str(data_dir),
        total_bytes=volume.total_bytes,
        free_bytes=volume.free_bytes,
        promised_bytes=promised.bytes,
        open_jobs=promised.jobs,
        reserve_bytes=kept.reserve_bytes,
        floor_bytes=kept.floor_bytes,
        target_bytes=kept.target_bytes,
        uses={
            "sources": sums.source_bytes,
            "scratch": sums.scratch_bytes,
            "clips": sums.clip_bytes,
            "uploads": taken(uploads_dir(data_dir), shared=False),
            "input": taken(data_dir / "input"),
            "models": taken(config.models_dir),
            "database": database,
            "bus": taken(data_dir / "nats"),
            "logs": taken(config.logs_dir),
            "ballast": taken(data_dir / "run" / "ballast"),
        },
        largest=[job for job in jobs[:LARGEST] if job.bytes.total_bytes],
        short_bytes=found.short_bytes,
        next=found.removals[:NEXT],
        next_bytes=sum(removal.size_bytes for removal in found.removals),
        typical=forecast(median, JobOptions(), config.stages, ratios),
    )


def _jobs(config: Config) -> tuple[list[JobUse], int | None]:
    """All jobs that have files, and the median size of their sources."""
    try:
        with closing(open_reader(config.data_dir / "appliance.db")) as db:
            rows = db.execute(JOBS).fetchall()
            sizes = db.execute("SELECT size_bytes FROM jobs WHERE size_bytes > 0 ORDER BY size_bytes").fetchall()
    except (StoreDamaged, sqlite3.OperationalError):
        return [], None
    median = sizes[len(sizes) // 2][0] if sizes else None
    return [_use(config, row) for row in rows], median


def _use(config: Config, row: sqlite3.Row) -> JobUse:
    measured = row["ended_at"] is not None and row["source_bytes"] is not None
    return JobUse(
        job=row["job"],
        name=row["name"],
        state=row["state"],
        pinned=bool(row["pinned"]),
        ended_at=row["ended_at"],
        bytes=JobBytes(
            source_bytes=row["source_bytes"], scratch_bytes=row["scratch_bytes"], clip_bytes=row["clip_bytes"]
        )
        if measured
        else weigh(config.data_dir, row["job"]),
    )
