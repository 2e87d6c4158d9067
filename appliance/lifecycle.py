"""The rules of a job's life, as pure functions over facts. Worker, supervisor, dispatcher and CLI all ask here.

An *item* is a job (stages download, transcribe, moments) or one clip of it (faces, crop, cut). Its last stored fact
decides what may happen next:

    job:created ─ download ─ job:downloaded ─ transcribe ─ job:transcribed ─ moments ─ job:analyzed ─► clips
    clip:planned ─ faces ─ clip:detected ─ crop ─ clip:cropped ─ cut ─ clip:ready

A worker *claims* an attempt by storing the stage's start fact, on the condition that the item has not moved since it
looked. The stored fact's sequence is the fence: the attempt's outcome is stored on the condition that it is still the
item's last fact. A zombie, a duplicate delivery, a replay and a cancelled job's late result all lose that comparison.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec

from appliance.settings import Retry
from bus.events import (
    CLIP_STAGES,
    DONE,
    JOB_STAGES,
    STAGES,
    AnyEvent,
    ClipCropped,
    ClipDetected,
    ClipFailed,
    ClipPlanned,
    Command,
    Event,
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobDeleted,
    JobDownloaded,
    JobFailed,
    JobRetried,
    JobRetrying,
    JobTranscribed,
    StageName,
    StageStarted,
)
from bus.ids import id_of
from stages.base import MomentsResult, StageResult
from stages.errors import DISK_FULL

MAX_CLAIMS = 10
"""Take-overs of one attempt from workers that vanished unseen (power cuts) before the item is given up."""

NO_CLIPS = "no-clips"
"""Code of a job that failed because none of its clips could be made, or none was found."""

ENDED = (JobCompleted, JobFailed, JobCancelled, JobDeleted)
"""Facts after which a job does no work until `job:retried`."""

_NEXT: dict[type[Event], StageName] = {
    JobCreated: "download",
    JobDownloaded: "transcribe",
    JobTranscribed: "moments",
    ClipPlanned: "faces",
    ClipDetected: "crop",
    ClipCropped: "cut",
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The command is current: store a start fact with these numbers, then work."""

    attempt: int
    claim: int


@dataclass(frozen=True, kw_only=True)
class Skip:
    """The command is spent: acknowledge and forget it."""

    reason: str


def decide(command: Command, item_last: AnyEvent | None, job_last: AnyEvent | None) -> Claim | Skip:
    """Whether `command` is still to be done, given the last fact of its item and of its job."""
    if job_last is None or item_last is None:
        return Skip(reason="the job or clip is unknown to the log")
    if isinstance(job_last, ENDED):
        return Skip(reason=f"the job has ended ({job_last.__struct_config__.tag})")
    match item_last:
        case StageStarted(stage=command.stage, attempt=command.attempt):
            return Claim(attempt=command.attempt, claim=item_last.claim + 1)
        case JobRetrying(stage=command.stage) if item_last.attempt + 1 == command.attempt:
            return Claim(attempt=command.attempt, claim=1)
        case JobRetried(stage=command.stage) if command.attempt == 1:
            return Claim(attempt=1, claim=1)
        case _ if _NEXT.get(type(item_last)) == command.stage and command.attempt == 1:
            return Claim(attempt=1, claim=1)
    return Skip(reason=f"the item has moved on ({item_last.__struct_config__.tag})")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One claimed attempt of a stage on an item."""

    stage: StageName
    job: str
    clip: int | None
    attempt: int
    worker: str


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why an attempt failed. `final` failures are not retried, whatever the attempt's number."""

    error: str
    code: str
    final: bool = False


def backoff_s(rule: Retry, failed_attempt: int) -> float:
    """Seconds to wait after attempt `failed_attempt` (from 1): doubled each time, up to the configured most."""
    return min(rule.backoff_max_s, rule.backoff_s * float(2 ** (failed_attempt - 1)))


def on_done(attempt: Attempt, result: StageResult, seconds: float, duration_s: float) -> list[Event | Command]:
    """What to store when a stage has finished: its done fact, and in the same commit the work that follows."""
    job, clip = attempt.job, attempt.clip
    figures: dict[str, object] = {name: getattr(result, name) for name in result.__struct_fields__ if name != "planned"}
    event_type = DONE[attempt.stage]
    if "real_time_factor" in event_type.__struct_fields__:
        figures["real_time_factor"] = round(seconds / duration_s, 4) if duration_s > 0 else 0.0
    common: dict[str, object] = {"source": attempt.worker, "job": job, "clip": clip}
    common |= {"attempt": attempt.attempt, "worker": attempt.worker, "seconds": round(seconds, 3)}
    if isinstance(result, MomentsResult):
        figures["clips"] = len(result.planned)
        messages: list[Event | Command] = [msgspec.convert(common | figures, event_type)]
        for plan in result.planned:
            messages.append(
                ClipPlanned(
                    source=attempt.worker,
                    job=job,
                    clip=plan.n,
                    start_s=plan.start_s,
                    end_s=plan.end_s,
                    score=plan.score,
                    title=plan.title,
                    reasons=plan.reasons,
                )
            )
            messages.append(Command(stage="faces", job=job, clip=plan.n))
        return messages
    messages = [msgspec.convert(common | figures, event_type)]
    following = STAGES.index(attempt.stage) + 1
    if following < len(STAGES):
        messages.append(Command(stage=STAGES[following], job=job, clip=clip))
    return messages


def on_failed(attempt: Attempt, failure: Failure, rule: Retry) -> list[Event | Command]:
    """What to store when an attempt has failed: a scheduled next attempt, or the item's end."""
    job, clip, stage = attempt.job, attempt.clip, attempt.stage
    most = rule.disk_full_attempts if failure.code == DISK_FULL else rule.attempts
    if not failure.final and attempt.attempt < most:
        at = datetime.now(UTC) + timedelta(seconds=backoff_s(rule, attempt.attempt))
        return [
            JobRetrying(
                source=attempt.worker,
                job=job,
                clip=clip,
                stage=stage,
                attempt=attempt.attempt,
                error=failure.error,
                code=failure.code,
                next_try_at=at,
            ),
            Command(stage=stage, job=job, clip=clip, attempt=attempt.attempt + 1, not_before=at),
        ]
    ended = JobFailed if clip is None else ClipFailed
    return [
        ended(
            source=attempt.worker,
            job=job,
            clip=clip,
            stage=stage,
            attempts=attempt.attempt,
            error=failure.error,
            code=failure.code,
        )
    ]


def first_command(created: JobCreated) -> Command:
    """The command that a new job begins with; always with the same id, so that the bus keeps one of them."""
    assert created.job is not None
    digest = hashlib.sha256(f"{created.id} first".encode()).digest()
    return Command(id=id_of(digest), stage=_NEXT[JobCreated], job=created.job)


def pending_command(job: str, clip: int | None, item_last: AnyEvent) -> Command | None:
    """The command that `decide` would accept next for an item; None when the item waits for nothing.

    Used when the queue was lost: the facts alone tell what work is due.
    """
    match item_last:
        case StageStarted():
            return Command(stage=item_last.stage, job=job, clip=clip, attempt=item_last.attempt)
        case JobRetrying():
            return Command(stage=item_last.stage, job=job, clip=clip, attempt=item_last.attempt + 1)
        case JobRetried() if clip is not None or item_last.stage in JOB_STAGES:
            return Command(stage=item_last.stage, job=job, clip=clip)
    stage = _NEXT.get(type(item_last))
    return None if stage is None else Command(stage=stage, job=job, clip=clip)


def resume_stage(last_done: StageName | None, clip: bool) -> StageName | None:
    """The stage at which an item goes on after `last_done`; None when it has none left."""
    stages = CLIP_STAGES if clip else JOB_STAGES
    if last_done is None:
        return stages[0]
    following = stages.index(last_done) + 1
    return stages[following] if following < len(stages) else None


@dataclass(frozen=True, kw_only=True)
class OpenItem:
    """An item that a retry must move: its number (None for the job itself) and the stage it goes on at."""

    clip: int | None
    stage: StageName


def on_retried(job: str, by: str, items: list[OpenItem]) -> list[Event | Command]:
    """What to store when a person retries a job: one `job:retried` for the job, one for each clip, and their commands.

    The first message is the job's own fact, so the caller's compare-and-set is on the job's history.
    """
    if not items:
        raise ValueError("nothing to retry")
    messages: list[Event | Command] = [JobRetried(source=by, job=job, by=by, stage=items[0].stage)]
    for item in items:
        if item.clip is not None:
            messages.append(JobRetried(source=by, job=job, clip=item.clip, by=by, stage=item.stage))
        messages.append(Command(stage=item.stage, job=job, clip=item.clip))
    return messages
