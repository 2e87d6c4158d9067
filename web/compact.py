"""Answers in one piece made smaller: brotli or gzip for who takes it, 304 for who has it.

Only answers to GET and HEAD that are JSON or text and come in one piece: media and streams pass as they are.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Container
from typing import Any, Literal, cast

import brotli
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, Message, Receive, Scope, Send

from web.media import matches

MIN_BYTES = 1024
MAX_BYTES = 4 * 1024 * 1024
"""Compressing more would take longer than sending it."""
THREAD_BYTES = 128 * 1024
"""From here on it is done on a thread: on the event loop it would hold up everything else in the process."""
BROTLI_QUALITY = 4
GZIP_LEVEL = 5
_METHODS = ("GET", "HEAD")
_TYPES = (b"application/json", b"application/problem+json", b"text/", b"application/openmetrics-text")
Coding = Literal["br", "gzip"]
Headers = list[tuple[bytes, bytes]]


def best_encoding(accepted: str, *, among: Container[str] = ("br", "gzip")) -> Coding | None:
    """`br` or `gzip`, whichever of an `Accept-Encoding` is taken first and is `among` these; None for neither."""
    offered = set()
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";")
        if weight.strip().replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            offered.add(name.strip())
    if "br" in offered and "br" in among:
        return "br"
    return "gzip" if "gzip" in offered and "gzip" in among else None


class Compact:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
            return
        asked = {name: value for name, value in scope["headers"] if name in (b"accept-encoding", b"if-none-match")}
        start: HTTPResponseStartEvent | None = None

        async def send_compact(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_text(message["headers"]):
                start = message
                return
            if start is not None and message["type"] == "http.response.body":
                held, start = start, None
                if not message.get("more_body", False):
                    body = message["body"]
                    if len(body) < THREAD_BYTES:
                        message["body"] = _compacted(held, body, scope, asked)
                    else:
                        message["body"] = await asyncio.to_thread(_compacted, held, body, scope, asked)
                await send(held)
            await send(message)

        await self._app(scope, receive, cast("Send", send_compact))


def _is_text(headers: Any) -> bool:
    found = dict(headers)
    return found.get(b"content-type", b"").startswith(_TYPES) and b"content-encoding" not in found


def _compacted(start: HTTPResponseStartEvent, body: bytes, scope: Scope, asked: dict[bytes, bytes]) -> bytes:
    """The body to send; `start` is changed to fit it."""
    headers: Headers = list(start["headers"])
    found = dict(headers)
    method = scope["method"]  # type: ignore[typeddict-item]
    if start["status"] == 200 and method == "GET" and 0 < len(body) <= MAX_BYTES:
        tag = found.get(b"etag")
        if tag is None and found.get(b"cache-control") != b"no-store":
            tag = b'W/"%b"' % hashlib.blake2b(body, digest_size=8).hexdigest().encode()
            headers.append((b"etag", tag))
            if b"cache-control" not in found:
                headers.append((b"cache-control", b"private, no-cache"))
        if tag is not None and matches(asked.get(b"if-none-match", b"").decode("latin-1"), tag.decode("latin-1")):
            start["status"] = 304
            start["headers"] = [h for h in headers if h[0] not in (b"content-length", b"content-type")]
            return b""
    if MIN_BYTES <= len(body) <= MAX_BYTES and method != "HEAD":
        headers.append((b"vary", b"Accept-Encoding"))
        encoding = best_encoding(asked.get(b"accept-encoding", b"").decode("latin-1"))
        if encoding is not None:
            body = (
                brotli.compress(body, quality=BROTLI_QUALITY) if encoding == "br" else gzip.compress(body, GZIP_LEVEL)
            )
            headers = [_weak(h) for h in headers if h[0] != b"content-length"]
            headers += [(b"content-encoding", encoding.encode()), (b"content-length", str(len(body)).encode())]
    start["headers"] = headers
    return body


def _weak(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A compressed body is not byte for byte what a strong validator says."""
    name, value = header
    return (name, b"W/" + value) if name == b"etag" and not value.startswith(b"W/") else header
