"""A job as a person follows it: facts and telemetry reduced to one line a stage and one row a clip. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from bus.events import (
    CLIP_STAGES,
    DONE,
    STAGES,
    AnyEvent,
    ClipFailed,
    ClipPlanned,
    ClipReady,
    JobAnalyzed,
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobDeleted,
    JobDownloaded,
    JobFailed,
    JobRetried,
    JobRetrying,
    StageDone,
    StageName,
    StageStarted,
)

JobState = Literal["unknown", "running", "completed", "failed", "cancelled", "deleted"]
_STAGE_OF = {event_type: stage for stage, event_type in DONE.items()}


@dataclass
class StageView:
    """One stage of the job. Shares are 0 to 1; for clip stages over all clips."""

    stage: StageName
    items: dict[int | None, float] = field(default_factory=dict)
    """Finished share of each item that has started."""
    media_s: dict[int | None, float] = field(default_factory=dict)
    """Length of media that each item works on."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    seconds: float = 0.0
    """Work time of the finished items."""
    retries: int = 0
    last_error: str | None = None


@dataclass
class ClipView:
    """One clip of the job."""

    clip: int
    plan: ClipPlanned
    ready: ClipReady | None = None
    failed: ClipFailed | None = None


class JobView:
    """Fold facts (in stream order, duplicates harmless) with `fact` and telemetry with `progress`."""

    def __init__(self, job: str) -> None:
        self.job = job
        self.state: JobState = "unknown"
        self.created: JobCreated | None = None
        self.downloaded: JobDownloaded | None = None
        self.clips: dict[int, ClipView] = {}
        self.stages = {stage: StageView(stage) for stage in STAGES}
        self.error: str | None = None
        self.completed: JobCompleted | None = None
        self.notes: list[str] = []
        self._seq = 0

    @property
    def ended(self) -> bool:
        return self.state in ("completed", "failed", "cancelled", "deleted")

    @property
    def duration_s(self) -> float:
        return self.downloaded.duration_s if self.downloaded else 0.0

    def fact(self, seq: int, event: AnyEvent) -> None:
        """Take in one fact of this job; one at or below the last sequence is ignored."""
        if event.job != self.job or seq <= self._seq:
            return
        self._seq = seq
        match event:
            case JobCreated():
                self.created, self.state = event, "running"
            case StageStarted():
                self._started(event)
            case StageDone():
                self._done(event)
            case ClipPlanned():
                self._planned(event)
            case ClipFailed() if event.clip in self.clips:
                self.clips[event.clip].failed = event
            case JobRetrying():
                view = self.stages[event.stage]
                view.retries += 1
                view.last_error = event.error
                view.items[event.clip] = 0.0
            case JobRetried():
                self.state, self.error = "running", None
                if event.clip in self.clips:
                    self.clips[event.clip].failed = None
            case JobCompleted():
                self.completed, self.state = event, "completed"
            case JobFailed():
                self.state, self.error = "failed", event.error
            case JobCancelled():
                self.state, self.error = "cancelled", event.reason or None
            case JobDeleted():
                self.state = "deleted"

    def progress(self, stage: StageName, clip: int | None, done: float) -> None:
        """Take in one progress report of a running stage."""
        view = self.stages[stage]
        if clip in view.items:
            view.items[clip] = max(view.items[clip], min(1.0, done))

    def share(self, stage: StageName) -> float:
        """Finished share of a stage, 0 to 1."""
        view = self.stages[stage]
        total = len(self.clips) if stage in CLIP_STAGES else 1
        return min(1.0, sum(view.items.values()) / total) if total else 0.0

    def is_done(self, stage: StageName) -> bool:
        view = self.stages[stage]
        if stage in CLIP_STAGES:
            waiting = [c for c in self.clips.values() if c.failed is None]
            return bool(self.clips) and all(view.items.get(c.clip, 0.0) >= 1.0 for c in waiting)
        return view.ended_at is not None

    def speed(self, stage: StageName, now: datetime) -> float | None:
        """Seconds of media done for each second since the stage started."""
        view = self.stages[stage]
        if view.started_at is None:
            return None
        end = view.ended_at if self.is_done(stage) and view.ended_at else now
        elapsed_s = (end - view.started_at).total_seconds()
        media_s = sum(view.media_s.get(item, 0.0) * share for item, share in view.items.items())
        return media_s / elapsed_s if elapsed_s > 0.2 and media_s > 0 else None

    def eta_s(self, stage: StageName, now: datetime) -> float | None:
        """Seconds until the stage is done, by its speed so far; None while that cannot be told."""
        view = self.stages[stage]
        share = self.share(stage)
        if view.started_at is None or self.is_done(stage) or share < 0.02:
            return None
        return (now - view.started_at).total_seconds() * (1.0 - share) / share

    def _started(self, event: StageStarted) -> None:
        view = self.stages[event.stage]
        view.started_at = view.started_at or event.ts
        view.items[event.clip] = 0.0
        if event.clip is None:
            view.media_s[None] = self.duration_s
        elif event.clip in self.clips:
            plan = self.clips[event.clip].plan
            view.media_s[event.clip] = plan.end_s - plan.start_s

    def _done(self, event: StageDone) -> None:
        stage = _STAGE_OF[type(event)]
        view = self.stages[stage]
        view.items[event.clip] = 1.0
        view.seconds += event.seconds
        view.ended_at = event.ts
        view.last_error = None
        for note in event.notes:
            if note not in self.notes:
                self.notes.append(note)
        match event:
            case JobDownloaded():
                self.downloaded = event
                view.media_s[None] = event.duration_s
            case JobAnalyzed() if event.clips == 0:
                self.error = "no clip was planned"
            case ClipReady() if event.clip in self.clips:
                self.clips[event.clip].ready = event

    def _planned(self, event: ClipPlanned) -> None:
        assert event.clip is not None
        self.clips.setdefault(event.clip, ClipView(event.clip, event))
