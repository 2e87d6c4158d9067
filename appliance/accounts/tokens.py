"""API tokens: `apt_<id>_<secret>`, shown once, kept as a hash, with a role, a name and perhaps an end."""

from __future__ import annotations

from msgspec import Struct

from appliance.accounts.roles import Principal, Role
from appliance.accounts.secrets import digest, new_secret
from appliance.errors import AccountRefused, AccountUnknown
from appliance.sqlite import sqlite3
from bus.ids import new_id

MAX_TOKENS = 1000


class Token(Struct, frozen=True, kw_only=True):
    """A token without its secret."""

    id: str
    name: str
    role: Role
    created_by: str
    created_at: float
    expires_at: float | None
    used_at: float | None


def create(
    db: sqlite3.Connection, *, name: str, role: Role, by: str, now: float, expires_s: float | None = None
) -> tuple[Token, str]:
    """The token and its secret, which nobody can see again. Raises `AccountRefused`."""
    name = name.strip()
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise AccountRefused("a token's name has 1 to 64 printable characters")
    if expires_s is not None and not expires_s > 0:
        raise AccountRefused("a token has to be good for more than 0 seconds")
    (count,) = db.execute("SELECT count(*) FROM tokens").fetchone()
    if count >= MAX_TOKENS:
        raise AccountRefused(f"there are {MAX_TOKENS} tokens: revoke some first")
    ident = new_id()
    secret = f"apt_{ident}_{new_secret()}"
    expires_at = None if expires_s is None else now + expires_s
    db.execute(
        "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
        (ident, name, digest(secret), role, by, now, expires_at),
    )
    token = Token(id=ident, name=name, role=role, created_by=by, created_at=now, expires_at=expires_at, used_at=None)
    return token, secret


def all_tokens(db: sqlite3.Connection) -> list[Token]:
    rows = db.execute(
        "SELECT id, name, role, created_by, created_at, expires_at, used_at FROM tokens ORDER BY created_at, id"
    )
    names = Token.__struct_fields__
    return [Token(**dict(zip(names, row, strict=True))) for row in rows]


def principal(db: sqlite3.Connection, secret: str, now: float) -> tuple[Principal, float | None] | None:
    """Who shows this token and when it ends, None when it is not good (any more)."""
    row = db.execute(
        "SELECT id, name, role, expires_at FROM tokens WHERE secret = ? AND (expires_at IS NULL OR expires_at > ?)",
        (digest(secret), now),
    ).fetchone()
    if row is None:
        return None
    return Principal(user=f"token:{row[1]}", role=row[2], kind="token", id=row[0]), row[3]


def used(db: sqlite3.Connection, ident: str, now: float) -> None:
    db.execute("UPDATE tokens SET used_at = ? WHERE id = ?", (now, ident))


def revoke(db: sqlite3.Connection, ident: str) -> None:
    """Raises `AccountUnknown`."""
    if db.execute("DELETE FROM tokens WHERE id = ?", (ident,)).rowcount == 0:
        raise AccountUnknown(f"there is no token {ident}")


def by_name_or_id(db: sqlite3.Connection, text: str) -> Token:
    """Raises `AccountUnknown`, `AccountRefused` when several tokens have this name."""
    found = [token for token in all_tokens(db) if text in (token.id, token.name)]
    if not found:
        raise AccountUnknown(f"there is no token {text!r}: `appliance token list` shows them")
    if len(found) > 1:
        raise AccountRefused(f"{len(found)} tokens are named {text!r}: give the id of one")
    return found[0]
