"""Folders that belong to no job: left of a deleted job by a late worker, or of one that the log never heard of.

The clips of a job that the database does not know are never among them: a database that was lost and made again from
the stream knows only what the stream still held.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.sqlite import sqlite3
from appliance.storage.retention import Removal
from appliance.storage.volume import taken
from bus.ids import made_ms

AT_ONCE = 500


def find(db: sqlite3.Connection, data_dir: Path, after_s: float, now_s: float | None = None) -> list[Removal]:
    """Orphans that nobody has touched for `after_s`, at most AT_ONCE. Blocking."""
    now = time.time() if now_s is None else now_s
    found = []
    for folder in ("jobs", "output"):
        for name in _names(data_dir / folder):
            path = data_dir / folder / name
            if is_orphan(db, folder, name) and now - _touched(path) >= after_s:
                relative = f"{folder}/{name}"
                found.append(
                    Removal(
                        kind="other",
                        job=None,
                        path=relative,
                        size_bytes=taken(path),
                        reason=f"it belongs to no job (retention.orphans_after_s, {after_s:.0f} s)",
                    )
                )
                if len(found) == AT_ONCE:
                    return found
    return found


def is_orphan(db: sqlite3.Connection, folder: str, name: str) -> bool:
    """Whether `<folder>/<name>` below the data folder belongs to no job, as far as the database can tell."""
    row = db.execute("SELECT state FROM jobs WHERE job = ?", (name,)).fetchone()
    if row is not None:
        return bool(row[0] == "deleted")
    job_ms = made_ms(name)
    if folder != "jobs" or job_ms is None:
        return False
    first = db.execute("SELECT id FROM events ORDER BY seq LIMIT 1").fetchone()
    known_since_ms = None if first is None else made_ms(str(first[0]))
    return known_since_ms is not None and job_ms > known_since_ms


def _names(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return


def _touched(path: Path) -> float:
    """When something in the folder, or directly below its subfolders, was changed last."""
    latest = 0.0
    for here in (path, *path.glob("*"), *path.glob("*/*")):
        try:
            latest = max(latest, here.lstat().st_mtime)
        except OSError:
            continue
    return latest
