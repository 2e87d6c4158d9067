"""The claim of a new box: a one-time token, printed on the console, that makes the first administrator."""

from __future__ import annotations

from appliance.accounts.secrets import digest, new_secret
from appliance.sqlite import sqlite3

CLAIM_S = 15 * 60.0


def issue(db: sqlite3.Connection, now: float) -> str:
    """A new claim token, good for CLAIM_S seconds and once. Those issued before are void."""
    secret = new_secret()
    db.execute("DELETE FROM claims")
    db.execute("INSERT INTO claims VALUES (?, ?)", (digest(secret), now + CLAIM_S))
    return secret


def redeem(db: sqlite3.Connection, secret: str, now: float) -> bool:
    """Whether the token is good; it is no longer afterwards."""
    row = db.execute("SELECT expires_at FROM claims WHERE token = ?", (digest(secret),)).fetchone()
    if row is None or not now < row[0] <= now + CLAIM_S:
        return False
    db.execute("DELETE FROM claims")
    return True
