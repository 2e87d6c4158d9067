"""From a complete upload to its job: one of each content, and none lost while bus or intake are away."""

from __future__ import annotations

import asyncio

import pytest

from appliance.sqlite import sqlite3
from bus.events import JobOptions
from tests.integration.web.conftest import WebBox
from tests.integration.web.uploading import (
    TUS,
    commands,
    content,
    create,
    facts,
    send,
    sha256,
)

MIB = 1024 * 1024


async def test_the_same_file_twice_at_once_is_one_source_and_one_job(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(MIB)
    urls = [await create(client, len(data)) for _ in range(4)]
    answers = await asyncio.gather(*(send(client, url, data, 0) for url in urls))
    assert {answer.status_code for answer in answers} == {204}
    assert len({answer.headers["Appliance-Job"] for answer in answers}) == 1
    contents = await asyncio.to_thread(list, (web.config.data_dir / "uploads" / "content").iterdir())
    assert [path.name for path in contents] == [sha256(data)]
    told = [type(s.event).__name__ for s in await facts(web)]
    assert sorted(told) == ["FileUploaded"] * 4 + ["JobCreated"]
    assert len(await commands(web)) == 1
    other = await create(client, len(data), clips="7")
    again = await create(client, len(data), again="yes")
    jobs = {(await send(client, url, data, 0)).headers["Appliance-Job"] for url in (other, again)}
    assert len(jobs | {answers[0].headers["Appliance-Job"]}) == 3, "other wishes, or asked for: a job of its own"


async def test_without_the_bus_the_bytes_are_taken_and_the_job_comes_later(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(MIB)
    url = await create(client, len(data))
    await web.nats.kill()
    answer = await send(client, url, data, 0)
    assert answer.status_code == 204, "what was asked for is safe"
    item = (await client.get(url)).json()
    assert (item["state"], item["waiting"]) == ("complete", "the event bus does not answer")
    await web.nats.start()
    assert await web.services.courier.told(item["id"], 60)
    assert [type(s.event).__name__ for s in await facts(web)] == ["FileUploaded", "JobCreated"]


async def test_while_intake_is_closed_nothing_begins_and_what_is_under_way_waits(web: WebBox) -> None:
    from appliance.control.ledger import hold, release

    client = await web.bearer("operator")
    data = content(MIB)
    url = await create(client, len(data))
    await hold(web.services.bus, "intake", "operator", by="test", reason="maintenance")
    async with asyncio.timeout(10):
        await web.services.ledger.until("intake", "pause")
    refused = await client.post("/api/uploads", headers={**TUS, "Upload-Length": "1000"})
    assert (refused.status_code, refused.json()["code"]) == (503, "intake-closed")
    assert "maintenance" in refused.json()["detail"]
    assert (await send(client, url, data, 0)).status_code == 204
    item = (await client.get(url)).json()
    assert "maintenance" in item["waiting"]
    assert await commands(web) == []
    await release(web.services.bus, "intake", "operator", by="test", reason="done")
    assert await web.services.courier.told(item["id"], 60)
    assert len(await commands(web)) == 1


async def test_those_that_cannot_be_told_hold_nobody_up(web: WebBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are looked at together, and each older than the one that can."""
    monkeypatch.setattr("web.uploads.courier.BATCH", 2)
    client = await web.bearer("operator")
    url = await create(client, MIB)

    def untellable(db: sqlite3.Connection) -> None:
        for number in range(4):
            db.execute(
                "INSERT INTO uploads (id, owner, name, size_bytes, offset_bytes, state, wanted, sha256, created_at,"
                " touched_at, told) SELECT ?, owner, name, size_bytes, size_bytes, 'complete', wanted, 'x', created_at,"
                " touched_at - 100, 0 FROM uploads WHERE id = ?",
                (f"not a token {number}", url.rsplit("/", 1)[-1]),
            )

    await web.services.db.change(untellable)
    assert (await send(client, url, content(MIB), 0)).status_code == 204
    assert await web.services.courier.told(url.rsplit("/", 1)[-1], 30)
    assert [type(s.event).__name__ for s in await facts(web)] == ["FileUploaded", "JobCreated"]


async def test_the_forecast_for_an_upload_knows_the_job_that_was_just_let_in(web: WebBox) -> None:
    client = await web.bearer("operator")
    before = (await client.get("/api/storage/forecast?size_bytes=1000")).json()["free_bytes"]
    assert (await client.post("/api/jobs", json={"url": "https://example.org/talk.mp4"})).status_code == 201
    need = (await web.services.admission.room_for(None, JobOptions())).forecast.total_bytes
    after = (await client.get("/api/storage/forecast?size_bytes=1000")).json()["free_bytes"]
    assert need > 10**8
    assert before - after > need / 2
