"""What may go, and in which order. Pure: jobs, settings and the time in, removals out.

    1  what belongs to no job (`appliance.storage.orphans`)
    2  intermediate files of completed jobs
    3  sources: of jobs whose clips are all ready; then, with their intermediate files, of those that can be retried
    4  clips, only when they have an age to reach or may go when space is short

Within a step the oldest go first. What has reached its age goes in any case. When space is short, what has not goes
too, but only what can be made or fetched again: intermediate files, and sources whose original still lies where it came
from. Nothing of an open job, of a pinned one, or of the newest `keep_jobs` ever goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from appliance.storage.measured import JobBytes
from appliance.storage.settings import Retention

Kind = Literal["source", "scratch", "clips", "other"]


class EndedJob(Struct, frozen=True, kw_only=True):
    """A job that has ended, and what is left of its files."""

    job: str
    name: str
    state: Literal["completed", "failed", "cancelled"]
    ended_at: datetime
    complete: bool
    """Every clip is ready."""
    pinned: bool
    has_original: bool
    """The file that its source was copied from still lies there, with the same size."""
    bytes: JobBytes
    """What is on disk."""


class Removal(Struct, frozen=True, kw_only=True):
    """One thing to remove."""

    kind: Kind
    job: str | None
    """None: it belongs to no job."""
    path: str
    """Below the data folder, for people."""
    size_bytes: int
    reason: str


def plan(jobs: Iterable[EndedJob], settings: Retention, now: datetime, short_bytes: int) -> list[Removal]:
    """What to remove now, in order. `short_bytes`: how much more should be free; 0: space is not short."""
    newest_first = sorted(jobs, key=lambda job: (job.ended_at, job.job), reverse=True)
    movable = [job for job in reversed(newest_first[settings.keep_jobs :]) if not job.pinned]
    removals = list(_of_age(movable, settings, now))
    freed = sum(removal.size_bytes for removal in removals)
    gone = {(removal.job, removal.kind) for removal in removals}
    for removal in _when_short(movable, settings):
        if freed >= short_bytes:
            break
        if (removal.job, removal.kind) not in gone:
            removals.append(removal)
            freed += removal.size_bytes
    return removals


def _of_age(jobs: list[EndedJob], settings: Retention, now: datetime) -> Iterator[Removal]:
    complete = [job for job in jobs if job.complete]
    unfinished = [job for job in jobs if not job.complete]
    for job in complete:
        yield from _aged(job, "scratch", settings.scratch_days, "scratch_days", now)
    for job in complete:
        yield from _aged(job, "source", settings.source_days, "source_days", now)
    for job in unfinished:
        yield from _aged(job, "source", settings.unfinished_days, "unfinished_days", now)
        yield from _aged(job, "scratch", settings.unfinished_days, "unfinished_days", now)
    for job in jobs:
        yield from _aged(job, "clips", settings.clips_days, "clips_days", now)


def _aged(job: EndedJob, kind: Kind, days: float, setting: str, now: datetime) -> Iterator[Removal]:
    if days > 0 and now - job.ended_at >= timedelta(days=days):
        age_days = (now - job.ended_at) / timedelta(days=1)
        yield from _removal(job, kind, f"the job {job.state} {age_days:.0f} days ago (retention.{setting})")


def _when_short(jobs: list[EndedJob], settings: Retention) -> Iterator[Removal]:
    complete = [job for job in jobs if job.complete]
    for job in complete:
        yield from _removal(job, "scratch", "space is short; the job is completed")
    for job in complete:
        if job.has_original:
            yield from _removal(job, "source", "space is short; the file that it was copied from is still there")
    if settings.clips_when_short:
        for job in jobs:
            yield from _removal(job, "clips", "space is short and nothing else is left (retention.clips_when_short)")


def _removal(job: EndedJob, kind: Kind, reason: str) -> Iterator[Removal]:
    size = {
        "source": job.bytes.source_bytes,
        "scratch": job.bytes.scratch_bytes,
        "clips": job.bytes.clip_bytes,
        "other": 0,
    }[kind]
    if size:
        path = f"output/{job.job}" if kind == "clips" else f"jobs/{job.job}"
        yield Removal(kind=kind, job=job.job, path=path, size_bytes=size, reason=reason)
