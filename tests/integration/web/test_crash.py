"""Uploads through cut connections and `kill -9` of the web process: what was acknowledged is there, each job once."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

from appliance.sqlite import sqlite3
from appliance.uploads import content_path
from bus.events import JobCreated
from tests.integration.conftest import NatsBox
from tests.integration.web.conftest import WebBox, config_for
from tests.integration.web.cutting import CUTS, MIB, CutUploads
from tests.integration.web.process import WebProcess
from tests.integration.web.uploading import TUS, RawPatch, content, create, send, sha256
from web.uploads import table
from web.uploads.sweep import Sweeper

SEED = 20261124


@pytest.fixture
async def process(nats: NatsBox) -> AsyncIterator[WebProcess]:
    process = WebProcess(config_for(nats))
    await process.start()
    yield process
    await process.kill()


async def test_uploads_survive_every_kind_of_cut(process: WebProcess, nats: NatsBox) -> None:
    """A short form of `tests/faults/test_uploads.py`."""
    async with await asyncio.to_thread(process.client) as client:
        uploads = CutUploads(process, client, SEED)
        jobs = [await uploads.upload(3 * MIB, list(CUTS)), await uploads.upload(MIB, ["kill", "fin"])]
        await uploads.check(await nats.bus("tap"), jobs)
    assert sum(uploads.cuts.values()) >= 4


async def test_a_client_that_is_not_ours_goes_on_after_a_kill(process: WebProcess) -> None:
    """tuspy from the package index: chunks with checksums, the server killed in the middle, and resumed."""
    data = content(4 * MIB, SEED)
    client = await asyncio.to_thread(process.client)
    await client.aclose()
    uploader = await asyncio.to_thread(
        lambda: TusClient(
            f"{process.url}/api/uploads", headers={"Authorization": client.headers["Authorization"]}
        ).uploader(
            file_stream=io.BytesIO(data),
            chunk_size=256 * 1024,
            metadata={"filename": "talk ü.mp4", "clips": "2"},
            upload_checksum=True,
        )
    )
    await asyncio.to_thread(uploader.upload, MIB)
    assert uploader.offset == MIB
    await process.kill()
    with pytest.raises((TusCommunicationError, TusUploadFailed)):
        await asyncio.to_thread(uploader.upload)
    await process.start()
    assert await asyncio.to_thread(uploader.get_offset) == MIB
    await asyncio.to_thread(uploader.upload)
    kept = await asyncio.to_thread(content_path(process.config.data_dir, sha256(data)).read_bytes)
    assert kept == data


async def test_a_process_that_is_asked_to_end_keeps_what_came(process: WebProcess) -> None:
    data = content(2 * MIB, SEED)
    async with await asyncio.to_thread(process.client) as client:
        url = await create(client, len(data))
        raw = await RawPatch.begin(client, url, 0, len(data))
        await raw.send(data[:MIB])
        await asyncio.sleep(0.3)  # so that it is all in the process; a kill is other tests' matter
        assert await process.stop() == 0
        await raw.close()
        await process.start()
        answer = await client.head(url, headers=TUS)
        assert int(answer.headers["Upload-Offset"]) == MIB


async def test_a_kill_between_commit_and_mark_tells_nothing_twice(web: WebBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bus has stored it and the process dies before it can note that: the next one finds it stored."""
    real, failures = table.told, [0]

    def dies(db: sqlite3.Connection, ident: str) -> None:
        failures[0] += 1
        if failures[0] <= 2:
            raise OSError("killed here")
        real(db, ident)

    monkeypatch.setattr(table, "told", dies)
    monkeypatch.setattr("web.uploads.courier.LOOK_S", 0.05)
    client = await web.bearer("operator")
    data = content(MIB, SEED)
    url = await create(client, len(data))
    answer = await send(client, url, data, 0)
    assert answer.status_code == 204
    assert await web.services.courier.told(url.rsplit("/", 1)[-1], 30)
    assert failures[0] == 3
    created: list[Any] = [s.event for s in await web.services.bus.read(0, "evt.job.created.>")]
    assert [type(e) for e in created] == [JobCreated]
    assert len(await web.services.bus.read(0, "evt.file.uploaded.>")) == 1
    assert len(await web.services.bus.read(0, "cmd.>")) == 1


async def test_one_upload_that_cannot_be_told_does_not_hold_up_the_others(
    web: WebBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await web.bearer("operator")
    real, bad = web.services.courier._deliver, content(1000, 1)

    async def deliver(upload: table.Upload) -> None:
        if upload.sha256 == sha256(bad):
            raise ValueError("cannot be told")
        await real(upload)

    monkeypatch.setattr(web.services.courier, "_deliver", deliver)
    monkeypatch.setattr("web.uploads.tus.TOLD_S", 0.1)
    monkeypatch.setattr("web.uploads.courier.LOOK_S", 0.05)
    urls = []
    for data in (bad, content(1000, 2)):
        urls.append(await create(client, len(data)))
        assert (await send(client, urls[-1], data, 0)).status_code == 204
    assert await web.services.courier.told(urls[1].rsplit("/", 1)[-1], 30)
    monkeypatch.setattr(web.services.courier, "_deliver", real)
    assert await web.services.courier.told(urls[0].rsplit("/", 1)[-1], 30)


async def test_a_kill_at_the_very_end_finishes_at_the_next_start(web: WebBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bytes are confirmed, the row is not complete: the client, or the next start, ends it."""
    client = await web.bearer("operator")
    data = content(MIB, SEED)
    url = await create(client, len(data))
    uploads = web.services.uploads
    real = uploads.finish

    async def dies(*_args: object) -> None:
        raise OSError(5, "killed here")

    monkeypatch.setattr(uploads, "finish", dies)
    assert (await send(client, url, data, 0)).status_code == 500
    monkeypatch.setattr(uploads, "finish", real)
    uploads._parts.clear()  # as after a start: the sum has to be taken from the file
    head = await client.head(url, headers=TUS)
    assert head.headers["Upload-Offset"] == str(len(data))
    item = (await client.get(url)).json()
    assert (item["state"], item["sha256"]) == ("complete", sha256(data))
    monkeypatch.setattr(uploads, "finish", dies)
    other = content(MIB, SEED + 1)
    url = await create(client, len(other))
    assert (await send(client, url, other, 0)).status_code == 500
    monkeypatch.setattr(uploads, "finish", real)
    uploads._parts.clear()
    running = asyncio.create_task(Sweeper(uploads, web.services.readers, web.services.bus).run())
    try:
        async with asyncio.timeout(20):
            while (await client.get(url)).json()["state"] != "complete":
                await asyncio.sleep(0.02)
    finally:
        running.cancel()


async def test_a_damaged_part_is_said_so(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(MIB, SEED)
    url = await create(client, len(data))
    assert (await send(client, url, data[: MIB // 2], 0)).status_code == 204
    ident = url.rsplit("/", 1)[-1]

    def damage() -> None:
        path = web.config.data_dir / "uploads" / f"{ident}.part"
        path.write_bytes(path.read_bytes()[:1000])

    await asyncio.to_thread(damage)
    answer = await send(client, url, data[MIB // 2 :], MIB // 2)
    assert (answer.status_code, answer.json()["code"]) == (410, "damaged")
    assert (await client.head(url, headers=TUS)).status_code == 410
