"""Addresses that try to leave: sent byte for byte, as no client library would."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.web.conftest import WebBox

SECRET = b"root:x:0:0"
LEADS = (
    "../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%252f..%252fetc%252fpasswd",
    "..%c0%af..%c0%afetc/passwd",
    "....//....//etc/passwd",
    "..\\..\\etc\\passwd",
    "..%5c..%5cetc%5cpasswd",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "etc/passwd%00.js",
    "%00",
    "file:///etc/passwd",
    "./../web.db",
    "..%2fweb.db",
    "../nats/secrets.json",
    "CON",
    "%u002e%u002e/etc/passwd",
    "a" * 3000,
)
PREFIXES = (
    "/",
    "/assets/",
    "/api/uploads/",
    "/api/jobs/",
    "/api/clips/",
    "/api/clips/../1/video?x=",
    "/api/admin/users/",
    "/schema/",
)


async def raw(web: WebBox, path: str, token: str) -> tuple[int, bytes]:
    """One GET with this target as it stands; status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode("latin-1"))
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_no_address_leads_out(web: WebBox, prefix: str) -> None:
    token = await web.token("admin")
    kept = (await asyncio.to_thread((web.config.data_dir / "nats" / "secrets.json").read_bytes))[:60]
    for lead in LEADS:
        status, body = await raw(web, prefix + lead, token)
        assert status in (200, 400, 401, 404, 405, 414, 503), (prefix, lead, status)
        assert SECRET not in body, (prefix, lead)
        assert b"SQLite format" not in body
        assert kept not in body
        if status == 200:
            assert body.lstrip().startswith((b"<!doctype html", b"<!DOCTYPE html", b"{")), (prefix, lead, body[:200])
