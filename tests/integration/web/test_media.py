"""Clips as files over HTTP: ranges, conditions, downloads, archives, and nothing but clips."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile

import pytest

from bus.events import JobDeleted
from bus.ids import new_id
from tests.integration.web.conftest import WebBox
from tests.integration.web.filled import VIDEO, finished_job, tell
from tests.unit.appliance import facts
from web.media import FileAnswer


async def test_a_clip_is_served_with_its_type_and_nothing_that_could_run(web: WebBox) -> None:
    job = await finished_job(web)
    viewer = await web.bearer("viewer")
    for kind, media_type, content in (
        ("video", "video/mp4", VIDEO),
        ("thumbnail", "image/jpeg", b"jpeg"),
        ("captions.srt", "application/x-subrip; charset=utf-8", b"1\n"),
        ("captions.vtt", "text/vtt; charset=utf-8", b"WEBVTT\n"),
    ):
        answer = await viewer.get(f"/api/clips/{job}/2/{kind}")
        assert (answer.status_code, answer.content) == (200, content)
        headers = answer.headers
        assert (headers["content-type"], headers["content-length"]) == (media_type, str(len(content)))
        assert (headers["x-content-type-options"], headers["accept-ranges"]) == ("nosniff", "bytes")
        assert "sandbox" in headers["content-security-policy"]
        assert "content-disposition" not in headers
        asked = await viewer.head(f"/api/clips/{job}/2/{kind}")
        assert (asked.status_code, asked.content, asked.headers["content-length"]) == (200, b"", str(len(content)))


@pytest.mark.parametrize(
    ("wanted", "status", "part"),
    [
        ("bytes=0-99", 206, slice(0, 100)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-100", 206, slice(-100, None)),
        ("bytes=255999-", 206, slice(-1, None)),
        ("bytes=255999-999999999", 206, slice(-1, None)),
        ("bytes=-999999999", 206, slice(0, None)),
        ("bytes=256000-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=5-4", 200, slice(0, None)),
        ("bytes=0-1,4-5", 200, slice(0, None)),
        ("bytes=a-b", 200, slice(0, None)),
        ("bytes=", 200, slice(0, None)),
        ("bytes=-", 200, slice(0, None)),
        ("bytes=+1-2", 200, slice(0, None)),
        ("bytes=1-2-3", 200, slice(0, None)),
        ("bytes=99999999999999999999999-", 200, slice(0, None)),
        ("lines=1-2", 200, slice(0, None)),
    ],
)
async def test_parts_of_a_file(web: WebBox, wanted: str, status: int, part: slice | None) -> None:
    job = await finished_job(web, clips=1)
    viewer = await web.bearer("viewer")
    answer = await viewer.get(f"/api/clips/{job}/1/video", headers={"Range": wanted})
    assert answer.status_code == status
    if part is None:
        assert answer.headers["content-range"] == f"bytes */{len(VIDEO)}"
        assert answer.json()["code"] == "range-not-satisfiable"
        return
    assert answer.content == VIDEO[part]
    if status == 206:
        start = len(VIDEO) - len(answer.content) if part.stop is None else part.start
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(VIDEO)}"


async def test_a_copy_that_is_current_is_not_sent_again(web: WebBox) -> None:
    job = await finished_job(web, clips=1)
    viewer = await web.bearer("viewer")
    path = f"/api/clips/{job}/1/video"
    first = await viewer.get(path)
    etag, date = first.headers["etag"], first.headers["last-modified"]
    for header, value in (("If-None-Match", etag), ("If-None-Match", f'"x", W/{etag}'), ("If-Modified-Since", date)):
        again = await viewer.get(path, headers={header: value})
        assert (again.status_code, again.content) == (304, b""), header
    assert (await viewer.get(path, headers={"If-None-Match": '"x"', "If-Modified-Since": date})).status_code == 200
    assert (await viewer.get(path, headers={"Range": "bytes=0-9", "If-Range": etag})).status_code == 206
    assert (await viewer.get(path, headers={"Range": "bytes=0-9", "If-Range": '"old"'})).status_code == 200


async def test_a_download_is_named_after_the_clip(web: WebBox) -> None:
    job = new_id()
    title = 'What? "She" said/\\: \u202eümlaut'
    from msgspec.structs import replace

    planned = replace(facts.planned(job, 1), title=title)
    await tell(web, facts.created(job), planned, facts.done(job, "cut", 1))

    def write() -> None:
        folder = web.config.data_dir / "output" / job
        folder.mkdir(parents=True)
        (folder / "clip-01.mp4").write_bytes(b"x")

    await asyncio.to_thread(write)
    viewer = await web.bearer("viewer")
    answer = await viewer.get(f"/api/clips/{job}/1/video?download=1")
    assert answer.headers["content-disposition"] == (
        'attachment; filename="clip-01 What She said _mlaut.mp4"; '
        "filename*=UTF-8''clip-01%20What%20She%20said%20%C3%BCmlaut.mp4"
    )


async def test_all_clips_of_a_job_as_one_archive(web: WebBox) -> None:
    job = await finished_job(web)
    viewer = await web.bearer("viewer")
    answer = await viewer.get(f"/api/jobs/{job}/clips.zip")
    assert answer.headers["content-type"] == "application/zip"
    assert "talk clips.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 8
        assert archive.read("clip-01 t.mp4") == VIDEO
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    await tell(web, JobDeleted(job=job, by="ada"))
    assert (await viewer.get(f"/api/jobs/{job}/clips.zip")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "../../appliance.db/1/video",
        "%2e%2e/1/video",
        "..%2f..%2fnats/1/video",
        "JOB/1/..%2f..%2f..%2fappliance.db",
        "JOB/1/video%00.mp4",
        "JOB/0/video",
        "JOB/-1/video",
        "JOB/99999/video",
        "JOB/1e3/video",
        "JOB/1/source",
        "JOB/1/captions.json",
        "JOB/3/video",
        "/etc/1/video",
        "C:%5c/1/video",
        "a" * 26 + "/1/video",
    ],
)
async def test_no_path_leads_anywhere_else(web: WebBox, path: str) -> None:
    job = await finished_job(web)
    viewer = await web.bearer("viewer")
    answer = await viewer.get(f"/api/clips/{path.replace('JOB', job)}")
    assert answer.status_code in (400, 404), answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize("planted", ["file-link", "folder-link", "fifo", "folder"])
async def test_what_was_planted_in_the_data_folder_is_not_served(web: WebBox, planted: str) -> None:
    job = await finished_job(web, clips=1)

    def plant() -> None:
        secret = web.config.data_dir / "secret"
        secret.mkdir()
        (secret / "clip-01.mp4").write_bytes(b"secret")
        folder = web.config.data_dir / "output" / job
        clip = folder / "clip-01.mp4"
        clip.unlink()
        match planted:
            case "file-link":
                clip.symlink_to(secret / "clip-01.mp4")
            case "folder-link":
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
                folder.symlink_to(secret)
            case "fifo":
                os.mkfifo(clip)
            case "folder":
                clip.mkdir()

    await asyncio.to_thread(plant)
    viewer = await web.bearer("viewer")
    answer = await viewer.get(f"/api/clips/{job}/1/video")
    assert (answer.status_code, answer.json()["code"]) == (404, "clip-not-found")


async def test_a_clip_is_read_no_further_when_its_reader_has_left(web: WebBox, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await finished_job(web, clips=1)
    size = 4 * 2**30
    clip = web.config.data_dir / "output" / job / "clip-01.mp4"
    await asyncio.to_thread(os.truncate, clip, size)
    answer, pread = FileAnswer.__call__, os.pread
    closed, read_bytes = asyncio.Event(), 0

    async def watched(self: FileAnswer, scope: object, receive: object, send: object) -> None:
        await answer(self, scope, receive, send)
        closed.set()

    def counted(fd: int, wanted: int, at: int) -> bytes:
        nonlocal read_bytes
        read_bytes += wanted
        return pread(fd, wanted, at)

    monkeypatch.setattr(FileAnswer, "__call__", watched)
    monkeypatch.setattr(os, "pread", counted)
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    token = await web.token("viewer")
    writer.write(
        f"GET /api/clips/{job}/1/video HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    await reader.readexactly(2**20)
    writer.close()
    await asyncio.wait_for(closed.wait(), 60)
    assert read_bytes < size // 16
