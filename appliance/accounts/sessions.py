"""Sessions of browsers: a secret in a cookie here, its hash there. New at each login, over when idle, old, or ended."""

from __future__ import annotations

from msgspec import Struct

from appliance.accounts.roles import Principal
from appliance.accounts.secrets import digest, new_secret
from appliance.sqlite import sqlite3

SEEN_EVERY_S = 60.0
"""How exact `seen_at` is: a session in use is not written to the disk for each request."""
MAX_AGENT_CHARS = 200
MAX_SESSIONS = 100
"""Of one user; the oldest goes when another begins."""


class Lifetime(Struct, frozen=True, kw_only=True):
    """How long a session may last, in seconds."""

    idle_s: float
    most_s: float


def begin(db: sqlite3.Connection, user: str, *, remote: str, agent: str, now: float) -> str:
    """A new session's secret."""
    secret = new_secret()
    db.execute(
        "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)",
        (digest(secret), user, now, now, remote, agent[:MAX_AGENT_CHARS]),
    )
    db.execute(
        "DELETE FROM sessions WHERE id IN"
        " (SELECT id FROM sessions WHERE user = ? ORDER BY created_at DESC LIMIT -1 OFFSET ?)",
        (user, MAX_SESSIONS),
    )
    return secret


def principal(db: sqlite3.Connection, ident: str, lifetime: Lifetime, now: float) -> tuple[Principal, float] | None:
    """Who has the session `ident` and when it was last seen; None when it is over.

    A clock that was set back makes no session longer: one from the future is over.
    """
    row = db.execute(
        "SELECT sessions.user, role, sessions.created_at, seen_at FROM sessions JOIN users USING (user)"
        " WHERE id = ? AND NOT disabled",
        (ident,),
    ).fetchone()
    if row is None:
        return None
    user, role, created_at, seen_at = row
    slack = SEEN_EVERY_S
    if not (-slack <= now - created_at <= lifetime.most_s and -slack <= now - seen_at <= lifetime.idle_s):
        return None
    return Principal(user=user, role=role, kind="session", id=ident), seen_at


def seen(db: sqlite3.Connection, ident: str, now: float) -> None:
    db.execute("UPDATE sessions SET seen_at = ? WHERE id = ?", (now, ident))


def end(db: sqlite3.Connection, ident: str) -> None:
    db.execute("DELETE FROM sessions WHERE id = ?", (ident,))


def of_user(db: sqlite3.Connection, user: str) -> list[str]:
    """The ids of a user's sessions."""
    return [row[0] for row in db.execute("SELECT id FROM sessions WHERE user = ?", (user,))]


def sweep(db: sqlite3.Connection, lifetime: Lifetime, now: float) -> None:
    """Forgets sessions that are over."""
    db.execute(
        "DELETE FROM sessions WHERE created_at < ? OR seen_at < ?", (now - lifetime.most_s, now - lifetime.idle_s)
    )
