"""Every event of the appliance: one frozen struct a type, one flat JSON object on the wire.

An event is a fact: it has happened and is never changed. Its public name (`job:created`) is the struct's tag and the
JSON field `type`. Consumers ignore fields they do not know; a type they do not know decodes to `UndecodableEvent`.

Wire form, in this order: `type, v, id, ts, source, job, clip`, then the event's own fields. `ts` is RFC 3339 UTC.
Names carry units (`_s` seconds, `_bytes`). Paths are relative to the data folder. File names and URLs are data: they
never reach a subject (see `bus.subjects`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from bus.errors import UndecodableEvent
from bus.ids import new_id

StageName = Literal["download", "transcribe", "moments", "faces", "crop", "cut"]
JOB_STAGES: tuple[StageName, ...] = ("download", "transcribe", "moments")
CLIP_STAGES: tuple[StageName, ...] = ("faces", "crop", "cut")
STAGES: tuple[StageName, ...] = JOB_STAGES + CLIP_STAGES


def _now() -> datetime:
    return datetime.now(UTC)


class JobSource(Struct, frozen=True, kw_only=True):
    """Where a job's video comes from."""

    kind: Literal["file", "upload", "url"]
    location: str
    """Absolute path (`file`), upload id (`upload`) or http(s) URL (`url`). Secrets in a URL are refused at intake."""
    name: str
    """What people call it: the original file name or title, at most 255 bytes, display only."""
    fingerprint: str | None = None
    """Tells the same source again: for files a hash of real path, size and mtime; for uploads the content's sha256."""


class JobOptions(Struct, frozen=True, kw_only=True):
    """What the user asked for. None means: the stage's configured default."""

    clips: int | None = None
    min_length_s: float | None = None
    max_length_s: float | None = None
    language: str | None = None
    captions: bool = True


class Event(Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every event carries."""

    v: int = 1
    id: str = field(default_factory=new_id)
    ts: datetime = field(default_factory=_now)
    source: str = "appliance"
    """Who says so: a service or worker id."""
    job: str | None = None
    clip: int | None = None
    """Clip number within its job, from 1."""


class FileUploaded(Event, tag="file:uploaded", frozen=True, kw_only=True):
    """An upload is complete and verified, or a file settled in the watch folder."""

    file: str
    path: str
    name: str
    size_bytes: int
    sha256: str
    via: Literal["upload", "watch", "cli"]


class FileDeleted(Event, tag="file:deleted", frozen=True, kw_only=True):
    """Retention removed a file or folder to keep the disk usable."""

    path: str
    kind: Literal["upload", "source", "scratch", "clips", "input", "log", "other"]
    size_bytes: int
    reason: str
    """The rule that chose it, and why now."""


class FilesPinned(Event, tag="file:pinned", frozen=True, kw_only=True):
    """Nothing that belongs to the job (`job` set) is removed by retention from now on."""

    by: str


class FilesUnpinned(Event, tag="file:unpinned", frozen=True, kw_only=True):
    """The job's files (`job` set) may be removed by retention again."""

    by: str


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


class WorkerOnline(Event, tag="worker:online", frozen=True, kw_only=True):
    """A stage worker is ready to take work."""

    worker: str
    stage: StageName
    pid: int
    host: str


class WorkerOffline(Event, tag="worker:offline", frozen=True, kw_only=True):
    """A stage worker is gone."""

    worker: str
    stage: StageName
    reason: str


class WorkerScaled(Event, tag="worker:scaled", frozen=True, kw_only=True):
    """The number of workers of a stage was changed on purpose."""

    stage: StageName
    before: int
    after: int
    reason: str


class ControlChanged(Event, tag="control:changed", frozen=True, kw_only=True):
    """Somebody stopped a part of the box on purpose, or let it go on: one line of the control ledger.

    The last fact of each target and holder is the ledger's state; a target stands as long as any of its holders does.
    """

    target: Literal["intake", "download", "transcribe", "moments", "faces", "crop", "cut"]
    holder: str
    """Whose hold it is, lower-case letters, digits and `-`: `operator`, `storage`, `alert-<rule>`."""
    mode: Literal["run", "pause", "drain"]
    """`run`: the hold is over. `pause`: nothing new begins. `drain`: and the stage's workers end when they are done."""
    by: str
    reason: str
    until: datetime | None = None
    """When the hold ends by itself; None: when somebody ends it."""


class QueueThreshold(Event, tag="queue:threshold", frozen=True, kw_only=True):
    """A stage's queue crossed a threshold, or fell back below it (`level` ok)."""

    stage: StageName
    level: Literal["ok", "warning", "critical"]
    depth: int
    oldest_s: float


class AlertRaised(Event, tag="alert:raised", frozen=True, kw_only=True):
    """A rule fires for a device or service."""

    alert: str
    """Stable id of rule and device, lower-case letters, digits and `-`."""
    severity: Literal["info", "warning", "critical"]
    message: str
    value: float | None = None
    threshold: float | None = None
    rule: str | None = None
    device: str | None = None
    transition: Literal["raised", "worsened", "improved", "flapping", "reminder", "unmuted"] = "raised"
    since: datetime | None = None
    """When the condition began, which is before it was raised."""
    muted_by: str | None = None
    """The silence or the other alert because of which nobody is told."""


class AlertCleared(Event, tag="alert:cleared", frozen=True, kw_only=True):
    """A raised alert is over."""

    alert: str
    message: str
    rule: str | None = None
    device: str | None = None
    severity: Literal["info", "warning", "critical"] | None = None
    """What it was when it ended."""
    muted_by: str | None = None


class ServiceDown(Event, tag="service:down", frozen=True, kw_only=True):
    """A supervised process ended or stopped answering."""

    service: str
    reason: str
    restarts: int


class ServiceUp(Event, tag="service:up", frozen=True, kw_only=True):
    """A supervised process is ready."""

    service: str
    pid: int


class CacheDegraded(Event, tag="cache:degraded", frozen=True, kw_only=True):
    """The cache's circuit breaker opened; everything is computed directly."""

    reason: str


class CacheRestored(Event, tag="cache:restored", frozen=True, kw_only=True):
    """The cache answers again."""

    down_s: float


class UserAction(Event, tag="user:action", frozen=True, kw_only=True):
    """A mutating call by a person or token: the audit trail."""

    user: str
    action: str
    target: str | None = None
    remote: str | None = None


AnyEvent = (
    FileUploaded
    | FileDeleted
    | FilesPinned
    | FilesUnpinned
    | JobCreated
    | JobDownloading
    | JobTranscribing
    | JobAnalyzing
    | JobDetecting
    | JobCropping
    | JobCutting
    | JobDownloaded
    | JobTranscribed
    | JobAnalyzed
    | ClipPlanned
    | ClipDetected
    | ClipCropped
    | ClipReady
    | ClipFailed
    | JobRetrying
    | JobCompleted
    | JobFailed
    | JobCancelled
    | JobRetried
    | JobDeleted
    | WorkerOnline
    | WorkerOffline
    | WorkerScaled
    | ControlChanged
    | QueueThreshold
    | AlertRaised
    | AlertCleared
    | ServiceDown
    | ServiceUp
    | CacheDegraded
    | CacheRestored
    | UserAction
)

EVENT_TYPES: dict[str, type[Event]] = {t.__struct_config__.tag: t for t in AnyEvent.__args__}
"""Public name to struct, in the order of the life of a job."""

STARTED: dict[StageName, type[StageStarted]] = {
    "download": JobDownloading,
    "transcribe": JobTranscribing,
    "moments": JobAnalyzing,
    "faces": JobDetecting,
    "crop": JobCropping,
    "cut": JobCutting,
}
DONE: dict[StageName, type[StageDone]] = {
    "download": JobDownloaded,
    "transcribe": JobTranscribed,
    "moments": JobAnalyzed,
    "faces": ClipDetected,
    "crop": ClipCropped,
    "cut": ClipReady,
}


class Command(Struct, frozen=True, kw_only=True):
    """Work for one stage on one job or clip. Stored in the same stream as the facts.

    A command is spent as soon as the item's last fact has moved past it; replaying an old one is harmless.
    """

    stage: StageName
    job: str
    clip: int | None = None
    attempt: int = 1
    v: int = 1
    id: str = field(default_factory=new_id)
    ts: datetime = field(default_factory=_now)
    not_before: datetime | None = None
    """When set, the server holds the command back until then (a message schedule)."""


_encoder = msgspec.json.Encoder()
_event_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_command_decoder = msgspec.json.Decoder(Command)


def encode(message: Event | Command) -> bytes:
    """The wire form of an event or command."""
    return _encoder.encode(message)


def decode_event(data: bytes) -> AnyEvent:
    """The event in `data`. Raises `UndecodableEvent` for anything else, naming what is wrong."""
    try:
        return _event_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UndecodableEvent(f"not an event of this version: {error}") from error


def decode_command(data: bytes) -> Command:
    """The command in `data`. Raises `UndecodableEvent` for anything else."""
    try:
        return _command_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UndecodableEvent(f"not a command of this version: {error}") from error


def as_dict(event: Event) -> dict[str, Any]:
    """The event as plain JSON types, for display."""
    return dict(msgspec.to_builtins(event))
