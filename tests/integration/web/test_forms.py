"""Uploads in one request: a form as browsers and curl send it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bus.events import JobCreated
from tests.integration.web.conftest import WebBox
from tests.integration.web.uploading import content, facts, sha256, stored

MIB = 1024 * 1024


async def test_one_request_with_a_form(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(3 * MIB + 3)
    answer = await client.post(
        "/api/uploads/file", data={"clips": "2"}, files={"file": ("C:\\videos\\talk.mp4", data, "video/mp4")}
    )
    assert answer.status_code == 201, answer.text
    item = answer.json()
    assert (item["state"], item["name"], item["size_bytes"], item["sha256"], item["waiting"]) == (
        "complete",
        "talk.mp4",
        len(data),
        sha256(data),
        None,
    )
    assert await asyncio.to_thread(stored, web, data) == data
    created = [s.event for s in await facts(web) if isinstance(s.event, JobCreated)]
    assert [(c.job, c.options.clips) for c in created] == [(item["job"], 2)]


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ({"other": (None, "text")}, 400, "no-file"),
        ({"file": ("a.mp4", b"", "video/mp4")}, 400, "empty"),
        ({"file": ("a.mp4", b"not a video" * 1000, "video/mp4")}, 415, "not-a-video"),
        ({"clips": (None, "x"), "file": ("a.mp4", content(10), "video/mp4")}, 400, "bad-metadata"),
        ({"file": ("a.mp4", content(10), "video/mp4"), "clips": (None, "0")}, 400, "bad-metadata"),
        ({"long": (None, "x" * 5000)}, 413, "field-too-long"),
    ],
    ids=str,
)
async def test_a_bad_form_is_refused_and_leaves_nothing(
    web: WebBox, files: dict[str, Any], status: int, code: str
) -> None:
    client = await web.bearer("operator")
    answer = await client.post("/api/uploads/file", files=files)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert (await client.get("/api/uploads")).json() == {"uploads": []}
    assert not await asyncio.to_thread(lambda: [p for p in (web.config.data_dir / "uploads").rglob("*") if p.is_file()])


async def test_fields_after_the_file_count_too(web: WebBox) -> None:
    client = await web.bearer("operator")
    files: dict[str, Any] = {
        "file": ("a.mp4", content(1000), "video/mp4"),
        "clips": (None, "4"),
        "filename": (None, "b.mp4"),
    }
    answer = await client.post("/api/uploads/file", files=files)
    assert (answer.status_code, answer.json()["name"], answer.json()["size_bytes"]) == (201, "b.mp4", 1000)
    created = [s.event for s in await facts(web) if isinstance(s.event, JobCreated)]
    assert [c.options.clips for c in created] == [4]


async def test_a_form_that_is_none_is_refused(web: WebBox) -> None:
    client = await web.bearer("operator")
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    for headers, body, status in (
        ({"Content-Type": "text/plain"}, b"x", 415),
        ({"Content-Type": "multipart/form-data"}, b"x", 415),
        (boundary, b"garbage", 400),
        (boundary, b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxx', 400),
        (boundary, b"--b\r\nnonsense\r\n\r\nxx\r\n--b--", 400),
    ):
        answer = await client.post("/api/uploads/file", content=body, headers=headers)
        assert answer.status_code == status, (body, answer.text)
    assert (await client.get("/api/uploads")).json() == {"uploads": []}
