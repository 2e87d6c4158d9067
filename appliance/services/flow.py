"""Event flow: how many facts of which type in the last minutes, and the last ones themselves."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from appliance.services.figures import minutes_before, rows
from appliance.sqlite import sqlite3

MINUTES = 60
RECENT = 50


class Flow(Struct, frozen=True, kw_only=True):
    """Facts of one type."""

    last_minute: int
    """In the present minute and the one before: one to two minutes."""
    last_5_minutes: int
    last_hour: int


class Minute(Struct, frozen=True, kw_only=True):
    start: str
    """2026-01-31T23:59, UTC."""
    count: int


class Recent(Struct, frozen=True, kw_only=True):
    """One fact of the audit trail."""

    seq: int
    type: str
    ts: str
    job: str | None
    clip: int | None


class EventFlow(Struct, frozen=True, kw_only=True):
    """The facts of the last hour. Their own times count, in UTC."""

    types: dict[str, Flow]
    minutes: list[Minute]
    """Oldest first; minutes without a fact are absent."""
    recent: list[Recent]
    """Newest first, at most RECENT."""


def event_flow(db: sqlite3.Connection, now: datetime) -> EventFlow:
    hour, five, one = (minutes_before(now, minutes) for minutes in (MINUTES - 1, 5, 1))
    types = {
        row[0]: Flow(last_minute=row[1], last_5_minutes=row[2], last_hour=row[3])
        for row in db.execute(
            "SELECT type, sum(CASE WHEN minute >= ?1 THEN count ELSE 0 END),"
            " sum(CASE WHEN minute >= ?2 THEN count ELSE 0 END), sum(count)"
            " FROM event_minutes WHERE minute >= ?3 GROUP BY type ORDER BY type",
            (one, five, hour),
        )
    }
    return EventFlow(
        types=types,
        minutes=rows(
            db,
            Minute,
            "SELECT minute AS start, sum(count) AS count FROM event_minutes WHERE minute >= ? GROUP BY minute"
            " ORDER BY minute",
            (hour,),
        ),
        recent=rows(db, Recent, "SELECT seq, type, ts, job, clip FROM events ORDER BY seq DESC LIMIT ?", (RECENT,)),
    )
