"""Resumable uploads over real HTTP: the protocol and its extensions, and what is refused before and on the way."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.face import Uploads
from appliance.uploads import content_path, part_path
from bus.events import FileUploaded, JobCreated, UserAction
from tests.integration.conftest import NatsBox
from tests.integration.web.conftest import WebBox, config_for, web_box
from tests.integration.web.uploading import (
    OFFSET_TYPE,
    TUS,
    checksum,
    commands,
    content,
    create,
    facts,
    metadata,
    offset,
    send,
    send_raw,
    sha256,
    stored,
)

MIB = 1024 * 1024


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
        ({**TUS, "Upload-Length": "5", "Upload-Checksum": "kY`@@I"}, 400, "bad-checksum"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(clips="many")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(clips="0")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(length="60..15")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(length="nan..nan")}, 400, "bad-metadata"),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": metadata(length="30")}, 400, "bad-metadata"),
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


def test_paths_are_made_of_ids_only(tmp_path: Path) -> None:
    assert part_path(tmp_path, "01abc").parent == tmp_path / "uploads"
    assert content_path(tmp_path, "0" * 64).parent == tmp_path / "uploads" / "content"
