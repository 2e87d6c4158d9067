"""One settled file becomes a job, or a reason why not: decided by facts, said once.

`file:uploaded`, `job:created` and the job's first command are one commit, stored on condition that nothing was said on
the file's subject since it was looked at. With `duplicates: skip` that subject is made from the content, so the stream
itself refuses a second job of the same bytes: after a kill at any moment, and from two boxes on one bus as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from appliance.control.ledger import Ledger
from appliance.errors import IntakeRefused, SourceUnavailable
from appliance.intake import Arrival, create_job, display_name, file_fingerprint
from appliance.storage.admission import Admission
from appliance.store.writer import Writer
from appliance.watch.content import StillMoving, read
from appliance.watch.folder import MAX_DEPTH, MAX_PATH_BYTES, Entry
from appliance.watch.known import job_of_content
from bus.commit import Expect
from bus.connection import Bus
from bus.errors import Stale, UndecodableEvent
from bus.events import Event, FileRefused, FileUploaded, JobDeleted, JobOptions, JobSource
from bus.ids import id_of, new_id
from bus.subjects import event_subject
from stages.download import Options
from stages.errors import Rejected

log = logging.getLogger(__name__)
SOURCE = "watch"
DENIED = "file-denied"
Outcome = Literal["taken", "refused", "moving", "waits"]
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters with which a name could forge lines of logs."""
_REMEMBERED = 256
"""Sums of files that were read and could not be taken yet."""


class Taker:
    """Takes files of one folder, one at a time."""

    def __init__(
        self,
        bus: Bus,
        store: Writer,
        ledger: Ledger,
        *,
        root: Path,
        data_dir: Path,
        options: Options,
        allow_duplicates: bool,
        admission: Admission | None = None,
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._store = store
        self.root = root
        self._data_dir = data_dir
        self._options = options
        self._allow_duplicates = allow_duplicates
        self._admission = admission
        self._sums: dict[str, str] = {}
        self.stop = threading.Event()
        """Set: a reading ends soon."""

    def fingerprint(self, entry: Entry) -> str:
        """Tells this version of the file again; the one that its job's source carries too."""
        return file_fingerprint(self.root / entry.path, entry.size_bytes, entry.mtime_ns)

    async def take(self, entry: Entry, thread: ThreadPoolExecutor) -> Outcome:
        """Make it a job, or say why not; `thread` reads it. Raises `bus.errors.Retryable`: call again."""
        try:
            _refuse_by_look(entry)
            sha256 = await self._sum(entry, thread)
        except StillMoving as moving:
            log.debug("%s", moving)
            return "moving"
        except Rejected as rejected:
            await self.refuse(entry, rejected.code, str(rejected))
            return "refused"
        job = await self._store.call(lambda db: None if self._allow_duplicates else job_of_content(db, sha256))
        while True:
            if job is not None:
                await self._duplicate(entry, sha256, job)
                return "refused"
            try:
                return await self._commit(entry, sha256)
            except _SameContent as same:
                job = same.job
            except (IntakeRefused, SourceUnavailable) as refused:
                log.info("waits: %s", refused, extra={"path": entry.path})
                return "waits"
            except Stale:
                continue

    async def _sum(self, entry: Entry, thread: ThreadPoolExecutor) -> str:
        """The sha256, read once even if the file then has to wait."""
        key = f"{self.fingerprint(entry)}:{entry.inode}"
        if (known := self._sums.get(key)) is not None:
            return known
        path = self.root / entry.path
        sha256 = await asyncio.get_running_loop().run_in_executor(thread, read, path, entry, self._options, self.stop)
        if len(self._sums) >= _REMEMBERED:
            del self._sums[next(iter(self._sums))]
        self._sums[key] = sha256
        return sha256

    async def refuse(
        self, entry: Entry, code: str, reason: str, *, sha256: str | None = None, same_as: str | None = None
    ) -> None:
        """Say once that the file becomes no job. Raises `bus.errors.Retryable`."""
        fingerprint = self.fingerprint(entry)
        refused = FileRefused(
            source=SOURCE,
            file=id_of(hashlib.sha256(f"{fingerprint}:{code}".encode()).digest()),
            path=self._shown(entry),
            name=display_name(Path(entry.path).name),
            size_bytes=entry.size_bytes,
            fingerprint=fingerprint,
            code=code,
            reason=reason,
            sha256=sha256,
            same_as=same_as,
        )
        try:
            await self._bus.commit([refused], Expect(event_subject(refused), 0))
        except Stale:
            return  # it was said before, and the database has not heard of it yet
        log.warning("not taken: %s", reason, extra={"path": refused.path, "code": code})

    async def _duplicate(self, entry: Entry, sha256: str, job: str) -> None:
        text = (
            f"the same content is job {job} already: to have it made anew, delete that job and copy the file here "
            "again; to have each copy made, set input.duplicates to allow"
        )
        await self.refuse(entry, "duplicate", text, sha256=sha256, same_as=job)

    async def _commit(self, entry: Entry, sha256: str) -> Outcome:
        """Raises `_SameContent`, `IntakeRefused`, or `Stale` when somebody else was quicker: look again."""
        fingerprint = self.fingerprint(entry)
        told = hashlib.sha256(f"{sha256}:{fingerprint}".encode()).digest() if self._allow_duplicates else None
        name = display_name(Path(entry.path).name)
        source = JobSource(kind="file", location=str(self.root / entry.path), name=name, fingerprint=fingerprint)
        uploaded = FileUploaded(
            source=SOURCE,
            job=new_id(),
            file=id_of(told or bytes.fromhex(sha256)),
            path=self._shown(entry),
            name=name,
            size_bytes=entry.size_bytes,
            sha256=sha256,
            via="watch",
            fingerprint=fingerprint,
        )
        subject = event_subject(uploaded)
        said = await self._bus.last_facts(subject)
        last = said[-1] if said else None
        if last is not None:
            try:
                before: Event = last.event
            except UndecodableEvent:
                before = uploaded
            if isinstance(before, FileUploaded) and before.job is not None:
                if before.fingerprint == fingerprint:
                    return "taken"  # by us, before we were killed
                ended = await self._bus.last_fact(before.job)
                if ended is not None and not isinstance(ended.event, JobDeleted):
                    raise _SameContent(before.job)
        arrival = Arrival(uploaded, Expect(subject, 0 if last is None else last.seq))
        job = await create_job(
            self._bus, source, JobOptions(), ledger=self._ledger, arrival=arrival, admission=self._admission
        )
        log.info("taken", extra={"path": uploaded.path, "job": job, "bytes": entry.size_bytes})
        return "taken"

    def _shown(self, entry: Entry) -> str:
        """Its path relative to the data folder, or absolute when it lies elsewhere; always text."""
        path = self.root / entry.path
        if path.is_relative_to(self._data_dir):
            path = path.relative_to(self._data_dir)
        text = str(path).encode("utf-8", "replace").decode()[: 2 * MAX_PATH_BYTES]
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class _SameContent(Exception):
    def __init__(self, job: str) -> None:
        super().__init__(job)
        self.job = job


def _refuse_by_look(entry: Entry) -> None:
    """Raises `Rejected` for what need not be opened."""
    try:
        length = len(entry.path.encode())
    except UnicodeEncodeError:
        raise Rejected("its name, or that of a folder above, is not valid UTF-8: rename it", "bad-name") from None
    if _CONTROL.search(entry.path):
        raise Rejected("its name, or that of a folder above, holds control characters: rename it", "bad-name")
    if length > MAX_PATH_BYTES:
        text = f"its path is {length} bytes long, the limit is {MAX_PATH_BYTES}: give it and its folders shorter names"
        raise Rejected(text, "name-too-long")
    if entry.kind == "link":
        raise Rejected("it is a link that leads out of the folder, or nowhere: put the file itself here", "link")
    if entry.kind == "folder":
        if not entry.readable:
            raise Rejected("the appliance's user may not look into this folder: give it permission", DENIED)
        raise Rejected(f"this folder lies more than {MAX_DEPTH} folders deep: move it up", "too-deep")
    if entry.kind == "other":
        raise Rejected("it is no file but a device, pipe or socket: remove it", "not-a-file")
    if not entry.readable:
        raise Rejected("the appliance's user may not read it: give it read permission", DENIED)
