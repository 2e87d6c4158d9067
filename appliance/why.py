"""Why a job is where it is: what each open part of it waits for, or why it ended. Pure: facts in, sentences out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct, field

from appliance import lifecycle
from appliance.control.holds import Hold
from appliance.store.queries import ClipRow, JobRow
from bus.connection import QueuePlace
from bus.events import AnyEvent, JobCancelled, JobRetrying, StageStarted
from bus.registry import WorkerState

State = Literal["working", "waiting", "held", "retrying", "stuck", "ended", "failed"]
FRESH_S = 30.0
"""A progress younger than this is none to speak of."""


class Reason(Struct, frozen=True, kw_only=True):
    """What is to be said about a job or one clip of it."""

    clip: int | None
    """None: the job itself."""
    stage: str | None
    state: State
    why: str
    do: str = ""
    """What a person can do about it; empty when nothing needs to be done."""


class Case(Struct, frozen=True, kw_only=True):
    """What is known of one job."""

    job: JobRow
    clips: Sequence[ClipRow]
    attempts_most: int
    """`retry.attempts`."""
    running: bool
    """Whether the box runs; without it the rest is not known."""
    last: Mapping[int | None, AnyEvent] = field(default_factory=dict)
    """The last fact of the job (None) and of its clips."""
    places: Mapping[int | None, QueuePlace | None] = field(default_factory=dict)
    holds: Mapping[str, Sequence[Hold]] = field(default_factory=dict)
    """What stands, by stage."""
    workers: Sequence[WorkerState] = ()
    behind: int = 0
    """Facts that the database does not include yet."""


def explain(case: Case, now: datetime) -> list[Reason]:
    """One line about the job, and one about each clip that is not ready. `now` with its zone."""
    job = case.job
    if job.state in ("completed", "failed", "cancelled", "deleted"):
        return [_ended(case), *_failed_clips(case)]
    if not case.running:
        text = f"the box is down; it goes on with {_at(job.stage)} at the next start"
        return [_reason(None, "waiting", text, "start it with `appliance up`", stage=job.stage)]
    if job.state != "clipping":
        return [_open(case, None, now)]
    unfinished = [clip for clip in case.clips if clip.state not in ("ready", "failed")]
    if not unfinished:
        behind = f", which is {case.behind} events behind" if case.behind else ""
        text = f"each clip has ended; the dispatcher{behind} is about to end the job"
        return [_reason(None, "waiting", text, "see `appliance status`"), *_failed_clips(case)]
    ready = f"{job.clips_ready} of {job.clips_planned} clips are ready"
    return [
        _reason(None, "working", f"its clips are being made: {ready}"),
        *(_open(case, clip.clip, now) for clip in unfinished),
        *_failed_clips(case),
    ]


def _open(case: Case, clip: int | None, now: datetime) -> Reason:
    """A part that is not done: at work, held, waiting for its next try or its turn."""
    last = case.last.get(clip)
    command = None if last is None else lifecycle.pending_command(case.job.job, clip, last)
    if last is None or command is None:
        text = "it has just moved on; ask again in a moment"
        return _reason(clip, "waiting", text)
    stage = command.stage
    if isinstance(last, StageStarted):
        return _at_work(case, clip, last, now)
    if isinstance(last, JobRetrying) and last.next_try_at > now:
        wait_s = (last.next_try_at - now).total_seconds()
        text = (
            f"attempt {last.attempt} of {case.attempts_most} of {stage} failed: {last.error}; "
            f"the next begins in {wait_s:.0f} s"
        )
        return _reason(clip, "retrying", text, stage=stage)
    if standing := case.holds.get(stage):
        text = f"{stage} is {'; '.join(str(hold) for hold in standing)}"
        operators = any(hold.holder == "operator" for hold in standing)
        do = f"`appliance resume {stage}` lets it go on" if operators else "it goes on by itself when the cause is gone"
        return _reason(clip, "held", text, do, stage=stage)
    crew = [worker for worker in case.workers if worker.stage == stage]
    if not crew:
        return _reason(clip, "stuck", f"no {stage} worker reports", f"see `appliance status`, and the log of {stage}-1")
    place = case.places.get(clip)
    if place is None:
        text = f"nothing is queued for {stage}, although it is due"
        return _reason(clip, "stuck", text, "restart the box: what is due is queued again at its start", stage=stage)
    if place.delivered:
        return _reason(clip, "waiting", f"a {stage} worker has just been given it", stage=stage)
    busy = sum(worker.job is not None for worker in crew)
    ahead = f"{place.ahead} tasks are before it" if place.ahead != 1 else "one task is before it"
    text = f"waits for {stage}: {ahead}; {busy} of {len(crew)} workers are busy"
    do = f"more workers make it quicker: raise workers.{stage}.max" if place.ahead > len(crew) else ""
    return _reason(clip, "waiting", text, do, stage=stage)


def _at_work(case: Case, clip: int | None, started: StageStarted, now: datetime) -> Reason:
    stage = started.stage
    since = f"since {started.ts.astimezone(UTC):%H:%M:%S} UTC"
    worker = next((one for one in case.workers if one.worker == started.worker), None)
    if worker is None or (worker.job, worker.clip) != (case.job.job, clip):
        text = f"{stage} began {since}, but its worker is gone; another one takes it over within bus.ack_wait_s"
        return _reason(clip, "waiting", text, stage=stage)
    share = "" if worker.progress is None else f", {worker.progress:.0%} done"
    still_s = 0.0 if worker.progress_at is None else (now - worker.progress_at).total_seconds()
    attempt = f" (attempt {started.attempt} of {case.attempts_most})" if started.attempt > 1 else ""
    text = f"{stage} is at work on it {since}{share}{attempt}"
    if still_s < FRESH_S:
        return _reason(clip, "working", text, stage=stage)
    text += f"; it has not moved for {still_s:.0f} s"
    return _reason(clip, "working", text, f"past workers.{stage}.stall_timeout_s it is stopped by itself", stage=stage)


def _ended(case: Case) -> Reason:
    job = case.job
    again = f"`appliance jobs retry {job.job}`"
    if job.state == "deleted":
        return _reason(None, "ended", "it was deleted: its files are gone, its history stays", "add the video again")
    if job.state == "cancelled":
        last = case.last.get(None)
        who = f" by {last.by}" if isinstance(last, JobCancelled) else ""
        why = f": {job.error}" if job.error else ""
        return _reason(None, "ended", f"it was cancelled{who}{why}", f"{again} goes on where it stopped")
    if job.state == "failed":
        do = f"when the cause is gone, {again} goes on where it stopped"
        return _reason(None, "failed", f"{job.error} ({job.error_code})", do)
    count = f"{job.clips_ready} of {job.clips_planned} clips are ready"
    return _reason(None, "ended", f"it is completed: {count}", f"{again} tries the others" if job.clips_failed else "")


def _failed_clips(case: Case) -> list[Reason]:
    return [
        Reason(
            clip=clip.clip,
            stage=clip.stage,
            state="failed",
            why=f"{clip.error} ({clip.error_code})",
        )
        for clip in case.clips
        if clip.state == "failed"
    ]


def _reason(clip: int | None, state: State, why: str, do: str = "", *, stage: str | None = None) -> Reason:
    return Reason(clip=clip, stage=stage, state=state, why=why, do=do)


def _at(stage: str | None) -> str:
    return "its work" if stage is None else stage
