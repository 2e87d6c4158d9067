"""docs/WEB.md names every route of the API, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from litestar.handlers import HTTPRouteHandler

from web.routes import HANDLERS

PAGE = (Path(__file__).parents[3] / "docs" / "WEB.md").read_text()
NAMED = set(re.findall(r"`(GET|POST|PATCH|DELETE) (/api/[^\s`?]*)`", PAGE))
ELSEWHERE = ("/api/me", "/api/claim", "/api/login", "/api/logout", "/api/password", "/api/tokens", "/api/uploads")
"""Told in sections of their own."""


def real() -> set[tuple[str, str]]:
    found = set()
    for handler in HANDLERS:
        if isinstance(handler, HTTPRouteHandler):
            for path in handler.paths:
                plain = re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
                found |= {(str(method), plain) for method in handler.http_methods if str(method) != "HEAD"}
    return found


def test_every_route_is_told() -> None:
    missing = {
        one
        for one in real() - NAMED
        if one[1].startswith("/api/") and not one[1].startswith((*ELSEWHERE, "/api/admin/users", "/api/storage"))
    }
    assert missing == set()


def test_no_route_is_told_that_is_not_there() -> None:
    ours = {one for one in NAMED if not one[1].startswith(ELSEWHERE)}
    assert ours - real() == set()
