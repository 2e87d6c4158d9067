"""`/api/admin/users` and `/api/tokens`: who may log in, and which programs may ask."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from litestar import Request, Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from appliance.accounts import sessions, tokens, users
from appliance.accounts.roles import Principal, Role
from appliance.sqlite import sqlite3
from web.auth.routes import Name, Password, remote_of
from web.services import Given

AnyRequest = Request[Principal, str | None, Any]
_ADMIN = {"role": "admin", "credentials": True}
Seconds = Annotated[float, Meta(gt=0, le=100 * 366 * 86400, description="Seconds until the token ends.")]


class UserItem(Struct, frozen=True, kw_only=True):
    """A person who may log in."""

    user: str
    role: Role
    disabled: bool
    created_at: datetime
    changed_at: datetime


class UserList(Struct, frozen=True, kw_only=True):
    """All users by name."""

    users: list[UserItem]


class NewUser(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a user."""

    user: Name
    password: Password
    role: Role


class UserChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes; what is left out stays. Each of them ends the user's sessions."""

    role: Role | None = None
    password: Password | None = None
    disabled: bool | None = None


class TokenItem(Struct, frozen=True, kw_only=True):
    """A token without its secret."""

    id: str
    name: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None


class TokenList(Struct, frozen=True, kw_only=True):
    """All tokens, oldest first."""

    tokens: list[TokenItem]


class NewToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes a token."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="What it is for.", examples=["backup"])]
    role: Role
    expires_s: Seconds | None = None


class MadeToken(Struct, frozen=True, kw_only=True):
    """A new token, with its secret for this once."""

    token: str
    item: TokenItem


@get("/api/admin/users", opt={"role": "admin"}, tags=["accounts"], summary="Users")
async def list_users(services: Given) -> UserList:
    """All users, without anything secret."""
    return UserList(users=[_user(user) for user in await services.db.read(users.all_users)])


@post("/api/admin/users", opt=_ADMIN, status_code=201, tags=["accounts"], summary="Make a user")
async def add_user(data: JSONBody[NewUser], request: AnyRequest, services: Given) -> UserItem:
    """The password needs 10 characters or more."""
    users.check_name(data.user)
    kept = await services.door.hash(data.user, data.password)

    def add(db: sqlite3.Connection) -> users.User:
        users.add(db, data.user, kept, data.role, services.gate.clock())
        return users.find(db, data.user)

    made = await services.db.change(add)
    await services.audit(request.user.user, "user.add", data.user, remote_of(request))
    return _user(made)


@patch("/api/admin/users/{user:str}", opt=_ADMIN, status_code=200, tags=["accounts"], summary="Change a user")
async def change_user(
    data: JSONBody[UserChange], request: AnyRequest, services: Given, user: FromPath[str]
) -> UserItem:
    """Role, password, or whether the user may log in at all; the last administrator stays one."""
    kept = None if data.password is None else await services.door.hash(user, data.password)
    now = services.gate.clock()

    def change(db: sqlite3.Connection) -> tuple[users.User, list[str]]:
        ended = sessions.of_user(db, user)
        if data.role is not None:
            users.set_role(db, user, data.role, now)
        if kept is not None:
            users.set_password(db, user, kept, now)
        if data.disabled is not None:
            users.set_disabled(db, user, data.disabled, now)
        found = users.find(db, user)
        return found, sorted(set(ended) - set(sessions.of_user(db, user)))

    found, ended = await services.db.change(change)
    services.gate.ended(ended)
    told = [name for name in ("role", "password", "disabled") if getattr(data, name) is not None]
    await services.audit(request.user.user, f"user.change {' '.join(told)}".strip(), user, remote_of(request))
    return _user(found)


@delete("/api/admin/users/{user:str}", opt=_ADMIN, status_code=204, tags=["accounts"], summary="Remove a user")
async def remove_user(request: AnyRequest, services: Given, user: FromPath[str]) -> Response[None]:
    """Ends the user's sessions; what the user made stays."""

    def remove(db: sqlite3.Connection) -> list[str]:
        ended = sessions.of_user(db, user)
        users.remove(db, user)
        return ended

    services.gate.ended(await services.db.change(remove))
    await services.audit(request.user.user, "user.remove", user, remote_of(request))
    return Response(None, status_code=204)


@get("/api/tokens", opt={"role": "admin"}, tags=["accounts"], summary="Tokens")
async def list_tokens(services: Given) -> TokenList:
    """All tokens, without their secrets."""
    return TokenList(tokens=[_token(token) for token in await services.db.read(tokens.all_tokens)])


@post("/api/tokens", opt=_ADMIN, status_code=201, tags=["accounts"], summary="Make a token")
async def add_token(data: JSONBody[NewToken], request: AnyRequest, services: Given) -> MadeToken:
    """The answer holds the token, this once: only its hash is kept."""
    now = services.gate.clock()
    made, secret = await services.db.change(
        lambda db: tokens.create(
            db, name=data.name, role=data.role, by=request.user.user, now=now, expires_s=data.expires_s
        )
    )
    await services.audit(request.user.user, "token.add", made.id, remote_of(request))
    return MadeToken(token=secret, item=_token(made))


@delete("/api/tokens/{ident:str}", opt=_ADMIN, status_code=204, tags=["accounts"], summary="Revoke a token")
async def revoke_token(request: AnyRequest, services: Given, ident: FromPath[str]) -> Response[None]:
    """Ends it at once, with its sockets."""
    await services.db.change(lambda db: tokens.revoke(db, ident))
    services.gate.ended([ident])
    await services.audit(request.user.user, "token.revoke", ident, remote_of(request))
    return Response(None, status_code=204)


def _user(user: users.User) -> UserItem:
    return UserItem(
        user=user.user,
        role=user.role,
        disabled=user.disabled,
        created_at=_time(user.created_at),
        changed_at=_time(user.changed_at),
    )


def _token(token: tokens.Token) -> TokenItem:
    return TokenItem(
        id=token.id,
        name=token.name,
        role=token.role,
        created_by=token.created_by,
        created_at=_time(token.created_at),
        expires_at=None if token.expires_at is None else _time(token.expires_at),
        used_at=None if token.used_at is None else _time(token.used_at),
    )


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


HANDLERS: list[ControllerRouterHandler] = [
    list_users,
    add_user,
    change_user,
    remove_user,
    list_tokens,
    add_token,
    revoke_token,
]
