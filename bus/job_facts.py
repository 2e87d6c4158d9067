"""The life of a job: from `job:created` over its stages and clips to its end."""

from __future__ import annotations

from datetime import datetime

from msgspec import field

from bus.fact import Event, JobOptions, JobSource, StageName


class JobCreated(Event, tag="job:created", frozen=True, kw_only=True):
    """A job exists; its download command is stored in the same commit."""

    origin: JobSource
    options: JobOptions = JobOptions()
    priority: int = 0
    owner: str = "local"


class StageStarted(Event, frozen=True, kw_only=True):
    """Base of the six start facts: one attempt of a stage begins.

    The fact is also the worker's lease: its sequence is the fencing token that the stage's result must present.
    For the clip stages it is published for each clip (`clip` set) and attempt.
    """

    stage: StageName
    attempt: int
    claim: int = 1
    """How often this same attempt was taken over from a worker that vanished without a word (box restart)."""
    worker: str


class JobDownloading(StageStarted, tag="job:downloading", frozen=True, kw_only=True):
    """The download stage starts on the job."""


class JobTranscribing(StageStarted, tag="job:transcribing", frozen=True, kw_only=True):
    """The transcribe stage starts on the job."""


class JobAnalyzing(StageStarted, tag="job:analyzing", frozen=True, kw_only=True):
    """The moments stage starts on the job."""


class JobDetecting(StageStarted, tag="job:detecting", frozen=True, kw_only=True):
    """The faces stage starts on one clip."""


class JobCropping(StageStarted, tag="job:cropping", frozen=True, kw_only=True):
    """The crop stage starts on one clip."""


class JobCutting(StageStarted, tag="job:cutting", frozen=True, kw_only=True):
    """The cut stage starts on one clip."""


class StageDone(Event, frozen=True, kw_only=True):
    """Base of the facts that end a stage well."""

    attempt: int
    worker: str
    seconds: float
    """Wall time of the attempt that succeeded."""
    device: str = "cpu"
    notes: list[str] = field(default_factory=list)
    """Fallbacks taken and why, in words for people: a silent fallback is a defect."""


class JobDownloaded(StageDone, tag="job:downloaded", frozen=True, kw_only=True):
    """The source is in the job's folder, verified and probed."""

    path: str
    size_bytes: int
    sha256: str
    duration_s: float
    width: int
    height: int
    fps: float
    video_codec: str
    audio_codec: str | None


class JobTranscribed(StageDone, tag="job:transcribed", frozen=True, kw_only=True):
    """The transcript with word times is written."""

    model: str
    language: str | None
    words: int
    rough: bool
    """True when only the bundled model was available: times and words are approximate."""
    real_time_factor: float
    """Seconds of work for each second of video."""


class JobAnalyzed(StageDone, tag="job:analyzed", frozen=True, kw_only=True):
    """Moments are chosen; the clips' plans follow in the same commit."""

    clips: int
    candidates: int
    real_time_factor: float


class ClipPlanned(Event, tag="clip:planned", frozen=True, kw_only=True):
    """One clip is to be made from [start_s, end_s) of the source."""

    start_s: float
    end_s: float
    score: float
    """0 to 1 within the job."""
    title: str
    reasons: list[str]


class ClipDetected(StageDone, tag="clip:detected", frozen=True, kw_only=True):
    """Shots, faces and speakers of the clip's range are known."""

    detector: str
    tracks: int
    shots: int


class ClipCropped(StageDone, tag="clip:cropped", frozen=True, kw_only=True):
    """The crop plan of the clip is written."""

    layouts: list[str]
    """One a shot: follow, still, stack or fit."""


class ClipReady(StageDone, tag="clip:ready", frozen=True, kw_only=True):
    """The clip and its companions are in the output folder, complete and verified."""

    path: str
    size_bytes: int
    sha256: str
    duration_s: float
    width: int
    height: int
    encoder: str
    loudness_lufs: float | None


class ClipFailed(Event, tag="clip:failed", frozen=True, kw_only=True):
    """The clip is given up after its last attempt."""

    stage: StageName
    attempts: int
    error: str
    code: str


class JobRetrying(Event, tag="job:retrying", frozen=True, kw_only=True):
    """An attempt of a stage failed; the next one is scheduled in the same commit."""

    stage: StageName
    attempt: int
    """The attempt that failed, from 1."""
    error: str
    code: str
    next_try_at: datetime


class JobCompleted(Event, tag="job:completed", frozen=True, kw_only=True):
    """Every clip is ready or failed, and at least one is ready."""

    clips_ready: int
    clips_failed: int
    seconds: float
    """From creation to completion."""


class JobFailed(Event, tag="job:failed", frozen=True, kw_only=True):
    """The job ended without a clip."""

    stage: StageName
    attempts: int
    error: str
    code: str


class JobCancelled(Event, tag="job:cancelled", frozen=True, kw_only=True):
    """Somebody stopped the job. Results that arrive later are void."""

    by: str
    reason: str = ""


class JobRetried(Event, tag="job:retried", frozen=True, kw_only=True):
    """A failed or cancelled job, or one clip of it (`clip` set), goes on at `stage`."""

    by: str
    stage: StageName


class JobDeleted(Event, tag="job:deleted", frozen=True, kw_only=True):
    """The job's files are gone; its history stays."""

    by: str
