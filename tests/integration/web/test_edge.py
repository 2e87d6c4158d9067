"""What every answer has in common: headers, hosts, limits, one shape of errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from appliance.sqlite import sqlite3
from tests.integration.conftest import NatsBox
from tests.integration.web.conftest import WebBox, config_for, web_box
from web import static


async def test_the_health_routes_tell_what_is_well(web: WebBox) -> None:
    nobody = await web.nobody()
    assert (await nobody.get("/healthz")).json() == {"status": "ok", "parts": {}}
    ready = await nobody.get("/readyz")
    assert (ready.status_code, ready.json()["parts"]) == (200, {"bus": None, "store": None, "accounts": None})


async def test_without_the_bus_it_is_alive_but_not_ready(web: WebBox) -> None:
    nobody = await web.nobody()
    await web.nats.kill()
    assert (await nobody.get("/healthz")).status_code == 200
    ready = await nobody.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["parts"]["bus"]
    assert ready.json()["parts"]["store"] is None


async def test_a_database_that_fails_is_named_and_logged(web: WebBox, caplog: pytest.LogCaptureFixture) -> None:
    nobody = await web.nobody()

    async def broken() -> bool:
        raise sqlite3.DatabaseError("database disk image is malformed")

    web.services.door.claimed = broken  # type: ignore[method-assign]
    ready = await nobody.get("/readyz")
    assert (ready.status_code, ready.json()["parts"]["accounts"]) == (503, "database disk image is malformed")

    async def wrong() -> bool:
        raise sqlite3.OperationalError("no such column: x")

    web.services.door.claimed = wrong  # type: ignore[method-assign]
    assert (await nobody.get("/api/me")).json()["code"] == "database-unavailable"
    assert "no such column: x" in caplog.text


async def test_every_answer_has_the_headers(web: WebBox) -> None:
    nobody = await web.nobody()
    seen = set()
    for path in ("/healthz", "/api/me", "/nowhere", "/api/nowhere", "/"):
        answer = await nobody.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["referrer-policy"] == "no-referrer"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "cache-control" in answer.headers
        seen.add(answer.headers["x-request-id"])
    assert len(seen) == 5


async def test_a_page_says_what_to_load_early_to_who_may_have_it(web: WebBox) -> None:
    if not static.bundle():
        pytest.skip("the pages are not built")
    nobody, viewer = await web.nobody(), await web.client("viewer")
    admin, operator = await web.client("admin"), await web.client("operator")
    plain = await nobody.get("/admin")
    named = re.findall(r"<([^>]+)>", static.FIRST)
    for client in (admin, operator):
        page = await client.get("/admin")
        assert page.headers["link"] == static.FIRST
        assert (page.content, page.headers["etag"] != plain.headers["etag"]) == (plain.content, True)
        assert [(await client.get(path)).status_code for path in named] == [200] * len(named)
        known = {"If-None-Match": page.headers["etag"]}
        assert (await client.get("/admin", headers=known)).status_code == 304
        after = await nobody.get("/admin", headers=known)
        assert (after.status_code, "link" in after.headers) == (200, False), "after the logout"
    for answer in (plain, await viewer.get("/admin"), await admin.get("/login"), await admin.get("/")):
        assert "link" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "8.8.8.8", "", "[::2]"]
)
async def test_a_foreign_host_is_refused(web: WebBox, host: str) -> None:
    nobody = await web.nobody()
    answer = await nobody.get("/healthz", headers={"Host": host})
    assert answer.status_code == 400
    if answer.headers["content-type"].startswith("application/problem"):
        assert answer.json()["code"] == "foreign-host"


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1", "[::1]:8000", "LOCALHOST"])
async def test_an_own_host_is_taken(web: WebBox, host: str) -> None:
    nobody = await web.nobody()
    assert (await nobody.get("/healthz", headers={"Host": host})).status_code == 200


async def test_a_name_of_the_configuration_is_taken(nats: NatsBox) -> None:
    async with web_box(nats, config_for(nats, allowed_hosts=["box.example.org"])) as web:
        nobody = await web.nobody()
        assert (await nobody.get("/healthz", headers={"Host": "box.example.org"})).status_code == 200


async def test_errors_have_one_shape(web: WebBox) -> None:
    nobody = await web.nobody()
    admin = await web.client("admin")
    answers = [
        await nobody.get("/nowhere"),
        await nobody.get("/api/me"),
        await admin.request("DELETE", "/api/me"),
        await nobody.post("/api/login", content=b"{", headers={"Content-Type": "application/json"}),
        await nobody.post("/api/login", json={"user": "a"}),
        await nobody.post("/api/login", json={"user": "a", "password": "b", "more": 1}),
        await nobody.post("/api/login", json=[1]),
    ]
    assert [answer.status_code for answer in answers] == [404, 401, 405, 400, 400, 400, 400]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json", answer.text
        told = answer.json()
        assert told["status"] == answer.status_code
        assert told["type"] == "about:blank"
        assert told["title"]
        assert told["detail"]
        assert told["code"]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("deep", b"[" * 200_000),
        ("deep objects", b'{"a":' * 100_000),
        ("many keys", b"{" + b",".join(b'"%d":1' % n for n in range(60_000)) + b"}"),
        ("big number", b'{"user": ' + b"9" * 100_000 + b"}"),
        ("not text", b'{"user": "\xff\xfe"}'),
        ("lone surrogate", b'{"user": "\\ud800", "password": "x"}'),
    ],
)
async def test_json_bombs_are_bad_requests(web: WebBox, name: str, body: bytes) -> None:
    nobody = await web.nobody()
    answer = await nobody.post("/api/login", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 401), f"{name}: {answer.text[:300]}"
    assert (await nobody.get("/healthz")).status_code == 200


async def test_a_body_past_the_limit_is_refused(web: WebBox) -> None:
    nobody = await web.nobody()
    big = b'{"user": "' + b"a" * web.config.web.max_body_bytes + b'"}'
    answer = await nobody.post("/api/login", content=big, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"a" * 65536
            await asyncio.sleep(0)

    chunked = await nobody.post("/api/login", content=endless(), headers={"Content-Type": "application/json"})
    assert chunked.status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/api/jobs/01zzzzzzzzzzzzzzzzzzzzzzzz/events?after=82336834949414240256",
        "/api/clips/01zzzzzzzzzzzzzzzzzzzzzzzz/82336834949414240256/video",
        "/api/admin/events?after=99999999999999999999",
        "/api/storage/forecast?size_bytes=99999999999999999999999",
        "/api/jobs/01zzzzzzzzzzzzzzzzzzzzzzzz%0A",
        "/api/jobs/01zzzzzzzzzzzzzzzzzzzzzzzz%0A/events",
    ],
)
async def test_a_number_or_id_past_all_bounds_is_a_bad_request_or_nothing(web: WebBox, path: str) -> None:
    admin = await web.client("admin")
    assert (await admin.get(path)).status_code in (400, 404)
