"""What uploads leave behind goes: expired ones, files that no row knows of, contents that no job needs any more."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from pathlib import Path

from appliance.errors import SourceUnavailable
from appliance.services.readers import Readers
from appliance.sqlite import sqlite3
from appliance.uploads import content_path, uploads_dir
from bus.connection import Bus
from bus.errors import BusError
from bus.events import FileDeleted
from web.problems import Problem
from web.uploads import table
from web.uploads.service import Uploads
from web.uploads.table import Upload

log = logging.getLogger(__name__)
EVERY_S = 60.0
SOURCE = "web"
OPEN_JOBS = frozenset({"queued", "running", "clipping"})
PART_SUFFIX = ".part"


class Sweeper:
    """One per process: `run` until cancelled."""

    def __init__(self, uploads: Uploads, readers: Readers, bus: Bus) -> None:
        self._uploads = uploads
        self._readers = readers
        self._bus = bus
        self._data_dir = uploads.config.data_dir

    async def run(self) -> None:
        while True:
            try:
                await self._finish()
                await self.sweep()
            except (OSError, sqlite3.Error, SourceUnavailable):
                log.exception("cannot sweep the uploads; tried again")
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> None:
        """One round. Live uploads, and complete ones that the bus does not know of, are never touched."""
        await self._expire()
        await self._orphans()
        await self._contents()

    async def _finish(self) -> None:
        """Uploads whose last byte was confirmed when the process was killed."""
        for upload in await self._uploads.db.read(lambda db: table.in_state(db, "receiving")):
            if upload.offset_bytes == upload.size_bytes and upload.id not in self._uploads.leases:
                try:
                    await self._uploads.take_up(upload)
                except Problem as problem:
                    log.info("an upload cannot be finished: %s", problem, extra={"upload": upload.id})

    async def _expire(self) -> None:
        everything = await self._uploads.db.read(lambda db: table.of_owner(db, None, -1))
        for upload in everything:
            if not self._uploads.is_expired(upload) or (upload.state == "complete" and not upload.told):
                continue
            await self._uploads.drop(upload)
            if upload.state == "receiving":
                log.info("an unfinished upload is expired", extra={"upload": upload.id})
                await self._say(f"uploads/{upload.id}.part", upload.offset_bytes, "nothing came for uploads.expire_s")

    async def _orphans(self) -> None:
        files = await self._uploads.run(lambda: _files(uploads_dir(self._data_dir)))
        # Read after the files: an upload has its row before it has its file.
        known = {upload.id for upload in await self._uploads.db.read(lambda db: table.of_owner(db, None, -1))}
        for path in files:
            ident = path.name.removesuffix(PART_SUFFIX)
            if path.name.endswith(PART_SUFFIX) and ident not in known and ident not in self._uploads.leases:
                await self._uploads.run(partial(path.unlink, missing_ok=True))

    async def _contents(self) -> None:
        folder = content_path(self._data_dir, "x").parent
        for path in await self._uploads.run(lambda: [p for p in _files(folder) if p.stat().st_nlink == 1]):
            async with self._uploads.storing:
                rows = await self._uploads.db.read(partial(table.of_content, sha256=path.name))
                if await self._needed(path.name, rows):
                    continue
                size = (await self._uploads.run(path.stat)).st_size
                await self._uploads.run(partial(path.unlink, missing_ok=True))
            log.info("an upload that no job needs any more is removed", extra={"bytes": size})
            await self._say(str(path.relative_to(self._data_dir)), size, "no job needs this upload any more")

    async def _needed(self, sha256: str, rows: list[Upload]) -> bool:
        """Whether a job may still take it, or a person make one of it."""
        for upload in rows:
            if not upload.told or (upload.job is None and not self._uploads.is_expired(upload)):
                return True
        query = "SELECT job, state FROM jobs WHERE fingerprint = ?"
        states = await self._readers.run(lambda db: dict(db.execute(query, (sha256,)).fetchall()))
        # A job that the database does not know yet is younger than a moment.
        unknown = any(upload.job is not None and upload.job not in states for upload in rows)
        return unknown or any(state in OPEN_JOBS for state in states.values())

    async def _say(self, path: str, size_bytes: int, reason: str) -> None:
        with suppress(BusError):  # a report, not work
            await self._bus.publish(
                FileDeleted(source=SOURCE, path=path, kind="upload", size_bytes=size_bytes, reason=reason)
            )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
