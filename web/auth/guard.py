"""The one place that says who may call what.

Every handler, HTTP or WebSocket, is for administrators only unless it declares `opt={"role": "viewer"}`,
`"operator"` or `"public"`. `opt={"credentials": True}` marks what changes users, passwords or tokens: an API token may
never do that, whatever its role. Changes made with a cookie need the page's CSRF token, and every change must come from
our own pages when a browser sends it.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from appliance.accounts.roles import Principal, allows
from appliance.accounts.secrets import csrf_of
from appliance.face import Web
from web.auth.gate import Gate
from web.problems import Problem

Connection = ASGIConnection[Any, Any, Any, Any]
COOKIE = "appliance_session"
CSRF_HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_SECRET_CHARS = 256


class Guard(ASGIMiddleware):
    """Sets `connection.user` to a `Principal` or None, and raises `Problem` 401 or 403 before anything else is done.

    Who sends a bearer token is judged by it alone. Not one of Litestar's guards: for these it copies the handler at
    each request.
    """

    scopes = (ScopeType.HTTP, ScopeType.WEBSOCKET)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        connection: Connection = ASGIConnection(scope)
        principal, secret = await _who(connection)
        scope["user"], scope["auth"] = principal, secret
        _judge(connection, scope["route_handler"], principal, secret)
        await next_app(scope, receive, send)


async def _who(connection: Connection) -> tuple[Principal | None, str | None]:
    """Who asks, and the session's secret if it is one."""
    gate: Gate = connection.app.state.services.gate
    header = connection.headers.get("authorization")
    if header is not None:
        scheme, _, secret = header.partition(" ")
        secret = secret.strip()
        good = scheme.lower() == "bearer" and 0 < len(secret) <= MAX_SECRET_CHARS
        return (await gate.by_token(secret) if good else None), None
    secret = connection.cookies.get(COOKIE, "")
    principal = await gate.by_cookie(secret) if 0 < len(secret) <= MAX_SECRET_CHARS else None
    return principal, secret if principal is not None else None


def _judge(connection: Connection, handler: BaseRouteHandler, principal: Principal | None, secret: str | None) -> None:
    """Raises `Problem` 401 or 403."""
    need = handler.opt.get("role", "admin")
    socket = connection.scope["type"] == ScopeType.WEBSOCKET
    changes = not socket and connection.scope.get("method") not in SAFE_METHODS
    if (changes or socket) and (foreign := foreign_origin(connection)) is not None:
        raise Problem(403, "foreign-origin", f"this comes from a page of another site ({foreign})")
    if need != "public":
        if principal is None:
            raise Problem(
                401,
                "not-logged-in",
                "log in, or send a token: Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not allows(principal.role, need):
            raise Problem(403, "not-allowed", f"this needs the role {need}; {principal.user} is {principal.role}")
        if changes and principal.kind == "session":
            _check_csrf(connection, secret)
    if handler.opt.get("credentials") and principal is not None and principal.kind == "token":
        raise Problem(403, "token-not-allowed", "an API token cannot change who may do what: log in with a password")


def _check_csrf(connection: Connection, secret: str | None) -> None:
    shown = connection.headers.get(CSRF_HEADER, "")
    if secret is None or not compare_digest(shown.encode(), csrf_of(secret).encode()):
        raise Problem(403, "csrf", "the header X-CSRF-Token is missing or wrong: take it from GET /api/me")


def foreign_origin(connection: Connection) -> str | None:
    """The site that a browser names as the origin when it is not ours, else None.

    A WebSocket without Origin comes from no browser; it is taken only with a token.
    """
    headers = connection.headers
    origin = headers.get("origin")
    if origin is None:
        if connection.scope["type"] == ScopeType.WEBSOCKET and headers.get("authorization") is None:
            return "no Origin header"
        site = headers.get("sec-fetch-site")
        return site if site not in (None, "same-origin", "none") else None
    settings: Web = connection.app.state.services.config.web
    if settings.public_url is not None and origin == settings.public_url:
        return None
    try:
        named = urlsplit(origin)
    except ValueError:
        return origin
    return None if named.netloc and named.netloc.lower() == headers.get("host", "").lower() else origin
