"""Alerts: what is wrong now, and what was lately."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from appliance.services.figures import rows
from appliance.sqlite import sqlite3

RAISED = 200
CLEARED = 20


class AlertItem(Struct, frozen=True, kw_only=True):
    """One alert: a rule and the device or service it is about."""

    alert: str
    severity: str
    state: str
    message: str
    value: float | None
    threshold: float | None
    since: str


class Alerts(Struct, frozen=True, kw_only=True):
    """All alerts at one moment."""

    severities: dict[str, int]
    """Raised ones by severity."""
    raised: list[AlertItem]
    """The most severe first, then the longest-standing; at most RAISED."""
    cleared: list[AlertItem]
    """The last to be cleared first, at most CLEARED."""


def alerts(db: sqlite3.Connection, now: datetime) -> Alerts:
    raised = rows(
        db,
        AlertItem,
        "SELECT * FROM alerts WHERE state = 'raised' ORDER BY"
        " CASE severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, since, alert LIMIT ?",
        (RAISED,),
    )
    cleared = rows(
        db, AlertItem, "SELECT * FROM alerts WHERE state = 'cleared' ORDER BY since DESC, alert LIMIT ?", (CLEARED,)
    )
    return Alerts(severities=alert_severities(db), raised=raised, cleared=cleared)


def alert_severities(db: sqlite3.Connection) -> dict[str, int]:
    """Raised alerts by severity."""
    query = "SELECT severity, count(*) FROM alerts WHERE state = 'raised' GROUP BY severity"
    return {row[0]: row[1] for row in db.execute(query)}
