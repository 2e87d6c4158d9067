"""The status document over HTTP: how it was had, when it is not sent again, and who sees how much of it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import brotli
import httpx
import msgspec
from msgspec.structs import replace

from appliance.cache.settings import Cache
from appliance.services.readers import Position
from appliance.ssot.cache import KEYS, Snapshot, SsotCache
from bus.events import AlertRaised
from bus.ids import new_id
from bus.provision import provision
from tests.feed_client import FeedClient
from tests.integration.conftest import NatsBox
from tests.integration.ssot.conftest import RedisBox, redis
from tests.integration.web.conftest import WebBox, config_for, web_box
from tests.integration.web.filled import life, tell
from web.ssot import VIEWER_SECTIONS, read

__all__ = ["redis"]
PATH = "/api/admin/ssot"


def position(client: httpx.AsyncClient) -> Callable[[], Awaitable[tuple[str, int]]]:
    """A feed client's snapshot."""

    async def snapshot() -> tuple[str, int]:
        told = (await client.get(PATH)).json()
        return told["epoch"], told["seq"]

    return snapshot


async def test_the_document_and_its_headers(web: WebBox) -> None:
    await tell(web, *life(new_id()))
    admin = await web.bearer("admin")
    answer = await admin.get(PATH)
    told = answer.json()
    assert set(told) == {*KEYS, "epoch", "seq", "generated_at", "sections", "stale"}
    assert told["jobs"]["states"] == {"completed": 1}
    assert told["websocket"]["connections"] == 0
    assert (answer.headers["x-cache"], answer.headers["cache-control"]) == ("bypass", "private, no-cache")
    assert answer.headers["server-timing"].startswith("ssot;dur=")
    again = await admin.get(PATH, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await tell(web, AlertRaised(alert="x", severity="critical", message="help"))
    changed = await admin.get(PATH, headers={"If-None-Match": answer.headers["etag"]})
    assert changed.status_code == 200
    assert changed.json()["alerts"]["severities"] == {"critical": 1}


async def test_a_cache_answers_and_can_be_passed_by(nats: NatsBox, redis: RedisBox) -> None:
    config = replace(config_for(nats), cache=Cache(url=redis.url))
    async with web_box(nats, config) as web:
        await tell(web, *life(new_id()))
        admin = await web.bearer("admin")
        assert (await admin.get(PATH)).headers["x-cache"] == "miss"
        assert (await admin.get(PATH)).headers["x-cache"] == "hit"
        assert (await admin.get(PATH, headers={"Cache-Control": "no-cache"})).headers["x-cache"] == "bypass"
        bearer = f"Bearer {await web.token('admin', 'feed')}"
        async with FeedClient(
            f"ws://127.0.0.1:{web.port}/ws", ["admin"], position(admin), Authorization=bearer
        ) as feed:
            await feed.until(lambda state: state.bus == "up")
            await asyncio.to_thread(redis.kill)
            seq = await web.services.bus.publish(AlertRaised(alert="y", severity="info", message=""))
            await feed.until(lambda state: state.applied == [seq])
            assert feed.connections == 1, "the live feed needs no cache"
        answers = [(await admin.get(PATH)) for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        assert answers[-1].headers["x-cache"] == "bypass"
        await redis.start()
        async with asyncio.timeout(30):
            while (await admin.get(PATH)).headers["x-cache"] != "hit":
                await asyncio.sleep(0.05)


async def test_sections_by_name_and_by_role(web: WebBox) -> None:
    await tell(web, *life(new_id()))
    viewer, operator = await web.bearer("viewer"), await web.bearer("operator")
    told = (await viewer.get(PATH)).json()
    assert set(told) == {*VIEWER_SECTIONS, "epoch", "seq", "generated_at", "stale"}
    whole = (await operator.get(PATH)).json()
    one = await viewer.get(f"{PATH}?sections=jobs")
    assert one.json()["jobs"] == whole["jobs"]
    assert (one.json()["epoch"], one.json()["seq"]) == (whole["epoch"], whole["seq"])
    assert (
        await viewer.get(f"{PATH}?sections=jobs", headers={"If-None-Match": one.headers["etag"]})
    ).status_code == 304
    assert (await viewer.get(f"{PATH}?sections=jobs,services")).status_code == 403
    assert (await operator.get(f"{PATH}?sections=jobs,services")).status_code == 200
    assert (await operator.get(f"{PATH}?sections=cache,websocket")).json()["websocket"]["connections"] == 0
    for wrong in ("nothing", ",", "jobs,../x"):
        assert (await operator.get(f"{PATH}?sections={wrong}")).json()["code"] == "unknown-section"


async def test_sections_that_only_this_process_knows_are_told_anew_each_time(web: WebBox) -> None:
    operator = await web.bearer("operator")
    first = await operator.get(f"{PATH}?sections=websocket")
    known = {"If-None-Match": first.headers.get("etag", "*")}
    web.services.hub.tally.resumed += 1
    again = await operator.get(f"{PATH}?sections=websocket", headers=known)
    assert again.status_code == 200
    assert again.json()["websocket"]["resumed"] == first.json()["websocket"]["resumed"] + 1


async def test_tags_tell_sections_apart_that_hold_the_same() -> None:
    alike = await read(_Alike(), ["queue"], bypass=False)
    other = await read(_Alike(), ["hardware"], bypass=False)
    assert alike.etag
    assert alike.etag != other.etag


class _Alike(SsotCache):
    """Every section holds nothing."""

    def __init__(self) -> None:
        pass

    async def read_section(self, name: str, *, bypass: bool = False) -> Snapshot:
        return Snapshot(body=b"null", verdict="hit", etag='W/"0"', position=Position("e", 1), age_s=0.0, stale=())


async def test_it_is_compressed_for_who_wants_it(web: WebBox) -> None:
    await tell(web, *life(new_id()))
    admin = await web.bearer("admin")
    plain = (await admin.get(PATH, headers={"Accept-Encoding": "identity"})).json()
    for coding, decompress in (("br", brotli.decompress), ("gzip", gzip.decompress)):
        async with admin.stream("GET", PATH, headers={"Accept-Encoding": coding}) as answer:
            assert answer.headers["content-encoding"] == coding
            raw = b"".join([chunk async for chunk in answer.aiter_raw()])
        assert msgspec.json.decode(decompress(raw))["jobs"] == plain["jobs"]
        assert len(raw) < len(msgspec.json.encode(plain)) / 3


async def test_without_a_database_or_bus_the_last_copy_is_told_as_stale(nats: NatsBox) -> None:
    async with web_box(nats) as web:
        await tell(web, *life(new_id()))
        admin = await web.bearer("admin")
        fresh = await admin.get(PATH)
        assert fresh.json()["stale"] is False
        await nats.kill()
        late: httpx.Response = await admin.get(PATH)
        assert (late.status_code, late.headers["x-cache"], late.json()["stale"]) == (200, "stale", True)
        assert late.json()["jobs"]["states"] == {"completed": 1}
        assert "the event bus does not answer" in late.json()["dashboard"]["reasons"]
        await nats.start()
        await provision((await nats.bus()).jetstream)  # telemetry lives in the server's memory
        async with asyncio.timeout(30):
            while (await admin.get(PATH)).json()["stale"]:
                await asyncio.sleep(0.05)
