"""Every event of the appliance: one frozen struct a type, one flat JSON object on the wire.

An event is a fact: it has happened and is never changed. Its public name (`job:created`) is the struct's tag and the
JSON field `type`. Consumers ignore fields they do not know; a type they do not know decodes to `UndecodableEvent`.

Wire form, in this order: `type, v, id, ts, source, job, clip`, then the event's own fields. `ts` is RFC 3339 UTC.
Names carry units (`_s` seconds, `_bytes`). Paths are relative to the data folder. File names and URLs are data: they
never reach a subject (see `bus.subjects`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from bus.box_facts import (
    AlertCleared,
    AlertRaised,
    CacheDegraded,
    CacheRestored,
    ControlChanged,
    FileDeleted,
    FileRefused,
    FilesPinned,
    FilesUnpinned,
    FileUploaded,
    QueueThreshold,
    ServiceDown,
    ServiceUp,
    UserAction,
    WorkerOffline,
    WorkerOnline,
    WorkerScaled,
)
from bus.errors import UndecodableEvent
from bus.fact import CLIP_STAGES, JOB_STAGES, STAGES, Command, Event, JobOptions, JobSource, StageName
from bus.job_facts import (
    ClipCropped,
    ClipDetected,
    ClipFailed,
    ClipPlanned,
    ClipReady,
    JobAnalyzed,
    JobAnalyzing,
    JobCancelled,
    JobCompleted,
    JobCreated,
    JobCropping,
    JobCutting,
    JobDeleted,
    JobDetecting,
    JobDownloaded,
    JobDownloading,
    JobFailed,
    JobRetried,
    JobRetrying,
    JobTranscribed,
    JobTranscribing,
    StageDone,
    StageStarted,
)

__all__ = [
    "CLIP_STAGES",
    "DONE",
    "EVENT_TYPES",
    "JOB_STAGES",
    "STAGES",
    "STARTED",
    "AlertCleared",
    "AlertRaised",
    "AnyEvent",
    "CacheDegraded",
    "CacheRestored",
    "ClipCropped",
    "ClipDetected",
    "ClipFailed",
    "ClipPlanned",
    "ClipReady",
    "Command",
    "ControlChanged",
    "Event",
    "FileDeleted",
    "FileRefused",
    "FileUploaded",
    "FilesPinned",
    "FilesUnpinned",
    "JobAnalyzed",
    "JobAnalyzing",
    "JobCancelled",
    "JobCompleted",
    "JobCreated",
    "JobCropping",
    "JobCutting",
    "JobDeleted",
    "JobDetecting",
    "JobDownloaded",
    "JobDownloading",
    "JobFailed",
    "JobOptions",
    "JobRetried",
    "JobRetrying",
    "JobSource",
    "JobTranscribed",
    "JobTranscribing",
    "QueueThreshold",
    "ServiceDown",
    "ServiceUp",
    "StageDone",
    "StageName",
    "StageStarted",
    "UserAction",
    "WorkerOffline",
    "WorkerOnline",
    "WorkerScaled",
    "as_dict",
    "decode_command",
    "decode_event",
    "encode",
]

AnyEvent = (
    FileUploaded
    | FileRefused
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
