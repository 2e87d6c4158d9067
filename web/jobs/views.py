"""Jobs and clips as the API tells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from litestar.params import PathParameter
from msgspec import Struct

from appliance.errors import JobNotFound
from appliance.services.history import ClipRecord, JobRecord, clips_of, job_record
from appliance.services.readers import Readers
from appliance.worker.report import JobProgress
from bus.connection import Bus
from bus.errors import UndecodableEvent
from bus.events import (
    AnyEvent,
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobDeleted,
    JobFailed,
    StageStarted,
)
from bus.subjects import item_filter
from web.live.hub import Hub

JobId = Annotated[str, PathParameter(pattern=r"^[0-9a-z]{26}$", max_length=26, description="Id of a job.")]
"""The length is told twice: `$` alone takes a line's end after it."""
ClipNumber = Annotated[int, PathParameter(ge=1, le=9999, description="Number of a clip within its job, from 1.")]
ClipFile = Annotated[str, PathParameter(description="video, thumbnail, captions.srt or captions.vtt.")]
_ENDED_STATES = {
    JobCompleted: "completed",
    JobFailed: "failed",
    JobCancelled: "cancelled",
    JobDeleted: "deleted",
}


class Progress(Struct, frozen=True, kw_only=True):
    """What a worker last said about its work on the job."""

    stage: str
    clip: int | None
    done: float
    """0 to 1."""
    eta_s: float | None


class Job(Struct, frozen=True, kw_only=True):
    """One job. Times are RFC 3339 UTC."""

    job: str
    name: str
    state: str
    """queued, running, clipping, completed, failed, cancelled or deleted."""
    stage: str | None = None
    """The stage that works or waits; null once the job has ended."""
    kind: str = "file"
    """file, upload or url."""
    owner: str
    created_at: str
    updated_at: str
    ended_at: str | None = None
    duration_s: float | None = None
    """Of its video."""
    size_bytes: int | None = None
    language: str | None = None
    rough: bool = False
    """Words and times come from the bundled model and are approximate."""
    clips_planned: int | None = None
    clips_ready: int = 0
    clips_failed: int = 0
    error: str | None = None
    error_code: str | None = None
    pinned: bool = False
    """Retention leaves its files alone."""
    source_removed_at: str | None = None
    """When retention removed its copy of the video; null: it is there, or never was. So with the next."""
    clips_removed_at: str | None = None
    progress: Progress | None = None


class ClipUrls(Struct, frozen=True, kw_only=True):
    """Where a clip's files are; `?download=1` saves instead of showing."""

    video: str
    thumbnail: str
    srt: str
    vtt: str


class Clip(Struct, frozen=True, kw_only=True):
    """One clip."""

    job: str
    clip: int
    state: str
    """planned, running, ready or failed."""
    stage: str | None
    title: str
    score: float
    """0 to 1 within the job."""
    reasons: list[str]
    start_s: float
    end_s: float
    duration_s: float | None
    size_bytes: int | None
    encoder: str | None
    error: str | None
    error_code: str | None
    updated_at: str
    urls: ClipUrls | None
    """Null until the clip is ready."""


class JobAndClips(Struct, frozen=True, kw_only=True):
    job: Job
    clips: list[Clip]


def view(record: JobRecord, hub: Hub) -> Job:
    """The row, with what the live feed knows of its progress."""
    told = {**record, "rough": bool(record.get("rough")), "pinned": bool(record.get("pinned"))}
    report = hub.gate.last(record["job"]) if record["stage"] is not None else None
    return msgspec.convert({**told, "progress": None if report is None else _progress(report)}, Job, strict=False)


def _progress(report: JobProgress) -> Progress:
    return Progress(stage=report.stage, clip=report.clip, done=round(report.done, 4), eta_s=report.eta_s)


def clip_view(record: ClipRecord, *, removed: bool) -> Clip:
    """`removed`: its files are gone."""
    base = f"/api/clips/{record.job}/{record.clip}"
    urls = ClipUrls(
        video=f"{base}/video", thumbnail=f"{base}/thumbnail", srt=f"{base}/captions.srt", vtt=f"{base}/captions.vtt"
    )
    return Clip(
        job=record.job,
        clip=record.clip,
        state=record.state,
        stage=record.stage,
        title=record.title,
        score=record.score,
        reasons=msgspec.json.decode(record.reasons, type=list[str]),
        start_s=record.start_s,
        end_s=record.end_s,
        duration_s=record.duration_s,
        size_bytes=record.size_bytes,
        encoder=record.encoder,
        error=record.error,
        error_code=record.error_code,
        updated_at=record.updated_at,
        urls=urls if record.state == "ready" and not removed else None,
    )


async def find(readers: Readers, bus: Bus, hub: Hub, job: str) -> JobAndClips:
    """The job and its clips. Raises `JobNotFound`, `SourceUnavailable`, `bus.errors.Retryable`.

    A job that is so new that its row is not written yet is told from its facts.
    """
    record, clips = await readers.run(lambda db: (job_record(db, job), clips_of(db, job)))
    if record is None:
        return JobAndClips(job=await just_made(bus, job), clips=[])
    removed = record["state"] == "deleted" or record.get("clips_removed_at") is not None
    return JobAndClips(job=view(record, hub), clips=[clip_view(clip, removed=removed) for clip in clips])


async def just_made(bus: Bus, job: str) -> Job:
    """A job from its facts alone. Raises `JobNotFound`, `bus.errors.Retryable`."""
    events: list[AnyEvent] = []
    for stored in await bus.read(0, item_filter(job), 1000):
        try:
            events.append(stored.event)
        except UndecodableEvent:
            continue
    created = next((event for event in events if isinstance(event, JobCreated)), None)
    if created is None:
        raise JobNotFound(f"no job {job}")
    return _from_facts(created, events)


def _from_facts(created: JobCreated, events: Sequence[AnyEvent]) -> Job:
    last = events[-1]
    ended = _ENDED_STATES.get(type(last))
    started = [event for event in events if isinstance(event, StageStarted)]
    stage = None if ended else (started[-1].stage if started else "download")
    return Job(
        job=str(created.job),
        name=created.origin.name,
        kind=created.origin.kind,
        owner=created.owner,
        state=ended or ("running" if started else "queued"),
        stage=stage,
        created_at=_stamp(created),
        updated_at=_stamp(last),
        ended_at=_stamp(last) if ended else None,
        error=last.error if isinstance(last, JobFailed) else None,
        error_code=last.code if isinstance(last, JobFailed) else None,
    )


def _stamp(event: AnyEvent) -> str:
    return str(msgspec.to_builtins(event.ts))
