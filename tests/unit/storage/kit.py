"""A database in memory that takes facts."""

from __future__ import annotations

import itertools

from appliance.sqlite import sqlite3
from appliance.storage.measured import prepare
from appliance.store.projection import Projection, StoredFact
from appliance.store.schema import SCHEMA
from bus.events import Event, encode
from bus.subjects import event_subject

_numbers = itertools.count(1)


def opened() -> sqlite3.Connection:
    """An empty one, rows by name."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    db.executescript(SCHEMA)
    prepare(db)
    return db


def project(db: sqlite3.Connection, *events: Event) -> None:
    """Apply facts in this order."""
    Projection(db).apply([StoredFact(next(_numbers), event_subject(event), encode(event)) for event in events])
