"""Rows of a query as structs, and counts by a column: what the services share."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
from msgspec import Struct

from appliance.sqlite import sqlite3

T = TypeVar("T", bound=Struct)


def rows(db: sqlite3.Connection, kind: type[T], query: str, values: tuple[object, ...] = ()) -> list[T]:
    """The rows of `query`, whose columns are the fields of `kind`."""
    with closing(db.execute(query, values)) as cursor:
        return [msgspec.convert(dict(row), kind, strict=False) for row in cursor]


def counts(db: sqlite3.Connection, query: str, values: tuple[object, ...] = ()) -> dict[str, int]:
    """`query` selects a name and a number."""
    with closing(db.execute(query, values)) as cursor:
        return {row[0]: row[1] for row in cursor}


def hour_key(moment: datetime) -> str:
    """The key of the table `hours`: 2026-01-31T23 (UTC)."""
    return moment.astimezone(UTC).isoformat()[:13]


def minute_key(moment: datetime) -> str:
    """The key of the table `event_minutes`: 2026-01-31T23:59 (UTC)."""
    return moment.astimezone(UTC).isoformat()[:16]


def minutes_before(moment: datetime, minutes: int) -> str:
    return minute_key(moment - timedelta(minutes=minutes))
