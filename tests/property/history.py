"""What a stream of facts may look like, written down a second time: without `appliance.lifecycle`, without SQL.

`read` walks all facts in order, raises AssertionError at the first one that may not stand where it stands, and says
what state each job and clip is in. Facts that arrive after a job has ended are void: they may be there, and count for
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from bus.events import (
    CLIP_STAGES,
    DONE,
    JOB_STAGES,
    AnyEvent,
    ClipFailed,
    ClipPlanned,
    FileDeleted,
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobDeleted,
    JobFailed,
    JobRetried,
    JobRetrying,
    StageDone,
    StageName,
    StageStarted,
)

STAGE_OF = {event_type: stage for stage, event_type in DONE.items()}
LIVE = ("open", "clipping")


@dataclass
class Item:
    """A job or a clip: what it waits for or who works on it (`worker` set), by the facts of its own history."""

    stages: tuple[StageName, ...]
    stage: StageName | None
    attempt: int = 1
    claim: int = 0
    worker: str | None = None
    done: StageName | None = None
    """The last stage that was done while the job lived."""

    def start(self, event: StageStarted) -> None:
        assert (event.stage, event.attempt) == (self.stage, self.attempt), f"started out of turn: {event} after {self}"
        assert event.claim == self.claim + 1, f"a claim was left out: {event} after {self}"
        self.claim, self.worker = event.claim, event.worker

    def finish(self, event: StageDone, *, counts: bool) -> None:
        stage = STAGE_OF[type(event)]
        assert (stage, event.attempt, event.worker) == (self.stage, self.attempt, self.worker), (
            f"a result of somebody who does not hold it: {event} after {self}"
        )
        following = self.stages.index(stage) + 1
        self.wait(self.stages[following] if following < len(self.stages) else None)
        if counts:
            self.done = stage

    def retry(self, event: JobRetrying) -> None:
        assert self.worker is not None, f"an attempt that nobody makes failed: {event} after {self}"
        assert (event.stage, event.attempt) == (self.stage, self.attempt), f"{event} after {self}"
        self.wait(event.stage, event.attempt + 1)

    def give_up(self, event: JobFailed | ClipFailed) -> None:
        assert event.stage == self.stage, f"{event} after {self}"
        self.wait(None)

    def wait(self, stage: StageName | None, attempt: int = 1) -> None:
        self.stage, self.attempt, self.claim, self.worker = stage, attempt, 0, None

    def resumed(self, event: JobRetried, *, files_removed: bool = False) -> None:
        following = 0 if self.done is None else self.stages.index(self.done) + 1
        allowed = self.stages[: following + 1] if files_removed else (self.stages[following],)
        assert event.stage in allowed, f"{event} resumes at the wrong stage after {self}"
        self.wait(event.stage)


@dataclass
class Clip(Item):
    end: str | None = None
    """`ready` or `failed`, when it came to that while the job lived."""


@dataclass
class Job(Item):
    state: str = "open"
    files_removed: bool = False
    """Retention took files of it: what they were needed for is done again."""
    clips: dict[int, Clip] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    """How often it came to each end (it may be retried), and its clips (`clips_ready`, `clips_failed`)."""

    def end(self, state: str) -> None:
        self.state = state
        self.counts[state] += 1

    def ends(self) -> tuple[int, int]:
        """Clips that are ready, and that failed."""
        found = [clip.end for clip in self.clips.values()]
        return found.count("ready"), found.count("failed")


def read(facts: Iterable[AnyEvent]) -> dict[str, Job]:
    """The jobs as the facts, in stream order, tell them."""
    jobs: dict[str, Job] = {}
    for event in facts:
        if isinstance(event, FileDeleted) and event.job in jobs:
            jobs[event.job].files_removed = True
        noun = str(event.__struct_config__.tag).partition(":")[0]
        if noun not in ("job", "clip"):
            continue
        assert event.job is not None
        if isinstance(event, JobCreated):
            assert event.job not in jobs, f"created twice: {event}"
            jobs[event.job] = Job(JOB_STAGES, "download")
        elif event.clip is None:
            _job_fact(jobs[event.job], event)
        else:
            _clip_fact(jobs[event.job], event.clip, event)
    return jobs


def _job_fact(job: Job, event: AnyEvent) -> None:
    if isinstance(event, JobDeleted):
        job.state = "deleted"
        return
    assert job.state != "deleted", f"a fact about a deleted job: {event}"
    if isinstance(event, JobRetried):
        assert job.state not in LIVE, f"retried while it lives: {event}"
        if job.clips:
            job.state = "clipping"
            for clip in job.clips.values():
                clip.end = clip.end if clip.end == "ready" else None
        else:
            job.state = "open"
            job.resumed(event, files_removed=job.files_removed)
        return
    assert job.state in LIVE, f"a fact about a job that has ended: {event}"
    match event:
        case StageStarted():
            job.start(event)
        case StageDone():
            job.finish(event, counts=True)
            if job.stage is None:
                job.state = "clipping"
        case JobRetrying():
            job.retry(event)
        case JobFailed():
            if job.state == "clipping":
                assert job.ends() == (0, len(job.clips)), f"failed for want of clips: {event}"
            else:
                job.give_up(event)
            job.end("failed")
        case JobCompleted():
            ready, failed = job.ends()
            assert job.state == "clipping"
            assert ready + failed == len(job.clips), f"completed with open clips: {event}"
            assert (event.clips_ready, event.clips_failed) == (ready, failed), f"{event}, but {ready} and {failed}"
            assert ready > 0
            job.end("completed")
        case JobCancelled():
            job.end("cancelled")
        case _:
            raise AssertionError(f"what is {event}?")


def _clip_fact(job: Job, number: int, event: AnyEvent) -> None:
    lives = job.state == "clipping"
    if isinstance(event, ClipPlanned):
        assert number not in job.clips, f"planned twice: {event}"
        assert lives, "planned, but not in the commit of the analysis"
        job.clips[number] = Clip(CLIP_STAGES, "faces")
        return
    clip = job.clips[number]
    if isinstance(event, JobRetried):
        assert lives, f"a clip goes on, but not its job: {event}"
        assert clip.end != "ready", f"a clip that is ready is made again: {event}"
        clip.resumed(event)
        return
    assert clip.end is None, f"a fact about a clip that is {clip.end}: {event}"
    match event:
        case StageStarted():
            clip.start(event)
        case StageDone():
            clip.finish(event, counts=lives)
            if lives and clip.stage is None:
                clip.end = "ready"
                job.counts["clips_ready"] += 1
        case JobRetrying():
            clip.retry(event)
        case ClipFailed():
            clip.give_up(event)
            if lives:
                clip.end = "failed"
                job.counts["clips_failed"] += 1
        case _:
            raise AssertionError(f"what is {event}?")
