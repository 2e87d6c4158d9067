"""What happens to the box itself: files, workers, queues, controls, alerts, services, the cache, its people."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from bus.fact import Event, StageName


class FileUploaded(Event, tag="file:uploaded", frozen=True, kw_only=True):
    """An upload is complete and verified, or a file settled in the watch folder."""

    file: str
    path: str
    name: str
    size_bytes: int
    sha256: str
    via: Literal["upload", "watch", "cli"]
    fingerprint: str | None = None
    """As `JobSource.fingerprint`, for a file of the watch folder; `job` is then the job that it became."""


class FileRefused(Event, tag="file:refused", frozen=True, kw_only=True):
    """A file of the watch folder becomes no job. It is looked at again when it has changed."""

    file: str
    path: str
    name: str
    size_bytes: int
    fingerprint: str
    code: str
    """`duplicate`, `empty`, `not-a-video`, `file-denied` and the like: stable and greppable."""
    reason: str
    """For people: what is wrong and what to do."""
    sha256: str | None = None
    """None when it was refused before it was read."""
    same_as: str | None = None
    """The job that was made from the same content, for a `duplicate`."""


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
    on_purpose: bool = False
    """Nobody wants it any more (fewer workers, another configuration): that it is not there is no fault."""


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
