"""Resumable uploads over real HTTP: the protocol, its extensions, and every way in which a client can vanish."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from appliance.face import Uploads
from appliance.uploads import content_path, part_path
from bus.events import Command, FileUploaded, JobCreated, UserAction
from bus.stored import Stored
from tests.integration.conftest import NatsBox
from tests.integration.web.conftest import WebBox, config_for, web_box
from tests.integration.web.uploading import (
    OFFSET_TYPE,
    TUS,
    RawPatch,
    checksum,
    content,
    create,
    metadata,
    offset,
    send,
    send_raw,
    sha256,
)
from web.uploads.leases import IDLE_S
from web.uploads.sweep import Sweeper

MIB = 1024 * 1024


async def facts(web: WebBox) -> list[Stored]:
    return await web.services.bus.read(0, "evt.file.>") + await web.services.bus.read(0, "evt.job.>")


async def commands(web: WebBox) -> list[Command]:
    from bus.events import decode_command

    return [decode_command(s.data) for s in await web.services.bus.read(0, "cmd.>")]


def stored(web: WebBox, data: bytes) -> bytes:
    return content_path(web.config.data_dir, sha256(data)).read_bytes()


async def test_an_upload_in_pieces_becomes_one_job(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(3 * MIB + 17)
    url = await create(client, len(data), filename="../a/talk ü.mp4", clips="2", length="15..40", language="en")
    at = 0
    while at < len(data):
        answer = await send(client, url, data[at : at + MIB], at)
        assert answer.status_code == 204, answer.text
        at = int(answer.headers["Upload-Offset"])
        assert "Upload-Expires" in answer.headers
    job = answer.headers["Appliance-Job"]
    assert await asyncio.to_thread(stored, web, data) == data
    told = [s.event for s in await facts(web)]
    uploaded, created = told
    assert isinstance(uploaded, FileUploaded)
    assert isinstance(created, JobCreated)
    assert (uploaded.job, uploaded.sha256, uploaded.size_bytes, uploaded.name) == (job, sha256(data), at, "talk ü.mp4")
    assert (created.job, created.owner, created.origin.kind) == (job, "token:test", "upload")
    assert created.origin.fingerprint == sha256(data)
    assert (created.options.clips, created.options.min_length_s, created.options.max_length_s) == (2, 15.0, 40.0)
    assert [(c.stage, c.job) for c in await commands(web)] == [("download", job)]
    listed = (await client.get("/api/uploads")).json()["uploads"]
    assert [(u["state"], u["offset_bytes"], u["job"], u["waiting"]) for u in listed] == [("complete", at, job, None)]
    assert not await asyncio.to_thread(list, (web.config.data_dir / "uploads").glob("*.part"))
    assert await offset(client, url) == len(data)


async def test_creation_with_upload_and_checksums(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(200_000)
    headers = {**TUS, "Upload-Length": str(len(data)), "Upload-Metadata": metadata(filename="a.mp4", job="no")}
    answer = await client.post(
        "/api/uploads",
        content=data[:50_000],
        headers={**headers, "Content-Type": OFFSET_TYPE, "Upload-Checksum": checksum(data[:50_000], "sha1")},
    )
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "50000"), answer.text
    url = answer.headers["Location"]
    wrong = await send(client, url, data[50_000:90_000], 50_000, **{"Upload-Checksum": checksum(b"other")})
    assert (wrong.status_code, wrong.json()["code"], wrong.json()["title"]) == (
        460,
        "checksum-mismatch",
        "Checksum Mismatch",
    )
    assert await offset(client, url) == 50_000, "a wrong piece changes nothing"
    good = await send(client, url, data[50_000:], 50_000, **{"Upload-Checksum": checksum(data[50_000:])})
    assert good.status_code == 204
    assert await asyncio.to_thread(stored, web, data) == data
    assert [type(s.event) for s in await facts(web)] == [FileUploaded], "job no: nothing is made of it"
    for bad in ("crc32 AAAA", "sha1 \xe9\xe9", "sha256", "sha256 AAAA"):
        answer = await send_raw(client, url, 200_000, "Upload-Checksum", bad.encode("latin-1"))
        assert answer.status_code == 400, bad


async def test_a_wrong_sum_of_the_whole_is_refused(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(100_000)
    url = await create(client, len(data), sha256="0" * 64)
    answer = await send(client, url, data, 0)
    assert (answer.status_code, answer.json()["sha256"]) == (460, sha256(data))
    assert (await client.head(url, headers=TUS)).status_code == 410
    assert await facts(web) == []
    fine = await create(client, len(data), sha256=sha256(data))
    assert (await send(client, fine, data, 0)).status_code == 204


async def test_offsets_lengths_and_types_must_fit(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(10_000)
    url = await create(client, len(data))
    assert (await send(client, url, data[:5000], 0)).status_code == 204
    cases: list[tuple[int, str, dict[str, Any]]] = [
        (409, "offset-mismatch", {"data": data[:10], "at": 0}),
        (409, "offset-mismatch", {"data": data[:10], "at": 6000}),
        (413, "too-long", {"data": data, "at": 5000}),
        (415, "media-type", {"data": data[5000:], "at": 5000, "Content-Type": "video/mp4"}),
        (412, "tus-version", {"data": data[5000:], "at": 5000, "Tus-Resumable": "0.2.2"}),
        (400, "bad-header", {"data": data[5000:], "at": 5000, "Upload-Offset": "-1"}),
    ]
    for status, code, case in cases:
        answer = await send(client, url, **case)
        assert (answer.status_code, answer.json()["code"]) == (status, code), case
        assert await offset(client, url) == 5000
    assert (await client.head(url + "x", headers=TUS)).status_code == 404
    assert (await client.patch("/api/uploads/..%2f..%2fetc%2fpasswd", headers=TUS)).status_code in (404, 415)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 412, "tus-version"),
        ({**TUS}, 400, "bad-header"),
        ({**TUS, "Upload-Length": "-5"}, 400, "bad-header"),
        ({**TUS, "Upload-Length": "1e9"}, 400, "bad-header"),
        ({**TUS, "Upload-Length": "9" * 40}, 400, "bad-header"),
        ({**TUS, "Upload-Length": "0"}, 400, "empty"),
        ({**TUS, "Upload-Defer-Length": "1"}, 400, "length-needed"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "filename @@@"}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(clips="many")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(clips="0")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(length="60..15")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(length="nan..nan")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(sha256="abc")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(language="../en")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(job="maybe")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "30000000000"}, 413, "too-large"),
        ({**TUS, "Upload-Length": "19999999999"}, 507, "no-room"),
    ],
    ids=str,
)
async def test_what_cannot_be_taken_is_refused_before_the_first_byte(
    nats: NatsBox, headers: dict[str, str], status: int, code: str
) -> None:
    config = config_for(nats)
    full = replace(config.admission, reserve_bytes=2**50, floor_bytes=0, full_bytes=0, max_percent=100.0)
    async with web_box(nats, replace(config, admission=full) if status == 507 else config) as web:
        client = await web.bearer("operator")
        answer = await client.post("/api/uploads", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        if status in (413, 507):
            told = answer.json()
            assert {"need_bytes", "free_bytes", "limit_bytes", "reserve_bytes"} <= set(told)
        assert (await client.get("/api/uploads")).json() == {"uploads": []}


async def test_the_forecast_says_so_before(web: WebBox) -> None:
    client = await web.bearer("operator")
    small = (await client.get("/api/storage/forecast", params={"size_bytes": 1000})).json()
    assert small["need_bytes"] > 1000
    assert small["intake"] == {"open": True, "reason": None}
    big = (await client.get("/api/storage/forecast", params={"size_bytes": 10**18})).json()
    assert big["fits"] is False
    assert "limit" in big["reason"]
    assert (await client.get("/api/storage/forecast", params={"size_bytes": -1})).status_code == 400


async def test_room_is_promised_to_unfinished_uploads(web: WebBox) -> None:
    client = await web.bearer("operator")
    before = (await client.get("/api/storage/forecast", params={"size_bytes": 1})).json()["free_bytes"]
    await create(client, 100 * MIB)
    after = (await client.get("/api/storage/forecast", params={"size_bytes": 1})).json()["free_bytes"]
    assert before - after >= 100 * MIB - 8 * MIB  # other files of this machine come and go


async def test_what_the_server_can_do(web: WebBox) -> None:
    nobody = await web.nobody()
    answer = await nobody.options("/api/uploads")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert set(answer.headers["Tus-Extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "checksum",
        "expiration",
        "termination",
    }
    assert set(answer.headers["Tus-Checksum-Algorithm"].split(",")) == {"sha1", "sha256"}


async def test_what_is_no_video_is_refused_at_its_first_bytes(web: WebBox) -> None:
    client = await web.bearer("operator")
    page = b"<!doctype html><html>" + b"x" * 200_000
    url = await create(client, 10_000_000)
    answer = await send(client, url, page, 0)
    assert (answer.status_code, answer.json()["code"]) == (415, "not-a-video"), answer.text
    listed = (await client.get("/api/uploads")).json()["uploads"][0]
    assert (listed["state"], "HTML" in listed["error"]) == ("refused", True)
    assert (await send(client, url, page, 0)).status_code == 410
    assert not await asyncio.to_thread(list, (web.config.data_dir / "uploads").glob("*.part"))


async def test_what_is_no_video_is_refused_in_the_middle_of_a_long_request(nats: NatsBox) -> None:
    config = replace(config_for(nats), uploads=Uploads(sync_bytes=MIB))
    async with web_box(nats, config) as web:
        client = await web.bearer("operator")
        url = await create(client, 10_000_000)
        answer = await send(client, url, b"<!doctype html><html>" + b"x" * 6_000_000, 0)
        assert (answer.status_code, answer.json()["code"]) == (415, "not-a-video"), answer.text
        assert not await asyncio.to_thread(list, (web.config.data_dir / "uploads").glob("*.part"))


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


async def test_uploads_are_their_owners(web: WebBox) -> None:
    one, two, admin = (
        await web.client("operator", "ann"),
        await web.client("operator", "bob"),
        await web.client("admin"),
    )
    url = await create(one, 1000)
    for status, client in ((404, two), (200, admin), (200, one)):
        assert (await client.head(url, headers=TUS)).status_code == status
    assert (await two.delete(url, headers=TUS)).status_code == 404
    assert (await send(two, url, b"x", 0)).status_code == 404
    assert (await two.get("/api/uploads")).json() == {"uploads": []}
    assert len((await admin.get("/api/uploads")).json()["uploads"]) == 1


async def test_a_person_has_a_bounded_number_of_unfinished_uploads(nats: NatsBox) -> None:
    config = replace(config_for(nats), uploads=Uploads(max_unfinished=3))
    async with web_box(nats, config) as web:
        client = await web.bearer("operator")
        for _ in range(3):
            await create(client, 1000)
        answer = await client.post("/api/uploads", headers={**TUS, "Upload-Length": "1000"})
        assert (answer.status_code, answer.json()["code"]) == (429, "too-many-uploads")


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


async def test_the_audit_trail_tells_who_uploaded_what(web: WebBox) -> None:
    client = await web.bearer("operator")
    url = await create(client, 1000)
    await client.delete(url, headers=TUS)
    actions = [s.event for s in await web.services.bus.read(0, "evt.user.action.>")]
    assert [(a.action, a.target) for a in actions if isinstance(a, UserAction)] == [
        ("upload.create", url.rsplit("/", 1)[-1]),
        ("upload.remove", url.rsplit("/", 1)[-1]),
    ]


async def test_a_post_can_stand_for_a_patch(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(5000)
    url = await create(client, len(data))
    headers = {**TUS, "Content-Type": OFFSET_TYPE, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert (await client.post(url, content=data, headers=headers)).status_code == 204
    assert await asyncio.to_thread(stored, web, data) == data


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


def test_paths_are_made_of_ids_only(tmp_path: Path) -> None:
    assert part_path(tmp_path, "01abc").parent == tmp_path / "uploads"
    assert content_path(tmp_path, "0" * 64).parent == tmp_path / "uploads" / "content"
