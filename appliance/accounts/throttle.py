"""How often something may be tried: leaky buckets in `web.db`, which neither a restart nor a lost cache resets."""

from __future__ import annotations

from appliance.sqlite import sqlite3

BURST = 5.0
"""Tries at once; then as many a minute as allowed."""
MAX_KEYS = 10_000


def wait_s(db: sqlite3.Connection, key: str, per_minute: float, now: float) -> float:
    """Seconds until the next try; 0: now."""
    level = _level(db, key, per_minute, now)
    return max(0.0, (level + 1.0 - BURST) * 60.0 / per_minute)


def count(db: sqlite3.Connection, key: str, per_minute: float, now: float) -> None:
    """One try was used up."""
    level = min(BURST, _level(db, key, per_minute, now) + 1.0)
    db.execute("INSERT OR REPLACE INTO throttle VALUES (?, ?, ?)", (key, level, now))
    db.execute(
        "DELETE FROM throttle WHERE key IN (SELECT key FROM throttle ORDER BY at DESC LIMIT -1 OFFSET ?)", (MAX_KEYS,)
    )


def give_back(db: sqlite3.Connection, key: str) -> None:
    """One try that was counted was a good one."""
    db.execute("UPDATE throttle SET level = max(0.0, level - 1.0) WHERE key = ?", (key,))


def _level(db: sqlite3.Connection, key: str, per_minute: float, now: float) -> float:
    row = db.execute("SELECT level, at FROM throttle WHERE key = ?", (key,)).fetchone()
    if row is None:
        return 0.0
    return float(max(0.0, row[0] - max(0.0, now - row[1]) * per_minute / 60.0))
