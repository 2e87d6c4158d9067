"""What the facts say about files: read from the database, which outlives the stream's memory."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from appliance.sqlite import sqlite3

_AT_ONCE = 500


class Known(Struct, frozen=True):
    """The last fact about one version of a file."""

    state: str
    """`taken` or `refused`."""
    code: str | None
    job: str | None


def known_files(db: sqlite3.Connection, fingerprints: Sequence[str]) -> dict[str, Known]:
    """What has been said of files of the watch folder, by fingerprint; what is unknown is left out."""
    found: dict[str, Known] = {}
    for first in range(0, len(fingerprints), _AT_ONCE):
        some = fingerprints[first : first + _AT_ONCE]
        marks = ", ".join("?" * len(some))
        rows = db.execute(
            f"SELECT fingerprint, state, code, job FROM files WHERE fingerprint IN ({marks}) ORDER BY seq",  # noqa: S608
            tuple(some),
        )
        found.update({row[0]: Known(row[1], row[2], row[3]) for row in rows})
    return found


def job_of_content(db: sqlite3.Connection, sha256: str) -> str | None:
    """The newest job that was made from this content, however it came in, and still has its files."""
    row = db.execute(
        "SELECT job FROM jobs WHERE state <> 'deleted' AND (sha256 = ?1"
        " OR job IN (SELECT job FROM files WHERE sha256 = ?1 AND state = 'taken')) ORDER BY job DESC LIMIT 1",
        (sha256,),
    ).fetchone()
    return None if row is None else str(row[0])
