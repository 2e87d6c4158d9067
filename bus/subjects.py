"""Subjects: where each message lives in the stream, and how to ask for it.

    evt.<noun>.<verb>.<id>[.<clip>]        a fact, `job:created` ⇄ `evt.job.created.<job>`
    cmd.<stage>.<job>[.<clip>]             work for a stage
    sched.<stage>.<job>[.<clip>].<command> work held back until its time, one subject a command
    tel.<what>.<id>                        telemetry, never stored for long
    live.evt.…                             a fact once more, sent by the server after it is stored

Tokens are made of `a-z 0-9 _ -` only. File names and URLs are payload, never subjects.
"""

from __future__ import annotations

import re
from functools import lru_cache

from bus.events import (
    AlertCleared,
    AlertRaised,
    CacheDegraded,
    CacheRestored,
    Command,
    ControlChanged,
    Event,
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

LIVE_PREFIX = "live."
_TOKEN = re.compile(r"[a-z0-9_-]+\Z")
_PATTERN = re.compile(r"(?:[a-z0-9_-]+|\*)(?:\.(?:[a-z0-9_-]+|\*))*(?:\.>)?\Z|>\Z")


def token(text: str, what: str = "id") -> str:
    """`text`, when it may stand in a subject. Raises ValueError naming `what` otherwise."""
    if not _TOKEN.match(text):
        raise ValueError(f"{what} {text!r} cannot be part of a subject: use a-z, 0-9, '_' and '-' only")
    return text


def pattern(text: str) -> str:
    """`text`, when it is a subject or a filter with `*` and `>`. Raises ValueError otherwise."""
    if not _PATTERN.match(text):
        raise ValueError(f"{text!r} is not a subject filter: a-z, 0-9, '_', '-' or '*' joined by '.', '>' last")
    return text


@lru_cache(256)
def type_prefix(type_name: str) -> str:
    """`job:created` gives `evt.job.created`. Raises ValueError for anything that is not `noun:verb`."""
    noun, colon, verb = type_name.partition(":")
    if not colon:
        raise ValueError(f"{type_name!r} is not an event type: expected noun:verb, like job:created")
    return f"evt.{token(noun, 'noun')}.{token(verb, 'verb')}"


def type_of(subject: str) -> str:
    """`evt.job.created.<job>` gives `job:created`. Raises ValueError for a subject that is not a fact's."""
    tokens = subject.split(".")
    if len(tokens) < 4 or tokens[0] != "evt":
        raise ValueError(f"{subject!r} is not the subject of a fact")
    return f"{tokens[1]}:{tokens[2]}"


def _job_item(event: Event) -> str:
    if event.job is None:
        raise ValueError(f"{_tag(event)} needs a job id")
    return item(event.job, event.clip)


def _tag(event: Event) -> str:
    return str(event.__struct_config__.tag)


_OWN_ID: dict[type[Event], tuple[str, str]] = {
    FileUploaded: ("file", "file id"),
    FileRefused: ("file", "file id"),
    WorkerOnline: ("worker", "worker id"),
    WorkerOffline: ("worker", "worker id"),
    WorkerScaled: ("stage", "stage"),
    QueueThreshold: ("stage", "stage"),
    AlertRaised: ("alert", "alert id"),
    AlertCleared: ("alert", "alert id"),
    ServiceDown: ("service", "service"),
    ServiceUp: ("service", "service"),
    # Not the job's: a job's own facts are its history, in which these are not.
    UserAction: ("id", "event id"),
    FileDeleted: ("id", "event id"),
    FilesPinned: ("id", "event id"),
    FilesUnpinned: ("id", "event id"),
}
"""Types that are not of a job: the field that tells one from another, and what people call it."""


def _subject_id(event: Event) -> str:
    if (own := _OWN_ID.get(type(event))) is not None:
        field, what = own
        return token(getattr(event, field), what)
    match event:
        case CacheDegraded() | CacheRestored():
            return "cache"
        case ControlChanged():
            return f"{token(event.target, 'target')}.{token(event.holder, 'holder')}"
        case _:
            return _job_item(event)


def item(job: str, clip: int | None = None) -> str:
    """`<job>` or `<job>.<clip>`. Raises ValueError for a bad job id or a clip number below 1."""
    token(job, "job id")
    if clip is None:
        return job
    if clip < 1:
        raise ValueError(f"clip {clip} is not a clip number: they start at 1")
    return f"{job}.{clip}"


def event_subject(event: Event) -> str:
    """Where `event` is stored. Raises ValueError when its ids cannot be part of a subject."""
    return f"{type_prefix(_tag(event))}.{_subject_id(event)}"


def command_subject(command: Command) -> str:
    """Where the command waits for its stage: `cmd.<stage>.<job>[.<clip>]`."""
    return f"cmd.{token(command.stage, 'stage')}.{item(command.job, command.clip)}"


def schedule_subject(command: Command) -> str:
    """Where the command waits for its time; unique for each command, so schedules never replace each other."""
    return f"sched.{token(command.stage, 'stage')}.{item(command.job, command.clip)}.{token(command.id, 'command id')}"


def item_filter(job: str, clip: int | None = None) -> str:
    """The history of an item: the job's own facts (4 tokens), or one clip's (5 tokens)."""
    return f"evt.*.*.{item(job, clip)}"


def job_filters(job: str) -> tuple[str, str]:
    """All facts of a job: its own and its clips'."""
    token(job, "job id")
    return (f"evt.*.*.{job}", f"evt.*.*.{job}.*")


def pending_filters(job: str) -> tuple[str, ...]:
    """Queued and scheduled commands of a job and of its clips."""
    token(job, "job id")
    return (f"cmd.*.{job}", f"cmd.*.{job}.*", f"sched.*.{job}.*", f"sched.*.{job}.*.*")


def live(subject: str) -> str:
    """The subject on which the server repeats a stored fact: `evt.…` gives `live.evt.…`."""
    if not subject.startswith("evt."):
        raise ValueError(f"{subject!r} is not a fact's subject: only evt.… is repeated live")
    return LIVE_PREFIX + pattern(subject)


def telemetry_subject(what: str, ident: str) -> str:
    """`tel.<what>.<ident>`; `ident` may hold one dot (`<job>.<clip>`)."""
    head, dot, tail = ident.partition(".")
    return f"tel.{token(what, 'telemetry name')}.{token(head)}" + (f".{token(tail)}" if dot else "")
