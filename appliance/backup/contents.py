"""Which files belong into a backup, as its copy of the database tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from appliance.alerts.orders import path_of as orders_path
from appliance.backup.manifest import Kind
from appliance.sqlite import sqlite3
from appliance.uploads import content_path, source_path
from bus.events import JobSource

UNFINISHED = ("queued", "running", "clipping")


class Entry(Struct, frozen=True):
    """One file to be put in."""

    path: str
    kind: Kind
    at: Path


class Job(Struct, frozen=True):
    """What a backup needs to know of a job."""

    job: str
    state: str
    source: JobSource


class Told(Struct, frozen=True, kw_only=True):
    """What a copy of the database says of itself and its jobs."""

    epoch: str | None
    seq: int
    facts: int
    schema: int
    states: dict[str, int]
    jobs: list[Job]
    """Those whose files are not deleted."""

    @property
    def unfinished(self) -> list[Job]:
        return [job for job in self.jobs if job.state in UNFINISHED]


def told_by(database: Path) -> Told:
    """Read a copy that nobody else has open. Blocking."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        meta: dict[str, str] = dict(db.execute("SELECT key, value FROM meta").fetchall())
        return Told(
            epoch=meta.get("epoch"),
            seq=int(meta.get("cursor", 0)),
            facts=int(db.execute("SELECT count(*) FROM events").fetchone()[0]),
            schema=int(db.execute("PRAGMA user_version").fetchone()[0]),
            states=dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state ORDER BY state").fetchall()),
            jobs=[
                Job(row[0], row[1], JobSource(kind=row[2], location=row[3], name="", fingerprint=row[4]))
                for row in db.execute(
                    "SELECT job, state, kind, location, fingerprint FROM jobs WHERE state <> 'deleted' ORDER BY job"
                )
            ],
        )


def state_files(data_dir: Path) -> Iterator[Entry]:
    """Small files that no database holds."""
    orders = orders_path(data_dir)
    if orders.is_file():
        yield Entry(orders.relative_to(data_dir).as_posix(), "state", orders)


def artifact_files(data_dir: Path, told: Told) -> Iterator[Entry]:
    """What the stages of unfinished jobs have written so far, the videos apart."""
    for job in told.unfinished:
        yield from _below(data_dir, data_dir / "jobs" / job.job, "artifact", "*.json")


def source_files(data_dir: Path, told: Told, uploads: Sequence[str]) -> Iterator[Entry]:
    """The videos of unfinished jobs: the job's own copy, else the file in the data folder that it will be made from.

    `uploads`: the sha256 of finished uploads that are to become jobs; their content is acknowledged.
    """
    found = {content_path(data_dir, sha256) for sha256 in uploads}
    for job in told.unfinished:
        own = list(_below(data_dir, data_dir / "jobs" / job.job, "source", "source.*"))
        yield from own
        if not own and (at := source_path(data_dir, job.source)) is not None:
            found.add(at)
    for at in sorted(found):
        if at.is_relative_to(data_dir) and at.is_file():
            yield Entry(at.relative_to(data_dir).as_posix(), "source", at)


def clip_files(data_dir: Path, told: Told) -> Iterator[Entry]:
    """Everything finished, of every job."""
    for job in told.jobs:
        yield from _below(data_dir, data_dir / "output" / job.job, "clip", "*")


def _below(data_dir: Path, folder: Path, kind: Kind, pattern: str) -> Iterator[Entry]:
    """Plain files, no half-written ones, in order."""
    for at in sorted(folder.rglob(pattern)):
        if not at.name.startswith(".") and at.is_file() and not at.is_symlink():
            yield Entry(at.relative_to(data_dir).as_posix(), kind, at)
