"""Reading the store: typed rows, read-only, a fresh connection for each command."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec
from msgspec import Struct

from appliance.sqlite import sqlite3
from appliance.store.database import open_reader

T = TypeVar("T", bound=Struct)


class JobRow(Struct, frozen=True, kw_only=True):
    job: str
    state: str
    stage: str | None
    last_done: str | None
    name: str
    kind: str
    location: str
    fingerprint: str | None
    options: str
    priority: int
    owner: str
    created_at: str
    updated_at: str
    ended_at: str | None
    duration_s: float | None
    size_bytes: int | None
    sha256: str | None
    language: str | None
    rough: int | None
    clips_planned: int | None
    clips_ready: int
    clips_failed: int
    error: str | None
    error_code: str | None
    pinned: int
    """Retention leaves its files alone."""
    source_removed_at: str | None
    """When retention removed the copy of the source; None: it is there, or never was. So with the two below."""
    scratch_removed_at: str | None
    clips_removed_at: str | None
    last_seq: int


class ClipRow(Struct, frozen=True, kw_only=True):
    job: str
    clip: int
    state: str
    stage: str | None
    last_done: str | None
    start_s: float
    end_s: float
    score: float
    title: str
    reasons: str
    path: str | None
    size_bytes: int | None
    sha256: str | None
    duration_s: float | None
    encoder: str | None
    loudness_lufs: float | None
    error: str | None
    error_code: str | None
    updated_at: str
    last_seq: int


class AttemptRow(Struct, frozen=True, kw_only=True):
    seq: int
    job: str
    clip: int | None
    stage: str
    attempt: int
    claim: int
    worker: str
    started_at: str
    ended_at: str | None
    outcome: str | None
    seconds: float | None
    device: str | None
    notes: str | None
    error: str | None
    error_code: str | None


class ServiceRow(Struct, frozen=True, kw_only=True):
    service: str
    state: str
    since: str
    pid: int | None
    reason: str | None
    restarts: int


class Store:
    """Read-only access. Use as a context manager. Raises `StoreDamaged` when there is no database."""

    def __init__(self, path: Path) -> None:
        self._db = open_reader(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def job(self, job: str) -> JobRow | None:
        rows = self._rows(JobRow, "SELECT * FROM jobs WHERE job = ?", (job,))
        return rows[0] if rows else None

    def jobs(self, *, states: tuple[str, ...] = (), limit: int = 50) -> list[JobRow]:
        """Newest first. Without `states` all but the deleted ones."""
        if states:
            where, values = f"state IN ({', '.join('?' * len(states))})", states
        else:
            where, values = "state <> ?", ("deleted",)
        query = f"SELECT * FROM jobs WHERE {where} ORDER BY created_at DESC, job DESC LIMIT ?"  # noqa: S608
        return self._rows(JobRow, query, (*values, limit))

    def jobs_of(self, fingerprint: str) -> list[JobRow]:
        """Jobs of the same source that still have their files, newest first."""
        query = "SELECT * FROM jobs WHERE fingerprint = ? AND state <> 'deleted' ORDER BY job DESC LIMIT 50"
        return self._rows(JobRow, query, (fingerprint,))

    def clips(self, job: str) -> list[ClipRow]:
        return self._rows(ClipRow, "SELECT * FROM clips WHERE job = ? ORDER BY clip", (job,))

    def attempts(self, job: str) -> list[AttemptRow]:
        return self._rows(AttemptRow, "SELECT * FROM attempts WHERE job = ? ORDER BY seq", (job,))

    def services(self) -> list[ServiceRow]:
        return self._rows(ServiceRow, "SELECT * FROM services ORDER BY service", ())

    def job_counts(self) -> dict[str, int]:
        with closing(self._db.execute("SELECT state, count(*) FROM jobs GROUP BY state ORDER BY state")) as rows:
            return {row[0]: row[1] for row in rows}

    def cursor(self) -> int:
        """Sequence of the last fact that the rows include."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'cursor'").fetchone()
        return 0 if row is None else int(row[0])

    def _rows(self, kind: type[T], query: str, values: tuple[object, ...]) -> list[T]:
        with closing(self._db.execute(query, values)) as rows:
            return [msgspec.convert(dict(row), kind) for row in rows]


def dump(connection: sqlite3.Connection, tables: tuple[str, ...]) -> bytes:
    """The tables' rows in key order as bytes: equal for equal content."""
    parts: list[str] = []
    for table in tables:
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608 - names of our schema
        parts.extend(repr((table, *row)) for row in rows)
    return "\n".join(parts).encode()
