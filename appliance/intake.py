"""Taking jobs in, and what people do to them: create, cancel, retry, delete. Facts in, nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
from pathlib import Path

from msgspec import Struct

from appliance import lifecycle
from appliance.control.ledger import Ledger, read_holds
from appliance.errors import IntakeClosed, IntakeRefused, JobNotFound
from appliance.lifecycle import ENDED, OpenItem
from appliance.storage.admission import Admission
from appliance.store.queries import JobRow, Store
from bus.commit import Expect
from bus.connection import Bus
from bus.errors import Retryable, Stale
from bus.events import (
    FilesPinned,
    FilesUnpinned,
    FileUploaded,
    JobCancelled,
    JobCreated,
    JobDeleted,
    JobOptions,
    JobSource,
)
from bus.ids import new_id
from bus.subjects import item_filter
from stages.errors import SOURCE_MISSING

log = logging.getLogger(__name__)
MAX_NAME_BYTES = 255


def source_of(text: str) -> JobSource:
    """A path or http(s) URL as a job source. Raises `IntakeRefused` for what can be told to be wrong at once."""
    if "://" in text:
        return _url_source(text)
    path = Path(text).expanduser()
    if not path.exists():
        raise IntakeRefused(f"{text}: no such file")
    if not path.is_file():
        raise IntakeRefused(f"{text} is not a file: give one video")
    path = path.resolve()
    if not os.access(path, os.R_OK):
        raise IntakeRefused(f"{text} cannot be read by this user: change its permissions")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise IntakeRefused(f"{path.name!r} is not a valid UTF-8 name: rename the file") from None
    status = path.stat()
    return JobSource(
        kind="file",
        location=str(path),
        name=display_name(path.name),
        fingerprint=file_fingerprint(path, status.st_size, status.st_mtime_ns),
    )


def file_fingerprint(path: Path, size_bytes: int, mtime_ns: int) -> str:
    """Tells this version of the file at `path` (real and absolute) again: 64 hex digits."""
    return hashlib.sha256(os.fsencode(f"{path}\0{size_bytes}\0{mtime_ns}")).hexdigest()


def _url_source(text: str) -> JobSource:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError as error:
        raise IntakeRefused(f"{text!r} is not a URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise IntakeRefused(f"{parts.scheme}: is not taken: give a file, or an http(s) URL")
    if "@" in parts.netloc:
        raise IntakeRefused("the URL carries a password, which would be stored: download the file yourself")
    name = parts.path.rsplit("/", 1)[-1] or host
    return JobSource(
        kind="url", location=text, name=display_name(name), fingerprint=hashlib.sha256(text.encode()).hexdigest()
    )


def display_name(name: str) -> str:
    """A name that can be shown and stored anywhere: no control characters, valid UTF-8, at most 255 bytes."""
    clean = name
    if not name.isprintable():
        clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    data = clean.encode("utf-8", "replace")[:MAX_NAME_BYTES]
    return data.decode("utf-8", "ignore") or "video"


class Arrival(Struct, frozen=True):
    """The fact that a job's file has come, which names the job, and on what condition it is still news."""

    fact: FileUploaded
    expect: Expect


async def create_job(
    bus: Bus,
    source: JobSource,
    options: JobOptions,
    *,
    owner: str = "local",
    ledger: Ledger | None = None,
    arrival: Arrival | None = None,
    admission: Admission | None = None,
) -> str:
    """Store a job and its first command; returns the job's id. Acknowledged means stored.

    `ledger`: the caller's own, which saves asking the bus for it. `arrival` is stored in one commit with both. Without
    one the job comes first, alone: a commit of several messages takes four times as long, and the screens wait for the
    fact. Should this process be killed before the command, the dispatcher queues it (`queue_first`).
    Raises `IntakeClosed` while anybody holds the intake, `bus.errors.Stale` when the arrival is no news any more and,
    with `admission`, which every way in gives, `NoRoom` when the job's forecast does not fit on the disk.
    """
    standing = await read_holds(bus, "intake") if ledger is None else ledger.holds("intake")
    if standing:
        raise IntakeClosed(
            f"no jobs are taken: intake is {'; '.join(str(hold) for hold in standing)}. It opens when "
            "each of these ends; `appliance resume intake` ends what people asked for"
        )
    job = new_id() if arrival is None or arrival.fact.job is None else arrival.fact.job
    created = JobCreated(source=owner, job=job, origin=source, options=options, owner=owner)
    async with contextlib.nullcontext() if admission is None else admission.claimed(job, source, options):
        if arrival is not None:
            await bus.commit([arrival.fact, created, lifecycle.first_command(created)], arrival.expect)
            return job
        seq = await bus.publish(created)
    try:
        await bus.queue(lifecycle.first_command(created), Expect(item_filter(job), seq))
    except Retryable as error:  # the job is stored: it must not be refused any more
        log.warning("the dispatcher has to queue a job", extra={"job": job, "error": str(error)})
    return job


async def cancel_job(bus: Bus, job: str, *, by: str, reason: str = "") -> bool:
    """End a job now. False when it had ended already. Raises `JobNotFound`.

    What is queued for it is spent with this fact; the dispatcher removes it.
    """
    while True:
        last = await bus.last_fact(job)
        if last is None:
            raise JobNotFound(f"no job {job}")
        if isinstance(last.event, ENDED):
            return False
        try:
            cancelled = JobCancelled(source=by, job=job, by=by, reason=reason)
            await bus.commit([cancelled], Expect(item_filter(job), last.seq))
        except Stale:
            continue
        return True


async def retry_job(bus: Bus, database: Path, job: str, *, by: str) -> list[OpenItem]:
    """Let a failed or cancelled job, or the failed clips of a completed one, go on where each stopped.

    Returns what goes on. Raises `JobNotFound`, or `IntakeRefused` when there is nothing to do.
    """
    items, last_seq = await asyncio.to_thread(items_to_retry, database, job)
    try:
        await bus.commit(lifecycle.on_retried(job, by, items), Expect(item_filter(job), last_seq))
    except Stale:
        raise IntakeRefused(f"job {job} has just changed: look at it, then try again") from None
    return items


def items_to_retry(database: Path, job: str) -> tuple[list[OpenItem], int]:
    """What a retry of this job has to move, and the job's last fact that this answer knows of.

    Blocking; raises as `retry_job`. The database may lag behind the stream: the answer is good for as long as that
    fact is still the job's last.
    """
    with Store(database) as store:
        row = store.job(job)
        items = [] if row is None else _open_items(store, row)
    if row is None:
        raise JobNotFound(f"no job {job}")
    if row.state in ("queued", "running", "clipping"):
        raise IntakeRefused(f"job {job} is {row.state}: it needs no retry")
    if row.state == "deleted":
        raise IntakeRefused(f"job {job} was deleted: its files are gone, add the video again")
    if not items:
        raise IntakeRefused(f"job {job} has all its clips: nothing to retry")
    return items, row.last_seq


def _open_items(store: Store, row: JobRow) -> list[OpenItem]:
    if row.clips_planned is None:
        stage = lifecycle.resume_stage(row.last_done, clip=False)  # type: ignore[arg-type]  # our own column
        if row.source_removed_at is not None or row.error_code == SOURCE_MISSING:
            stage = "download"
        elif row.scratch_removed_at is not None and row.last_done is not None:
            stage = "transcribe"
        return [OpenItem(clip=None, stage=stage or "moments")]
    items = []
    for clip in store.clips(row.job):
        stage = lifecycle.resume_stage(clip.last_done, clip=True)  # type: ignore[arg-type]
        if clip.state != "ready" and stage is not None:
            items.append(OpenItem(clip=clip.clip, stage=stage))
    removed_at = row.source_removed_at or row.scratch_removed_at
    if items and removed_at is not None:
        raise IntakeRefused(f"retention removed the files of job {row.job} on {removed_at[:10]}: add the video again")
    return items


async def delete_job(bus: Bus, job: str, *, by: str) -> None:
    """Forget a job's files; its history stays. A running job is cancelled first. Raises `JobNotFound`."""
    await cancel_job(bus, job, by=by, reason="deleted")
    await bus.publish(JobDeleted(source=by, job=job, by=by))


async def pin_job(bus: Bus, job: str, *, by: str, pinned: bool = True) -> None:
    """Keep retention away from the job's files, or let it at them again. Raises `JobNotFound`."""
    if await bus.last_fact(job) is None:
        raise JobNotFound(f"no job {job}")
    await bus.publish(FilesPinned(source=by, job=job, by=by) if pinned else FilesUnpinned(source=by, job=job, by=by))
