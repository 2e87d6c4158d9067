"""The outermost layer: around every answer, also those for addresses that do not exist.

Gives each request an id, refuses a foreign Host, sets the security headers, says how long the answer took
(`Server-Timing: app`, milliseconds up to its first byte), writes the access log. The log holds the
path without its query, never a header or body: no secret of a person can be in it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import unquote

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from appliance.face import Web, is_loopback, public_host
from web.metrics import WebMetrics
from web.problems import MEDIA_TYPE, Problem

access = logging.getLogger("web.access")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
)
_NO_STORE = (b"cache-control", b"no-store")
_HSTS = (b"strict-transport-security", b"max-age=31536000")
MAX_LOGGED_CHARS = 300
MAX_HOSTS = 64
"""Host headers whose judgement is remembered."""


class Edge:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, settings: Web, metrics: WebMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._names = _own_names(settings)
        self._loopback_only = is_loopback(settings.host)
        self._is_ours = lru_cache(MAX_HOSTS)(self._judged)
        self._log = settings.access_log
        secure = settings.public_url is not None and settings.public_url.startswith("https:")
        self._headers = (*_HEADERS, _HSTS) if secure else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ident = os.urandom(8).hex()
        scope.setdefault("state", {})["request_id"] = ident
        started = time.perf_counter()
        self._metrics.begun()
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                took_ms = (time.perf_counter() - started) * 1e3
                message["headers"] = [
                    *self._finished(list(message["headers"]), ident),
                    (b"server-timing", b"app;dur=%.2f" % took_ms),
                ]
            elif message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.close" and status == 0:
                status = 403
            await send(message)

        try:
            if self._host_is_ours(scope):
                await self._app(scope, receive, observed)
            else:
                await _refuse(scope, observed)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.ended(scope, status, seconds)
            if self._log:
                self._note(scope, ident, status, seconds)

    def _finished(self, headers: list[tuple[bytes, bytes]], ident: str) -> list[tuple[bytes, bytes]]:
        present = {name.lower() for name, _ in headers}
        headers += [header for header in self._headers if header[0] not in present]
        if b"cache-control" not in present:
            headers.append(_NO_STORE)
        headers.append((b"x-request-id", ident.encode()))
        return headers

    def _host_is_ours(self, scope: Scope) -> bool:
        """A name from outside could be any site's: after DNS rebinding its pages would count as ours."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return len(hosts) == 1 and self._is_ours(hosts[0])

    def _judged(self, host: bytes) -> bool:
        name = _hostname(host.decode("latin-1"))
        if name in self._names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._loopback_only

    def _note(self, scope: Scope, ident: str, status: int, seconds: float) -> None:
        client = scope.get("client")
        path = scope["path"][:MAX_LOGGED_CHARS].encode("ascii", "backslashreplace").decode()
        path = "".join(c if c.isprintable() else "?" for c in path)
        method = scope.get("method", "WEBSOCKET")
        user = getattr(scope.get("user"), "user", "-")
        access.info(
            "%s %s %d",
            method,
            path,
            status,
            extra={
                "ms": round(seconds * 1000, 1),
                "remote": client[0] if client else "-",
                "user": user,
                "request": ident,
            },
        )


def _hostname(host: str) -> str:
    host = unquote(host).lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _own_names(settings: Web) -> frozenset[str]:
    own = socket.gethostname().lower()
    names = {"localhost", settings.host.lower(), own, f"{own.partition('.')[0]}.local"}
    names |= {name.lower() for name in settings.allowed_hosts}
    if (public := public_host(settings)) is not None:
        names.add(public)
    return frozenset(names)


async def _refuse(scope: Scope, send: Send) -> None:
    problem = Problem(
        400, "foreign-host", "the box is not known by this name: add it to web.allowed_hosts, or use its address"
    )
    if scope["type"] == ScopeType.WEBSOCKET:
        await send({"type": "websocket.close", "code": 1008, "reason": problem.code})
        return
    body = problem.document()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
