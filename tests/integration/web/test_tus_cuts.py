"""Resumable uploads over real HTTP: every way in which a client can vanish, or come twice."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from msgspec.structs import replace

from appliance.face import Uploads
from appliance.uploads import part_path
from tests.integration.conftest import NatsBox
from tests.integration.web.conftest import WebBox, config_for, web_box
from tests.integration.web.uploading import (
    TUS,
    RawPatch,
    content,
    create,
    offset,
    send,
    stored,
)
from web.uploads.leases import IDLE_S
from web.uploads.sweep import Sweeper

MIB = 1024 * 1024


async def test_a_termination_frees_everything(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(MIB)
    url = await create(client, 2 * MIB)
    assert (await send(client, url, data, 0)).status_code == 204
    raw = await RawPatch.begin(client, url, MIB, MIB)
    await raw.send(data[:1000])
    assert (await client.delete(url, headers=TUS)).status_code == 204, "whatever comes in for it"
    assert await raw.status() == 423
    await raw.close()
    assert (await client.head(url, headers=TUS)).status_code == 404
    assert not await asyncio.to_thread(list, (web.config.data_dir / "uploads").glob("*.part"))


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_what_came_before_a_cut_is_kept(web: WebBox, how: str) -> None:
    client = await web.bearer("operator")
    data = content(2 * MIB)
    url = await create(client, len(data))
    raw = await RawPatch.begin(client, url, 0, len(data))
    await raw.send(data[: MIB + 5])
    # Not before the server has seen them: a reset throws away what its kernel still holds.
    await received(web, url, MIB // 2)
    if how == "rst":
        raw.reset()
    else:
        raw.writer.write_eof()
    at = await released(web, client, url)
    if how == "fin":
        assert at == MIB + 5, "nothing of what came is lost"
        await raw.close()
    assert (await send(client, url, data[at:], at)).status_code == 204
    assert await asyncio.to_thread(stored, web, data) == data


async def received(web: WebBox, url: str, least: int) -> None:
    """Waits until so many bytes have been handed to the file."""
    ident = url.rsplit("/", 1)[-1]
    async with asyncio.timeout(20):
        while True:
            part = web.services.uploads._parts.get(ident)
            if part is not None and part.written_bytes >= least:
                return
            await asyncio.sleep(0.01)


async def released(web: WebBox, client: httpx.AsyncClient, url: str) -> int:
    """Waits until nobody holds the upload; its offset."""
    ident = url.rsplit("/", 1)[-1]
    async with asyncio.timeout(20):
        while ident in web.services.uploads.leases:
            await asyncio.sleep(0.01)
    return await offset(client, url)


async def test_a_dead_connection_hands_over(web: WebBox) -> None:
    """The client has lost its connection, and the server does not know: the next request gets the upload."""
    client = await web.bearer("operator")
    data = content(2 * MIB)
    url = await create(client, len(data))
    dead = await RawPatch.begin(client, url, 0, len(data))
    await dead.send(data[:MIB])
    await asyncio.sleep(IDLE_S + 0.1)  # silence is what this test is about
    at = await offset(client, url)
    assert at == MIB
    assert await dead.status() == 423
    assert (await send(client, url, data[at:], at)).status_code == 204
    await dead.close()
    assert await asyncio.to_thread(stored, web, data) == data


async def test_a_live_connection_is_left_alone(web: WebBox) -> None:
    """Two tabs on one file: the second one waits its turn, the bytes of the two are never mixed."""
    client = await web.bearer("operator")
    data = content(2 * MIB)
    url = await create(client, len(data))
    first = await RawPatch.begin(client, url, 0, len(data))
    await first.send(data[:1000])
    sending = asyncio.create_task(_slowly(first, data[1000:], until=(late := asyncio.Event())))
    second = await send(client, url, b"\0" * 1000, 0)
    assert (second.status_code, second.json()["code"]) == (423, "locked")
    assert "Retry-After" in second.headers
    late.set()
    await sending
    assert await first.status() == 204
    await first.close()
    assert await asyncio.to_thread(stored, web, data) == data


async def _slowly(raw: RawPatch, data: bytes, until: asyncio.Event) -> None:
    at = 0
    while at < len(data):
        step = 1000 if not until.is_set() else len(data)
        await raw.send(data[at : at + step])
        at += step
        await asyncio.sleep(0.02)


async def test_two_patches_at_once_never_mix(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(4 * MIB)
    for _ in range(10):
        url = await create(client, len(data), job="no")
        one, two = await asyncio.gather(send(client, url, data, 0), send(client, url, b"\0" * len(data), 0))
        assert sorted([one.status_code, two.status_code]) in (
            [204, 409],
            [204, 415],
            [204, 423],
            [409, 415],
            [410, 415],
        )


async def test_a_silent_client_is_ended(nats: NatsBox) -> None:
    config = replace(config_for(nats), uploads=Uploads(stall_timeout_s=1.0))
    async with web_box(nats, config) as web:
        client = await web.bearer("operator")
        data = content(100_000)
        url = await create(client, len(data))
        raw = await RawPatch.begin(client, url, 0, len(data))
        await raw.send(data[:60_000])
        assert await raw.status() == 408
        await raw.close()
        assert await offset(client, url) == 60_000


async def test_abandoned_uploads_go_and_live_ones_stay(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(MIB)
    gone, live, done = [await create(client, len(data)) for _ in range(3)]
    assert (await send(client, gone, data[:1000], 0)).status_code == 204
    assert (await send(client, done, data, 0)).status_code == 204
    stray = web.config.data_dir / "uploads" / "01zzzzzzzzzzzzzzzzzzzzzzzz.part"
    await asyncio.to_thread(stray.write_bytes, b"left over")
    raw = await RawPatch.begin(client, live, 0, len(data))
    await raw.send(data[:10])
    await received(web, live, 0)
    uploads = web.services.uploads
    real = uploads.clock
    uploads.clock = lambda: real() + web.config.uploads.expire_s + 1
    sweeper = Sweeper(uploads, web.services.readers, web.services.bus)
    assert (await client.head(gone, headers=TUS)).status_code == 410
    await sweeper.sweep()
    parts = await asyncio.to_thread(lambda: sorted(p.name for p in (web.config.data_dir / "uploads").glob("*.part")))
    assert parts == [part_path(web.config.data_dir, live.rsplit("/", 1)[-1]).name]
    assert (await client.head(gone, headers=TUS)).status_code == 404
    assert await asyncio.to_thread(stored, web, data) == data, "its job is not in the read model yet: kept"
    await raw.close()
    removed = [s.event for s in await web.services.bus.read(0, "evt.file.deleted.>")]
    assert len(removed) == 1
