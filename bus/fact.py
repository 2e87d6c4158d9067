"""What every event of the bus has in common, and what a job is made of.

`bus.events` is the way in; this module and its neighbours `bus.job_facts` and `bus.box_facts` only hold its parts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct, field

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
