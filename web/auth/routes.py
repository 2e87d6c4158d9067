"""`/api/me`, `/api/claim`, `/api/login`, `/api/logout`, `/api/password`."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.datastructures import CacheControlHeader, Cookie
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from appliance.accounts.roles import Principal, Role
from appliance.accounts.secrets import csrf_of
from web.auth.guard import COOKIE
from web.auth.login import Caller, Entry
from web.problems import Problem
from web.services import Given, Services

DEVICE_COOKIE = "appliance_device"
DEVICE_S = 400 * 86400
AnyRequest = Request[Principal | None, str | None, Any]
Name = Annotated[str, Meta(min_length=1, max_length=64, description="User name.", examples=["anna"])]
Password = Annotated[str, Meta(min_length=1, max_length=1024, description="Password.")]


class Me(Struct, frozen=True, kw_only=True):
    """Who is logged in."""

    user: str
    role: Role
    csrf: str | None
    """To be sent as X-CSRF-Token with every change; null with an API token, which needs none."""
    claimed: bool = True


class Claim(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes the first administrator."""

    token: Annotated[str, Meta(min_length=1, max_length=256, description="From the claim address.")]
    user: Name
    password: Password


class Login(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What begins a session."""

    user: Name
    password: Password


class NewPassword(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes one's own password."""

    old: Password
    new: Password


@get(
    "/api/me",
    opt={"role": "public"},
    cache_control=CacheControlHeader(no_store=True),
    tags=["session"],
    summary="Who am I?",
)
async def me(request: AnyRequest, services: Given) -> Me:
    """Answers 401 when nobody is logged in, with `claimed` telling whether the box has an administrator yet."""
    if request.user is None:
        claimed = await services.door.claimed()
        raise Problem(401, "not-logged-in", "nobody is logged in", claimed=claimed)
    csrf = csrf_of(request.auth) if request.auth is not None else None
    return Me(user=request.user.user, role=request.user.role, csrf=csrf)


@post("/api/claim", opt={"role": "public", "credentials": True}, tags=["session"], summary="Claim a new box")
async def claim(data: JSONBody[Claim], request: AnyRequest, services: Given) -> Response[Me]:
    """Makes the first administrator with the token that `appliance up` printed, and logs in."""
    entry = await services.door.claim(data.token, data.user, data.password, caller_of(request))
    await services.audit(entry.user, "box.claim", None, remote_of(request))
    return _entered(request, services, entry, 201)


@post("/api/login", opt={"role": "public", "credentials": True}, status_code=200, tags=["session"], summary="Log in")
async def login(data: JSONBody[Login], request: AnyRequest, services: Given) -> Response[Me]:
    """Begins a session. The answer to a wrong name and to a wrong password is the same."""
    entry = await services.door.login(data.user, data.password, caller_of(request))
    if request.user is not None and request.user.kind == "session":
        await services.door.logout(request.user)
    await services.audit(entry.user, "session.login", None, remote_of(request))
    return _entered(request, services, entry, 200)


@post("/api/logout", opt={"role": "viewer", "credentials": True}, status_code=204, tags=["session"], summary="Log out")
async def logout(request: AnyRequest, services: Given) -> Response[None]:
    """Ends the session and its sockets."""
    assert request.user is not None
    await services.door.logout(request.user)
    await services.audit(request.user.user, "session.logout", None, remote_of(request))
    response = Response(None, status_code=204)
    response.delete_cookie(COOKIE, path="/")
    return response


@post(
    "/api/password",
    opt={"role": "viewer", "credentials": True},
    status_code=200,
    tags=["session"],
    summary="Change my password",
)
async def password(data: JSONBody[NewPassword], request: AnyRequest, services: Given) -> Response[Me]:
    """Ends all sessions of the user but this one, which gets a new id."""
    assert request.user is not None
    entry = await services.door.change_password(request.user, data.old, data.new, caller_of(request))
    await services.audit(entry.user, "password.change", None, remote_of(request))
    return _entered(request, services, entry, 200)


def _entered(request: AnyRequest, services: Services, entry: Entry, status: int) -> Response[Me]:
    public = services.config.web.public_url
    secure = request.scope["scheme"] == "https" or (public is not None and public.startswith("https:"))
    cookies = [
        Cookie(key=key, value=value, path="/", httponly=True, samesite="strict", secure=secure, max_age=max_age)
        for key, value, max_age in (
            (COOKIE, entry.secret, round(services.config.web.session_max_s)),
            (DEVICE_COOKIE, entry.device, DEVICE_S),
        )
    ]
    told = Me(user=entry.user, role=entry.role, csrf=csrf_of(entry.secret))
    return Response(told, status_code=status, cookies=cookies)


def remote_of(request: Request[Any, Any, Any]) -> str:
    """The address that the request came from. Headers of proxies are not believed."""
    return request.client.host if request.client is not None else "unknown"


def caller_of(request: AnyRequest) -> Caller:
    device = request.cookies.get(DEVICE_COOKIE)
    if device is not None and not 1 <= len(device) <= 256:
        device = None
    return Caller(remote=remote_of(request), agent=request.headers.get("user-agent", ""), device=device)


HANDLERS: list[ControllerRouterHandler] = [me, claim, login, logout, password]
