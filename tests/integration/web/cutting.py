"""Uploads that are cut at random, and what must be true after each cut and at the end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Literal

import httpx

from appliance.uploads import content_path, uploads_dir
from bus.connection import Bus
from bus.events import FileUploaded, JobCreated
from tests.integration.web.process import WebProcess
from tests.integration.web.uploading import TUS, RawPatch, content, create, sha256

Cut = Literal["fin", "rst", "silence", "kill", "none"]
CUTS: tuple[Cut, ...] = ("fin", "rst", "kill", "silence")
MIB = 1024 * 1024


class CutUploads:
    """Sends uploads through cuts. `acked` is what the server has promised; it may never take that back."""

    def __init__(self, process: WebProcess, client: httpx.AsyncClient, seed: int) -> None:
        self._process = process
        self._client = client
        self._random = random.Random(seed)
        self.cuts: Counter[Cut] = Counter()
        self.sent: list[bytes] = []

    async def upload(self, size: int, cuts: list[Cut]) -> str:
        """One upload through these cuts to its end; its job."""
        data = content(size, seed=self._random.randrange(2**32))
        self.sent.append(data)
        url = await create(self._client, size, sha256=sha256(data))
        at = 0
        for how in cuts:
            at = await self._piece(url, data, at, how)
            if at == size:
                break
        answer = await self._client.patch(
            url,
            content=data[at:],
            headers={**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(at)},
        )
        assert answer.status_code == 204, answer.text
        return str(answer.headers["Appliance-Job"])

    async def _piece(self, url: str, data: bytes, at: int, how: Cut) -> int:
        """Announce all the rest, send a part of it, and be cut; the offset after it."""
        rest = len(data) - at
        count = self._random.randrange(rest + 1)
        raw = await RawPatch.begin(self._client, url, at, rest)
        silent: list[RawPatch] = []
        try:
            await raw.send(data[at : at + count])
            if how == "kill":
                await self._process.kill()
            elif how == "rst":
                raw.reset()
            elif how == "silence":
                silent.append(raw)
            else:
                raw.writer.write_eof()
        except OSError:
            pass  # the process was faster to go than we to send
        if how == "kill":
            await self._process.start()
        self.cuts[how] += 1
        offset = await self._offset(url)
        assert at <= offset <= at + count, f"{how} after {count} bytes at {at}: the server says {offset}"
        await raw.close()
        return offset

    async def _offset(self, url: str) -> int:
        """Asked until the old connection has let go; a client does the same."""
        async with asyncio.timeout(30):
            while True:
                answer = await self._client.head(url, headers=TUS)
                assert answer.status_code in (200, 423), answer.status_code
                if answer.status_code == 200:
                    first = int(answer.headers["Upload-Offset"])
                    probe = await self._client.patch(
                        url,
                        content=b"",
                        headers={**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": str(first)},
                    )
                    if probe.status_code == 204:
                        return first
                    assert probe.status_code in (409, 423), probe.text
                await asyncio.sleep(0.05)

    async def check(self, bus: Bus, jobs: list[str]) -> None:
        """Every byte is there, every job once, nothing is left over."""
        data_dir = self._process.config.data_dir

        def kept() -> dict[str, bytes]:
            folder = content_path(data_dir, "x").parent
            return {path.name: path.read_bytes() for path in folder.iterdir()}

        assert await asyncio.to_thread(kept) == {sha256(data): data for data in self.sent}
        parts = await asyncio.to_thread(lambda: [p.name for p in uploads_dir(data_dir).glob("*.part")])
        assert parts == []
        uploaded = [s.event for s in await bus.read(0, "evt.file.uploaded.>", 1024)]
        created = [s.event for s in await bus.read(0, "evt.job.created.>", 1024)]
        assert Counter(e.job for e in uploaded if isinstance(e, FileUploaded)) == Counter(jobs)
        assert Counter(e.job for e in created if isinstance(e, JobCreated)) == Counter(set(jobs))
        commands = await bus.read(0, "cmd.download.>", 1024)
        assert len(commands) == len(set(jobs))
