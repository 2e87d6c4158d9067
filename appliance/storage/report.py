"""What uses how much of the data volume: for people, the web, and the sweep. Blocking; call it in a thread."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from msgspec import Struct

from appliance.config import Config
from appliance.errors import StoreDamaged
from appliance.sqlite import sqlite3
from appliance.storage.admission import no_answer
from appliance.storage.forecast import Forecast, forecast
from appliance.storage.measured import JobBytes, is_prepared, weigh
from appliance.storage.retention import Removal
from appliance.storage.survey import survey
from appliance.storage.volume import taken
from appliance.store.database import open_reader
from appliance.uploads import uploads_dir
from bus.events import JobOptions

LARGEST = 20
NEXT = 50
_NAMES = "jobs.job, name, state, pinned, ended_at"
_MEASURED = "FROM jobs JOIN job_bytes USING (job) WHERE state <> 'deleted' AND ended_at IS NOT NULL"
SUMS = f"SELECT total(source_bytes), total(scratch_bytes), total(clip_bytes) {_MEASURED}"
TOP = f"""SELECT {_NAMES}, source_bytes, scratch_bytes, clip_bytes {_MEASURED}
ORDER BY source_bytes + scratch_bytes + clip_bytes DESC LIMIT ?"""
UNMEASURED = f"""SELECT {_NAMES} FROM jobs LEFT JOIN job_bytes USING (job)
WHERE state <> 'deleted' AND (ended_at IS NULL OR source_bytes IS NULL)"""  # noqa: S608
MEDIAN = """SELECT size_bytes FROM jobs WHERE size_bytes > 0 ORDER BY size_bytes LIMIT 1
OFFSET (SELECT count(*) / 2 FROM jobs WHERE size_bytes > 0)"""


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
    found = survey(config)
    volume, kept, promised = found.volume, found.marks, found.promised
    sums, largest, median = _jobs(config)
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
            "database": sum(taken(path) for path in data_dir.glob("*.db*")),
            "bus": taken(data_dir / "nats"),
            "logs": taken(config.logs_dir),
            "ballast": taken(data_dir / "run" / "ballast"),
        },
        largest=largest,
        short_bytes=found.short_bytes,
        next=found.removals[:NEXT],
        next_bytes=sum(removal.size_bytes for removal in found.removals),
        typical=forecast(median, JobOptions(), config.stages, found.ratios),
    )


def _jobs(config: Config) -> tuple[JobBytes, list[JobUse], int | None]:
    """What all jobs take, the largest of them, and the median size of their sources."""
    try:
        with closing(open_reader(config.data_dir / "appliance.db")) as db:
            if not is_prepared(db):
                return JobBytes(), [], None
            sums, top = db.execute(SUMS).fetchone(), db.execute(TOP, (LARGEST,)).fetchall()
            others, median = db.execute(UNMEASURED).fetchall(), db.execute(MEDIAN).fetchone()
    except StoreDamaged:  # there is none yet
        return JobBytes(), [], None
    except sqlite3.Error as error:
        raise no_answer("what jobs take", error) from error
    weighed = [_use(row, weigh(config.data_dir, row["job"])) for row in others]
    jobs = [*weighed, *(_use(row, _bytes(row[5:])) for row in top)]
    jobs.sort(key=lambda job: job.bytes.total_bytes, reverse=True)
    known = _bytes(sums)
    everything = JobBytes(
        source_bytes=known.source_bytes + sum(job.bytes.source_bytes for job in weighed),
        scratch_bytes=known.scratch_bytes + sum(job.bytes.scratch_bytes for job in weighed),
        clip_bytes=known.clip_bytes + sum(job.bytes.clip_bytes for job in weighed),
    )
    largest = [job for job in jobs[:LARGEST] if job.bytes.total_bytes]
    return everything, largest, None if median is None else median[0]


def _bytes(columns: Sequence[float]) -> JobBytes:
    source, scratch, clips = (int(column) for column in columns)
    return JobBytes(source_bytes=source, scratch_bytes=scratch, clip_bytes=clips)


def _use(row: sqlite3.Row, found: JobBytes) -> JobUse:
    return JobUse(
        job=row["job"],
        name=row["name"],
        state=row["state"],
        pinned=bool(row["pinned"]),
        ended_at=row["ended_at"],
        bytes=found,
    )
