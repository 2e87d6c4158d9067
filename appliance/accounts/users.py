"""Users: name, role, password. Plain functions on an open `web.db`, inside the caller's transaction."""

from __future__ import annotations

import re

from msgspec import Struct

from appliance.accounts.roles import ROLES, Role
from appliance.errors import AccountRefused, AccountUnknown
from appliance.sqlite import sqlite3

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class User(Struct, frozen=True, kw_only=True):
    """A person who may log in."""

    user: str
    role: Role
    disabled: bool
    created_at: float
    changed_at: float


def all_users(db: sqlite3.Connection) -> list[User]:
    rows = db.execute("SELECT user, role, disabled, created_at, changed_at FROM users ORDER BY user")
    return [_user(row) for row in rows]


def find(db: sqlite3.Connection, user: str) -> User:
    """Raises `AccountUnknown`."""
    row = db.execute(
        "SELECT user, role, disabled, created_at, changed_at FROM users WHERE user = ?", (user,)
    ).fetchone()
    if row is None:
        raise AccountUnknown(f"there is no user {user!r}")
    return _user(row)


def kept_password(db: sqlite3.Connection, user: str) -> str | None:
    """The stored hash, None for a user who does not exist or may not log in."""
    row = db.execute("SELECT password FROM users WHERE user = ? AND NOT disabled", (user,)).fetchone()
    return None if row is None else str(row[0])


def check_name(user: str) -> str:
    """Raises `AccountRefused` for what cannot be a user's name."""
    if not NAME.fullmatch(user):
        raise AccountRefused(f"{user!r} cannot be a user name: take letters, digits and . _ @ -, 64 at most")
    return user


def check_role(role: str) -> Role:
    """Raises `AccountRefused` for what is no role."""
    for known in ROLES:
        if role == known:
            return known
    raise AccountRefused(f"{role!r} is not a role: there are {', '.join(ROLES)}")


def add(db: sqlite3.Connection, user: str, password_hash: str, role: Role, now: float) -> None:
    """Raises `AccountRefused` when the name is taken or impossible."""
    check_name(user)
    try:
        db.execute("INSERT INTO users VALUES (?, ?, ?, 0, ?, ?)", (user, password_hash, role, now, now))
    except sqlite3.IntegrityError:
        raise AccountRefused(f"there is a user {user!r} already") from None


def set_password(db: sqlite3.Connection, user: str, password_hash: str, now: float) -> None:
    """Also ends the user's sessions. Raises `AccountUnknown`."""
    find(db, user)
    db.execute("UPDATE users SET password = ?, changed_at = ? WHERE user = ?", (password_hash, now, user))
    _end_sessions(db, user)
    db.execute("DELETE FROM devices WHERE user = ?", (user,))


def set_role(db: sqlite3.Connection, user: str, role: Role, now: float) -> None:
    """Also ends the user's sessions. Raises `AccountUnknown`, `AccountRefused` for the last administrator."""
    if find(db, user).role == role:
        return
    if role != "admin":
        _not_the_last_admin(db, user)
    db.execute("UPDATE users SET role = ?, changed_at = ? WHERE user = ?", (role, now, user))
    _end_sessions(db, user)


def set_disabled(db: sqlite3.Connection, user: str, disabled: bool, now: float) -> None:
    """Also ends the user's sessions. Raises `AccountUnknown`, `AccountRefused` for the last administrator."""
    find(db, user)
    if disabled:
        _not_the_last_admin(db, user)
    db.execute("UPDATE users SET disabled = ?, changed_at = ? WHERE user = ?", (int(disabled), now, user))
    _end_sessions(db, user)


def remove(db: sqlite3.Connection, user: str) -> None:
    """Raises `AccountUnknown`, `AccountRefused` for the last administrator. What the user made stays."""
    find(db, user)
    _not_the_last_admin(db, user)
    db.execute("DELETE FROM users WHERE user = ?", (user,))


def claimed(db: sqlite3.Connection) -> bool:
    """Whether somebody can administer the box."""
    return db.execute("SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled").fetchone() is not None


def _not_the_last_admin(db: sqlite3.Connection, user: str) -> None:
    others = db.execute("SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled AND user <> ?", (user,)).fetchone()
    mine = db.execute("SELECT 1 FROM users WHERE role = 'admin' AND NOT disabled AND user = ?", (user,)).fetchone()
    if mine is not None and others is None:
        raise AccountRefused(f"{user!r} is the last administrator: make another one first")


def _end_sessions(db: sqlite3.Connection, user: str) -> None:
    db.execute("DELETE FROM sessions WHERE user = ?", (user,))


def _user(row: tuple[str, Role, int, float, float]) -> User:
    return User(user=row[0], role=row[1], disabled=bool(row[2]), created_at=row[3], changed_at=row[4])
