"""Small facts for tests: a job's life in a few words each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from bus.events import (
    DONE,
    STARTED,
    AnyEvent,
    ClipCropped,
    ClipDetected,
    ClipFailed,
    ClipPlanned,
    ClipReady,
    JobAnalyzed,
    JobCompleted,
    JobCreated,
    JobDownloaded,
    JobFailed,
    JobRetrying,
    JobSource,
    JobTranscribed,
    StageName,
)
from bus.ids import new_id

WORKER = new_id()
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def created(job: str) -> JobCreated:
    return JobCreated(job=job, origin=JobSource(kind="file", location="/v/talk.mp4", name="talk.mp4"), ts=at(0))


def started(job: str, stage: StageName, clip: int | None = None, attempt: int = 1, claim: int = 1) -> AnyEvent:
    return STARTED[stage](  # type: ignore[return-value]
        job=job, clip=clip, stage=stage, attempt=attempt, claim=claim, worker=WORKER, ts=at(1)
    )


def done(job: str, stage: StageName, clip: int | None = None, clips: int = 1) -> AnyEvent:
    common = {"job": job, "clip": clip, "attempt": 1, "worker": WORKER, "seconds": 2.0, "ts": at(3)}
    kind = DONE[stage]
    extra: dict[type, dict[str, object]] = {
        JobDownloaded: {
            "path": "source.mp4",
            "size_bytes": 1000,
            "sha256": "0" * 64,
            "duration_s": 60.0,
            "width": 1920,
            "height": 1080,
            "fps": 30.0,
            "video_codec": "h264",
            "audio_codec": "aac",
        },
        JobTranscribed: {"model": "m", "language": "en", "words": 10, "rough": True, "real_time_factor": 0.1},
        JobAnalyzed: {"clips": clips, "candidates": 9, "real_time_factor": 0.01},
        ClipDetected: {"detector": "yunet", "tracks": 1, "shots": 1},
        ClipCropped: {"layouts": ["still"]},
        ClipReady: {
            "path": f"clip-{clip or 0:02d}.mp4",
            "size_bytes": 5,
            "sha256": "1" * 64,
            "duration_s": 20.0,
            "width": 1080,
            "height": 1920,
            "encoder": "libx264",
            "loudness_lufs": -14.0,
        },
    }
    return kind(**common, **extra[kind])  # type: ignore[arg-type,return-value]


def planned(job: str, clip: int) -> ClipPlanned:
    return ClipPlanned(
        job=job, clip=clip, start_s=10.0 * clip, end_s=10.0 * clip + 20, score=0.5, title="t", reasons=["r"], ts=at(4)
    )


def retrying(job: str, stage: StageName, attempt: int, clip: int | None = None) -> JobRetrying:
    return JobRetrying(
        job=job, clip=clip, stage=stage, attempt=attempt, error="it broke", code="crashed", next_try_at=at(9), ts=at(5)
    )


def clip_failed(job: str, clip: int, stage: StageName = "cut") -> ClipFailed:
    return ClipFailed(job=job, clip=clip, stage=stage, attempts=3, error="no", code="crashed", ts=at(6))


def job_failed(job: str, stage: StageName = "download") -> JobFailed:
    return JobFailed(job=job, stage=stage, attempts=3, error="no", code="rejected", ts=at(6))


def created_from_url(job: str) -> JobCreated:
    return JobCreated(job=job, origin=JobSource(kind="url", location="https://a.example/v", name="v"), ts=at(0))


def resized(event: AnyEvent, size_bytes: int) -> AnyEvent:
    return msgspec.structs.replace(event, size_bytes=size_bytes)


def completed(job: str, ready: int = 1, failed: int = 0, ended_at: datetime | None = None) -> JobCompleted:
    return JobCompleted(job=job, clips_ready=ready, clips_failed=failed, seconds=7.0, ts=ended_at or at(7))


def failed_at(job: str, ended_at: datetime) -> JobFailed:
    return JobFailed(job=job, stage="transcribe", attempts=3, error="no", code="crashed", ts=ended_at)
