"""Uploads from their first byte to the job: what came is on the disk before it is acknowledged.

    create   room and quota are looked at first; a row and nothing else
    receive  bytes → `<id>.part`, synced every `uploads.sync_bytes`, then the row's offset, then the acknowledgement
    finish   sha256 of the whole, a hard link by content, then the row says `complete`: from here on it is the outbox's
    courier  `file:uploaded`, `job:created` and the first command in one commit (`web.uploads.courier`)

A kill between any two steps leaves a state from which the same steps go on: the part is kept until the row is complete.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from appliance.accounts.roles import Principal
from appliance.config import Config
from appliance.errors import SourceUnavailable
from appliance.services.readers import Readers
from appliance.sqlite import sqlite3
from appliance.store.rules import text
from appliance.uploads import content_path, part_path, uploads_dir
from bus.ids import new_id
from stages.download import check_content
from stages.errors import Rejected
from stages.media.sniff import HEAD_BYTES
from web.database import WebDatabase
from web.metrics import WebMetrics
from web.problems import Problem, not_found
from web.uploads import table
from web.uploads.leases import Lease, Leases
from web.uploads.part import PartFile, PartLost
from web.uploads.room import Room
from web.uploads.table import Upload
from web.uploads.wanted import Wanted

T = TypeVar("T")
log = logging.getLogger(__name__)
THREADS = 4
MAX_OPEN_PARTS = 256
"""Unfinished uploads whose running sha256 is kept in memory; others are read again at their end."""
ENDED_JOBS = frozenset({"failed", "cancelled", "deleted"})
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Uploads:
    """Of one box. `tell` is called when an upload is complete: the outbox has something to do."""

    def __init__(
        self,
        config: Config,
        db: WebDatabase,
        readers: Readers,
        room: Room,
        metrics: WebMetrics,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.settings = config.uploads
        self.db = db
        self.room = room
        self._metrics = metrics
        self.leases = Leases()
        self.clock = clock
        self.tell: Callable[[], None] = lambda: None
        self.storing = asyncio.Lock()
        """Held while a content is given its rows, or is removed because it has none."""
        self._readers = readers
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="upload")
        self._parts: dict[str, PartFile] = {}

    async def run(self, work: Callable[[], T]) -> T:
        """`work` on one of the threads that may wait for the disk."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        self.leases.ask_all()
        await asyncio.to_thread(self._threads.shutdown)
        for part in self._parts.values():
            part.close()

    # -- rows ---------------------------------------------------------------------------------------------------------

    async def find(self, ident: str, who: Principal) -> Upload:
        """One's own upload; administrators see everybody's. Raises `Problem` 404, 410 for one that is expired."""
        upload = await self.db.read(lambda db: table.find(db, ident))
        if upload is None or (upload.owner != who.user and who.role != "admin"):
            raise not_found("such upload")
        if self.is_expired(upload):
            raise Problem(410, "expired", "this upload is expired: begin again")
        return upload

    async def listed(self, who: Principal, limit: int) -> list[Upload]:
        """One's own, newest first; administrators see everybody's."""
        owner = None if who.role == "admin" else who.user
        found = await self.db.read(lambda db: table.of_owner(db, owner, limit))
        return [upload for upload in found if not self.is_expired(upload)]

    def expires_at(self, upload: Upload) -> float:
        """When it goes by itself, in seconds since 1970."""
        keep_s = self.settings.expire_s if upload.state == "receiving" else self.settings.keep_s
        return upload.touched_at + keep_s

    def is_expired(self, upload: Upload) -> bool:
        return self.clock() >= self.expires_at(upload) and upload.id not in self.leases

    async def create(self, size_bytes: int, wanted: Wanted, who: Principal) -> Upload:
        """A new, empty upload. Raises `Problem` 413, 429, 503 or 507 with the figures before any byte is taken."""
        now = self.clock()
        upload = Upload(
            id=new_id(),
            owner=who.user,
            name=wanted.name,
            size_bytes=size_bytes,
            offset_bytes=0,
            state="receiving",
            wanted=wanted,
            sha256=None,
            error=None,
            created_at=now,
            touched_at=now,
            job=None,
            told=False,
        )
        async with self.room.claimed(size_bytes, wanted.options):

            def add(db: sqlite3.Connection) -> bool:
                if table.unfinished(db, who.user) >= self.settings.max_unfinished:
                    return False
                table.add(db, upload)
                return True

            if not await self.db.change(add):
                count = self.settings.max_unfinished
                raise Problem(429, "too-many-uploads", f"you have {count} unfinished uploads: finish or remove some")
        return upload

    # -- bytes --------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def held(self, upload: Upload, *, by_force: bool = False) -> AsyncIterator[tuple[Upload, PartFile, Lease]]:
        """The upload as it stands, its file taken up, and nobody else at it. Raises `Problem` 423, 404, 410."""
        lease = await self.leases.take(upload.id, by_force=by_force)
        try:
            fresh = await self.db.read(lambda db: table.find(db, upload.id))
            if fresh is None:
                raise not_found("such upload")
            part = self._part(fresh)
            try:
                if fresh.state == "receiving":
                    await self.run(part.open)
                yield fresh, part, lease
            finally:
                await asyncio.shield(self.run(part.close))
        except PartLost as lost:
            log.exception("an upload's file is damaged")
            await self.db.change(
                lambda db: table.refuse(db, upload.id, "its file was damaged on the box", self.clock())
            )
            raise Problem(410, "damaged", "what came of this upload is damaged on the box: begin again") from lost
        finally:
            self.leases.release(upload.id, lease)

    def _part(self, upload: Upload) -> PartFile:
        part = self._parts.pop(upload.id, None)
        if part is None or part.confirmed_bytes != upload.offset_bytes:
            part = PartFile(part_path(self.config.data_dir, upload.id), upload.offset_bytes)
        self._parts[upload.id] = part
        while len(self._parts) > MAX_OPEN_PARTS:
            oldest = next((ident for ident in self._parts if ident not in self.leases), None)
            if oldest is None:
                break
            del self._parts[oldest]
        return part

    async def confirm(self, upload: Upload, part: PartFile) -> None:
        """What was written is on the disk and counts. Raises OSError; the caller rolls back."""
        if part.written_bytes == part.confirmed_bytes:
            return
        before = part.confirmed_bytes
        await self.run(part.sync)
        if before < HEAD_BYTES:
            await self._look(upload, part)
        offset = part.written_bytes
        await self.db.change(lambda db: table.confirm(db, upload.id, offset, self.clock()))
        self._metrics.upload_bytes.inc(offset - before)
        part.confirm()

    async def _look(self, upload: Upload, part: PartFile) -> None:
        """Refuse what is no video as soon as its first bytes are there. Raises `Problem` 415."""
        if part.written_bytes < min(HEAD_BYTES, upload.size_bytes):
            return
        head = await self.run(lambda: part.head(HEAD_BYTES))
        try:
            check_content(head, upload.name)
        except Rejected as rejected:
            await self._refuse(upload, part, str(rejected))
            raise Problem(415, rejected.code, str(rejected)) from rejected

    async def _refuse(self, upload: Upload, part: PartFile, reason: str) -> None:
        await self.db.change(lambda db: table.refuse(db, upload.id, reason, self.clock()))
        self._metrics.uploads.labels("refused").inc()
        await self.run(part.remove)
        self._parts.pop(upload.id, None)

    async def disk_trouble(self, error: OSError, upload: Upload, part: PartFile) -> Problem:
        """The answer when the disk does not take what came; what was acknowledged is kept."""
        log.error("an upload cannot be written: %s", error, extra={"upload": upload.id})
        more: dict[str, Any] = {"offset_bytes": part.confirmed_bytes}
        if error.errno in NO_SPACE:
            more |= {"need_bytes": upload.size_bytes - part.confirmed_bytes, "free_bytes": await self.run(self._free)}
            detail = "the disk is full: what came so far is kept, go on when there is room"
            return Problem(507, "disk-full", detail, **more)
        return Problem(500, "disk-error", f"the disk refused to write: {error.strerror}", **more)

    def _free(self) -> int:
        found = os.statvfs(uploads_dir(self.config.data_dir))
        return found.f_bavail * found.f_frsize

    # -- the end ------------------------------------------------------------------------------------------------------

    async def finish(self, upload: Upload, part: PartFile) -> Upload:
        """Verify and store a whole upload, whose file is open; safe to repeat. Raises `Problem` 460 or OSError."""
        sha256 = await self.run(part.sha256)
        if upload.wanted.sha256 not in (None, sha256):
            text_ = f"its sha256 is {sha256}, not {upload.wanted.sha256} as announced: send it again"
            await self._refuse(upload, part, text_)
            raise Problem(460, "checksum-mismatch", text_, sha256=sha256)
        states = await self._jobs_of(sha256)
        now = self.clock()

        def complete(db: sqlite3.Connection) -> Upload:
            job = None
            if upload.wanted.job:
                job = (None if upload.wanted.again else _same(db, upload, sha256, states)) or new_id()
            table.complete(db, upload.id, sha256, job, now)
            found = table.find(db, upload.id)
            assert found is not None
            return found

        async with self.storing:
            await self.run(partial(part.store, content_path(self.config.data_dir, sha256)))
            done = await self.db.change(complete)
        await self.run(part.remove)
        self._parts.pop(upload.id, None)
        self._metrics.uploads.labels("complete").inc()
        self.tell()
        return done

    async def take_up(self, upload: Upload) -> Upload:
        """One that nobody sends for at the moment, as it stands; finished when only that was still to do.

        Raises `Problem` 423 while bytes come for it, and what `finish` raises.
        """
        async with self.held(upload) as (fresh, part, _lease):
            if fresh.state != "receiving" or fresh.offset_bytes < fresh.size_bytes:
                return fresh
            try:
                return await self.finish(fresh, part)
            except OSError as error:
                raise await self.disk_trouble(error, fresh, part) from error

    async def _jobs_of(self, sha256: str) -> dict[str, tuple[str, str]] | None:
        """State and options of the jobs of this content; None when nobody can tell."""
        query = "SELECT job, state, options FROM jobs WHERE fingerprint = ? OR sha256 = ?"
        try:
            return await self._readers.run(
                lambda db: {row[0]: (row[1], row[2]) for row in db.execute(query, (sha256, sha256))}
            )
        except SourceUnavailable:
            return None

    async def drop(self, upload: Upload) -> None:
        """Forget one that nobody can go on with."""
        await self.db.change(lambda db: table.remove(db, upload.id))
        part = self._parts.pop(upload.id, None) or PartFile(part_path(self.config.data_dir, upload.id), 0)
        await self.run(part.remove)

    async def terminate(self, upload: Upload) -> None:
        """Forget it, whatever comes in for it. Its job, if it became one, goes on."""
        async with self.held(upload, by_force=True) as (_, part, _lease):
            await self.db.change(lambda db: table.remove(db, upload.id))
            await self.run(part.remove)
            self._parts.pop(upload.id, None)


def _same(db: sqlite3.Connection, upload: Upload, sha256: str, jobs: dict[str, tuple[str, str]] | None) -> str | None:
    """A job of the same content and options that has not ended badly, one too young for the read model included."""
    if jobs is None:
        return None
    options = text(upload.wanted.options)
    for other in table.of_content(db, sha256):
        if other.job is None or text(other.wanted.options) != options:
            continue
        if other.job not in jobs or jobs[other.job][0] not in ENDED_JOBS:
            return other.job
    return next((job for job, (state, wants) in jobs.items() if state not in ENDED_JOBS and wants == options), None)
