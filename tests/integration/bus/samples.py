"""Events and commands for the bus tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bus.events import ClipPlanned, Command, JobCreated, JobDownloaded, JobDownloading, JobRetrying, JobSource


def created(job: str) -> JobCreated:
    return JobCreated(job=job, origin=JobSource(kind="file", location="/v.mp4", name="v.mp4"))


def started(job: str, attempt: int = 1, worker: str = "w1") -> JobDownloading:
    return JobDownloading(job=job, stage="download", attempt=attempt, worker=worker)


def downloaded(job: str, attempt: int = 1, worker: str = "w1") -> JobDownloaded:
    return JobDownloaded(
        job=job,
        attempt=attempt,
        worker=worker,
        seconds=1.0,
        path="source.mp4",
        size_bytes=1,
        sha256="0" * 64,
        duration_s=1.0,
        width=16,
        height=16,
        fps=25.0,
        video_codec="h264",
        audio_codec=None,
    )


def planned(job: str, clip: int) -> ClipPlanned:
    return ClipPlanned(job=job, clip=clip, start_s=0.0, end_s=20.0, score=0.5, title="t", reasons=["r"])


def download(job: str, attempt: int = 1) -> Command:
    return Command(stage="download", job=job, attempt=attempt)


def retrying(job: str, in_s: float, attempt: int = 1) -> tuple[JobRetrying, Command]:
    """The two messages of a failed attempt."""
    at = datetime.now(UTC) + timedelta(seconds=in_s)
    fact = JobRetrying(job=job, stage="download", attempt=attempt, error="boom", code="x", next_try_at=at)
    return fact, Command(stage="download", job=job, attempt=attempt + 1, not_before=at)
