"""The disk refuses: nothing is acknowledged that is not there, and all goes on when there is room again."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from appliance.uploads import content_path
from tests.integration.web.conftest import WebBox
from tests.integration.web.uploading import TUS, content, create, offset, send, sha256
from web.uploads.part import PartFile

MIB = 1024 * 1024


class Disk:
    """Room for so many bytes on a thread of uploads; None: as much as there is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        real = os.pwrite

        def pwrite(fd: int, data: memoryview, at: int) -> int:
            if self.room is None:
                return real(fd, data, at)
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            count = real(fd, data[: self.room], at)
            self.room -= count
            return count

        monkeypatch.setattr("web.uploads.part.os.pwrite", pwrite)


async def test_a_full_disk_is_said_so_and_the_upload_goes_on_later(
    web: WebBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    client = await web.bearer("operator")
    data = content(5 * MIB)
    url = await create(client, len(data))
    assert (await send(client, url, data[:MIB], 0)).status_code == 204
    disk.room = MIB // 2
    answer = await send(client, url, data[MIB:], MIB)
    assert (answer.status_code, answer.json()["code"]) == (507, "disk-full"), answer.text
    told = answer.json()
    assert (told["offset_bytes"], told["need_bytes"]) == (MIB, 4 * MIB)
    assert "free_bytes" in told
    at = await offset(client, url)
    assert at == MIB, "what was acknowledged, no more and no less"
    disk.room = None
    assert (await send(client, url, data[at:], at)).status_code == 204
    assert await asyncio.to_thread(content_path(web.config.data_dir, sha256(data)).read_bytes) == data


async def test_what_could_not_be_brought_to_the_disk_is_not_acknowledged(
    web: WebBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed sync is never tried again on the same bytes: they are dropped and have to come anew."""
    client = await web.bearer("operator")
    data = content(2 * MIB)
    url = await create(client, len(data))
    assert (await send(client, url, data[:MIB], 0)).status_code == 204
    real, calls = PartFile.sync, [0]

    def fails(part: PartFile) -> None:
        calls[0] += 1
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(PartFile, "sync", fails)
    answer = await send(client, url, data[MIB:], MIB)
    assert (answer.status_code, answer.json()["code"], calls) == (500, "disk-error", [1])
    assert await offset(client, url) == MIB
    part = web.config.data_dir / "uploads" / f"{url.rsplit('/', 1)[-1]}.part"
    assert (await asyncio.to_thread(part.stat)).st_size == MIB
    monkeypatch.setattr(PartFile, "sync", real)
    assert (await send(client, url, data[MIB:], MIB)).status_code == 204
    assert await asyncio.to_thread(content_path(web.config.data_dir, sha256(data)).read_bytes) == data


async def test_a_sync_comes_before_each_acknowledgement(web: WebBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order that the promise rests on: written, synced, noted, answered."""
    order: list[str] = []
    for name in ("write", "sync", "confirm"):
        real = getattr(PartFile, name)

        def noted(part: PartFile, *args: object, real: object = real, name: str = name) -> object:
            order.append(name)
            return real(part, *args)  # type: ignore[operator]

        monkeypatch.setattr(PartFile, name, noted)
    client = await web.bearer("operator")
    data = content(MIB)
    url = await create(client, 2 * MIB)
    assert (await send(client, url, data, 0)).status_code == 204
    order.append("answered")
    assert [name for n, name in enumerate(order) if n == 0 or order[n - 1] != name] == [
        "write",
        "sync",
        "confirm",
        "answered",
    ]
    assert (await client.delete(url, headers=TUS)).status_code == 204
