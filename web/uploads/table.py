"""The rows of uploads in `web.db`. Plain functions on an open connection, inside the caller's transaction."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from appliance.sqlite import sqlite3
from web.uploads.wanted import Wanted

State = Literal["receiving", "complete", "refused"]
_COLUMNS = "id, owner, name, size_bytes, offset_bytes, state, wanted, sha256, error, created_at, touched_at, job, told"


class Upload(Struct, frozen=True, kw_only=True):
    """One upload as it is stored. Times are seconds since 1970."""

    id: str
    owner: str
    name: str
    size_bytes: int
    offset_bytes: int
    """Bytes on the disk for good."""
    state: State
    wanted: Wanted
    sha256: str | None
    """Of the whole content, once it is complete."""
    error: str | None
    created_at: float
    touched_at: float
    job: str | None
    told: bool
    """Whether the bus knows of it."""


def add(db: sqlite3.Connection, upload: Upload) -> None:
    db.execute(
        f"INSERT INTO uploads ({_COLUMNS}) VALUES (?, ?, ?, ?, 0, 'receiving', ?, NULL, NULL, ?, ?, NULL, 0)",  # noqa: S608
        (
            upload.id,
            upload.owner,
            upload.name,
            upload.size_bytes,
            msgspec.json.encode(upload.wanted).decode(),
            upload.created_at,
            upload.touched_at,
        ),
    )


def find(db: sqlite3.Connection, ident: str) -> Upload | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM uploads WHERE id = ?", (ident,)).fetchone()  # noqa: S608
    return None if row is None else _upload(row)


def of_owner(db: sqlite3.Connection, owner: str | None, limit: int) -> list[Upload]:
    """The newest first; None: everybody's."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM uploads WHERE ?1 IS NULL OR owner = ?1 ORDER BY id DESC LIMIT ?2",  # noqa: S608
        (owner, limit),
    )
    return [_upload(row) for row in rows]


def in_state(db: sqlite3.Connection, state: State) -> list[Upload]:
    rows = db.execute(f"SELECT {_COLUMNS} FROM uploads WHERE state = ? ORDER BY id", (state,))  # noqa: S608
    return [_upload(row) for row in rows]


def to_tell(db: sqlite3.Connection, limit: int, after: tuple[float, str] = (0.0, "")) -> list[Upload]:
    """Complete ones that the bus does not know of, oldest first: the outbox, after one's `touched_at` and `id`."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM uploads WHERE state = 'complete' AND NOT told"  # noqa: S608
        " AND (touched_at, id) > (?, ?) ORDER BY touched_at, id LIMIT ?",
        (*after, limit),
    )
    return [_upload(row) for row in rows]


def unfinished(db: sqlite3.Connection, owner: str) -> int:
    row = db.execute("SELECT count(*) FROM uploads WHERE owner = ? AND state = 'receiving'", (owner,)).fetchone()
    return int(row[0])


def missing_bytes(db: sqlite3.Connection) -> int:
    """What unfinished uploads will still bring."""
    row = db.execute("SELECT total(size_bytes - offset_bytes) FROM uploads WHERE state = 'receiving'").fetchone()
    return int(row[0])


def confirm(db: sqlite3.Connection, ident: str, offset_bytes: int, now: float) -> None:
    db.execute("UPDATE uploads SET offset_bytes = ?, touched_at = ? WHERE id = ?", (offset_bytes, now, ident))


def set_whole(db: sqlite3.Connection, upload: Upload) -> None:
    """Size and wishes of one whose size was only a bound until its end came."""
    db.execute(
        "UPDATE uploads SET name = ?, size_bytes = ?, wanted = ? WHERE id = ?",
        (upload.wanted.name, upload.size_bytes, msgspec.json.encode(upload.wanted).decode(), upload.id),
    )


def refuse(db: sqlite3.Connection, ident: str, error: str, now: float) -> None:
    db.execute("UPDATE uploads SET state = 'refused', error = ?, touched_at = ? WHERE id = ?", (error, now, ident))


def complete(db: sqlite3.Connection, ident: str, sha256: str, job: str | None, now: float) -> None:
    db.execute(
        "UPDATE uploads SET state = 'complete', sha256 = ?, job = ?, touched_at = ? WHERE id = ?",
        (sha256, job, now, ident),
    )


def told(db: sqlite3.Connection, ident: str) -> None:
    db.execute("UPDATE uploads SET told = 1 WHERE id = ?", (ident,))


def give_job(db: sqlite3.Connection, ident: str, job: str) -> None:
    db.execute("UPDATE uploads SET job = ? WHERE id = ?", (job, ident))


def remove(db: sqlite3.Connection, ident: str) -> None:
    db.execute("DELETE FROM uploads WHERE id = ?", (ident,))


def of_content(db: sqlite3.Connection, sha256: str) -> list[Upload]:
    """Complete uploads of the same content, newest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM uploads WHERE sha256 = ? AND state = 'complete' ORDER BY id DESC",  # noqa: S608
        (sha256,),
    )
    return [_upload(row) for row in rows]


def _upload(row: tuple[object, ...]) -> Upload:
    values = dict(zip(Upload.__struct_fields__, row, strict=True))
    values["wanted"] = msgspec.json.decode(str(values["wanted"]), type=Wanted)
    values["told"] = bool(values["told"])
    return msgspec.convert(values, Upload)
