"""Controls: what is held on purpose, by whom, why, since when and until when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from appliance.control.holds import STRENGTH, Mode, Target
from appliance.services.figures import rows
from appliance.sqlite import sqlite3


class HoldRow(Struct, frozen=True, kw_only=True):
    """One standing hold."""

    target: Target
    holder: str
    mode: Mode
    said_by: str
    reason: str
    since: str
    until: str | None
    """When it ends by itself; None: when its holder ends it."""


def holds(db: sqlite3.Connection, now: datetime) -> list[HoldRow]:
    """What stands at `now`, the oldest first."""
    query = "SELECT * FROM controls WHERE mode <> 'run' AND (until IS NULL OR until > ?) ORDER BY since, target, holder"
    return rows(db, HoldRow, query, (now.astimezone(UTC).isoformat(),))


def mode_of(target: str, standing: Sequence[HoldRow]) -> Mode:
    """The strongest mode in which `target` is held."""
    return max((row.mode for row in standing if row.target == target), key=STRENGTH.index, default="run")
