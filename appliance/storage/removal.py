"""Carrying out `file:deleted`, and weighing jobs that have ended: actions of the dispatcher's event table.

A removal is a fact first and done after, at least once, by the dispatcher's guarantee. What is removed is decided by
the rows, never by the path in the fact: an old fact that runs again finds that its job has gone on and does nothing.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from appliance.sqlite import sqlite3
from appliance.storage import measured
from appliance.storage.measured import source_files, weigh
from appliance.storage.orphans import is_orphan
from appliance.store.writer import Writer
from bus.events import AnyEvent, Event, FileDeleted
from stages.folder import JobFolder

log = logging.getLogger(__name__)
OF_JOBS = ("source", "scratch", "clips")


class Remover:
    """The handlers over one store and data folder."""

    def __init__(self, store: Writer, data_dir: Path) -> None:
        self._store = store
        self._data_dir = data_dir

    async def remove_file(self, event: AnyEvent) -> None:
        """Remove what the fact says is gone, if the rows say so too. Raises OSError for what cannot be removed."""
        if not isinstance(event, FileDeleted):
            return
        if event.job is None:
            await self._remove_orphan(event)
        elif event.kind in OF_JOBS and await self._store.call(lambda db: _is_gone(db, event)):
            folder = JobFolder.of(self._data_dir, event.job)
            await asyncio.to_thread(remove_of_job, folder, event.kind)
            await self.measure_job(event)
            log.info("removed", extra={"job": event.job, "kind": event.kind, "bytes": event.size_bytes})

    async def measure_job(self, event: Event) -> None:
        """Weigh the job's files, for forecasts and reports."""
        assert event.job is not None
        job = event.job
        found = await asyncio.to_thread(weigh, self._data_dir, job)
        await self._store.call(lambda db: measured.record(db, job, found))

    async def _remove_orphan(self, event: FileDeleted) -> None:
        folder, _, name = event.path.partition("/")
        if event.kind != "other" or folder not in ("jobs", "output") or "/" in name or name in ("", ".", ".."):
            return  # somebody else's word about a file of its own
        if await self._store.call(lambda db: is_orphan(db, folder, name)):
            await asyncio.to_thread(remove_tree, self._data_dir / folder / name)


def remove_of_job(folder: JobFolder, kind: str) -> None:
    """Remove the files of one kind; already so is fine. Blocking. Raises OSError."""
    sources = source_files(folder)
    if kind == "clips":
        remove_tree(folder.output)
    elif kind == "source":
        for path in sources:
            remove_tree(path)
    else:
        for path in folder.root.glob("*"):  # hidden ones too
            if path not in sources:
                remove_tree(path)
    if kind != "clips" and folder.root.is_dir() and not any(folder.root.iterdir()):
        folder.root.rmdir()


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with all below it; a link itself, not what it leads to. Raises OSError."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        if path.exists():  # somebody else removes in there at the same time: what is left is for the next try
            raise


def _is_gone(db: sqlite3.Connection, event: FileDeleted) -> bool:
    row = db.execute(
        f"SELECT {event.kind}_removed_at FROM jobs"  # noqa: S608 - one of OF_JOBS
        " WHERE job = ? AND state IN ('completed', 'failed', 'cancelled') AND NOT pinned",
        (event.job,),
    ).fetchone()
    return row is not None and row[0] is not None
